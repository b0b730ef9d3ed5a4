"""How often devices report, and when a figure says too little for a verdict on health.

What coverage is: `test_coverage_cases`.
"""

from datetime import timedelta

import pytest

from analytics.models import MeterCadence, VehicleCadence
from analytics.rollups.cadence import learn_cadences
from fleet.links import link_vehicle
from fleet.models import Meter, Vehicle
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

PATH = "/v1/analytics/performance/V1"
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def report(kind, device_id, first_at, every, times, kwh=1.0):
    """Let a device report `times` times, from `first_at` on."""
    readings = [kind(device_id, kwh=kwh) for _ in range(times)]
    for number, reading in enumerate(readings):
        reading.measured_at = first_at + number * every
    record(readings, NOON)


def figure(api, start: str = "00:00", end: str = "12:00", day: int = 15) -> dict:
    query = f"start=2026-07-15T{start}:00Z&end=2026-07-{day}T{end}:00Z"
    return api.get(f"{PATH}?{query}").json()


def cadence() -> float | None:
    learn_cadences()
    return VehicleCadence.objects.get(pk="V1").cadence_seconds


# --- Cadence ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("readings", "seconds"), [(9, None), (10, 60.0)])
def test_cadence_is_learned_from_ten_readings_on(api, readings, seconds):
    report(vehicle_reading, "V1", at("11:00"), MINUTE, readings)

    assert cadence() == seconds


def test_meters_have_a_cadence_too(api):
    report(meter_reading, "M1", at("08:00"), 15 * MINUTE, 12)
    learn_cadences()

    assert MeterCadence.objects.get().cadence_seconds == 900


def test_cadence_is_the_median_so_that_an_outage_does_not_change_it(api):
    report(vehicle_reading, "V1", at("01:00"), MINUTE, 8)
    report(vehicle_reading, "V1", at("09:00"), MINUTE, 8)

    assert cadence() == 60.0


def test_repeats_are_no_readings_of_their_own(api):
    for _ in range(3):
        report(vehicle_reading, "V1", at("11:00"), MINUTE, 9)

    assert cadence() is None


def test_cadence_is_learned_from_the_last_hundred_readings(api):
    report(vehicle_reading, "V1", at("00:00"), MINUTE, 200)
    report(vehicle_reading, "V1", at("03:20"), 5 * MINUTE, 100)

    assert cadence() == 300.0


def test_cadence_is_learned_anew_every_day(api, clock):
    report(vehicle_reading, "V1", at("11:00"), MINUTE, 20)
    assert cadence() == 60.0
    report(vehicle_reading, "V1", NOON, 10 * MINUTE, 100)  # new firmware

    clock.shift(timedelta(hours=24))
    assert cadence() == 60.0
    clock.shift(1)
    assert cadence() == 600.0


def test_device_without_a_cadence_is_looked_at_again_soon(api, clock):
    report(vehicle_reading, "V1", at("11:00"), MINUTE, 9)
    assert cadence() is None
    report(vehicle_reading, "V1", at("11:09"), MINUTE, 1)

    clock.shift(10 * MINUTE)
    assert cadence() is None
    clock.shift(1)
    assert cadence() == 60.0


def test_every_device_is_looked_at_once_however_many(api):
    record([vehicle_reading(f"V{number}") for number in range(1_001)], NOON)

    assert learn_cadences() == 1_001
    assert learn_cadences() == 0


# --- Coverage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("readings", "coverage"), [(9, None), (10, 1.0)])
def test_repeats_do_not_make_up_for_readings_that_are_missing(api, readings, coverage):
    link_vehicle("V1", "M1", at("00:00"))
    report(meter_reading, "M1", at("09:00"), MINUTE, 10)
    for _ in range(2):
        report(vehicle_reading, "V1", at("09:00"), MINUTE, readings)

    # The meter's last reading is a minute after the ninth of the vehicle.
    assert figure(api, end="09:09")["coverage"]["vehicle"] is None
    assert figure(api)["coverage"]["vehicle"] == coverage


def test_coverage_of_two_meters_one_after_the_other(api):
    Meter.objects.create(meter_id="M1", interval_seconds=1800.0)
    Meter.objects.create(meter_id="M2", interval_seconds=1800.0)
    Vehicle.objects.create(vehicle_id="V1", interval_seconds=1800.0)
    link_vehicle("V1", "M1", at("00:00"))
    link_vehicle("V1", "M2", at("06:00"))
    report(meter_reading, "M1", at("00:30"), 30 * MINUTE, 6)  # falls silent at 03:00
    report(meter_reading, "M2", at("06:30"), 30 * MINUTE, 12)
    report(vehicle_reading, "V1", at("00:30"), 30 * MINUTE, 24)

    # 2 kWh DC an hour: 6 of 12, and all of 12.
    assert figure(api)["coverage"] == {"vehicle": 1.0, "meter": 0.75}


def test_time_to_come_is_no_gap(api):
    link_vehicle("V1", "M1", at("00:00"))
    report(meter_reading, "M1", at("06:00"), 10 * MINUTE, 37)
    report(vehicle_reading, "V1", at("06:00"), 10 * MINUTE, 37)

    assert figure(api, "06:00", "11:00", day=16)["coverage"] == {"vehicle": 1.0, "meter": 1.0}


def test_window_that_lies_in_the_future_has_no_coverage(api):
    link_vehicle("V1", "M1", at("00:00"))
    report(meter_reading, "M1", at("00:00"), HOUR, 12)
    report(vehicle_reading, "V1", at("00:00"), HOUR, 12)

    assert figure(api, "13:00", "11:00", day=16)["coverage"] == {"vehicle": None, "meter": None}


# --- What it means for health -----------------------------------------------------------------


@pytest.fixture
def vehicle_that_falls_silent(api):
    """From 08:00 to 10:12 the meter reports each minute, the vehicle until 09:00."""
    link_vehicle("V1", "M1", at("00:00"))
    report(meter_reading, "M1", at("08:01"), MINUTE, 132, kwh=0.1)
    report(vehicle_reading, "V1", at("08:01"), MINUTE, 60, kwh=0.18)
    learn_cadences()


@pytest.mark.usefixtures("vehicle_that_falls_silent")
def test_half_of_the_energy_is_enough_to_judge(api):
    judged = figure(api, "08:00", "10:00")

    assert judged["coverage"] == {"vehicle": 0.5, "meter": 1.0}
    assert (judged["efficiencyRatio"], judged["health"], judged["reason"]) == (
        90.0,
        "healthy",
        None,
    )


@pytest.mark.usefixtures("vehicle_that_falls_silent")
def test_health_is_unknown_under_half_of_the_energy(api):
    judged = figure(api, "08:00", "10:12")

    assert judged["coverage"]["vehicle"] == 0.455  # 6 of 13.2 kWh
    assert judged["efficiencyRatio"] == 81.82  # is served all the same
    assert (judged["health"], judged["reason"]) == ("unknown", "low_coverage")


@pytest.mark.usefixtures("vehicle_that_falls_silent")
def test_how_much_coverage_is_enough_is_a_setting(api, settings):
    settings.MIN_COVERAGE = 0.4
    assert figure(api, "08:00", "10:12")["health"] == "degraded"
    settings.MIN_COVERAGE = 0.6
    assert figure(api, "08:00", "10:00")["reason"] == "low_coverage"


@pytest.mark.parametrize(
    ("ac", "health", "reason"),
    [(1.99, "unknown", "too_little_energy"), (2.0, "healthy", None)],
)
def test_health_is_unknown_under_2_kwh(api, ac, health, reason):
    link_vehicle("V1", "M1", at("00:00"))
    record([meter_reading("M1", kwh=ac), vehicle_reading("V1", kwh=0.9 * ac)], NOON)

    judged = figure(api)

    assert (judged["efficiencyRatio"], judged["health"], judged["reason"]) == (90, health, reason)


def test_how_much_energy_is_enough_is_a_setting(api, settings):
    settings.MIN_ENERGY_KWH = 0.5
    link_vehicle("V1", "M1", at("00:00"))
    record([meter_reading("M1", kwh=0.5), vehicle_reading("V1", kwh=0.3)], NOON)

    assert figure(api)["health"] == "critical"


def test_it_is_the_vehicles_own_part_of_the_ac_that_has_to_be_enough(api):
    link_vehicle("V1", "M1", at("00:00"))
    link_vehicle("V2", "M1", at("00:00"))
    record([meter_reading("M1", "10:00", 0.0), meter_reading("M1", "11:00", 20.0)], NOON)
    record([vehicle_reading("V1", "10:30", 1.0), vehicle_reading("V2", "10:30", 19.0)], NOON)

    assert figure(api)["reason"] == "too_little_energy"


def test_health_is_unknown_without_ac(api):
    link_vehicle("V1", "M1", at("00:00"))
    record([vehicle_reading("V1", kwh=5.0)], NOON)

    judged = figure(api)

    assert (judged["efficiencyRatio"], judged["health"], judged["reason"]) == (
        None,
        "unknown",
        "no_ac",
    )
