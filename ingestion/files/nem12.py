"""NEM12, the interval data of Australian meters.

Source: AEMO, Meter Data File Format Specification NEM12 and NEM13, version 2.4, on its records,
quality flags and units; AEMO, MSATS National Metering Identifier Procedure, on NMI suffixes: E is
energy from the market, consumed, and B energy into it, generated.

| record | content |
|---|---|
| 200 | NMI, configuration, register, suffix, data stream, serial number, unit, interval length |
| 300 | date, the day's values, quality and method, reason, description, updated, loaded |
| 400 | first and last interval, quality and method, for a record 300 whose quality is V |

Times are Eastern Standard Time (UTC+10) all year and everywhere in the market; the first interval
of a day ends one interval length after midnight.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from ingestion.files.lines import Devices, Line, NotANumber, Numbers, noted, refused
from ingestion.files.mapping import ENERGY_FIELDS, UNITS, Map
from ingestion.files.opening import Member
from ingestion.files.reading import CsvLines, NotThatFormat
from ingestion.files.times import zone
from ingestion.readings import MAX_LINE_BYTES, DeviceKind, ItemError

_MARKET_TIME: Final = timezone(timedelta(hours=10))
_INTERVAL_MINUTES: Final = (5, 15, 30)
_MINUTES_A_DAY: Final = 24 * 60
# Quality flag, then the method by which a value that is not actual was found. The standard demands
# it; some retailers leave it out.
_quality = re.compile(r"[AEFNSV](?:\d\d)?|", re.ASCII)
_date = re.compile(r"\d{8}", re.ASCII)
_QUALITIES: Final = {"E": "estimated", "F": "substituted", "S": "substituted"}
NULL: Final = "skipped: intervals without data (quality N)"
NOT_LISTED: Final = "skipped: days of registers that the map does not list"
NOT_CONSUMED: Final = "skipped: days of registers other than of consumption (suffix E)"
NOT_ENERGY: Final = "skipped: days of registers whose unit is not one of energy"


def is_nem12(first_line: str) -> bool:
    """Return whether a file with this first line is NEM12. Errors: `NotThatFormat` for NEM13."""
    cells = [cell.strip().strip('"') for cell in first_line.split(",")]
    if cells[:2] == ["100", "NEM13"]:
        raise NotThatFormat("NEM13 has readings of months, not intervals; ask for NEM12 data")
    return cells[:2] == ["100", "NEM12"] or (cells[0] == "200" and len(cells) >= 9)


@dataclass
class _Stream:
    """What a record 200 says of the records 300 that follow it; `device` None: not taken."""

    minutes: int
    exponent: int
    device: tuple[DeviceKind, str] | None
    note: str = ""


@dataclass
class _Day:
    """A record 300, until it is known which records 400 follow it."""

    line: int
    start: datetime
    values: list[str]
    qualities: list[str] = field(default_factory=list)
    errors: list[ItemError] = field(default_factory=list)


def nem12_lines(member: Member, mapping: Map, devices: Devices) -> Iterator[Line]:
    """Yield a line for each day of each register. Errors: `NotThatFormat`."""
    with member.text(mapping.encoding) as text:
        source = CsvLines(text)
        reader = _Reader(mapping, devices)
        for row in filter(None, csv.reader(source)):
            source.room = MAX_LINE_BYTES + 1
            yield from reader.lines(source.number, [cell.strip() for cell in row])
        yield from reader.rest()


class _Reader:
    """Reads record after record."""

    def __init__(self, mapping: Map, devices: Devices) -> None:
        self._devices = devices
        self._zone = zone(mapping.tz) if mapping.tz else _MARKET_TIME
        self._numbers = Numbers(".")
        self._stream: _Stream | None = None
        self._stream_error = "it comes before any record 200"
        self._day: _Day | None = None

    def lines(self, number: int, row: list[str]) -> Iterator[Line]:
        """Yield what is complete when record `row` has come."""
        if row[0] == "400":
            yield from self._qualify(number, row)
            return
        yield from self.rest()
        if row[0] == "200":
            try:
                self._stream = self._stream_of(row)
            except ValueError as error:
                self._stream, self._stream_error = None, f"record 200: {error}"
                yield refused(number, None, "invalid_format", self._stream_error)
        elif row[0] == "300":
            yield from self._take(number, row)
        elif row[0] not in ("100", "500", "900"):
            message = "a line must begin with 100, 200, 300, 400, 500 or 900"
            yield refused(number, None, "invalid_format", message)

    def rest(self) -> Iterator[Line]:
        """Yield the day that was waiting for its records 400."""
        day, self._day = self._day, None
        if day is not None and self._stream is not None:
            yield self._line(day, self._stream)

    # --- Records --------------------------------------------------------------------------------

    def _stream_of(self, row: list[str]) -> _Stream:
        """Errors: `ValueError`."""
        if len(row) < 9:
            raise ValueError(f"it has {len(row)} cells; the interval length is the 9th")
        nmi, suffix, unit, length = row[1], row[4].upper(), row[7].lower(), row[8]
        # Of any length: volts, for example, come each ten minutes.
        if unit not in UNITS:
            return _Stream(0, 0, None, NOT_ENERGY)
        if not length.isdecimal() or int(length) not in _INTERVAL_MINUTES:
            raise ValueError("the interval length must be 5, 15 or 30 minutes")
        name = f"{nmi}-{suffix}"
        minutes = int(length)
        if not suffix.startswith("E") and not self._devices.is_listed(name):
            return _Stream(minutes, 0, None, NOT_CONSUMED)
        device = self._devices.of(name, DeviceKind.METER)
        return _Stream(minutes, UNITS[unit], device, NOT_LISTED)

    def _take(self, number: int, row: list[str]) -> Iterator[Line]:
        stream = self._stream
        if stream is None:
            yield refused(number, None, "invalid_format", f"record 300: {self._stream_error}")
            return
        if stream.device is None:
            yield noted(number, stream.note)
            return
        count = _MINUTES_A_DAY // stream.minutes
        try:
            self._day = _Day(number, *_day_of(row, count, self._zone))
        except ValueError as error:
            yield refused(number, None, "invalid_format", f"record 300: {error}")
            return
        quality = row[count + 2][:1] if len(row) > count + 2 else ""
        self._day.qualities = [quality] * count

    def _qualify(self, number: int, row: list[str]) -> Iterator[Line]:
        """Set the quality of some intervals of the day before, as a record 400 says."""
        day = self._day
        if day is None:
            if self._stream is None or self._stream.device is not None:
                message = "record 400: it must follow a valid record 300"
                yield refused(number, None, "invalid_format", message)
            return
        numbers = [int(cell) if cell.isdecimal() else 0 for cell in row[1:3]]
        if len(row) < 4 or not _quality.fullmatch(row[3]) or len(numbers) < 2:
            day.errors.append(_wrong(number, "record 400: it must have a quality flag"))
            return
        first, last = numbers
        if not 1 <= first <= last <= len(day.values):
            message = f"record 400: intervals must be from 1 to {len(day.values)}"
            day.errors.append(_wrong(number, message))
            return
        day.qualities[first - 1 : last] = [row[3][0]] * (last - first + 1)

    def _line(self, day: _Day, stream: _Stream) -> Line:
        assert stream.device is not None  # noqa: S101 # only such days are kept
        energy = ENERGY_FIELDS[stream.device[0]]
        length = timedelta(minutes=stream.minutes)
        line = Line(day.line, [], day.errors, Counter())
        for place, (text, quality) in enumerate(zip(day.values, day.qualities, strict=True), 1):
            if quality == "N" or not text:
                line.notes[NULL] += 1
                continue
            try:
                kwh = self._numbers.energy_kwh(text, stream.exponent)
            except NotANumber as error:
                message = f"{energy} of interval {place} {error}"
                line.errors.append(ItemError(day.line, energy, "wrong_type", message))
                continue
            if quality in _QUALITIES:
                line.notes[f"taken, though {_QUALITIES[quality]}"] += 1
            at = day.start + place * length
            line.readings.append(self._devices.reading(stream.device, kwh, at, "interval"))
        return line


def _day_of(row: list[str], count: int, of_zone: tzinfo) -> tuple[datetime, list[str]]:
    """Return when the day begins, and its values. Errors: `ValueError`."""
    if len(row) < count + 2:
        raise ValueError(
            f"it has {max(0, len(row) - 2)} cells after the date; the interval length of record "
            f"200 needs {count} values"
        )
    values = row[2 : count + 2]
    short = next((place for place, text in enumerate(values) if text[:1].isalpha()), None)
    if short is not None:
        raise ValueError(f"it has {short} values; the interval length of record 200 needs {count}")
    if len(row) > count + 2 and not _quality.fullmatch(row[count + 2]):
        raise ValueError(
            f"after {count} values must be a quality flag: does the interval length of record 200 "
            "fit?"
        )
    if not _date.fullmatch(row[1]):
        raise ValueError("the date must be YYYYMMDD")
    try:
        midnight = datetime.strptime(row[1], "%Y%m%d")
    except ValueError:
        raise ValueError("the date must be YYYYMMDD") from None
    return _standard(midnight, of_zone), values


def _standard(local: datetime, of_zone: tzinfo) -> datetime:
    """Return the instant of `local` in the zone's standard time, without daylight saving."""
    there = local.replace(tzinfo=of_zone)
    offset, saved = there.utcoffset(), there.dst()
    return (local - (offset or timedelta(0)) + (saved or timedelta(0))).replace(tzinfo=UTC)


def _wrong(number: int, message: str) -> ItemError:
    return ItemError(number, None, "invalid_format", message)
