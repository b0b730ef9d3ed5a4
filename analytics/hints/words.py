"""Hints as people read them: why a setting must be wrong, and what would mend it."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from analytics.models import Hint, HintKind

_REMEDIES: Final = {
    "scale": "Set the scale to {:g}",
    "energy_register": "Set the register to {}",
    "max_power_kw": "Set the max power to {:g} kW",
    "clock_offset_seconds": "Set the clock offset to {:,.0f} s",
}


def why(hint: Hint) -> str:
    """Return why the setting must be wrong, with the numbers that say so."""
    return _WHY[hint.kind](hint)


def remedy(hint: Hint) -> str:
    """Return what following the hint does, as on its button."""
    return _REMEDIES[hint.field].format(hint.proposal)


def _energy(kwh: float) -> str:
    return f"{kwh:,.0f} kWh" if kwh >= 1000 else f"{kwh:.3g} kWh"


def _ratio(percent: float) -> str:
    return f"{percent:,.0f} %" if percent >= 1000 else f"{percent:.2g} %"


def _unit(hint: Hint) -> str:
    numbers: Mapping[str, Any] = hint.numbers
    unit = "Watt-hours?" if hint.proposal < hint.before else "Megawatt-hours?"
    if "power_kw" in numbers:
        return (
            f"{numbers['over']} of {numbers['rises']} steps in the last 24 hours are left out as "
            f"suspect: half of them are above {numbers['power_kw']:,.0f} kW. {unit}"
        )
    text = (
        f"DC is {_ratio(numbers['percent'])} of AC over the last 24 hours: "
        f"{_energy(numbers['dc_kwh'])} against {_energy(numbers['ac_kwh'])}. {unit}"
    )
    if numbers["is_clear"]:
        return text
    other = (
        f"meter {numbers['meter_id']}" if hint.vehicle_id else f"vehicle {numbers['vehicle_id']}"
    )
    return f"{text} Or it is the {other}: change only one of them."


def _register(hint: Hint) -> str:
    numbers: Mapping[str, Any] = hint.numbers
    return (
        f"In {numbers['readings']} readings of the last 24 hours, the energy never fell, and rose "
        f"{numbers['rises']} times, from {_energy(numbers['first_kwh'])} to "
        f"{_energy(numbers['last_kwh'])}. A counter, not the energy since the previous reading?"
    )


def _power(hint: Hint) -> str:
    numbers: Mapping[str, Any] = hint.numbers
    return (
        f"{numbers['over']} of {numbers['rises']} steps in the last 24 hours are left out as "
        f"suspect, above {numbers['limit_kw']:g} kW: half of them are above "
        f"{numbers['power_kw']:,.0f} kW."
    )


def _clock(hint: Hint) -> str:
    lag = timedelta(seconds=round(hint.numbers["lag_seconds"]))
    hours, minutes = lag.seconds // 3600, lag.seconds % 3600 // 60
    return (
        f"Its readings arrive {lag.days} d {hours} h {minutes} min after their timestamps. If its "
        "clock can't be set, an offset corrects the readings that arrive from now on."
    )


_WHY: Final[Mapping[str, Callable[[Hint], str]]] = {
    HintKind.UNIT: _unit,
    HintKind.REGISTER: _register,
    HintKind.POWER: _power,
    HintKind.CLOCK: _clock,
}
