"""`manage.py export_readings`: what is written is what was delivered, and can be taken back."""

import csv
import gzip
import json
from io import StringIO
from pathlib import Path

import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from psycopg import ClientCursor
from psycopg.sql import SQL

from ingestion import models
from ingestion.history.deliveries import select_deliveries
from ingestion.management.commands import export_readings
from ingestion.readings import DeviceKind
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clock")]

FORMATS = ["all.csv", "all.csv.gz", "all.ndjson", "all.jsonl.gz", "all.parquet"]


def run(*arguments: str | Path) -> str:
    printed = StringIO()
    call_command("export_readings", *map(str, arguments), stdout=printed)
    return printed.getvalue()


def exported(*arguments: str) -> list[dict]:
    """Return what the command writes to standard output."""
    return [json.loads(line) for line in run(*arguments, "--output", "-").splitlines()]


def content(path: Path) -> list[dict]:
    """Return the rows of a file, without empty cells; times of Parquet as on the wire."""
    if path.suffix == ".parquet":
        rows = pyarrow.parquet.read_table(path).to_pylist()
        return [{k: v for k, v in row.items() if v is not None} for row in rows]
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    if ".csv" in path.name:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(StringIO(text))]
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def history() -> None:
    """A vehicle that was corrected, another one, and a meter, from 10:00 to 11:00."""
    first = [
        vehicle_reading("V1", "10:00", 1.0, soc_percent=70.5),
        vehicle_reading("V1", "10:30", 2.0, battery_temp_celsius=31.25),
        vehicle_reading("V2", "11:00", 4.0),
        meter_reading("M1", "10:00", 5.5, voltage_v=230.0),
    ]
    record(first, at("11:00:00"))
    record([vehicle_reading("V1", "10:00", 1.5)], at("11:30:00"))


def energies(rows: list[dict]) -> list[float]:
    return [float(row.get("kwhDeliveredDc") or row["kwhConsumedAc"]) for row in rows]


def figures() -> list[tuple]:
    """Return the delivery that counts of each device and timestamp."""
    counted = []
    for model, device in ((models.MeterReading, "meter_id"), (models.VehicleReading, "vehicle_id")):
        values = [field for field in ("energy_ac_kwh", "voltage_v") if device == "meter_id"] or [
            "energy_dc_kwh",
            "soc_percent",
            "battery_temp_celsius",
        ]
        order = (device, "measured_at", "-received_at", "-id")
        counted += (
            model.objects.order_by(*order)
            .distinct(device, "measured_at")
            .values_list(device, "measured_at", *values)
        )
    return counted


@pytest.mark.usefixtures("history")
def test_line_bears_the_names_of_the_wire_and_when_it_was_received():
    assert exported("--meters") == [
        {
            "meterId": "M1",
            "kwhConsumedAc": 5.5,
            "voltage": 230.0,
            "timestamp": "2026-07-15T10:00:00Z",
            "receivedAt": "2026-07-15T11:00:00Z",
        }
    ]
    assert exported("--vehicle", "V2")[0].keys() == {
        "vehicleId",
        "kwhDeliveredDc",
        "timestamp",
        "receivedAt",
    }


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [5.5, 1.0, 1.5, 2.0, 4.0]),
        (["--counted"], [5.5, 1.5, 2.0, 4.0]),
        (["--vehicles"], [1.0, 1.5, 2.0, 4.0]),
        (["--vehicle", "V1"], [1.0, 1.5, 2.0]),
        (["--meter", "M1"], [5.5]),
        (["--vehicles", "--from", "2026-07-15T10:30:00Z"], [2.0, 4.0]),
        (["--vehicles", "--to", "2026-07-15T12:30:00+02:00"], [1.0, 1.5]),
        (["--from", "2026-07-15T10:30:00Z", "--to", "2026-07-15T11:00:00Z"], [2.0]),
    ],
)
def test_selection_decides_what_is_written(arguments, expected):
    assert energies(exported(*arguments)) == expected


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("name", FORMATS)
def test_each_format_holds_every_delivery(tmp_path, name, monkeypatch):
    monkeypatch.setattr(export_readings, "BATCH_ROWS", 2)
    path = tmp_path / name

    assert run("--output", path) == f"{path}: 5 readings\n"
    assert energies(content(path)) == [5.5, 1.0, 1.5, 2.0, 4.0]
    assert [row.get("soc") and float(row["soc"]) for row in content(path)] == [
        None,
        70.5,
        None,
        None,
        None,
    ]
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("name", FORMATS)
def test_import_takes_back_what_export_wrote(tmp_path, name):
    path, before = tmp_path / name, figures()
    run("--output", path)
    models.MeterReading.objects.all().delete()
    models.VehicleReading.objects.all().delete()
    call_command("import_readings", path, stdout=StringIO())

    assert figures() == before
    assert models.VehicleReading.objects.count() == 4


def test_csv_and_parquet_have_their_columns_without_any_reading(tmp_path):
    run("--vehicles", "--output", tmp_path / "all.csv")
    run("--vehicles", "--output", tmp_path / "all.parquet")

    names = ["vehicleId", "kwhDeliveredDc", "soc", "batteryTemp", "timestamp", "receivedAt"]
    assert (tmp_path / "all.csv").read_text() == ",".join(names) + "\n"
    assert pyarrow.parquet.read_schema(tmp_path / "all.parquet").names == names


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vehicle", "V9"], "Vehicle not found"),
        (["--meter", ""], "Meter not found"),
        (["--from", "2026-07-15T10:00:00Z", "--to", "2026-07-15T10:00:00Z"], "must be before"),
        (["--from", "2026-07-15"], "RFC 3339"),
        (["--meters", "--vehicles"], "not allowed with"),
    ],
)
def test_what_cannot_be_selected_fails_the_command(arguments, words):
    with pytest.raises(CommandError, match=words):
        run(*arguments, "--output", "-")


def test_output_that_cannot_be_written_fails_the_command(tmp_path):
    with pytest.raises(CommandError, match="must end in"):
        run("--output", tmp_path / "all.txt")
    with pytest.raises(CommandError, match="No such file"):
        run("--output", tmp_path / "nowhere" / "all.csv")


@pytest.mark.usefixtures("history")
def test_export_that_breaks_off_leaves_the_file_before_it(tmp_path, monkeypatch):
    path = tmp_path / "all.csv"
    path.write_text("before")

    def breaks_off(kind, selection):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(export_readings, "_batches", breaks_off)
    with pytest.raises(CommandError, match="No space left"):
        run("--output", path)
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["all.csv"]


@pytest.mark.parametrize("kind", list(DeviceKind))
def test_window_reads_the_key_of_its_own_partitions_alone(kind):
    window = {"device_id": "X", "start": at("00:00"), "end": NOON, "counted": True}
    statement = select_deliveries("export_readings.sql", kind, f"ingestion_{kind}reading")
    connection.ensure_connection()
    with ClientCursor(connection.connection) as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute(SQL("EXPLAIN ") + statement, window)
        plan = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute("RESET enable_seqscan")

    assert f"ingestion_{kind}reading_2026_07" in plan
    assert plan.count(" on ingestion_") == 1
    assert plan.count("Sort Key") == 1
    assert f"{kind}_id" in plan.split("Index Cond:")[1]
