"""Access to the API: issuing keys, checking each request's key and scope, limits per minute.

Nothing here knows a reading or a figure.
"""
