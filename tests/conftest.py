"""The cast of the tests: a frozen clock, the HTTP API, devices' readings, statements sent."""

import itertools
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import hypothesis
import pytest
import time_machine
from django.core.cache import cache
from django.db import connection
from django.http import HttpResponse
from django.test import Client

from fleet.access import authorization, limits
from fleet.access.keyring import Keyring
from fleet.access.limits import Budgets
from fleet.stores import stopping
from ingestion.clock_offsets import clock_offsets
from ingestion.history import partitions
from ingestion.readings import MeterReading, VehicleReading

# How fast examples are made says more of the machine than of the test.
hypothesis.settings.register_profile(
    "engine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("engine")

NOON = datetime(2026, 7, 15, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker) -> None:
    """Give the test database the partitions of the tests' summer."""
    with django_db_blocker.unblock():
        partitions.ensure_partitions([NOON - timedelta(days=31), NOON])


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    yield
    cache.clear()


@pytest.fixture(autouse=True)
def _clocks_are_known(monkeypatch) -> None:
    """Let this process look for clock offsets only when a test asks: it costs a statement."""
    monkeypatch.setattr(clock_offsets, "_offsets", {})
    monkeypatch.setattr(clock_offsets, "_looked_at", math.inf)


@pytest.fixture
def closed(settings, clock, db, monkeypatch) -> None:
    """Let the API need keys, none of which is known, and let no limit have been drawn on."""
    settings.API_AUTH = "required"
    monkeypatch.setattr(authorization, "keyring", Keyring())
    monkeypatch.setattr(limits, "budgets", Budgets())


@pytest.fixture
def redis_is_away(settings) -> None:
    """Let nothing listen where Redis is expected."""
    settings.CACHES = {
        "default": settings.CACHES["default"] | {"LOCATION": "unix:///nowhere/redis.sock"}
    }


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """Stop the clock at noon of 15 July 2026, UTC; move it with `clock.shift`."""
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


class Api:
    """The HTTP API as a device or an analyst sees it; bodies are JSON text or values."""

    def __init__(self) -> None:
        self._client = Client(headers={"host": "localhost"}, raise_request_exception=False)

    def get(self, path: str, **headers: str) -> HttpResponse:
        return self._client.get(path, headers=headers)

    def post(
        self, path: str, body: object, content_type: str = "application/json", **headers: str
    ) -> HttpResponse:
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        return self._client.generic("POST", path, raw, content_type, headers=headers)

    def put(self, path: str, body: object) -> HttpResponse:
        return self._client.put(path, body, content_type="application/json")

    def patch(self, path: str, body: object) -> HttpResponse:
        return self._client.patch(path, body, content_type="application/json")

    def delete(self, path: str) -> HttpResponse:
        return self._client.delete(path)


@pytest.fixture
def api(clock: time_machine.Traveller, db: None) -> Api:
    """The HTTP API, at noon."""
    return Api()


@pytest.fixture
def log_slot(db: None) -> Iterator[str]:
    """A slot that PostgreSQL keeps its log for, and that nobody reads."""
    name = f"slot_{os.getpid()}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_create_physical_replication_slot(%s, true)", [name])
        try:
            yield name
        finally:
            cursor.execute("SELECT pg_drop_replication_slot(%s)", [name])


@contextmanager
def stopped_after(portions: int) -> Iterator[None]:
    """Let work that asks between portions be told to stop, once it has done so many."""
    asked = itertools.count()
    token = stopping.asked.set(lambda: next(asked) >= portions)
    try:
        yield
    finally:
        stopping.asked.reset(token)


def at(clock_time: str) -> datetime:
    """Return an instant of the tests' day, such as `at("11:59")` or `at("11:59:30")`."""
    return datetime.combine(NOON.date(), time.fromisoformat(clock_time), UTC)


def meter_reading(
    meter_id: str, clock_time: str = "11:00", kwh: float = 1.0, **fields: float
) -> MeterReading:
    return MeterReading(meter_id=meter_id, energy_ac_kwh=kwh, measured_at=at(clock_time), **fields)


def vehicle_reading(
    vehicle_id: str, clock_time: str = "11:00", kwh: float = 1.0, **fields: float
) -> VehicleReading:
    return VehicleReading(
        vehicle_id=vehicle_id, energy_dc_kwh=kwh, measured_at=at(clock_time), **fields
    )


@pytest.fixture
def statements_sent() -> Callable[[], object]:
    """Count the statements that go to PostgreSQL, as seen by the driver's own protocol trace.

    `with statements_sent() as sent: …` leaves the count in `sent[0]`. Django's own counter does
    not see statements that go past its cursor.
    """

    @contextmanager
    def counted() -> Iterator[list[int]]:
        connection.ensure_connection()
        sent: list[int] = []
        with tempfile.NamedTemporaryFile("r") as trace, open(trace.name, "wb") as written:
            connection.connection.pgconn.trace(written.fileno())
            try:
                yield sent
            finally:
                connection.connection.pgconn.untrace()
            lines = Path(trace.name).read_text().splitlines()
        sent.append(sum("\tExecute\t" in line or "\tQuery\t" in line for line in lines))

    return counted
