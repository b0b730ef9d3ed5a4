"""The figures of a device over a range: numbers, charts and how they are calculated."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from analytics.figures.accounts import Account
from analytics.figures.cache import cached_unlinked_energy, read_of_fleet, read_of_vehicle
from analytics.figures.costs import loss_costs
from analytics.figures.energy import Energy, Span, meter_energies
from analytics.figures.explain import Counted, CutStep, Explanation, Split, explanation
from analytics.figures.meters import MeterAccount, meter_account
from analytics.figures.performance import (
    AtMeter,
    Performance,
    by_meter,
    measures_loss,
    performance,
    vehicle_account,
    vehicle_performance,
    without_noise,
)
from analytics.figures.series import Point, cut, vehicle_series
from analytics.figures.trace import trace
from analytics.figures.window import Window
from energy_engine.console.devices import charts
from energy_engine.console.devices.ranges import Range
from energy_engine.console.words.money import shown_money
from fleet.models import Meter, Vehicle

_SHOWN_AT_MOST: Final = 50
_SHOWN_KWH: Final = Decimal("0.005")


class LinkedSpan(NamedTuple):
    """A span of a figure's window in which the vehicle was linked to a meter."""

    meter_id: str
    start: datetime
    end: datetime


def vehicle_figures(vehicle: Vehicle, chosen: Range) -> dict[str, Any]:
    """Return the figures of the range and of the last day, and the charts.

    Sixteen statements at most, six of them for the cost of the loss; half as many again if the
    range is compared. The figures equal those of the API, to the last digit. Nothing if the range
    is in the archive.
    """
    if chosen.is_gone:
        return {}
    return read_of_vehicle(vehicle.pk, lambda: _vehicle_figures(vehicle, chosen))


def _vehicle_figures(vehicle: Vehicle, chosen: Range) -> dict[str, Any]:
    window, fine, zone = chosen.window, chosen.resolution, chosen.zone
    account = vehicle_account(vehicle.pk, window, cached_unlinked_energy)
    figure = day = performance(account)
    if not chosen.is_last_day:
        day = vehicle_performance(vehicle.pk, Window.last(), cached_unlinked_energy)
    points, points_before = _points(vehicle, window, chosen), None
    compared = {}
    if chosen.before:
        before = vehicle_performance(vehicle.pk, chosen.before, cached_unlinked_energy)
        points_before = _points(vehicle, chosen.before, chosen)
        compared = _compared_figures(figure, before)
    state = trace(Vehicle, vehicle.pk, window, fine.trace_piece, zone)
    return {
        "figure": figure,
        "day": day,
        "compared": compared,
        "period": _query(window),
        "lost": _lost(figure, account),
        "energy_title": f"AC, DC and efficiency by {fine.granularity}",
        "state_title": f"State of charge and battery temperature {fine.by_trace_piece}",
        "energy_chart": charts.vehicle_energy(points, points_before, zone),
        "state_chart": charts.vehicle_state(state, zone),
    }


def _points(vehicle: Vehicle, window: Window, chosen: Range) -> list[Point]:
    granularity = chosen.resolution.granularity
    return vehicle_series(
        vehicle.pk, window, granularity, chosen.zone, cached_unlinked_energy
    ).points


def _compared_figures(figure: Performance, before: Performance) -> dict[str, str]:
    """Return the figures of the span before with the differences from them, by tile."""
    kwh = _difference("kWh", 3)
    return {
        "efficiency": _difference("%", 2)(figure.efficiency_percent, before.efficiency_percent),
        "ac": kwh(figure.energy_ac_kwh, before.energy_ac_kwh),
        "dc": kwh(figure.energy_dc_kwh, before.energy_dc_kwh),
        "lost": _difference("kWh", 2)(_lost_kwh(figure), _lost_kwh(before)),
        "temp": _difference("°C", 1)(figure.battery_temp_celsius, before.battery_temp_celsius),
    }


def meter_figures(meter: Meter, chosen: Range) -> dict[str, Any]:
    """Return the AC of the range, its split by vehicle, and the charts.

    Seven statements; twelve if the range is compared. Nothing if the range is in the archive.
    """
    if chosen.is_gone:
        return {}
    return read_of_fleet(lambda: _meter_figures(meter, chosen))


def _meter_figures(meter: Meter, chosen: Range) -> dict[str, Any]:
    window, fine, zone = chosen.window, chosen.resolution, chosen.zone
    account = meter_account(meter.pk, window)
    energies, energies_before = _energies(meter, window, chosen), None
    compared = {}
    if chosen.before:
        energies_before = _energies(meter, chosen.before, chosen)
        compared = _compared_accounts(account, meter_account(meter.pk, chosen.before))
    voltage = trace(Meter, meter.pk, window, fine.trace_piece, zone)
    return {
        "account": account,
        "compared": compared,
        "served": account.served[:_SHOWN_AT_MOST],
        "more_served": len(account.served[_SHOWN_AT_MOST:]),
        "energy_title": f"AC by {fine.granularity}",
        "state_title": f"Voltage {fine.by_trace_piece}",
        "energy_chart": charts.meter_energy(energies, energies_before, zone),
        "state_chart": charts.meter_state(voltage, zone),
    }


def _energies(meter: Meter, window: Window, chosen: Range) -> dict[Span, Energy]:
    pieces = cut(window, chosen.resolution.granularity, chosen.zone)
    return meter_energies(Span(meter.pk, piece.starts_at, piece.ends_at) for piece in pieces)


def _compared_accounts(account: MeterAccount, before: MeterAccount) -> dict[str, str]:
    kwh = _difference("kWh", 3)
    return {
        "ac": kwh(account.ac.energy_kwh, before.ac.energy_kwh),
        "linked_ac": kwh(account.linked_ac_kwh, before.linked_ac_kwh),
        "linked_dc": kwh(account.linked_dc_kwh, before.linked_dc_kwh),
        "efficiency": _difference("%", 2)(account.efficiency_percent, before.efficiency_percent),
    }


def _difference(unit: str, places: int) -> Callable[[float | None, float | None], str]:
    """Return a function that returns a value of the span before, and the difference from it."""

    def words(value: float | None, before: float | None) -> str:
        if before is None:
            return "before: -"
        shown = f"before: {before:.{places}f} {unit}"
        if value is None:
            return shown
        points = " points" if unit == "%" else f" {unit}"
        change = f"{value - before:+.{places}f}{points}"
        if unit == "kWh" and before > 0:
            change += f", {100 * (value - before) / before:+.1f} %"
        return f"{shown}; {change}"

    return words


def what_it_is_made_of(vehicle: Vehicle, window: Window) -> dict[str, Any]:
    """Return the explanation of a figure, with at most `_SHOWN_AT_MOST` periods."""
    made_of, at_meters = read_of_vehicle(vehicle.pk, lambda: _explained(vehicle, window))
    return {
        "figure": made_of.figure,
        "figure_json": msgspec.json.format(msgspec.json.encode(made_of.figure)).decode(),
        "formula": made_of.formula,
        "at_meters": at_meters[:_SHOWN_AT_MOST],
        "more_meters": len(at_meters[_SHOWN_AT_MOST:]),
        "fleet": made_of.fleet,
        "counted": [("Vehicle", made_of.vehicle), *_by_meter(made_of.meters)],
        "cut_steps": _cut_steps(made_of)[:_SHOWN_AT_MOST],
        "links": _links(made_of.splits),
        "splits": made_of.splits[:_SHOWN_AT_MOST],
        "more_splits": len(made_of.splits[_SHOWN_AT_MOST:]),
        "is_shared": any(len(split.vehicle_ids) > 1 for split in made_of.splits),
        "api_path": f"/v1/analytics/performance/{quote(vehicle.pk, ':')}/explain?{_query(window)}",
    }


def _explained(vehicle: Vehicle, window: Window) -> tuple[Explanation, list[AtMeter]]:
    account = vehicle_account(vehicle.pk, window, cached_unlinked_energy)
    return explanation(account), by_meter(account)


def _query(window: Window) -> str:
    """Return a window as an API query string, to the microsecond."""
    instants = {"start": window.starts_at, "end": window.ends_at}
    return urlencode({name: _wire(instant) for name, instant in instants.items()})


def _wire(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _lost(figure: Performance, account: Account) -> str:
    """Return the AC that did not become DC, with its cost; empty if that is no loss."""
    lost_kwh = _lost_kwh(figure)
    if lost_kwh is None:
        return ""
    (loss,) = loss_costs([account])
    words = f"{lost_kwh:.2f} kWh"
    if loss.cost.amount is None or loss.currency is None:
        return words
    words += f", {shown_money(loss.cost, loss.currency)}"
    without = loss.cost.unpriced_kwh
    return f"{words}; {without:.2f} kWh of it without a price" if without >= _SHOWN_KWH else words


def _lost_kwh(figure: Performance) -> float | None:
    """Return the AC that did not become DC; None if that is no loss."""
    if not measures_loss(figure) or figure.efficiency_percent is None:
        return None
    return figure.energy_ac_kwh * (1 - figure.efficiency_percent / 100)


def _by_meter(counted: Iterable[Counted]) -> list[tuple[str, Counted]]:
    """Return the counts of each meter, summed over its spans."""
    meters: dict[str, Counted] = {}
    for span in counted:
        so_far = meters.get(span.device_id)
        meters[span.device_id] = _together(so_far, span) if so_far else span
    return [("Meter", of_meter) for of_meter in meters.values()]


def _cut_steps(made_of: Explanation) -> list[tuple[str, str, CutStep]]:
    """Return the steps that the bounds of spans cut, each with its kind of device and its id."""
    steps: list[tuple[str, str, CutStep]] = []
    for what, span in [("Vehicle", made_of.vehicle), *(("Meter", part) for part in made_of.meters)]:
        for step in (span.first_step, span.last_step):
            # One that is longer than the span is both.
            if step and (what, span.device_id, step) not in steps:
                steps.append((what, span.device_id, step))
    return steps


def _together(one: Counted, other: Counted) -> Counted:
    return msgspec.structs.replace(
        one,
        end=other.end,
        energy_kwh=without_noise(one.energy_kwh + other.energy_kwh),
        hours_from_rollup=one.hours_from_rollup + other.hours_from_rollup,
        hours_from_history=round(one.hours_from_history + other.hours_from_history, 6),
        deliveries=one.deliveries + other.deliveries,
        counted=one.counted + other.counted,
        repeats=one.repeats + other.repeats,
        corrected=one.corrected + other.corrected,
        suspect_steps=one.suspect_steps + other.suspect_steps,
    )


def _links(splits: Iterable[Split]) -> list[LinkedSpan]:
    """Return the vehicle's links; consecutive splits of the same meter are merged."""
    links: list[LinkedSpan] = []
    for split in splits:
        last = links[-1] if links else None
        if last and (last.meter_id, last.end) == (split.meter_id, split.start):
            links[-1] = last._replace(end=split.end)
        else:
            links.append(LinkedSpan(split.meter_id, split.start, split.end))
    return links
