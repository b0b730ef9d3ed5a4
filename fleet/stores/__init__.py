"""How PostgreSQL and Redis are asked: statements, the replica, the client of Redis, batching.

Nothing here knows a model or a table.
"""
