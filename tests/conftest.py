"""The cast of the tests: a frozen clock, devices, and their readings."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core.cache import cache
from django.test import Client

from ingestion import partitions
from ingestion.readings import MeterReading, VehicleReading

NOON = datetime(2026, 7, 15, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: object) -> None:
    """Give the test database the partitions of the tests' summer."""
    with django_db_blocker.unblock():
        partitions.ensure_partitions([NOON - timedelta(days=31), NOON])


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    yield
    cache.clear()


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Stop the clock at noon of 15 July 2026, UTC; move it with `clock.shift`."""
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture
def api(clock: time_machine.Traveller) -> "Api":
    """The HTTP API, as a device or an analyst sees it, at noon."""
    return Api()


class Api:
    """Speaks JSON with the application."""

    def __init__(self) -> None:
        self.client = Client(headers={"host": "localhost"}, raise_request_exception=False)

    def get(self, path: str, **headers: str):
        return self.client.get(path, headers=headers)

    def post(self, path: str, body: object, content_type: str = "application/json"):
        return self.client.post(path, body, content_type=content_type)

    def put(self, path: str, body: object):
        return self.client.put(path, body, content_type="application/json")

    def delete(self, path: str):
        return self.client.delete(path)


def at(time: str) -> datetime:
    """Return an instant of the tests' day, such as `at("11:59")` or `at("11:59:30")`."""
    return datetime.combine(
        NOON.date(),
        datetime.strptime(time, "%H:%M:%S" if time.count(":") == 2 else "%H:%M").time(),
        UTC,
    )


def meter_reading(meter_id: str, time: str = "11:00", kwh: float = 1.0, **fields: float):
    return MeterReading(meter_id=meter_id, energy_ac_kwh=kwh, measured_at=at(time), **fields)


def vehicle_reading(vehicle_id: str, time: str = "11:00", kwh: float = 1.0, **fields: float):
    return VehicleReading(vehicle_id=vehicle_id, energy_dc_kwh=kwh, measured_at=at(time), **fields)
