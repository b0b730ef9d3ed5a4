"""Record readings: the only writer of history and live state.

One prepared statement per kind appends history, moves live state forward and registers new devices,
for any number of readings.

Readings are msgspec structs rather than DRF serializers, because decoding and validating 1,000 of
them takes 0.5 ms instead of 22 ms. The models are those of django-postgres-extra, but the hot
upsert does not use its `on_conflict(…).bulk_insert`, which binds every value of every row. Writing
1,000 readings to both tables takes 54 ms that way, and 10 ms with the set-based statements in
`sql/`.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.db import IntegrityError, transaction
from msgspec.structs import astuple
from psycopg.errors import NotNullViolation

from fleet.counters import READINGS
from fleet.models import Meter, Vehicle
from fleet.stores.statements import Statement
from ingestion.history.partitions import ensure_partitions, is_missing_partition
from ingestion.look_alikes import warn_of_look_alikes
from ingestion.readings import DeviceKind, MeterReading, Reading, VehicleReading
from ingestion.sql import STATEMENTS

# A reading as a row: id, energy, optional values, `measured_at`, `received_at`.
_Row = tuple[Any, ...]
_OPTIONAL_VALUES: Final = slice(2, -2)
_ID_AND_TIMES: Final = itemgetter(0, -2, -1)


class UnknownDevices(Exception):
    """Readings of devices that are not in the registry, under INGEST_UNKNOWN_DEVICES=reject.

    Nothing of the call was recorded; `device_ids` holds the unknown ids by kind.
    """

    def __init__(self, device_ids: dict[DeviceKind, set[str]]) -> None:
        super().__init__("unknown devices")
        self.device_ids = device_ids

    def has(self, kind: DeviceKind, device_id: str) -> bool:
        return device_id in self.device_ids[kind]


class ExternalIdsGiven(Exception):
    """Readings carry external ids in place of ids; nothing of the call was recorded."""


class Batch(NamedTuple):
    """Readings that arrived together, each with `measured_at`."""

    readings: Sequence[Reading]
    received_at: datetime


@dataclass(frozen=True)
class _KindWriter:
    """How the readings of one kind are written: columns are the fields of its struct, in order."""

    kind: DeviceKind
    reading: type[Reading]
    registry: type[Meter | Vehicle]
    statement: Statement
    stored: Any

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.reading.__struct_fields__, "received_at")


# Every transaction writes in this order, so that no two can deadlock.
_WRITERS: Final = (
    _KindWriter(
        DeviceKind.METER,
        MeterReading,
        Meter,
        Statement(STATEMENTS / "record_meter_readings.sql"),
        READINGS.labels(DeviceKind.METER, "stored"),
    ),
    _KindWriter(
        DeviceKind.VEHICLE,
        VehicleReading,
        Vehicle,
        Statement(STATEMENTS / "record_vehicle_readings.sql"),
        READINGS.labels(DeviceKind.VEHICLE, "stored"),
    ),
)


def record(readings: Sequence[Reading], received_at: datetime) -> None:
    """Record one batch; see `record_all`."""
    record_all([Batch(readings, received_at)])


def record_all(batches: Sequence[Batch]) -> None:
    """Append every reading to history and move live state forward, in one transaction.

    Shape: any number of batches of any length, any order, both kinds. A repeat is appended
    again; of two with one timestamp, the one received last counts or, if received together, the
    later one. Committed on return, unless the caller has a transaction open. Creates missing
    partitions.
    Errors: `UnknownDevices`, `ExternalIdsGiven`; `django.db.OperationalError` if the database is
    unavailable, full or out of connections: as far as we know nothing was committed, and it is safe
    to call again.
    """
    try:
        _write(batches)
    except IntegrityError as error:
        if not is_missing_partition(error):
            raise
        ensure_partitions(
            {
                reading.measured_at
                for batch in batches
                for reading in batch.readings
                if reading.measured_at
            }
        )
        _write(batches)


def _write(batches: Sequence[Batch]) -> None:
    """Errors: `ExternalIdsGiven`, `UnknownDevices`, `IntegrityError` if a partition is missing."""
    try:
        new_ids = _written(batches)
    except IntegrityError as error:
        if _is_of_external_id(error):
            raise ExternalIdsGiven from None
        raise
    for kind, ids in new_ids.items():
        if ids:
            warn_of_look_alikes(kind, ids)


def _written(batches: Sequence[Batch]) -> dict[DeviceKind, set[str]]:
    """Write the batches; return the ids of new devices by kind."""
    register = settings.INGEST_UNKNOWN_DEVICES == "register"
    rounds = [
        (writer, rows) for writer in _WRITERS for rows in _rounds(_rows(batches, writer.reading))
    ]
    # A single statement is a transaction of its own: no round trips for BEGIN and COMMIT.
    alone = register and len(rounds) == 1
    with nullcontext() if alone else transaction.atomic():
        new_ids: dict[DeviceKind, set[str]] = {writer.kind: set() for writer in _WRITERS}
        for writer, rows in rounds:
            new = writer.statement.rows(_parameters(rows, writer, register))
            new_ids[writer.kind].update(row.device_id for row in new)
        if not register:
            _require_known(new_ids)
    for writer, rows in rounds:
        writer.stored.inc(len(rows))
    return new_ids


def _is_of_external_id(error: IntegrityError) -> bool:
    """Return whether a statement failed because an unknown id is another device's external id."""
    cause: Any = error.__cause__
    return isinstance(cause, NotNullViolation) and (
        cause.diag.table_name,
        cause.diag.column_name,
    ) in {(w.registry._meta.db_table, w.registry._meta.pk.column) for w in _WRITERS}


def _rows(batches: Sequence[Batch], kind: type[Reading]) -> list[_Row]:
    """Return the readings of one kind as rows: id, energy, optional values, both times."""
    return [
        (*astuple(reading), batch.received_at)
        for batch in batches
        for reading in batch.readings
        if type(reading) is kind
    ]


def _rounds(rows: list[_Row]) -> list[list[_Row]]:
    """Sort `rows` and split them so that only a device's last row in a part affects live state.

    Nearly always, there is one part. There are more if a device's newest reading lacks a value that
    an earlier one of the same call carries: live state needs the earlier one first.
    """
    if not rows:
        return []
    rows.sort(key=_ID_AND_TIMES)
    if len({row[0] for row in rows}) == len(rows):
        return [rows]
    rounds: list[list[_Row]] = [[] for _ in range(len(rows[0]))]
    for _, of_device in groupby(rows, key=itemgetter(0)):
        for number, part in enumerate(_parts(list(of_device))):
            rounds[number].extend(part)
    return [part for part in rounds if part]


def _parts(of_device: list[_Row]) -> Iterator[list[_Row]]:
    """Split one device's rows, oldest first, after the last one with each optional value."""
    cuts = {len(of_device)}
    for values in zip(*(row[_OPTIONAL_VALUES] for row in of_device), strict=True):
        carrying = len(values)
        while carrying and values[carrying - 1] is None:
            carrying -= 1
        cuts.add(carrying or len(values))
    start = 0
    for cut in sorted(cuts):
        yield of_device[start:cut]
        start = cut


def _parameters(rows: list[_Row], writer: _KindWriter, register: bool) -> dict[str, Any]:
    parameters: dict[str, Any] = dict(
        zip(writer.columns, map(list, zip(*rows, strict=True)), strict=True)
    )
    ids = [row[0] for row in rows]
    parameters["is_newest"] = [*map(str.__ne__, ids, [*ids[1:], ""])]
    parameters["register"] = register
    parameters["ignore_case"] = settings.EXTERNAL_IDS_IGNORE_CASE
    return parameters


def _require_known(new_ids: dict[DeviceKind, set[str]]) -> None:
    """Errors: `UnknownDevices`, if devices without live state are not registered either."""
    unknown = {}
    for writer in _WRITERS:
        ids = new_ids[writer.kind]
        known = writer.registry.objects.filter(pk__in=ids).values_list("pk", flat=True)
        unknown[writer.kind] = ids - set(known) if ids else ids
    if any(unknown.values()):
        raise UnknownDevices(unknown)
