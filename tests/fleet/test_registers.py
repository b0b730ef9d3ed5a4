"""A change of registers is announced once for each kind, after the commit."""

import pytest
from django.core.cache import cache

from analytics.figures.cache import cached_performance
from fleet.links import link_vehicle
from fleet.models import Meter, Vehicle
from fleet.registers import announce_register, register_changed
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading
from tests.factories import MeterFactory, VehicleFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]


@pytest.fixture
def announced():
    found = []

    def note(sender, device_ids, **_) -> None:
        found.append((sender, device_ids))

    register_changed.connect(note)
    yield found
    register_changed.disconnect(note)


def test_many_devices_are_announced_in_one_go(announced, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        announce_register(*(MeterFactory(meter_id=name) for name in ("M1", "M2")))
        announce_register(VehicleFactory(vehicle_id="V1"))

    assert announced == [(Meter, ["M1", "M2"]), (Vehicle, ["V1"])]


def test_nothing_is_announced_of_no_device(announced, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        announce_register()

    assert announced == []


@pytest.mark.parametrize("model", [Meter, Vehicle])
def test_figures_of_all_vehicles_that_share_the_meter_are_dropped(
    model, django_capture_on_commit_callbacks
):
    for name in ("V1", "V2"):
        record([vehicle_reading(name, kwh=1.0)], NOON)
        link_vehicle(name, "M1", at("08:00"))
        cached_performance(name)
    record([meter_reading("M1", kwh=2.0)], NOON)

    with django_capture_on_commit_callbacks(execute=True):
        announce_register(model.objects.first())

    assert not [key for key in cache.keys("*") if key.startswith("analytics:performance:")]
    assert [cached_performance(name)[1] for name in ("V1", "V2")] == [False, False]


def test_number_of_statements_does_not_grow_with_the_devices(
    statements_sent, django_capture_on_commit_callbacks
):
    def sent_for(count: int) -> int:
        meters = Meter.objects.bulk_create(Meter(meter_id=f"N{count}-{n}") for n in range(count))
        with statements_sent() as sent, django_capture_on_commit_callbacks(execute=True):
            announce_register(*meters)
        return sent[0]

    assert sent_for(2) == sent_for(300)
