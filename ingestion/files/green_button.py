"""Green Button: interval data of utilities in North America, as XML of ESPI in an Atom feed.

Source: NAESB REQ.21, Energy Services Provider Interface (ESPI), schema `espi.xsd` 3.3: ReadingType
(`uom` 72 is Wh; `powerOfTenMultiplier`; `commodity` 1 and 2 electricity; `flowDirection` 1 forward,
4 net, 19 reverse, 20 total; `accumulationBehaviour` 1 bulk quantity, 2 and 3 cumulative, 4 delta
data), IntervalReading (`timePeriod` with `start` in seconds since 1970 and `duration`; `value`) and
ReadingQuality.

A feed has entries in any order, which name each other by links: UsagePoint ← MeterReading →
ReadingType, and MeterReading ← IntervalBlock. So it is read twice: first for what is measured,
then for the readings. Memory stays constant: the parser calls back for each tag and builds no tree.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from re import compile
from typing import Any, Final
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from ingestion.files.lines import Devices, Line, refused
from ingestion.files.mapping import ENERGY_FIELDS, Map
from ingestion.files.opening import Member
from ingestion.files.reading import NotThatFormat
from ingestion.readings import DeviceKind

_CHUNK_BYTES: Final = 64 * 1024
# No tag is nearly as long; the parser keeps an unfinished one in memory.
_MAX_TAG_BYTES: Final = 1024 * 1024
_MAX_TEXT: Final = 1024
_MAX_DEPTH: Final = 64
# Of a feed.
_MAX_ENTITIES: Final = 10_000
_MAX_BLOCKS: Final = 1_000_000
_WATT_HOURS: Final = "72"
# Powers of ten beyond these belong to no meter.
_MAX_MULTIPLIER: Final = 12
# Values are 48 bits long.
_MAX_VALUE: Final = 2**47
_ELECTRICITY: Final = {"1", "2", "0", ""}
_FORWARD: Final = {"1", "0", ""}
_FLOWS: Final = {"4": "net", "19": "reverse", "20": "total"}
_COUNTERS: Final = {"1", "2", "3"}
_DELTAS: Final = {"4", "0", ""}
_ESTIMATED: Final = {"8", "9", "12"}
_AT_MOST: Final = datetime(2200, 1, 1, tzinfo=UTC).timestamp()

# Most utilities have links such as …/UsagePoint/01/MeterReading/02/IntervalBlock/0173.
_usage_point = compile(r"UsagePoint/([^/?]+)")
_meter_reading = compile(r"(?:UsagePoint/[^/?]+/)?MeterReading/[^/?]+")


@dataclass
class _Entry:
    """An entry of the feed: its links, and the texts of its entity by their names."""

    up: str = ""
    own: str = ""
    related: list[str] = field(default_factory=list)
    entity: str = ""
    texts: dict[str, str] = field(default_factory=dict)

    def own_key(self) -> str:
        """Return the key of a MeterReading, or of any other entity."""
        found = _meter_reading.search(self.own)
        return found[0] if found and self.entity == "MeterReading" else self.own

    def keys(self) -> tuple[str, ...]:
        """Return what may be the key of the MeterReading that this block belongs to."""
        found = _meter_reading.search(self.own) or _meter_reading.search(self.up)
        return (found[0],) if found else (self.up, *self.related)


class _Target:
    """Collects what the parser calls back: entries, and readings with the number of their entry."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, _Entry]] = []
        self.readings: list[tuple[int, dict[str, str]]] = []
        self.events = 0
        self._path: list[str] = []
        self._entry = _Entry()
        self._number = 0
        self._reading: dict[str, str] | None = None
        self._text: list[str] = []
        self._length = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition("}")[2]
        self.events += 1
        if len(self._path) >= _MAX_DEPTH:
            raise NotThatFormat(f"XML nested deeper than {_MAX_DEPTH}")
        if name == "entry":
            self._entry = _Entry()
            self._number += 1
        elif name == "link" and self._path[-1:] == ["entry"]:
            self._linked(attributes.get("rel", ""), attributes.get("href", ""))
        elif self._path[-1:] == ["content"]:
            self._entry.entity = name
        elif name == "IntervalReading":
            self._reading = {}
        self._path.append(name)
        self._text, self._length = [], 0

    def data(self, data: str) -> None:
        self.events += 1
        if self._length < _MAX_TEXT:
            self._text.append(data[:_MAX_TEXT])
            self._length += len(data)

    def end(self, tag: str) -> None:
        self.events += 1
        name = self._path.pop()
        text = "".join(self._text).strip()[:_MAX_TEXT]
        self._text, self._length = [], 0
        if name == "IntervalReading" and self._reading is not None:
            self.readings.append((self._number, self._reading))
            self._reading = None
        elif name == "entry":
            self.entries.append((self._number, self._entry))
        elif self._reading is not None:
            _keep(self._reading, name, text)
        elif self._entry.entity == "ReadingType" and self._path[-1:] == ["ReadingType"]:
            _keep(self._entry.texts, name, text)

    def _linked(self, relation: str, href: str) -> None:
        entry = self._entry
        if relation == "self":
            entry.own = href[:_MAX_TEXT]
        elif relation == "up":
            entry.up = href[:_MAX_TEXT]
        elif relation == "related" and len(entry.related) < _MAX_DEPTH:
            entry.related.append(href[:_MAX_TEXT])

    def close(self) -> None:
        return None


def _keep(texts: dict[str, str], name: str, text: str) -> None:
    if len(texts) < _MAX_DEPTH:
        texts[name] = text


@dataclass(frozen=True)
class _Measured:
    """What a MeterReading measures; `device` None: not taken, as `note` says."""

    device: tuple[DeviceKind, str] | None
    exponent: int
    register: str
    note: str
    length_seconds: str


def is_xml(sample: bytes) -> bool:
    """Return whether a file that begins so is XML."""
    return sample.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"


def green_button_lines(member: Member, mapping: Map, devices: Devices) -> Iterator[Line]:
    """Yield a line for each reading, numbered in their order. Errors: `NotThatFormat`."""
    of_entry = _what_is_measured(member, devices)
    number = 0
    for target in _parsed(member):
        for entry, reading in target.readings:
            number += 1
            measured = of_entry.get(entry)
            if measured is None:
                raise NotThatFormat("an IntervalBlock has no link to a MeterReading of the feed")
            yield _line(number, measured, reading, devices)
        target.readings.clear()
        target.entries.clear()


def _parsed(member: Member) -> Iterator[_Target]:
    """Yield the same target again and again, with what was new in the file."""
    target = _Target()
    parser: Any = DefusedXMLParser(target=target, forbid_dtd=True)
    try:
        with member.open() as file:
            silent = 0
            for chunk in iter(partial(file.read, _CHUNK_BYTES), b""):
                before = target.events
                parser.feed(chunk)
                silent = 0 if target.events > before else silent + len(chunk)
                if silent > _MAX_TAG_BYTES:
                    raise NotThatFormat(f"a tag of XML has more than {_MAX_TAG_BYTES:,} bytes")
                yield target
            parser.close()
            yield target
    except ParseError as error:
        raise NotThatFormat(f"not valid XML: {error}") from None
    except DefusedXmlException:
        raise NotThatFormat(
            "the XML has a document type or entities of its own, which Green Button has not"
        ) from None


# --- What is measured -------------------------------------------------------------------------


class _Feed:
    """What a feed says of its meters: entities by their links."""

    def __init__(self) -> None:
        self.points: list[_Entry] = []
        self.meters: dict[str, _Entry] = {}
        self.types: dict[str, _Entry] = {}
        self.blocks: dict[int, tuple[str, ...]] = {}
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def add(self, number: int, entry: _Entry) -> None:
        if entry.entity == "UsagePoint":
            self.points.append(entry)
        elif entry.entity == "MeterReading":
            self.meters[entry.own_key()] = entry
        elif entry.entity == "ReadingType":
            self.types[entry.own] = entry
        elif entry.entity.lower() == "intervalblock":
            keys = entry.keys()
            # The blocks of a meter have the same; stored once, they take little memory.
            self.blocks[number] = self._known.setdefault(keys, keys)
        if len(self.points) + len(self.meters) + len(self.types) > _MAX_ENTITIES:
            raise NotThatFormat(f"the feed has more than {_MAX_ENTITIES:,} meters")
        if len(self.blocks) > _MAX_BLOCKS or len(self._known) > _MAX_ENTITIES:
            raise NotThatFormat(f"the feed has more than {_MAX_BLOCKS:,} blocks of readings")

    def type_of(self, meter: _Entry) -> dict[str, str]:
        """Return the texts of the ReadingType that the meter is related to, or of the only one."""
        for href in meter.related:
            if href in self.types:
                return self.types[href].texts
        return next(iter(self.types.values())).texts if len(self.types) == 1 else {}

    def names(self, key: str) -> tuple[str, str]:
        """Return the names of a usage point and of its meter reading: `01` and `01/02`."""
        point = _usage_point.search(key)
        reading = key.rpartition("/")[2]
        if point:
            return point[1], f"{point[1]}/{reading}"
        only = self.points[0].own.rpartition("/")[2] if len(self.points) == 1 else ""
        return (only, f"{only}/{reading}") if only else (reading, reading)


def _what_is_measured(member: Member, devices: Devices) -> dict[int, _Measured]:
    """Return what the readings of each entry of the feed measure."""
    feed = _Feed()
    for target in _parsed(member):
        for number, entry in target.entries:
            feed.add(number, entry)
        target.readings.clear()
        target.entries.clear()
    if not feed.meters and len(feed.types) == 1:
        # A short feed, whose blocks can only be of this type.
        feed.meters["1"] = _Entry()
    if not feed.meters:
        raise NotThatFormat("not Green Button: the XML has no entry with a MeterReading")
    measured = {
        key: _measured(*feed.names(key), feed.type_of(entry), devices)
        for key, entry in feed.meters.items()
    }
    _require_one_each({key: (feed.names(key)[1], one) for key, one in measured.items()})
    only = next(iter(measured.values())) if len(measured) == 1 else None
    found = {
        number: next((measured[key] for key in keys if key in measured), only)
        for number, keys in feed.blocks.items()
    }
    return {number: one for number, one in found.items() if one is not None}


def _measured(name: str, detail: str, texts: dict[str, str], devices: Devices) -> _Measured:
    flow = texts.get("flowDirection", "")
    behaviour = texts.get("accumulationBehaviour", "")
    register = "counter" if behaviour in _COUNTERS else "interval"
    exponent = _exponent(texts.get("powerOfTenMultiplier", ""))
    left_out = None
    if texts.get("uom") != _WATT_HOURS or exponent is None:
        left_out = "skipped: units other than Wh (uom 72)"
    elif texts.get("commodity", "") not in _ELECTRICITY:
        left_out = "skipped: commodities other than electricity"
    elif behaviour not in _COUNTERS | _DELTAS:
        left_out = "skipped: neither energy of intervals nor a counter"
    elif flow not in _FORWARD and not devices.is_listed(detail):
        left_out = f"skipped: {_FLOWS.get(flow, 'other')} flow"
    device = None
    if left_out is None:
        device = devices.of(detail if devices.is_listed(detail) else name, DeviceKind.METER)
        left_out = "skipped: usage points that the map does not list"
    length = texts.get("intervalLength", "")
    return _Measured(device, exponent or 0, register, left_out, length)


def _exponent(multiplier: str) -> int | None:
    try:
        power = int(multiplier or 0)
    except ValueError:
        return None
    return power - 3 if abs(power) <= _MAX_MULTIPLIER else None


def _require_one_each(measured: dict[str, tuple[str, _Measured]]) -> None:
    """Errors: `NotThatFormat`, if two meter readings would be stored as one device."""
    by_device: dict[tuple[DeviceKind, str], list[str]] = {}
    for name, one in measured.values():
        if one.device is not None:
            by_device.setdefault(one.device, []).append(name)
    for (_, id_), names in by_device.items():
        if len(names) > 1:
            listed = ", ".join(f'"{name[:60]}"' for name in names[:5])
            raise NotThatFormat(
                f"{id_[:64]} would get the readings of {len(names)} meter readings, {listed}: say "
                'which device each one is, under [meters] of a map, or "" for none'
            )


# --- Readings ---------------------------------------------------------------------------------


def _line(number: int, one: _Measured, told: dict[str, str], devices: Devices) -> Line:
    if one.device is None:
        return Line(number, [], [], Counter({one.note: 1}))
    field_ = ENERGY_FIELDS[one.device[0]]
    try:
        start = int(told.get("start", ""))
        seconds = int(told.get("duration") or one.length_seconds)
        if not (0 <= start <= _AT_MOST and 0 <= seconds <= _AT_MOST):
            raise ValueError
    except ValueError:
        message = "timePeriod must have a start in seconds since 1970, and a duration"
        return refused(number, "timestamp", "invalid_format", message)
    try:
        value = int(told.get("value", ""))
        if abs(value) > _MAX_VALUE:
            raise ValueError
    except ValueError:
        return refused(number, field_, "wrong_type", f"{field_}: value must be a whole number")
    at = datetime.fromtimestamp(start, UTC) + timedelta(seconds=seconds)
    energy_kwh = _times_power_of_ten(value, one.exponent)
    is_estimated = told.get("quality") in _ESTIMATED
    notes = Counter({"taken, though estimated": 1}) if is_estimated else Counter[str]()
    return Line(number, [devices.reading(one.device, energy_kwh, at, one.register)], [], notes)


def _times_power_of_ten(value: int, exponent: int) -> float:
    """Return the float nearest to the product: 250 Wh are exactly 0.25 kWh."""
    return value / 10**-exponent if exponent < 0 else float(value * 10**exponent)
