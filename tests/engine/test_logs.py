"""What a running engine says: one JSON object a line, with the request's id, and no secret."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

import psycopg
import pytest

from energy_engine import environment
from energy_engine.local import embedded
from tests.engine.conftest import Engine, wait_until

pytestmark = pytest.mark.xdist_group("logs")

# In every place where something of a client, or a secret, comes in.
MARK = "Zq7mark"
READING = {"vehicleId": "V1", "kwhDeliveredDc": 1.5}


class LoggingEngine(Engine):
    """An engine that logs all there is to log."""

    def __init__(self, data_dir) -> None:
        super().__init__(
            data_dir,
            API_AUTH="required",
            LOG_FORMAT="json",
            LOG_LEVEL="DEBUG",
            ACCESS_LOG="all",
            WEB_WORKERS="1",
            LIMIT_WRONG_KEYS_PER_ADDRESS="3",
            METRICS_TOKEN=f"{MARK}-token",
        )

    def make_key(self, *scopes: str) -> str:
        arguments = [part for scope in scopes for part in ("--scope", scope)]
        made = subprocess.run(
            [sys.executable, "manage.py", "api_key", "create", "test", *arguments],
            cwd=environment.ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        [token] = re.findall(r"\beie_\S+", made.stdout)
        return token

    def answer(self, method: str, path: str, body: object = None, **headers: str) -> int:
        """Return the status of one request; `body` goes out as it is, or as JSON."""
        http = HTTPConnection("127.0.0.1", self.port, timeout=15)
        sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            http.request(method, path, sent, {"Content-Type": "application/json"} | names)
            return http.getresponse().status
        finally:
            http.close()

    def change(self, *statements: str) -> None:
        with psycopg.connect(embedded.database_url(self.data_dir), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def lines(self, **wanted: object) -> list[dict[str, object]]:
        """Return the lines that are JSON, of those the ones with the fields `wanted`."""
        found = [json.loads(line) for line in self.output if line.startswith("{")]
        return [line for line in found if wanted.items() <= line.items()]

    def line(self, **wanted: object) -> dict[str, object]:
        """Wait for the one line with the fields `wanted`."""
        wait_until(lambda: bool(self.lines(**wanted)), 15, f"a line with {wanted}")
        [line] = self.lines(**wanted)
        return line

    def statements(self, *words: str) -> list[str]:
        """Return the lines of PostgreSQL's own log that hold all of `words`."""
        lines = (self.data_dir / "postgres.log").read_text(errors="replace").splitlines()
        return [line for line in lines if all(word in line for word in words)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[LoggingEngine]:
    engine = LoggingEngine(tmp_path_factory.mktemp("logs") / "data").start()
    try:
        yield engine
    finally:
        engine.stop()


@pytest.fixture(scope="module")
def key(engine) -> str:
    return engine.make_key("ingest", "read")


def provoke(engine: LoggingEngine, key: str) -> dict[str, int]:
    """Let requests fail in all ways that clients know, each with marks in all that it holds."""
    marked = {"vehicleId": MARK, "kwhDeliveredDc": 777.125}
    headers = {
        "Authorization": f"Bearer {key}",
        "Cookie": f"sessionid={MARK}",
        "User_Agent": MARK,
        "Referer": f"http://x/?{MARK}",
    }
    ingest = "/v1/ingest"
    return {
        "bad reading": engine.answer("POST", ingest, marked | {"soc": MARK}, **headers),
        "no JSON": engine.answer("POST", ingest, f'{{"{MARK}"'.encode(), **headers),
        "no key": engine.answer("POST", ingest, marked),
        "wrong key": engine.answer("POST", ingest, marked, Authorization=f"Bearer {MARK}"),
        "no scope": engine.answer(
            "PUT", "/v1/links", {"vehicleId": MARK}, Authorization=f"Bearer {key}"
        ),
        "unknown path": engine.answer("GET", f"/{MARK}%0a%1b[31m?{MARK}", **headers),
        "unknown device": engine.answer("GET", f"/v1/status/vehicle/{MARK}", **headers),
        "unknown host": engine.answer("GET", "/", **headers | {"Host": MARK}),
        "unknown parameter": engine.answer("POST", f"{ingest}?{MARK}={MARK}", marked, **headers),
        "other method": engine.answer("DELETE", ingest, **headers),
        "other type": engine.answer("POST", ingest, marked, **headers | {"Content-Type": MARK}),
        "too large": engine.answer("POST", ingest, [marked] * 60_000, **headers),
        "no HTTP": engine.answer("POST", ingest, marked, **headers | {"Transfer_Encoding": MARK}),
        "no form": engine.answer("POST", f"/admin/login/?next={MARK}", f"password={MARK}".encode()),
        "broken header": engine.answer("GET", "/", **headers | {"User_Agent": f"{MARK}\x1b[31m"}),
        "many guesses": [
            engine.answer("POST", ingest, marked, Authorization=f"Bearer {MARK}{number}")
            for number in range(5)
        ][-1],
    }


@pytest.fixture(scope="module")
def faults(engine, key) -> None:
    """A request that failed on a row that PostgreSQL quotes, and one on a table that is gone."""
    headers = {"Authorization": f"Bearer {key}"}
    row = {"vehicleId": MARK, "kwhDeliveredDc": 777.125}
    with changed(
        engine,
        "ALTER TABLE ingestion_vehiclereading ADD CHECK (energy_dc_kwh <> 777.125)",
        "ALTER TABLE ingestion_vehiclereading DROP CONSTRAINT"
        " ingestion_vehiclereading_energy_dc_kwh_check",
    ):
        assert engine.answer("POST", "/v1/ingest", row, X_Request_ID="row", **headers) == 500
    with changed(
        engine,
        "ALTER TABLE fleet_vehiclelivestate RENAME TO gone",
        "ALTER TABLE gone RENAME TO fleet_vehiclelivestate",
    ):
        path = f"/v1/status/vehicle/{MARK}"
        assert engine.answer("GET", path, X_Request_ID="gone", **headers) == 500


@contextmanager
def changed(engine: LoggingEngine, statement: str, back: str) -> Iterator[None]:
    engine.change(statement)
    try:
        yield
    finally:
        engine.change(back)


def test_no_key_and_no_payload_is_in_any_line_however_a_request_ends(engine, key, faults):
    statuses = provoke(engine, key)
    assert engine.answer("GET", "/health/live", X_Request_ID="after-all") == 200
    engine.line(request_id="after-all")

    assert statuses == {
        **{"bad reading": 400, "no JSON": 400, "unknown host": 400, "broken header": 400},
        **{"no key": 401, "wrong key": 401, "no scope": 403, "no form": 403},
        **{"unknown path": 404, "unknown device": 404, "other method": 405},
        **{"unknown parameter": 400},
        **{"too large": 413, "other type": 415, "no HTTP": 501, "many guesses": 429},
    }
    said = "".join(engine.output)
    for secret in (MARK, "777.125", key, key.split("_", 2)[2], "Bearer", "sessionid"):
        assert secret not in said


def test_fault_of_the_engine_is_one_line_with_the_id_and_what_happened(engine, faults):
    line = engine.line(request_id="row")
    wrapped, cause = line["exception"]

    assert (line["level"], line["event"], line["status"]) == ("error", "request failed", 500)
    assert (line["method"], line["route"], line["key_id"]) == ("POST", "v1/ingest", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])
    assert wrapped["type"] == "django.db.utils.IntegrityError"
    assert any(frame.startswith("ingestion/writer.py:") for frame in wrapped["frames"])
    assert "violates check constraint" in cause["message"]


def test_failure_of_a_job_is_one_line_with_its_name_and_without_its_arguments(engine):
    with changed(
        engine,
        "ALTER TABLE analytics_webhookdelivery RENAME TO gone",
        "ALTER TABLE gone RENAME TO analytics_webhookdelivery",
    ):
        arguments = json.dumps({"delivery_id": 1, "body": MARK})
        [(job_id,)] = engine.rows(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args)"
            f" VALUES ('default', 'analytics.webhooks.deliver', '{arguments}') RETURNING id"
        )
        line = engine.line(job="deliver", job_id=str(job_id), level="error")

    assert line["exception"][-1]["sqlstate"] == "42P01"
    assert MARK not in "".join(engine.output)


@pytest.fixture
def all_statements(engine) -> Iterator[None]:
    """Let PostgreSQL log every statement."""
    reload = "SELECT pg_reload_conf()"
    engine.change("ALTER SYSTEM SET log_statement = 'all'", reload)
    yield
    engine.change("ALTER SYSTEM RESET log_statement", reload)


def test_statements_say_in_postgresql_what_they_are_sent_for(engine, key, all_statements):
    headers = {"Authorization": f"Bearer {key}"}
    path = "/v1/status/vehicle/V1"

    assert engine.answer("POST", "/v1/ingest", READING, X_Request_ID="stored", **headers) == 201
    assert engine.answer("GET", path, X_Request_ID="looked-up", **headers) == 200
    line = engine.line(request_id="stored")
    stored = engine.statements("LOG:", "/* ingestion/sql/record_vehicle_readings.sql */")

    assert engine.statements("/* request_id=looked-up */ SELECT")
    # Prepared by its text, so without an id: the process leads from one log to the other.
    assert stored
    assert all("execute _pg3_" in statement for statement in stored)
    assert f"[{line['database_pid']}]" in stored[-1]


def test_statements_of_jobs_bear_the_name_of_the_job(engine, all_statements):
    [(job_id,)] = engine.rows(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES"
        """ ('default', 'energy_engine.jobs.watch_for_faults', '{"timestamp": 0}') RETURNING id"""
    )
    comment = f"/* job=watch_for_faults,job_id={job_id} */"

    wait_until(lambda: bool(engine.statements(comment)), 15, comment)


def test_every_line_of_the_programs_is_json(engine):
    """What `make run` itself says is for whoever started it."""
    after_start = "".join(engine.output).partition("The API needs a key")[2].splitlines()[1:]

    assert [line for line in after_start if line and not line.startswith("{")] == []
