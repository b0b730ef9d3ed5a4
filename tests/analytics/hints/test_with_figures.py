"""Standby loss and a hint about a unit, from readings to the fault or the mended figure."""

from datetime import timedelta

import pytest

from analytics.alerting.faults import watch
from analytics.figures import snapshot
from analytics.hints.hints import follow, look
from analytics.models import Fault, Hint, VehicleDay
from fleet.links import link_vehicle
from ingestion.readings import MeterReading, VehicleReading
from ingestion.writer import record
from tests.conftest import NOON

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]


def deliver(ac_kwh: float, dc_kwh: float) -> None:
    """Let M1 and V1, which are linked, report a day and an hour in quarter hours."""
    link_vehicle("V1", "M1", NOON - timedelta(days=2))
    for number in range(100):
        at = NOON - timedelta(minutes=15 * number)
        meter = MeterReading(meter_id="M1", energy_ac_kwh=ac_kwh, measured_at=at)
        vehicle = VehicleReading(vehicle_id="V1", energy_dc_kwh=dc_kwh, measured_at=at)
        record([meter, vehicle], NOON)


def test_idle_load_of_a_day_opens_a_standby_loss_alone():
    deliver(0.05, 0.0)

    snapshot.refresh()
    watch()

    assert VehicleDay.objects.get().reason == "not_charging"
    assert [(fault.kind, fault.value) for fault in Fault.objects.all()] == [("standby_loss", 4.8)]


def test_following_a_hint_about_a_unit_mends_the_figure():
    deliver(250.0, 0.225)
    snapshot.refresh()
    watch()
    look()
    hint = Hint.objects.get()
    assert (hint.meter_id, hint.proposal) == ("M1", 0.001)
    assert not Fault.objects.exists()

    follow(hint.pk)
    snapshot.refresh()

    day = VehicleDay.objects.get()
    assert (day.efficiency_percent, day.health) == (90.0, "healthy")
