"""Ids that went through a spreadsheet, or pandas, as numbers: 4103035.0, or 4.103035E+06."""

import re
from collections.abc import Container, Iterable
from typing import Final

from ingestion.readings import (
    Decoded,
    DeviceKind,
    ItemError,
    MeterReading,
    Reading,
    VehicleReading,
    device_id,
)

_as_number = re.compile(r"\d+\.0+|\d(?:\.\d+)?[eE]\+\d+|\d\.\d+[eE]\d+", re.ASCII)
_MESSAGE: Final = (
    "{field} was written as a number, as spreadsheets and pandas do (a whole number with .0, or "
    "with an exponent): format the column as text, and export the file again"
)
Device = tuple[DeviceKind, str]


def devices_of(readings: Iterable[Reading]) -> set[Device]:
    """Return the devices of the readings."""
    readings = list(readings)
    meters = {reading.meter_id for reading in readings if isinstance(reading, MeterReading)}
    vehicles = {reading.vehicle_id for reading in readings if isinstance(reading, VehicleReading)}
    return {(DeviceKind.METER, id_) for id_ in meters} | {
        (DeviceKind.VEHICLE, id_) for id_ in vehicles
    }


def written_as_numbers(readings: Iterable[Reading]) -> set[Device]:
    """Return the devices whose ids look as if they had been numbers for a while."""
    return {device for device in devices_of(readings) if _as_number.fullmatch(device[1])}


def refuse(decoded: Decoded, devices: Container[Device]) -> None:
    """Move the readings of `devices` to the errors, which say why."""
    kept = []
    for index, reading in zip(decoded.indexes, decoded.readings, strict=True):
        kind = DeviceKind.METER if isinstance(reading, MeterReading) else DeviceKind.VEHICLE
        if (kind, device_id(reading)) in devices:
            field = f"{kind}Id"
            message = _MESSAGE.format(field=field)
            decoded.errors.append(ItemError(index, field, "invalid_format", message))
        else:
            kept.append((index, reading))
    decoded.indexes = [index for index, _ in kept]
    decoded.readings = [reading for _, reading in kept]
    decoded.errors.sort(key=lambda error: error.index)
