"""Take in one body of readings: decode it, record the valid ones, and list the rejected ones.

Contains no SQL and sees no request or response. For a body that is not JSON or exceeds a limit,
though, it raises the DRF exceptions of `fleet.wire` and `fleet.limits`, which the API turns into
error responses. Streams and file imports use `record_known`, too.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Final

import msgspec

from fleet.access.authorization import EVERYTHING
from fleet.access.keyring import Grant
from fleet.access.limits import take_readings
from fleet.counters import DROPPED_FIELDS, READINGS
from fleet.http.wire import Buffer
from fleet.models import Meter, Vehicle
from fleet.registration import join_site, registers_unknown
from fleet.stores.batching import Overloaded
from ingestion.clock_offsets import clock_offsets
from ingestion.decoding import decode
from ingestion.external_ids import external_ids
from ingestion.group_commit import group_commit
from ingestion.readings import (
    Decoded,
    DeviceKind,
    ItemError,
    MeterReading,
    Reading,
    device_id,
)
from ingestion.server_clock import server_clock
from ingestion.writer import ExternalIdsGiven, UnknownDevices

MAX_LISTED_ERRORS: Final = 100

# Processing a body of this size takes five times as much memory: a process takes in one at a time.
LARGE_BYTES: Final = 1024 * 1024
LARGE_WAIT_SECONDS: Final = 10.0
_large = threading.Lock()
_REGISTRIES: Final[dict[DeviceKind, type[Meter | Vehicle]]] = {
    DeviceKind.METER: Meter,
    DeviceKind.VEHICLE: Vehicle,
}


class Warnings(msgspec.Struct):
    """Invalid optional fields that readings were stored without; `items` has the first 100."""

    dropped: dict[str, int]
    items: list[ItemError]


class Outcome(msgspec.Struct):
    """How many readings of a body were accepted and rejected, with the first 100 errors at most."""

    accepted: int
    rejected: int
    errors: list[ItemError]
    warnings: Warnings | msgspec.UnsetType = msgspec.UNSET

    def warn(self, dropped: list[ItemError], stored: Collection[int], first: int = 0) -> None:
        """Add those of `dropped` whose readings are `stored`; indexes count from `first`."""
        kept = [error for error in dropped if error.index in stored]
        if not kept:
            return
        if self.warnings is msgspec.UNSET:
            self.warnings = Warnings({}, [])
        for field, count in Counter(str(error.field) for error in kept).items():
            self.warnings.dropped[field] = self.warnings.dropped.get(field, 0) + count
            DROPPED_FIELDS.labels(field).inc(count)
        room = MAX_LISTED_ERRORS - len(self.warnings.items)
        self.warnings.items += [moved(error, first) for error in kept[:room]]


class ArrayExpected(ValueError):
    """A single reading where the route expects an array."""


class NoReadings(ValueError):
    """An array without any reading."""


def take_in(
    body: Buffer,
    grant: Grant,
    *,
    kind: DeviceKind | None,
    received_at: datetime,
    array_only: bool = False,
    all_or_nothing: bool = False,
    drops_optional: bool = False,
) -> Outcome:
    """Record the valid readings of `body`; with `all_or_nothing`, none if one is invalid.

    With `drops_optional`, an invalid optional field is left out and does not make its reading
    invalid. A device outside `grant` counts as unknown.
    Errors: `MalformedBody`, `TooManyReadings`, `ArrayExpected`, `NoReadings`, `ServerClockBehind`,
    and those of `take_readings` and `group_commit.record`; nothing was stored then.
    """
    with _alone() if len(body) >= LARGE_BYTES else nullcontext():
        with clock_offsets.applied():
            decoded = decode(body, kind, received_at, drops_optional)
        return _taken_in(decoded, grant, kind, received_at, array_only, all_or_nothing)


def _taken_in(
    decoded: Decoded,
    grant: Grant,
    kind: DeviceKind | None,
    received_at: datetime,
    array_only: bool,
    all_or_nothing: bool,
) -> Outcome:
    server_clock.notice(decoded, grant, received_at)
    if array_only and not decoded.is_array:
        raise ArrayExpected("This route expects an array of readings")
    count = len(decoded.readings) + len(decoded.errors)
    if count == 0:
        raise NoReadings("The array is empty; send at least one reading")
    take_readings(grant.key_id, count)
    external_ids.resolve(decoded)
    # After the limits: it registers devices.
    reject_out_of_reach(decoded, grant, may_register=not (all_or_nothing and decoded.errors))
    if not (all_or_nothing and decoded.errors):
        record_known(decoded, received_at, all_or_nothing, grant)
    accepted = 0 if all_or_nothing and decoded.errors else len(decoded.readings)
    count_rejected(kind, count - accepted)
    outcome = Outcome(accepted, count - accepted, decoded.errors[:MAX_LISTED_ERRORS])
    if decoded.dropped and accepted:
        outcome.warn(decoded.dropped, set(decoded.indexes))
    return outcome


@contextmanager
def _alone() -> Iterator[None]:
    """Let one large body in at a time. Errors: `Overloaded`, after too long a wait."""
    if not _large.acquire(timeout=LARGE_WAIT_SECONDS):
        raise Overloaded
    try:
        yield
    finally:
        _large.release()


def record_known(
    decoded: Decoded,
    received_at: datetime,
    all_or_nothing: bool = False,
    grant: Grant = EVERYTHING,
) -> None:
    """Record the readings of `decoded`; those of unknown devices move to its errors.

    An unknown id that is a device's external id stands for that device, if `grant` reaches it.
    """
    while decoded.readings:
        try:
            group_commit.record(decoded.readings, received_at)
            return
        except ExternalIdsGiven:
            external_ids.resolve_failed(decoded)
        except UnknownDevices as unknown:
            external_ids.resolve_where(decoded, unknown.has)
            _reject(decoded, unknown.has)
        reject_out_of_reach(decoded, grant)
        if all_or_nothing and decoded.errors:
            return


def count_rejected(kind: DeviceKind | None, readings: int) -> None:
    """Count rejected readings in the metrics; on a mixed route, with the kind `any`."""
    if readings:
        READINGS.labels(kind or "any", "rejected").inc(readings)


def moved(error: ItemError, by: int) -> ItemError:
    """Return `error` at an index that is higher by `by`."""
    return ItemError(by + error.index, error.field, error.code, error.message)


def reject_out_of_reach(decoded: Decoded, grant: Grant, may_register: bool = True) -> None:
    """Move the readings of devices that `grant` does not reach to the errors.

    An unknown device joins the site of the key, if the site has defaults for its kind.
    """
    if grant.is_for_all:
        return
    reaches = {DeviceKind.METER: grant.reaches_meter, DeviceKind.VEHICLE: grant.reaches_vehicle}
    external_ids.resolve_where(decoded, lambda kind, id_: not reaches[kind](id_))
    beyond: dict[DeviceKind, set[str]] = {kind: set() for kind in reaches}
    for reading in decoded.readings:
        kind = _kind_of(reading)
        if not reaches[kind](device_id(reading)):
            beyond[kind].add(device_id(reading))
    if may_register and grant.site_id is not None and registers_unknown():
        for kind, ids in beyond.items():
            if ids:
                ids -= join_site(_REGISTRIES[kind], ids, grant.site_id)
    if any(beyond.values()):
        _reject(decoded, lambda kind, id_: id_ in beyond[kind])


def _reject(decoded: Decoded, is_unknown: Callable[[DeviceKind, str], bool]) -> None:
    kept: list[tuple[int, Reading]] = []
    for index, reading in zip(decoded.indexes, decoded.readings, strict=True):
        kind = _kind_of(reading)
        if is_unknown(kind, device_id(reading)):
            message = f"{kind}Id must be the id of a registered {kind}"
            decoded.errors.append(ItemError(index, f"{kind}Id", "unknown_device", message))
        else:
            kept.append((index, reading))
    decoded.indexes = [index for index, _ in kept]
    decoded.readings = [reading for _, reading in kept]
    decoded.errors.sort(key=lambda error: error.index)


def _kind_of(reading: Reading) -> DeviceKind:
    return DeviceKind.METER if isinstance(reading, MeterReading) else DeviceKind.VEHICLE
