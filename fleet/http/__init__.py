"""What all requests and responses of the API share: bodies, parameters, pages, OpenAPI.

Nothing here knows a device, a key or the database.
"""
