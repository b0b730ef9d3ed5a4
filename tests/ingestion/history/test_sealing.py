"""Past partitions are packed, and take late readings all the same."""

from datetime import timedelta

import pytest
from django.db import connection

from fleet.stores.stopping import Stopped
from ingestion.history.sealing import seal_past_partitions
from ingestion.models import VehicleReading
from ingestion.writer import record
from tests.conftest import NOON, stopped_after, vehicle_reading

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clock")]
JUNE = "ingestion_vehiclereading_2026_06"


@pytest.fixture(autouse=True)
def _unsealed_again():
    yield
    with connection.cursor() as cursor:
        for kind in ("meter", "vehicle"):
            cursor.execute(f"ALTER TABLE ingestion_{kind}reading_2026_06 RESET (fillfactor)")


def bytes_per_reading() -> float:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_relation_size('{JUNE}') + pg_indexes_size('{JUNE}')")
        (size,) = cursor.fetchone()
    return size / VehicleReading.objects.count()


def record_in_june(vehicles: int, at_seconds: int) -> None:
    readings = [vehicle_reading(f"V{number}") for number in range(vehicles)]
    for reading in readings:
        reading.measured_at = NOON - timedelta(days=30) + timedelta(seconds=at_seconds)
    record(readings, NOON)


def test_past_partitions_are_packed(clock):
    for second in range(40):
        record_in_june(500, second)
    loose = bytes_per_reading()

    sealed = seal_past_partitions()

    assert JUNE in sealed
    assert bytes_per_reading() < 0.95 * loose


def test_partition_is_sealed_once_and_the_current_one_not_at_all(clock):
    first = seal_past_partitions()

    assert JUNE in first
    assert "ingestion_vehiclereading_2026_07" not in first
    assert seal_past_partitions() == []


def test_partition_is_not_sealed_before_late_readings_have_had_their_time(clock):
    clock.move_to(NOON.replace(month=7, day=2, hour=23))
    assert JUNE not in seal_past_partitions()

    clock.move_to(NOON.replace(month=7, day=3, hour=1))
    assert JUNE in seal_past_partitions()


def test_sealed_partition_takes_late_readings(clock):
    seal_past_partitions()

    record_in_june(1, 0)

    assert VehicleReading.objects.filter(measured_at__month=6).count() == 1


def test_index_that_an_interrupted_run_left_behind_is_dropped(clock):
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE INDEX left_behind ON {JUNE} (received_at)")
        cursor.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'left_behind'::regclass"
        )

    seal_past_partitions()

    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('left_behind')")
        assert cursor.fetchone() == (None,)


def test_sealing_that_is_told_to_stop_goes_on_with_the_next_run(clock):
    record_in_june(1, 0)
    with stopped_after(portions=2), pytest.raises(Stopped):
        seal_past_partitions()

    assert JUNE in seal_past_partitions()
    assert seal_past_partitions() == []
