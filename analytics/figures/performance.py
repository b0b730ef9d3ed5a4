"""Energy, efficiency and health of vehicles over windows of time."""

from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec

from analytics import formulas
from analytics.figures.accounts import Account, AcSource, Unlinked, accounts, with_coverage
from analytics.figures.links import links_in
from analytics.figures.unlinked import unlinked_energy
from analytics.figures.window import Window
from analytics.formulas import Health, Reason


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
    """The part of the energy that flowed while a device reported, 0 to 1; null if unknown.

    Of the vehicle: of its AC while it was linked; of the meter: of the DC that the vehicle took.
    """

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


def vehicle_performance(
    vehicle_id: str, window: Window, unlinked: Unlinked = unlinked_energy
) -> Performance:
    """Return the figures of a vehicle over `window`, from history as it is now.

    Three statements if it is linked and both registers are intervals without gaps; counters, gaps
    and shared meters may take more. If it is not linked, `unlinked` is called as well.
    Errors: `UnknownVehicle`.
    """
    return performance(vehicle_account(vehicle_id, window, unlinked))


def vehicle_account(vehicle_id: str, window: Window, unlinked: Unlinked) -> Account:
    """Return what a vehicle's figures over `window` are made of. Errors: `UnknownVehicle`."""
    links = links_in(window, [vehicle_id])
    if vehicle_id not in links:
        raise UnknownVehicle
    (account,) = with_coverage(accounts([(vehicle_id, window)], links, window, unlinked))
    return account


def performance(account: Account) -> Performance:
    """Return the figures that `account` adds up to."""
    vehicle, dc = account.vehicle, account.dc
    energy_ac_kwh, compared_dc_kwh = compared(account)
    efficiency = formulas.efficiency_percent(compared_dc_kwh, energy_ac_kwh)
    meter_readings = sum(part.meter.readings for part in account.parts)
    coverage = Coverage(
        formulas.coverage(
            energy_ac_kwh, sum(part.silent_ac_kwh for part in account.parts), dc.readings
        ),
        formulas.coverage(
            compared_dc_kwh, sum(part.silent_dc_kwh for part in account.parts), meter_readings
        ),
    )
    if not account.parts:
        coverage = Coverage(None, None)
    reason = formulas.why_unknown(
        compared_dc_kwh, energy_ac_kwh, dc.readings, [coverage.vehicle, coverage.meter]
    )
    temp = None if dc.battery_temp_celsius is None else without_noise(dc.battery_temp_celsius)
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


def measures_loss(figure: Performance) -> bool:
    """Return whether AC less DC is what was lost.

    Not where the health is unknown, for more DC than AC, or for a share of the fleet's AC.
    """
    efficiency = figure.efficiency_percent
    is_measured = figure.ac_source in ("linked", "shared") and figure.reason is None
    return is_measured and efficiency is not None and efficiency <= 100


class AtMeter(NamedTuple):
    """What a vehicle took at one meter: its AC there, and its DC meanwhile, in kWh."""

    meter_id: str
    energy_ac_kwh: float
    energy_dc_kwh: float
    efficiency_percent: float | None
    health: Health
    reason: Reason | None


def by_meter(account: Account) -> list[AtMeter]:
    """Return the figures of a vehicle at each meter that it was linked to, most AC first.

    They add up to those of `account`. Each is judged as if the vehicle had been nowhere else.
    """
    meter_ids = {part.slice.meter.device_id for part in account.parts}
    at_meters = [_at_meter(account, meter_id) for meter_id in meter_ids]
    return sorted(at_meters, key=lambda own: (-own.energy_ac_kwh, own.meter_id))


def _at_meter(account: Account, meter_id: str) -> AtMeter:
    parts = [part for part in account.parts if part.slice.meter.device_id == meter_id]
    readings = sum(part.vehicle.readings for part in parts)
    there = account._replace(dc=account.dc._replace(readings=readings), parts=parts)
    figure, energy_dc_kwh = performance(there), compared(there).dc_kwh
    return AtMeter(
        meter_id,
        figure.energy_ac_kwh,
        without_noise(energy_dc_kwh),
        figure.efficiency_percent,
        figure.health,
        figure.reason,
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


def without_noise(value: float) -> float:
    """Return `value` without binary rounding errors: 0.3, not 0.30000000000000004."""
    return round(value, 9)
