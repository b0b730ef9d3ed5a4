"""Access to the API: keys, permissions, and limits per minute.

Nothing here knows a reading or a figure.
"""
