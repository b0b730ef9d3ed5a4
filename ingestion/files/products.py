"""CSV exports of evcc, TeslaMate and Home Assistant, recognized by their headers.

Sources, for the names of columns and the form of their cells:

- evcc-io/evcc: `core/session/session.go`, `util/csv/writer.go`, `sessions.csv` in `i18n/*.toml`;
- teslamate-org/teslamate: the tables of `lib/teslamate/log/charge.ex` and `charging_process.ex`, as
  `COPY … TO STDOUT WITH CSV HEADER` writes them (issue 945);
- home-assistant/frontend: `_downloadHistory` of `src/panels/history/ha-panel-history.ts`;
- klausj1/homeassistant-statistics: its export of long-term statistics.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from ingestion.files.lines import (
    NOT_LISTED,
    Devices,
    Line,
    NotANumber,
    Numbers,
    noted,
    refused,
    spread,
)
from ingestion.files.mapping import ENERGY_FIELDS, UNITS, Format, Map
from ingestion.files.reading import NotThatFormat
from ingestion.files.table import Columns, Converter
from ingestion.files.times import NotATime, Times
from ingestion.readings import DeviceKind

# evcc writes its header in the language of the person. These are what the time of plugging in is
# called; the order of the columns is the same in all of them.
_EVCC_CREATED: Final = {
    "created", "startzeit", "créé", "creato", "hora de inicio", "hora de início", "aangemaakt",
}  # fmt: skip
_NO_STATE: Final = {"unavailable", "unknown", "none", ""}
_NO_SESSION_END: Final = {"", "0001-01-01 00:00:00"}


def recognized(names: Sequence[str]) -> Format | None:
    """Return the product whose header this is, if it is one's."""
    there = set(names)
    if there >= {"entity_id", "state", "last_changed"} or there >= {"statistic_id", "start"}:
        return "home-assistant"
    if "charge_energy_added" in there and there & {"charging_process_id", "start_date"}:
        return "teslamate"
    if names and names[0].lower() in _EVCC_CREATED and _evcc_energy(names) is not None:
        return "evcc"
    return None


def evcc(columns: Columns, mapping: Map, devices: Devices) -> Converter:
    """Return the converter of an evcc export. Errors: `NotThatFormat`."""
    return _Evcc(columns, mapping, devices)


def teslamate(columns: Columns, mapping: Map, devices: Devices) -> Converter:
    """Return the converter of a table of TeslaMate. Errors: `NotThatFormat`."""
    if "start_date" in columns.names:
        return _TeslaMateProcesses(columns, mapping, devices)
    return _TeslaMateCharges(columns, mapping, devices)


def home_assistant(columns: Columns, mapping: Map, devices: Devices) -> Converter:
    """Return the converter of an export of Home Assistant. Errors: `NotThatFormat`."""
    if "statistic_id" in columns.names:
        return _Statistics(columns, mapping, devices)
    return _History(columns, mapping, devices)


# --- evcc ---------------------------------------------------------------------------------------


def _evcc_energy(names: Sequence[str]) -> int | None:
    """Return the place of the charged energy: after those of the meter at start and stop."""
    in_kwh = [place for place, name in enumerate(names) if name.lower().endswith("(kwh)")]
    return in_kwh[2] if len(in_kwh) >= 3 else None


class _Evcc:
    """A line is a session at a charge point: AC, from plugging in to unplugging, in local time."""

    def __init__(self, columns: Columns, mapping: Map, devices: Devices) -> None:
        energy = _evcc_energy(columns.names)
        if energy is None:
            raise NotThatFormat(
                "not a sessions export of evcc, which has three columns in (kWh); "
                f"{columns.there_are()}"
            )
        if mapping.tz is None:
            raise NotThatFormat(
                "evcc writes times without a time zone: say evcc's own with --tz, such as --tz "
                "Europe/Berlin"
            )
        self._energy = energy
        self._devices = devices
        self._times = mapping.times()
        # Some languages have a decimal comma; none has a mark for thousands.
        self._numbers = Numbers(mapping.decimal)

    def line(self, number: int, row: list[str]) -> Line:
        """Return the session as readings of at most 15 minutes."""
        created, finished, charge_point = (cell.strip() for cell in row[:3])
        if finished in _NO_SESSION_END:
            return noted(number, "skipped: sessions that have not ended")
        if not row[self._energy].strip():
            return noted(number, "skipped: sessions without energy")
        device = self._devices.of(charge_point, DeviceKind.METER)
        if device is None:
            return noted(number, NOT_LISTED)
        return _session(
            number,
            (created, finished, row[self._energy]),
            device,
            self._times,
            self._numbers,
            self._devices,
        )


def _session(
    number: int,
    told: tuple[str, str, str],
    device: tuple[DeviceKind, str],
    times: Times,
    numbers: Numbers,
    devices: Devices,
    **fields: object,
) -> Line:
    """Return a session, `told` as start, end and energy, with its energy spread evenly."""
    field = ENERGY_FIELDS[device[0]]
    try:
        start, end = (times.instant(text) for text in told[:2])
        energy_kwh = numbers.energy_kwh(told[2], UNITS["kwh"])
    except NotATime as error:
        return refused(number, "timestamp", "invalid_format", f"timestamp: {error}")
    except NotANumber as error:
        return refused(number, field, "wrong_type", f"{field} {error}")
    if end < start:
        return refused(number, "timestamp", "out_of_range", "the session ends before it begins")
    if energy_kwh < 0:
        return refused(number, field, "out_of_range", f"{field} must be 0 or more")
    return Line(
        number,
        [
            devices.reading(device, energy, at, "interval", **(fields if at == end else {}))
            for at, energy in spread(start, end, energy_kwh)
        ],
    )


# --- TeslaMate ----------------------------------------------------------------------------------


class _TeslaMate:
    """A table of TeslaMate, whose times are in UTC. A car is known by `car_id`, if it is there."""

    def __init__(self, columns: Columns, mapping: Map, devices: Devices) -> None:
        self._devices = devices
        self._times = mapping.times(tz="UTC")
        self._numbers = Numbers(".")
        self._energy = columns.place("charge_energy_added", "TeslaMate")
        self._car = columns.names.index("car_id") if "car_id" in columns.names else None
        if mapping.only is None and not (self._car is not None and devices.are_listed):
            how = (
                'or list the cars under [vehicles] of a map, such as "1" = "V1"'
                if self._car is not None
                else "and export one car at a time, or add a column car_id to the export"
            )
            raise NotThatFormat(f"say whose charges these are, with --vehicle ID, {how}")

    def _device(self, row: list[str]) -> tuple[DeviceKind, str] | None:
        name = "" if self._car is None else row[self._car].strip()
        return self._devices.of(name, DeviceKind.VEHICLE)


class _TeslaMateCharges(_TeslaMate):
    """Table `charges`: a line each few seconds, its energy counted since the car was plugged in.

    So the register is a `session_counter`.
    """

    def __init__(self, columns: Columns, mapping: Map, devices: Devices) -> None:
        super().__init__(columns, mapping, devices)
        self._date = columns.place("date", "TeslaMate")
        level = "battery_level"
        self._level = columns.names.index(level) if level in columns.names else None

    def line(self, number: int, row: list[str]) -> Line:
        """Return the reading of a line."""
        device = self._device(row)
        if device is None:
            return noted(number, NOT_LISTED)
        field = ENERGY_FIELDS[device[0]]
        try:
            at = self._times.instant(row[self._date].strip())
            energy = self._numbers.energy_kwh(row[self._energy], UNITS["kwh"])
        except NotATime as error:
            return refused(number, "timestamp", "invalid_format", f"timestamp: {error}")
        except NotANumber as error:
            return refused(number, field, "wrong_type", f"{field} {error}")
        level = "" if self._level is None else row[self._level].strip()
        others = {"soc": self._numbers.plain(level)} if level else {}
        return Line(
            number, [self._devices.reading(device, energy, at, "session_counter", **others)]
        )


class _TeslaMateProcesses(_TeslaMate):
    """Table `charging_processes`: a line is a whole charge."""

    def __init__(self, columns: Columns, mapping: Map, devices: Devices) -> None:
        super().__init__(columns, mapping, devices)
        self._span = [columns.place(name, "TeslaMate") for name in ("start_date", "end_date")]
        level = "end_battery_level"
        self._level = columns.names.index(level) if level in columns.names else None

    def line(self, number: int, row: list[str]) -> Line:
        """Return the charge as readings of at most 15 minutes."""
        start, end = (row[place].strip() for place in self._span)
        if end in ("", "NULL"):
            return noted(number, "skipped: charges that have not ended")
        energy = row[self._energy].strip()
        if energy in ("", "NULL"):
            return noted(number, "skipped: charges without energy")
        device = self._device(row)
        if device is None:
            return noted(number, NOT_LISTED)
        level = "" if self._level is None else row[self._level].strip()
        others = {"soc": self._numbers.plain(level)} if level not in ("", "NULL") else {}
        return _session(
            number,
            (start, end, energy),
            device,
            self._times,
            self._numbers,
            self._devices,
            **others,
        )


# --- Home Assistant -----------------------------------------------------------------------------


class _History:
    """History: a line for each change of an entity's state, in UTC; without its unit.

    An energy sensor is a counter (`total_increasing`) unless the map says otherwise.
    """

    def __init__(self, columns: Columns, mapping: Map, devices: Devices) -> None:
        self._places = [
            columns.place(name, "Home Assistant") for name in ("entity_id", "state", "last_changed")
        ]
        self._devices = devices
        self._kind = DeviceKind(mapping.kind)
        self._times = mapping.times()
        self._exponent = mapping.exponent
        self._register = mapping.register or "counter"
        self._numbers = Numbers(".")
        self._entity: str | None = None

    def line(self, number: int, row: list[str]) -> Line:
        """Return the reading of a line."""
        entity, state, changed = (row[place].strip() for place in self._places)
        self._require_told(entity)
        if state.lower() in _NO_STATE:
            return noted(number, "skipped: states unavailable or unknown")
        device = self._devices.of(entity, self._kind)
        if device is None:
            return noted(number, NOT_LISTED)
        field = ENERGY_FIELDS[device[0]]
        try:
            at = self._times.instant(changed)
            energy = self._numbers.energy_kwh(state, self._exponent)
        except NotATime as error:
            return refused(number, "timestamp", "invalid_format", f"timestamp: {error}")
        except NotANumber as error:
            message = f"{field}: the state {error}; is it an entity that measures energy?"
            return refused(number, field, "wrong_type", message)
        return Line(number, [self._devices.reading(device, energy, at, self._register)])

    def _require_told(self, entity: str) -> None:
        """Errors: `NotThatFormat`, if it is not said which of several entities measure energy."""
        if self._entity is None:
            self._entity = entity
        if entity != self._entity and not self._devices.are_listed:
            raise NotThatFormat(
                f'it has several entities, such as "{self._entity[:60]}" and "{entity[:60]}": list '
                "those that measure energy under [meters] or [vehicles] of a map"
            )


class _Statistics:
    """Long-term statistics: a line an hour, stamped with its start in local time, with its unit.

    `state` is the counter at the end of the hour, and `delta` what it rose by.
    """

    def __init__(self, columns: Columns, mapping: Map, devices: Devices) -> None:
        value = next((name for name in ("state", "delta") if name in columns.names), None)
        if value is None:
            raise NotThatFormat(
                "the statistics have neither state nor delta: export counters; "
                f"{columns.there_are()}"
            )
        if mapping.tz is None:
            raise NotThatFormat(
                "the statistics have times without a time zone: say the one that they were "
                "exported with, with --tz, such as --tz Europe/Berlin"
            )
        self._id, self._unit, self._start, self._value = (
            columns.place(name, "Home Assistant")
            for name in ("statistic_id", "unit", "start", value)
        )
        self._devices = devices
        self._kind = DeviceKind(mapping.kind)
        self._register = "interval" if value == "delta" else "counter"
        self._times = mapping.times("%d.%m.%Y %H:%M", shift=timedelta(hours=1))
        self._numbers = Numbers(mapping.decimal)

    def line(self, number: int, row: list[str]) -> Line:
        """Return the reading of a line."""
        exponent = UNITS.get(row[self._unit].strip().lower())
        if exponent is None:
            return noted(number, "skipped: units that are not of energy")
        device = self._devices.of(row[self._id].strip(), self._kind)
        if device is None:
            return noted(number, NOT_LISTED)
        if not row[self._value].strip():
            return noted(number, "skipped: lines without a value")
        field = ENERGY_FIELDS[device[0]]
        try:
            at = self._times.instant(row[self._start].strip())
            energy = self._numbers.energy_kwh(row[self._value], exponent)
        except NotATime as error:
            return refused(number, "timestamp", "invalid_format", f"timestamp: {error}")
        except NotANumber as error:
            return refused(number, field, "wrong_type", f"{field} {error}")
        return Line(number, [self._devices.reading(device, energy, at, self._register)])
