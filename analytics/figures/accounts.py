"""What the figures of vehicles are calculated from: energies, links and shares, over windows."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final, Literal, NamedTuple

from analytics.figures.coverage import Pair, silent_energies
from analytics.figures.energy import Energy, Span, meter_energies, vehicle_energies
from analytics.figures.links import LinkInWindow, Slice, pieces, slices
from analytics.figures.sharing import Shares, shared_energies
from analytics.figures.unlinked import FleetEnergy
from analytics.figures.window import Window

AcSource = Literal["linked", "shared", "fleet", "none"]

_NOTHING: Final = Energy()


class Part(NamedTuple):
    """A slice of a meter: its AC, the vehicle's share of it, and the vehicle's DC, in kWh.

    `silent_ac_kwh` is the part of the share that flowed while the vehicle was silent,
    `silent_dc_kwh` the part of the DC that was taken while the meter was.
    """

    slice: Slice
    meter: Energy
    vehicle: Energy
    energy_ac_kwh: float
    silent_ac_kwh: float = 0.0
    silent_dc_kwh: float = 0.0

    @property
    def energy_dc_kwh(self) -> float:
        return self.vehicle.energy_kwh


class Account(NamedTuple):
    """Everything that a figure is calculated from."""

    vehicle: Span
    source: AcSource
    dc: Energy
    parts: list[Part]
    fleet: FleetEnergy | None


# Returns the energy of the devices without a link over a window, with at least this DC (kWh).
Unlinked = Callable[[Window, float], FleetEnergy]


def accounts(
    asked: Sequence[tuple[str, Window]],
    links: dict[str, list[LinkInWindow]],
    around: Window,
    unlinked: Unlinked,
) -> list[Account]:
    """Return what the figures of vehicles over windows are calculated from, without coverage.

    `links` are those of the vehicles in `around`, a window that contains all others. A vehicle
    without a link in `around` shares the AC of the meters without one over all of `around`. So the
    figures of windows that together cover `around` add up to its figure. Two statements in all, if
    all registers are intervals and no meter is shared.
    """
    whole = {vehicle_id: slices(of_vehicle) for vehicle_id, of_vehicle in links.items()}
    of_asked = [pieces(whole[vehicle_id], window) for vehicle_id, window in asked]
    spans = [Span(vehicle_id, window.starts_at, window.ends_at) for vehicle_id, window in asked]
    # A vehicle that is alone at its meter for the whole window is queried once.
    compared = (
        [cut.of(span.device_id) for cut in cuts] for span, cuts in zip(spans, of_asked, strict=True)
    )
    dc = vehicle_energies(chain(spans, *compared))
    ac = meter_energies(cut.meter for cuts in of_asked for cut in cuts)
    shares = shared_energies(cut for cuts in of_asked for cut in cuts)
    unlinked_spans = {span for span in spans if not links[span.device_id]}
    # A stored total that is less than a vehicle's own DC is older than the vehicle's last readings.
    own_dc_kwh = max((dc[span].energy_kwh for span in unlinked_spans), default=0.0)
    fleet = unlinked(around, own_dc_kwh) if unlinked_spans else None
    return [
        _account(
            span,
            [_part(span.device_id, cut, dc, ac, shares) for cut in cuts],
            dc[span],
            fleet if span in unlinked_spans else None,
        )
        for span, cuts in zip(spans, of_asked, strict=True)
    ]


def parts_of(cuts: Sequence[tuple[str, Slice]]) -> list[Part]:
    """Return vehicles' shares of slices and their DC, in order; two statements, as above."""
    dc = vehicle_energies(cut.of(vehicle_id) for vehicle_id, cut in cuts)
    ac = meter_energies(cut.meter for _, cut in cuts)
    shares = shared_energies(cut for _, cut in cuts)
    return [_part(vehicle_id, cut, dc, ac, shares) for vehicle_id, cut in cuts]


def _part(
    vehicle_id: str,
    cut: Slice,
    dc: dict[Span, Energy],
    ac: dict[Span, Energy],
    shares: dict[Slice, Shares],
) -> Part:
    meter = ac.get(cut.meter, _NOTHING)
    energy_ac_kwh = shares[cut][vehicle_id] if cut.is_shared else meter.energy_kwh
    return Part(cut, meter, dc[cut.of(vehicle_id)], energy_ac_kwh)


def _account(vehicle: Span, parts: list[Part], dc: Energy, fleet: FleetEnergy | None) -> Account:
    source: AcSource = "none"
    if parts:
        source = "shared" if any(part.slice.is_shared for part in parts) else "linked"
    elif fleet and (fleet.meter_readings or fleet.energy_ac_kwh) and (dc.readings or dc.energy_kwh):
        source = "fleet"
    return Account(vehicle, source, dc, parts, fleet if source == "fleet" else None)


def with_coverage(of_vehicles: Sequence[Account]) -> list[Account]:
    """Return accounts with the energies that flowed while a device was silent."""
    silent = iter(
        silent_energies(
            [
                Pair(
                    account.vehicle.device_id,
                    part.slice,
                    part.meter,
                    part.vehicle,
                    part.energy_ac_kwh,
                )
                for account in of_vehicles
                for part in account.parts
            ]
        )
    )
    return [
        account._replace(
            parts=[
                part._replace(silent_ac_kwh=energies[0], silent_dc_kwh=energies[1])
                for part, energies in zip(account.parts, silent, strict=False)
            ]
        )
        for account in of_vehicles
    ]
