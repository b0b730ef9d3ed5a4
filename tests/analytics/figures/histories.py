"""Histories, settings and times as hypothesis draws them: each rule of registers is hit.

Timestamps repeat and fall on the bounds of hours and windows.
"""

from collections.abc import Callable
from datetime import timedelta

from hypothesis import strategies as st

from ingestion.readings import MeterReading, VehicleReading
from tests.conftest import NOON

VEHICLES, METERS = ["V1", "V2", "V3"], ["M1", "M2", "M3"]
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
# A grid.
minutes = st.integers(-60, 36).map(lambda number: 5 * number * MINUTE)
temps = st.sampled_from([None, 20.0, 31.5])
devices = st.sampled_from(VEHICLES + METERS)
# Eighths of a kWh are exact, and none is just as much as a power allows in whole minutes.
DEFAULT_MAX_POWER_KW = 37.0
kwh = st.sampled_from([0.0, 0.125, 1.0, 2.5, 7.0, 40.0, 41.5])
# What a register does from one reading to the next, given its value and its highest value so far.
MOVES: dict[str, Callable[[float, float], float]] = {
    "rises": lambda value, _: value + 1.25,
    "rises a little": lambda value, _: value + 0.125,
    "rises much": lambda value, _: value + 30.0,
    "stands still": lambda value, _: value,
    "sinks": lambda value, _: max(0.0, value - 0.125),
    "leaps": lambda value, _: value + 4096.0,
    "is back": lambda _, highest: highest,
    "is at zero": lambda _, highest: 0.0,
    "rolls over": lambda _, highest: 0.5,
    "begins anew": lambda _, highest: 0.25,
    "is another": lambda value, _: value // 2,
}
PAUSES = [MINUTE, 5 * MINUTE, 15 * MINUTE, 40 * MINUTE, 80 * MINUTE]
OFFSETS = [0 * SECOND, 0 * SECOND, 13 * SECOND]
# What decides about a reading, as the reference names it: histories put each of them to the test.
RULES = {
    *(f"counter: rule {number}" for number in (1, 2, 3, 5, 6, 7, 8)),
    *(f"session_counter: rule {number}" for number in (1, 2, 3, 4)),
    "interval: spread from the one before",
    "interval: spread over a cadence",
    "interval: at its instant",
    "interval: not plausible",
}
THE_DAY_BEFORE_YESTERDAY = timedelta(days=-2)

Delivered = tuple[str, timedelta, float, float | None]


@st.composite
def bursts(draw: st.DrawFn) -> list[Delivered]:
    """Readings of one device that follow each other, as one of its registers would have it."""
    device, pause, offset = (
        draw(of) for of in (devices, st.sampled_from(PAUSES), st.sampled_from(OFFSETS))
    )
    at = draw(minutes) + offset
    value = highest = draw(st.sampled_from([0.0, 5.0, 100.0, 126.5, 126.5, 4996.0]))
    readings = [(device, at, value, None)]
    if draw(st.integers(0, 9)) == 0:
        readings.append((device, THE_DAY_BEFORE_YESTERDAY + offset, max(0.0, value - 8.0), None))
    for move in draw(st.lists(st.sampled_from(sorted(MOVES)), min_size=1, max_size=6)):
        at += pause
        value = MOVES[move](value, highest)
        highest = max(highest, value) if move != "leaps" else highest
        readings.append((device, at, value, draw(temps)))
    return readings


@st.composite
def amounts(draw: st.DrawFn) -> list[Delivered]:
    """Readings of one device on a grid: energy of intervals."""
    device, pause = draw(devices), draw(st.sampled_from(PAUSES))
    at = draw(minutes) + draw(st.sampled_from(OFFSETS))
    values = draw(st.lists(kwh, min_size=2, max_size=10))
    return [(device, at + n * pause, value, None) for n, value in enumerate(values)]


deliveries = st.one_of(
    st.lists(st.tuples(devices, minutes, kwh, temps), min_size=1, max_size=6), bursts(), amounts()
)
# These are rare, and easily missed by chance.
SESSIONS = {
    "energy_register": "session_counter",
    "scale": 1.0,
    "max_power_kw": None,
    "interval_seconds": None,
    "rolls_over_at_kwh": None,
}
ROLLS_OVER = {**SESSIONS, "energy_register": "counter", "rolls_over_at_kwh": 128.0}
any_settings = st.fixed_dictionaries(
    {
        "energy_register": st.sampled_from(["interval", "counter", "session_counter"]),
        "scale": st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.001]),
        "max_power_kw": st.sampled_from([None, None, 11.0]),
        "interval_seconds": st.sampled_from([None, None, 60.0, 900.0]),
        "rolls_over_at_kwh": st.sampled_from([None, 128.0, 128.0, 5000.0]),
    }
)
device_settings = st.one_of(any_settings, any_settings, st.just(ROLLS_OVER), st.just(SESSIONS))


def reading(
    device: str, at: timedelta, kwh: float, temp: float | None
) -> MeterReading | VehicleReading:
    """Return a reading whose time is counted from noon."""
    if device in METERS:
        return MeterReading(meter_id=device, energy_ac_kwh=kwh, measured_at=NOON + at)
    return VehicleReading(
        vehicle_id=device, energy_dc_kwh=kwh, battery_temp_celsius=temp, measured_at=NOON + at
    )
