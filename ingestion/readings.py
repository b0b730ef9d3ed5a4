"""Readings on the wire, as msgspec structs; no database, no requests or responses.

The structs are the only description of the wire format: decoding, error messages and the OpenAPI
document come from them.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from fleet.device_ids import DEVICE_ID_MAX_LENGTH, DEVICE_ID_PATTERN, DEVICE_ID_RULE
from fleet.http.wire import FieldError

# Of a stream or a file; no reading is nearly as long.
MAX_LINE_BYTES: Final = 64 * 1024
MAX_AHEAD: Final = timedelta(minutes=10)

DeviceId = Annotated[
    str,
    msgspec.Meta(
        # Checked for the whole batch at once, by `are_device_ids`; what is no id may be the
        # external id of a device, which may be any text.
        extra_json_schema={
            "pattern": f"^{DEVICE_ID_PATTERN}$",
            "minLength": 1,
            "maxLength": DEVICE_ID_MAX_LENGTH,
        },
        extra={"rule": DEVICE_ID_RULE},
    ),
]
EnergyKwh = Annotated[
    float,
    msgspec.Meta(
        ge=0,
        le=1e9,
        description="kWh since the previous reading; for a counter, the register's value",
        examples=[0.25],
    ),
]
VoltageV = Annotated[float, msgspec.Meta(ge=0, le=1e6, description="V", examples=[231.4])]
SocPercent = Annotated[float, msgspec.Meta(ge=0, le=100, description="percent", examples=[81])]
BatteryTempCelsius = Annotated[
    float, msgspec.Meta(ge=-100, le=200, description="°C", examples=[32])
]
Timestamp = Annotated[
    datetime,
    msgspec.Meta(
        tz=True,
        description="when the device measured, at most 10 minutes ahead of the server; if absent, "
        "the time of receipt",
    ),
]


class DeviceKind(StrEnum):
    """The two kinds of devices."""

    METER = "meter"
    VEHICLE = "vehicle"


class MeterReading(msgspec.Struct, gc=False):
    """AC energy that a charger drew."""

    meter_id: Annotated[DeviceId, msgspec.Meta(examples=["M123"])] = msgspec.field(name="meterId")
    energy_ac_kwh: EnergyKwh = msgspec.field(name="kwhConsumedAc")
    voltage_v: VoltageV | None = msgspec.field(name="voltage", default=None)
    measured_at: Timestamp | None = msgspec.field(name="timestamp", default=None)


class VehicleReading(msgspec.Struct, gc=False):
    """DC energy delivered to a vehicle's battery."""

    vehicle_id: Annotated[DeviceId, msgspec.Meta(examples=["V123"])] = msgspec.field(
        name="vehicleId"
    )
    energy_dc_kwh: EnergyKwh = msgspec.field(name="kwhDeliveredDc")
    soc_percent: SocPercent | None = msgspec.field(name="soc", default=None)
    battery_temp_celsius: BatteryTempCelsius | None = msgspec.field(
        name="batteryTemp", default=None
    )
    measured_at: Timestamp | None = msgspec.field(name="timestamp", default=None)


Reading = MeterReading | VehicleReading
# What is added to the timestamps of devices whose clock is wrong, by kind and id.
Offsets = Mapping[DeviceKind, Mapping[str, timedelta]]


class ItemError(msgspec.Struct):
    """Why the item at `index` of the body was rejected."""

    index: int
    field: str | None
    code: str
    message: str


class Stranger(msgspec.Struct):
    """A reading whose id is not well-formed: `error` says so, unless it is an external id.

    `problem` is what else is wrong with it.
    """

    error: ItemError
    reading: Reading
    problem: FieldError | None = None


class Decoded(msgspec.Struct):
    """A decoded body: `readings[i]` was its item `indexes[i]`; the other items are `errors`.

    `too_new` has the readings among the errors that are valid except for being too far ahead.
    `strangers` has those among them that an external id would make valid. `dropped` has the invalid
    optional fields that the readings were decoded without.
    """

    readings: list[Reading]
    indexes: Sequence[int]
    errors: list[ItemError]
    is_array: bool
    too_new: list[Reading] = []
    strangers: list[Stranger] = []
    dropped: list[ItemError] = []


STRUCTS: Final[dict[DeviceKind, type[Reading]]] = {
    DeviceKind.METER: MeterReading,
    DeviceKind.VEHICLE: VehicleReading,
}
# A reading that can do without its timestamp can't do with a wrong one.
OPTIONAL_FIELDS: Final = {
    kind: {
        field.encode_name
        for field in msgspec.structs.fields(struct)
        if not field.required and field.name != "measured_at"
    }
    for kind, struct in STRUCTS.items()
}


def device_id(reading: Reading) -> str:
    """Return the id of the device that measured `reading`."""
    return reading.meter_id if isinstance(reading, MeterReading) else reading.vehicle_id
