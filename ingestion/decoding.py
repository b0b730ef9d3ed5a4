"""Decode bodies and lines into valid readings and errors; no database, no requests or responses.

A body that is not JSON raises `MalformedBody`, which is a DRF exception; other errors are returned
as data or are plain exceptions.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec
from django.conf import settings

from fleet.device_ids import DEVICE_ID_RULE, are_device_ids
from fleet.http.wire import (
    DECODE_ERRORS,
    Buffer,
    FieldError,
    field_error,
    require_utf8,
    rule,
)
from ingestion.items import require_count, split
from ingestion.optional_fields import decode_without_invalid, with_quoted_nans
from ingestion.readings import (
    MAX_AHEAD,
    OPTIONAL_FIELDS,
    STRUCTS,
    Decoded,
    DeviceKind,
    ItemError,
    MeterReading,
    Offsets,
    Reading,
    Stranger,
    device_id,
)


class _TooNew(FieldError):
    """The error of a reading that is too far ahead."""

    reading: Reading


class _NoId(FieldError):
    """The error of a reading whose id is not well-formed, and what else is wrong with it."""

    reading: Reading
    problem: FieldError | None = None


class _KindOf(msgspec.Struct):
    """The part of a reading that determines its kind."""

    type: Literal["meter", "vehicle"] | msgspec.UnsetType = msgspec.UNSET
    meter_id: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="meterId", default=msgspec.UNSET)
    vehicle_id: msgspec.Raw | msgspec.UnsetType = msgspec.field(
        name="vehicleId", default=msgspec.UNSET
    )


class _TimestampOf(msgspec.Struct):
    """A reading's timestamp as it was written."""

    timestamp: str


_ANY_AGE: Final = timedelta(days=36_500)
_ALL_OPTIONAL: Final = set().union(*OPTIONAL_FIELDS.values())
_bodies = {
    kind: msgspec.json.Decoder(struct | list[struct])  # type: ignore[valid-type]
    for kind, struct in STRUCTS.items()
}
_items = {kind: msgspec.json.Decoder(struct) for kind, struct in STRUCTS.items()}
_kind_of = msgspec.json.Decoder(_KindOf)
_timestamp_of = msgspec.json.Decoder(_TimestampOf)
_takes_any_age: ContextVar[bool] = ContextVar("takes_any_age", default=False)
_offsets: ContextVar[Offsets | None] = ContextVar("offsets", default=None)
# msgspec rounds times finer than a microsecond; the API rejects them.
_finer_than_microseconds = re.compile(rb":\d\d:\d\d\.\d{7}")
# An escaped ASCII character, which could belong to such a time.
_ESCAPED_ASCII: Final = b"\\u00"


def decode(
    body: Buffer, kind: DeviceKind | None, received_at: datetime, drops_optional: bool = False
) -> Decoded:
    """Decode `body`, one reading or an array of them, into valid readings and errors.

    With `kind` None, each item states its own. A reading without a timestamp gets `received_at`.
    With `drops_optional`, an invalid optional field is left out; otherwise it is an error.
    A body without errors takes one pass in C; any other is decoded item by item, so that an invalid
    item never affects a valid one.
    Errors: `MalformedBody` if it is not JSON, `TooManyReadings`.
    """
    if kind is not None:
        try:
            require_utf8(body)
            value = _bodies[kind].decode(body)
        except DECODE_ERRORS:
            return _decode_items(body, kind, received_at, drops_optional)
        readings = value if isinstance(value, list) else [value]
        require_count(len(readings))
        _stamp(readings, received_at)
        if _all_timely(readings, body, received_at):
            return _by_id(readings, kind, isinstance(value, list))
    return _decode_items(body, kind, received_at, drops_optional)


def decode_lines(
    lines: bytes, kind: DeviceKind | None, received_at: datetime, drops_optional: bool = False
) -> Decoded:
    """Decode `lines`, one reading each, as `decode` does an array; skip blank lines."""
    if kind is not None:
        try:
            require_utf8(lines)
            readings = _items[kind].decode_lines(lines)
        except DECODE_ERRORS:
            return _decode_split_lines(lines, kind, received_at, drops_optional)
        _stamp(readings, received_at)
        has_blank_lines = len(readings) != lines.count(b"\n") + (not lines.endswith(b"\n"))
        if not has_blank_lines and _all_timely(readings, lines, received_at):
            return _by_id(readings, kind, is_array=True)
    return _decode_split_lines(lines, kind, received_at, drops_optional)


@contextmanager
def with_clock_offsets(offsets: Offsets) -> Iterator[None]:
    """Correct the timestamps of devices that have an offset, before they are checked."""
    token = _offsets.set(offsets)
    try:
        yield
    finally:
        _offsets.reset(token)


def _stamp(readings: list[Reading], received_at: datetime) -> None:
    if offsets := _offsets.get():
        _correct_clocks(readings, offsets)
    for reading in readings:
        if reading.measured_at is None:
            reading.measured_at = received_at


def _correct_clocks(readings: Sequence[Reading], offsets: Offsets) -> None:
    for reading in readings:
        kind = DeviceKind.METER if isinstance(reading, MeterReading) else DeviceKind.VEHICLE
        offset = offsets.get(kind, {}).get(device_id(reading))
        if offset and reading.measured_at:
            with suppress(OverflowError):  # far beyond the limits in any case
                reading.measured_at += offset


def _all_timely(readings: list[Reading], body: Buffer, received_at: datetime) -> bool:
    """Return whether the times of `readings`, decoded from `body`, pass the checks of the API."""
    if not readings:
        return True
    times = [reading.measured_at for reading in readings]
    return (
        max(times) <= received_at + MAX_AHEAD  # type: ignore[type-var, operator]
        and min(times) >= received_at - _horizon()  # type: ignore[type-var, operator]
        and _finer_than_microseconds.search(body) is None
        and _ESCAPED_ASCII not in body
    )


def _by_id(readings: list[Reading], kind: DeviceKind, is_array: bool) -> Decoded:
    """Return `readings`, valid but for their ids, as the body that they are."""
    if kind is DeviceKind.METER:
        ids = [reading.meter_id for reading in readings]  # type: ignore[union-attr]
    else:
        ids = [reading.vehicle_id for reading in readings]  # type: ignore[union-attr]
    if are_device_ids(ids):
        return Decoded(readings, range(len(readings)), [], is_array)
    decoded = Decoded([], [], [], is_array)
    indexes: list[int] = []
    for index, reading in enumerate(readings):
        if are_device_ids([ids[index]]):
            decoded.readings.append(reading)
            indexes.append(index)
        else:
            _refuse(decoded, index, _no_id(reading, kind))
    decoded.indexes = indexes
    return decoded


@contextmanager
def of_any_age() -> Iterator[None]:
    """Accept readings older than HISTORY_HORIZON_DAYS, too, since they come from the archive."""
    token = _takes_any_age.set(True)
    try:
        yield
    finally:
        _takes_any_age.reset(token)


def _horizon() -> timedelta:
    return _ANY_AGE if _takes_any_age.get() else timedelta(days=settings.HISTORY_HORIZON_DAYS)


def _decode_items(
    body: Buffer, kind: DeviceKind | None, received_at: datetime, drops_optional: bool
) -> Decoded:
    items, is_array = split(with_quoted_nans(body, _ALL_OPTIONAL) if drops_optional else body)
    return _judged(items, kind, received_at, drops_optional, is_array)


def _decode_split_lines(
    lines: bytes, kind: DeviceKind | None, received_at: datetime, drops_optional: bool
) -> Decoded:
    text = with_quoted_nans(lines, _ALL_OPTIONAL) if drops_optional else lines
    return _judged(text.split(b"\n"), kind, received_at, drops_optional)


def _judged(
    items: list[bytes],
    kind: DeviceKind | None,
    received_at: datetime,
    drops_optional: bool,
    is_array: bool = True,
) -> Decoded:
    """Decode `items` one by one; skip empty ones, such as blank lines."""
    decoded = Decoded([], [], [], is_array)
    indexes: list[int] = []
    for index, item in enumerate(items):
        if not item or item.isspace():
            continue
        result, dropped = _decode_item(item, kind, received_at, drops_optional)
        decoded.dropped += [_at(index, error) for error in dropped]
        if isinstance(result, FieldError):
            _refuse(decoded, index, result)
        else:
            decoded.readings.append(result)
            indexes.append(index)
    decoded.indexes = indexes
    return decoded


def _refuse(decoded: Decoded, index: int, error: FieldError) -> None:
    decoded.errors.append(_at(index, error))
    if isinstance(error, _TooNew):
        decoded.too_new.append(error.reading)
    elif isinstance(error, _NoId):
        decoded.strangers.append(Stranger(decoded.errors[-1], error.reading, error.problem))


def _no_id(reading: Reading, kind: DeviceKind, problem: FieldError | None = None) -> _NoId:
    field = f"{kind}Id"
    message = f"{field} must be {DEVICE_ID_RULE}"
    return _NoId(field, "invalid_format", message, reading, problem)


def _at(index: int, error: FieldError) -> ItemError:
    return ItemError(index, error.field, error.code, error.message)


def _decode_item(
    item: bytes, kind: DeviceKind | None, received_at: datetime, drops_optional: bool
) -> tuple[Reading | FieldError, list[FieldError]]:
    """Return the reading or its error, and what is wrong with the fields that were left out."""
    if kind is None:
        told = _kind_told(item)
        if isinstance(told, FieldError):
            return told, []
        kind = told
    dropped: list[FieldError] = []
    try:
        require_utf8(item)
        reading = _items[kind].decode(item)
    except DECODE_ERRORS as error:
        if not drops_optional:
            return field_error(error, STRUCTS[kind]), []
        result, dropped = decode_without_invalid(
            item, error, _items[kind].decode, STRUCTS[kind], OPTIONAL_FIELDS[kind]
        )
        if isinstance(result, FieldError):
            return result, []
        reading = result
    return _problem(reading, item, kind, received_at) or reading, dropped


def _kind_told(item: bytes) -> DeviceKind | FieldError:
    try:
        require_utf8(item)
        told = _kind_of.decode(item)
    except DECODE_ERRORS as error:
        problem = field_error(error, _KindOf)
        if problem.field == "type":
            problem.message = "type must be meter or vehicle"
        return problem
    if told.type is not msgspec.UNSET:
        return DeviceKind(told.type)
    has_meter, has_vehicle = (
        given is not msgspec.UNSET and bytes(given) != b"null"
        for given in (told.meter_id, told.vehicle_id)
    )
    if has_meter == has_vehicle:
        which = "both meterId and" if has_meter else "neither meterId nor"
        message = f"a reading with {which} vehicleId needs a type: meter or vehicle"
        return FieldError("type", "unknown_kind", message)
    return DeviceKind.METER if has_meter else DeviceKind.VEHICLE


def _problem(
    reading: Reading, item: bytes, kind: DeviceKind, received_at: datetime
) -> FieldError | None:
    """Stamp the time of a reading that msgspec accepted; return the error that it has, if any."""
    problem = _problem_of_time(reading, item, received_at)
    if not are_device_ids([device_id(reading)]):
        return _no_id(reading, kind, problem)
    return problem


def _problem_of_time(reading: Reading, item: bytes, received_at: datetime) -> FieldError | None:
    if reading.measured_at is None:
        reading.measured_at = received_at
    elif _finer_than_microseconds.search(_timestamp_of.decode(item).timestamp.encode()):
        message = f"timestamp must be {rule(type(reading), 'timestamp')}"
        return FieldError("timestamp", "invalid_format", message)
    elif offsets := _offsets.get():
        _correct_clocks([reading], offsets)
    if reading.measured_at > received_at + MAX_AHEAD:
        message = "timestamp must be at most 10 minutes ahead of the server"
        return _TooNew("timestamp", "out_of_range", message, reading)
    if reading.measured_at < received_at - _horizon():
        limit = f"{settings.HISTORY_HORIZON_DAYS} days old (HISTORY_HORIZON_DAYS)"
        message = f"timestamp must be at most {limit}"
        return FieldError("timestamp", "out_of_range", message)
    return None
