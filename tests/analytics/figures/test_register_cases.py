"""What registers report, and the energy that it is: every example of the rules, and their limits.

Each holds for a meter and for a vehicle, from history and from hourly sums, and in the reference
that the truth test judges by. Those marked "reported" are from public bug reports of other
products, with other numbers.
"""

from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import NamedTuple

import pytest

from tests.analytics.figures import reference
from tests.analytics.figures.broken_rules import OF_REGISTERS, broken
from tests.analytics.figures.field import DAY, HOUR, MINUTE, Field

START = datetime(2026, 7, 14, tzinfo=UTC)
END = START + timedelta(hours=36)
SECOND = timedelta(seconds=1)
COUNTER_11 = {"energy_register": "counter", "max_power_kw": 11.0}
COUNTER = {"energy_register": "counter"}


class Case(NamedTuple):
    """Readings, at times after the start, and what they come to."""

    name: str
    settings: dict[str, object]
    readings: list[tuple[timedelta, float]]
    kwh: float
    suspects: int = 0


def apart(pause: timedelta, *values: float) -> list[tuple[timedelta, float]]:
    return [(number * pause, value) for number, value in enumerate(values)]


SINKS = [
    (timedelta(0), 0.0),
    *((4 * HOUR + n * 15 * MINUTE, round(36.62 - 0.02 * n, 2)) for n in range(49)),
]
WHOLE_KWH = [(n * MINUTE, float(361 + 9 * n // 60)) for n in range(61)]
TENTHS = [(n * SECOND, 74 * n // 3600 / 10) for n in range(0, 3601, 10)]

REPORTED = [
    Case("sinks a little after it rose", COUNTER, SINKS, 36.62),
    Case(
        "a dip of a few digits", COUNTER, apart(30 * SECOND, 3.144, 3.27, 3.291, 3.27, 3.417), 0.273
    ),
    Case(
        "a tick back and forth",
        COUNTER,
        [
            (timedelta(0), 20292.7),
            (10 * MINUTE, 20292.8),
            (10 * MINUTE + 20 * SECOND, 20292.7),
            (20 * MINUTE + 20 * SECOND, 20293.7),
        ],
        1.0,
    ),
    Case("whole kWh, a reading a minute", COUNTER_11, WHOLE_KWH, 9.0),
    Case("ticks of 0.1 kWh, a reading each 10 s", COUNTER_11, TENTHS, 7.4),
    Case("a zero in between", COUNTER, apart(15 * SECOND, 35.5, 35.6, 0.0, 35.6, 35.7), 0.2),
    Case(
        "a zero before an outage",
        COUNTER_11,
        [
            (timedelta(0), 35.5),
            (MINUTE, 35.6),
            (2 * MINUTE, 0.0),
            (2 * MINUTE + 5 * HOUR, 40.0),
            (2 * MINUTE + 6 * HOUR, 44.0),
        ],
        8.5,
    ),
    Case(
        "a leap that its power would allow",
        COUNTER_11,
        [
            (timedelta(0), 100.0),
            (10 * HOUR, 100.0),
            (10 * HOUR + MINUTE, 150.0),
            (10 * HOUR + 2 * MINUTE, 100.05),
            (10 * HOUR + 12 * MINUTE, 101.0),
        ],
        1.0,
    ),
    Case(
        "a leap that stays", COUNTER_11, apart(30 * MINUTE, 100, 100.5, 5000, 5000.5, 5001), 1.5, 1
    ),
    Case("a reset", COUNTER, apart(2 * HOUR, 5000, 5010, 0.4, 10.4), 20.4),
    Case("a second-hand meter", COUNTER, apart(3 * HOUR, 5420, 5422.75, 3120.5, 3130.5), 12.75),
    Case("half of what it was", COUNTER, apart(HOUR, 528, 532, 264.9, 268.9), 8.0),
    Case("a leap and back", COUNTER, apart(5 * MINUTE, 100, 53_700_000, 101), 1.0, 1),
    Case(
        "a roll-over",
        COUNTER_11 | {"rolls_over_at_kwh": 838.8608},
        apart(19 * HOUR, 800, 20),
        58.8608,
    ),
    Case(
        "sessions",
        {"energy_register": "session_counter"},
        apart(HOUR, 0, 5, 15.36, 0, 3, 8),
        23.36,
    ),
    Case(
        "an interval too large", {"max_power_kw": 11.0}, apart(3 * MINUTE, 0.3, 36.9, 0.3), 0.6, 1
    ),
    Case("Wh", COUNTER | {"scale": 0.001}, apart(HOUR, 300_000, 330_000), 30.0),
]

SESSIONS_11 = {"energy_register": "session_counter", "max_power_kw": 11.0}
LIMITS = [
    # 1.1 · 10 kW · (59 + 1) min = 11 kWh.
    Case(
        "up to its power", COUNTER | {"max_power_kw": 10.0}, apart(59 * MINUTE, 100, 110.99), 10.99
    ),
    Case(
        "above its power", COUNTER | {"max_power_kw": 10.0}, apart(59 * MINUTE, 100, 111.01), 0.0, 1
    ),
    Case("interval up to its power", {"max_power_kw": 10.0}, apart(59 * MINUTE, 1, 10.99), 11.99),
    Case("interval above its power", {"max_power_kw": 10.0}, apart(59 * MINUTE, 1, 11.01), 1.0, 1),
    Case(
        "an interval of unknown length", {"max_power_kw": 10.0}, apart(76 * MINUTE, 50, 50), 100.0
    ),
    Case("an interval without a power", {}, apart(MINUTE, 1, 1e6), 1e6 + 1),
    # A counter without one has 400 kW: 440 kWh in 59 min.
    Case("up to the usual power", COUNTER, apart(59 * MINUTE, 100, 539.9), 439.9),
    Case("above the usual power", COUNTER, apart(59 * MINUTE, 100, 540.1), 0.0, 1),
    Case(
        "a power above the usual one",
        COUNTER | {"max_power_kw": 1000.0},
        apart(59 * MINUTE, 100, 1000),
        900.0,
    ),
    Case(
        "Wh within its power",
        COUNTER | {"max_power_kw": 10.0, "scale": 0.001},
        apart(59 * MINUTE, 100_000, 110_990),
        10.99,
    ),
    Case(
        "a transformer above its power",
        COUNTER | {"max_power_kw": 10.0, "scale": 40.0},
        apart(59 * MINUTE, 100, 100.5),
        0.0,
        1,
    ),
    Case("interval in Wh", {"scale": 0.001}, apart(MINUTE, 250, 500), 0.75),
    # Since the value last rose, 3 h ago: 12.1 · 181 min.
    Case("stands still, then rises", COUNTER_11, apart(HOUR, 100, 101, 101, 101, 137), 37.0),
    # From the first reading on, though the value never rose.
    Case("a first rise", COUNTER_11, apart(HOUR, 100, 100, 100, 136), 36.0),
    Case("a leap for good, a step later", COUNTER_11, apart(HOUR, 100, 500, 500, 500, 505), 5.0, 1),
    # The newest reading: nothing says yet whether the register stays there.
    Case("a leap, so far", COUNTER_11, apart(HOUR, 100, 101, 500), 1.0, 1),
    Case("a leap that goes on", COUNTER_11, apart(HOUR, 100, 101, 500, 502), 3.0, 1),
    Case("a leap that falls", COUNTER_11, apart(HOUR, 100, 101, 500, 99.5, 102), 2.0, 1),
    Case("a fall, so far", COUNTER, apart(HOUR, 100, 101, 60), 1.0),
    Case("a fall that was a dip", COUNTER, apart(HOUR, 100, 101, 60, 102), 2.0),
    Case("a fall that stays", COUNTER, apart(HOUR, 100, 101, 60, 61), 2.0),
    Case("two readings in a dip", COUNTER, apart(HOUR, 100, 101, 60, 60, 102), 2.0),
    Case("a reset, so far", COUNTER, apart(HOUR, 100, 101, 2), 3.0),
    Case("a reset that was a dip", COUNTER, apart(HOUR, 100, 101, 2, 102), 2.0),
    Case("a tenth and a bit", COUNTER, apart(HOUR, 100, 10.1, 20.1), 10.0),
    Case("less than a tenth", COUNTER, apart(HOUR, 100, 9.9, 19.9), 19.9),
    Case("a reset above its power", COUNTER_11, apart(HOUR, 5000, 400, 405), 5.0, 1),
    Case("a session above its power", SESSIONS_11, apart(HOUR, 20, 25, 15, 20), 10.0, 1),
    Case("a session with a large beginning", SESSIONS_11, apart(HOUR, 20, 25, 12, 20), 25.0),
    Case("a session is no dip", SESSIONS_11, apart(HOUR, 2, 8, 1, 9), 15.0),
    Case(
        "a roll-over above its power",
        COUNTER_11 | {"rolls_over_at_kwh": 1000.0},
        apart(HOUR, 900, 300, 305),
        5.0,
    ),
    Case(
        "a roll-over before a dip",
        COUNTER_11 | {"rolls_over_at_kwh": 1000.0},
        apart(HOUR, 998, 2, 999),
        4.0,
        1,
    ),
    Case("halfway back is no leap", COUNTER, apart(HOUR, 100, 110, 105), 10.0),
    Case("nearer to where it was", COUNTER, apart(HOUR, 100, 110, 104.9), 4.9),
    Case("nearer to where it leapt", COUNTER, apart(HOUR, 100, 110, 105.1), 10.0),
    Case("one reading of a counter", COUNTER, [(HOUR, 5000.0)], 0.0),
    Case("one reading of an interval", {}, [(HOUR, 5.0)], 5.0),
]

CASES = [pytest.param(case, id=case.name) for case in REPORTED + LIMITS]


@pytest.mark.parametrize("case", CASES)
def test_reference_gives_the_energy_of_the_rules(case):
    assert judged(reference, case) == (pytest.approx(case.kwh, abs=1e-9), case.suspects)


@pytest.mark.parametrize("name", OF_REGISTERS)
def test_cases_find_each_rule_that_is_broken(name):
    judge = broken(name)

    assert any(
        judged(judge, case) != (pytest.approx(case.kwh, abs=1e-9), case.suspects)
        for case in REPORTED + LIMITS
    )


def judged(judge: ModuleType, case: Case) -> tuple[float, int]:
    """Return energy and suspect steps of a case, as `judge` has it."""
    of_case = dict(case.settings)
    readings = [judge.Reading(START + after, value) for after, value in case.readings]
    device = judge.Device(readings, of_case.pop("energy_register", "interval"), **of_case)
    curve = judge.Curve(device)
    return curve.kwh(START, END), curve.suspects_in(START, END)


@pytest.mark.parametrize("device_id", ["M1", "V1"])
@pytest.mark.parametrize("case", CASES)
def test_figures_give_the_energy_of_the_rules(field, case, device_id):
    field.device(device_id, **case.settings)
    field.device("V1" if device_id == "M1" else "M1")
    field.link("V1", "M1", START - DAY)
    field.delivers(device_id, [(START + after, value) for after, value in case.readings])

    figure = field.figure("V1", START, END)

    energy = "energyConsumedAc" if device_id == "M1" else "energyDeliveredDc"
    assert figure[energy] == pytest.approx(case.kwh, abs=1e-9)
    assert figure["suspectSteps"] == case.suspects
    counted = figure["dataPoints"]["meter" if device_id == "M1" else "vehicle"]
    assert counted == len(case.readings)


# --- What history says later ------------------------------------------------------------------


def dc(field: Field) -> tuple[float, int]:
    """Return the energy of V1, as soon as something has changed; the same once it is summed up."""
    at_once = field.figure_at_once("V1", START, END)
    later = field.figure("V1", START, END)
    assert at_once["energyDeliveredDc"] == later["energyDeliveredDc"]
    assert at_once["suspectSteps"] == later["suspectSteps"]
    return later["energyDeliveredDc"], later["suspectSteps"]


def deliver(field: Field, *readings: tuple[timedelta, float]) -> None:
    field.delivers("V1", [(START + after, value) for after, value in readings])


def test_leap_is_decided_again_when_the_next_value_comes(field):
    field.device("V1", **COUNTER_11)
    deliver(field, (HOUR, 100.0), (2 * HOUR, 101.0), (3 * HOUR, 500.0))
    assert dc(field) == (1.0, 1)

    deliver(field, (30 * HOUR, 503.0))
    assert dc(field) == (4.0, 1)

    # 101, 500, 102, 503: 500 was a leap, and 503 is 401 kWh in 12 hours.
    deliver(field, (18 * HOUR, 102.0))
    assert dc(field) == (2.0, 2)


def test_dip_is_decided_again_when_the_next_value_comes(field):
    field.device("V1", **COUNTER)
    deliver(field, (HOUR, 100.0), (2 * HOUR, 101.0), (3 * HOUR, 2.0))
    assert dc(field) == (3.0, 0)

    deliver(field, (20 * HOUR, 2.0))
    assert dc(field) == (3.0, 0)

    deliver(field, (30 * HOUR, 104.0))
    assert dc(field) == (4.0, 0)


def test_correction_changes_what_its_neighbours_mean(field):
    field.device("V1", **COUNTER)
    deliver(field, (HOUR, 100.0), (5 * HOUR, 90.0), (9 * HOUR, 91.0), (13 * HOUR, 92.0))
    assert dc(field) == (2.0, 0)

    deliver(field, (13 * HOUR, 101.0))

    # 90 is now a fall, with 91 after it; 91 to 101 is a rise.
    assert dc(field) == (11.0, 0)

    deliver(field, (9 * HOUR, 102.0))

    # 90 was a dip; 102 to 101 is a register that sinks.
    assert dc(field) == (2.0, 0)


def test_late_reading_of_an_interval_shortens_the_next_one(field):
    field.device("V1")
    deliver(field, (HOUR, 1.0), (2 * HOUR, 6.0))
    half = (START + HOUR, START + HOUR + 30 * MINUTE)
    assert field.figure("V1", *half)["energyDeliveredDc"] == 4.0  # 1 at 01:00, half of 6

    deliver(field, (HOUR + 30 * MINUTE, 2.0))

    assert field.figure_at_once("V1", *half)["energyDeliveredDc"] == 3.0
    assert field.figure("V1", *half)["energyDeliveredDc"] == 3.0


SETTINGS = [
    ({"scale": 0.5}, (5.0, 0)),
    ({"energy_register": "interval"}, (351.0, 0)),
    ({"energy_register": "session_counter"}, (30.0, 0)),
    ({"max_power_kw": 0.9}, (2.0, 1)),  # 8 kWh in 8 h are too much: 0.99 · 481 min
    ({"rolls_over_at_kwh": 120.0}, (41.0, 0)),
]


@pytest.mark.parametrize(("changed", "expected"), SETTINGS)
def test_changed_setting_shows_in_figures_of_all_times_at_once(field, changed, expected):
    field.device("V1", **COUNTER)
    values = {1: 100.0, 2: 101.0, 10: 109.0, 20: 20.0, 30: 21.0}
    deliver(field, *((hours * HOUR, value) for hours, value in values.items()))
    assert dc(field) == (10.0, 0)

    field.device("V1", **changed)

    assert dc(field) == expected
