"""What a meter drew, and for which vehicles."""

import pytest

from analytics.figures.meters import Served, meter_account
from analytics.figures.performance import vehicle_performance
from analytics.figures.window import Window
from fleet.links import end_link, link_vehicle
from fleet.models import Meter
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

MORNING = Window(at("08:00"), NOON)


def test_vehicle_that_is_alone_has_all_of_the_meter():
    link_vehicle("V1", "M1", at("06:00"))
    record([meter_reading("M1", "09:30", 10.0), vehicle_reading("V1", "09:30", 8.0)], NOON)

    account = meter_account("M1", MORNING)

    assert [part[:3] for part in account.served] == [("V1", 10.0, 8.0)]
    assert (account.ac.energy_kwh, account.linked_ac_kwh, account.linked_dc_kwh) == (10, 10, 8)
    assert account.efficiency_percent == account.served[0].efficiency_percent == 80.0


def test_shared_step_is_split_by_dc():
    link_vehicle("V1", "M1", at("06:00"))
    link_vehicle("V2", "M1", at("06:00"))
    record([meter_reading("M1", "09:00", 0.0), meter_reading("M1", "09:30", 10.0)], NOON)
    record([vehicle_reading("V1", "09:10", 2.0), vehicle_reading("V2", "09:20", 6.0)], NOON)

    assert meter_account("M1", MORNING).served == [
        Served("V2", 7.5, 6.0, 0.0),
        Served("V1", 2.5, 2.0, 0.0),
    ]


def test_part_is_that_of_the_vehicles_own_figure():
    link_vehicle("V1", "M1", at("06:00"))
    link_vehicle("V2", "M1", at("09:40"))
    record([meter_reading("M1", "09:30", 4.0), meter_reading("M1", "09:50", 12.0)], NOON)
    record([vehicle_reading("V1", "09:45", 2.0), vehicle_reading("V2", "09:45", 4.0)], NOON)

    parts = {part.vehicle_id: part.energy_ac_kwh for part in meter_account("M1", MORNING).served}

    # 4, the first half of 12, and a third of the other; two thirds.
    assert parts == {"V1": 4 + 6 + 2, "V2": 4.0}
    for vehicle_id, energy_ac_kwh in parts.items():
        assert vehicle_performance(vehicle_id, MORNING).energy_ac_kwh == energy_ac_kwh


def test_other_meters_of_a_vehicle_are_left_out():
    link_vehicle("V1", "M1", at("06:00"))
    link_vehicle("V1", "M2", at("10:00"))
    record([meter_reading("M1", "09:30", 4.0), meter_reading("M2", "11:30", 7.0)], NOON)
    record([vehicle_reading("V1", "09:30", 3.0), vehicle_reading("V1", "11:30", 5.0)], NOON)

    assert [part[:3] for part in meter_account("M1", MORNING).served] == [("V1", 4.0, 3.0)]


def test_ac_without_a_link_is_nobodys():
    link_vehicle("V1", "M1", at("06:00"))
    record([meter_reading("M1", "09:30", 4.0)], NOON)
    link_vehicle("V1", "M2", at("10:00"))
    record([meter_reading("M1", "11:00", 1.0)], NOON)

    account = meter_account("M1", MORNING)

    assert (account.ac.energy_kwh, account.linked_ac_kwh) == (5.0, 4.0)


def test_link_of_before_the_window_is_left_out():
    link_vehicle("V1", "M1", at("06:00"))
    end_link("V1")

    assert meter_account("M1", Window(NOON, at("13:00"))).served == []


def test_meter_without_anything_has_nothing():
    Meter.objects.create(meter_id="M1")
    account = meter_account("M1", MORNING)

    assert (account.ac.readings, account.served, account.coverage) == (0, [], None)
    assert account.efficiency_percent is None


@pytest.mark.parametrize("vehicles", [2, 20])
def test_statements_are_the_same_for_any_number_of_vehicles(statements_sent, vehicles):
    for number in range(vehicles):
        link_vehicle(f"V{number}", "M1", at("06:00"))

    with statements_sent() as sent:
        meter_account("M1", MORNING)

    # The meter's AC; who was linked; links, DC, AC; how they share it, by the hour and by the step.
    assert sent == [7]
