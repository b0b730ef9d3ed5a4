"""What is read from the streaming replica, and when it is too far behind to be asked.

Only `read` goes there. What it runs sees one snapshot of one server: the replica's, which lacks at
most the last REPLICA_MAX_LAG_SECONDS, or else the primary's. Nothing here does anything where there
is no DATABASE_REPLICA_URL.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import psycopg
from django.conf import settings
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    InterfaceError,
    OperationalError,
    connections,
    transaction,
)

from fleet.metrics import ANALYTICS_READS

log = logging.getLogger(__name__)

REPLICA: Final = "replica"
Result = TypeVar("Result")

_SECONDS_BETWEEN_LOOKS: Final = 1.0
# Everything that is committed, and acknowledged, stands before this point of the log.
_PRIMARY_AT: Final = "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint"
# Nothing where a server is asked that follows no other: it was promoted, or is the wrong one.
_REPLICA_AT: Final = "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint WHERE pg_is_in_recovery()"

_database: ContextVar[str] = ContextVar("database", default=DEFAULT_DB_ALIAS)


class Router:
    """Lets Django's models be read from where `read` says, and written to the primary."""

    def db_for_read(self, *_: Any, **__: Any) -> str:
        return database()

    def db_for_write(self, *_: Any, **__: Any) -> str:
        return DEFAULT_DB_ALIAS

    def allow_relation(self, *_: Any, **__: Any) -> bool:
        return True

    def allow_migrate(self, db: str, *_: Any, **__: Any) -> bool:
        return db != REPLICA


class Watch:
    """How far the replica is behind the primary: looked at every second, once somebody has asked.

    Each look notes how far the primary's log reaches. A replica that has replayed as much shows all
    that was committed by then, whatever the clocks of the servers say. One that is away, that hangs
    or that falls behind makes no progress, so the instant that it is known to show grows old.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_watching = False
        self._began_at = time.monotonic()
        self._shows_at: float | None = None
        self._primary: deque[tuple[float, int]] = deque(maxlen=1_000)

    def is_near(self) -> bool:
        """Return whether the replica is known to show what was REPLICA_MAX_LAG_SECONDS ago."""
        self._begin()
        return (
            self._shows_at is not None
            and time.monotonic() - self._shows_at <= settings.REPLICA_MAX_LAG_SECONDS
        )

    def lag_seconds(self) -> float:
        """Return the age of what the replica is known to show, or how long that has been open."""
        return time.monotonic() - (self._shows_at or self._began_at)

    def mark_away(self) -> None:
        """Ask the replica nothing more until a look has found it near."""
        self._shows_at = None

    def look(self) -> None:
        """Compare the two servers once."""
        asked_at = time.monotonic()
        if primary_at := _position(DEFAULT_DB_ALIAS, _PRIMARY_AT):
            self._primary.append((asked_at, primary_at))
        replica_at = _position(REPLICA, _REPLICA_AT)
        if replica_at is None:
            self.mark_away()
            return
        while self._primary and self._primary[0][1] <= replica_at:
            self._shows_at = self._primary.popleft()[0]

    def _begin(self) -> None:
        with self._lock:
            if not self._is_watching:
                self._is_watching = True
                threading.Thread(target=self._keep_looking, name="replica", daemon=True).start()

    def _keep_looking(self) -> None:
        while True:
            try:
                self.look()
            except Exception:
                log.exception("the replica can't be watched")
                self.mark_away()
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def _position(alias: str, sql: str) -> int | None:
    """Return the position that `sql` asks for; None where there is none, or no answer."""
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
        return row and int(row[0])
    except DatabaseError:
        return None
    finally:
        connections[alias].close()  # back into the pool


watch: Final = Watch()


def is_configured() -> bool:
    return REPLICA in settings.DATABASES


def database() -> str:
    """Return the alias of the database to read from at this point of the code."""
    return _database.get()


def read(
    work: Callable[[], Result],
    *,
    of_this_moment: bool = False,
    in_a_transaction: bool = True,
    again_after: tuple[type[Exception], ...] = (),
) -> Result:
    """Return what `work` reads, from the replica's snapshot, if that is near enough.

    `work` is run again, on the primary, where the replica fails it, or where it raises one of
    `again_after`: what is new may be unknown to the replica. `of_this_moment` asks the primary in
    the first place. Rows that are fetched after `work` has returned outlive no transaction; `work`
    has to be a single statement then. Within another `read`, it sees the snapshot of that one.
    """
    if not is_configured():
        return work()
    reason = _reason_for_primary(of_this_moment)
    if reason is None:
        try:
            return _from_replica(work, in_a_transaction)
        except (OperationalError, InterfaceError, psycopg.OperationalError) as error:
            log.warning("the replica failed: %s", type(error.__cause__ or error).__name__)
            watch.mark_away()
            reason = "failed"
        except again_after:
            reason = "unknown"
    ANALYTICS_READS.labels("primary", reason).inc()
    with _reading_from(DEFAULT_DB_ALIAS):
        return work()


def _reason_for_primary(of_this_moment: bool) -> str | None:
    if of_this_moment:
        return "changed"
    return None if watch.is_near() else "behind"


def _from_replica(work: Callable[[], Result], in_a_transaction: bool) -> Result:
    if database() == REPLICA:
        return work()
    snapshot = transaction.atomic(using=REPLICA) if in_a_transaction else nullcontext()
    with _reading_from(REPLICA), snapshot:
        found = work()
    ANALYTICS_READS.labels("replica", "").inc()
    return found


@contextmanager
def _reading_from(alias: str) -> Iterator[None]:
    token = _database.set(alias)
    try:
        yield
    finally:
        _database.reset(token)
