"""Files of any format: recognized, read from zips, continued in the middle, in little memory."""

import gzip
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ingestion.files import reading
from ingestion.files.formats import Unreadable
from ingestion.files.mapping import Map, read_map
from ingestion.files.source import Source
from tests.ingestion.files.sources import read, taken
from tests.ingestion.files.test_green_button import SIMPLE
from tests.ingestion.files.test_nem12 import day, nem12, stream
from tests.ingestion.files.test_products import CHARGES, EVCC, HISTORY

ROOT = Path(__file__).parents[3]
API = "meterId,timestamp,kwhConsumedAc\nM1,2026-07-01T00:00:00Z,1\n"


def zipped(path: Path, **files: str | bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return path


# --- Recognized -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "options", "device"),
    [
        (nem12(stream(), day()), {}, "6305-E1"),
        (SIMPLE, {}, "01"),
        (EVCC, {"tz": "UTC"}, "Carport"),
        (CHARGES, {"vehicle": "V1"}, "V1"),
        (HISTORY, {}, "sensor.wallbox_energy"),
        (API, {}, "M1"),
        (API.replace(",", ";"), {}, "M1"),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "zip"])
def test_format_is_told_by_the_content(tmp_path, content, options, device, ending):
    path = tmp_path / f"export.{ending}"
    if ending == "zip":
        zipped(path, a=content)
    else:
        raw = content.encode()
        path.write_bytes(gzip.compress(raw) if ending == "csv.gz" else raw)

    assert read(Source(path, read_map(None, options))).readings[0][0] == device


def test_names_of_columns_win_over_what_is_recognized(tmp_path):
    columns = {"timestamp": "last_changed", "meterId": "entity_id", "kwhConsumedAc": "state"}
    content = HISTORY.replace("unavailable", "18895").replace("unknown", "18895")

    assert len(taken(tmp_path / "a.csv", content, columns=columns).readings) == 4


@pytest.mark.parametrize("name", ["day.txt", "day.xlsx", "day"])
def test_unknown_ending_is_refused_unless_the_format_is_said(tmp_path, name):
    with pytest.raises(Unreadable, match=r"must end in .*\.zip.*; for any other, say --format"):
        taken(tmp_path / name, API)
    assert taken(tmp_path / name, API, format="csv").readings == [("M1", "07-01 00:00", 1)]


@pytest.mark.parametrize("name", ["day.ndjson", "day.parquet", "day.ndjson.gz"])
def test_map_is_refused_for_files_with_fields_of_the_api(tmp_path, name):
    with pytest.raises(Unreadable, match="a map and its options are for CSV, NEM12 and XML"):
        taken(tmp_path / name, "", unit="Wh")


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (nem12(stream(), day()), {"unit": "Wh"}, "unit does not apply to nem12"),
        (SIMPLE, {"tz": "UTC"}, "tz does not apply to green-button"),
        (EVCC, {"tz": "UTC", "register": "counter"}, "register does not apply to evcc"),
        (CHARGES, {"vehicle": "V1", "unit": "Wh"}, "unit does not apply to teslamate"),
    ],
)
def test_what_a_format_says_itself_is_not_overruled(tmp_path, content, options, words):
    with pytest.raises(Unreadable, match=rf"a\.csv: {words}"):
        taken(tmp_path / "a.csv", content, **options)


# --- Zips -----------------------------------------------------------------------------------------


def test_files_in_a_zip_are_read_one_after_the_other(tmp_path):
    path = zipped(
        tmp_path / "a.zip",
        a=API,
        **{
            "data/nem": nem12(stream(), day()),
            "data/gb": SIMPLE,
            "data/": "",
            "data/.hidden": "junk",
            "__MACOSX/a": "junk",
        },
    )
    result = read(Source(path))

    assert len(result.readings) == 1 + 48 + 2


def test_lines_of_a_zip_are_those_of_its_files(tmp_path):
    bad = API + "M1,x,1\n"
    path = zipped(tmp_path / "a.zip", first=bad, second=bad)
    blocks = list(Source(path).blocks())

    assert [(b.member, b.errors[0].index - b.lines_before) for b in blocks] == [
        ("first", 3),
        ("second", 3),
    ]
    assert [b.last_line for b in blocks] == [3, 6]


def test_zip_that_is_none_or_empty_or_encrypted_is_refused(tmp_path):
    with pytest.raises(Unreadable, match="not a zip, or a damaged one"):
        taken(tmp_path / "a.zip", b"PK\x03\x04junk")
    with pytest.raises(Unreadable, match="the zip has no files"):
        read(Source(zipped(tmp_path / "b.zip")))
    path = zipped(tmp_path / "c.zip", a=API)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    with pytest.raises(Unreadable, match="the zip is encrypted"):
        taken(path, bytes(content))


def test_damaged_file_in_a_zip_is_named(tmp_path):
    path = zipped(tmp_path / "a.zip", first=API, second=API * 2_000)
    content = bytearray(path.read_bytes())
    place = content.index(b"second") + 20
    content[place : place + 20] = b"\xff" * 20

    with pytest.raises(Unreadable, match=r"a\.zip: "):
        taken(path, bytes(content))


def test_zip_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ingestion.files.opening.MAX_MEMBERS", 2)

    with pytest.raises(Unreadable, match="more than 2 files"):
        read(Source(zipped(tmp_path / "a.zip", a=API, b=API, c=API)))


# --- In the middle --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "options", "after"),
    [
        (nem12(stream(), day(), day("20260602"), stream("E2"), day()), {}, 3),
        (nem12(stream(), day(quality="V"), "400,1,48,A,,", day("20260602")), {}, 3),
        (SIMPLE, {}, 1),
        (EVCC + EVCC.splitlines()[1].replace("06-13", "06-14"), {"tz": "UTC"}, 2),
        (API.replace(",", ";") + "M2;2026-07-01T00:00:00Z;1\n", {}, 2),
    ],
)
def test_reading_continues_after_any_line(tmp_path, monkeypatch, content, options, after):
    """What an earlier run stored is left out, and everything else comes, once."""
    monkeypatch.setattr(reading, "BLOCK_LINES", 1)
    path = tmp_path / "a.csv"
    whole = taken(path, content, **options)
    source = Source(path, read_map(None, options))
    first = [block for block in source.blocks() if block.last_line <= after]
    rest = read(Source(path, read_map(None, options)), first[-1].last_line)

    stored = sum(len(block.objects) for block in first)
    assert 0 < stored < len(whole.readings)
    assert rest.readings == whole.readings[stored:]


def test_reading_continues_in_the_second_file_of_a_zip(tmp_path):
    path = zipped(tmp_path / "a.zip", first=API, second=API.replace("M1", "M2"))

    assert [row[0] for row in read(Source(path), after_line=2).readings] == ["M2"]


# --- Bombs ----------------------------------------------------------------------------------------

MAX_GROWTH_MIB = 128
READ = """
import gc, resource, sys
import django
django.setup()
from pathlib import Path
from django.utils import timezone
from ingestion.files.formats import Unreadable
from ingestion.files.mapping import read_map
from ingestion.files.reading import decode_block
from ingestion.files.source import Source

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before, end = peak(), "read to its end"
gc.disable()
try:
    for block in Source(Path(sys.argv[1]), read_map(None, {"encoding": "utf-8"})).blocks():
        decode_block(block, timezone.now())
except Unreadable as error:
    end = str(error)
print(peak() - before, end)
"""
MEBIBYTE = b"a" * 1024 * 1024
ATOM = b'<feed xmlns="http://www.w3.org/2005/Atom">'
ENTRY = b"<entry><content><IntervalBlock>%s</IntervalBlock></content></entry>"
READING = b"<IntervalReading><value>1</value></IntervalReading>"
BOMBS = {
    "a line without an end": ([b"meterId;timestamp;kwhConsumedAc\n", *[MEBIBYTE] * 128], "65,536"),
    "a row without an end": ([b'meterId;timestamp;kwhConsumedAc\n"', b"aa\n" * 40_000], "65,536"),
    "lines of NEM12": ([b"100,NEM12,1,A,B\n", *[b"300," + b"1," * 30_000 + b"\n"] * 500], "end"),
    "text of XML": ([ATOM, b"<a>", *[MEBIBYTE] * 128, b"</a></feed>"], "no entry"),
    "a tag of XML": ([ATOM, b"<", *[MEBIBYTE] * 16], "a tag of XML has more than 1,048,576 bytes"),
    "an attribute of XML": ([ATOM, b'<a b="', *[MEBIBYTE] * 16], "a tag of XML has more than"),
    "entries of XML": ([ATOM, *[b"<entry/>" * 10_000] * 100, b"</feed>"], "no entry"),
    "meters of XML": (
        [
            ATOM,
            *(
                b'<entry><link rel="self" href="MeterReading/%d"/>'
                b"<content><MeterReading/></content></entry>" % n
                for n in range(20_000)
            ),
        ],
        "more than 10,000 meters",
    ),
    "readings of XML": ([ATOM, *[ENTRY % (READING * 1_000)] * 200, b"</feed>"], "no entry"),
    "fields of a reading": (
        [ATOM, *[ENTRY % b"<IntervalReading>%s</IntervalReading>" % b"".join(
            b"<a%d>1</a%d>" % (n, n) for n in range(100_000)
        )], b"</feed>"],
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("parts", "end"), BOMBS.values(), ids=BOMBS.keys())
def test_file_takes_little_memory_whatever_it_unpacks_to(tmp_path, parts, end):
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
        target.open("bomb", "w", force_zip64=True) as file,
    ):
        for part in parts:
            file.write(part)

    # In a process of its own: the peak is that of a whole process.
    reader = subprocess.run(
        [sys.executable, "-c", READ, path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    growth_mib, _, ended = reader.stdout.partition(" ")

    assert end in ended
    assert int(growth_mib) < MAX_GROWTH_MIB


def test_zip_that_says_to_expand_without_bound_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ingestion.files.opening.FREE_EXPANSION_BYTES", 1024)
    path = zipped(tmp_path / "a.zip", a=b"\0" * 10_000_000)

    with pytest.raises(
        Unreadable, match="the zip expands to 10,000,000 bytes, more than 500 times"
    ):
        read(Source(path))


def test_empty_map_is_no_map():
    assert read_map(None, {}) == Map()
