"""What the engine reports to its operators: logs, metrics, results of background jobs.

Nothing here answers a device or an analyst.
"""
