"""A PostgreSQL that answers nobody, or late, keeps nobody waiting for long.

Here a bound on time is the behaviour: a device that waits for ever sends nothing.
"""

import json
import socket
import threading
import time
from collections import defaultdict
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import NamedTuple

import pytest

from tests.engine.conftest import at_once, wait_until

FROZEN_SECONDS = 8
# What is promised, and what a machine that runs other tests besides may add to it.
ANSWER_SECONDS = 2.5 + 2
BACK_SECONDS = 1 + 2

JSON, NDJSON = "application/json", "application/x-ndjson"
LONG_WINDOW = "/v1/analytics/performance/V1?window=300d"
READINGS = {"vehicleId": "S", "kwhDeliveredDc": 1}, {"meterId": "S", "kwhConsumedAc": 1}
REQUESTS = {
    "a reading": ("POST", "/v1/ingest", json.dumps(READINGS[0]), JSON),
    "a batch": ("POST", "/v1/ingest", json.dumps([READINGS[1]] * 500), JSON),
    "a stream": ("POST", "/v1/ingest", "\n".join([json.dumps(READINGS[0])] * 12_000), NDJSON),
    "a link": ("PUT", "/v1/links", json.dumps({"vehicleId": "V1", "meterId": "M1"}), JSON),
    "links": ("GET", "/v1/links", None, JSON),
    "a figure": ("GET", "/v1/analytics/performance/V1", None, JSON),
    "a long window": ("GET", LONG_WINDOW, None, JSON),
    "live state": ("GET", "/v1/status/vehicle/V1", None, JSON),
    "faults": ("GET", "/v1/faults", None, JSON),
    "health": ("GET", "/health/ready", None, JSON),
    "metrics": ("GET", "/metrics", None, JSON),
    "the console": ("GET", "/admin/", None, JSON),
}

# At the head of their statements.
FIGURE, WRITE = "vehicle_blocks.sql", "record_vehicle_readings.sql"


class Answer(NamedTuple):
    begun_at: float
    ended_at: float
    status: int
    accepted: int


def ask(connection: HTTPConnection, what: str) -> Answer:
    method, path, body, media_type = REQUESTS[what]
    begun_at = time.monotonic()
    # The console looks a session up.
    headers = {"Content-Type": media_type, "Cookie": f"sessionid={'x' * 32}"}
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    text = response.read()
    ended_at = time.monotonic()
    is_write = method == "POST" and response.status in (201, 503)
    accepted = json.loads(text).get("accepted", 0) if is_write else 0
    return Answer(begun_at, ended_at, response.status, accepted)


def ask_anew(engine, what: str) -> Answer:
    with closing(HTTPConnection("127.0.0.1", engine.port, timeout=60)) as connection:
        return ask(connection, what)


def waiting_statements(engine) -> set[str]:
    """Return which statements of requests wait for a lock; those of jobs may wait as well."""
    rows = engine.rows("SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return {name for name in (FIGURE, WRITE) for (query,) in rows if name in query}


@contextmanager
def history_is_locked(engine):
    """Let every statement that reads or writes readings of vehicles wait."""
    with engine.connected() as connection:
        connection.execute("LOCK TABLE ingestion_vehiclereading")
        yield


@pytest.fixture
def vehicle(engine):
    engine.request("POST", "/v1/ingest", {"vehicleId": "V1", "kwhDeliveredDc": 1})


def test_frozen_database_keeps_nobody_waiting_and_loses_nothing(make_engine):
    engine = make_engine().start()
    for reading in ({"vehicleId": "V1", "kwhDeliveredDc": 1}, {"meterId": "M1"}):
        engine.request("POST", "/v1/ingest", reading)
    answers: dict[str, list[Answer]] = defaultdict(list)
    stopping = threading.Event()
    kinds = [*REQUESTS, "a reading", "a reading", "a long window"]

    def send(number: int) -> None:
        with closing(HTTPConnection("127.0.0.1", engine.port, timeout=60)) as connection:
            while not stopping.wait(0.1):
                answers[kinds[number]].append(ask(connection, kinds[number]))

    def freeze() -> tuple[float, float]:
        try:
            wait_until(lambda: len(answers) == len(REQUESTS), 60, "the first answers")
            frozen_at = time.monotonic()
            with engine.frozen_postgres():
                stopping.wait(FROZEN_SECONDS)
            thawed_at = time.monotonic()
            stored = len(answers["a reading"]) + 20
            wait_until(lambda: len(answers["a reading"]) > stored, 30, "writing again")
            return frozen_at, thawed_at
        finally:
            stopping.set()

    frozen: list[tuple[float, float]] = []
    at_once(
        len(kinds) + 1,
        lambda number: frozen.append(freeze()) if number == len(kinds) else send(number),
    )

    [(frozen_at, thawed_at)] = frozen
    for what, of_kind in answers.items():
        during = [a for a in of_kind if a.ended_at > frozen_at and a.begun_at < thawed_at]
        assert during, what
        late = [a for a in during if a.ended_at - max(a.begun_at, frozen_at) > ANSWER_SECONDS]
        assert late == [], what
    refused = {a.status for a in answers["a reading"] + answers["health"]} - {200, 201}
    assert refused == {503}
    written = [a.ended_at for a in answers["a reading"] if a.status == 201]
    assert min(at for at in written if at > thawed_at) - thawed_at < BACK_SECONDS
    accepted = sum(a.accepted for of_kind in answers.values() for a in of_kind)
    [(stored,)] = engine.rows(
        "SELECT (SELECT count(*) FROM ingestion_vehiclereading WHERE vehicle_id = 'S')"
        " + (SELECT count(*) FROM ingestion_meterreading WHERE meter_id = 'S')"
    )
    assert stored >= accepted > 0


def test_slow_statement_is_not_taken_for_a_frozen_database(engine, vehicle):
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(ask_anew(engine, "a long window")))
    with history_is_locked(engine):
        asking.start()
        wait_until(lambda: waiting_statements(engine) == {FIGURE}, 10, "the figure")
        write = ask_anew(engine, "a reading")
        # The write has had its time, and its statement has gone; the figure may take longer.
        wait_until(lambda: waiting_statements(engine) == {FIGURE}, 10, "the end of the write")
        assert answers == []
    asking.join()

    assert write.status == 503
    assert 1.5 < write.ended_at - write.begun_at < ANSWER_SECONDS
    assert answers[0].status == 200
    assert engine.request("POST", "/v1/ingest", READINGS[0])[0] == 201


def test_statement_of_a_client_that_has_gone_is_cancelled(engine, vehicle):
    with history_is_locked(engine):
        client = socket.create_connection(("127.0.0.1", engine.port))
        client.sendall(f"GET {LONG_WINDOW} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: FIGURE in waiting_statements(engine), 10, "the figure")
        client.close()

        wait_until(lambda: FIGURE not in waiting_statements(engine), 10, "its end")
    assert ask_anew(engine, "a long window").status == 200


def test_write_of_a_client_that_has_gone_is_stored(engine):
    engine.request("POST", "/v1/ingest", {"vehicleId": "GONE", "kwhDeliveredDc": 1})
    body = json.dumps({"vehicleId": "GONE", "kwhDeliveredDc": 2})
    head = f"POST /v1/ingest HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\n"
    with history_is_locked(engine):
        client = socket.create_connection(("127.0.0.1", engine.port))
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        wait_until(lambda: waiting_statements(engine) == {WRITE}, 10, "the write")
        client.close()

    def is_stored() -> bool:
        return engine.rows(
            "SELECT energy_dc_kwh FROM fleet_vehiclelivestate WHERE vehicle_id = 'GONE'"
        ) == [(2.0,)]

    wait_until(is_stored, 10, "the write")
