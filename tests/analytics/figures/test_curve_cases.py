"""Energy is a curve over time: where steps begin, what spans of time have of them, who shares them.

Every example of the rules, and their limits, from history and from hourly sums. Those marked
"reported" are from public bug reports of other products, with other numbers.
"""

from datetime import datetime, timedelta

import pytest

from analytics.models import MeterCadence
from analytics.rollups.cadence import learn_cadences
from tests.analytics.figures.field import DAY, HOUR, MINUTE, Field, every
from tests.conftest import at

MIDNIGHT = at("00:00")
SECOND = timedelta(seconds=1)


def energies(points: list[dict], name: str = "energyConsumedAc") -> list[float]:
    return [point[name] for point in points]


def near(*kwh: float) -> object:
    return pytest.approx(list(kwh), abs=1e-9)


def ac_and_ratio(figure: dict) -> tuple[float, float | None]:
    return figure["energyConsumedAc"], figure["efficiencyRatio"]


# --- Examples of the rules --------------------------------------------------------------------


@pytest.fixture
def two_cars(field) -> Field:
    """A takes 7.2 kWh from 08:00 to 09:00, B 5.4 from 09:00 to 10:00, in readings a minute."""
    field.delivers("VA", every(MINUTE, at("08:00"), at("09:00"), 0.12, first_kwh=0.0))
    field.delivers("VA", every(MINUTE, at("09:00"), at("10:00"), 0.0))
    field.delivers("VB", every(MINUTE, at("08:00"), at("09:00"), 0.0, first_kwh=0.0))
    field.delivers("VB", every(MINUTE, at("09:00"), at("10:00"), 0.09))
    return field


def test_hourly_meter_beside_minute_wise_cars(two_cars):  # reported
    for vehicle_id in ("VA", "VB"):
        two_cars.link(vehicle_id, "M1", MIDNIGHT)
    two_cars.delivers("M1", [(at("08:00"), 0.0), (at("09:00"), 8.0), (at("10:00"), 6.0)])

    assert ac_and_ratio(two_cars.figure("VA", at("08:00"), at("10:00"))) == (8.0, 90.0)
    assert ac_and_ratio(two_cars.figure("VB", at("08:00"), at("10:00"))) == (6.0, 90.0)


def test_quarter_hour_meter_whose_link_moves_to_the_next_car(two_cars):  # reported
    two_cars.link("VA", "M1", MIDNIGHT, at("09:00"))
    two_cars.link("VB", "M1", at("09:00"))
    two_cars.delivers("M1", every(15 * MINUTE, at("08:00"), at("09:00"), 2.0, first_kwh=0.0))
    two_cars.delivers("M1", every(15 * MINUTE, at("09:00"), at("10:00"), 1.5))

    assert ac_and_ratio(two_cars.figure("VA", at("08:00"), at("10:00"))) == (8.0, 90.0)
    assert ac_and_ratio(two_cars.figure("VB", at("08:00"), at("10:00"))) == (6.0, 90.0)


@pytest.mark.parametrize("is_moved_and_back", [False, True])
def test_each_step_of_a_meter_is_split_by_what_cars_took_meanwhile(field, is_moved_and_back):
    for vehicle_id in ("VA", "VB"):
        field.link(vehicle_id, "M1", MIDNIGHT)
    if is_moved_and_back:
        field.link("VA", "M2", at("10:30"))
        field.link("VA", "M1", at("10:30"))
    field.delivers("M1", [(at("10:00"), 0.0), (at("10:30"), 10.0), (at("11:00"), 10.0)])
    field.delivers("VA", every(MINUTE, at("10:00"), at("10:30"), 0.3, first_kwh=0.0))
    field.delivers("VB", every(MINUTE, at("10:30"), at("11:00"), 0.3, first_kwh=0.0))
    hour = (at("10:00"), at("11:00"))

    assert field.figure("VA", *hour)["energyConsumedAc"] == 10.0
    assert field.figure("VB", *hour)["energyConsumedAc"] == 10.0
    assert energies(field.series("VA", *hour, granularity="15m")) == near(5, 5, 0, 0)
    assert energies(field.series("VB", *hour, granularity="15m")) == near(0, 0, 5, 5)


def test_hourly_readings_some_seconds_after_the_hour(field):  # reported
    field.link("V1", "M1", MIDNIGHT)
    hours = ("08:00:13", "09:00:13", "10:00:13")
    field.delivers("M1", zip(map(at, hours), (0.0, 8.0, 8.0), strict=True))
    field.delivers("V1", every(MINUTE, at("08:00"), at("10:00"), 0.12, first_kwh=0.0))

    points = field.series("V1", at("08:00"), at("10:00"))

    # 8 · 3587 s / 3600 s in the first hour.
    assert energies(points) == near(8 * 3587 / 3600, 8.0)
    assert energies(points, "efficiencyRatio") == [pytest.approx(90, abs=0.45), 90.0]


def test_outage_of_a_counter_is_spread_over_its_days(field):  # reported
    first = MIDNIGHT - 3 * DAY
    back = first + 2 * DAY
    field.device("M1", energy_register="counter")
    field.link("V1", "M1", first)
    hours = [(back + n * HOUR, 160.0 + n) for n in range(25)]
    field.delivers("M1", [(first, 112.0), *hours])
    field.delivers("V1", every(HOUR, first, back + DAY, 0.9, first_kwh=0.0))

    days = field.series("V1", first, back + DAY, granularity="day")

    assert energies(days) == near(24, 24, 24)
    assert energies(days, "efficiencyRatio") == [90.0, 90.0, 90.0]


# --- Where a step begins ----------------------------------------------------------------------


def before_and_after(field: Field, vehicle_id: str, middle: datetime) -> tuple[float, float]:
    """Return the DC of a vehicle before an instant of the day, and from then on."""
    spans = ((MIDNIGHT - DAY, middle), (middle, MIDNIGHT + 11 * HOUR))
    first, second = (field.figure(vehicle_id, *span)["energyDeliveredDc"] for span in spans)
    return first, second


PAUSES = [
    # cadence, pause, how long before the reading its step begins
    (None, 75 * MINUTE, 75 * MINUTE),
    (None, 75 * MINUTE + SECOND, timedelta(0)),
    (MINUTE, 15 * MINUTE, 15 * MINUTE),
    (MINUTE, 15 * MINUTE + SECOND, MINUTE),
    (5 * MINUTE, 15 * MINUTE, 15 * MINUTE),
    (10 * MINUTE, 30 * MINUTE, 30 * MINUTE),
    (10 * MINUTE, 30 * MINUTE + SECOND, 10 * MINUTE),
    (HOUR, 3 * HOUR, 3 * HOUR),
    (HOUR, 3 * HOUR + SECOND, HOUR),
]


@pytest.mark.parametrize(("cadence", "pause", "length"), PAUSES)
def test_step_of_an_interval_begins_at_the_reading_before_or_a_cadence_back(
    field, cadence, pause, length
):
    field.device("V1", interval_seconds=cadence and cadence.total_seconds())
    field.delivers("V1", [(at("09:20") - pause, 0.0), (at("09:20"), 6.0)])

    begins = at("09:20") - length
    if length:
        assert before_and_after(field, "V1", begins) == (0.0, 6.0)
        assert before_and_after(field, "V1", begins + length / 3) == near(2, 4)
    else:
        assert before_and_after(field, "V1", begins) == (0.0, 6.0)
        assert before_and_after(field, "V1", begins + SECOND) == (6.0, 0.0)


def test_first_reading_of_an_interval_lies_at_its_instant(field):
    field.delivers("V1", [(at("09:20"), 6.0)])

    assert before_and_after(field, "V1", at("09:20")) == (0.0, 6.0)
    assert before_and_after(field, "V1", at("09:20:01")) == (6.0, 0.0)


def test_first_reading_of_an_interval_with_a_cadence_begins_a_cadence_back(field):
    field.device("V1", interval_seconds=900.0)
    field.delivers("V1", [(at("09:20"), 6.0)])

    assert before_and_after(field, "V1", at("09:15")) == near(4, 2)


def test_cadence_that_is_learned_says_where_steps_begin(field):
    field.delivers("V1", every(15 * MINUTE, at("04:00"), at("08:00"), 6.0, first_kwh=6.0))
    assert before_and_after(field, "V1", at("03:55")) == near(0, 17 * 6)

    learn_cadences()

    # From 03:45 to 04:00.
    assert before_and_after(field, "V1", at("03:55")) == near(4, 16 * 6 + 2)


def test_declared_interval_wins_over_the_learned_one(field):
    field.device("V1", interval_seconds=1800.0)
    field.delivers("V1", every(15 * MINUTE, at("04:00"), at("08:00"), 6.0, first_kwh=6.0))
    learn_cadences()

    assert before_and_after(field, "V1", at("03:50")) == near(4, 16 * 6 + 2)


LEARNED = [
    (1, 1), (7, 5), (13, 15), (29, 30), (50, 60), (75, 60), (250, 300), (840, 900),
    (1790, 1800), (3700, 3600), (20_000, 21_600), (43_000, 43_200), (85_000, 86_400),
]  # fmt: skip


@pytest.mark.parametrize(("pause", "cadence"), LEARNED)
def test_learned_cadence_is_a_usual_one(field, pause, cadence):
    newest = at("11:30")
    field.delivers("M1", [(newest - n * pause * SECOND, 1.0) for n in range(12)])

    learn_cadences()

    assert MeterCadence.objects.get().cadence_seconds == cadence


@pytest.mark.parametrize("register", ["counter", "session_counter"])
def test_step_of_a_counter_begins_at_the_reading_before_however_far_back(field, register):
    field.device("V1", energy_register=register, interval_seconds=60.0)
    field.delivers("V1", [(at("00:00"), 100.0), (at("10:00"), 110.0)])

    assert before_and_after(field, "V1", at("02:00")) == near(2, 8)


@pytest.mark.parametrize("ignored", [180.0, 3.0])
def test_ignored_reading_of_a_counter_is_no_end_of_an_interval(field, ignored):
    field.device("V1", energy_register="counter")
    values = {"00:00": 100.0, "02:00": 104.0, "05:00": ignored, "10:00": 112.0}
    field.delivers("V1", [(at(time), value) for time, value in values.items()])

    # A leap or a dip: 8 kWh from 02:00 to 10:00.
    assert before_and_after(field, "V1", at("02:00")) == near(4, 8)
    assert before_and_after(field, "V1", at("05:30")) == near(4 + 3.5, 4.5)


def test_counter_goes_on_from_the_latest_reading_of_a_value(field):
    field.device("V1", energy_register="counter")
    field.delivers("V1", [(at("00:00"), 100.0), (at("06:00"), 100.0), (at("10:00"), 104.0)])

    assert before_and_after(field, "V1", at("07:00")) == near(1, 3)


@pytest.mark.parametrize("last", ["10:00:00.000001", "10:30"])
def test_energy_of_a_window_does_not_wait_for_a_reading_in_it(field, last):
    field.device("V1", energy_register="counter")
    field.delivers("V1", [(at("08:00"), 100.0), (at(last), 110.0)])

    figure = field.figure("V1", at("08:30"), at("09:30"))

    hours = (at(last) - at("08:00")) / HOUR
    assert figure["energyDeliveredDc"] == pytest.approx(10 / hours, abs=1e-9)
    assert figure["dataPoints"]["vehicle"] == 0


# --- What cuts time ---------------------------------------------------------------------------


def test_days_of_a_time_zone_at_half_past_have_their_part_of_an_hour(field):
    field.link("V1", "M1", MIDNIGHT - 2 * DAY)
    day_before = MIDNIGHT - DAY
    field.delivers("M1", [(day_before + n * HOUR, 4.0 if n else 0.0) for n in range(25)])

    days = field.series("V1", day_before, MIDNIGHT, granularity="day", tz="Asia/Kolkata")

    assert energies(days) == near(18.5 * 4, 5.5 * 4)


def test_link_has_the_part_of_a_step_that_lies_in_it(field):
    field.delivers("M1", [(at("08:00"), 0.0), (at("09:00"), 6.0)])
    field.delivers("VA", [(at("08:00"), 0.0), (at("09:00"), 3.0)])
    field.link("VA", "M1", at("08:10"), at("08:40"))

    figure = field.figure("VA", at("08:00"), at("10:00"))

    assert ac_and_ratio(figure) == (3.0, 50.0)
    assert figure["energyDeliveredDc"] == 3.0


def test_gap_in_the_past_takes_its_part_of_a_step(field):
    field.link("VA", "M1", MIDNIGHT)
    field.delivers("M1", [(at("08:00"), 0.0), (at("09:00"), 6.0)])
    field.gap("VA", at("08:20"), at("08:30"))

    assert field.figure("VA", at("08:00"), at("10:00"))["energyConsumedAc"] == 5.0


# --- Shared meters ----------------------------------------------------------------------------


def test_step_is_split_by_the_dc_of_its_whole_interval_wherever_a_window_cuts_it(field):
    for vehicle_id in ("VA", "VB"):
        field.link(vehicle_id, "M1", MIDNIGHT)
    field.delivers("M1", [(at("08:00"), 0.0), (at("09:00"), 12.0)])
    field.delivers("VA", every(15 * MINUTE, at("08:00"), at("08:30"), 3.0, first_kwh=0.0))
    field.delivers("VB", every(15 * MINUTE, at("08:30"), at("09:00"), 1.0, first_kwh=0.0))

    # 6 of 8 kWh DC are A's, so 9 of 12 kWh AC, evenly over the hour.
    points = field.series("VA", at("08:00"), at("09:00"), granularity="15m")
    assert energies(points) == near(2.25, 2.25, 2.25, 2.25)
    assert field.figure("VB", at("08:00"), at("08:20"))["energyConsumedAc"] == 1.0


def test_step_is_split_equally_where_none_took_any(field):
    for vehicle_id in ("VA", "VB", "VC"):
        field.link(vehicle_id, "M1", MIDNIGHT)
    field.delivers("M1", [(at("08:00"), 0.0), (at("09:00"), 12.0)])
    field.delivers("VA", [(at("08:00"), 0.0), (at("09:00"), 0.0)])

    assert field.figure("VA", at("08:00"), at("09:00"))["energyConsumedAc"] == 4.0
    assert field.figure("VC", at("08:00"), at("08:30"))["energyConsumedAc"] == 2.0


def test_step_is_split_among_those_that_are_linked_at_the_time(field):
    field.link("VA", "M1", MIDNIGHT)
    field.link("VB", "M1", at("08:30"))
    field.delivers("M1", [(at("08:00"), 0.0), (at("09:00"), 12.0)])
    field.delivers("VA", [(at("08:00"), 0.0), (at("09:00"), 6.0)])
    field.delivers("VB", [(at("08:00"), 0.0), (at("09:00"), 2.0)])

    # All of the first half; then 6 of 8, as in the whole interval.
    assert field.figure("VA", at("08:00"), at("09:00"))["energyConsumedAc"] == 6 + 4.5
    figure = field.figure("VB", at("08:00"), at("09:00"))
    assert (figure["energyConsumedAc"], figure["acSource"]) == (1.5, "shared")


def test_long_step_of_a_counter_is_split_by_the_dc_of_all_its_hours(field):
    field.device("M1", energy_register="counter")
    for vehicle_id in ("VA", "VB"):
        field.link(vehicle_id, "M1", MIDNIGHT)
    field.delivers("M1", [(at("00:30"), 100.0), (at("08:30"), 116.0)])
    field.delivers("VA", every(30 * MINUTE, at("00:30"), at("02:30"), 2.25, first_kwh=0.0))
    field.delivers("VB", every(30 * MINUTE, at("06:30"), at("08:30"), 0.75, first_kwh=0.0))

    assert field.figure("VA", MIDNIGHT, at("09:00"))["energyConsumedAc"] == 12.0
    hours = field.series("VB", at("00:30"), at("08:30"))
    assert energies(hours) == near(0.25, *7 * [0.5], 0.25)


# --- Devices without a link -------------------------------------------------------------------


def test_devices_without_a_link_share_the_curves_of_meters_without_one(field):
    field.link("VB", "M2", MIDNIGHT)
    field.delivers("M1", [(at("08:00"), 0.0), (at("09:00"), 16.0)])
    field.delivers("M2", [(at("08:00"), 0.0), (at("09:00"), 99.0)])
    field.delivers("VA", [(at("08:00"), 0.0), (at("09:00"), 9.0)])
    field.delivers("VC", [(at("08:15"), 0.0), (at("08:45"), 3.0)])

    # From 08:30 on: 8 kWh AC, by 4.5 and 1.5 kWh DC.
    half = field.figure("VA", at("08:30"), at("10:00"))
    assert (half["energyConsumedAc"], half["energyDeliveredDc"]) == (6.0, 4.5)
    assert half["acSource"] == "fleet"

    # Pieces of a window take the share of the window: 9 of 12.
    points = field.series("VA", at("08:00"), at("09:00"), granularity="15m")
    assert sum(energies(points)) == pytest.approx(12.0, abs=1e-9)
    assert energies(points) == near(3, 3, 3, 3)
