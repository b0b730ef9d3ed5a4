"""A line of the log: what is in it, what is not, and that it is one."""

import asyncio
import io
import json
import logging
import sys
import threading
import warnings

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction

from energy_engine.telemetry import logs, request_log

log = logging.getLogger("analytics.of_the_tests")


@pytest.fixture
def written(monkeypatch):
    """Return what a logger writes while lines have the format that is asked for."""

    def writer(log_format: str) -> io.StringIO:
        monkeypatch.setenv("LOG_FORMAT", log_format)
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logs._formatter())
        monkeypatch.setattr(logging.root, "handlers", [handler])
        return stream

    return writer


@pytest.fixture
def in_request():
    token = logs.origin.set({"request_id": "req-1"})
    yield
    logs.origin.reset(token)


def failed(statement: str) -> DatabaseError:
    with (
        pytest.raises(DatabaseError) as caught,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    return caught.value


def test_values_can_neither_end_a_line_nor_speak_to_a_terminal(written):
    for log_format in ("json", "text"):
        stream = written(log_format)
        log.warning("%s", "one\r\ntwo \x1b[31m \x9b31m \u2028 \x00", extra={"where": "a\nb\x1b[0m"})

        line = stream.getvalue()
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        assert len(line.splitlines()) == 1


def test_json_line_tells_when_how_bad_who_what_and_for_which_request(written, in_request):
    stream = written("json")
    log.info("told", extra={"setting": "PORT", "body": "not shown"})

    line = json.loads(stream.getvalue())
    assert list(line) == ["timestamp", "level", "logger", "event", "request_id", "setting"]
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        **{"level": "info", "logger": "analytics.of_the_tests", "event": "told"},
        **{"request_id": "req-1", "setting": "PORT"},
    }


def test_text_line_is_for_people(written):
    stream = written("text")
    try:
        raise OSError("no disk")
    except OSError:
        log.exception("it failed", extra={"setting": "PORT"})

    first, kind, frame = stream.getvalue().splitlines()
    assert first.endswith("error analytics.of_the_tests: it failed setting=PORT")
    assert kind == "  builtins.OSError: no disk"
    assert frame.startswith("    tests/energy_engine/telemetry/test_logs.py:")


@pytest.mark.parametrize(
    ("statement", "sqlstate", "words"),
    [
        ("SELECT 'secret'::int", "22P02", None),
        (
            "SELECT 1 FROM nowhere WHERE 'secret' = 'x'",
            "42P01",
            'relation "nowhere" does not exist',
        ),
        (
            "CREATE TABLE one (id text UNIQUE); INSERT INTO one VALUES ('secret'), ('secret')",
            "23505",
            'duplicate key value violates unique constraint "one_id_key"',
        ),
    ],
)
@pytest.mark.django_db
def test_error_of_the_database_is_told_without_the_row(written, statement, sqlstate, words):
    stream = written("json")
    log.error("failed", exc_info=failed(statement))

    wrapped, cause = json.loads(stream.getvalue())["exception"]
    assert "secret" not in stream.getvalue()
    assert "message" not in wrapped
    assert (cause["sqlstate"], cause.get("message")) == (sqlstate, words)


def test_database_that_cannot_be_reached_is_told_in_the_words_of_the_driver(written, in_request):
    stream = written("json")
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect("host=127.0.0.1 port=1 password=secret", connect_timeout=2)
    log.error("failed", exc_info=caught.value)

    assert "refused" in json.loads(stream.getvalue())["exception"][0]["message"]
    assert "secret" not in stream.getvalue()


def test_exception_in_a_request_keeps_to_itself_what_it_says(written, in_request):
    stream = written("json")
    try:
        try:
            float("777.125kWh")
        except ValueError as error:
            raise KeyError("777.125kWh") from error
    except KeyError:
        log.exception("failed")

    told = json.loads(stream.getvalue())["exception"]
    assert [error["type"] for error in told] == ["builtins.KeyError", "builtins.ValueError"]
    assert "777.125" not in stream.getvalue()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("key eie_0123456789_dGhlIHNlY3JldCBwYXJ0 used", "key eie_0123456789_*** used"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("postgresql://engine:pass/word@host/db", "postgresql://engine:***@host/db"),
    ],
)
def test_secret_that_slips_into_a_line_is_hidden(written, said, shown):
    stream = written("json")
    log.warning("%s", said)

    assert json.loads(stream.getvalue())["event"] == shown


def test_words_of_the_queue_are_shown_without_arguments_and_results(written):
    stream = written("json")
    job = {"task_name": "a.b.deliver", "id": 7, "call_string": "a.b.deliver[7](body='secret')"}
    log.error("Job %s ended - Result: secret", job["call_string"], extra={"job": job})

    line = json.loads(stream.getvalue())
    assert (line["job"], line["job_id"], line["event"]) == ("deliver", "7", "Job a.b.deliver ended")
    assert "secret" not in stream.getvalue()


def test_what_a_job_logs_bears_its_name(written):
    stream = written("json")

    class Context:
        job = type("Job", (), {"task_name": "energy_engine.jobs.roll_up", "id": 7})

    async def run() -> None:
        log.warning("late")

    asyncio.run(logs.name_job(run, Context, None))

    line = json.loads(stream.getvalue())
    assert (line["job"], line["job_id"]) == ("roll_up", "7")
    assert logs.origin.get() == {}


def test_what_would_go_past_the_log_is_logged(written, monkeypatch):
    stream = written("json")
    for module, name in ((warnings, "showwarning"), (sys, "excepthook"), (sys, "stderr")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    logs.take_over_output()

    warnings.showwarning(DeprecationWarning("old"), DeprecationWarning, "some.py", 3)
    error = OSError("no disk")
    sys.excepthook(OSError, error, None)
    thread = threading.Thread(target=lambda: [][0])
    thread.start()
    thread.join()
    sys.stderr.write("Launching a wor")
    sys.stderr.write("ker\nhalf")

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == [
        "DeprecationWarning: old",
        "uncaught exception",
        "uncaught exception in a thread",
        "printed: Launching a worker",
    ]
    assert lines[0]["where"] == "some.py:3"
    assert lines[1]["exception"] == [
        {"type": "builtins.OSError", "frames": [], "message": "no disk"}
    ]


@pytest.mark.parametrize(
    ("log_format", "said"),
    [("text", "energy-engine: no room"), ("nonsense", "energy-engine: no room"), ("json", 1)],
)
def test_start_is_refused_in_words_or_as_a_line(monkeypatch, capfd, log_format, said):
    monkeypatch.setenv("LOG_FORMAT", log_format)
    monkeypatch.setattr(logs, "dictConfig", lambda _: None)
    with pytest.raises(SystemExit) as refused:
        logs.refuse_to_start("no room")

    assert refused.value.code == said


@pytest.mark.parametrize(
    ("access_log", "logged"),
    [("off", [500, 503]), ("errors", [400, 429, 500, 503]), ("all", [200, 400, 429, 500, 503])],
)
def test_access_log_takes_what_it_is_set_to(settings, access_log, logged):
    settings.ACCESS_LOG = access_log
    statuses = (200, 400, 429, 500, 503)

    assert [status for status in statuses if request_log.is_logged(status, 0.1)] == logged
    assert request_log.is_logged(200, 1.0)


def test_slow_request_is_logged_with_its_time(api, settings, caplog):
    settings.SLOW_REQUEST_SECONDS = 0
    with caplog.at_level("WARNING", logger=request_log.__name__):
        api.get("/v1/status/vehicle/V1?secret=1", **{"x-request-id": "slow-one"})

    [record] = caplog.records
    assert record.getMessage() == "slow request"
    assert record.route == "v1/status/vehicle/<device_id:vehicle_id>"
    assert (record.status, record.duration_ms >= 0) == (400, True)
