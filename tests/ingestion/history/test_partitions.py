"""Partitions: midnight to midnight in UTC, ahead of time and on demand, never a default one."""

import threading
from datetime import UTC, datetime

import pytest
from django.core.management import call_command
from django.db import connection

from ingestion import models
from ingestion.history import partitions
from ingestion.readings import MeterReading
from ingestion.writer import record
from tests.conftest import NOON, meter_reading

pytestmark = pytest.mark.django_db


def bounds() -> dict[str, str]:
    """Return each meter partition's bounds, as the catalogue has them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class "
            "WHERE relispartition AND relkind = 'r' AND relname LIKE 'ingestion_meterreading_%'"
        )
        return dict(cursor.fetchall())


def test_partition_is_a_month_from_midnight_to_midnight():
    partitions.ensure_partitions([datetime(2026, 2, 14, 15, 9, 26, tzinfo=UTC)])

    assert bounds()["ingestion_meterreading_2026_02"] == (
        "FOR VALUES FROM ('2026-02-01 00:00:00+00') TO ('2026-03-01 00:00:00+00')"
    )


def test_making_partitions_again_changes_nothing(clock):
    partitions.ensure_ahead()
    before = bounds()
    partitions.ensure_ahead()

    assert bounds() == before


def test_pgpartition_finds_nothing_to_do_after_the_engine(clock, capsys):
    partitions.ensure_ahead()
    call_command("pgpartition", yes=True)

    assert capsys.readouterr().out == "Nothing to be done.\n"


def test_pgpartition_makes_the_same_partitions(clock, capsys):
    clock.move_to(NOON.replace(year=2030, hour=17))
    call_command("pgpartition", yes=True)

    assert bounds()["ingestion_meterreading_2030_10"] == (
        "FOR VALUES FROM ('2030-10-01 00:00:00+00') TO ('2030-11-01 00:00:00+00')"
    )


def test_there_is_no_default_partition():
    assert "DEFAULT" not in bounds().values()


def test_first_and_last_instant_of_a_month_find_their_partition(transactional_db):
    first, last = meter_reading("M1"), meter_reading("M1")
    first.measured_at = datetime(2026, 3, 1, tzinfo=UTC)
    last.measured_at = datetime(2026, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC)

    record([first, last], NOON)

    assert models.MeterReading.objects.count() == 2
    assert {"ingestion_meterreading_2026_02", "ingestion_meterreading_2026_03"} <= set(bounds())


def test_writers_that_miss_one_partition_at_once_make_it_once(transactional_db):
    long_ago = datetime(2025, 9, 9, tzinfo=UTC)
    errors: list[Exception] = []
    everybody_is_here = threading.Barrier(8)

    def write(number: int) -> None:
        reading = MeterReading(meter_id=f"M{number}", energy_ac_kwh=1.0, measured_at=long_ago)
        everybody_is_here.wait()
        try:
            record([reading], NOON)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert models.MeterReading.objects.filter(measured_at=long_ago).count() == 8
