"""How many readings come in per second, from the ids that history has given out."""

from datetime import timedelta

import pytest

from ingestion.history.pace import readings_per_second
from ingestion.writer import record
from tests.conftest import NOON, meter_reading, vehicle_reading

pytestmark = pytest.mark.django_db


def deliver(readings: int) -> None:
    record([vehicle_reading(f"V{number}") for number in range(readings // 2)], NOON)
    record([meter_reading(f"M{number}") for number in range(readings - readings // 2)], NOON)


def test_first_look_knows_nothing_yet(clock):
    assert readings_per_second() is None


def test_rate_is_that_since_the_look_before(clock):
    readings_per_second()
    deliver(60)
    clock.shift(timedelta(seconds=30))

    assert readings_per_second() == 2.0


def test_nothing_came_in(clock):
    readings_per_second()
    clock.shift(timedelta(seconds=30))

    assert readings_per_second() == 0.0


def test_repeat_counts_as_a_delivery(clock):
    deliver(10)
    readings_per_second()
    deliver(10)
    clock.shift(timedelta(seconds=10))

    assert readings_per_second() == 1.0


def test_looks_of_many_pages_at_once_do_not_disturb_each_other(clock):
    readings_per_second()
    deliver(100)
    for _ in range(5):
        clock.shift(timedelta(seconds=2))
        readings_per_second()

    assert readings_per_second() == 10.0


def test_look_of_long_ago_is_forgotten(clock):
    readings_per_second()
    deliver(100)
    clock.shift(timedelta(seconds=91))

    assert readings_per_second() is None


def test_it_tells_of_the_last_ninety_seconds_only(clock):
    for _ in range(3):
        readings_per_second()
        deliver(80)
        clock.shift(timedelta(seconds=40))

    assert readings_per_second() == 2.0
    deliver(80)
    clock.shift(timedelta(seconds=40))
    assert readings_per_second() == 2.0


def test_without_redis_it_is_not_known(clock, redis_is_away):
    readings_per_second()
    clock.shift(timedelta(seconds=30))

    assert readings_per_second() is None
