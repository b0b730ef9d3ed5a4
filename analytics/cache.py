"""Performance figures in Redis: one recompute per vehicle at a time, dropped on a link change.

With Redis away, every answer comes from the database.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import msgspec
from django.conf import settings
from django.core import cache as django_cache
from django_redis.cache import RedisCache
from redis.exceptions import RedisError

from analytics.performance import Performance, vehicle_performance
from analytics.window import Window

# Longer than a figure takes; a process that dies while it computes blocks others no longer.
_LOCK_SECONDS: Final = 5.0
_WAIT_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.02

cache = cast("RedisCache", django_cache.cache)


def cached_performance(vehicle_id: str) -> Performance:
    """Return the figures of the last 24 hours, at most PERFORMANCE_CACHE_SECONDS old.

    Errors: `UnknownVehicle`.
    """
    key = _key(vehicle_id)
    figure = _read(key)
    if figure is not None:
        return figure
    with _held(key):
        figure = _read(key)
        if figure is None:
            figure = vehicle_performance(vehicle_id, Window.last_24_hours())
            cache.set(key, msgspec.to_builtins(figure), settings.PERFORMANCE_CACHE_SECONDS)
    return figure


def drop(vehicle_id: str, **_: Any) -> None:
    """Forget the figures of a vehicle, also those that are being computed just now."""
    key = _key(vehicle_id)
    with _held(key):
        cache.delete(key)


def _key(vehicle_id: str) -> str:
    return f"analytics:performance:{vehicle_id}"


def _read(key: str) -> Performance | None:
    kept = cache.get(key)
    return None if kept is None else msgspec.convert(kept, Performance)


@contextmanager
def _held(key: str) -> Iterator[None]:
    """Be the only one, in all processes, to work on `key`; go on after a wait or without Redis."""
    lock = cache.lock(
        f"{key}:lock", timeout=_LOCK_SECONDS, blocking_timeout=_WAIT_SECONDS, sleep=_POLL_SECONDS
    )
    try:
        is_held = lock.acquire()
    except RedisError:
        is_held = False
    try:
        yield
    finally:
        if is_held:
            # Held for longer than the lock lasts, or Redis has gone: it is free either way.
            with suppress(RedisError):
                lock.release()
