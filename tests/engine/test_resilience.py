"""What was promised to devices holds under concurrency and crashes."""

import os
import random
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from http.client import HTTPException

import psutil
import pytest

from tests.engine.conftest import Connection, at_once, wait_until

CLIENTS = 10
DEVICES = 40
# A minute by hand, less in everyday runs.
SECONDS = int(os.environ.get("ENGINE_TEST_SECONDS", "10"))


def batch(start: datetime, number: int, descending: bool) -> list[dict[str, object]]:
    """Return readings of all devices of both kinds, whose energy tells which batch they are of."""
    devices = range(DEVICES - 1, -1, -1) if descending else range(DEVICES)
    timestamp = (start + timedelta(milliseconds=number)).isoformat()
    return [
        {id_field: f"D{device:02}", energy: number, "timestamp": timestamp}
        for device in devices
        for id_field, energy in (("meterId", "kwhConsumedAc"), ("vehicleId", "kwhDeliveredDc"))
    ]


def stored(engine) -> tuple[Counter, Counter]:
    """Return how many rows of each batch history has, by kind."""
    meters = engine.rows("SELECT energy_ac_kwh, count(*) FROM ingestion_meterreading GROUP BY 1")
    vehicles = engine.rows(
        "SELECT energy_dc_kwh, count(*) FROM ingestion_vehiclereading GROUP BY 1"
    )
    return Counter(dict(meters)), Counter(dict(vehicles))


def assert_live_state_is_the_newest_reading(engine) -> None:
    for kind, energy in (("meter", "energy_ac_kwh"), ("vehicle", "energy_dc_kwh")):
        behind = engine.rows(
            f"""
            SELECT live.{kind}_id FROM fleet_{kind}livestate AS live
            WHERE (live.measured_at, live.{energy}) <> (
                SELECT measured_at, {energy} FROM ingestion_{kind}reading AS reading
                WHERE reading.{kind}_id = live.{kind}_id
                ORDER BY measured_at DESC, received_at DESC, id DESC LIMIT 1
            )
            """
        )
        assert behind == []


def test_overlapping_batches_in_opposite_orders_neither_fail_nor_deadlock(make_engine):
    engine = make_engine().start()
    start = datetime.now(UTC) - timedelta(hours=1)
    accepted: Counter = Counter()
    deadline = time.monotonic() + SECONDS

    def send(client: int) -> None:
        generator = random.Random(client)
        sent = 0
        with Connection(engine.port) as connection:
            while time.monotonic() < deadline:
                number = client + CLIENTS * generator.randrange(1_000)
                body = batch(start, number, descending=client % 2 == 1)
                status, _, answer = connection.request("POST", "/v1/ingest", body)
                assert (status, answer["accepted"]) == (201, 2 * DEVICES)
                accepted[float(number)] += DEVICES
                sent += 1
        assert sent > 10

    at_once(CLIENTS, send)

    meters, vehicles = stored(engine)
    assert meters == accepted
    assert vehicles == accepted
    assert_live_state_is_the_newest_reading(engine)


def test_postgresql_that_is_killed_loses_no_accepted_reading(make_engine):
    engine = make_engine().start()
    start = datetime.now(UTC) - timedelta(hours=1)
    accepted: Counter = Counter()
    refused: list[int] = []
    numbers = iter(range(1_000_000))
    lock = threading.Lock()
    stopping = threading.Event()

    def send(_client: int) -> None:
        with Connection(engine.port) as connection:
            while not stopping.is_set():
                with lock:
                    number = next(numbers)
                try:
                    status, headers, _ = connection.request(
                        "POST", "/v1/ingest", batch(start, number, descending=False)
                    )
                except (OSError, HTTPException):
                    continue
                if status == 201:
                    accepted[float(number)] += DEVICES
                else:
                    assert status == 503
                    assert int(headers["Retry-After"]) >= 1
                    refused.append(number)
                    time.sleep(0.05)

    def wait_for_writes() -> None:
        enough = len(accepted) + 50
        wait_until(lambda: len(accepted) > enough, 60, "writing")

    def crash() -> None:
        try:
            for _ in range(2):
                wait_for_writes()
                engine.kill_postgres()
                wait_for_writes()
        finally:
            stopping.set()

    at_once(CLIENTS + 1, lambda number: crash() if number == CLIENTS else send(number))

    assert refused
    meters, vehicles = stored(engine)
    # What was not answered may be there or not, whole or not at all; what was accepted must be.
    assert all(meters[number] >= count for number, count in accepted.items())
    assert all(vehicles[number] >= count for number, count in accepted.items())
    assert meters == vehicles
    assert set(meters.values()) == {DEVICES}
    assert_live_state_is_the_newest_reading(engine)


@pytest.mark.parametrize("program", ["valkey-server", "gunicorn", "procrastinate"])
def test_program_that_is_killed_is_started_again(make_engine, program):
    engine = make_engine().start()
    killed = engine.processes_of(program)
    for process in killed:
        process.kill()
    psutil.wait_procs(killed, timeout=10)

    def is_well() -> bool:
        try:
            status, answer = engine.request("GET", "/health/ready")
        except (OSError, HTTPException):
            return False
        return status == 200 and answer["status"] == "ok" and is_running(program)

    def is_running(program: str) -> bool:
        return any(program in str(process.cmdline()) for process in engine.processes())

    wait_until(is_well, 30, "recovery")
