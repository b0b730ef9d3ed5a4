"""Hourly sums of history and the usual interval of each device, kept by the background worker.

Nothing here answers a request.
"""
