"""Access to PostgreSQL and Redis: statements, the replica, the Redis client, batching.

Nothing here knows a model or a table.
"""
