"""The last 24 hours of the whole fleet, calculated every few minutes: the source of lists."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, cast

from psqlextra.manager import PostgresManager
from psqlextra.types import ConflictAction

from analytics import formulas
from analytics.figures.accounts import Account, accounts, with_coverage
from analytics.figures.costs import LossCost, loss_costs
from analytics.figures.energy import Energy, Span, meter_energies, vehicle_energies
from analytics.figures.links import links_in
from analytics.figures.performance import (
    Performance,
    measures_loss,
    performance,
    without_noise,
)
from analytics.figures.unlinked import FleetEnergy, keep_day
from analytics.figures.window import Window
from analytics.formulas import Health
from analytics.models import FleetDay, FleetHour
from analytics.sql import STATEMENTS
from fleet.models import Meter, Vehicle
from fleet.stores import stopping
from fleet.stores.statements import Statement

AT_ONCE: Final = 5_000
DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)
# Hours that every snapshot calculates again: most late readings arrive within the hour.
_RECENT: Final = 2 * HOUR
_AGAIN_SECONDS: Final = 0.5
_THE_FLEET: Final = 1

_keep_vehicle_days = Statement(STATEMENTS / "keep_vehicle_days.sql")
_keep_meter_days = Statement(STATEMENTS / "keep_meter_days.sql")


class _Linked(NamedTuple):
    """A meter's AC and its vehicles' DC, over the spans in which they were linked."""

    energy_ac_kwh: float = 0.0
    energy_dc_kwh: float = 0.0
    silent_dc_kwh: float = 0.0
    vehicle_readings: int = 0


class _Unlinked:
    """The energy of the devices without a link: calculated once for all vehicles of a snapshot."""

    def __init__(self) -> None:
        self._energy: FleetEnergy | None = None

    def __call__(self, window: Window, least_dc_kwh: float) -> FleetEnergy:
        if self._energy is None or self._energy.energy_dc_kwh < least_dc_kwh:
            self._energy = keep_day(window)
        return self._energy


class _Totals(NamedTuple):
    energy_ac_kwh: float
    energy_dc_kwh: float


# --- Vehicles and meters ----------------------------------------------------------------------


def refresh() -> int:
    """Calculate the last 24 hours of every vehicle, as for a single one, and of every meter.

    Returns how many vehicles. Each row comes from one snapshot; for a moment, the rows of different
    devices may come from two.
    """
    window = Window.last()
    unlinked = _Unlinked()
    vehicle_ids = _ids_of(Vehicle)
    linked: dict[str, _Linked] = defaultdict(_Linked)
    energy_dc_kwh = 0.0
    for start in range(0, len(vehicle_ids), AT_ONCE):
        stopping.check()
        part = vehicle_ids[start : start + AT_ONCE]
        asked = [(vehicle_id, window) for vehicle_id in part]
        of_part = with_coverage(accounts(asked, links_in(window, part), window, unlinked))
        figures = [performance(account) for account in of_part]
        _keep_vehicles(figures, _costs_of_losses(of_part, figures), window.ends_at)
        _add_up(linked, of_part)
        energy_dc_kwh += sum(figure.energy_dc_kwh for figure in figures)
    energy_ac_kwh = _refresh_meters(window, linked)
    cast("PostgresManager", FleetDay.objects).on_conflict(["id"], ConflictAction.UPDATE).insert(
        id=_THE_FLEET,
        starts_at=window.starts_at,
        ends_at=window.ends_at,
        energy_ac_kwh=energy_ac_kwh,
        energy_dc_kwh=energy_dc_kwh,
    )
    return len(vehicle_ids)


def _ids_of(model: type[Meter | Vehicle]) -> list[str]:
    return list(model.objects.order_by("pk").values_list("pk", flat=True))


def _add_up(linked: dict[str, _Linked], of_vehicles: Sequence[Account]) -> None:
    for account in of_vehicles:
        for part in account.parts:
            so_far = linked[part.slice.meter.device_id]
            linked[part.slice.meter.device_id] = _Linked(
                so_far.energy_ac_kwh + part.energy_ac_kwh,
                so_far.energy_dc_kwh + part.energy_dc_kwh,
                so_far.silent_dc_kwh + part.silent_dc_kwh,
                so_far.vehicle_readings + part.vehicle.readings,
            )


def _costs_of_losses(
    of_vehicles: Sequence[Account], figures: Sequence[Performance]
) -> dict[str, LossCost]:
    """Return what vehicles' losses cost, by id, where AC less DC is a loss."""
    lossy = [
        account
        for account, figure in zip(of_vehicles, figures, strict=True)
        if measures_loss(figure)
    ]
    costs = zip(lossy, loss_costs(lossy), strict=True)
    return {account.vehicle.device_id: cost for account, cost in costs}


def _keep_vehicles(
    figures: Sequence[Performance], costs: Mapping[str, LossCost], ends_at: datetime
) -> None:
    rows = [
        {
            "vehicle_id": figure.vehicle_id,
            "ends_at": ends_at,
            "energy_ac_kwh": figure.energy_ac_kwh,
            "energy_dc_kwh": figure.energy_dc_kwh,
            "efficiency_percent": figure.efficiency_percent,
            "battery_temp_celsius": figure.battery_temp_celsius,
            "vehicle_coverage": figure.coverage.vehicle,
            "meter_coverage": figure.coverage.meter,
            "vehicle_readings": figure.data_points.vehicle,
            "meter_readings": figure.data_points.meter,
            "suspect_steps": figure.suspect_steps,
            "ac_source": figure.ac_source,
            "health": str(figure.health),
            "reason": figure.reason and str(figure.reason),
            "meter_id": figure.meter_id,
            **_loss_row(costs.get(figure.vehicle_id)),
        }
        for figure in figures
    ]
    _keep(_keep_vehicle_days, rows)


def _loss_row(loss: LossCost | None) -> dict[str, Any]:
    return {
        "loss_cost": loss and loss.cost.amount,
        "loss_currency": loss and loss.currency,
        "loss_unpriced_kwh": loss and without_noise(float(loss.cost.unpriced_kwh)),
    }


def _refresh_meters(window: Window, linked: Mapping[str, _Linked]) -> float:
    """Store the last 24 hours of every meter; return the AC of all, in kWh."""
    spans = [Span(meter_id, window.starts_at, window.ends_at) for meter_id in _ids_of(Meter)]
    energies = meter_energies(spans)
    rows = [
        _meter_row(span, energies[span], linked.get(span.device_id))
        for span in spans
        if span in energies
    ]
    _keep(_keep_meter_days, rows)
    return sum(energy.energy_kwh for energy in energies.values())


def _meter_row(span: Span, energy: Energy, linked: _Linked | None) -> dict[str, Any]:
    coverage, efficiency, reason = None, None, None
    if linked:
        coverage = formulas.coverage(linked.energy_dc_kwh, linked.silent_dc_kwh, energy.readings)
        efficiency = formulas.efficiency_percent(linked.energy_dc_kwh, linked.energy_ac_kwh)
        reason = formulas.why_unknown(
            linked.energy_dc_kwh, linked.energy_ac_kwh, linked.vehicle_readings, [coverage]
        )
    return {
        "meter_id": span.device_id,
        "ends_at": span.ends_at,
        "energy_ac_kwh": without_noise(energy.energy_kwh),
        "linked_ac_kwh": without_noise(linked.energy_ac_kwh) if linked else 0.0,
        "linked_dc_kwh": without_noise(linked.energy_dc_kwh) if linked else 0.0,
        "efficiency_percent": efficiency,
        "coverage": coverage,
        "readings": energy.readings,
        "suspect_steps": energy.suspect_steps,
        "health": str(Health.UNKNOWN if reason else formulas.health(efficiency)),
        "reason": reason and str(reason),
    }


def _keep(statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        statement.rows({name: [row[name] for row in rows] for name in rows[0]})


# --- The whole fleet --------------------------------------------------------------------------


def refresh_trend() -> None:
    """Calculate the 24 hours before the last ones, and the last ones hour by hour.

    Call it after `refresh`. Past hours are calculated again in turn, for late readings: all of them
    each time, or as many as a large fleet leaves time for.
    """
    now = Window.last().ends_at
    before = _totals(now - 2 * DAY, now - DAY)
    FleetDay.objects.filter(pk=_THE_FLEET).update(
        before_ac_kwh=before.energy_ac_kwh, before_dc_kwh=before.energy_dc_kwh
    )
    first, last = _hour_of(now - DAY), _hour_of(now)
    FleetHour.objects.exclude(hour__range=(first, last)).delete()
    known = list(FleetHour.objects.order_by("summed_up_at").values_list("hour", flat=True))
    shown = [first + number * HOUR for number in range((last - first) // HOUR + 1)]
    due = [hour for hour in shown if hour not in known or hour > now - _RECENT]
    for hour in due:
        stopping.check()
        _sum_up_hour(hour, now)
    began = time.monotonic()
    for hour in known:
        if hour not in due:
            _sum_up_hour(hour, now)
            if time.monotonic() - began > _AGAIN_SECONDS:
                break


def _sum_up_hour(hour: datetime, now: datetime) -> None:
    totals = _totals(hour, min(hour + HOUR, now))
    cast("PostgresManager", FleetHour.objects).on_conflict(["hour"], ConflictAction.UPDATE).insert(
        hour=hour, summed_up_at=now, **totals._asdict()
    )


def _hour_of(instant: datetime) -> datetime:
    return instant.replace(minute=0, second=0, microsecond=0)


def _totals(starts_at: datetime, ends_at: datetime) -> _Totals:
    """Return AC of all meters and DC of all vehicles, linked or not; two statements."""
    ac = meter_energies(Span(meter_id, starts_at, ends_at) for meter_id in _ids_of(Meter))
    dc = vehicle_energies(Span(vehicle_id, starts_at, ends_at) for vehicle_id in _ids_of(Vehicle))
    return _Totals(
        sum(energy.energy_kwh for energy in ac.values()),
        sum(energy.energy_kwh for energy in dc.values()),
    )
