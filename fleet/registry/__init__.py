"""Settings of devices and sites: changing them one by one or in bulk, over HTTP and as CSV.

Nothing here registers a device because it sent a reading; see `fleet.registration`.
"""
