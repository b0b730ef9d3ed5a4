"""Energy of the devices that have no link: what a vehicle without one has a share of."""

from pathlib import Path
from typing import Final

import msgspec

from analytics.energy import Span, meter_energies, vehicle_energies
from analytics.window import Window
from fleet.statements import Statement

_unlinked_devices: Final = Statement(Path(__file__).parent / "sql" / "unlinked_devices.sql")


class FleetEnergy(msgspec.Struct):
    """AC and DC, in kWh, of all meters and vehicles without a link at any time of a window."""

    energy_ac_kwh: float
    energy_dc_kwh: float
    meter_readings: int


def unlinked_energy(window: Window, least_dc_kwh: float = 0.0) -> FleetEnergy:
    """Return the energy of the devices without a link in `window`; three statements.

    It is of this moment, so `least_dc_kwh`, the DC of a vehicle that has a share of it, is in it.
    """
    (devices,) = _unlinked_devices.rows({"starts_at": window.starts_at, "ends_at": window.ends_at})
    ac = meter_energies(_spans(devices.meter_ids, window)).values()
    dc = vehicle_energies(_spans(devices.vehicle_ids, window)).values()
    return FleetEnergy(
        sum(energy.energy_kwh for energy in ac),
        sum(energy.energy_kwh for energy in dc),
        sum(energy.readings for energy in ac),
    )


def _spans(device_ids: list[str], window: Window) -> list[Span]:
    return [Span(device_id, window.starts_at, window.ends_at) for device_id in device_ids]
