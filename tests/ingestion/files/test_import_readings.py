"""`manage.py import_readings`: files are taken by the rules of the API, and counted once."""

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Iterable
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections

from fleet.models import Meter, VehicleLiveState
from ingestion.files import reading
from ingestion.management.commands import import_readings
from ingestion.models import MeterReading, VehicleReading
from ingestion.readings import MAX_LINE_BYTES
from tests.conftest import NOON, at

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clock")]

ROOT = Path(__file__).parents[3]
TIME = "2026-07-15T11:00:00Z"
METER = {"meterId": "M1", "kwhConsumedAc": 25.5, "voltage": 230.0, "timestamp": TIME}
VEHICLE = {"vehicleId": "V1", "kwhDeliveredDc": 21.5, "soc": 70.5, "timestamp": TIME}
BOTH_CSV = (
    "timestamp,vehicleId,kwhDeliveredDc,soc,meterId,kwhConsumedAc,voltage,firmware\n"
    f"{TIME},V1,21.5,70.5,,,,1.2\n"
    f"{TIME},,,,M1,25.5,230.0,1.3\n"
)


def run(*files: Path) -> str:
    printed = StringIO()
    call_command("import_readings", *files, stdout=printed)
    return printed.getvalue()


def ndjson(*items: object) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(path: Path, **columns: object) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def rejected(path: Path) -> list[tuple[str, str, str]]:
    """Return line, field and code of what the report beside `path` says."""
    with path.with_name(f"{path.name}.rejected.csv").open(newline="") as report:
        return [(row["line"], row["field"], row["code"]) for row in csv.DictReader(report)]


def stored() -> list[tuple]:
    """Return what history holds of both kinds, without the time of receipt."""
    meters = MeterReading.objects.values_list(
        "meter_id", "energy_ac_kwh", "voltage_v", "measured_at"
    )
    vehicles = VehicleReading.objects.values_list(
        "vehicle_id", "energy_dc_kwh", "soc_percent", "measured_at"
    )
    return [*meters, *vehicles]


BOTH = [("M1", 25.5, 230.0, at("11:00")), ("V1", 21.5, 70.5, at("11:00"))]


# --- Formats ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("day.csv", BOTH_CSV.encode()),
        ("day.csv", b"\xef\xbb\xbf" + BOTH_CSV.replace("\n", "\r\n").encode()),
        ("DAY.CSV.GZ", gzip.compress(BOTH_CSV.encode(), mtime=0)),
        ("day.ndjson", ndjson(METER, VEHICLE)),
        ("day.jsonl", b"\n" + ndjson(VEHICLE) + b"  \r\n" + ndjson(METER).rstrip()),
        ("day.ndjson.gz", gzip.compress(ndjson(METER | {"type": "meter"}, VEHICLE), mtime=0)),
        (
            "day.ndjson",
            json.dumps([METER])[1:-1].replace(" ", "").encode() + b"\n" + ndjson(VEHICLE),
        ),
    ],
)
def test_each_format_stores_both_kinds(tmp_path, name, content):
    path = written(tmp_path / name, content)

    assert "2 readings" in run(path)
    assert stored() == BOTH
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_stores_both_kinds(tmp_path, unit):
    times = pyarrow.array([at("11:00"), at("11:00")], pyarrow.timestamp(unit, "Europe/Berlin"))
    run(
        parquet(
            tmp_path / "day.parquet",
            meterId=["M1", None],
            kwhConsumedAc=[25.5, None],
            voltage=[230, None],
            vehicleId=[None, "V1"],
            kwhDeliveredDc=[None, 21.5],
            soc=pyarrow.array([None, 70.5], pyarrow.float32()),
            timestamp=times,
            firmware=[{"ignored": 1}, None],
        )
    )

    assert stored() == BOTH


def test_type_column_tells_the_kind(tmp_path):
    header = "type,meterId,vehicleId,kwhConsumedAc,timestamp\n"
    text = f"{header}meter,M1,V1,1,{TIME}\nmeter,,V1,1,{TIME}\n"
    path = written(tmp_path / "day.csv", text)

    run(path)

    assert [row[0] for row in stored()] == ["M1"]
    assert rejected(path) == [("3", "meterId", "missing")]


def test_readings_go_to_live_state_registry_and_partitions_made_on_demand(tmp_path):
    old = VEHICLE | {"timestamp": "2025-08-03T10:00:00+02:00"}
    run(written(tmp_path / "day.ndjson", ndjson(METER, VEHICLE, old)))

    assert VehicleReading.objects.count() == 2
    assert VehicleLiveState.objects.get(pk="V1").measured_at == at("11:00")
    assert Meter.objects.get(pk="M1").registered_at == NOON


# --- Counted once -----------------------------------------------------------------------------


def test_of_one_timestamp_the_later_line_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_LINES", 2)
    lines = [VEHICLE | {"kwhDeliveredDc": float(kwh)} for kwh in range(5)]

    run(written(tmp_path / "day.ndjson", ndjson(*lines)))

    counted = VehicleReading.objects.order_by("received_at", "id").last()
    assert (counted.energy_dc_kwh, VehicleReading.objects.count()) == (4, 5)
    assert VehicleLiveState.objects.get(pk="V1").energy_dc_kwh == 4


def test_second_run_changes_no_figure(tmp_path, api):
    path = written(tmp_path / "day.csv", BOTH_CSV)
    run(path)
    first = api.get("/v1/analytics/performance/V1").json()
    run(path)

    assert VehicleReading.objects.count() == 2
    assert api.get("/v1/analytics/performance/V1").json() == first
    assert (first["energyDeliveredDc"], first["energyConsumedAc"]) == (21.5, 25.5)


def test_reading_without_timestamp_is_rejected_as_it_would_count_twice(tmp_path):
    untimed = {"vehicleId": "V1", "kwhDeliveredDc": 1}
    path = written(tmp_path / "day.ndjson", ndjson(untimed, VEHICLE, untimed | {"timestamp": None}))
    rows = f"V1,1,\nV1,1,{TIME}\n"
    table = written(tmp_path / "day.csv", f"vehicleId,kwhDeliveredDc,timestamp\n{rows}")

    run(path, table)

    assert rejected(path) == [("1", "timestamp", "missing"), ("3", "timestamp", "missing")]
    assert rejected(table) == [("2", "timestamp", "missing")]
    assert VehicleReading.objects.count() == 2


# --- Rejected lines ---------------------------------------------------------------------------


def test_bad_lines_are_reported_beside_the_file_and_the_good_ones_stored(tmp_path, settings):
    settings.HISTORY_HORIZON_DAYS = 30
    bad = [
        VEHICLE | {"soc": 101},
        VEHICLE | {"kwhDeliveredDc": "1"},
        VEHICLE | {"vehicleId": "a b"},
        VEHICLE | {"timestamp": "2026-06-01T00:00:00Z"},
        VEHICLE | {"timestamp": "2026-07-15T11:00:00.1234567Z"},
        [VEHICLE],
    ]
    path = written(
        tmp_path / "day.ndjson", ndjson(*bad) + b"{\n\n" + ndjson(VEHICLE, METER) + b"{} {}"
    )

    printed = run(path)

    assert stored() == BOTH
    assert rejected(path) == [
        ("1", "soc", "out_of_range"),
        ("2", "kwhDeliveredDc", "wrong_type"),
        ("3", "vehicleId", "invalid_format"),
        ("4", "timestamp", "out_of_range"),
        ("5", "timestamp", "invalid_format"),
        ("6", "", "wrong_type"),
        ("7", "", "malformed_json"),
        ("11", "", "malformed_json"),
    ]
    assert f"8 lines rejected; see {path}.rejected.csv for the reasons" in printed
    report = Path(f"{path}.rejected.csv").read_text()
    assert "timestamp must be at most 30 days old (HISTORY_HORIZON_DAYS)" in report


def test_bad_optional_fields_are_dropped_where_the_setting_says_so(tmp_path, settings):
    settings.INGEST_BAD_OPTIONAL = "drop"
    rows = BOTH_CSV.replace("70.5", "80%").replace("230.0", "n/a") + f"{TIME},a b,1,255,,,,\n"
    path = written(tmp_path / "day.csv", rows)

    printed = run(path)

    assert stored() == [("M1", 25.5, None, at("11:00")), ("V1", 21.5, None, at("11:00"))]
    assert "2 invalid optional fields left out" in printed
    assert rejected(path) == [("4", "vehicleId", "invalid_format")]


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("NaN", "wrong_type"),
        ("Infinity", "wrong_type"),
        ("true", "wrong_type"),
        ('"1,5"', "wrong_type"),
        ("0x1", "wrong_type"),
        ("1_0", "wrong_type"),
        ('"1\n2"', "wrong_type"),
        ('"1,""soc"":2"', "wrong_type"),
        ("1e400", "out_of_range"),
        ("-1", "out_of_range"),
        ("", "missing"),
    ],
)
def test_number_of_csv_obeys_the_rules_of_the_wire(tmp_path, cell, code):
    header = "vehicleId,kwhDeliveredDc,timestamp\n"
    path = written(tmp_path / "day.csv", f"{header}V1,{cell},{TIME}\nV1,1e1,{TIME}\n")

    run(path)

    line = "3" if "\n" in cell else "2"
    assert [row[:2] for row in stored()] == [("V1", 10.0)]
    assert rejected(path) == [(line, "kwhDeliveredDc", code)]


def test_line_of_csv_with_too_few_cells_or_odd_bytes_is_rejected_alone(tmp_path):
    rows = f"\nV1,1\nV\xfc,1,{TIME}\n".encode("latin-1") + f'"V""1",1,{TIME}\nV1,1,{TIME}'.encode()
    path = written(tmp_path / "day.csv", b"vehicleId,kwhDeliveredDc,timestamp\n" + rows)

    run(path)

    assert rejected(path) == [
        ("3", "", "malformed_csv"),
        ("4", "vehicleId", "invalid_format"),
        ("5", "vehicleId", "invalid_format"),
    ]
    assert VehicleReading.objects.count() == 1


def test_what_parquet_cannot_say_is_rejected_by_row(tmp_path):
    path = parquet(
        tmp_path / "day.parquet",
        vehicleId=["V1", "V2", "V3"],
        kwhDeliveredDc=[1.0, float("nan"), None],
        timestamp=[TIME] * 3,
    )
    naive = parquet(
        tmp_path / "naive.parquet",
        vehicleId=["V1"],
        kwhDeliveredDc=[1.0],
        timestamp=pyarrow.array([at("11:00").replace(tzinfo=None)], pyarrow.timestamp("us")),
    )

    with pytest.raises(CommandError, match=r"naive\.parquet: every line was rejected"):
        run(path, naive)

    assert rejected(path) == [
        ("2", "kwhDeliveredDc", "wrong_type"),
        ("3", "kwhDeliveredDc", "missing"),
    ]
    assert rejected(naive) == [("1", "timestamp", "invalid_format")]


def test_unknown_devices_are_rejected_where_the_setting_says_so(tmp_path, settings):
    settings.INGEST_UNKNOWN_DEVICES = "reject"
    Meter.objects.create(meter_id="M1", registered_at=NOON)
    path = written(tmp_path / "day.ndjson", ndjson(VEHICLE, METER, VEHICLE))

    run(path)

    assert [row[0] for row in stored()] == ["M1"]
    assert rejected(path) == [
        ("1", "vehicleId", "unknown_device"),
        ("3", "vehicleId", "unknown_device"),
    ]


def test_report_of_an_earlier_run_goes_where_nothing_is_rejected_any_more(tmp_path):
    path = written(tmp_path / "day.ndjson", ndjson(VEHICLE | {"soc": 101}, VEHICLE))
    run(path)
    written(path, ndjson(VEHICLE))
    run(path)

    assert not Path(f"{path}.rejected.csv").exists()


# --- Files that cannot be read ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("day.txt", b"", "must end in"),
        ("day.csv", b"", "must be named as in the API"),
        ("day.csv", b"vehicleId;timestamp\n", "no column is named kwhDeliveredDc"),
        ("day.csv", b"vehicleId,vehicleId,timestamp\n", "appears twice"),
        ("day.csv.gz", b"vehicleId,timestamp\n", "Not a gzipped file"),
        ("day.ndjson", b"vehicleId,timestamp\nV1,\n", "has no readings"),
        ("day.ndjson", b" " * (MAX_LINE_BYTES + 1), "more than 65,536 bytes"),
        ("day.parquet", b"PAR1", "not a Parquet file"),
    ],
)
def test_file_of_another_format_fails_the_command(tmp_path, name, content, words):
    with pytest.raises(CommandError, match=words):
        run(written(tmp_path / name, content))


def test_missing_file_fails_the_command_before_anything_is_stored(tmp_path):
    path = written(tmp_path / "day.csv", BOTH_CSV)

    with pytest.raises(CommandError, match="No such file"):
        run(path, tmp_path / "nowhere.csv")
    assert stored() == []


# --- Bombs --------------------------------------------------------------------------------------

# What a file may take in memory beside what it takes to import pyarrow and Django.
MAX_GROWTH_MIB = 128
READ = """
import gc, resource, sys
import django
django.setup()
import pyarrow.parquet
from pathlib import Path
from django.utils import timezone
from ingestion.files.formats import Unreadable
from ingestion.files.reading import blocks, decode_block

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before, end = peak(), "read to its end"
gc.disable()
try:
    for block in blocks(Path(sys.argv[1])):
        decode_block(block, timezone.now())
except Unreadable as error:
    end = str(error)
print(peak() - before, end)
"""


def gzipped(path: Path, parts: Iterable[bytes]) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.writelines(parts)
    return path


def text_of(length: int, rows: int) -> pyarrow.Array:
    """Return a column with one text in all rows, which stands in memory once."""
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows), ["a" * length])


def of_vehicles(path: Path, vehicle_ids: pyarrow.Array, **options: object) -> Path:
    rows = len(vehicle_ids)
    table = pyarrow.table(
        {
            "vehicleId": vehicle_ids,
            "kwhDeliveredDc": [1.0] * rows,
            "timestamp": pyarrow.array([at("11:00")] * rows, pyarrow.timestamp("us", "UTC")),
        }
    )
    pyarrow.parquet.write_table(table, path, compression="zstd", **options)
    return path


MEBIBYTE = b"a" * 1024 * 1024
HEADER = b"vehicleId,kwhDeliveredDc,timestamp,x\n"
LINE = b'{"vehicleId":"V1","kwhDeliveredDc":1,"timestamp":"2026-07-15T11:00:00Z","x":"'
BOMBS = {
    "a line of CSV without an end": (
        lambda folder: gzipped(folder / "b.csv.gz", [HEADER, *[MEBIBYTE] * 128]),
        "line 2 has more than 65,536 bytes",
    ),
    "long lines of CSV": (
        lambda folder: gzipped(
            folder / "b.csv.gz", [HEADER, *[b"V1,1,x,", MEBIBYTE[:65_000], b"\n"] * 3_000]
        ),
        "read to its end",
    ),
    "long lines of NDJSON": (
        lambda folder: gzipped(folder / "b.ndjson.gz", [LINE, MEBIBYTE[:65_000], b'"}\n'] * 2_000),
        "read to its end",
    ),
    "a long text in all rows of Parquet": (
        lambda folder: of_vehicles(folder / "b.parquet", text_of(20_000, 10_000)),
        "read to its end",
    ),
    "a large page of Parquet": (
        lambda folder: of_vehicles(
            folder / "b.parquet", pyarrow.array(["a" * 128 * 1024 * 1024]), use_dictionary=False
        ),
        "a page of vehicleId expands to 134,217,738 bytes, more than 16,777,216",
    ),
}


@pytest.mark.parametrize(("bomb", "end"), BOMBS.values(), ids=BOMBS.keys())
def test_file_takes_little_memory_whatever_it_unpacks_to(tmp_path, bomb, end):
    path = bomb(tmp_path)

    # In a process of its own: the peak is that of a whole process.
    reader = subprocess.run(
        [sys.executable, "-c", READ, path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    growth_mib, _, ended = reader.stdout.partition(" ")

    assert path.stat().st_size < 2 * 1024 * 1024
    assert end in ended
    assert int(growth_mib) < MAX_GROWTH_MIB


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("day.ndjson", [LINE + b'"}\n'] * 40 + [LINE, MEBIBYTE], "line 41 has more than 65,536"),
        ("day.csv", [HEADER, b'"', b'\n","' * 1_000_000], "a row has more than 65,536 bytes"),
    ],
)
def test_line_or_row_without_an_end_fails_the_command(tmp_path, name, content, words):
    with pytest.raises(CommandError, match=words):
        run(written(tmp_path / name, b"".join(content)))


def test_any_number_of_empty_lines_is_taken(tmp_path):
    content = HEADER + b"\r\n" * 2_000_000 + f"V1,1,{TIME},\n".encode()

    assert "1 readings" in run(written(tmp_path / "day.csv", content))


@pytest.mark.parametrize(
    ("vehicle_ids", "options", "words"),
    [
        (pyarrow.array([["V1"]]), {}, "vehicleId is list<element: string>: it must be text"),
        (
            pyarrow.array([b"V1"], pyarrow.binary(2)),
            {},
            r"vehicleId is fixed_size_binary\[2\]: it must be text",
        ),
        (
            pyarrow.array(["V1"]),
            {"use_dictionary": False, "column_encoding": {"vehicleId": "DELTA_BYTE_ARRAY"}},
            "vehicleId is encoded as DELTA_BYTE_ARRAY: write the file with dictionaries",
        ),
        (
            pyarrow.array(["V1"]),
            {
                "use_dictionary": False,
                "column_encoding": {"vehicleId": "DELTA_BYTE_ARRAY"},
                "data_page_version": "2.0",
            },
            "vehicleId is encoded as DELTA_BYTE_ARRAY: write the file with dictionaries",
        ),
    ],
)
def test_column_of_parquet_whose_values_may_be_of_any_size_fails_the_command(
    tmp_path, vehicle_ids, options, words
):
    with pytest.raises(CommandError, match=words):
        run(of_vehicles(tmp_path / "day.parquet", vehicle_ids, **options))


def test_line_may_be_as_long_as_one_of_the_api(tmp_path):
    longest = LINE + b"a" * (MAX_LINE_BYTES - len(LINE) - 2) + b'"}'
    path = written(tmp_path / "day.ndjson", longest + b"\n" + ndjson(METER))
    table = written(
        tmp_path / "day.csv",
        HEADER
        + f"V1,1,{TIME},".encode().ljust(MAX_LINE_BYTES, b"a")
        + f"\nV2,1,{TIME},\n".encode(),
    )

    run(path, table)

    assert sorted(row[0] for row in stored()) == ["M1", "V1", "V1", "V2"]
    with pytest.raises(CommandError, match="line 1 has more than 65,536 bytes"):
        run(written(path, longest[:-2] + b'a"}\n'))


def test_what_was_read_before_a_bomb_is_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_LINES", 1)
    path = written(tmp_path / "day.ndjson", ndjson(METER, VEHICLE) + b" " * 70_000)

    with pytest.raises(CommandError, match=r"line 3 has more than .* is imported up to line 2"):
        run(path)
    assert stored() == BOTH


def test_text_of_parquet_that_no_field_may_have_is_rejected_by_row(tmp_path):
    path = parquet(
        tmp_path / "day.parquet",
        vehicleId=["V1", "V" * 257, "V2"],
        kwhDeliveredDc=["1.5", "1", "1." + "0" * 300],
        timestamp=[TIME] * 3,
    )

    run(path)

    assert stored() == [("V1", 1.5, None, at("11:00"))]
    assert rejected(path) == [
        ("2", "vehicleId", "invalid_format"),
        ("3", "kwhDeliveredDc", "wrong_type"),
    ]


@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_parquet_of_other_writers_is_taken(tmp_path, use_dictionary, version):
    """Large texts, bytes, a column of nothing, several row groups, pages of either kind."""
    count = 3_000
    table = pyarrow.table(
        {
            "vehicleId": pyarrow.array([f"V{n}" for n in range(count)], pyarrow.large_string()),
            "kwhDeliveredDc": pyarrow.array([Decimal("1.25")] * count),
            "type": pyarrow.array([b"vehicle"] * count),
            "soc": pyarrow.nulls(count),
            "timestamp": [TIME] * count,
        }
    )
    path = tmp_path / "day.parquet"
    pyarrow.parquet.write_table(
        table,
        path,
        row_group_size=1_000,
        use_dictionary=use_dictionary,
        data_page_version=version,
        data_page_size=1_000,
    )

    assert "3,000 readings" in run(path)
    assert not Path(f"{path}.rejected.csv").exists()


def test_parquet_without_rows_is_taken(tmp_path):
    empty = of_vehicles(tmp_path / "day.parquet", pyarrow.array([], pyarrow.string()))

    assert "0 readings" in run(empty)


def test_page_of_parquet_that_is_none_fails_the_command(tmp_path):
    path = of_vehicles(tmp_path / "day.parquet", pyarrow.array(["V1"]))
    content = path.read_bytes()
    written(path, content[:4] + b"\xff" * 20 + content[24:])

    with pytest.raises(CommandError, match="not Parquet: no page starts at byte 4"):
        run(path)


# --- Broken off ---------------------------------------------------------------------------------


def test_file_that_is_cut_short_is_stored_as_far_as_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_LINES", 1)
    whole = gzip.compress(ndjson(*[VEHICLE | {"vehicleId": f"V{n:09}{n}"} for n in range(999)]))
    path = written(tmp_path / "day.ndjson.gz", whole[: len(whole) // 2])

    with pytest.raises(CommandError, match=r"end-of-stream.*is imported up to line (\d+)"):
        run(path)
    assert VehicleReading.objects.count() > 100


@pytest.fixture
def broken_off(tmp_path, monkeypatch) -> Path:
    """Return a file whose import broke off after three lines, of which the second was rejected."""
    monkeypatch.setattr(reading, "BLOCK_LINES", 1)
    monkeypatch.setattr(import_readings, "BLOCKS_AHEAD", 0)
    items = [VEHICLE | {"vehicleId": f"V{n}", "soc": 101 if n == 2 else 50} for n in range(1, 6)]
    path = written(tmp_path / "day.ndjson", ndjson(*items))
    record = import_readings.record_known

    def fails_at_the_fourth(part, received_at):
        if any(reading.vehicle_id == "V4" for reading in part.readings):
            raise KeyboardInterrupt
        record(part, received_at)

    with monkeypatch.context() as patch:
        patch.setattr(import_readings, "record_known", fails_at_the_fourth)
        with pytest.raises(CommandError, match=r"Stopped; .* is imported up to line 3"):
            run(path)
    return path


def test_next_run_goes_on_where_the_last_one_broke_off(broken_off):
    printed = run(broken_off)

    ids = list(VehicleReading.objects.values_list("vehicle_id", flat=True))
    assert ids == ["V1", "V3", "V4", "V5"]
    assert "4 readings" in printed
    assert "continued after line 3" in printed
    assert rejected(broken_off) == [("2", "soc", "out_of_range")]
    assert not Path(f"{broken_off}.progress.json").exists()


def test_file_that_changed_meanwhile_is_imported_from_its_start(broken_off):
    written(broken_off, broken_off.read_bytes() + b"\n")
    run(broken_off)

    assert VehicleReading.objects.count() == 6


def test_progress_in_another_database_is_not_taken_for_that_in_this_one(broken_off, monkeypatch):
    monkeypatch.setattr(import_readings, "_database_identity", lambda: "another")

    assert "went on" not in run(broken_off)


def test_table_goes_on_where_it_broke_off(tmp_path):
    path = written(tmp_path / "day.csv", BOTH_CSV)
    whole = next(reading.blocks(path))
    (rest,) = reading.blocks(path, after_line=2)

    assert (whole.lines, rest.lines) == ([2, 3], [3])
    assert rest.objects == whole.objects[1:]


def test_database_that_comes_back_is_waited_for(tmp_path, monkeypatch):
    waits, record = [], import_readings.record_known

    def is_away_twice(part, received_at):
        if len(waits) < 2:
            raise OperationalError("away")
        record(part, received_at)

    monkeypatch.setattr(import_readings, "record_known", is_away_twice)
    monkeypatch.setattr(import_readings.time, "sleep", waits.append)
    run(written(tmp_path / "day.ndjson", ndjson(VEHICLE)))

    assert [seconds for seconds in waits if seconds] == [0.2, 0.4]  # 0 lets others join a group
    assert VehicleReading.objects.count() == 1


def test_database_that_stays_away_ends_the_command(tmp_path, monkeypatch):
    def is_away(part, received_at):
        raise OperationalError("away")

    monkeypatch.setattr(import_readings, "record_known", is_away)
    monkeypatch.setattr(import_readings.time, "sleep", lambda seconds: None)
    with pytest.raises(CommandError, match=r"not available: away; .* continue from there"):
        run(written(tmp_path / "day.ndjson", ndjson(VEHICLE)))


def test_connections_are_given_back(tmp_path):
    run(written(tmp_path / "day.ndjson", ndjson(METER, VEHICLE)))

    pool = connections["default"].pool.get_stats()
    assert pool["pool_available"] >= pool["pool_size"] - 1
