"""Texts and colours of the console: badges, durations, changes, links.

Nothing here queries the database.
"""
