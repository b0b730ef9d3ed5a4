"""The first page: the fleet's last 24 hours, worst vehicles, silent devices and failing jobs.

Nothing here is about one device.
"""
