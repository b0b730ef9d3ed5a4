"""Pure functions for efficiency, health, shares and coverage; each formula exists once.

What a reading adds to the curve of a device: `figures/curve.py`.
"""

from collections.abc import Iterable
from enum import StrEnum
from math import isfinite
from typing import Final

from django.conf import settings

# Fewer say nothing about how often a device reports.
_READINGS_TO_BE_JUDGED: Final = 10


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
    NOT_CHARGING = "not_charging"
    TOO_LITTLE_ENERGY = "too_little_energy"
    LOW_COVERAGE = "low_coverage"


def efficiency_percent(energy_dc_kwh: float, energy_ac_kwh: float) -> float | None:
    """Return 100 · DC / AC, two decimals; None without AC."""
    if energy_ac_kwh <= 0:
        return None
    percent = 100 * energy_dc_kwh / energy_ac_kwh
    return round(percent, 2) if isfinite(percent) else None


def why_unknown(
    energy_dc_kwh: float,
    energy_ac_kwh: float,
    vehicle_readings: int,
    coverages: Iterable[float | None],
) -> Reason | None:
    """Return why an efficiency says nothing about health; None if it does.

    An unknown coverage is no reason, unless the vehicle did not report at all.
    """
    if efficiency_percent(energy_dc_kwh, energy_ac_kwh) is None:
        return Reason.NO_AC
    if vehicle_readings and energy_dc_kwh <= 0:
        return Reason.NOT_CHARGING
    if energy_ac_kwh < settings.MIN_ENERGY_KWH:
        return Reason.TOO_LITTLE_ENERGY
    if not vehicle_readings:
        return Reason.LOW_COVERAGE
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


def coverage(energy_kwh: float, in_gaps_kwh: float, readings: int) -> float | None:
    """Return the part of an energy that flowed while a device reported, three decimals.

    None without energy, and for a device with fewer than ten readings.
    """
    if energy_kwh <= 0 or readings < _READINGS_TO_BE_JUDGED:
        return None
    return round(min(1.0, max(0.0, 1 - in_gaps_kwh / energy_kwh)), 3)
