"""Performance figures in Redis: one recompute per vehicle at a time, dropped on a link change.

A change of links moves the vehicle's generation on, and a figure is kept only if the generation is
still the one it began with: none that was computed from old links outlives their change. With Redis
away, every answer comes from the database.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import msgspec
from django.conf import settings
from django.core import cache as django_cache
from django_redis.cache import RedisCache
from redis import Redis
from redis.exceptions import RedisError

from analytics.performance import Performance, vehicle_performance
from analytics.window import Window

# A process that dies while it computes holds up the others no longer than this.
_LOCK_SECONDS: Final = 5.0
_WAIT_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.02
# Longer than any figure takes; a vehicle whose links rest needs no generation.
_GENERATION_SECONDS: Final = 3600

_figure = msgspec.json.Decoder(Performance)


def cached_performance(vehicle_id: str) -> Performance:
    """Return the figures of the last 24 hours, at most PERFORMANCE_CACHE_SECONDS old.

    Errors: `UnknownVehicle`.
    """
    figure = _read(vehicle_id)
    if figure is not None:
        return figure
    with _alone(vehicle_id):
        figure = _read(vehicle_id)
        if figure is None:
            generation = _generation(vehicle_id)
            figure = vehicle_performance(vehicle_id, Window.last_24_hours())
            _keep(figure, generation)
    return figure


def drop(vehicle_id: str, **_: Any) -> None:
    """Forget the figures of a vehicle, also those that are being computed just now."""
    with suppress(RedisError), redis().pipeline() as pipe:
        pipe.incr(_key(vehicle_id, "-generation"))
        pipe.expire(_key(vehicle_id, "-generation"), _GENERATION_SECONDS)
        pipe.delete(_key(vehicle_id))
        pipe.execute()


def redis() -> Redis:
    """Return the client of the cache's Redis. Its calls raise `RedisError` when Redis is away."""
    return cast(Redis, cast(RedisCache, django_cache.cache).client.get_client(write=True))


def _key(vehicle_id: str, what: str = "") -> str:
    return f"analytics:performance{what}:{vehicle_id}"


def _read(vehicle_id: str) -> Performance | None:
    # One that another version of the engine has kept may not decode: it is none.
    with suppress(RedisError, msgspec.DecodeError):
        kept = redis().get(_key(vehicle_id))
        return None if kept is None else _figure.decode(kept)
    return None


def _generation(vehicle_id: str) -> bytes | None:
    with suppress(RedisError):
        return cast("bytes | None", redis().get(_key(vehicle_id, "-generation")))
    return None


def _keep(figure: Performance, generation: bytes | None) -> None:
    """Keep `figure`, unless the vehicle's links have changed since `generation`."""
    generation_key = _key(figure.vehicle_id, "-generation")
    # A `WatchError`, which is one too: they change at this very moment.
    with suppress(RedisError), redis().pipeline() as pipe:
        pipe.watch(generation_key)  # type: ignore[no-untyped-call] # redis-py has not typed it
        if pipe.get(generation_key) == generation:
            pipe.multi()
            pipe.set(
                _key(figure.vehicle_id),
                msgspec.json.encode(figure),
                ex=settings.PERFORMANCE_CACHE_SECONDS,
            )
            pipe.execute()


@contextmanager
def _alone(vehicle_id: str) -> Iterator[None]:
    """Be the only one, in all processes, to compute; go on after a wait or without Redis."""
    lock = redis().lock(
        _key(vehicle_id, "-lock"),
        timeout=_LOCK_SECONDS,
        blocking_timeout=_WAIT_SECONDS,
        sleep=_POLL_SECONDS,
    )
    is_held = False
    with suppress(RedisError):
        is_held = lock.acquire()
    try:
        yield
    finally:
        if is_held:
            # It may have lapsed, or Redis may have gone: it is free either way.
            with suppress(RedisError):
                lock.release()
