"""Pure functions: how efficiency, health and shares come from energies. Each formula once."""

from enum import StrEnum
from math import isfinite

from django.conf import settings


class Health(StrEnum):
    """What an efficiency says about charger and vehicle."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    SUSPECT = "suspect"
    UNKNOWN = "unknown"


def efficiency_percent(energy_dc_kwh: float, energy_ac_kwh: float) -> float | None:
    """Return 100 · DC / AC, two decimals; None where no AC is known."""
    if energy_ac_kwh <= 0:
        return None
    percent = 100 * energy_dc_kwh / energy_ac_kwh
    return round(percent, 2) if isfinite(percent) else None


def health(efficiency_ratio: float | None) -> Health:
    """Return what an efficiency in percent, as it is served, says; the limits are settings.

    More than 100% can't be: a wrong link, a wrong unit or a clock that is off.
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
    """Return which part of a meter's AC is a vehicle's: by DC, or equally where none took any."""
    if all_energy_dc_kwh > 0:
        return energy_dc_kwh / all_energy_dc_kwh
    return 1 / vehicles
