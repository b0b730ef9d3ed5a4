"""Read CSV of any kind: its separator, its columns, and its lines as a map says."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import Final, Protocol

from ingestion.files.formats import ID_FIELDS, KNOWN_FIELDS
from ingestion.files.lines import NOT_LISTED, Devices, Line, NotANumber, Numbers, noted, refused
from ingestion.files.mapping import ENERGY_FIELDS, Map
from ingestion.files.opening import Member
from ingestion.files.reading import CsvLines, NotThatFormat
from ingestion.files.times import NotATime
from ingestion.readings import MAX_LINE_BYTES, DeviceKind, ItemError

_separator_line = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
SEPARATORS: Final = ",;\t|"
_CALLED: Final = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a |"}
_MOST_SHOWN: Final = 30
_NUMBERS: Final = ("voltage", "soc", "batteryTemp")


class Columns:
    """The columns of a table by name. Errors name the columns that there are."""

    def __init__(self, names: Sequence[str], separator: str) -> None:
        self.names = [name.strip() for name in names]
        self.separator = separator

    def place(self, name: str, key: str) -> int:
        """Return where the column is. Errors: `NotThatFormat`, which also names `key`."""
        found = [place for place, own in enumerate(self.names) if own == name]
        if len(found) == 1:
            return found[0]
        what = "is twice in the header" if found else "is not in the header"
        raise NotThatFormat(f'{key}: the column "{name[:40]}" {what}; {self.there_are()}')

    def there_are(self) -> str:
        """Return a sentence that names the columns, and the separator if that is what is wrong."""
        if len(self.names) == 1:
            other = next((one for one in SEPARATORS if one in self.names[0]), None)
            called = _CALLED.get(self.separator, f'"{self.separator}"')
            if other and other != self.separator:
                return (
                    f"the whole line is one column, since the separator was said to be {called}, "
                    f"and the line has {_CALLED[other]}: say --separator "
                    f"'{'tab' if other == chr(9) else other}'"
                )
        shown = ", ".join(f'"{name[:40]}"' for name in self.names[:_MOST_SHOWN])
        more = len(self.names) - _MOST_SHOWN
        return f"its columns are {shown}" + (f" and {more} more" if more > 0 else "")


class Converter(Protocol):
    """Makes readings of the lines of a table."""

    def line(self, number: int, row: list[str]) -> Line: ...


Choose = Callable[[Columns, Map, Devices], Converter]


def table_lines(member: Member, mapping: Map, devices: Devices, choose: Choose) -> Iterator[Line]:
    """Yield the lines of a table after its header, with the converter that `choose` returns.

    Errors: `NotThatFormat`.
    """
    with member.text(mapping.encoding) as text:
        source = CsvLines(text)
        raw = iter(source)
        for _ in range(mapping.skip_lines):
            next(raw, None)
        header = next((line for line in raw if line.strip()), "")
        separator = mapping.separator
        # Excel's own line before the header.
        if match := _separator_line.fullmatch(header.strip("\r\n")):
            separator = separator or match[1]
            header = next(raw, "")
        separator = separator or sniffed(header, _wanted(mapping))
        rows = csv.reader(chain([header], raw), delimiter=separator, skipinitialspace=True)
        columns = Columns(next(rows, []), separator)
        source.room = MAX_LINE_BYTES + 1
        converter = choose(columns, mapping, devices)
        count = len(columns.names)
        for row in filter(None, rows):
            source.room = MAX_LINE_BYTES + 1
            if len(row) == count or _has_only_empty_ends(row, count):
                yield converter.line(source.number, row[:count])
            else:
                message = f"the line has {len(row)} cells, the header {count}"
                yield refused(source.number, None, "malformed_csv", message)


def _has_only_empty_ends(row: list[str], count: int) -> bool:
    """Return whether the row is longer than the header by empty cells, as some programs write."""
    return len(row) > count and not any(row[count:])


def _wanted(mapping: Map) -> list[str]:
    told = [name for names in mapping.columns.values() for name in _as_list(names)]
    return [*told, *mapping.meters, *mapping.vehicles] if mapping.layout == "wide" else told


def _as_list(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


def sniffed(header: str, wanted: Sequence[str]) -> str:
    """Return the separator under which the header has the columns wanted, or else the most."""

    def fits(separator: str) -> tuple[int, int]:
        names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
        return sum(name in names for name in (*wanted, *KNOWN_FIELDS)), len(names)

    return max(SEPARATORS, key=fits)


# --- A table as a map says ----------------------------------------------------------------------


def mapped(columns: Columns, mapping: Map, devices: Devices) -> Converter:
    """Return the converter for the layout of `mapping`. Errors: `NotThatFormat`."""
    return (Wide if mapping.layout == "wide" else Long)(columns, mapping, devices)


class _Clock:
    """The column, or columns, with the time of a line."""

    def __init__(self, columns: Columns, mapping: Map) -> None:
        names = _as_list(mapping.columns.get("timestamp", "timestamp"))
        if names == ["timestamp"] and "timestamp" not in columns.names:
            raise NotThatFormat(
                "no column is named timestamp: say which one is, with --column timestamp=NAME; "
                f"{columns.there_are()}"
            )
        self.places = [columns.place(name, "columns.timestamp") for name in names]
        self._times = mapping.times()

    def read(self, number: int, row: list[str]) -> datetime | Line:
        text = " ".join(row[place].strip() for place in self.places).strip()
        if not text:
            return refused(number, "timestamp", "missing", "timestamp is required in a file")
        try:
            return self._times.instant(text)
        except NotATime as error:
            return refused(number, "timestamp", "invalid_format", f"timestamp: {error}")


class Long:
    """A line is one reading of one device, whose id is in a column or was said."""

    def __init__(self, columns: Columns, mapping: Map, devices: Devices) -> None:
        self._clock = _Clock(columns, mapping)
        self._devices = devices
        self._register = mapping.register
        self._exponent = mapping.exponent
        self._numbers = Numbers(mapping.decimal or ".", mapping.thousands)
        self._is_one_device = mapping.only is not None
        self._ids = self._id_places(columns, mapping)
        self._energy = {
            kind: self._energy_place(columns, mapping, kind)
            for kind in ([mapping.only[0]] if mapping.only else self._kinds(mapping))
        }
        self._others = {
            name: columns.place(_one(mapping, name), f"columns.{name}")
            for name in _NUMBERS
            if name in mapping.columns or name in columns.names
        }

    def _kinds(self, mapping: Map) -> list[DeviceKind]:
        listed = {kind for kind, _ in mapping.names.values()}
        return sorted(listed or {kind for kind, _ in self._ids})

    @staticmethod
    def _id_places(columns: Columns, mapping: Map) -> list[tuple[DeviceKind, int]]:
        places = [
            (DeviceKind(field.removesuffix("Id")), columns.place(_one(mapping, field), field))
            for field in ID_FIELDS
            if field in mapping.columns or field in columns.names
        ]
        if not places and mapping.only is None:
            raise NotThatFormat(
                "no column is named meterId or vehicleId: say which one is, with --column "
                "meterId=NAME, or whose readings they are, with --meter ID or --vehicle ID; "
                f"{columns.there_are()}"
            )
        return places

    @staticmethod
    def _energy_place(columns: Columns, mapping: Map, kind: DeviceKind) -> int:
        field = ENERGY_FIELDS[kind]
        if field not in mapping.columns and field not in columns.names:
            raise NotThatFormat(
                f"no column is named {field}: say which one is, with --column {field}=NAME; "
                f"{columns.there_are()}"
            )
        return columns.place(_one(mapping, field), f"columns.{field}")

    def line(self, number: int, row: list[str]) -> Line:
        """Return the reading of a line."""
        named = next(((kind, row[place].strip()) for kind, place in self._ids if row[place]), None)
        if named is None and self._ids and not self._is_one_device:
            field = f"{self._ids[0][0]}Id"
            return refused(number, field, "missing", f"{field} is required")
        kind, name = named or (None, "")
        device = self._devices.of(name, kind)
        if device is None:
            return noted(number, NOT_LISTED)
        at = self._clock.read(number, row)
        if isinstance(at, Line):
            return at
        field = ENERGY_FIELDS[device[0]]
        text = row[self._energy[device[0]]]
        if not text.strip():
            return refused(number, field, "missing", f"{field} is required")
        try:
            energy = self._numbers.energy_kwh(text, self._exponent)
        except NotANumber as error:
            return refused(number, field, "wrong_type", f"{field} {error}")
        others = {
            name: self._numbers.plain(row[place])
            for name, place in self._others.items()
            if row[place].strip()
        }
        reading = self._devices.reading(device, energy, at, self._register, **others)
        return Line(number, [reading])


def _one(mapping: Map, field: str) -> str:
    """Return the one column of a field. Errors: `NotThatFormat`."""
    name = mapping.columns.get(field, field)
    if isinstance(name, str):
        return name
    raise NotThatFormat(f"columns.{field} must be one column; only timestamp may have several")


class Wide:
    """A line is a time, and has a column for each device; an empty cell is no reading."""

    def __init__(self, columns: Columns, mapping: Map, devices: Devices) -> None:
        if mapping.only is not None:
            raise NotThatFormat("in the wide layout, columns say whose readings they are")
        self._clock = _Clock(columns, mapping)
        self._devices = devices
        self._register = mapping.register
        self._exponent = mapping.exponent
        self._numbers = Numbers(mapping.decimal or ".", mapping.thousands)
        for name in mapping.names:
            columns.place(name, f"{'meters' if name in mapping.meters else 'vehicles'}")
        self._columns = [
            (place, name, device)
            for place, name in enumerate(columns.names)
            if place not in self._clock.places and name and (device := devices.of(name))
        ]

    def line(self, number: int, row: list[str]) -> Line:
        """Return the readings of a line, one for each cell that is filled."""
        at = self._clock.read(number, row)
        if isinstance(at, Line):
            return at
        readings, errors, notes = [], [], Counter[str]()
        for place, name, device in self._columns:
            text = row[place].strip()
            if not text:
                notes["skipped: empty cells"] += 1
                continue
            try:
                energy = self._numbers.energy_kwh(text, self._exponent)
            except NotANumber as error:
                field = ENERGY_FIELDS[device[0]]
                message = f'{field} in column "{name[:40]}" {error}'
                errors.append(ItemError(number, field, "wrong_type", message))
            else:
                readings.append(self._devices.reading(device, energy, at, self._register))
        return Line(number, readings, errors, notes)
