"""Whether PostgreSQL and the pooler grant the connections that the engine's processes may ask for.

Looked at by `manage.py prepare`, before the first request finds out.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psycopg
from django.db import connection

from energy_engine import environment

# The queue of the background worker: four to fetch and finish jobs, one to listen.
QUEUE_CONNECTIONS: Final = 5
# Each web process asks on it whether the server answers at all.
PULSE_CONNECTIONS: Final = 1
# An import or an export, `prepare`, and somebody who has a look.
RESERVED_CONNECTIONS: Final = 5
_CONNECT_SECONDS: Final = 5


class Demand(NamedTuple):
    """Connections that may be asked for at one place, in words, and how many it leaves them."""

    words: str
    asked: int
    granted: int
    limit: str


class PoolerLimits(NamedTuple):
    """How many may connect to the pooler, and how many connections it opens to PostgreSQL."""

    clients: int
    servers: int


def shortfalls() -> list[str]:
    """Return what does not add up, a line for each, with the number to change."""
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
        return None  # it may be away


def _pooler_limits(url: str) -> PoolerLimits | None:
    """Return what PgBouncer's console says; None where this user may not ask."""
    console = urlunsplit(urlsplit(url)._replace(path="/pgbouncer"))
    try:
        # The console knows the simple protocol only.
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
