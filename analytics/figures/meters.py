"""What a meter drew over a window, and for which vehicles."""

from typing import NamedTuple

from analytics import formulas
from analytics.figures.accounts import accounts, with_coverage
from analytics.figures.energy import Energy, Span, meter_energies
from analytics.figures.links import links_in
from analytics.figures.unlinked import unlinked_energy
from analytics.figures.window import Window
from fleet.models import VehicleMeterLink


class Served(NamedTuple):
    """A vehicle that was linked to the meter: its share of the AC, and its DC of that time."""

    vehicle_id: str
    energy_ac_kwh: float
    energy_dc_kwh: float
    silent_dc_kwh: float

    @property
    def efficiency_percent(self) -> float | None:
        return formulas.efficiency_percent(self.energy_dc_kwh, self.energy_ac_kwh)


class MeterAccount(NamedTuple):
    """The AC of a meter over a window, and the shares of the linked vehicles, largest first."""

    ac: Energy
    served: list[Served]

    @property
    def coverage(self) -> float | None:
        """Return the part of the vehicles' DC that they took while the meter reported."""
        silent_dc_kwh = sum(part.silent_dc_kwh for part in self.served)
        return formulas.coverage(self.linked_dc_kwh, silent_dc_kwh, self.ac.readings)

    @property
    def linked_ac_kwh(self) -> float:
        return sum(part.energy_ac_kwh for part in self.served)

    @property
    def linked_dc_kwh(self) -> float:
        return sum(part.energy_dc_kwh for part in self.served)

    @property
    def efficiency_percent(self) -> float | None:
        return formulas.efficiency_percent(self.linked_dc_kwh, self.linked_ac_kwh)


def meter_account(meter_id: str, window: Window) -> MeterAccount:
    """Return what a meter drew over `window`, and for whom; at least five statements.

    A vehicle's share is what its own figure includes of this meter.
    """
    span = Span(meter_id, window.starts_at, window.ends_at)
    ac = meter_energies([span]).get(span, Energy())
    return MeterAccount(ac, _served(meter_id, window))


def _served(meter_id: str, window: Window) -> list[Served]:
    linked = VehicleMeterLink.objects.filter(
        meter_id=meter_id, valid_during__overlap=(window.starts_at, window.ends_at)
    )
    vehicle_ids = sorted(set(linked.values_list("vehicle_id", flat=True)))
    links = {
        vehicle_id: [link for link in of_vehicle if link.meter.device_id == meter_id]
        for vehicle_id, of_vehicle in links_in(window, vehicle_ids).items()
    }
    asked = [(vehicle_id, window) for vehicle_id in links]
    found = with_coverage(accounts(asked, links, window, unlinked_energy))
    served = [
        Served(
            account.vehicle.device_id,
            sum(part.energy_ac_kwh for part in account.parts),
            sum(part.energy_dc_kwh for part in account.parts),
            sum(part.silent_dc_kwh for part in account.parts),
        )
        for account in found
    ]
    return sorted(served, key=lambda part: (-part.energy_ac_kwh, part.vehicle_id))
