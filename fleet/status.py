"""The live state of a device, as sent over the wire."""

from datetime import datetime
from typing import Annotated

import msgspec

from fleet.models import Meter, MeterLiveState, Vehicle, VehicleLiveState

# For clients of other implementations of this API.
LastUpdatedAt = Annotated[
    datetime | None,
    msgspec.Meta(
        description="Same as timestamp; use that instead.", extra_json_schema={"deprecated": True}
    ),
]


class MeterStatus(msgspec.Struct):
    """The live state of a meter: the last known value of each field, null if never sent."""

    meter_id: str = msgspec.field(name="meterId")
    energy_ac_kwh: float | None = msgspec.field(name="kwhConsumedAc", default=None)
    voltage_v: float | None = msgspec.field(name="voltage", default=None)
    measured_at: datetime | None = msgspec.field(name="timestamp", default=None)
    received_at: datetime | None = msgspec.field(name="receivedAt", default=None)
    updated_at: LastUpdatedAt = msgspec.field(name="lastUpdatedAt", default=None)

    def __post_init__(self) -> None:
        self.updated_at = self.measured_at


class VehicleStatus(msgspec.Struct):
    """The live state of a vehicle: the last known value of each field, null if never sent."""

    vehicle_id: str = msgspec.field(name="vehicleId")
    soc_percent: float | None = msgspec.field(name="soc", default=None)
    energy_dc_kwh: float | None = msgspec.field(name="kwhDeliveredDc", default=None)
    battery_temp_celsius: float | None = msgspec.field(name="batteryTemp", default=None)
    measured_at: datetime | None = msgspec.field(name="timestamp", default=None)
    received_at: datetime | None = msgspec.field(name="receivedAt", default=None)
    updated_at: LastUpdatedAt = msgspec.field(name="lastUpdatedAt", default=None)

    def __post_init__(self) -> None:
        self.updated_at = self.measured_at


def meter_status(meter_id: str) -> MeterStatus | None:
    """Return the live state of a meter; None if the meter is unknown."""
    live_state = MeterLiveState.objects.filter(pk=meter_id).first()
    if live_state is not None:
        return msgspec.convert(live_state, MeterStatus, from_attributes=True)
    known = Meter.objects.filter(pk=meter_id).exists()
    return MeterStatus(meter_id) if known else None


def vehicle_status(vehicle_id: str) -> VehicleStatus | None:
    """Return the live state of a vehicle; None if the vehicle is unknown."""
    live_state = VehicleLiveState.objects.filter(pk=vehicle_id).first()
    if live_state is not None:
        return msgspec.convert(live_state, VehicleStatus, from_attributes=True)
    known = Vehicle.objects.filter(pk=vehicle_id).exists()
    return VehicleStatus(vehicle_id) if known else None
