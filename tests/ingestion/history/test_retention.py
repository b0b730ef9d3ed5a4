"""`manage.py retention`: history goes when it is in the archive, and not before."""

import os
import random
import select
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pyarrow.parquet
import pytest
from django.conf import settings
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import connection, connections

from analytics.rollups import hourly
from energy_engine import environment
from energy_engine.local import embedded
from fleet.links import link_vehicle
from fleet.models import EnergyRegister, Meter, Vehicle
from fleet.stores.stopping import Stopped
from ingestion.history import archive
from ingestion.history.retention import apply as retiring
from ingestion.history.retention.plan import plan
from ingestion.models import ArchivedPartition, MeterReading, VehicleReading
from ingestion.writer import record
from tests.conftest import NOON, meter_reading, stopped_after, vehicle_reading

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clock")]

APRIL, MAY, JUNE = (datetime(2025, month, 1, tzinfo=UTC) for month in (4, 5, 6))
TABLES = [
    f"ingestion_{kind}reading_2025_{month}"
    for month in ("04", "05")
    for kind in ("meter", "vehicle")
]


@pytest.fixture
def folder(tmp_path, settings) -> Path:
    """The archive; of the tests' history, April and May are old enough for it."""
    settings.HISTORY_HORIZON_DAYS, settings.RETENTION_DAYS = 400, 401
    settings.ARCHIVE_URL = f"file://{tmp_path}/archive"
    return tmp_path / "archive"


def timed(reading, measured_at: datetime):
    reading.measured_at = measured_at
    return reading


def deliver(reading, measured_at: datetime, received_at: datetime = NOON) -> None:
    record([timed(reading, measured_at)], received_at)


@pytest.fixture
def history(folder) -> None:
    """A counter that meters a vehicle from April to June, with repeats and corrections."""
    for registry, device_id in ((Meter, "M1"), (Vehicle, "V1")):
        registry.objects.create(pk=device_id, energy_register=EnergyRegister.COUNTER)
    link_vehicle("V1", "M1", APRIL)
    readings = []
    for days in range(0, 75, 5):
        for hours in (1, 1.5, 2.25):
            measured_at = APRIL + timedelta(days=days, hours=hours)
            kwh = 10.0 * days + hours
            vehicle = vehicle_reading("V1", kwh=kwh, battery_temp_celsius=days)
            readings.append(
                timed(meter_reading("M1", kwh=kwh * 1.25, voltage_v=230.5), measured_at)
            )
            readings.append(timed(vehicle, measured_at))
    record(readings, NOON)
    # One is repeated, the last of May corrected: both come from there when history is brought back.
    repeated = APRIL + timedelta(days=5, hours=1)
    deliver(vehicle_reading("V1", kwh=51.0, battery_temp_celsius=5), repeated, NOON)
    last_of_may = APRIL + timedelta(days=60, hours=2.25)
    deliver(vehicle_reading("V1", kwh=603.0), last_of_may, NOON + timedelta(seconds=1))


def run(action: str, *arguments: str) -> str:
    printed = StringIO()
    call_command("retention", action, *arguments, stdout=printed)
    return printed.getvalue()


def apply() -> str:
    return run("apply", "--yes")


def attached() -> list[str]:
    """Return which of April's and May's partitions of history there are."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits"
            " WHERE NOT inhdetachpending AND inhrelid::regclass::text = ANY(%s) ORDER BY 1",
            [TABLES],
        )
        return [name for (name,) in cursor.fetchall()]


def tables() -> list[str]:
    """Return which of them are tables at all, attached or not."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relname = ANY(%s)", [TABLES])
        return [name for (name,) in cursor.fetchall()]


def figure(api, start: datetime, end: datetime) -> dict:
    """Return what the API answers for V1."""
    window = f"start={start:%Y-%m-%dT%H:%M:%SZ}&end={end:%Y-%m-%dT%H:%M:%SZ}"
    body = api.get(f"/v1/analytics/performance/V1?{window}").json()
    body.pop("timestamp", None), body.pop("requestId", None)
    return body


def stored() -> list[tuple]:
    """Return every delivery of April and May, without its time of receipt."""
    span = {"measured_at__gte": APRIL, "measured_at__lt": JUNE}
    meters = MeterReading.objects.filter(**span).order_by("measured_at", "received_at", "id")
    vehicles = VehicleReading.objects.filter(**span).order_by("measured_at", "received_at", "id")
    return [
        *meters.values_list("meter_id", "measured_at", "energy_ac_kwh", "voltage_v"),
        *vehicles.values_list(
            "vehicle_id", "measured_at", "energy_dc_kwh", "soc_percent", "battery_temp_celsius"
        ),
    ]


# --- Plan -------------------------------------------------------------------------------------


def test_plan_says_what_would_go_and_where_to_and_drops_nothing(history, folder):
    printed = run("plan")

    (line,) = [line for line in printed.splitlines() if line.startswith(TABLES[1])]
    assert "2025-04-01 to 2025-05-01  19 readings" in line
    assert line.endswith(f"to file://{folder}/{_file('vehicle', '04')}")
    assert "2025_06" not in printed
    assert attached() == sorted(TABLES)
    assert not folder.exists()


def _file(kind: str, month: str) -> str:
    (planned,) = [
        partition
        for partition in plan()
        if partition.table_name == f"ingestion_{kind}reading_2025_{month}"
    ]
    return planned.file


def test_history_is_kept_for_ever_unless_told_otherwise(history, settings):
    settings.RETENTION_DAYS = 0

    assert "kept forever" in run("plan")
    assert "0 partitions dropped" in apply()
    assert attached() == sorted(TABLES)


def test_retention_that_would_take_what_is_still_accepted_is_refused(history, settings):
    settings.RETENTION_DAYS = 400

    with pytest.raises(CommandError, match=r"RETENTION_DAYS is 400: .* 401.*HISTORY_HORIZON_DAYS"):
        apply()
    assert attached() == sorted(TABLES)


@pytest.mark.parametrize(
    ("days", "url", "named"),
    [
        (400, "file:///archive", ["RETENTION_DAYS", "401", "HISTORY_HORIZON_DAYS"]),
        (401, "", ["RETENTION_DAYS", "ARCHIVE_URL"]),
    ],
)
def test_engine_does_not_start_with_a_retention_that_cannot_be(settings, days, url, named):
    settings.HISTORY_HORIZON_DAYS, settings.RETENTION_DAYS, settings.ARCHIVE_URL = 400, days, url

    (error,) = checks.run_checks(tags=["retention"])

    assert all(name in error.msg for name in named)


def test_who_is_asked_and_says_no_keeps_everything(history, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question: "n")

    run("apply")

    assert attached() == sorted(TABLES)


# --- Apply ------------------------------------------------------------------------------------


def test_archive_holds_every_delivery_in_order_with_its_time_of_receipt(history, folder):
    name = _file("vehicle", "05")
    apply()

    rows = pyarrow.parquet.read_table(folder / name).to_pylist()
    assert [row["kwhDeliveredDc"] for row in rows[-2:]] == [602.25, 603.0]
    assert [row["receivedAt"] for row in rows[-2:]] == [NOON, NOON + timedelta(seconds=1)]
    assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)
    assert {row["vehicleId"] for row in rows} == {"V1"}
    assert rows[0]["batteryTemp"] == 30


def test_partitions_go_and_those_of_sums_with_them(history):
    hourly.roll_up()
    before = len(stored())

    apply()

    assert (before, stored(), tables()) == (80, [], [])
    archived = ArchivedPartition.objects.filter(dropped_at=NOON, is_out=True)
    assert sum(archived.values_list("readings", flat=True)) == before
    assert sum(archived.values_list("energy_kwh", flat=True)) > 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('analytics_vehiclehour_2025_05')")
        assert cursor.fetchone() == (None,)


def test_second_run_has_nothing_to_do(history, folder):
    apply()
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    assert "0 partitions dropped" in apply()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == files


def test_window_that_reaches_into_the_archive_is_refused_and_says_from_where_on(history, api):
    apply()

    for path in ("V1", "V1/series", "V1/explain"):
        answer = api.get(
            f"/v1/analytics/performance/{path}?start=2025-05-31T23:59:59Z&end=2025-06-20T00:00:00Z"
        )
        assert answer.status_code == 400
        assert answer.json()["message"] == (
            "start must be 2025-06-01T00:00:00Z or later: earlier history is in the archive"
        )
    assert api.get("/v1/analytics/performance/V1?window=400d").status_code == 200


@pytest.mark.parametrize("hours", [0, 2, 100])
def test_figures_of_what_is_kept_are_those_of_before_to_the_last_digit(history, api, hours):
    window = JUNE + timedelta(hours=hours), JUNE + timedelta(days=20)
    before = figure(api, *window)
    apply()

    assert figure(api, *window) == before
    assert before["energyDeliveredDc"] > 0
    # From the last reading of May, as corrected, to the first one of June: 97 of 118.75 hours.
    if hours == 0:
        june_kwh = (651 - 603) * 97 / 118.75 + 702.25 - 651
        assert before["energyDeliveredDc"] == pytest.approx(june_kwh, abs=1e-9)


def test_reading_that_replaced_the_last_one_that_went_is_what_a_counter_goes_on_from(history, api):
    apply()
    last_of_may = APRIL + timedelta(days=60, hours=2.25)
    deliver(vehicle_reading("V1", kwh=620.0), last_of_may, NOON + timedelta(seconds=2))

    june_kwh = (651 - 620) * 97 / 118.75 + 702.25 - 651
    of_june = figure(api, JUNE, JUNE + timedelta(days=20))
    assert of_june["energyDeliveredDc"] == pytest.approx(june_kwh, abs=1e-9)


def test_sums_of_what_has_gone_are_not_made_anew(history):
    apply()

    with pytest.raises(CommandError, match="--from must be 2025-06-01T00:00:00Z or later"):
        call_command("rollup", "--from", "2025-05-01T00:00:00Z", "--to", "2025-07-01T00:00:00Z")


def test_export_says_what_is_in_the_archive_alone(history, tmp_path, capsys):
    apply()
    said = StringIO()

    call_command("export_readings", "--output", str(tmp_path / "all.csv"), stderr=said)

    assert "2025-06-01T00:00:00Z" in said.getvalue()


# --- Broken on purpose ------------------------------------------------------------------------


class _Broken(Exception):
    pass


STEPS = ["_archived", "_take_out", "_drop_archived", "_detach", "_drop_unchanged"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_run_that_was_cut_short_is_finished_by_the_next_one(
    history, folder, monkeypatch, api, step, moment
):
    window = APRIL, JUNE + timedelta(days=19)
    before, rows = figure(api, *window), sorted(map(str, stored()))
    whole = getattr(retiring, step)

    def broken(*arguments):
        if moment == "after":
            whole(*arguments)
        raise _Broken

    with monkeypatch.context() as patch:
        patch.setattr(retiring, step, broken)
        with pytest.raises(_Broken):
            apply()
    # Either the figure is the one of before, or it is refused: it is never another one.
    assert figure(api, *window) == before or figure(api, *window)["statusCode"] == 400
    apply()

    assert tables() == []
    assert len(list(folder.iterdir())) == 4
    archived = [
        row for path in folder.iterdir() for row in pyarrow.parquet.read_table(path).to_pylist()
    ]
    assert len(archived) == len(rows)


@pytest.mark.parametrize("portions", range(0, 40, 3))
def test_run_that_is_told_to_stop_is_finished_by_the_next_one(
    history, folder, monkeypatch, portions
):
    monkeypatch.setattr(retiring, "BATCH_ROWS", 5)
    with stopped_after(portions), suppress(Stopped):
        retiring.apply(lambda step: lambda rows: None)

    apply()

    assert tables() == []
    rows = sum(pyarrow.parquet.read_metadata(file).num_rows for file in folder.iterdir())
    assert rows == 18 + 19 + 21 + 22


def test_process_that_is_killed_in_the_middle_of_a_file_loses_nothing(history, folder):
    chance = random.Random(1)
    times = [APRIL + timedelta(days=1, seconds=number) for number in range(6_000)]
    readings = [
        timed(meter_reading("M2", kwh=chance.random(), voltage_v=chance.random()), measured_at)
        for measured_at in times
    ]
    record(readings, NOON)
    folder.mkdir()
    part = folder / f"{_file('meter', '04')}.part"
    # Takes 64 KiB: who has written them waits for somebody to read.
    os.mkfifo(part)
    database = connection.settings_dict["NAME"]
    url = embedded.database_url(environment.data_dir()).replace("/postgres?", f"/{database}?")
    running = subprocess.Popen(
        [sys.executable, "manage.py", "retention", "apply", "--yes"],
        cwd=environment.ROOT,
        env=os.environ
        | {"DATABASE_URL": url, "RETENTION_DAYS": "401", "ARCHIVE_URL": settings.ARCHIVE_URL},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    reader = os.open(part, os.O_RDONLY | os.O_NONBLOCK)
    begun, _, _ = select.select([reader], [], [], 60)
    running.kill()
    running.wait()
    assert begun
    assert os.read(reader, 4) == b"PAR1"
    os.close(reader)
    part.unlink()
    assert running.returncode == -signal.SIGKILL
    assert attached() == sorted(TABLES)
    assert not ArchivedPartition.objects.exists()

    apply()

    assert tables() == []
    assert len(list(folder.iterdir())) == 4


def test_archive_that_was_spoilt_before_the_drop_keeps_history(history, folder, monkeypatch):
    write = archive.Archive.write

    def spoiling(self, name, *arguments):
        write(self, name, *arguments)
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 3] ^= 0xFF
        (folder / name).write_bytes(content)

    monkeypatch.setattr(archive.Archive, "write", spoiling)

    with pytest.raises(CommandError, match=r"ingestion_meterreading_2025_04-.*\.parquet: "):
        apply()
    assert attached() == sorted(TABLES)
    assert not ArchivedPartition.objects.exists()


@pytest.mark.parametrize("step", ["write", "require_equal"])
def test_disk_that_fails_keeps_history(history, folder, monkeypatch, step):
    def full(self, name, *arguments):
        with archive._named(self.where(name)):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.Archive, step, full)

    with pytest.raises(CommandError, match="No space left on device"):
        apply()
    assert attached() == sorted(TABLES)


def test_archive_that_cannot_be_made_keeps_history(history, folder):
    folder.write_text("a file, where the folder should be")

    with pytest.raises(CommandError, match=r"file:///.*: "):
        apply()
    assert attached() == sorted(TABLES)


def test_file_of_another_history_is_not_overwritten(history, folder):
    name = _file("meter", "04")
    folder.mkdir()
    table = pyarrow.table({"meterId": ["M1"]})
    pyarrow.parquet.write_table(table, folder / name)

    with pytest.raises(CommandError, match="rows differ from history"):
        apply()
    assert pyarrow.parquet.read_table(folder / name).equals(table)
    assert attached() == sorted(TABLES)


def test_delivery_that_arrives_while_its_partition_goes_is_archived_too(
    history, folder, monkeypatch
):
    detach = retiring._detach
    late = APRIL + timedelta(days=40)

    def with_a_late_delivery(parent_name, table_name):
        if table_name.endswith("vehiclereading_2025_05"):
            deliver(vehicle_reading("V1", kwh=444.0), late)
        detach(parent_name, table_name)

    monkeypatch.setattr(retiring, "_detach", with_a_late_delivery)
    apply()

    assert tables() == []
    archived = ArchivedPartition.objects.get(table_name="ingestion_vehiclereading_2025_05")
    rows = pyarrow.parquet.read_table(folder / archived.file).to_pylist()
    assert [row["kwhDeliveredDc"] for row in rows if row["timestamp"] == late] == [444.0]


def test_of_two_runs_one_is_refused(history):
    with retiring.at_work(), pytest.raises(CommandError, match="Another process is archiving"):
        apply()
    assert attached() == sorted(TABLES)


def test_nobody_waits_for_a_partition_that_a_reader_holds(history, monkeypatch):
    monkeypatch.setattr(retiring, "_ATTEMPTS", 1)
    monkeypatch.setattr(retiring, "_LOCK_WAIT", "100ms")
    reader = connections.create_connection("default")
    reader.set_autocommit(False)
    try:
        with reader.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM ingestion_vehiclereading")
            with pytest.raises(CommandError, match="in use by a long-running transaction"):
                apply()
            deliver(vehicle_reading("V1", "11:00", kwh=999.0), NOON - timedelta(hours=1))
            cursor.execute("SELECT count(*) FROM ingestion_vehiclereading")
    finally:
        reader.rollback()
        reader.close()
    monkeypatch.undo()
    apply()

    assert tables() == []


# --- Back again -------------------------------------------------------------------------------


def bring_back(*files: object) -> None:
    call_command("import_readings", "--archived", *map(str, files), stdout=StringIO())


def sums() -> list[tuple]:
    """Return count and sum of what history holds of each kind."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), sum(energy_ac_kwh::numeric) FROM ingestion_meterreading UNION ALL "
            "SELECT count(*), sum(energy_dc_kwh::numeric) FROM ingestion_vehiclereading"
        )
        return cursor.fetchall()


def test_what_is_brought_back_gives_every_figure_of_before(history, folder, api, clock):
    windows = [
        (APRIL + timedelta(days=day), APRIL + timedelta(days=day + days, hours=1.75))
        for day in range(0, 75, 6)
        for days in (0, 1, 40)
    ]
    before = [figure(api, *window) for window in windows], sums(), stored()
    apply()
    clock.shift(timedelta(minutes=5))
    bring_back(*folder.iterdir())

    assert ([figure(api, *window) for window in windows], sums(), stored()) == before
    hourly.settle()
    clock.shift(timedelta(minutes=5))
    hourly.roll_up()
    assert [figure(api, *window) for window in windows] == before[0]
    # Brought back once more, it is there twice, and counts once.
    bring_back(*folder.iterdir())
    assert [figure(api, *window) for window in windows] == before[0]


def test_figures_are_refused_until_all_of_a_span_is_back(history, folder, api):
    # The last step that it cuts ends on the 26th.
    window = APRIL, APRIL + timedelta(days=24)
    before = figure(api, *window)
    apply()

    bring_back(next(folder.glob("*vehiclereading_2025_04*")))
    assert figure(api, *window)["statusCode"] == 400
    bring_back(next(folder.glob("*meterreading_2025_04*")))
    assert figure(api, *window) == before
    assert figure(api, MAY, MAY + timedelta(days=1))["statusCode"] == 400


def test_what_was_brought_back_stays_for_a_month_and_then_goes_again(history, folder, clock):
    apply()
    bring_back(*folder.iterdir())

    assert run("plan").count("kept: restored, until 2026-08-14") == 4
    assert "0 partitions dropped" in apply()
    clock.shift(timedelta(days=31))
    apply()
    assert tables() == []


def test_file_that_lacks_readings_does_not_pass_for_the_whole(history, folder, api):
    apply()
    path = next(folder.glob("*vehiclereading_2025_04*"))
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).slice(0, 5), path)

    with pytest.raises(CommandError, match="has 19 readings, but history has 5 of its period"):
        bring_back(path)
    assert figure(api, APRIL, MAY)["statusCode"] == 400


def test_older_than_the_horizon_is_taken_from_the_archive_alone(history, folder):
    apply()
    path = next(folder.glob("*vehiclereading_2025_04*"))
    with pytest.raises(CommandError, match="every line was rejected"):
        call_command("import_readings", str(path), stdout=StringIO())

    assert stored() == []
    assert "HISTORY_HORIZON_DAYS" in path.with_name(f"{path.name}.rejected.csv").read_text()


def test_simulated_fleet_goes_and_comes_back(folder, api, clock):
    clock.move_to(datetime(2025, 5, 20, 12, tzinfo=UTC))
    call_command("simulate", "--vehicles", "3", "--meters", "2", "--hours", "30", stdout=StringIO())
    clock.move_to(NOON)
    days = [datetime(2025, 5, 19, hour, 20, tzinfo=UTC) for hour in (0, 7, 13)]

    def figures() -> list[dict]:
        answers = [
            api.get(
                f"/v1/analytics/performance/{vehicle.pk}/series?granularity=15m"
                f"&start={day:%Y-%m-%dT%H:%M:%SZ}&end=2025-05-20T12:00:00Z"
            )
            for vehicle in Vehicle.objects.order_by("pk")
            for day in days
        ]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.json() for answer in answers]

    before = figures(), sums()
    apply()
    assert sums() == [(0, None), (0, None)]
    bring_back(*folder.glob("*.parquet"))

    assert (figures(), sums()) == before
    assert before[1][0][0] > 1_000
