"""A window split into equal intervals, with the figures of each."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from analytics.figures.accounts import Unlinked, accounts
from analytics.figures.links import links_in
from analytics.figures.performance import (
    DataPoints,
    Performance,
    Period,
    UnknownVehicle,
    compared,
    performance,
    without_noise,
)
from analytics.figures.unlinked import unlinked_energy
from analytics.figures.window import Window

MAX_POINTS: Final = 10_000


class Granularity(StrEnum):
    """How long an interval is; a day has 23 or 25 hours when the clocks change."""

    QUARTER = "15m"
    HOUR = "hour"
    DAY = "day"


class TooManyPoints(ValueError):
    """A series of more points than `MAX_POINTS`."""

    def __init__(self) -> None:
        super().__init__(
            f"A series may have at most {MAX_POINTS:,} points: "
            "choose a shorter window or a coarser granularity"
        )


class Point(msgspec.Struct):
    """The figures of one interval, with fields as in `Performance`."""

    start: datetime
    end: datetime
    energy_ac_kwh: float = msgspec.field(name="energyConsumedAc")
    energy_dc_kwh: float = msgspec.field(name="energyDeliveredDc")
    efficiency_percent: float | None = msgspec.field(name="efficiencyRatio")
    battery_temp_celsius: float | None = msgspec.field(name="averageBatteryTemp")
    data_points: DataPoints = msgspec.field(name="dataPoints")
    suspect_steps: int = msgspec.field(name="suspectSteps")


class Series(msgspec.Struct):
    """Figures of a vehicle over a window, one point per interval, in time order without gaps."""

    vehicle_id: str = msgspec.field(name="vehicleId")
    period: Period
    granularity: Granularity
    tz: str
    points: list[Point]


def vehicle_series(
    vehicle_id: str,
    window: Window,
    granularity: Granularity,
    zone: ZoneInfo,
    unlinked: Unlinked = unlinked_energy,
) -> Series:
    """Return the figures of a vehicle per interval; they add up to those of `window`.

    As many statements as for a single figure. Errors: `UnknownVehicle`, `TooManyPoints`.
    """
    links = links_in(window, [vehicle_id])
    if vehicle_id not in links:
        raise UnknownVehicle
    pieces = cut(window, granularity, zone)
    asked = [(vehicle_id, piece) for piece in pieces]
    of_pieces = accounts(asked, links, window, unlinked)
    energies_ac_kwh = _rounded([compared(account).ac_kwh for account in of_pieces])
    energies_dc_kwh = _rounded([account.dc.energy_kwh for account in of_pieces])
    points = [
        _point(performance(account), energy_ac_kwh, energy_dc_kwh)
        for account, energy_ac_kwh, energy_dc_kwh in zip(
            of_pieces, energies_ac_kwh, energies_dc_kwh, strict=True
        )
    ]
    period = Period(window.starts_at, window.ends_at)
    return Series(vehicle_id, period, granularity, zone.key, points)


def _point(figure: Performance, energy_ac_kwh: float, energy_dc_kwh: float) -> Point:
    return Point(
        start=figure.period.start,
        end=figure.period.end,
        energy_ac_kwh=energy_ac_kwh,
        energy_dc_kwh=energy_dc_kwh,
        efficiency_percent=figure.efficiency_percent,
        battery_temp_celsius=figure.battery_temp_celsius,
        data_points=figure.data_points,
        suspect_steps=figure.suspect_steps,
    )


def _rounded(energies_kwh: Sequence[float]) -> list[float]:
    """Return energies rounded as served that still add up: each carries the rest of the last.

    Zero stays zero.
    """
    rounded, rest_kwh = [], 0.0
    for energy_kwh in energies_kwh:
        rounded.append(max(0.0, without_noise(energy_kwh + rest_kwh)) if energy_kwh else 0.0)
        rest_kwh += energy_kwh - rounded[-1]
    return rounded


def cut(window: Window, granularity: Granularity, zone: ZoneInfo) -> list[Window]:
    """Split `window` at the bounds of `granularity`; the first and last piece may be shorter.

    Errors: `TooManyPoints`.
    """
    pieces = []
    starts_at = window.starts_at
    while starts_at < window.ends_at:
        ends_at = min(_next_bound(starts_at, granularity, zone), window.ends_at)
        pieces.append(Window(starts_at, ends_at))
        starts_at = ends_at
        if len(pieces) > MAX_POINTS:
            raise TooManyPoints
    return pieces


def _next_bound(instant: datetime, granularity: Granularity, zone: ZoneInfo) -> datetime:
    if granularity is Granularity.DAY:
        midnight = datetime.combine(
            instant.astimezone(zone).date() + timedelta(days=1), datetime.min.time(), zone
        )
        # If the clocks go forward at midnight, the day begins at the first instant that exists.
        return midnight.astimezone(UTC)
    length = timedelta(minutes=15) if granularity is Granularity.QUARTER else timedelta(hours=1)
    return instant - (instant - datetime.min.replace(tzinfo=UTC)) % length + length
