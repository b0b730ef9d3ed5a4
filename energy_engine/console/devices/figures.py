"""The figures of a device over a range up to now: numbers, charts and how they are calculated."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import msgspec
from django.conf import settings

from analytics.figures.accounts import Account
from analytics.figures.cache import cached_unlinked_energy, read_of_fleet, read_of_vehicle
from analytics.figures.costs import loss_costs
from analytics.figures.energy import Energy, Span, meter_energies
from analytics.figures.explain import Counted, CutStep, Explanation, Split, explanation
from analytics.figures.meters import meter_account
from analytics.figures.performance import (
    Performance,
    measures_loss,
    performance,
    vehicle_account,
    vehicle_performance,
    without_noise,
)
from analytics.figures.series import Granularity, Point, cut, vehicle_series
from analytics.figures.trace import Trace, trace
from analytics.figures.window import Window
from energy_engine.console.words.money import shown_money
from fleet.models import Meter, Site, Vehicle

Chart = dict[str, Any]

_SHOWN_AT_MOST: Final = 50
_SHOWN_KWH: Final = Decimal("0.005")


class Range(NamedTuple):
    """How far back the figures go, and the resolution of their charts."""

    name: str
    title: str
    length: timedelta
    granularity: Granularity
    trace_piece: timedelta
    by_trace_piece: str


_HOUR: Final = timedelta(hours=1)
RANGES: Final = {
    chosen.name: chosen
    for chosen in (
        Range("24h", "24 hours", 24 * _HOUR, Granularity.HOUR, _HOUR / 4, "by 15 minutes"),
        Range("7d", "7 days", timedelta(days=7), Granularity.DAY, _HOUR, "by hour"),
        Range("30d", "30 days", timedelta(days=30), Granularity.DAY, 6 * _HOUR, "by 6 hours"),
    )
}


class LinkedSpan(NamedTuple):
    """A span of a figure's window in which the vehicle was linked to a meter."""

    meter_id: str
    start: datetime
    end: datetime


def chosen_range(query: Mapping[str, str]) -> Range:
    return RANGES.get(query.get("range", ""), RANGES["24h"])


def zone_of(site: Site | None) -> ZoneInfo:
    return ZoneInfo(site.time_zone if site else "UTC")


def vehicle_figures(vehicle: Vehicle, chosen: Range) -> dict[str, Any]:
    """Return the figures of the range and of the last day, and the charts.

    Sixteen statements at most, six of them for the cost of the loss. The figures equal those of
    the API, to the last digit.
    """
    return read_of_vehicle(vehicle.pk, lambda: _vehicle_figures(vehicle, chosen))


def _vehicle_figures(vehicle: Vehicle, chosen: Range) -> dict[str, Any]:
    window, zone = Window.last(chosen.length), zone_of(vehicle.site)
    account = vehicle_account(vehicle.pk, window, cached_unlinked_energy)
    figure = day = performance(account)
    if chosen is not RANGES["24h"]:
        day = vehicle_performance(vehicle.pk, Window.last(), cached_unlinked_energy)
    series = vehicle_series(vehicle.pk, window, chosen.granularity, zone, cached_unlinked_energy)
    state = trace(Vehicle, vehicle.pk, window, chosen.trace_piece, zone)
    return {
        "figure": figure,
        "day": day,
        "period": _query(window),
        "lost": _lost(figure, account),
        "energy_title": f"AC, DC and efficiency by {chosen.granularity}",
        "state_title": f"State of charge and battery temperature {chosen.by_trace_piece}",
        "energy_chart": _vehicle_energy_chart(series.points, zone),
        "state_chart": _state_chart(state, zone),
    }


def meter_figures(meter: Meter, chosen: Range) -> dict[str, Any]:
    """Return the AC of the range, its split by vehicle, and the charts; seven statements."""
    return read_of_fleet(lambda: _meter_figures(meter, chosen))


def _meter_figures(meter: Meter, chosen: Range) -> dict[str, Any]:
    window, zone = Window.last(chosen.length), zone_of(meter.site)
    account = meter_account(meter.pk, window)
    pieces = cut(window, chosen.granularity, zone)
    energies = meter_energies(Span(meter.pk, piece.starts_at, piece.ends_at) for piece in pieces)
    voltage = trace(Meter, meter.pk, window, chosen.trace_piece, zone)
    return {
        "account": account,
        "served": account.served[:_SHOWN_AT_MOST],
        "more_served": len(account.served[_SHOWN_AT_MOST:]),
        "energy_title": f"AC by {chosen.granularity}",
        "state_title": f"Voltage {chosen.by_trace_piece}",
        "energy_chart": _meter_energy_chart(energies, zone),
        "state_chart": _voltage_chart(voltage, zone),
    }


def what_it_is_made_of(vehicle: Vehicle, window: Window) -> dict[str, Any]:
    """Return the explanation of a figure, with at most `_SHOWN_AT_MOST` periods."""
    made_of = read_of_vehicle(
        vehicle.pk,
        lambda: explanation(vehicle_account(vehicle.pk, window, cached_unlinked_energy)),
    )
    return {
        "figure": made_of.figure,
        "figure_json": msgspec.json.format(msgspec.json.encode(made_of.figure)).decode(),
        "formula": made_of.formula,
        "fleet": made_of.fleet,
        "counted": [("Vehicle", made_of.vehicle), *_by_meter(made_of.meters)],
        "cut_steps": _cut_steps(made_of)[:_SHOWN_AT_MOST],
        "links": _links(made_of.splits),
        "splits": made_of.splits[:_SHOWN_AT_MOST],
        "more_splits": len(made_of.splits[_SHOWN_AT_MOST:]),
        "is_shared": any(len(split.vehicle_ids) > 1 for split in made_of.splits),
        "api_path": f"/v1/analytics/performance/{quote(vehicle.pk, ':')}/explain?{_query(window)}",
    }


def _query(window: Window) -> str:
    """Return a window as an API query string, to the microsecond."""
    instants = {"start": window.starts_at, "end": window.ends_at}
    return urlencode({name: _wire(instant) for name, instant in instants.items()})


def _wire(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _lost(figure: Performance, account: Account) -> str:
    """Return the AC that did not become DC, with its cost; empty if that is no loss."""
    if not measures_loss(figure) or figure.efficiency_percent is None:
        return ""
    lost_kwh = figure.energy_ac_kwh * (1 - figure.efficiency_percent / 100)
    (loss,) = loss_costs([account])
    words = f"{lost_kwh:.2f} kWh"
    if loss.cost.amount is None or loss.currency is None:
        return words
    words += f", {shown_money(loss.cost, loss.currency)}"
    without = loss.cost.unpriced_kwh
    return f"{words}; {without:.2f} kWh of it without a price" if without >= _SHOWN_KWH else words


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


# --- Charts -----------------------------------------------------------------------------------


def _vehicle_energy_chart(points: list[Point], zone: ZoneInfo) -> Chart | None:
    if not any(point.data_points.vehicle or point.energy_ac_kwh for point in points):
        return None
    efficiency = _line("Efficiency", "%", [point.efficiency_percent for point in points])
    chart = _chart(
        [point.start for point in points],
        zone,
        [
            _bars("AC in", [point.energy_ac_kwh for point in points]),
            _bars("DC out", [point.energy_dc_kwh for point in points]),
            efficiency | {"axis": "right", "dash": 1},
        ],
    )
    healthy = settings.HEALTHY_EFFICIENCY_PERCENT
    return chart | {
        "marks": [{"label": f"Healthy from {healthy:g} %", "value": healthy, "axis": "right"}]
    }


def _meter_energy_chart(energies: dict[Span, Energy], zone: ZoneInfo) -> Chart | None:
    if not any(energy.readings for energy in energies.values()):
        return None
    spans = sorted(energies)
    bars = _bars("AC", [without_noise(energies[span].energy_kwh) for span in spans])
    return _chart([span.starts_at for span in spans], zone, [bars])


def _voltage_chart(state: Trace, zone: ZoneInfo) -> Chart | None:
    if state.is_empty:
        return None
    return _chart(state.starts_at, zone, [_line("Voltage", "V", state.values["voltage_v"])])


def _state_chart(state: Trace, zone: ZoneInfo) -> Chart | None:
    if state.is_empty:
        return None
    temperature = _line("Battery temperature", "°C", state.values["battery_temp_celsius"])
    return _chart(
        state.starts_at,
        zone,
        [
            _line("State of charge", "%", state.values["soc_percent"]),
            temperature | {"axis": "right", "dash": 1},
        ],
    )


def _chart(times: list[datetime], zone: ZoneInfo, series: list[Chart]) -> Chart:
    return {"times": times, "zone": zone.key, "series": series}


def _bars(label: str, values: list[float]) -> Chart:
    return {"label": label, "unit": "kWh", "values": values, "as": "bar", "axis": "left"}


def _line(label: str, unit: str, values: list[float | None]) -> Chart:
    shown = [None if value is None else round(value, 3) for value in values]
    return {"label": label, "unit": unit, "values": shown, "as": "line", "axis": "left", "dash": 0}
