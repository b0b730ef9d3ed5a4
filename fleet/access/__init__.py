"""Who may do what through the API: keys, permissions, limits on what a client does in a minute.

Nothing here knows a reading or a figure.
"""
