"""Which device another one probably is."""

from datetime import timedelta

import pytest
from django.db import connection

from fleet.look_alikes import look_alike, look_alike_of
from fleet.models import Meter, Vehicle
from tests.conftest import NOON

pytestmark = pytest.mark.django_db


def meter(meter_id: str, hour: int, retired_hour: int | None = None) -> Meter:
    """Register a meter so many hours after noon."""
    made = Meter.objects.create(meter_id=meter_id)
    made.registered_at = NOON + timedelta(hours=hour)
    made.retired_at = None if retired_hour is None else NOON + timedelta(hours=retired_hour)
    made.save()
    return made


def test_later_device_looks_like_the_earliest(clock):
    devices = [meter("ab.0", 1), meter("AB", 0), meter("Ab", 2), meter("ABC", 3)]

    assert [look_alike_of(device) for device in devices] == ["AB", None, "AB", None]


def test_of_two_registered_at_once_one_looks_like_the_other(clock):
    devices = [meter("ab", 0), meter("AB", 0)]

    assert [look_alike_of(device) for device in devices] == ["AB", None]


@pytest.mark.parametrize("retired", ["ab", "AB"])
def test_retired_device_and_its_look_alike_are_told_apart(clock, retired):
    for name, hour in (("AB", -3), ("ab", -2)):
        meter(name, hour, -1 if name == retired else None)

    assert look_alike_of(Meter.objects.get(pk="ab")) is None


def test_device_that_will_be_retired_is_in_service(clock):
    meter("AB", -3, 1)

    assert look_alike_of(meter("ab", -2, 1)) == "AB"


def test_devices_of_the_other_kind_do_not_matter():
    Vehicle.objects.create(vehicle_id="AB")

    assert look_alike_of(meter("ab", 0)) is None


@pytest.mark.parametrize("kind", [Meter, Vehicle])
def test_look_alike_is_found_by_its_index(kind):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        plan = kind.objects.annotate(found=look_alike(kind)).filter(pk="M1").explain()

    assert f"{kind._meta.model_name}_id_look_alikes" in plan
