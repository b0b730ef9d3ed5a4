"""The drill: lose everything, restore to a moment with `deploy/backup`, and compare the rows."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg
import pytest

from energy_engine import environment
from energy_engine.local import embedded
from energy_engine.local.supervisor import Supervisor
from tests.engine.conftest import Connection, Engine, at_once, passable_folder, wait_until
from tests.engine.test_resilience import assert_live_state_is_the_newest_reading

# One process of pytest-xdist makes the backup that these tests restore.
pytestmark = pytest.mark.xdist_group("restore")

SCRIPTS = environment.ROOT / "deploy" / "backup"
CLIENTS = 4
DEVICES = 5
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=4)
END = START + timedelta(hours=3)

# --- The scripts ------------------------------------------------------------------------------


def command(script: str, backup: Path, data_dir: Path | None = None, **variables: str) -> dict:
    """Return how to start a script as an operator does: as the user that PostgreSQL runs as."""
    user = embedded._postgres_user()
    bin_dir = embedded._postgres_bin("postgres").parent
    env = {"PATH": f"{bin_dir}:{os.environ['PATH']}", "BACKUP_DIR": str(backup), **variables}
    if data_dir:
        env["PGHOST"] = str(embedded._run_dir(data_dir))
        env["PGUSER"] = "engine"
        env["PGPASSWORD"] = (data_dir / "postgres_password").read_text()
    groups = [] if user else None
    return {"env": env, "user": user, "group": user, "extra_groups": groups, "cwd": "/"}


def run(script: str, *arguments: object, **how: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPTS / script, *map(str, arguments)],
        **command(script, **how),
        capture_output=True,
        text=True,
    )


def base_backup(backup: Path, data_dir: Path, keep: int = 7) -> None:
    taken = run("base_backup.sh", backup=backup, data_dir=data_dir, BACKUP_KEEP=str(keep))
    assert taken.returncode == 0, taken.stderr


def restore(backup: Path, into: Path, to: datetime | str) -> subprocess.CompletedProcess[str]:
    """Restore into the folder where an engine on `into` has its PostgreSQL."""
    make_folder(into / "postgres")
    moment = to if isinstance(to, str) else to.isoformat()
    return run("restore.sh", "--to", moment, "--into", into / "postgres", backup=backup)


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if user := embedded._postgres_user():
        shutil.chown(folder, user, user)
    return folder


class Receiver:
    """`receive_wal.sh` in a process of its own."""

    def __init__(self, backup: Path, data_dir: Path, log: Path, prefix: str = "") -> None:
        self._log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                ["bash", "-c", f"{prefix} exec {SCRIPTS}/receive_wal.sh"],
                **command("receive_wal.sh", backup, data_dir),
                stdout=output,
                stderr=output,
            )

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def wait_for(self, words: str) -> None:
        wait_until(lambda: words in self._log.read_text(), 30, f"“{words}” in {self._log}")


# --- What is lost, and what is left of it -----------------------------------------------------


@dataclass
class Lost:
    """An engine that is gone: its backup, and what it had accepted."""

    backup: Path
    data_dir: Path
    accepted: set[int] = field(default_factory=set)  # numbers of batches
    before: frozenset[int] = frozenset()  # those accepted before the moment
    first_after: int = 0  # from this number on, they were sent after it
    moment: datetime = datetime.min
    between_backups: datetime = datetime.min

    def bases(self) -> list[Path]:
        return sorted((self.backup / "base").glob("2*Z"))


def batch(number: int) -> list[dict[str, object]]:
    """Return a reading of each device, whose energy is the number of the batch."""
    hour, milliseconds = timedelta(hours=number % 3), timedelta(milliseconds=number)
    timestamp = (START + hour + milliseconds).isoformat()
    vehicles = [{"vehicleId": f"V{device}", "kwhDeliveredDc": number} for device in range(DEVICES)]
    meters = [{"meterId": f"M{device}", "kwhConsumedAc": number} for device in range(DEVICES)]
    return [{**reading, "timestamp": timestamp} for reading in meters + vehicles]


def write_and_lose(engine: Engine, lost: Lost) -> None:
    """Write all the time, back up twice, note the moment, write on, and lose everything."""
    numbers, lock, stopping = itertools.count(3), threading.Lock(), threading.Event()

    def write(_client: int) -> None:
        with Connection(engine.port) as connection:
            while not stopping.is_set():
                with lock:
                    number = next(numbers)
                assert connection.request("POST", "/v1/ingest", batch(number))[0] == 201
                with lock:
                    lost.accepted.add(number)

    def wait_for_more() -> None:
        enough = len(lost.accepted) + 30
        wait_until(lambda: len(lost.accepted) > enough, 60, "writing")

    def conduct() -> None:
        try:
            wait_for_more()
            base_backup(lost.backup, engine.data_dir)
            lost.between_backups = clock(engine)
            base_backup(lost.backup, engine.data_dir)
            execute(engine, "SELECT pg_switch_wal()")  # the moment is some segments later
            wait_for_more()
            with lock:
                lost.before = frozenset(lost.accepted)
            lost.moment = clock(engine)
            with lock:
                lost.first_after = next(numbers)
            wait_for_more()
        finally:
            stopping.set()

    at_once(CLIENTS + 1, lambda number: write(number) if number < CLIENTS else conduct())
    execute(engine, "DELETE FROM ingestion_vehiclereading WHERE vehicle_id = 'V0'")
    execute(engine, "DROP TABLE fleet_vehiclelivestate")


def rollup(engine: Engine) -> None:
    """Sum up the hours, so that there are sums to restore; all that is written changes them."""
    subprocess.run(
        [
            *(sys.executable, "manage.py", "rollup"),
            *("--from", START.isoformat(), "--to", END.isoformat()),
        ],
        cwd=environment.ROOT,
        env=engine._environment(),
        check=True,
        capture_output=True,
    )


def execute(engine: Engine, sql: str) -> None:
    with psycopg.connect(embedded.database_url(engine.data_dir)) as connection:
        connection.execute(sql)


def clock(engine: Engine) -> datetime:
    ((now,),) = engine.rows("SELECT clock_timestamp()")
    return now


@pytest.fixture
def folder() -> Iterator[Path]:
    with passable_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def lost() -> Iterator[Lost]:
    with passable_folder() as folder:
        yield lose(folder)


def lose(folder: Path) -> Lost:
    """Run an engine under load, with a backup, until it is killed and its data is removed."""
    lost = Lost(make_folder(folder / "backup"), folder / "lost")
    engine = Engine(lost.data_dir).start()
    processes = engine.processes()
    try:
        for number in range(3):
            assert engine.request("POST", "/v1/ingest", batch(number))[0] == 201
        rollup(engine)
        link = {"vehicleId": "V1", "meterId": "M1", "validFrom": START.isoformat()}
        assert engine.request("PUT", "/v1/links", link)[0] in (200, 201)
        with Receiver(lost.backup, lost.data_dir, folder / "receiver.log") as receiver:
            write_and_lose(engine, lost)
            wait_until_all_is_sent(engine)
            kill(processes)
            receiver.wait_for("disconnected")
    finally:
        kill(processes)
        engine.stop(signal.SIGKILL)
    shutil.rmtree(lost.data_dir / "postgres")
    return lost


def kill(processes: list[psutil.Process]) -> None:
    """End them all as a power cut would: none may say good-bye."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, 30)


def wait_until_all_is_sent(engine: Engine) -> None:
    ((written,),) = engine.rows("SELECT pg_current_wal_insert_lsn()")
    sql = f"SELECT sent_lsn >= '{written}' FROM pg_stat_replication"
    wait_until(lambda: engine.rows(sql) == [(True,)], 30, "sending the log")


def engine_on(lost: Lost, restored: Path) -> Engine:
    """Return an engine on what was restored; the password in it is still the one of before."""
    shutil.copy(lost.data_dir / "postgres_password", restored)
    return Engine(restored)


@contextmanager
def postgres_on(lost: Lost, restored: Path) -> Iterator[Engine]:
    """Run PostgreSQL alone on what was restored."""
    engine = engine_on(lost, restored)
    with Supervisor() as supervisor:
        embedded.start_postgres(supervisor, restored)
        yield engine


def batches(engine: Engine, kind: str, device: str) -> set[int]:
    """Return the numbers of the batches that history has of a device, each of them once."""
    column = {"vehicle": "energy_dc_kwh", "meter": "energy_ac_kwh"}[kind]
    found = engine.rows(
        f"SELECT {column} FROM ingestion_{kind}reading WHERE {kind}_id = '{device}'"
    )
    assert len(found) == len(set(found))
    return {int(number) for (number,) in found} - {0, 1, 2}


def damaged(lost: Lost, folder: Path) -> Path:
    """Return a copy of the backup, of the same files: to be damaged, they must be replaced."""
    copy = folder / "backup"
    subprocess.run(["cp", "--archive", "--link", lost.backup, copy], check=True)
    return copy


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.unlink()
    file.write_bytes(content)


# --- The drill --------------------------------------------------------------------------------


def test_engine_is_back_as_it_was_at_the_moment(lost, folder):
    restored = restore(lost.backup, folder, lost.moment)

    assert restored.returncode == 0, restored.stderr
    engine = engine_on(lost, folder).start()
    try:
        for kind, letter in (("vehicle", "V"), ("meter", "M")):
            found = [batches(engine, kind, f"{letter}{device}") for device in range(DEVICES)]
            assert all(each == found[0] for each in found)  # whole batches
            assert found[0] >= lost.before
            assert max(found[0]) < lost.first_after
        assert_live_state_is_the_newest_reading(engine)
        assert_figures_are_those_of_history(engine)
        assert engine.request("GET", "/health/ready")[1]["status"] == "ok"
        number = max(lost.accepted) + 1
        assert engine.request("POST", "/v1/ingest", batch(number))[0] == 201
        assert number in batches(engine, "vehicle", "V0")
        assert_figures_are_those_of_history(engine)
    finally:
        engine.stop()


def assert_figures_are_those_of_history(engine: Engine) -> None:
    window = f"start={START:%Y-%m-%dT%H:%M:%SZ}&end={END:%Y-%m-%dT%H:%M:%SZ}"
    status, figures = engine.request("GET", f"/v1/analytics/performance/V1?{window}")
    assert status == 200
    ((sums,),) = engine.rows("SELECT count(*) FROM analytics_vehiclehour WHERE vehicle_id = 'V1'")
    assert sums == 3
    for kind, energy, figure in (
        ("vehicle", "energy_dc_kwh", "energyDeliveredDc"),
        ("meter", "energy_ac_kwh", "energyConsumedAc"),
    ):
        ((plain, readings),) = engine.rows(
            f"SELECT sum({energy}), count(*) FROM ingestion_{kind}reading"
            f" WHERE {kind}_id = '{kind[0].upper()}1'"
            f" AND measured_at >= '{START}' AND measured_at < '{END}'"
        )
        assert figures[figure] == plain
        assert figures["dataPoints"][kind] == readings
    assert figures["acSource"] == "linked"


def test_moment_between_two_backups_is_restored_from_the_earlier_one(lost, folder):
    restored = restore(lost.backup, folder, lost.between_backups)

    assert restored.returncode == 0, restored.stderr
    assert f"Copying {lost.bases()[0]} " in restored.stdout
    with postgres_on(lost, folder) as engine:
        found = batches(engine, "vehicle", "V0")
    assert found
    assert found < lost.before


def test_nothing_is_lost_up_to_the_crash_even_with_a_damaged_backup(lost, folder):
    backup = damaged(lost, folder)
    newest = sorted((backup / "base").glob("2*Z"))[-1]
    flip_a_byte(newest / "global" / "pg_control")

    restored = restore(backup, folder / "restored", "latest")

    assert restored.returncode == 0, restored.stderr
    assert f"{newest} is damaged" in restored.stderr
    with postgres_on(lost, folder / "restored") as engine:
        assert batches(engine, "vehicle", "V1") == lost.accepted
        assert batches(engine, "meter", "M0") == lost.accepted
        assert batches(engine, "vehicle", "V0") == set()  # the disaster, too, was backed up
        assert engine.rows("SELECT to_regclass('fleet_vehiclelivestate')") == [(None,)]


# --- Keeping backups --------------------------------------------------------------------------


def test_full_folder_stops_no_writer_and_leaves_no_gap(folder):
    """A limit on the size of files stands for a disk that is full: writing fails just so."""
    backup, data_dir = make_folder(folder / "backup"), folder / "data"
    log, engine = folder / "receiver.log", Engine(data_dir)
    with Supervisor() as supervisor:
        embedded.start_postgres(supervisor, data_dir)
        execute(engine, "CREATE TABLE written (number int)")
        with Receiver(backup, data_dir, log, prefix="trap '' XFSZ; ulimit -f 1000;") as receiver:
            receiver.wait_for("File too large")
            for number in range(3):
                execute(engine, f"INSERT INTO written VALUES ({number})")
                execute(engine, "SELECT pg_switch_wal()")
        assert engine.rows("SELECT count(*) FROM written") == [(3,)]
        assert list((backup / "wal").glob("0*[0-9A-F]")) == []

        with Receiver(backup, data_dir, log):
            execute(engine, "INSERT INTO written VALUES (3)")
            ((current,),) = engine.rows("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
            execute(engine, "SELECT pg_switch_wal()")
            wait_until((backup / "wal" / current).exists, 30, "catching up")
            base_backup(backup, data_dir)
            base_backup(backup, data_dir, keep=1)

    [kept] = (backup / "base").glob("2*Z")
    received = sorted(int(file.name[8:24], 16) for file in (backup / "wal").glob("0*"))
    assert received == list(range(received[0], received[0] + len(received)))
    needed = re.search(r"file (\w+)\)", (kept / "backup_label").read_text())[1]
    assert received[0] == int(needed[8:], 16)  # what only the removed copy needed went with it


def test_copy_is_taken_when_the_newest_is_a_day_old_and_not_before(folder):
    backup, data_dir = make_folder(folder / "backup"), folder / "data"
    base = backup / "base"
    with Supervisor() as supervisor:
        embedded.start_postgres(supervisor, data_dir)
        with Receiver(backup, data_dir, folder / "receiver.log"):
            base_backup(backup, data_dir)
            [first] = base.glob("2*Z")
            yesterday = datetime.now(UTC) - timedelta(days=1)
            old = first.rename(base / f"{yesterday:%Y%m%dT%H%M%S.%fZ}")
            printed = every_day(backup, data_dir, until="is due in")
            printed_again = every_day(backup, data_dir, until="is due in")

    [kept, taken] = sorted(base.glob("2*Z"))
    assert kept == old
    assert f"Verified {taken}" in printed
    assert "Verified" not in printed_again
    assert 86_000 < int(re.search(r"is due in (\d+) seconds", printed_again)[1]) <= 86_400


def every_day(backup: Path, data_dir: Path, until: str) -> str:
    """Run `every_day.sh` until it prints these words, and return all that it has printed."""
    printed = ""
    with subprocess.Popen(
        [SCRIPTS / "every_day.sh"],
        **command("every_day.sh", backup, data_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        for line in process.stdout:
            printed += line
            if until in line:
                os.killpg(process.pid, signal.SIGTERM)
    assert until in printed, printed
    return printed


def test_copy_without_its_log_is_no_backup(folder):
    backup, data_dir = make_folder(folder / "backup"), folder / "data"
    with Supervisor() as supervisor:
        embedded.start_postgres(supervisor, data_dir)
        refused = run("base_backup.sh", backup=backup, data_dir=data_dir)

    assert_refused(refused, "check that receive_wal.sh runs")
    assert list((backup / "base").glob("2*Z")) == []


# --- What is refused --------------------------------------------------------------------------


def assert_refused(refused: subprocess.CompletedProcess[str], words: str) -> None:
    assert refused.returncode == 1
    assert words in refused.stderr.splitlines()[-1]


def test_restore_refuses_to_leave_out_a_missing_part_of_the_log(lost, folder):
    backup = damaged(lost, folder)
    newest = sorted((backup / "base").glob("2*Z"))[-1]
    in_the_base = max(file.name for file in (newest / "pg_wal").glob("0*"))
    following = min(f for f in (backup / "wal").glob("0*") if f.name > in_the_base)
    following.unlink()

    refused = restore(backup, folder / "restored", "latest")

    assert_refused(refused, "has a gap before")
    assert_refused(restore(backup, folder / "again", lost.moment), "has a gap before")


def test_restore_refuses_a_moment_that_the_log_does_not_reach(lost, folder):
    refused = restore(lost.backup, folder, datetime.now(UTC) + timedelta(days=1))

    assert_refused(refused, "ends or has a gap before")


def test_restore_refuses_a_moment_before_the_first_backup(lost, folder):
    refused = restore(lost.backup, folder, datetime(2026, 1, 1, tzinfo=UTC))

    assert_refused(refused, f"the earliest is {lost.bases()[0]}")
    assert list((folder / "postgres").iterdir()) == []


def test_restore_refuses_when_every_backup_is_damaged(lost, folder):
    backup = damaged(lost, folder)
    for base in (backup / "base").glob("2*Z"):
        (base / "PG_VERSION").unlink()

    refused = restore(backup, folder / "restored", "latest")

    assert_refused(refused, "no valid base backup")


def test_restore_never_writes_into_a_folder_that_holds_something(lost, folder):
    make_folder(folder / "postgres")
    (folder / "postgres" / "PG_VERSION").write_text("18")

    refused = restore(lost.backup, folder, lost.moment)

    assert_refused(refused, "is not empty")
    assert [path.name for path in (folder / "postgres").iterdir()] == ["PG_VERSION"]


@pytest.mark.parametrize("to", ["2026-03-01T12:00:00", "2026-13-01T12:00:00Z", "yesterday"])
def test_restore_refuses_a_time_that_could_mean_several(lost, folder, to):
    assert_refused(restore(lost.backup, folder, to), "with an offset")
