"""How long devices pause: from hour to hour, within an hour, and lately."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from analytics.models import MeterCadence, VehicleCadence
from analytics.rollups import hourly
from analytics.rollups.cadence import learn_cadences, learn_pauses
from ingestion.readings import MeterReading, VehicleReading
from ingestion.writer import record
from tests.conftest import NOON, at

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

MINUTE = timedelta(minutes=1)
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def reported(*moments: datetime) -> None:
    """Let V1 and M1 report at `moments`, received now."""
    record(
        [VehicleReading(vehicle_id="V1", energy_dc_kwh=0.1, measured_at=each) for each in moments],
        timezone.now(),
    )
    record(
        [MeterReading(meter_id="M1", energy_ac_kwh=0.1, measured_at=each) for each in moments],
        timezone.now(),
    )


def steadily(first: datetime, last: datetime, every: timedelta = 10 * MINUTE) -> list[datetime]:
    """Return the moments from `first` to `last`, both included."""
    return [first + n * every for n in range((last - first) // every + 1)]


def longest() -> float | None:
    """Return the longest pause of both devices in minutes, learned now."""
    hourly.roll_up()
    learn_cadences()
    learn_pauses()
    return known()


def known() -> float | None:
    """Return the pause that is known of both devices, in minutes."""
    vehicle, meter = VehicleCadence.objects.get(), MeterCadence.objects.get()
    assert vehicle.longest_pause_seconds == meter.longest_pause_seconds
    seconds = vehicle.longest_pause_seconds
    return None if seconds is None else seconds / 60


def test_pause_is_measured_from_hour_to_hour():
    reported(*steadily(at("02:00"), at("05:10")), *steadily(at("08:40"), at("11:50")))

    assert longest() == 210


def test_pause_within_an_hour_is_as_long_as_what_is_missing():
    reported(*steadily(at("02:00"), at("05:10")), *steadily(at("05:50"), at("11:50")))

    assert longest() == 40


def test_device_that_reports_steadily_pauses_for_its_cadence():
    reported(*steadily(at("02:00"), at("11:50")))

    assert longest() == 10


def test_pause_from_which_a_device_has_just_come_back_is_known():
    reported(*steadily(at("02:00"), at("05:10")))
    hourly.roll_up()
    reported(*steadily(at("11:30"), at("11:50")))

    assert longest() == 380


def test_pause_of_more_than_two_weeks_before_is_forgotten(clock):
    reported(*steadily(at("00:00") - DAY, at("00:00")), *steadily(at("06:00"), at("12:00")))
    assert longest() == 360

    # Since 06:00 of the first day it reports once in an hour and is heard of.
    clock.shift(14 * DAY)
    reported(*steadily(at("13:00"), timezone.now(), HOUR))

    assert longest() == 60


def test_device_without_a_cadence_has_no_pause():
    reported(*steadily(at("11:00"), at("11:50")))

    assert longest() is None


def test_pauses_are_learned_daily_and_once_when_a_device_falls_quiet(clock):
    reported(*steadily(at("02:00"), at("11:50")))
    assert longest() == 10
    assert learn_pauses() == 0

    clock.shift(4 * HOUR)
    assert learn_pauses() == 2  # quiet for the first time
    assert learn_pauses() == 0

    reported(NOON + 4 * HOUR)
    hourly.roll_up()
    assert learn_pauses() == 0  # not quiet yet
    clock.shift(50 * MINUTE + timedelta(seconds=1))
    assert learn_pauses() == 2
    assert known() == 250
    assert learn_pauses() == 0

    clock.shift(DAY + timedelta(seconds=1))
    assert learn_pauses() == 2
