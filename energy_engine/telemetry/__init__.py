"""What the engine reports to its operators: logs, the page of metrics, results of background jobs.

`fleet.counters` defines the counters; the code that counts is on every floor.

Nothing here answers a device or an analyst.
"""
