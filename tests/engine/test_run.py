"""`make run`: starts everything, stops everything, keeps the data, says clearly why it can't."""

import re
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from energy_engine import environment

READING = {"vehicleId": "V1", "kwhDeliveredDc": 1.5}


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_engine_stops_whole_and_its_data_survives(make_engine, signal_number):
    engine = make_engine().start()
    assert engine.request("POST", "/v1/ingest", READING)[0] == 201
    processes = engine.processes()
    for program in ("postgres", "valkey-server", "gunicorn", "procrastinate"):
        assert engine.processes_of(program)

    assert engine.stop(signal_number) == 0

    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []
    engine.start()
    status, live_state = engine.request("GET", "/v1/status/vehicle/V1")
    assert (status, live_state["kwhDeliveredDc"]) == (200, 1.5)


def test_admin_login_is_made_once_and_works(make_engine):
    engine = make_engine().start()
    (password,) = re.findall(r"password +(\S+)", "".join(engine.output))
    engine.stop()
    engine.output.clear()
    engine.start()

    assert "password" not in "".join(engine.output)
    ((users,),) = engine.rows("SELECT count(*) FROM auth_user WHERE is_superuser")
    assert users == 1
    assert len(password) >= 12


def test_engine_that_is_killed_takes_its_processes_along(make_engine):
    engine = make_engine().start()
    processes = engine.processes()

    engine.stop(signal.SIGKILL)

    # The worker first waits for its database, which has gone at the same instant.
    _, alive = psutil.wait_procs(processes, timeout=90)
    assert alive == []
    engine.start()


def test_two_engines_run_side_by_side(make_engine):
    first, second = make_engine("first").start(), make_engine("second").start()

    assert first.request("POST", "/v1/ingest", READING)[0] == 201
    assert first.request("GET", "/v1/status/vehicle/V1")[0] == 200
    assert second.request("GET", "/v1/status/vehicle/V1")[0] == 404


def test_engine_runs_where_the_path_is_too_long_for_a_socket(make_engine):
    engine = make_engine("a" * 60 + "/" + "b" * 60).start()

    assert engine.request("GET", "/health/ready")[0] == 200


def fail_to_start(engine) -> str:
    """Return the one line that a start that fails leaves."""
    failed = subprocess.run(
        [sys.executable, "-m", "energy_engine.run"],
        cwd=environment.ROOT,
        env=engine._environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert failed.returncode != 0
    (line,) = failed.stderr.splitlines()
    return line


def test_port_in_use_is_said_in_one_line(make_engine):
    engine = make_engine()
    with socket.socket() as other:
        other.bind(("127.0.0.1", engine.port))
        other.listen()

        line = fail_to_start(engine)

    assert str(engine.port) in line
    assert "PORT" in line


def test_data_of_another_postgresql_is_said_in_one_line(make_engine):
    engine = make_engine()
    (engine.data_dir / "postgres").mkdir(parents=True)
    (engine.data_dir / "postgres" / "PG_VERSION").write_text("17\n")

    line = fail_to_start(engine)

    assert "PostgreSQL 17" in line
    assert "PostgreSQL 18" in line


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://user:hidden@127.0.0.1:1/none", "refused"),
        ("mysql://user:hidden@127.0.0.1/none", "must begin with postgresql://"),
        ("postgresql://user:%zz-hidden@127.0.0.1/none", "%XX"),
        ("postgresql://user:x@hidden@127.0.0.1/none", "%XX"),
        ("postgresql://user:my hidden@127.0.0.1/none", ""),
    ],
)
def test_unreachable_database_is_said_in_one_line_without_the_password(make_engine, url, reason):
    line = fail_to_start(make_engine(DATABASE_URL=url))

    assert "DATABASE_URL" in line
    assert reason in line
    assert "hidden" not in line


def test_data_directory_that_is_a_file_is_said_in_one_line(make_engine):
    engine = make_engine()
    engine.data_dir.write_text("")

    assert str(engine.data_dir) in fail_to_start(engine)


def test_second_engine_on_the_same_data_is_refused(make_engine):
    first = make_engine().start()
    second = make_engine()

    assert "another engine" in fail_to_start(second)
    assert first.request("GET", "/health/ready")[0] == 200


def test_engine_for_another_host_name_starts(make_engine):
    engine = make_engine(ALLOWED_HOSTS=".fleet.example.com").start()

    assert engine.request("GET", "/")[0] == 400


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PORT", "http"), ("PORT", "70000"), ("WEB_WORKERS", "0"), ("DEBUG", "ture")],
)
def test_variable_without_sense_is_said_in_one_line(make_engine, variable, value):
    assert variable in fail_to_start(make_engine(**{variable: value}))
