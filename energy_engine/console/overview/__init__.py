"""The first page: the fleet's last 24 hours, its worst vehicles, its silent devices, its engine.

Nothing here is about one device.
"""
