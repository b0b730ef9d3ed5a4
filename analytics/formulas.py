"""Pure functions for efficiency, health, shares and coverage; each formula exists once.

The step of a counter is a formula too, but has to run in the database: `sql/functions.sql`.
"""

from collections.abc import Iterable
from enum import StrEnum
from math import isfinite

from django.conf import settings


class Health(StrEnum):
    """What the efficiency says about charger and vehicle."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    SUSPECT = "suspect"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why health is unknown."""

    NO_AC = "no_ac"
    TOO_LITTLE_ENERGY = "too_little_energy"
    LOW_COVERAGE = "low_coverage"


def efficiency_percent(energy_dc_kwh: float, energy_ac_kwh: float) -> float | None:
    """Return 100 · DC / AC, two decimals; None without AC."""
    if energy_ac_kwh <= 0:
        return None
    percent = 100 * energy_dc_kwh / energy_ac_kwh
    return round(percent, 2) if isfinite(percent) else None


def why_unknown(
    efficiency_ratio: float | None, energy_ac_kwh: float, coverages: Iterable[float | None]
) -> Reason | None:
    """Return why an efficiency says nothing about health; None if it does.

    An unknown coverage is no reason.
    """
    if efficiency_ratio is None:
        return Reason.NO_AC
    if energy_ac_kwh < settings.MIN_ENERGY_KWH:
        return Reason.TOO_LITTLE_ENERGY
    if any(part is not None and part < settings.MIN_COVERAGE for part in coverages):
        return Reason.LOW_COVERAGE
    return None


def health(efficiency_ratio: float | None) -> Health:
    """Return the health for an efficiency in percent, rounded as served; the limits are settings.

    More than 100% is impossible: a wrong link, a wrong unit or a wrong clock.
    """
    if efficiency_ratio is None:
        return Health.UNKNOWN
    if efficiency_ratio > 100:
        return Health.SUSPECT
    if efficiency_ratio >= settings.HEALTHY_EFFICIENCY_PERCENT:
        return Health.HEALTHY
    if efficiency_ratio >= settings.DEGRADED_EFFICIENCY_PERCENT:
        return Health.DEGRADED
    return Health.CRITICAL


def share(energy_dc_kwh: float, all_energy_dc_kwh: float, vehicles: int) -> float:
    """Return a vehicle's share of a meter's AC: by DC, or equal if no vehicle took any."""
    if all_energy_dc_kwh > 0:
        return energy_dc_kwh / all_energy_dc_kwh
    return 1 / vehicles


def coverage(readings: int, expected: float | None) -> float | None:
    """Return the share of the expected readings that arrived, at most 1, three decimals.

    None if the expected number is unknown or less than one.
    """
    if expected is None or expected < 1:
        return None
    return min(1.0, round(readings / expected, 3))
