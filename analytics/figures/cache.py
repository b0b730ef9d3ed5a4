"""Figures in Redis: one calculation per key at a time across all processes, dropped on a change.

A change of a vehicle's links or register increments its generation. A figure is cached only if the
generation has not changed since the calculation began, so no figure from before the change outlives
it, and no request after the change gets one. While a replica may lag behind the change, figures
come from the primary. Without Redis, every answer comes from the database.
"""

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

import msgspec
from django.conf import settings
from django.utils import timezone
from redis import Redis
from redis.exceptions import RedisError

from analytics.figures.performance import Performance, UnknownVehicle, vehicle_performance
from analytics.figures.unlinked import FleetEnergy, forget_day, kept_day, unlinked_energy
from analytics.figures.window import DEFAULT_LENGTH, Window
from fleet.counters import CACHED_FIGURES
from fleet.models import Meter, Vehicle, VehicleMeterLink
from fleet.stores import replica
from fleet.stores.batching import Batcher, Member, Overloaded
from fleet.stores.redis import insist, redis
from fleet.stores.single_flight import SingleFlight

_WAIT_SECONDS: Final = 2.0
# Longer than any calculation takes; a vehicle whose links have not changed needs no generation.
_GENERATION_SECONDS: Final = 3600
# Figures that were requested together do not expire together.
_LEAST_OF_LIFETIME: Final = 0.8

# Part of the key: what was calculated from former links stays under a key that nobody reads.
_UNLINKED_GENERATION: Final = "analytics:unlinked-generation"
_UNLINKED_LIFETIME: Final = timedelta(minutes=1)
# Checks of the replica, and the calls to Redis around a change, are a moment apart.
_SLACK_SECONDS: Final = 5
_hits, _misses = (CACHED_FIGURES.labels(result) for result in ("hit", "miss"))
_performance: Final = msgspec.json.Decoder(Performance)
_fleet_energy: Final = msgspec.json.Decoder(FleetEnergy)
_figures: Final = SingleFlight[msgspec.Raw]()
_unlinked: Final = SingleFlight[FleetEnergy]()
# The last known generations, for when Redis is down, and changes made by this process.
_told: dict[str, bytes] = {}
_MOST_TOLD: Final = 10_000
# A round trip with more would take longer than the socket's timeout.
_DROPPED_AT_ONCE: Final = 1_000
_changes_here = 0
Result = TypeVar("Result")


def cached_performance(vehicle_id: str) -> tuple[msgspec.Raw, bool]:
    """Return the figures of the last 24 hours as JSON, and whether they were in the cache.

    They are at most PERFORMANCE_CACHE_SECONDS old. Errors: `UnknownVehicle`.
    """
    kept = _read(vehicle_id)
    if kept is not None:
        _hits.inc()
        return kept, True
    _misses.inc()
    generation = _generation(_key(vehicle_id, "-generation"))
    figure, is_new = _figures.run(
        f"{_key(vehicle_id, '-lock')}:{generation.decode()}",
        lambda: _read(vehicle_id),
        lambda: _computed(vehicle_id, generation),
        changes_here=_changes_here,
    )
    return figure, not is_new


def _computed(vehicle_id: str, generation: bytes) -> msgspec.Raw:
    figure = read_of_vehicle(
        vehicle_id, lambda: vehicle_performance(vehicle_id, Window.last(), cached_unlinked_energy)
    )
    encoded = msgspec.json.encode(figure)
    _keep(vehicle_id, encoded, generation)
    return msgspec.Raw(encoded)


def cached_unlinked_energy(window: Window, least_dc_kwh: float = 0.0) -> FleetEnergy:
    """Return the energy of the devices without a link in `window`, with at least this DC (kWh).

    For the last 24 hours it is the background worker's result, if there is one; otherwise it is at
    most a minute old. A result below a vehicle's own DC is older than the vehicle's readings.
    """
    if _ends_now(window) and window.ends_at - window.starts_at == DEFAULT_LENGTH:
        day = kept_day()
        if day and day.energy_dc_kwh >= least_dc_kwh:
            return day
    key = _unlinked_key(window)
    found = _read_unlinked(key, least_dc_kwh)
    while found is None:
        energy, is_new = _unlinked.run(
            f"{key}:lock",
            lambda: _read_unlinked(key, least_dc_kwh),
            lambda: _computed_unlinked(key, window),
            changes_here=_changes_here,
        )
        # A calculation that began before the vehicle's last readings arrived may lack them.
        if is_new or energy.energy_dc_kwh >= least_dc_kwh:
            found = energy
    return found


def _computed_unlinked(key: str, window: Window) -> FleetEnergy:
    energy = read_of_fleet(lambda: unlinked_energy(window))
    with suppress(RedisError):
        redis().set(key, msgspec.json.encode(energy), ex=_UNLINKED_LIFETIME)
    return energy


def read_of_vehicle(vehicle_id: str, work: Callable[[], Result]) -> Result:
    """Return what `work` reads for a vehicle's figures, with its current links and registers.

    Errors: those of `work`.
    """
    changed = _key(vehicle_id, "-generation")
    return replica.read(
        work, of_this_moment=_has_changed_lately(changed), again_after=(UnknownVehicle,)
    )


def read_of_fleet(work: Callable[[], Result]) -> Result:
    """Return what `work` reads for figures that use the current links and registers of all."""
    return replica.read(work, of_this_moment=_has_changed_lately(_UNLINKED_GENERATION))


def _has_changed_lately(generation_key: str) -> bool:
    """Return whether a replica may still lack the change that made this generation."""
    if not replica.is_configured():
        return False
    try:
        seconds_left: Any = redis().ttl(generation_key)
    except RedisError:
        return True  # unknown, so assume it
    lately_seconds = settings.REPLICA_MAX_LAG_SECONDS + _SLACK_SECONDS
    return bool(seconds_left >= _GENERATION_SECONDS - lately_seconds)


def drop_after_link(vehicle_id: str, meter_ids: Iterable[str] = (), **_: Any) -> None:
    """Drop the figures of a vehicle whose links have changed, and of the vehicles at its meters.

    Its meters include `meter_ids`, to which it may have no link any more.
    """
    meters = VehicleMeterLink.objects.filter(vehicle_id=vehicle_id).values("meter_id")
    _drop({vehicle_id, *_linked_to(meters), *(_linked_to(meter_ids) if meter_ids else ())})


def drop_after_register(
    sender: type[Meter | Vehicle], device_ids: Collection[str], **_: Any
) -> None:
    """Drop the figures of every vehicle that use readings of these devices; one statement."""
    if issubclass(sender, Meter):
        _drop(_linked_to(device_ids))
    else:
        meters = VehicleMeterLink.objects.filter(vehicle_id__in=device_ids).values("meter_id")
        _drop({*device_ids, *_linked_to(meters)})


def _linked_to(meters: Any) -> set[str]:
    links = VehicleMeterLink.objects.filter(meter_id__in=meters)
    return set(links.values_list("vehicle_id", flat=True))


def _drop(vehicle_ids: set[str]) -> None:
    """Drop figures of vehicles, including those that are being calculated."""
    global _changes_here
    _changes_here += 1
    _told.clear()
    forget_day()
    in_order = sorted(vehicle_ids)
    for first in range(0, max(len(in_order), 1), _DROPPED_AT_ONCE):
        insist(_drop_from, {*in_order[first : first + _DROPPED_AT_ONCE]})


def _drop_from(client: Redis, vehicle_ids: set[str]) -> None:
    with client.pipeline() as pipe:
        for vehicle_id in vehicle_ids:
            pipe.incr(_key(vehicle_id, "-generation"))
            pipe.expire(_key(vehicle_id, "-generation"), _GENERATION_SECONDS)
            pipe.delete(_key(vehicle_id))
        pipe.incr(_UNLINKED_GENERATION)
        pipe.expire(_UNLINKED_GENERATION, _GENERATION_SECONDS)
        pipe.execute()


def _key(vehicle_id: str, what: str = "") -> str:
    return f"analytics:performance{what}:{vehicle_id}"


def _unlinked_key(window: Window) -> str:
    """Return the key of a window: only its length, if it ends now."""
    generation = _generation(_UNLINKED_GENERATION)
    span = f"{window.starts_at.isoformat()}/{window.ends_at.isoformat()}"
    if _ends_now(window):
        span = f"last:{window.seconds}"
    return f"analytics:unlinked:{generation.decode()}:{span}"


def _ends_now(window: Window) -> bool:
    return abs(timezone.now() - window.ends_at) < _UNLINKED_LIFETIME


def _generation(key: str) -> bytes:
    """Return the generation under `key`.

    Without Redis, return the last known one, so that the same calculation has the same name.
    """
    with suppress(RedisError):
        generation = cast("bytes | None", redis().get(key)) or b""
        if len(_told) >= _MOST_TOLD:
            _told.clear()
        if generation:  # most have none
            _told[key] = generation
        else:
            _told.pop(key, None)
        return generation
    return _told.get(key, b"")


def _read(vehicle_id: str) -> msgspec.Raw | None:
    # A figure from another version of the engine may not decode: treat it as missing.
    with suppress(RedisError, Overloaded, msgspec.DecodeError):
        kept = _reads.run(_key(vehicle_id))
        if kept is not None and _performance.decode(kept):
            return msgspec.Raw(kept)
    return None


def _read_all(group: Sequence[Member[str, bytes]]) -> RedisError | None:
    """Read the keys of concurrent requests in one round trip: it is a quarter of a request."""
    try:
        values = cast("list[bytes | None]", redis().mget([member.work for member in group]))
    except RedisError as error:
        for member in group:
            member.error = error
        return error
    for member, value in zip(group, values, strict=True):
        member.result = value
    return None


_reads: Final = Batcher[str, bytes](
    _read_all, most_at_once=100, most_waiting=10_000, wait_seconds=_WAIT_SECONDS
)


def _read_unlinked(key: str, least_dc_kwh: float) -> FleetEnergy | None:
    with suppress(RedisError, msgspec.DecodeError):
        kept = cast("bytes | None", redis().get(key))
        energy = None if kept is None else _fleet_energy.decode(kept)
        return energy if energy and energy.energy_dc_kwh >= least_dc_kwh else None
    return None


def _keep(vehicle_id: str, encoded: bytes, generation: bytes) -> None:
    """Cache a figure, unless the vehicle's links have changed since `generation`."""
    generation_key = _key(vehicle_id, "-generation")
    lifetime = settings.PERFORMANCE_CACHE_SECONDS * random.uniform(_LEAST_OF_LIFETIME, 1)  # noqa: S311 -- no secret
    # This includes `WatchError`: the links are changing right now.
    with suppress(RedisError), redis().pipeline() as pipe:
        pipe.watch(generation_key)  # type: ignore[no-untyped-call] # redis-py has not typed it
        if (pipe.get(generation_key) or b"") == generation:
            pipe.multi()
            pipe.set(_key(vehicle_id), encoded, px=int(lifetime * 1000))
            pipe.execute()
