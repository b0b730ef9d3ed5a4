"""What all files of readings share: the formats, and the fields of a reading in a file."""

from datetime import datetime
from typing import Final

import msgspec

from ingestion.readings import DeviceKind, MeterReading, VehicleReading

_ENDINGS: Final = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".ndjson": "ndjson",
    ".ndjson.gz": "ndjson",
    ".jsonl": "ndjson",
    ".jsonl.gz": "ndjson",
    ".parquet": "parquet",
}
ID_FIELDS: Final = ("meterId", "vehicleId")
TEXT_FIELDS: Final = (*ID_FIELDS, "timestamp", "type")
RECEIVED_AT: Final = "receivedAt"


class Unreadable(Exception):
    """The file can't be read, or not any further; the message says why."""


def format_of(name: str) -> str:
    """Return the format that a file's extension names. Errors: `Unreadable`."""
    for ending, file_format in _ENDINGS.items():
        if name.lower().endswith(ending):
            return file_format
    raise Unreadable(f"{name}: the name must end in one of {', '.join(_ENDINGS)}")


class MeterDelivery(MeterReading, omit_defaults=True):
    """A meter's reading, and when the server received it."""

    received_at: datetime | None = msgspec.field(name=RECEIVED_AT, default=None)


class VehicleDelivery(VehicleReading, omit_defaults=True):
    """A vehicle's reading, and when the server received it."""

    received_at: datetime | None = msgspec.field(name=RECEIVED_AT, default=None)


DELIVERIES: Final[dict[DeviceKind, type[MeterDelivery | VehicleDelivery]]] = {
    DeviceKind.METER: MeterDelivery,
    DeviceKind.VEHICLE: VehicleDelivery,
}


def wire_names(kind: DeviceKind) -> list[str]:
    """Return the names of a kind's fields in a file, in order."""
    return [f.encode_name for f in msgspec.structs.fields(DELIVERIES[kind])]


_NUMBER_FIELDS: Final = {
    name
    for kind in DeviceKind
    for name in wire_names(kind)
    if name not in (*TEXT_FIELDS, RECEIVED_AT)
}
KNOWN_FIELDS: Final = {*TEXT_FIELDS, *_NUMBER_FIELDS}
