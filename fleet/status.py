"""The last known state of a device, as it goes over the wire."""

from datetime import datetime
from typing import Annotated

import msgspec

from fleet.models import Meter, MeterLiveState, Vehicle, VehicleLiveState

# For clients of other implementations of this API.
LastUpdatedAt = Annotated[
    datetime | None,
    msgspec.Meta(description="Use timestamp: the same.", extra_json_schema={"deprecated": True}),
]


class MeterStatus(msgspec.Struct):
    """The newest reading of a meter; nulls where it has sent none."""

    meter_id: str = msgspec.field(name="meterId")
    energy_ac_kwh: float | None = msgspec.field(name="kwhConsumedAc", default=None)
    voltage_v: float | None = msgspec.field(name="voltage", default=None)
    measured_at: datetime | None = msgspec.field(name="timestamp", default=None)
    received_at: datetime | None = msgspec.field(name="receivedAt", default=None)
    updated_at: LastUpdatedAt = msgspec.field(name="lastUpdatedAt", default=None)

    def __post_init__(self) -> None:
        self.updated_at = self.measured_at


class VehicleStatus(msgspec.Struct):
    """The newest reading of a vehicle, with the last known value of what it did not carry."""

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
    """Return the live state of a meter; None when it is unknown."""
    live_state = MeterLiveState.objects.filter(pk=meter_id).first()
    if live_state is not None:
        return msgspec.convert(live_state, MeterStatus, from_attributes=True)
    known = Meter.objects.filter(pk=meter_id).exists()
    return MeterStatus(meter_id) if known else None


def vehicle_status(vehicle_id: str) -> VehicleStatus | None:
    """Return the live state of a vehicle; None when it is unknown."""
    live_state = VehicleLiveState.objects.filter(pk=vehicle_id).first()
    if live_state is not None:
        return msgspec.convert(live_state, VehicleStatus, from_attributes=True)
    known = Vehicle.objects.filter(pk=vehicle_id).exists()
    return VehicleStatus(vehicle_id) if known else None
