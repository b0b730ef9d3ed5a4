"""The charts of a device's page, as `charts.js` draws them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings

from analytics.figures.energy import Energy, Span
from analytics.figures.performance import without_noise
from analytics.figures.series import Point
from analytics.figures.trace import Trace

Chart = dict[str, Any]
_Values = Sequence[float | None]


def vehicle_energy(points: list[Point], before: list[Point] | None, zone: ZoneInfo) -> Chart | None:
    """Return the energies and the efficiency of `points`, in front of those of the span before."""
    if not any(point.data_points.vehicle or point.energy_ac_kwh for point in points):
        return None
    efficiency = _line("Efficiency", "%", [point.efficiency_percent for point in points])
    series = [
        _bars("AC in", [point.energy_ac_kwh for point in points]),
        _bars("DC out", [point.energy_dc_kwh for point in points]),
        efficiency | {"axis": "right", "dash": 1},
    ]
    if before is not None:
        efficiencies = [point.efficiency_percent for point in before]
        series += [
            _behind("AC in, before", "kWh", [point.energy_ac_kwh for point in before], points),
            _behind("DC out, before", "kWh", [point.energy_dc_kwh for point in before], points)
            | {"dash": 1},
            _behind("Efficiency, before", "%", efficiencies, points) | {"axis": "right", "dash": 2},
        ]
    chart = _chart([point.start for point in points], zone, series)
    healthy = settings.HEALTHY_EFFICIENCY_PERCENT
    return chart | {
        "marks": [{"label": f"Healthy from {healthy:g} %", "value": healthy, "axis": "right"}]
    }


def meter_energy(
    energies: dict[Span, Energy], before: dict[Span, Energy] | None, zone: ZoneInfo
) -> Chart | None:
    """Return the AC of each span, in front of that of the span before."""
    if not any(energy.readings for energy in energies.values()):
        return None
    spans = sorted(energies)
    series = [_bars("AC", _in_order(energies))]
    if before is not None:
        series.append(_behind("AC, before", "kWh", _in_order(before), spans))
    return _chart([span.starts_at for span in spans], zone, series)


def meter_state(state: Trace, zone: ZoneInfo) -> Chart | None:
    if state.is_empty:
        return None
    return _chart(state.starts_at, zone, [_line("Voltage", "V", state.values["voltage_v"])])


def vehicle_state(state: Trace, zone: ZoneInfo) -> Chart | None:
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


def _in_order(energies: dict[Span, Energy]) -> list[float]:
    return [without_noise(energies[span].energy_kwh) for span in sorted(energies)]


def _chart(times: list[datetime], zone: ZoneInfo, series: list[Chart]) -> Chart:
    return {"times": times, "zone": zone.key, "series": series}


def _bars(label: str, values: list[float]) -> Chart:
    return {"label": label, "unit": "kWh", "values": values, "as": "bar", "axis": "left"}


def _line(label: str, unit: str, values: _Values) -> Chart:
    shown = [None if value is None else round(value, 3) for value in values]
    return {"label": label, "unit": unit, "values": shown, "as": "line", "axis": "left", "dash": 0}


def _behind(label: str, unit: str, values: _Values, front: Sequence[object]) -> Chart:
    """Return the values of the span before, each behind the one in front in the same place.

    Months differ in length: what has nothing in front is left out.
    """
    padded = [*values, *[None] * len(front)][: len(front)]
    return _line(label, unit, padded) | {"behind": True}
