"""Read from the streaming replica, unless it is too far behind.

Only `read` uses the replica. The work that it runs sees one snapshot of one server: the replica's,
which lacks at most the last REPLICA_MAX_LAG_SECONDS, or otherwise the primary's. Without
DATABASE_REPLICA_URL, everything is read from the primary.
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

from fleet.counters import ANALYTICS_READS

log = logging.getLogger(__name__)

REPLICA: Final = "replica"
Result = TypeVar("Result")

_SECONDS_BETWEEN_LOOKS: Final = 1.0
# Every commit that was acknowledged is before this position of the write-ahead log.
_PRIMARY_AT: Final = "SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint"
# No row from a server that is not a replica: it was promoted, or is the wrong one.
_REPLICA_AT: Final = "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint WHERE pg_is_in_recovery()"

_database: ContextVar[str] = ContextVar("database", default=DEFAULT_DB_ALIAS)


class Router:
    """Routes reads of Django's models to the database that `read` chose; writes to the primary."""

    def db_for_read(self, *_: Any, **__: Any) -> str:
        return database()

    def db_for_write(self, *_: Any, **__: Any) -> str:
        return DEFAULT_DB_ALIAS

    def allow_relation(self, *_: Any, **__: Any) -> bool:
        return True

    def allow_migrate(self, db: str, *_: Any, **__: Any) -> bool:
        return db != REPLICA


class Watch:
    """How far the replica is behind the primary: checked every second from the first use on.

    Each check notes the position of the primary's log. A replica that has replayed the log up to
    there shows everything committed by then, whatever the clocks of the servers say. A replica that
    is unavailable, hangs or falls behind makes no progress, so the state that it is known to show
    grows old.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_watching = False
        self._began_at = time.monotonic()
        self._shows_at: float | None = None
        self._primary: deque[tuple[float, int]] = deque(maxlen=1_000)

    def is_near(self) -> bool:
        """Return whether the replica is known to lag by at most REPLICA_MAX_LAG_SECONDS."""
        self._begin()
        return (
            self._shows_at is not None
            and time.monotonic() - self._shows_at <= settings.REPLICA_MAX_LAG_SECONDS
        )

    def lag_seconds(self) -> float:
        """Return the lag; while it is unknown, the time since the process started."""
        return time.monotonic() - (self._shows_at or self._began_at)

    def mark_away(self) -> None:
        """Stop using the replica until a check finds it close enough."""
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
                log.exception("the lag of the replica can't be checked")
                self.mark_away()
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def _position(alias: str, sql: str) -> int | None:
    """Return the log position that `sql` selects; None if there is none, or the query fails."""
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
        return row and int(row[0])
    except DatabaseError:
        return None
    finally:
        connections[alias].close()  # returns it to the pool


watch: Final = Watch()


def is_configured() -> bool:
    return REPLICA in settings.DATABASES


def database() -> str:
    """Return the alias of the database that the current context reads from."""
    return _database.get()


def read(
    work: Callable[[], Result],
    *,
    of_this_moment: bool = False,
    in_a_transaction: bool = True,
    again_after: tuple[type[Exception], ...] = (),
) -> Result:
    """Return what `work` reads: from the replica if it is close enough, otherwise from the primary.

    `work` runs again on the primary if the replica fails, or if it raises one of `again_after`,
    since new rows may not have reached the replica yet. `of_this_moment` uses the primary from the
    start. If the caller fetches rows after `work` has returned, pass `in_a_transaction=False`, and
    let `work` be a single statement. A nested `read` sees the snapshot of the outer one.
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
