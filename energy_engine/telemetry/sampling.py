"""Gauges of each process, updated every two seconds, so that no request pays for it."""

import threading
import time
from typing import Any, Final

from django.db import connections

from energy_engine.server.admission import Admission
from fleet.counters import (
    DATABASE_CONNECTIONS,
    DATABASE_WAITING,
    REFUSED_REQUESTS,
    REQUESTS_IN_HAND,
    SERVER_CLOCK_BEHIND,
    WAITING_READINGS,
)
from ingestion.group_commit import group_commit
from ingestion.server_clock import server_clock

_SECONDS: Final = 2.0
_free, _in_use = (DATABASE_CONNECTIONS.labels(state) for state in ("free", "in use"))


def sample() -> None:
    """Update the gauges of this process."""
    WAITING_READINGS.set(group_commit.waiting_readings())
    SERVER_CLOCK_BEHIND.set(server_clock.is_behind())
    pools = [pool.get_stats() for pool in map(_pool, connections) if pool]
    free = sum(pool["pool_available"] for pool in pools)
    _free.set(free)
    _in_use.set(sum(pool["pool_size"] for pool in pools) - free)
    DATABASE_WAITING.set(sum(pool.get("requests_waiting", 0) for pool in pools))


def _pool(alias: str) -> Any:
    database: Any = connections[alias]  # only that of PostgreSQL has one
    return database.pool


def begin(admission: Admission) -> None:
    """Sample for as long as this process lives."""
    thread = threading.Thread(
        target=_sample_for_ever, args=[admission], name="sampling", daemon=True
    )
    thread.start()


def _sample_for_ever(admission: Admission) -> None:
    counted = 0
    while True:
        sample()
        REQUESTS_IN_HAND.set(admission.in_hand)
        refusals = admission.refusals
        REFUSED_REQUESTS.inc(refusals - counted)
        counted = refusals
        time.sleep(_SECONDS)
