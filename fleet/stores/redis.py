"""Redis, and how a process does without it: one breaker for everything that the process asks of it.

Every user of Redis takes a connection from one pool: the cached figures, the limits, Django's own
cache. After a time-out or a refused connection that pool fails at once, with `Away`, instead of
letting each request wait in turn. A thread of its own tries again, and lets requests through when
Redis answers. So no request waits only to find out, and it does not depend on traffic when Redis is
used again.
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
# More patient than a request. A process that is busy for a moment sees time-outs of its own making;
# the first try, which is made at once, then finds that Redis is there.
_PATIENCE_SECONDS: Final = 1.0

# What is to be done to some names in Redis: see `insist`.
Work = Callable[[Redis, set[str]], None]


class Away(RedisConnectionError):
    """Redis did not answer a moment ago; it is not asked until it does."""


class Breaker(Retry):
    """Sees each connect and each command: redis-py hands them all to its policy of retries.

    There are no retries. After a call that fails nobody gets through, unless Redis was found to be
    back since the call began: the failure says nothing about the Redis of now.
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
        return self  # each connection copies its policy; there is one breaker for all of them

    def call_with_retry(self, *args: Any, **options: Any) -> Any:
        """Do what redis-py asks for, once. Errors: those of redis-py; `Away`, at once."""
        if self._is_away:
            self._watch()
            raise Away("Redis is away")
        returns = self._returns
        try:
            return super().call_with_retry(*args, **options)
        except self._supported_errors as error:
            if returns == self._returns:
                self._note_away(error)
            raise

    def owe(self, work: Work, names: set[str]) -> None:
        """Do `work` when Redis answers, before anybody else in the process asks it."""
        with self._lock:
            self._owed[work] |= names
        self._note_away()

    def _note_away(self, error: Exception | None = None) -> None:
        with self._lock:
            was_away, self._is_away = self._is_away, True
        if not was_away:
            log.warning("Redis is away: %s", type(error).__name__ if error else "work is left over")
        self._watch()

    def _watch(self) -> None:
        """Let a thread watch for Redis; a process that was forked has lost the one it had."""
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
        """Let requests through if Redis answers; return whether they are let through."""
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
        log.info("Redis is back")
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
    """The pool of a process, with its breaker. Named in Django's CACHES."""

    def __init__(self, **options: Any) -> None:
        patient = {"socket_timeout": _PATIENCE_SECONDS, "socket_connect_timeout": _PATIENCE_SECONDS}
        self.breaker = Breaker(Redis(connection_pool=ConnectionPool(**options | patient)))
        super().__init__(**options, retry=self.breaker)


def redis() -> Redis:
    """Return the client of the cache's Redis. Its calls raise `RedisError` when Redis is away."""
    return cast(Redis, cast(RedisCache, django_cache.cache).client.get_client(write=True))


def redis_answers() -> bool:
    """Return whether Redis is there; at once, where it is known not to be."""
    try:
        redis().ping()
    except (RedisError, OSError):
        return False
    return True


def insist(work: Work, names: set[str]) -> None:
    """Do `work` to `names` in Redis: now or, where it is away, before the process asks it again.

    Work that is owed is put together: `work` is called once, with the names of all calls.
    """
    client = redis()
    try:
        work(client, names)
    except RedisError:
        cast(Pool, client.connection_pool).breaker.owe(work, names)
