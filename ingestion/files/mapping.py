"""The map of a file: how what is in it becomes readings. A TOML file, options, or both."""

import codecs
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ingestion.files.formats import KNOWN_FIELDS, Unreadable
from ingestion.files.times import Times, duration, zone
from ingestion.readings import DeviceKind

Format = Literal["csv", "nem12", "green-button", "evcc", "teslamate", "home-assistant"]
FORMATS: Final[tuple[str, ...]] = Format.__args__  # type: ignore[attr-defined]
# Of kWh; as powers of ten, so that 300 Wh are exactly 0.3 kWh.
UNITS: Final = {"wh": -3, "kwh": 0, "mwh": 3, "gwh": 6}
ENERGY_FIELDS: Final = {
    DeviceKind.METER: "kwhConsumedAc",
    DeviceKind.VEHICLE: "kwhDeliveredDc",
}
NAMED_SEPARATORS: Final = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}
FIELDS: Final = sorted(KNOWN_FIELDS)


class Map(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the person says of a file; what is not said is as in the API."""

    format: Format | None = None
    separator: str | None = None
    decimal: Literal[".", ","] | None = None
    thousands: Literal["", ".", ",", " ", "'"] = ""
    encoding: str | None = None
    unit: str | None = None
    time_format: str | None = None
    tz: str | None = None
    stamped: Literal["end", "start"] | None = None
    interval: str | None = None
    layout: Literal["long", "wide"] = "long"
    kind: Literal["meter", "vehicle"] = "meter"
    meter: str | None = None
    vehicle: str | None = None
    register: Literal["interval", "counter", "session_counter"] | None = None
    skip_lines: int = 0
    columns: dict[str, str | list[str]] = {}
    meters: dict[str, str] = {}
    vehicles: dict[str, str] = {}

    @property
    def only(self) -> tuple[DeviceKind, str] | None:
        """The one device that every reading of the file is of, if so said."""
        if self.meter:
            return DeviceKind.METER, self.meter
        return (DeviceKind.VEHICLE, self.vehicle) if self.vehicle else None

    @property
    def names(self) -> dict[str, tuple[DeviceKind, str]]:
        """Devices by their names in the file; a name that is mapped to "" is left out."""
        meters = {name: (DeviceKind.METER, id_) for name, id_ in self.meters.items()}
        return meters | {name: (DeviceKind.VEHICLE, id_) for name, id_ in self.vehicles.items()}

    @property
    def exponent(self) -> int:
        """The power of ten that turns the file's energy into kWh."""
        return UNITS[(self.unit or "kWh").lower()]

    def times(
        self, time_format: str | None = None, tz: str | None = None, shift: timedelta | None = None
    ) -> Times:
        """Return the reader of the file's times; what is said wins over the arguments."""
        name = self.tz or tz
        if self.stamped == "start" and self.interval:
            shift = duration(self.interval)
        elif self.stamped == "end":
            shift = None
        return Times(
            self.time_format or time_format, zone(name) if name else None, shift or timedelta(0)
        )


KEYS: Final = Map.__struct_fields__
_WHOSE: Final = {"format", "encoding", "meter", "vehicle", "meters", "vehicles"}
_OF_CSV: Final = {"separator", "decimal", "tz", "time_format", "skip_lines"}
# What may be said of each format; all may be said of a CSV.
_APPLY: Final[dict[Format, set[str]]] = {
    "nem12": {*_WHOSE, "tz"},
    "green-button": _WHOSE,
    "evcc": {*_WHOSE, *_OF_CSV},
    "teslamate": {*_WHOSE, *_OF_CSV},
    "home-assistant": {*_WHOSE, *_OF_CSV, "kind", "unit", "register", "stamped", "interval"},
}


def require_applicable(mapping: Map, file_format: Format) -> None:
    """Errors: `Unreadable`, if the map says what a file of this format says itself."""
    for key in KEYS:
        if key not in _APPLY.get(file_format, KEYS) and getattr(mapping, key) != getattr(
            Map(), key
        ):
            raise Unreadable(f"{key} does not apply to {file_format}, which needs none: omit it")


def read_map(path: Path | None, options: Mapping[str, Any]) -> Map:
    """Return the map in the file at `path`, if any; `options` that are not None win over it.

    Errors: `Unreadable`, whose message names the key and what it may be.
    """
    given: dict[str, Any] = {}
    if path is not None:
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Unreadable(f"{path}: not TOML: {error}") from None
    where = f"{path}: " if path else ""
    for key in given:
        if key not in KEYS:
            raise Unreadable(f"{where}unknown key {key[:40]}; the keys are {', '.join(KEYS)}")
    for key, value in options.items():
        if isinstance(value, dict):
            given[key] = given.get(key, {}) | value
        elif value is not None:
            given[key] = value
    try:
        mapping = msgspec.convert(given, Map)
        _require_sound(mapping)
    except msgspec.ValidationError as error:
        raise Unreadable(f"{where}{_plain(str(error))}") from None
    except ValueError as error:
        raise Unreadable(f"{where}{error}") from None
    separator = mapping.separator and NAMED_SEPARATORS.get(mapping.separator, mapping.separator)
    return msgspec.structs.replace(mapping, separator=separator)


def _plain(message: str) -> str:
    """Turn msgspec's "Invalid enum value 'x' - at `$.unit`" around, so that the key comes first."""
    said, _, where = message.partition(" - at ")
    return f"{where.strip('`$.')}: {said}" if where else said


def _require_sound(mapping: Map) -> None:
    """Errors: `ValueError`, which names the key."""
    separator = mapping.separator
    if separator and separator not in NAMED_SEPARATORS and len(separator) != 1:
        raise ValueError("separator must be one character, or tab")
    if mapping.thousands and mapping.thousands == (mapping.decimal or "."):
        raise ValueError("thousands and decimal must differ")
    if mapping.unit and mapping.unit.lower() not in UNITS:
        raise ValueError("unit must be Wh, kWh, MWh or GWh")
    if mapping.skip_lines < 0:
        raise ValueError("skip_lines must be 0 or more")
    if mapping.stamped == "start" and not mapping.interval and mapping.format in (None, "csv"):
        raise ValueError("stamped = start needs an interval, such as 15m")
    unknown = next((name for name in mapping.columns if name not in KNOWN_FIELDS), None)
    if unknown is not None:
        raise ValueError(f"columns: {unknown[:40]} is not a field; fields are {', '.join(FIELDS)}")
    _require_one_meaning(mapping)
    _require_readable("tz", mapping.tz, zone)
    _require_readable("interval", mapping.interval, duration)
    _require_readable("encoding", mapping.encoding, codecs.lookup)


def _require_one_meaning(mapping: Map) -> None:
    """Errors: `ValueError`, if two keys say what the other says."""
    if mapping.meter and mapping.vehicle:
        raise ValueError("meter and vehicle exclude each other: a reading is of one device")
    if mapping.only and mapping.names:
        raise ValueError("meters and vehicles already say whose readings they are: omit the other")
    if twice := mapping.meters.keys() & mapping.vehicles.keys():
        raise ValueError(f"{min(twice)[:40]} is under both meters and vehicles")


def _require_readable(key: str, value: str | None, read: Any) -> None:
    if value is None:
        return
    try:
        read(value)
    except LookupError:
        raise ValueError(f"{key} must be a known encoding, such as cp1252 or utf-16") from None
    except ValueError as error:
        raise ValueError(f"{key} {error}") from None
