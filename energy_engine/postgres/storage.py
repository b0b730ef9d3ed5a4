"""Whether a reading could be stored a moment ago: one real write, shared by all callers."""

import threading
import time
from typing import Final

from django.db import DEFAULT_DB_ALIAS, Error, connection, transaction
from psycopg import errors

from energy_engine.models import StorageCheck
from energy_engine.postgres.pulse import frozen

OK: Final = "ok"
NO_ANSWER: Final = "does not answer"
SECONDS_BETWEEN_CHECKS: Final = 5.0
# Less than the two seconds in which a request gets its answer.
MAX_WAIT_SECONDS: Final = 1.8


class _Check:
    """One attempt, in its own thread, so that no caller has to wait for its end."""

    def __init__(self) -> None:
        self.began_at = time.monotonic()
        self._result = ""
        self._is_done = threading.Event()
        threading.Thread(target=self._run, name="storage check", daemon=True).start()

    def result(self) -> str:
        """Return the result, or that there was no answer in time."""
        left = self.began_at + MAX_WAIT_SECONDS - time.monotonic()
        return self._result if self._is_done.wait(max(0.0, left)) else NO_ANSWER

    def is_due_again(self) -> bool:
        return self._is_done.is_set() and time.monotonic() - self.began_at >= SECONDS_BETWEEN_CHECKS

    def _run(self) -> None:
        try:
            self._result = _store()
        finally:
            connection.close()  # back into the pool
            self._is_done.set()


class Storage:
    """What a process knows of its database; `state` may be called from any thread or greenlet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._check: _Check | None = None

    def state(self) -> str:
        """Return `OK`, or why nothing can be stored; at most five seconds old."""
        if DEFAULT_DB_ALIAS in frozen:
            return NO_ANSWER
        with self._lock:
            if self._check is None or self._check.is_due_again():
                self._check = _Check()
            check = self._check
        return check.result()


def _store() -> str:
    """Store a row that needs a page of its own, as new readings do, and remove it."""
    try:
        with transaction.atomic():
            StorageCheck.objects.create().delete()
    except Error as error:
        return _words(error.__cause__)
    return OK


def _words(cause: BaseException | None) -> str:
    if isinstance(cause, errors.DiskFull):
        return "out of disk space"
    if isinstance(cause, errors.ReadOnlySqlTransaction):
        return "read-only"
    return NO_ANSWER if isinstance(cause, errors.QueryCanceled) else "unreachable"


storage: Final = Storage()
