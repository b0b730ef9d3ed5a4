"""Wait for PostgreSQL on gevent's event loop, no longer than an answer can be expected.

Waits are listed, and a single timer of the loop checks the list: a wait costs an entry, not a
timer. `energy_engine.server.deadlines` decides how long a wait may last.
"""

import logging
from typing import Any, Final

import gevent
import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.db.utils import ConnectionHandler
from gevent import get_hub, getcurrent
from psycopg_pool import ConnectionPool

from energy_engine.postgres.pulse import Pulse, frozen
from energy_engine.server import deadlines
from energy_engine.server.deadlines import (
    LONG_WAIT_TICKS,
    TICK_SECONDS,
    GivenUp,
    NoAnswer,
    TookTooLong,
)

log = logging.getLogger(__name__)

_waits_with_timeout = psycopg.Connection.wait
_gets_connection = ConnectionPool.getconn

# The greenlets that wait, for which kind of connection, and since which tick.
_waits: Final[dict[Any, tuple[type, int]]] = {}
_ticks = 0
_pulses: Final[list[Pulse]] = []


def use_gevent() -> None:
    """Let psycopg wait on gevent's loop; its own code sets up a poll object and a timer each time.

    A figure of three statements took 3.9 ms over HTTP with its code, and 3.2 ms with this one.
    """
    psycopg.Connection.wait = _wait  # type: ignore[assignment, method-assign] # takes any generator
    ConnectionPool.getconn = _getconn  # type: ignore[assignment, method-assign] # of any connection


def begin() -> None:
    """Check waits for as long as this process lives."""
    # Each connects now: when PostgreSQL is busy, a new connection takes long.
    servers = ConnectionHandler(settings.DATABASE_SERVERS)
    _pulses.extend(Pulse(alias, servers[alias].get_connection_params()) for alias in servers)
    for pulse in _pulses:
        _ask(pulse)
    timer = get_hub().loop.timer(TICK_SECONDS, TICK_SECONDS, ref=False)
    timer.start(_tick)
    begin.timer = timer  # type: ignore[attr-defined] # or it would end with this call


def _wait(connection: Any, gen: Any, interval: float = 0.0, timeout: float | None = None) -> Any:
    """Run `gen`, which yields what it waits for, to its end; return its value.

    Errors: `GivenUp`, which closes the connection.
    """
    if timeout is not None:
        return _waits_with_timeout(connection, gen, interval, timeout)
    if frozen or deadlines.over:
        _refuse(type(connection))
    me, hub, fileno = getcurrent(), get_hub(), connection.pgconn.socket
    _waits[me] = (type(connection), _ticks)
    try:
        events = next(gen)
        while True:
            # gevent and psycopg use the same numbers for reading and writing.
            watcher = hub.loop.io(fileno, int(events))
            try:
                hub.wait(watcher)
            finally:
                watcher.close()
            events = gen.send(events)
    except StopIteration as end:
        return end.value
    except GivenUp:
        # Its statement may still run: PostgreSQL checks every second whether the client is there.
        connection.pgconn.finish()
        raise
    finally:
        del _waits[me]


def _getconn(pool: Any, timeout: float | None = None) -> Any:
    """Wait for a connection of the pool. Errors: `GivenUp`, `PoolTimeout`."""
    if frozen or deadlines.over:
        _refuse(pool.connection_class)
    me = getcurrent()
    _waits[me] = (pool.connection_class, _ticks)
    try:
        return _gets_connection(pool, timeout)
    finally:
        _waits.pop(me, None)


def _ask(pulse: Pulse) -> None:
    pulse.is_asking = True
    gevent.spawn(pulse.ask)


def _refuse(connection_class: type) -> None:
    """Raise instead of beginning a hopeless wait; nothing on the connection is cut off halfway."""
    if _server_of(connection_class) in frozen:
        raise NoAnswer("PostgreSQL does not answer")
    if getcurrent() in deadlines.over:
        raise TookTooLong("the request has timed out")


def _server_of(connection_class: type) -> str:
    return getattr(connection_class, "server", DEFAULT_DB_ALIAS)


def _tick() -> None:
    """Check all waits; runs in the hub, so every waiting greenlet is really in its wait."""
    global _ticks
    _ticks += 1
    is_long = any(_ticks - since >= LONG_WAIT_TICKS for _, since in _waits.values())
    for pulse in _pulses if is_long else ():
        if pulse.tick():
            gevent.spawn(log.error, "PostgreSQL does not answer; requests get 503 until it does")
        if not pulse.is_asking:
            _ask(pulse)
    for waiter, wait in list(_waits.items()):
        connection_class, since = wait
        reason = (
            NoAnswer("PostgreSQL does not answer")
            if _server_of(connection_class) in frozen
            else deadlines.reason_to_give_up(waiter, _ticks - since)
        )
        if reason is not None and _waits.get(waiter) is wait:
            waiter.throw(reason)
