"""What a line of any file becomes: readings, errors, or a note; and whose readings they are."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil
from typing import Any, Final, NamedTuple

from ingestion.files.mapping import ENERGY_FIELDS, Map
from ingestion.files.reading import NotThatFormat
from ingestion.readings import DeviceKind, ItemError

# Energy of a whole session is spread over readings of at most this length, as the engine learns it.
PIECE: Final = timedelta(minutes=15)
_A_TICK: Final = timedelta(microseconds=1)
NOT_LISTED: Final = "skipped: devices that the map does not list"

_number = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_grouped = re.compile(r"[+-]?\d{1,3}(G\d{3})+(\.\d*)?", re.ASCII)
_MAX_DIGITS: Final = 64
_MOST_UNLISTED: Final = 1_000
_MOST_SHOWN: Final = 10

Reading = dict[str, Any]


class Line(NamedTuple):
    """What line `number` of a file became; the readings have the API's field names.

    `notes` counts what is neither a reading nor an error.
    """

    number: int
    readings: list[Reading]
    errors: list[ItemError] = []
    notes: Counter[str] = Counter()


def noted(number: int, note: str, count: int = 1) -> Line:
    """Return a line without readings."""
    return Line(number, [], [], Counter({note: count}))


def refused(number: int, field: str | None, code: str, message: str) -> Line:
    """Return a line that is rejected."""
    return Line(number, [], [ItemError(number, field, code, message)])


class NotANumber(ValueError):
    """The text is no number; the message says why, without the text."""


class Numbers:
    """Reads the numbers of one file; without a `decimal`, either mark is taken as one."""

    def __init__(self, decimal: str | None, thousands: str = "") -> None:
        self._decimal = decimal
        self._thousands = thousands

    def energy_kwh(self, text: str, exponent: int) -> float:
        """Return `text` times ten to the power of `exponent`. Errors: `NotANumber`."""
        return float(self._decimal_of(text).scaleb(exponent))

    def plain(self, text: str) -> float | str:
        """Return the number, or the text itself if it is none: the API's rules reject that."""
        try:
            return float(self._decimal_of(text))
        except NotANumber:
            return text

    def _decimal_of(self, text: str) -> Decimal:
        text = text.strip().replace("\u00a0", " ").replace("\u202f", " ")
        if self._thousands and self._thousands in text:
            dotted = text.replace(self._thousands, "G").replace(self._decimal or ".", ".")
            if not _grouped.fullmatch(dotted):
                raise NotANumber("must be a number whose thousands are groups of three digits")
            text = text.replace(self._thousands, "")
        if self._decimal == "," and "." in text:
            raise NotANumber(
                "must be a number with a decimal comma; it has a point: for thousands, add "
                "--thousands ."
            )
        if self._decimal == "." and "," in text:
            raise NotANumber(
                "must be a number with a decimal point; it has a comma: for decimal commas, add "
                "--decimal ,"
            )
        text = text.replace(",", ".")
        if len(text) > _MAX_DIGITS or not _number.fullmatch(text):
            raise NotANumber("must be a number")
        return Decimal(text)


class Devices:
    """Whose readings a file has, by the names in it; `registers` notes what their values are."""

    def __init__(self, mapping: Map, kind: DeviceKind | None = None) -> None:
        self._only = mapping.only
        self._names = mapping.names
        self._kind = kind or DeviceKind(mapping.kind)
        self._single: str | None = None
        self._seen: set[str] = set()
        self._unlisted: set[str] = set()
        self.registers: dict[tuple[DeviceKind, str], str] = {}

    @property
    def are_listed(self) -> bool:
        """Whether the map lists the devices, so that others are left out."""
        return bool(self._names)

    def is_listed(self, name: str) -> bool:
        """Return whether the map lists this very name."""
        return name in self._names

    def of(self, name: str, kind: DeviceKind | None = None) -> tuple[DeviceKind, str] | None:
        """Return the device with this name in the file; None if it is left out.

        Errors: `NotThatFormat`, for a second name where the file is said to be of one device.
        """
        if self._names:
            listed = self._names.get(name)
            if listed is not None:
                self._seen.add(name)
            elif len(self._unlisted) < _MOST_UNLISTED:
                self._unlisted.add(name)
            return listed if listed and listed[1] else None
        if self._only is None:
            return kind or self._kind, name
        if self._single is None:
            self._single = name
        elif self._single != name:
            raise NotThatFormat(
                f"not all of it is one {self._only[0]}: it has {_shown(self._single)} and "
                f"{_shown(name)}; say which device each one is, under [meters] or [vehicles] of a "
                "map"
            )
        return self._only

    def remarks(self) -> list[str]:
        """Return what the person should know of the names, when the file has been read."""
        missing = [name for name in self._names if name not in self._seen]
        if not missing:
            return []
        found = sorted(self._unlisted)
        there = f"; it has {_list(found)}, which the map does not list" if found else ""
        return [f"the map lists {_list(missing)}, which the file does not have{there}"]

    def reading(
        self,
        device: tuple[DeviceKind, str],
        energy: float,
        at: datetime,
        register: str | None = None,
        **fields: Any,
    ) -> Reading:
        """Return a reading of `device`; `register` is what its values are in this file."""
        kind, id_ = device
        if register is not None:
            self.registers[device] = register
        return {f"{kind}Id": id_, ENERGY_FIELDS[kind]: energy, "timestamp": at} | fields


def spread(start: datetime, end: datetime, energy_kwh: float) -> Iterator[tuple[datetime, float]]:
    """Yield readings of an interval register that spread the energy evenly over (start, end].

    The first has no energy and only says where the interval begins: a microsecond later, so that
    it does not replace the last reading of a session that ended then.
    """
    pieces = max(1, ceil((end - start) / PIECE))
    if start < end:
        yield start + _A_TICK, 0.0
    for piece in range(1, pieces + 1):
        yield start + (end - start) * piece / pieces, energy_kwh / pieces


def _shown(name: str) -> str:
    return f'"{name[:40]}"'


def _list(names: Sequence[str]) -> str:
    more = len(names) - _MOST_SHOWN
    shown = ", ".join(map(_shown, names[:_MOST_SHOWN]))
    return f"{shown} and {more} more" if more > 0 else shown
