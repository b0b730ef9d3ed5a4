"""Energy, efficiency and health of a vehicle over a window: the only reader of history."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from analytics import formulas
from analytics.formulas import Health
from analytics.window import Window
from fleet.statements import Statement

_SQL: Final = Path(__file__).parent / "sql"
_links_in_window = Statement(_SQL / "links_in_window.sql")
_meter_energy = Statement(_SQL / "meter_energy.sql")
_vehicle_energy = Statement(_SQL / "vehicle_energy.sql")
_unlinked_energy = Statement(_SQL / "unlinked_energy.sql")

AcSource = Literal["linked", "shared", "fleet", "none"]


class UnknownVehicle(Exception):
    """A vehicle that is not in the registry."""


class Period(msgspec.Struct):
    """The window of a figure, half-open."""

    start: datetime
    end: datetime


class DataPoints(msgspec.Struct):
    """How many readings a figure is made of, each timestamp counted once."""

    vehicle: int
    meter: int


class Performance(msgspec.Struct):
    """What became of the AC drawn for a vehicle; energies in kWh, efficiency in percent."""

    vehicle_id: str = msgspec.field(name="vehicleId")
    meter_id: str | None = msgspec.field(name="meterId")
    period: Period
    energy_ac_kwh: float = msgspec.field(name="energyConsumedAc")
    energy_dc_kwh: float = msgspec.field(name="energyDeliveredDc")
    efficiency_percent: float | None = msgspec.field(name="efficiencyRatio")
    battery_temp_celsius: float | None = msgspec.field(name="averageBatteryTemp")
    ac_source: AcSource = msgspec.field(name="acSource")
    health: Health
    data_points: DataPoints = msgspec.field(name="dataPoints")


class _Span(NamedTuple):
    """A device over a span of time, half-open."""

    device_id: str
    starts_at: datetime
    ends_at: datetime


class _Energy(NamedTuple):
    """What a device counted over a span."""

    energy_kwh: float = 0.0
    readings: int = 0
    battery_temp_celsius: float | None = None


class _Slice(NamedTuple):
    """A span in which one set of vehicles was linked to a meter."""

    meter: _Span
    vehicle_ids: frozenset[str]


class _Ac(NamedTuple):
    """The AC that is a vehicle's, and the DC that it is compared with."""

    source: AcSource
    meter_id: str | None = None
    energy_ac_kwh: float = 0.0
    energy_dc_kwh: float = 0.0
    readings: int = 0


def vehicle_performance(vehicle_id: str, window: Window) -> Performance:
    """Return the figures of a vehicle over `window`, from history, in at most 4 statements.

    Errors: `UnknownVehicle`.
    """
    slices = _slices(vehicle_id, window)
    whole = _Span(vehicle_id, window.starts_at, window.ends_at)
    dc = _energies(
        _vehicle_energy, [whole, *(part for cut in slices for part in _vehicles_of(cut))]
    )
    if slices:
        ac = _linked_ac(vehicle_id, slices, dc)
    elif whole in dc:
        ac = _fleet_ac(window, dc[whole].energy_kwh)
    else:
        ac = _Ac("none")
    return _performance(vehicle_id, window, dc.get(whole, _Energy()), ac)


def _slices(vehicle_id: str, window: Window) -> list[_Slice]:
    """Return a vehicle's links in time order, cut wherever another joins or leaves the meter."""
    rows = _links_in_window.rows(
        {"vehicle_id": vehicle_id, "starts_at": window.starts_at, "ends_at": window.ends_at}
    )
    if not rows:
        raise UnknownVehicle
    slices = []
    for own in dict.fromkeys((row.meter_id, row.starts_at, row.ends_at) for row in rows):
        if own[0] is None:
            continue
        overlapping = [row for row in rows if (row.meter_id, row.starts_at, row.ends_at) == own]
        slices += _cut(_Span(*own), [_clipped(row, _Span(*own)) for row in overlapping])
    return slices


def _clipped(row: tuple[datetime, ...], own: _Span) -> _Span:
    *_, vehicle_id, starts_at, ends_at = row
    return _Span(
        str(vehicle_id), max(starts_at, own.starts_at), min(ends_at or own.ends_at, own.ends_at)
    )


def _cut(meter: _Span, links: Sequence[_Span]) -> list[_Slice]:
    """Cut `meter`'s span at every bound of `links`, which lie within it."""
    bounds = sorted({bound for link in links for bound in (link.starts_at, link.ends_at)})
    return [
        _Slice(
            _Span(meter.device_id, starts_at, ends_at),
            frozenset(
                link.device_id
                for link in links
                if link.starts_at <= starts_at and ends_at <= link.ends_at
            ),
        )
        for starts_at, ends_at in pairwise(bounds)
    ]


def _vehicles_of(cut: _Slice) -> list[_Span]:
    return [
        _Span(vehicle_id, cut.meter.starts_at, cut.meter.ends_at) for vehicle_id in cut.vehicle_ids
    ]


def _energies(statement: Statement, spans: Sequence[_Span]) -> dict[_Span, _Energy]:
    """Return what was counted over each of `spans`; those without readings are absent."""
    asked = list(dict.fromkeys(spans))
    rows = statement.rows(
        {
            "device_ids": [span.device_id for span in asked],
            "starts_at": [span.starts_at for span in asked],
            "ends_at": [span.ends_at for span in asked],
            "first": min(span.starts_at for span in asked),
            "last": max(span.ends_at for span in asked),
        }
    )
    return {
        asked[row.number - 1]: _Energy(
            row.energy_kwh, row.readings, getattr(row, "battery_temp_celsius", None)
        )
        for row in rows
    }


def _linked_ac(vehicle_id: str, slices: Sequence[_Slice], dc: dict[_Span, _Energy]) -> _Ac:
    """Return a vehicle's part of the AC of its meters, and its DC over the same spans."""
    of_meters = _energies(_meter_energy, [cut.meter for cut in slices])
    energy_ac_kwh = energy_dc_kwh = 0.0
    readings = 0
    for cut in slices:
        taken = {span.device_id: dc.get(span, _Energy()).energy_kwh for span in _vehicles_of(cut)}
        part = formulas.share(taken[vehicle_id], sum(taken.values()), len(taken))
        counted = of_meters.get(cut.meter, _Energy())
        energy_ac_kwh += counted.energy_kwh * part
        energy_dc_kwh += taken[vehicle_id]
        readings += counted.readings
    is_shared = any(len(cut.vehicle_ids) > 1 for cut in slices)
    return _Ac(
        "shared" if is_shared else "linked",
        slices[-1].meter.device_id,
        energy_ac_kwh,
        energy_dc_kwh,
        readings,
    )


def _fleet_ac(window: Window, energy_dc_kwh: float) -> _Ac:
    """Return a vehicle's part, by DC, of the AC of all meters without a link."""
    (unlinked,) = _unlinked_energy.rows({"starts_at": window.starts_at, "ends_at": window.ends_at})
    if unlinked.meter_readings == 0:
        return _Ac("none")
    part = energy_dc_kwh / unlinked.energy_dc_kwh if unlinked.energy_dc_kwh > 0 else 0.0
    return _Ac("fleet", None, unlinked.energy_ac_kwh * part, energy_dc_kwh, unlinked.meter_readings)


def _performance(vehicle_id: str, window: Window, dc: _Energy, ac: _Ac) -> Performance:
    efficiency = formulas.efficiency_percent(ac.energy_dc_kwh, ac.energy_ac_kwh)
    temp = dc.battery_temp_celsius
    return Performance(
        vehicle_id=vehicle_id,
        meter_id=ac.meter_id,
        period=Period(window.starts_at, window.ends_at),
        energy_ac_kwh=_kept(ac.energy_ac_kwh),
        energy_dc_kwh=_kept(dc.energy_kwh),
        efficiency_percent=efficiency,
        battery_temp_celsius=None if temp is None else _kept(temp),
        ac_source=ac.source,
        health=formulas.health(efficiency),
        data_points=DataPoints(vehicle=dc.readings, meter=ac.readings),
    )


def _kept(value: float) -> float:
    """Return `value` without the noise of binary fractions: 0.3, not 0.30000000000000004."""
    return round(value, 9)
