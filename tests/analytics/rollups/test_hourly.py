"""Hourly sums: made once an hour is over, made anew where readings join it, and never believed in
between."""

import io
from contextlib import suppress
from datetime import timedelta

import pytest
from django.core.management import call_command

from analytics.figures.performance import vehicle_account, vehicle_performance
from analytics.figures.unlinked import unlinked_energy
from analytics.figures.window import Window
from analytics.models import MeterHour, SharedHour, VehicleHour
from analytics.rollups import hourly
from analytics.rollups.cadence import learn_cadences
from fleet.links import EARLIEST, link_vehicle
from fleet.models import Meter, VehicleLiveState
from fleet.stores.stopping import Stopped
from ingestion.models import (
    ChangedMeterHour,
    ChangedVehicleHour,
    MeterReading,
    VehicleReading,
)
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, stopped_after, vehicle_reading
from tests.people import UNSCALED

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]
DAY = Window(at("00:00"), NOON)


def dc(window: Window = DAY) -> float:
    return vehicle_performance("V1", window).energy_dc_kwh


def hours_from_rollup() -> int:
    return vehicle_account("V1", DAY, unlinked_energy).dc.hours_rolled_up


def test_hour_that_is_over_is_summed_up():
    record(
        [
            vehicle_reading("V1", "09:10", 1.5, battery_temp_celsius=30.0),
            vehicle_reading("V1", "09:50", 2.0, battery_temp_celsius=34.0),
            vehicle_reading("V1", "11:59", 4.0),
        ],
        NOON,
    )

    hourly.roll_up()

    hour = VehicleHour.objects.get(hour=at("09:00"))
    assert (hour.readings, hour.energy_dc_kwh) == (2, 3.5)
    assert (hour.battery_temp_celsius_sum, hour.battery_temp_readings) == (64.0, 2)
    assert hours_from_rollup() == 1  # 11:00 has had no time for late readings yet
    assert dc() == 7.5


@pytest.mark.parametrize("portions", range(6))
def test_roll_up_that_is_told_to_stop_goes_on_with_the_next_run(monkeypatch, portions):
    monkeypatch.setattr(hourly, "SUMMED_UP_AT_ONCE", 1)
    record([vehicle_reading("V1", f"0{hour}:10", 1.0) for hour in range(5)], NOON)
    with stopped_after(portions), pytest.raises(Stopped):
        hourly.roll_up()
    done = VehicleHour.objects.count()

    assert done < 5
    assert dc() == 5
    hourly.roll_up()
    assert VehicleHour.objects.count() == 5
    assert dc() == 5


@pytest.mark.parametrize("portions", range(10))
def test_shares_that_a_stop_has_left_out_are_stored_by_the_next_run(portions):
    link_vehicle("V1", "M1", at("00:00"))
    link_vehicle("V2", "M1", at("00:00"))
    times = [f"0{hour}:{minute}" for hour in range(4) for minute in (15, 45)]
    record([meter_reading("M1", time, 2.0) for time in times], NOON)
    record(
        [vehicle_reading(vehicle, time, 1.0) for vehicle in ("V1", "V2") for time in times], NOON
    )
    with stopped_after(portions), suppress(Stopped):
        hourly.roll_up()

    hourly.roll_up()

    assert SharedHour.objects.count() == 4


def test_hour_is_left_alone_until_late_readings_have_had_their_time(clock):
    record([vehicle_reading("V1", "11:59")], NOON)
    hourly.roll_up()
    assert not VehicleHour.objects.exists()

    clock.shift(timedelta(minutes=3))
    hourly.roll_up()
    assert VehicleHour.objects.get().hour == at("11:00")


@pytest.mark.parametrize("correction", [0.5, 9.0])
def test_repeat_and_correction_mark_their_hour_and_count_at_once(clock, correction):
    record([vehicle_reading("V1", "09:10", 1.5), vehicle_reading("V1", "11:30", 1.0)], NOON)
    hourly.roll_up()

    record([vehicle_reading("V1", "09:10", correction)], NOON + timedelta(minutes=1))

    assert ChangedVehicleHour.objects.get().hour == at("09:00")
    assert hours_from_rollup() == 0
    assert dc() == correction + 1.0
    clock.move_to(NOON + timedelta(minutes=2))
    hourly.roll_up()
    assert not ChangedVehicleHour.objects.exists()
    assert hours_from_rollup() == 1
    assert dc() == correction + 1.0


def test_hour_is_not_summed_up_again_while_readings_keep_joining_it(clock):
    record([vehicle_reading("V1", "11:30", 1.0)], NOON)
    hourly.roll_up()
    record([vehicle_reading("V1", "09:10", 1.0)], NOON)
    clock.shift(timedelta(seconds=50))
    record([vehicle_reading("V1", "09:20", 1.0)], NOON + timedelta(seconds=50))
    clock.shift(timedelta(seconds=50))

    assert hourly.roll_up() == 0

    clock.shift(timedelta(seconds=10))
    assert hourly.roll_up() == 1
    assert VehicleHour.objects.get(hour=at("09:00")).readings == 2


def test_reading_of_the_hour_that_is_open_marks_nothing():
    record([vehicle_reading("V1", "09:10")], NOON)
    hourly.roll_up()

    record([vehicle_reading("V1", "11:59")], NOON)

    assert not ChangedVehicleHour.objects.exists()


def test_late_reading_in_a_batch_with_the_newest_one_marks_its_hour():
    record([vehicle_reading("V1", "09:10")], NOON)
    hourly.roll_up()

    record([vehicle_reading("V1", "08:00", 2.0), vehicle_reading("V1", "11:59", 4.0)], NOON)

    assert [mark.hour for mark in ChangedVehicleHour.objects.all()] == [at("08:00")]
    assert dc() == 7.0


def test_late_reading_leaves_live_state_alone_and_marks_its_hour():
    record([vehicle_reading("V1", "11:30", 1.0, soc_percent=70.0)], NOON)
    hourly.roll_up()

    record([vehicle_reading("V1", "08:00", 2.0, soc_percent=65.0)], NOON)

    live = VehicleLiveState.objects.get()
    assert (live.measured_at, live.soc_percent, live.energy_dc_kwh) == (at("11:30"), 70.0, 1.0)
    assert ChangedVehicleHour.objects.get().hour == at("08:00")


def test_device_that_was_silent_for_a_day_is_summed_up_when_it_is_back(clock):
    record([vehicle_reading("V1", "09:10")], NOON)
    hourly.roll_up()
    clock.shift(timedelta(days=1))
    hourly.roll_up()
    back = vehicle_reading("V1", "10:10", 3.0)
    back.measured_at += timedelta(days=1)

    record([back], NOON + timedelta(days=1))
    hourly.roll_up()

    assert [hour.energy_dc_kwh for hour in VehicleHour.objects.order_by("hour")] == [1.0, 3.0]


def test_clipped_hours_of_a_window_come_from_history():
    for minute in range(0, 60, 10):
        record([vehicle_reading("V1", f"{hour:02}:{minute:02}") for hour in range(8, 12)], NOON)
    hourly.roll_up()

    assert dc(Window(at("08:30"), at("10:20"))) == 3 + 6 + 2


@pytest.mark.django_db(transaction=True)
def test_hours_of_a_past_month_find_their_partition():
    reading = vehicle_reading("V1", "09:10", 2.0)
    reading.measured_at -= timedelta(days=200)
    record([reading], NOON)

    hourly.roll_up()

    assert VehicleHour.objects.get().energy_dc_kwh == 2.0


def test_changed_register_is_not_answered_from_sums_made_before():
    link_vehicle("V1", "M1", at("00:00"))
    record([vehicle_reading("V1", "09:00", 9.0)], NOON)
    record([meter_reading("M1", "09:10", 100.0), meter_reading("M1", "09:20", 110.0)], NOON)
    hourly.roll_up()
    assert vehicle_performance("V1", DAY).energy_ac_kwh == 210.0

    Meter.objects.update(energy_register="counter")

    assert vehicle_performance("V1", DAY).energy_ac_kwh == 10.0


@pytest.mark.parametrize("kind", [meter_reading, vehicle_reading])
def test_device_whose_history_is_all_in_the_archive_has_no_hours_to_mark(kind):
    reading = kind("D1", "09:10", 1.0)
    record([reading], NOON)
    hourly.roll_up()
    assert hourly.mark(EARLIEST, NOON, "D1") == 2  # 09:00 and 10:00: those that are settled
    history = MeterReading if kind is meter_reading else VehicleReading

    history.objects.all().delete()

    assert hourly.mark(EARLIEST, NOON, "D1") == 0


def test_rollup_command_sums_up_a_span_anew():
    record([meter_reading("M1", f"{hour:02}:10", 1.0) for hour in range(8, 11)], NOON)
    hourly.roll_up()
    MeterHour.objects.all().delete()

    printed = io.StringIO()
    arguments = ["--from", at("09:00").isoformat(), "--to", at("11:00").isoformat()]
    call_command("rollup", *arguments, stdout=printed)

    assert [hour.hour for hour in MeterHour.objects.order_by("hour")] == [at("09:00"), at("10:00")]
    assert "2 hours" in printed.getvalue()
    assert not ChangedMeterHour.objects.exists()


@pytest.mark.in_process
@pytest.mark.django_db(transaction=True)
def test_register_that_is_changed_in_the_console_shows_in_figures_at_once(admin_client, api):
    link_vehicle("V1", "M1", at("00:00"))
    record([vehicle_reading("V1", "09:00", 9.0)], NOON)
    record([meter_reading("M1", "09:10", 100.0), meter_reading("M1", "09:20", 110.0)], NOON)
    hourly.roll_up()
    path = "/v1/analytics/performance/V1"
    assert api.get(path).json()["energyConsumedAc"] == 210.0

    saved = admin_client.post(
        "/admin/fleet/meter/M1/change/",
        {"site": "", "energy_register": "counter", "max_power_kw": "11", **UNSCALED},
    )

    assert saved.status_code == 302
    assert api.get(path).json()["energyConsumedAc"] == 0.0  # 10 kWh in ten minutes are suspect
    assert api.get(path).json()["suspectSteps"] == 1
    learn_cadences()
    hourly.mark_outdated()
    assert ChangedMeterHour.objects.filter(hour=at("09:00")).exists()
    hourly.roll_up()
    assert vehicle_performance("V1", DAY).suspect_steps == 1
