"""Record readings: the only writer of history and live state.

One prepared statement per kind appends history, moves live state forward and registers devices
that are new, for any number of readings.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import psycopg
from django.conf import settings
from django.db import IntegrityError, transaction

from fleet.models import Meter, Vehicle
from fleet.statements import Statement
from ingestion.partitions import ensure_partitions
from ingestion.readings import Kind, MeterReading, Reading, VehicleReading

_SQL: Final = Path(__file__).parent / "sql"


class UnknownDevices(Exception):
    """Readings of devices that are not in the registry, under INGEST_UNKNOWN_DEVICES=reject.

    Nothing of the call was recorded; `device_ids` holds the unknown ids by kind.
    """

    def __init__(self, device_ids: dict[Kind, set[str]]) -> None:
        super().__init__("unknown devices")
        self.device_ids = device_ids


@dataclass(frozen=True)
class _Stream:
    """How the readings of one kind are written."""

    kind: Kind
    reading: type[Reading]
    registry: type[Meter | Vehicle]
    statement: Statement
    id_field: str
    energy_field: str
    # What a reading may leave out; live state then keeps the last known value.
    optional_fields: tuple[str, ...]

    @property
    def device_id(self) -> Callable[[Reading], str]:
        return attrgetter(self.id_field)


# Every transaction writes in this order, so that none waits for another in a circle.
_STREAMS: Final = (
    _Stream(
        kind=Kind.METER,
        reading=MeterReading,
        registry=Meter,
        statement=Statement(_SQL / "record_meter_readings.sql"),
        id_field="meter_id",
        energy_field="energy_ac_kwh",
        optional_fields=("voltage_v",),
    ),
    _Stream(
        kind=Kind.VEHICLE,
        reading=VehicleReading,
        registry=Vehicle,
        statement=Statement(_SQL / "record_vehicle_readings.sql"),
        id_field="vehicle_id",
        energy_field="energy_dc_kwh",
        optional_fields=("soc_percent", "battery_temp_celsius"),
    ),
)


def record(readings: Sequence[Reading], received_at: datetime) -> None:
    """Append every reading to history and move live state forward, in one transaction.

    Shape: any length, any order, both kinds, each with `measured_at`; a repeat is appended again,
    and of two with one timestamp the later in `readings` counts. Committed on return, unless the
    caller has a transaction open. Makes missing partitions.
    Errors: `UnknownDevices`; `django.db.OperationalError` when the database is away, full or out of
    connections: nothing was committed as far as we know, and it is safe to call again.
    """
    try:
        _write(readings, received_at)
    except IntegrityError as error:
        if not _is_missing_partition(error):
            raise
        ensure_partitions({reading.measured_at for reading in readings if reading.measured_at})
        _write(readings, received_at)


def _write(readings: Sequence[Reading], received_at: datetime) -> None:
    register = settings.INGEST_UNKNOWN_DEVICES == "register"
    rounds = [
        (stream, part)
        for stream in _STREAMS
        for part in _rounds([r for r in readings if type(r) is stream.reading], stream)
    ]
    # A single statement is a transaction of its own: no round trips for BEGIN and COMMIT.
    alone = register and len(rounds) == 1
    with nullcontext() if alone else transaction.atomic():
        new_ids: dict[Kind, set[str]] = {stream.kind: set() for stream in _STREAMS}
        for stream, part in rounds:
            rows = stream.statement.rows(_columns(part, stream, received_at, register))
            new_ids[stream.kind].update(row.device_id for row in rows)
        if not register:
            _require_known(new_ids)


def _rounds(readings: list[Reading], stream: _Stream) -> list[list[Reading]]:
    """Sort `readings` and cut them so that, in each part, only a device's last one matters to live
    state.

    One part, nearly always. More where a device's newest reading lacks a field that an earlier one
    of the same call carries: live state has to see that one first.
    """
    if not readings:
        return []
    readings = sorted(readings, key=attrgetter(stream.id_field, "measured_at"))
    if len({*map(stream.device_id, readings)}) == len(readings):
        return [readings]
    rounds: list[list[Reading]] = [[] for _ in range(len(stream.optional_fields) + 1)]
    for _, of_device in groupby(readings, key=stream.device_id):
        for number, part in enumerate(_parts(list(of_device), stream.optional_fields)):
            rounds[number].extend(part)
    return [part for part in rounds if part]


def _parts(of_device: list[Reading], optional_fields: tuple[str, ...]) -> Iterator[list[Reading]]:
    """Cut one device's readings, oldest first, after the last one to carry each optional field."""
    end = len(of_device)
    cuts = {end}
    for field in optional_fields:
        index = end - 1
        while index >= 0 and getattr(of_device[index], field) is None:
            index -= 1
        if index >= 0:
            cuts.add(index + 1)
    start = 0
    for cut in sorted(cuts):
        yield of_device[start:cut]
        start = cut


def _columns(
    readings: list[Reading], stream: _Stream, received_at: datetime, register: bool
) -> dict[str, Any]:
    ids = [*map(stream.device_id, readings)]
    columns: dict[str, Any] = {
        field: [*map(attrgetter(field), readings)]
        for field in ("measured_at", stream.energy_field, *stream.optional_fields)
    }
    columns[f"{stream.id_field}s"] = ids
    columns["is_newest"] = [*map(str.__ne__, ids, [*ids[1:], ""])]
    return columns | {"received_at": received_at, "register": register}


def _require_known(new_ids: dict[Kind, set[str]]) -> None:
    """Errors: `UnknownDevices`, when devices that were new to live state are not registered."""
    unknown = {}
    for stream in _STREAMS:
        ids = new_ids[stream.kind]
        known = stream.registry.objects.filter(pk__in=ids).values_list("pk", flat=True)
        unknown[stream.kind] = ids - set(known) if ids else ids
    if any(unknown.values()):
        raise UnknownDevices(unknown)


def _is_missing_partition(error: IntegrityError) -> bool:
    """Tell a row that no partition takes from one that breaks a named constraint."""
    cause = error.__cause__
    return isinstance(cause, psycopg.errors.CheckViolation) and cause.diag.constraint_name is None
