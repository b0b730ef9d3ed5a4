"""Redis, behind one circuit breaker for everything that the process uses it for.

Everything that uses Redis takes its connection from one pool: the cached figures, the limits and
Django's own cache. After a timeout or a refused connection, that pool fails at once with `Away`, so
that requests don't wait one after the other. A background thread retries and closes the breaker
when Redis answers. So no request waits only to find Redis unavailable, and recovery does not depend
on traffic.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, cast

from django.core import cache as django_cache
from django_redis.cache import RedisCache
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_TRIES: Final = 1.0
# Longer than the timeout of a request. A process that is busy for a moment causes its own timeouts;
# the first retry, made at once, then finds Redis available.
_PATIENCE_SECONDS: Final = 1.0

# A change to some names in Redis: see `insist`.
Work = Callable[[Redis, set[str]], None]


class Away(RedisConnectionError):
    """Redis was unavailable a moment ago; calls fail at once until it answers."""


class Breaker(Retry):
    """A circuit breaker in place of redis-py's retry policy, which runs every connect and command.

    It does not retry calls. A call that fails opens the breaker, unless Redis was found available
    after the call began: the failure is then out of date.
    """

    def __init__(self, patient: Redis) -> None:
        super().__init__(NoBackoff(), 0)
        self._patient = patient
        self._lock = threading.Lock()
        self._is_away = False
        self._returns = 0
        self._watcher: threading.Thread | None = None
        self._owed: defaultdict[Work, set[str]] = defaultdict(set)

    def __deepcopy__(self, _: Any) -> "Breaker":
        return self  # each connection copies its policy, but all share one breaker

    def call_with_retry(self, *args: Any, **options: Any) -> Any:
        """Run a call of redis-py once. Errors: those of redis-py; `Away` if the breaker is open."""
        if self._is_away:
            self._watch()
            raise Away("Redis is unavailable")
        returns = self._returns
        try:
            return super().call_with_retry(*args, **options)
        except self._supported_errors as error:
            if returns == self._returns:
                self._note_away(error)
            raise

    def owe(self, work: Work, names: set[str]) -> None:
        """Run `work` when Redis answers, before any other call of this process."""
        with self._lock:
            self._owed[work] |= names
        self._note_away()

    def _note_away(self, error: Exception | None = None) -> None:
        with self._lock:
            was_away, self._is_away = self._is_away, True
        if not was_away:
            reason = type(error).__name__ if error else "a change is pending"
            log.warning("Redis is unavailable: %s", reason)
        self._watch()

    def _watch(self) -> None:
        """Start the thread that retries; a forked process has lost its parent's thread."""
        with self._lock:
            if self._is_away and not (self._watcher and self._watcher.is_alive()):
                self._watcher = threading.Thread(
                    target=self._keep_trying, name="redis", daemon=True
                )
                self._watcher.start()

    def _keep_trying(self) -> None:
        while not self._try():
            time.sleep(_SECONDS_BETWEEN_TRIES)

    def _try(self) -> bool:
        """Close the breaker if Redis answers; return whether it is closed."""
        try:
            self._patient.ping()
            while self._owed:
                self._do_what_is_owed()
        except (RedisError, OSError):
            return False
        with self._lock:
            if self._owed:
                return False
            self._is_away = False
            self._returns += 1
            self._watcher = None
        log.info("Redis is available again")
        return True

    def _do_what_is_owed(self) -> None:
        with self._lock:
            work, names = self._owed.popitem()
        try:
            work(self._patient, names)
        except (RedisError, OSError):
            with self._lock:
                self._owed[work] |= names
            raise


class Pool(ConnectionPool):
    """The connection pool of a process, with its breaker. Configured in Django's CACHES."""

    def __init__(self, **options: Any) -> None:
        patient = {"socket_timeout": _PATIENCE_SECONDS, "socket_connect_timeout": _PATIENCE_SECONDS}
        self.breaker = Breaker(Redis(connection_pool=ConnectionPool(**options | patient)))
        super().__init__(**options, retry=self.breaker)


def redis() -> Redis:
    """Return the client of the cache's Redis. Its calls raise `RedisError` if it is unavailable."""
    return cast(Redis, cast(RedisCache, django_cache.cache).client.get_client(write=True))


def redis_answers() -> bool:
    """Return whether Redis is there; at once, where it is known not to be."""
    try:
        redis().ping()
    except (RedisError, OSError):
        return False
    return True


def insist(work: Work, names: set[str]) -> None:
    """Run `work` on `names` now or, if Redis is unavailable, before this process uses it again.

    Pending calls are merged: `work` is called once, with the names of all of them.
    """
    client = redis()
    try:
        work(client, names)
    except RedisError:
        cast(Pool, client.connection_pool).breaker.owe(work, names)
