"""What the engine tells its operators: logs, metrics, how its background jobs went.

Nothing here answers a device or an analyst.
"""
