"""Faults: how they are found, opened, listed and closed, and which webhooks are sent.

No figure is calculated here.
"""
