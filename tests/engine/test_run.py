"""`make run`: starts everything, stops everything, keeps the data, says clearly why it can't."""

import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from urllib.request import urlopen

import psutil
import pytest

from energy_engine import environment
from tests.engine.conftest import fail_to_start

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


def test_first_login_is_in_a_closed_file_and_not_in_the_log(make_engine):
    engine = make_engine().start()

    file = engine.data_dir / "first_login"
    password = file.read_text().split()[-1]
    assert f"see {file}" in "".join(engine.output)
    assert password not in "".join(engine.output)
    assert file.stat().st_mode & 0o777 == 0o600
    ((users,),) = engine.rows("SELECT count(*) FROM auth_user WHERE is_superuser")
    assert users == 1


def test_terminal_shows_the_first_login_and_no_file_has_it(make_engine):
    engine = make_engine()
    terminal, its_end = pty.openpty()
    launcher = subprocess.Popen(
        [sys.executable, "-m", "energy_engine.local.run"],
        cwd=environment.ROOT,
        env=engine._environment(),
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    )
    os.close(its_end)
    shown = b""
    while b"is ready" not in shown:
        shown += os.read(terminal, 4096)
    launcher.terminate()
    with suppress(OSError):  # which the end of a terminal is
        while os.read(terminal, 4096):
            pass
    os.close(terminal)

    assert launcher.wait(60) == 0
    assert re.search(rb"user +admin\s+password +\S{16}\s", shown)
    assert not (engine.data_dir / "first_login").exists()


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"HOST": "0.0.0.0"}, "localhost"),  # noqa: S104 # what is tried here
        ({"HOST": "127.0.0.2", "ALLOWED_HOSTS": "127.0.0.2"}, "127.0.0.2"),
        ({"HOST": "::1"}, "[::1]"),
    ],
)
def test_printed_address_answers_and_what_is_missing_is_said(make_engine, variables, shown):
    engine = make_engine(**variables).start()

    output = "".join(engine.output)
    (address,) = re.findall(r"API +(http://\S+)/v1\n", output)
    assert address == f"http://{shown}:{engine.port}"
    with urlopen(f"{address}/health/ready") as answer:  # noqa: S310 # an address of our own
        assert answer.status == 200
    is_open = variables["HOST"] == "::1"
    for word in ("ALLOWED_HOSTS", "SECURE_COOKIES=false", "manage.py api_key create"):
        assert (word in output) is not is_open, word


def test_command_of_a_hint_exists(make_engine):
    engine = make_engine(API_AUTH="required").start()

    (command,) = re.findall("`(.* manage.py api_key create --help)`", "".join(engine.output))
    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=environment.ROOT,
        env=engine._environment(),
        capture_output=True,
    )
    assert ran.returncode == 0, ran.stderr


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


def test_port_in_use_is_said_in_one_line(make_engine):
    engine = make_engine()
    with socket.socket() as other:
        other.bind(("127.0.0.1", engine.port))
        other.listen()

        line = fail_to_start(engine)

    assert str(engine.port) in line
    assert "PORT" in line
    assert f"process {os.getpid()} (" in line


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


def test_data_and_logs_are_closed_to_other_users(make_engine):
    """Also where the folder is from a version that left it open."""
    engine = make_engine()
    engine.data_dir.mkdir()
    (engine.data_dir / "secret_key").touch(mode=0o600)
    (engine.data_dir / "secret_key").write_text("k" * 50)
    (engine.data_dir / "postgres.log").touch(mode=0o644)
    engine.data_dir.chmod(0o755)

    engine.start()

    assert stat.S_IMODE(engine.data_dir.stat().st_mode) == 0o700
    for path in engine.data_dir.iterdir():
        assert not path.stat().st_mode & 0o077, path


def test_folder_with_files_of_others_is_refused_and_stays_open(make_engine):
    engine = make_engine()
    engine.data_dir.mkdir(mode=0o755)
    (engine.data_dir / "thesis.txt").write_text("mine")

    line = fail_to_start(engine)

    assert f"{engine.data_dir}/energy-engine" in line
    assert engine.data_dir.stat().st_mode & 0o777 == 0o755


def test_engine_for_another_host_name_starts(make_engine):
    engine = make_engine(ALLOWED_HOSTS=".fleet.example.com").start()

    assert engine.request("GET", "/")[0] == 400


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PORT", "http"), ("PORT", "70000"), ("WEB_WORKERS", "0"), ("DEBUG", "ture")],
)
def test_variable_without_sense_is_said_in_one_line(make_engine, variable, value):
    assert variable in fail_to_start(make_engine(**{variable: value}))
