"""New devices whose id is that of another one, but for its case or a trailing `.0`."""

import logging

import pytest

from fleet.models import Meter, Vehicle
from ingestion import look_alikes
from ingestion.writer import record
from tests.conftest import NOON, meter_reading, vehicle_reading

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]


def warnings(caplog, *readings: object) -> list[str]:
    """Record `readings` and return what is logged meanwhile."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        record(list(readings), NOON)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("known", "new"),
    [("ab-1", "AB-1"), ("4103035", "4103035.0"), ("4103035.0", "4103035"), ("Ab.0", "aB")],
)
def test_new_device_that_looks_like_a_known_one_is_registered_and_logged_once(caplog, known, new):
    Meter.objects.create(meter_id=known)

    first = warnings(caplog, meter_reading(new, "11:00", 1.0))
    second = warnings(caplog, meter_reading(new, "11:05", 1.0))

    assert first == [f"new meter {new}: {known} differs only by case or a trailing .0"]
    assert second == []
    assert Meter.objects.filter(pk=new).exists()


@pytest.mark.parametrize("new", ["M10", "M1.00", "M1.0.0", "M1-0", "M.0", "1.0"])
def test_other_ids_are_not_logged(caplog, new):
    Meter.objects.create(meter_id="M1")
    Vehicle.objects.create(vehicle_id=new.lower())

    assert warnings(caplog, meter_reading(new, "11:00", 1.0)) == []


def test_devices_of_one_batch_are_compared_too(caplog):
    logged = warnings(
        caplog, vehicle_reading("v1", "11:00", 1.0), vehicle_reading("V1", "11:00", 1.0)
    )

    assert logged == [
        "new vehicle V1: v1 differs only by case or a trailing .0",
        "new vehicle v1: V1 differs only by case or a trailing .0",
    ]


def test_many_at_once_are_counted_after_the_first_ten(caplog):
    for number in range(12):
        Meter.objects.create(meter_id=f"m{number}")

    logged = warnings(caplog, *(meter_reading(f"M{n}", "11:00", 1.0) for n in range(12)))

    assert len(logged) == look_alikes._MOST_LOGGED + 1
    assert logged[-1] == "and 2 more new meters look like others"
