"""How the engine connects to PostgreSQL, and whether PostgreSQL answers and stores.

Nothing here knows a device or a reading.
"""
