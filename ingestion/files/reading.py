"""Read files of readings, CSV, NDJSON and Parquet, block by block.

In every format, a line becomes a JSON object with the API's field names, and `ingestion.readings`
decides whether it is a reading: only that module describes what a field may be.
"""

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from io import TextIOWrapper
from itertools import compress, islice
from operator import ne
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
from django.conf import settings

from fleet.http.wire import FieldError
from ingestion.decoding import decode_lines
from ingestion.files import parquet
from ingestion.files.formats import ID_FIELDS, KNOWN_FIELDS, TEXT_FIELDS, Unreadable, format_of
from ingestion.readings import MAX_LINE_BYTES, Decoded, DeviceKind, ItemError

# The best size for one statement of the writer; a few blocks are in memory at a time.
BLOCK_LINES: Final = 10_000
# However few lines that is; checked after each of these portions, of `ROOM` at most.
MAX_BLOCK_BYTES: Final = 4 * 1024 * 1024
_LINES_AT_ONCE: Final = 32
ROOM: Final = _LINES_AT_ONCE * MAX_LINE_BYTES
_LENGTH_OF_EMPTY_LINE: Final = len("\r\n")

_UNTIMED: Final = (
    "timestamp",
    "missing",
    "timestamp is required in a file; without it, a second import would count the reading twice",
)
_json_numbers = re.compile(r"(?:(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)?\n)*", re.ASCII)
_needs_escape = re.compile(r'["\\\x00-\x09\x0b-\x1f]')


@dataclass
class Block:
    """Some lines of a file: the JSON `objects[i]` is from `lines[i]`; `last_line` was read last.

    `errors` has the lines that are not an object at all. `position_bytes` is roughly how much of
    the file has been read. `notes` counts what is no reading and no error, such as a state
    `unavailable`. In a zip, line n of `member` is line `lines_before` + n.
    """

    objects: list[bytes]
    lines: list[int]
    last_line: int
    position_bytes: int
    errors: list[ItemError] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    member: str = ""
    lines_before: int = 0


def blocks(path: Path, after_line: int = 0) -> Iterator[Block]:
    """Yield the lines of a file after `after_line`, in order and in constant memory.

    Errors: `Unreadable`, also in the middle; the blocks yielded before are valid.
    """
    read = {"csv": _csv_blocks, "ndjson": _ndjson_blocks, "parquet": _parquet_blocks}
    with _named(path), path.open("rb") as raw:
        yield from read[format_of(path.name)](cast("IO[bytes]", raw), after_line)


def decode_block(block: Block, received_at: datetime) -> Decoded:
    """Decode `block`; an index is the number of a line.

    Shape: the readings of one device are in the order of their lines. Takes one pass in C per kind,
    and goes object by object only if a block has something unusual.
    """
    result, lines = Decoded([], [], list(block.errors), is_array=True), []
    drops_optional = settings.INGEST_BAD_OPTIONAL == "drop"
    for kind, is_of_kind in _by_kind(block.objects).items():
        places = list(compress(block.lines, is_of_kind))
        text = b"\n".join(compress(block.objects, is_of_kind))
        decoded = decode_lines(text, kind, received_at, drops_optional)
        result.readings += decoded.readings
        lines += [places[index] for index in decoded.indexes]
        for error in decoded.errors + decoded.dropped:
            error.index = places[error.index]
        result.errors += decoded.errors
        result.dropped += decoded.dropped
        result.strangers += decoded.strangers
    result.indexes = lines
    _reject_untimed(result, received_at)
    result.errors.sort(key=lambda error: error.index)
    return result


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn errors of reading `path` into `Unreadable`, with the file's name."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error, NotThatFormat) as error:
        raise Unreadable(f"{path}: {error}") from None
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from None


class NotThatFormat(Exception):
    """The file does not have the format that its name says."""


def _unzipped(raw: IO[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(raw)) if raw.name.lower().endswith(".gz") else raw


def _ndjson_blocks(raw: IO[bytes], after_line: int) -> Iterator[Block]:
    with _unzipped(raw) as file:
        # One byte more than the longest line allowed.
        lines = iter(partial(file.readline, MAX_LINE_BYTES + 1), b"")
        number = sum(1 for _ in islice(lines, after_line))
        while some := _some_lines(lines, number):
            if number == 0:
                some[0] = some[0].removeprefix(b"\xef\xbb\xbf")
            kept = [(n, text) for n, line in enumerate(some, number + 1) if (text := line.strip())]
            number += len(some)
            yield Block([text for _, text in kept], [n for n, _ in kept], number, raw.tell())


def _some_lines(lines: Iterator[bytes], number: int) -> list[bytes]:
    """Return the lines of a block, after line `number`. Errors: `NotThatFormat`."""
    some: list[bytes] = []
    size_bytes = 0
    while size_bytes < MAX_BLOCK_BYTES and len(some) < BLOCK_LINES:
        more = list(islice(lines, min(_LINES_AT_ONCE, BLOCK_LINES - len(some))))
        if not more:
            break
        if max(map(len, more)) > MAX_LINE_BYTES:
            for place, line in enumerate(more, number + len(some) + 1):
                _require_an_end(line.endswith(b"\n"), len(line), place)
        some += more
        size_bytes += sum(map(len, more))
    return some


def _require_an_end(ends: bool, length: int, line: int) -> None:
    """Errors: `NotThatFormat`, if `length` exceeds the limit and the line has not ended."""
    if length > MAX_LINE_BYTES and not ends:
        raise NotThatFormat(f"line {line:,} has more than {MAX_LINE_BYTES:,} bytes")


class CsvLines:
    """The lines of a CSV, none longer than allowed; `room` is how much may still be read."""

    def __init__(self, text: TextIOWrapper) -> None:
        self._text = text
        self.number = 0
        self.room = ROOM

    def __iter__(self) -> Iterator[str]:
        for line in iter(partial(self._text.readline, MAX_LINE_BYTES + 1), ""):
            self.number += 1
            length = len(line)
            if length > MAX_LINE_BYTES:
                _require_an_end(line.endswith(("\n", "\r")), length, self.number)
            # Empty lines belong to no row, and there may be any number of them.
            self.room -= length if length > _LENGTH_OF_EMPTY_LINE else 0
            if self.room < 0:
                raise NotThatFormat(
                    f"a row has more than {MAX_LINE_BYTES:,} bytes: "
                    f"it does not end by line {self.number:,}"
                )
            yield line


def _csv_blocks(raw: IO[bytes], after_line: int) -> Iterator[Block]:
    # A byte that is not UTF-8 makes its cell invalid, not the file.
    with TextIOWrapper(_unzipped(raw), "utf-8-sig", errors="replace", newline="") as text:
        source = CsvLines(text)
        reader = csv.reader(source, skipinitialspace=True)
        columns = _Columns(next(reader, []))
        filled = filter(None, reader)
        while reader.line_num < after_line and next(filled, None) is not None:
            source.room = ROOM
        while rows := _some_rows(filled, reader, source):
            errors = [columns.wrong_length(n, row) for n, row in rows if len(row) != columns.count]
            if errors:
                rows = [(n, row) for n, row in rows if len(row) == columns.count]
            lines, cells = zip(*rows, strict=True) if rows else ((), ())
            objects = columns.objects(cells)
            yield Block(objects, list(lines), reader.line_num, raw.tell(), errors)


def _some_rows(
    filled: Iterator[list[str]], reader: Any, source: CsvLines
) -> list[tuple[int, list[str]]]:
    """Return the rows of a block, each with the number of its last line."""
    rows: list[tuple[int, list[str]]] = []
    size = 0
    while size < MAX_BLOCK_BYTES and len(rows) < BLOCK_LINES:
        source.room = ROOM
        at_once = min(_LINES_AT_ONCE, BLOCK_LINES - len(rows))
        more = [(reader.line_num, row) for row in islice(filled, at_once)]
        if not more:
            break
        rows += more
        size += ROOM - source.room
    return rows


def _parquet_blocks(raw: IO[bytes], after_line: int) -> Iterator[Block]:
    # Imported only where it is needed: it takes as much memory as everything else.
    import pyarrow

    size_bytes, number = Path(raw.name).stat().st_size, 0
    try:
        file = parquet.open_file(raw, KNOWN_FIELDS)
        columns = _Columns(file.schema_arrow.names)
        for batch in file.iter_batches(BLOCK_LINES, columns=columns.names):
            first, number = number + 1, number + batch.num_rows
            if number <= after_line:
                continue
            rows = list(zip(*map(parquet.texts, batch.columns), strict=True))
            objects = _Columns(batch.schema.names).objects(rows)
            position = size_bytes * number // file.metadata.num_rows
            yield Block(objects, list(range(first, number + 1)), number, position)
    except pyarrow.ArrowException as error:
        raise NotThatFormat(f"not a Parquet file of readings: {error}") from None
    except parquet.UnfitParquet as error:
        raise NotThatFormat(str(error)) from None


class _Columns:
    """The columns of a table, and its rows as JSON objects; empty cells are absent fields."""

    def __init__(self, header: Sequence[str]) -> None:
        self.count = len(header)
        self._places = {name: place for place, name in enumerate(header) if name in KNOWN_FIELDS}
        self.names = list(self._places)
        if len(self.names) < sum(name in KNOWN_FIELDS for name in header):
            raise NotThatFormat("a column appears twice in the header")
        if not self._places.keys() & set(ID_FIELDS) or "timestamp" not in self._places:
            raise NotThatFormat(
                "columns must be named as in the API: timestamp, meterId or vehicleId, …"
            )

    def objects(self, rows: Sequence[Sequence[str]]) -> list[bytes]:
        columns = list(zip(*rows, strict=True))
        if not columns:
            return []
        members = [_members(name, columns[place]) for name, place in self._places.items()]
        return [
            ("{" + ",".join(filter(None, row)) + "}").encode() for row in zip(*members, strict=True)
        ]

    def wrong_length(self, line: int, row: Sequence[str]) -> ItemError:
        message = f"the line has {len(row)} cells, the header {self.count}"
        return ItemError(line, None, "malformed_csv", message)


def _members(name: str, cells: Sequence[str]) -> list[str]:
    """Return `"name":value` for each cell, an empty text for an empty one.

    Checks the whole column at once. An invalid number stays a string, which the API's rules reject.
    """
    joined = "\n".join([*cells, ""])
    if name in TEXT_FIELDS:
        if _needs_escape.search(joined) is None and joined.count("\n") == len(cells):
            return [f'"{name}":"{cell}"' if cell else "" for cell in cells]
        return [f'"{name}":{_quoted(cell)}' if cell else "" for cell in cells]
    if joined.count("\n") == len(cells) and _json_numbers.fullmatch(joined):
        return [f'"{name}":{cell}' if cell else "" for cell in cells]
    return [f'"{name}":{_number(cell)}' if cell else "" for cell in cells]


def _number(cell: str) -> str:
    is_number = "\n" not in cell and _json_numbers.fullmatch(cell + "\n")
    return cell if is_number else _quoted(cell)


def _quoted(cell: str) -> str:
    return msgspec.json.encode(cell).decode()


def _by_kind(objects: list[bytes]) -> dict[DeviceKind | None, list[bool]]:
    """Return which objects are of each kind; all under None if one needs a closer look.

    Decided by their bytes, in half a microsecond each: in a block without escapes, every object has
    just one of the ids, and no other type.
    """
    is_meter = [b'"meterId"' in text for text in objects]
    is_vehicle = [b'"vehicleId"' in text for text in objects]
    told_by_id = all(map(ne, is_meter, is_vehicle)) and not any(b"\\" in text for text in objects)
    if told_by_id and all(map(_says_no_other_type, objects, is_meter)):
        both = {DeviceKind.METER: is_meter, DeviceKind.VEHICLE: is_vehicle}
        return {kind: is_of_kind for kind, is_of_kind in both.items() if any(is_of_kind)}
    return {None: [True] * len(objects)}


def _says_no_other_type(text: bytes, is_meter: bool) -> bool:
    if b'"type"' not in text:
        return True
    own = b'"type":"meter"' if is_meter else b'"type":"vehicle"'
    return text.count(own) == text.count(b'"type"')


def _reject_untimed(decoded: Decoded, received_at: datetime) -> None:
    """Move the readings without a timestamp, which were stamped `received_at`, to the errors."""
    field, code, message = _UNTIMED
    for stranger in decoded.strangers:
        if stranger.reading.measured_at is received_at:
            stranger.problem = FieldError(field, code, message)
    if all(reading.measured_at is not received_at for reading in decoded.readings):
        return
    pairs = list(zip(decoded.indexes, decoded.readings, strict=True))
    timed = [(line, reading) for line, reading in pairs if reading.measured_at is not received_at]
    decoded.errors += [
        ItemError(line, *_UNTIMED) for line, reading in pairs if reading.measured_at is received_at
    ]
    decoded.indexes = [line for line, _ in timed]
    decoded.readings = [reading for _, reading in timed]
