"""Run one calculation per key at a time; callers that ask meanwhile get its result.

Within a process, callers wait for each other here. Between processes, they wait for a lock in
Redis, which the calculating process renews until it has the result. Without Redis, each process
calculates once for itself.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Generic, TypeVar

from redis.exceptions import RedisError
from redis.lock import Lock

from fleet.stores.batching import Overloaded
from fleet.stores.redis import redis

# The longest wait: a request is answered within two seconds.
_WAIT_SECONDS: Final = 1.8
_SECONDS_BETWEEN_LOOKS: Final = 0.02
# A process that dies while it calculates blocks the others no longer than this.
_LOCK_SECONDS: Final = 5.0
_SECONDS_BETWEEN_RENEWALS: Final = 1.0

Result = TypeVar("Result")


class _Flight:
    """A calculation in progress, then its result or error."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.result: Any = None
        # Stays if the caller that calculates is stopped before it sets a result or an error.
        self.error: Exception | None = _busy()


def _busy() -> Overloaded:
    return Overloaded("This figure is still being calculated; retry in a moment")


class SingleFlight(Generic[Result]):
    """Calculations in progress, by key; `run` may be called from any thread or greenlet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[tuple[str, int], _Flight] = {}

    def run(
        self,
        key: str,
        kept: Callable[[], Result | None],
        compute: Callable[[], Result],
        *,
        changes_here: int = 0,
    ) -> tuple[Result, bool]:
        """Return what is `kept`, or what `compute` returns; and whether it was computed here.

        `key` also names the lock in Redis. `compute` must store its result where `kept` finds it,
        for the other processes. `changes_here` counts the changes in this process that Redis may
        not know of: a caller never joins a calculation that began before the newest one.
        Errors: those of `compute`, for all callers that wait for it; `Overloaded` after too long a
        wait.
        """
        place = (key, changes_here)
        with self._lock:
            flight = self._flights.get(place)
            is_first = flight is None
            if flight is None:
                flight = self._flights[place] = _Flight()
        if not is_first:
            return self._result_of(flight), False
        try:
            flight.result, is_new = _in_turn(key, kept, compute)
            flight.error = None
        except Exception as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[place]
            flight.is_over.set()
        return flight.result, is_new

    def _result_of(self, flight: _Flight) -> Any:
        if not flight.is_over.wait(_WAIT_SECONDS):
            raise _busy()
        if flight.error is not None:
            raise flight.error
        return flight.result


def _in_turn(
    key: str, kept: Callable[[], Result | None], compute: Callable[[], Result]
) -> tuple[Result, bool]:
    with _locked(key):
        found = kept()
        return (compute(), True) if found is None else (found, False)


@contextmanager
def _locked(key: str) -> Iterator[None]:
    """Hold the lock of `key` in Redis; do without it if Redis is unavailable."""
    lock = redis().lock(
        key,
        timeout=_LOCK_SECONDS,
        blocking_timeout=_WAIT_SECONDS,
        sleep=_SECONDS_BETWEEN_LOOKS,
        thread_local=False,  # another thread renews it
    )
    try:
        is_held = lock.acquire()
    except RedisError:
        yield
        return
    if not is_held:
        raise _busy()
    try:
        with _renewals.of(lock):
            yield
    finally:
        # The lock may have expired, or Redis may be unavailable: it is free either way.
        with suppress(RedisError):
            lock.release()


class _Renewals:
    """Keeps the locks of this process from expiring while they are held."""

    def __init__(self) -> None:
        self._held: set[Lock] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def of(self, lock: Lock) -> Iterator[None]:
        with self._lock:
            self._held.add(lock)
            if not (self._thread and self._thread.is_alive()):
                self._thread = threading.Thread(target=self._renew, name="locks", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(lock)

    def _renew(self) -> None:
        while True:
            time.sleep(_SECONDS_BETWEEN_RENEWALS)
            with self._lock:
                held = list(self._held)
            for lock in held:
                # It was just released or has expired, or Redis is unavailable.
                with suppress(RedisError):
                    lock.reacquire()


_renewals: Final = _Renewals()
