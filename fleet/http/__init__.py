"""What every request and answer of the API has in common: bodies, parameters, pages, OpenAPI.

Nothing here knows a device, a key or the database.
"""
