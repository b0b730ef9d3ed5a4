"""Hints: settings of devices that can only be wrong, with the setting that mends each.

No figure is calculated here, and no hint changes one: that takes a person.
"""
