"""Energy, efficiency and health of vehicles over windows of time."""

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from django.utils import timezone

from analytics import formulas
from analytics.figures.energy import Energy, Span, meter_energies, vehicle_energies
from analytics.figures.sharing import LinkInWindow, Slice, links_in, pieces, slices
from analytics.figures.unlinked import FleetEnergy, unlinked_energy
from analytics.figures.window import Window
from analytics.formulas import Health, Reason

AcSource = Literal["linked", "shared", "fleet", "none"]

_NOTHING: Final = Energy()


class UnknownVehicle(Exception):
    """A vehicle that is not in the registry."""


class Period(msgspec.Struct):
    """The window of a figure, half-open."""

    start: datetime
    end: datetime


class DataPoints(msgspec.Struct):
    """How many readings a figure uses, each timestamp counted once."""

    vehicle: int
    meter: int


class Coverage(msgspec.Struct):
    """Share of the readings expected by cadence that were received, 0 to 1; null if unknown."""

    vehicle: float | None
    meter: float | None


def _instead(name: str, unit: str = "the same value") -> msgspec.Meta:
    """Return the description of a deprecated field that `name` replaces."""
    return msgspec.Meta(description=f"Use {name}: {unit}.", extra_json_schema={"deprecated": True})


class Performance(msgspec.Struct):
    """How much AC was drawn for a vehicle, and how much of it arrived as DC.

    Energies are in kWh, efficiency in percent.
    """

    vehicle_id: str = msgspec.field(name="vehicleId")
    meter_id: str | None = msgspec.field(name="meterId")
    period: Period
    energy_ac_kwh: float = msgspec.field(name="energyConsumedAc")
    energy_dc_kwh: float = msgspec.field(name="energyDeliveredDc")
    efficiency_percent: float | None = msgspec.field(name="efficiencyRatio")
    battery_temp_celsius: float | None = msgspec.field(name="averageBatteryTemp")
    ac_source: AcSource = msgspec.field(name="acSource")
    health: Health
    reason: Reason | None
    data_points: DataPoints = msgspec.field(name="dataPoints")
    coverage: Coverage
    suspect_steps: int = msgspec.field(name="suspectSteps")
    # The figures above, under the names of other implementations of this API.
    former_energy_ac_kwh: Annotated[float, _instead("energyConsumedAc")] = msgspec.field(
        name="acEnergyConsumed"
    )
    former_energy_dc_kwh: Annotated[float, _instead("energyDeliveredDc")] = msgspec.field(
        name="dcEnergyDelivered"
    )
    efficiency: Annotated[float | None, _instead("efficiencyRatio", "this is 0 to 1")]
    former_battery_temp_celsius: Annotated[float | None, _instead("averageBatteryTemp")] = (
        msgspec.field(name="avgBatteryTemp")
    )


class Part(NamedTuple):
    """A slice of a meter, or a piece of one: its AC, the vehicle's share, and the vehicle's DC.

    `vehicles_dc_kwh` is the DC of all linked vehicles, over the whole slice.
    """

    slice: Slice
    meter: Energy
    share: float
    energy_dc_kwh: float
    vehicles_dc_kwh: float

    @property
    def energy_ac_kwh(self) -> float:
        return self.meter.energy_kwh * self.share


class Account(NamedTuple):
    """Everything that a figure is calculated from."""

    vehicle: Span
    source: AcSource
    dc: Energy
    parts: list[Part]
    fleet: FleetEnergy | None


# Returns the energy of the devices without a link over a window, with at least this DC (kWh).
Unlinked = Callable[[Window, float], FleetEnergy]


def vehicle_performance(
    vehicle_id: str, window: Window, unlinked: Unlinked = unlinked_energy
) -> Performance:
    """Return the figures of a vehicle over `window`, from history as it is now.

    Three statements if it is linked; if it is not, `unlinked` is called as well.
    Errors: `UnknownVehicle`.
    """
    return performance(vehicle_account(vehicle_id, window, unlinked))


def vehicle_account(vehicle_id: str, window: Window, unlinked: Unlinked) -> Account:
    """Return what a vehicle's figures over `window` are made of. Errors: `UnknownVehicle`."""
    links = links_in(window, [vehicle_id])
    if vehicle_id not in links:
        raise UnknownVehicle
    (account,) = accounts([(vehicle_id, window)], links, window, unlinked)
    return account


def accounts(
    asked: Sequence[tuple[str, Window]],
    links: dict[str, list[LinkInWindow]],
    around: Window,
    unlinked: Unlinked,
) -> list[Account]:
    """Return what the figures of vehicles over windows are calculated from; two statements in all.

    `links` are those of the vehicles in `around`, a window that contains all others. A shared meter
    is split by the slices of `around`. A vehicle without a link in `around` shares the AC of the
    meters without one over all of `around`. So the figures of windows that together cover `around`
    add up to its figure.
    """
    whole = {vehicle_id: slices(of_vehicle) for vehicle_id, of_vehicle in links.items()}
    of_asked = [pieces(whole[vehicle_id], window) for vehicle_id, window in asked]
    spans = [Span(vehicle_id, window.starts_at, window.ends_at) for vehicle_id, window in asked]
    # A vehicle that is alone at its meter for the whole window is queried once.
    dc = vehicle_energies(chain(spans, *map(_spans_compared, spans, of_asked)))
    ac = meter_energies([cut.meter for cuts in of_asked for cut in cuts])
    unlinked_spans = {span for span in spans if not links[span.device_id]}
    # A stored total that is less than a vehicle's own DC is older than the vehicle's last readings.
    own_dc_kwh = max((dc[span].energy_kwh for span in unlinked_spans), default=0.0)
    fleet = unlinked(around, own_dc_kwh) if unlinked_spans else None
    return [
        _account(span, cuts, dc, ac, fleet if span in unlinked_spans else None)
        for span, cuts in zip(spans, of_asked, strict=True)
    ]


def _spans_compared(vehicle: Span, cuts: Sequence[Slice]) -> list[Span]:
    return [span for cut in cuts for span in (cut.of(vehicle.device_id), *cut.sharers)]


def _account(
    vehicle: Span,
    cuts: Sequence[Slice],
    dc: dict[Span, Energy],
    ac: dict[Span, Energy],
    fleet: FleetEnergy | None,
) -> Account:
    parts = []
    for cut in cuts:
        taken = {span.device_id: dc.get(span, _NOTHING).energy_kwh for span in cut.sharers}
        all_taken = sum(taken.values())
        share = formulas.share(taken[vehicle.device_id], all_taken, len(taken))
        own = dc[cut.of(vehicle.device_id)].energy_kwh
        parts.append(Part(cut, ac.get(cut.meter, _NOTHING), share, own, all_taken))
    source: AcSource = "none"
    if parts:
        source = "shared" if any(cut.is_shared for cut in cuts) else "linked"
    elif fleet and fleet.meter_readings and dc[vehicle].readings:
        source = "fleet"
    return Account(vehicle, source, dc[vehicle], parts, fleet if source == "fleet" else None)


def performance(account: Account) -> Performance:
    """Return the figures that `account` adds up to."""
    vehicle, dc = account.vehicle, account.dc
    energy_ac_kwh, compared_dc_kwh = compared(account)
    efficiency = formulas.efficiency_percent(compared_dc_kwh, energy_ac_kwh)
    coverage = Coverage(
        formulas.coverage(dc.readings, _expected([(vehicle, dc)])),
        formulas.coverage(
            sum(part.meter.readings for part in account.parts),
            _expected([(part.slice.meter, part.meter) for part in account.parts]),
        ),
    )
    reason = formulas.why_unknown(efficiency, energy_ac_kwh, [coverage.vehicle, coverage.meter])
    temp = None if dc.battery_temp_celsius is None else without_noise(dc.battery_temp_celsius)
    meter_readings = sum(part.meter.readings for part in account.parts)
    return Performance(
        vehicle_id=vehicle.device_id,
        meter_id=account.parts[-1].slice.meter.device_id if account.parts else None,
        period=Period(vehicle.starts_at, vehicle.ends_at),
        energy_ac_kwh=without_noise(energy_ac_kwh),
        energy_dc_kwh=without_noise(dc.energy_kwh),
        efficiency_percent=efficiency,
        battery_temp_celsius=temp,
        ac_source=account.source,
        health=Health.UNKNOWN if reason else formulas.health(efficiency),
        reason=reason,
        data_points=DataPoints(
            dc.readings, account.fleet.meter_readings if account.fleet else meter_readings
        ),
        coverage=coverage,
        suspect_steps=dc.suspect_steps + sum(part.meter.suspect_steps for part in account.parts),
        former_energy_ac_kwh=without_noise(energy_ac_kwh),
        former_energy_dc_kwh=without_noise(dc.energy_kwh),
        efficiency=None if efficiency is None else round(efficiency / 100, 2),
        former_battery_temp_celsius=temp,
    )


class Compared(NamedTuple):
    """A vehicle's AC, and the DC that it is compared with."""

    ac_kwh: float
    dc_kwh: float


def compared(account: Account) -> Compared:
    """Return what the efficiency of `account` compares, not rounded."""
    if account.fleet:
        energy_dc_kwh = account.dc.energy_kwh
        share = energy_dc_kwh / account.fleet.energy_dc_kwh if energy_dc_kwh else 0.0
        return Compared(account.fleet.energy_ac_kwh * share, energy_dc_kwh)
    return Compared(
        sum((part.energy_ac_kwh for part in account.parts), 0.0),
        sum((part.energy_dc_kwh for part in account.parts), 0.0),
    )


def _expected(counted: Sequence[tuple[Span, Energy]]) -> float | None:
    """Return how many readings to expect up to now by the devices' cadences; None if unknown."""
    now = timezone.now()
    expected = 0.0
    for span, energy in counted:
        if energy.cadence_seconds is None:
            return None
        seconds = (min(span.ends_at, now) - span.starts_at).total_seconds()
        expected += max(0.0, seconds) / energy.cadence_seconds
    return expected if counted else None


def without_noise(value: float) -> float:
    """Return `value` without binary rounding errors: 0.3, not 0.30000000000000004."""
    return round(value, 9)
