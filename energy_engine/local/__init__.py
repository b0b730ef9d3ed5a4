"""What `make run` starts on one machine: PostgreSQL, Redis and the processes of the engine.

Nothing here knows Django.
"""
