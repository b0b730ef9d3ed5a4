"""Read a file of any format, block by block: in the API's own format, or as a map says.

What a file is follows from its name, its first bytes and its header; a map or an option wins.
"""

import csv
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, cast

import msgspec

from ingestion.files import reading
from ingestion.files.formats import ID_FIELDS, Unreadable, format_of
from ingestion.files.green_button import green_button_lines, is_xml
from ingestion.files.lines import Devices, Line
from ingestion.files.mapping import Format, Map, require_applicable
from ingestion.files.nem12 import is_nem12, nem12_lines
from ingestion.files.opening import Member, members
from ingestion.files.products import evcc, home_assistant, recognized, teslamate
from ingestion.files.reading import Block, NotThatFormat
from ingestion.files.table import Choose, Columns, Converter, mapped, table_lines
from ingestion.readings import DeviceKind

# Of a file whose content tells its format.
_OTHER_ENDINGS: Final = (".xml", ".xml.gz", ".zip", ".tsv", ".tsv.gz")
_PRODUCTS: Final[dict[Format, Choose]] = {
    "csv": mapped,
    "evcc": evcc,
    "teslamate": teslamate,
    "home-assistant": home_assistant,
}


@dataclass
class Source:
    """A file and the map to read it by; `registers` fills with what devices' values turn out to be.

    Raises `Unreadable` at once, if its name says nothing and nobody said what it is.
    """

    path: Path
    mapping: Map = field(default_factory=Map)

    def __post_init__(self) -> None:
        self._devices = Devices(self.mapping)
        self._format = "csv"
        if self.mapping == Map() and not self.path.name.lower().endswith(_OTHER_ENDINGS):
            try:
                self._format = format_of(self.path.name)
            except Unreadable as error:
                others = ", ".join(_OTHER_ENDINGS)
                raise Unreadable(f"{error}, {others}; for any other, say --format") from None

    @property
    def registers(self) -> dict[tuple[DeviceKind, str], str]:
        """What the values of each device are, where the file or the map says so."""
        return self._devices.registers

    def remarks(self) -> list[str]:
        """Return what the person should know of the names in the file, once it has been read."""
        return self._devices.remarks()

    def blocks(self, after_line: int = 0) -> Iterator[Block]:
        """Yield the lines after `after_line`, in order and in constant memory.

        Errors: `Unreadable`, also in the middle; the blocks yielded before are valid.
        """
        if self._is_as_in_the_api():
            yield from reading.blocks(self.path, after_line)
            return
        with _named(self.path), self.path.open("rb") as file:
            raw = cast("IO[bytes]", file)
            offset = 0
            found = members(self.path, raw)
            for member in found:
                name = member.name if len(found) > 1 else ""
                batches = _Batches(raw, after_line, offset, name)
                with _named_member(name):
                    yield from batches.of(self._lines(member))
                offset = batches.last_line

    # --- What it is -----------------------------------------------------------------------------

    def _is_as_in_the_api(self) -> bool:
        if self._format != "csv":
            return True
        if self.mapping != Map() or self.path.name.lower().endswith(_OTHER_ENDINGS):
            _require_csv_ending(self.path)
            return False
        with _named(self.path), self.path.open("rb") as raw:
            # Nothing but commas and the API's names, or nothing that anyone knows.
            member = members(self.path, cast("IO[bytes]", raw))[0]
            sample = member.sample()
            return not is_xml(sample) and _is_known_only_here(sample)

    def _lines(self, member: Member) -> Iterator[Line]:
        told = self.mapping.format
        if told == "green-button" or (told is None and is_xml(member.sample())):
            require_applicable(self.mapping, "green-button")
            return green_button_lines(member, self.mapping, self._devices)
        if told == "nem12" or (told is None and is_nem12(_first_line(member, self.mapping))):
            require_applicable(self.mapping, "nem12")
            return nem12_lines(member, self.mapping, self._devices)
        return table_lines(member, self.mapping, self._devices, self._choose)

    @staticmethod
    def _choose(columns: Columns, mapping: Map, devices: Devices) -> Converter:
        said = mapping.format
        if said is None and not mapping.columns and mapping.layout == "long":
            said = recognized(columns.names)
        require_applicable(mapping, said or "csv")
        return _PRODUCTS[said or "csv"](columns, mapping, devices)


def _require_csv_ending(path: Path) -> None:
    if path.name.lower().endswith((".parquet", ".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz")):
        raise Unreadable(
            f"{path}: a map and its options are for CSV, NEM12 and XML; the fields of NDJSON and "
            "Parquet are named as in the API"
        )


def _is_known_only_here(sample: bytes) -> bool:
    """Return whether a CSV that begins so is for the reader of the API's own format."""
    first = sample.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode("utf-8", "replace")
    names = [name.strip() for name in next(csv.reader([first], skipinitialspace=True), [])]
    if "timestamp" in names and set(names) & set(ID_FIELDS):
        return True
    return not (sample.strip() and (is_nem12(first) or _says_more(sample)))


def _says_more(sample: bytes) -> bool:
    """Return whether it has a header at all, so that an error can name its columns."""
    return b"\n" in sample or b"\r" in sample


def _first_line(member: Member, mapping: Map) -> str:
    with member.text(mapping.encoding) as text:
        lines = iter(reading.CsvLines(text))
        # Some meter data agents begin with an empty line.
        return next((line.strip() for line in lines if line.strip()), "")


# --- Blocks -------------------------------------------------------------------------------------


class _Batches:
    """Collects lines into blocks; what was stored by an earlier run is left out."""

    def __init__(self, raw: IO[bytes], after_line: int, offset: int, member: str) -> None:
        self._raw = raw
        self._after_line = after_line
        self._offset = offset
        self._member = member
        self.last_line = offset
        self._block = self._empty()

    def _empty(self) -> Block:
        return Block([], [], self.last_line, 0, member=self._member, lines_before=self._offset)

    def of(self, lines: Iterator[Line]) -> Iterator[Block]:
        """Yield blocks of the lines."""
        encode = msgspec.json.encode
        for line in lines:
            number = self._offset + line.number
            if number <= self._after_line:
                self.last_line = number
                continue
            # A day that waited for its records 400 comes after their lines' numbers.
            if number > self.last_line and len(self._block.lines) >= reading.BLOCK_LINES:
                yield self._finished()
            block = self._block
            self.last_line = max(self.last_line, number)
            block.objects += map(encode, line.readings)
            block.lines += [number] * len(line.readings)
            for error in line.errors:
                error.index += self._offset
            block.errors += line.errors
            block.notes += line.notes
            if len(block.errors) >= reading.BLOCK_LINES:
                yield self._finished()
        yield self._finished()

    def _finished(self) -> Block:
        block = self._block
        block.last_line = self.last_line
        block.position_bytes = self._raw.tell()
        self._block = self._empty()
        return block


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn errors of reading `path` into `Unreadable`, with the file's name."""
    try:
        yield
    except zipfile.BadZipFile:
        raise Unreadable(f"{path}: not a zip, or a damaged one") from None
    except Unreadable as error:
        raise Unreadable(f"{path}: {error}") from None
    except (EOFError, zlib.error, csv.Error, NotThatFormat, NotImplementedError) as error:
        raise Unreadable(f"{path}: {error}") from None
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror or error}") from None


@contextmanager
def _named_member(name: str) -> Iterator[None]:
    """Add the name of a zip's member to errors."""
    try:
        yield
    except NotThatFormat as error:
        raise NotThatFormat(f"{name[:200]}: {error}" if name else str(error)) from None
