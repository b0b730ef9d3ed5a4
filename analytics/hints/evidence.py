"""What the readings of the last 24 hours say about the settings of their devices."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final, NamedTuple

from django.conf import settings

from analytics.models import Fault, FaultKind, FaultState, HintKind
from analytics.sql import STATEMENTS
from fleet.models import EnergyRegister, Meter, MeterLiveState, Vehicle, VehicleLiveState
from fleet.stores.statements import Statement

Device = type[Meter] | type[Vehicle]

DAY: Final = timedelta(days=1)
# The efficiency with a healthy or a poor charger, percent. A thousandth of it, or a thousand times
# as much, is due to a unit.
RATIOS: Final = (40.0, 125.0)
# What a vehicle takes in a day, kWh.
A_DAYS_DC: Final = (0.3, 1500.0)
# No charger and no vehicle of today has more, kW.
MOST_KW: Final = 1000.0

_odd_ratios: Final = Statement(STATEMENTS / "odd_ratios.sql")
_RISING: Final[Mapping[Device, Statement]] = {
    Meter: Statement(STATEMENTS / "rising_meters.sql"),
    Vehicle: Statement(STATEMENTS / "rising_vehicles.sql"),
}
_IMPLAUSIBLE: Final[Mapping[Device, Statement]] = {
    Meter: Statement(STATEMENTS / "implausible_meters.sql"),
    Vehicle: Statement(STATEMENTS / "implausible_vehicles.sql"),
}
_LIVE: Final[Mapping[Device, Any]] = {Meter: MeterLiveState, Vehicle: VehicleLiveState}


class Evidence(NamedTuple):
    """A field of a device that is wrong, its value and a better one; `numbers` say why."""

    kind: HintKind
    model: Device
    device_id: str
    field: str
    before: Any
    proposal: Any
    numbers: dict[str, Any]


def evidence(now: datetime) -> list[Evidence]:
    """Return what is wrong now, at most once for each device and kind.

    Of a device whose register is wrong, the energy says nothing about its unit.
    """
    found = [*_wrong_registers(now), *_wrong_powers(now), *_slow_clocks(now)]
    known = {(each.model, each.device_id) for each in found if each.kind != HintKind.CLOCK}
    units: dict[tuple[Device, str], Evidence] = {}
    for pair in _wrong_units(now):
        if not any((each.model, each.device_id) in known for each in pair.both):
            for each in pair.wrong:
                units.setdefault((each.model, each.device_id), each)
    return [*found, *units.values()]


# --- Registers and powers ---------------------------------------------------------------------


def _wrong_registers(now: datetime) -> Iterator[Evidence]:
    """Yield devices with an interval register that report a counter."""
    for model, statement in _RISING.items():
        for row in statement.rows({"now": now, "since": now - DAY}):
            yield Evidence(
                HintKind.REGISTER,
                model,
                row.device_id,
                "energy_register",
                str(EnergyRegister.INTERVAL),
                str(EnergyRegister.COUNTER),
                {
                    "readings": row.readings,
                    "rises": row.rises,
                    "first_kwh": row.first_kwh * row.scale,
                    "last_kwh": row.last_kwh * row.scale,
                },
            )


def _wrong_powers(now: datetime) -> Iterator[Evidence]:
    """Yield devices most of whose energy is left out as suspect: a wrong unit, or a wrong limit."""
    parameters = {
        "now": now,
        "snapshot_since": _snapshot_since(now),
        "since": now - DAY,
        "most_kw": settings.DEFAULT_MAX_POWER_KW,
    }
    for model, statement in _IMPLAUSIBLE.items():
        for row in statement.rows(parameters):
            numbers = {
                "rises": row.rises,
                "over": row.over_limit,
                "power_kw": row.median_kw,
                "limit_kw": row.max_power_kw or settings.DEFAULT_MAX_POWER_KW,
            }
            if row.median_kw > MOST_KW:
                yield _unit(model, row.device_id, row.scale, 0.001, numbers)
            elif row.most_kw <= MOST_KW:
                limit_kw = float(ceil(row.most_kw * 1.2 / 10) * 10)
                yield Evidence(
                    HintKind.POWER,
                    model,
                    row.device_id,
                    "max_power_kw",
                    row.max_power_kw,
                    limit_kw,
                    numbers,
                )


# --- Units ------------------------------------------------------------------------------------


class _Pair(NamedTuple):
    """A vehicle and its meter, one of which has a wrong unit; both, if it is not clear which."""

    both: tuple[Evidence, Evidence]
    wrong: tuple[Evidence, ...]


def _wrong_units(now: datetime) -> Iterator[_Pair]:
    """Yield vehicles and meters whose energies differ by a factor of a thousand."""
    low, high = RATIOS
    parameters = {"now": now, "since": _snapshot_since(now), "low": low, "high": high}
    for row in _odd_ratios.rows(parameters):
        numbers = {
            "percent": 100 * row.energy_dc_kwh / row.energy_ac_kwh,
            "dc_kwh": row.energy_dc_kwh,
            "ac_kwh": row.energy_ac_kwh,
            "vehicle_id": row.vehicle_id,
            "meter_id": row.meter_id,
        }
        # If the vehicle is wrong, this is its true DC; if the meter is, the DC is true as it is.
        factor = 1000.0 if row.energy_dc_kwh < row.energy_ac_kwh else 0.001
        vehicle_fits = _is_plausible(row.energy_dc_kwh * factor)
        meter_fits = _is_plausible(row.energy_dc_kwh)
        numbers["is_clear"] = vehicle_fits != meter_fits
        vehicle = _unit(Vehicle, row.vehicle_id, row.vehicle_scale, factor, numbers)
        meter = _unit(Meter, row.meter_id, row.meter_scale, 1 / factor, numbers)
        if vehicle_fits == meter_fits:
            yield _Pair((vehicle, meter), (vehicle, meter))
        else:
            yield _Pair((vehicle, meter), (vehicle if vehicle_fits else meter,))


def _is_plausible(a_days_dc_kwh: float) -> bool:
    low, high = A_DAYS_DC
    return low <= a_days_dc_kwh <= high


def _unit(
    model: Device, device_id: str, scale: float, factor: float, numbers: dict[str, Any]
) -> Evidence:
    # Without the noise of binary fractions.
    proposal = float(f"{scale * factor:.12g}")
    return Evidence(HintKind.UNIT, model, device_id, "scale", scale, proposal, numbers)


# --- Clocks -----------------------------------------------------------------------------------


def _slow_clocks(now: datetime) -> Iterator[Evidence]:
    """Yield devices in service with a fault of their clock that is still behind."""
    faults = Fault.objects.filter(kind=FaultKind.CLOCK).exclude(state=FaultState.CLOSED)
    for model, live in _LIVE.items():
        kind = str(model._meta.model_name)
        ids = [each for each in faults.values_list(f"{kind}_id", flat=True) if each]
        states = live.objects.filter(pk__in=ids).exclude(**{f"{kind}__retired_at__lte": now})
        for state in states.select_related(kind) if ids else []:
            lag, device = state.received_at - state.measured_at, getattr(state, kind)
            if lag >= DAY / 24:
                before = device.clock_offset_seconds
                proposal = before + round(lag.total_seconds())
                numbers = {"lag_seconds": lag.total_seconds()}
                yield Evidence(
                    HintKind.CLOCK,
                    model,
                    device.pk,
                    "clock_offset_seconds",
                    before,
                    proposal,
                    numbers,
                )


def _snapshot_since(now: datetime) -> datetime:
    return now - 2 * timedelta(minutes=settings.FLEET_SNAPSHOT_MINUTES) - timedelta(minutes=5)
