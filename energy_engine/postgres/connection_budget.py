"""Whether PostgreSQL and the pooler allow the connections that the engine's processes may open.

Checked by `manage.py prepare`, before a request fails because of it.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psycopg
from django.db import connection

from energy_engine import environment

# The queue of the background worker: four to fetch and finish jobs, one to listen.
QUEUE_CONNECTIONS: Final = 5
# On it, each web process checks whether the server answers at all.
PULSE_CONNECTIONS: Final = 1
# An import or an export, `prepare`, and people who look into the database.
RESERVED_CONNECTIONS: Final = 5
_CONNECT_SECONDS: Final = 5


class Demand(NamedTuple):
    """Connections that may be opened to one server, in words and number, and how many it allows."""

    words: str
    asked: int
    granted: int
    limit: str


class PoolerLimits(NamedTuple):
    """How many may connect to the pooler, and how many connections it opens to PostgreSQL."""

    clients: int
    servers: int


def shortfalls() -> list[str]:
    """Return each limit that is too low, a line for each, with what to change."""
    return [
        f"{demand.words} = {demand.asked} connections, but {demand.limit} leaves {demand.granted}: "
        f"lower DATABASE_POOL_SIZE or WEB_WORKERS, or raise {demand.limit} by "
        f"{demand.asked - demand.granted}"
        for demand in _demands()
        if demand.asked > demand.granted
    ]


def _demands() -> Iterator[Demand]:
    pool_size, workers = environment.read("DATABASE_POOL_SIZE"), environment.read("WEB_WORKERS")
    of_web = f"WEB_WORKERS {workers} x (DATABASE_POOL_SIZE {pool_size} + {PULSE_CONNECTIONS})"
    web = workers * (pool_size + PULSE_CONNECTIONS)
    others = pool_size + QUEUE_CONNECTIONS + RESERVED_CONNECTIONS
    of_others = (
        f"worker {pool_size} + {QUEUE_CONNECTIONS} + reserve {RESERVED_CONNECTIONS} at DATABASE_URL"
    )
    with connection.cursor() as cursor:
        granted = _granted(cursor)
    limit = "PostgreSQL's max_connections"
    pooler_url = environment.pool_url()
    if not pooler_url:
        yield Demand(f"{of_web} + {of_others}", web + others, granted, limit)
    elif pooler := _pooler_limits(pooler_url):
        words = f"WEB_WORKERS {workers} x DATABASE_POOL_SIZE {pool_size}"
        yield Demand(words, workers * pool_size, pooler.clients, "PgBouncer's max_client_conn")
        direct = pooler.servers + workers * PULSE_CONNECTIONS
        words = f"PgBouncer's default_pool_size {pooler.servers} + WEB_WORKERS {workers}"
        yield Demand(f"{words} + {of_others}", direct + others, granted, limit)
    replica_url = environment.read("DATABASE_REPLICA_URL")
    replica = _replica_grants(replica_url) if replica_url else None
    if replica is not None:
        yield Demand(f"{of_web} at DATABASE_REPLICA_URL", web, replica, "its max_connections")


def _granted(cursor: Any) -> int:
    """Return how many connections an ordinary role may open."""
    cursor.execute(
        "SELECT sum(CASE name WHEN 'max_connections' THEN 1 ELSE -1 END * setting::int)"
        " FROM pg_settings WHERE name IN"
        " ('max_connections', 'superuser_reserved_connections', 'reserved_connections')"
    )
    return int(cursor.fetchone()[0])


def _replica_grants(url: str) -> int | None:
    try:
        with psycopg.connect(url, connect_timeout=_CONNECT_SECONDS) as replica:
            return _granted(replica.cursor())
    except psycopg.OperationalError:
        return None  # it may be down


def _pooler_limits(url: str) -> PoolerLimits | None:
    """Return the limits from PgBouncer's console; None if this user may not use it."""
    console = urlunsplit(urlsplit(url)._replace(path="/pgbouncer"))
    try:
        # The console supports only the simple protocol.
        with psycopg.connect(
            console,
            autocommit=True,
            connect_timeout=_CONNECT_SECONDS,
            cursor_factory=psycopg.ClientCursor,
        ) as pooler:
            shown = {row[0]: row[1] for row in pooler.execute("SHOW CONFIG").fetchall()}
    except psycopg.Error:
        return None
    servers = int(shown["default_pool_size"]) + int(shown["reserve_pool_size"])
    return PoolerLimits(int(shown["max_client_conn"]), servers)
