"""The figures of a vehicle: worked examples, each small enough to check by hand."""

from datetime import timedelta

import pytest

from analytics.figures.performance import UnknownVehicle, vehicle_performance
from analytics.figures.window import Window
from fleet.links import end_link, link_vehicle
from fleet.models import Vehicle
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]


def figures(vehicle_id: str = "V1"):
    return vehicle_performance(vehicle_id, Window.last())


def test_vehicle_without_link_shares_the_ac_of_meters_without_link():
    record([meter_reading("M123", kwh=109.0), vehicle_reading("V123", kwh=95.0)], NOON)

    figure = figures("V123")

    assert (figure.efficiency_percent, figure.ac_source, figure.health) == (
        87.16,
        "fleet",
        "healthy",
    )
    assert (figure.energy_ac_kwh, figure.energy_dc_kwh, figure.meter_id) == (109, 95, None)


def test_linked_vehicle_has_the_ac_of_its_meter():
    link_vehicle("VEH001", "METER001", at("08:00"))
    for _ in range(3):
        record([meter_reading("METER001", kwh=25.5), vehicle_reading("VEH001", kwh=21.5)], NOON)
    record([meter_reading("OTHER", kwh=1000.0)], NOON)

    figure = figures("VEH001")

    assert (figure.efficiency_percent, figure.ac_source, figure.health) == (
        84.31,
        "linked",
        "degraded",
    )
    assert (figure.energy_ac_kwh, figure.energy_dc_kwh) == (25.5, 21.5)
    assert (figure.data_points.vehicle, figure.data_points.meter) == (1, 1)
    assert figure.meter_id == "METER001"


def test_delivery_received_last_counts():
    link_vehicle("V1", "M1", at("08:00"))
    record([meter_reading("M1", kwh=10.0), vehicle_reading("V1", kwh=2.0)], NOON)
    record([vehicle_reading("V1", kwh=8.0)], NOON + timedelta(seconds=2))
    record([vehicle_reading("V1", kwh=3.0)], NOON + timedelta(seconds=1))

    assert figures().energy_dc_kwh == 8


def test_of_one_timestamp_twice_in_a_batch_the_later_one_counts():
    record([vehicle_reading("V1", kwh=2.0), vehicle_reading("V1", kwh=8.0)], NOON)

    assert figures().energy_dc_kwh == 8


def test_window_is_half_open():
    yesterday = NOON - timedelta(hours=24)
    ids = ("EARLY", "FIRST", "LAST", "NOW")
    early, first, last, now = (vehicle_reading(id_, kwh=2.0) for id_ in ids)
    early.measured_at = yesterday - timedelta(microseconds=1)
    first.measured_at = yesterday
    last.measured_at = NOON - timedelta(microseconds=1)
    now.measured_at = NOON
    record([early, first, last, now], NOON)

    # First readings, whose steps lie at their instants.
    assert [figures(id_).energy_dc_kwh for id_ in ids] == [0, 2, 2, 0]
    period = figures("FIRST").period
    assert (period.start, period.end) == (yesterday, NOON)


def test_steps_count_with_the_part_that_lies_in_the_window():
    yesterday = NOON - timedelta(hours=24)
    readings = [vehicle_reading("V1", kwh=kwh) for kwh in (0.0, 4.0, 0.0, 8.0)]
    times = (
        yesterday - timedelta(minutes=15),
        yesterday + timedelta(minutes=45),
        NOON - timedelta(minutes=30),
        NOON + timedelta(minutes=10),
    )
    for reading, measured_at in zip(readings, times, strict=True):
        reading.measured_at = measured_at
    record(readings, NOON)

    # 45 of 60 minutes of 4 kWh, 30 of 40 minutes of 8.
    assert figures().energy_dc_kwh == pytest.approx(3 + 6, abs=1e-9)
    assert figures().data_points.vehicle == 2


def test_window_across_the_turn_of_a_month_reads_both_partitions(clock):
    clock.move_to(NOON.replace(day=1))
    reading = vehicle_reading("V1", kwh=2.0)
    reading.measured_at = NOON.replace(month=6, day=30, hour=23)
    record([reading], NOON.replace(day=1))

    assert figures().energy_dc_kwh == 2


def test_energy_belongs_to_the_link_that_was_in_force_while_it_flowed():
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V1", "M2", at("10:00"))
    record(
        [
            meter_reading("M1", "09:30", 10.0),
            meter_reading("M1", "10:30", 8.0),  # half of it after V1 has left
            meter_reading("M2", "09:45", 100.0),  # V1 has not come yet
            meter_reading("M2", "10:15", 32.0),  # half of it before V1 came
            vehicle_reading("V1", "09:00", 9.0),
            vehicle_reading("V1", "10:00", 15.0),
        ],
        NOON,
    )

    figure = figures()

    assert (figure.energy_ac_kwh, figure.energy_dc_kwh) == (10 + 4 + 16, 24)
    assert (figure.efficiency_percent, figure.meter_id) == (80.0, "M2")


def test_ratio_compares_the_linked_part_only_but_dc_is_whole():
    link_vehicle("V1", "M1", at("10:00"))
    record(
        [
            vehicle_reading("V1", "09:00", 50.0),  # charged elsewhere
            vehicle_reading("V1", "11:00", 9.0),
            meter_reading("M1", "11:00", 10.0),
        ],
        NOON,
    )

    figure = figures()

    assert (figure.energy_dc_kwh, figure.energy_ac_kwh) == (59, 10)
    assert (figure.efficiency_percent, figure.ac_source) == (90.0, "linked")


def test_ended_link_still_counts_for_its_part_of_the_window(clock):
    link_vehicle("V1", "M1", at("08:00"))
    record([meter_reading("M1", "11:00", 10.0), vehicle_reading("V1", "11:00", 9.0)], NOON)
    end_link("V1")
    clock.shift(3600)
    record([meter_reading("M1", "12:30", 7.0), vehicle_reading("V1", "12:30", 1.0)], NOON)

    figure = figures()

    assert (figure.energy_ac_kwh, figure.efficiency_percent) == (10, 90.0)
    assert (figure.ac_source, figure.energy_dc_kwh) == ("linked", 10)


def test_shared_meter_is_split_by_dc():
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V2", "M1", at("08:00"))
    record(
        [
            meter_reading("M1", "10:00", 0.0),
            meter_reading("M1", "11:00", 100.0),
            vehicle_reading("V1", "10:30", 30.0),
            vehicle_reading("V2", "10:30", 60.0),
        ],
        NOON,
    )

    first, second = figures("V1"), figures("V2")

    assert first.energy_ac_kwh == pytest.approx(100 / 3)
    assert second.energy_ac_kwh == pytest.approx(200 / 3)
    assert (first.efficiency_percent, first.ac_source) == (90.0, "shared")


def test_shared_meter_is_split_equally_where_none_took_any():
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V2", "M1", at("08:00"))
    record([meter_reading("M1", kwh=4.0)], NOON)

    figure = figures("V1")

    assert (figure.energy_ac_kwh, figure.efficiency_percent) == (2, 0.0)


def test_meter_is_a_vehicles_own_until_another_joins_it():
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V2", "M1", at("10:00"))
    record(
        [
            meter_reading("M1", "09:00", 10.0),
            vehicle_reading("V1", "09:00", 9.0),
            meter_reading("M1", "10:10", 0.0),
            meter_reading("M1", "11:00", 20.0),
            vehicle_reading("V1", "10:30", 6.0),
            vehicle_reading("V2", "10:30", 12.0),
        ],
        NOON,
    )

    figure = figures("V1")

    # Alone: 10 kWh for 9. Shared: a third of 20 kWh for 6.
    assert figure.energy_ac_kwh == pytest.approx(10 + 20 / 3)
    assert figure.efficiency_percent == 90.0
    assert figure.ac_source == "shared"


def test_fleet_share_goes_by_dc_and_leaves_linked_devices_out():
    link_vehicle("V9", "M9", at("08:00"))
    record(
        [
            meter_reading("M1", kwh=60.0),
            meter_reading("M2", kwh=40.0),
            meter_reading("M9", kwh=500.0),
            vehicle_reading("V1", kwh=20.0),
            vehicle_reading("V2", kwh=60.0),
            vehicle_reading("V9", kwh=400.0),
        ],
        NOON,
    )

    figure = figures("V1")

    assert (figure.energy_ac_kwh, figure.efficiency_percent) == (25, 80.0)
    assert (figure.ac_source, figure.data_points.meter) == ("fleet", 2)


def test_vehicle_without_any_meter_has_no_ratio():
    record([vehicle_reading("V1", kwh=5.0)], NOON)

    figure = figures()

    assert (figure.energy_dc_kwh, figure.energy_ac_kwh) == (5, 0)
    assert (figure.efficiency_percent, figure.ac_source, figure.health) == (
        None,
        "none",
        "unknown",
    )


def test_vehicle_without_readings_has_zeros_and_nulls():
    Vehicle.objects.create(vehicle_id="V1")
    record([meter_reading("M1", kwh=5.0), vehicle_reading("V2", kwh=4.0)], NOON)

    figure = figures()

    assert (figure.energy_ac_kwh, figure.energy_dc_kwh) == (0, 0)
    assert (figure.efficiency_percent, figure.battery_temp_celsius) == (None, None)
    assert (figure.data_points.vehicle, figure.data_points.meter) == (0, 0)
    assert figure.health == "unknown"


def test_zero_ac_has_no_ratio():
    link_vehicle("V1", "M1", at("08:00"))
    record([meter_reading("M1", kwh=0.0), vehicle_reading("V1", kwh=5.0)], NOON)

    assert figures().efficiency_percent is None


def test_more_dc_than_ac_is_suspect_not_capped():
    link_vehicle("V1", "M1", at("08:00"))
    record([meter_reading("M1", kwh=10.0), vehicle_reading("V1", kwh=13.0)], NOON)

    assert (figures().efficiency_percent, figures().health) == (130.0, "suspect")


def test_average_temperature_leaves_out_readings_without_one():
    record(
        [
            vehicle_reading("V1", "09:00", battery_temp_celsius=30.0),
            vehicle_reading("V1", "10:00"),
            vehicle_reading("V1", "11:00", battery_temp_celsius=34.0),
        ],
        NOON,
    )

    assert figures().battery_temp_celsius == 32


def test_unknown_vehicle_is_refused():
    with pytest.raises(UnknownVehicle):
        figures("UNKNOWN")


@pytest.mark.parametrize("readings", [10, 1000])
@pytest.mark.parametrize("source", ["linked", "shared", "fleet"])
def test_figure_costs_the_same_statements_however_many_readings(statements_sent, readings, source):
    if source != "fleet":
        link_vehicle("V1", "M1", at("00:00"))
    if source == "shared":
        link_vehicle("V2", "M1", at("06:00"))
    for number in range(readings):
        kwh = meter_reading("M1"), vehicle_reading("V1"), vehicle_reading("V2")
        for reading in kwh:
            reading.measured_at = at("00:00") + number * timedelta(hours=12) / readings
        record(kwh, NOON)

    with statements_sent() as sent:
        figure = figures()

    assert figure.ac_source == source
    assert figure.data_points.vehicle == readings
    # Links, DC, AC; of a shared meter also how it is shared, by the hour and step by step; for the
    # fleet also which devices have no link, and their AC and DC, which the API asks for once a
    # minute at most.
    assert sent == [{"linked": 3, "shared": 8, "fleet": 5}[source]]
