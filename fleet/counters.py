"""Metrics that the engine records; `energy_engine.telemetry.metrics_page` shows them to Prometheus.

Each web server process counts in its own file, so that any of them can show the sums of all: see
PROMETHEUS_MULTIPROC_DIR in `energy_engine/gunicorn.py`. Other processes count in memory.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)

# One write for both time and count: on the hot path each write costs 2 µs or more.
REQUEST_SECONDS: Final = Histogram(
    "engine_request_seconds",
    "Time from a request to its response.",
    ["route", "method", "status"],
    buckets=_SECONDS,
)
READINGS: Final = Counter("engine_readings", "Readings received.", ["kind", "outcome"])
DROPPED_FIELDS: Final = Counter(
    "engine_dropped_fields",
    "Invalid optional fields that readings were stored without.",
    ["field"],
)
GROUP_REQUESTS: Final = Histogram(
    "engine_group_requests", "Requests that shared one commit.", buckets=_SIZES
)
COMMIT_SECONDS: Final = Histogram(
    "engine_commit_seconds", "Time to write and commit one group.", buckets=_SECONDS
)
CACHED_FIGURES: Final = Counter(
    "engine_cached_figures", "Figures requested from the cache.", ["result"]
)
ANALYTICS_READS: Final = Counter(
    "engine_analytics_reads",
    "Reads of figures and lists, if there is a replica; for the primary, with the reason.",
    ["server", "reason"],
)
THROTTLED: Final = Counter("engine_throttled", "Requests over a limit.", ["limit"])
REFUSED_REQUESTS: Final = Counter(
    "engine_refused_requests", "Requests refused at once because too many were waiting."
)
WRONG_KEYS: Final = Counter("engine_wrong_keys", "Requests with an invalid key.")

# Current values: the sum over the live processes.
WAITING_READINGS: Final = Gauge(
    "engine_waiting_readings", "Readings waiting to be written.", multiprocess_mode="livesum"
)
REQUESTS_IN_HAND: Final = Gauge(
    "engine_requests_in_hand",
    "Requests being served or queued; requests waiting for their client are not counted.",
    multiprocess_mode="livesum",
)
DATABASE_CONNECTIONS: Final = Gauge(
    "engine_database_connections",
    "Connections to PostgreSQL of the web server processes.",
    ["state"],
    multiprocess_mode="livesum",
)
DATABASE_WAITING: Final = Gauge(
    "engine_database_waiting",
    "Requests waiting for a connection to PostgreSQL.",
    multiprocess_mode="livesum",
)
# The maximum over the live processes.
SERVER_CLOCK_BEHIND: Final = Gauge(
    "engine_server_clock_behind",
    "Whether most devices are ahead of the server's clock.",
    multiprocess_mode="livemax",
)
