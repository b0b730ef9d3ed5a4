"""What a device reported: its state over time for charts, and its latest deliveries."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from analytics.figures.window import Window
from analytics.sql import STATEMENTS
from fleet.models import Meter, Vehicle
from fleet.stores.statements import Statement, from_row
from ingestion.models import MeterReading, MeterRegister, VehicleReading, VehicleRegister

LATE_AFTER: Final = timedelta(minutes=5)

_traces: Final = {
    Vehicle: Statement(STATEMENTS / "vehicle_trace.sql"),
    Meter: Statement(STATEMENTS / "meter_trace.sql"),
}
_deliveries: Final = {
    Vehicle: Statement(STATEMENTS / "recent_vehicle_deliveries.sql"),
    Meter: Statement(STATEMENTS / "recent_meter_deliveries.sql"),
}
_READINGS: Final[dict[type[Vehicle | Meter], tuple[Any, Any]]] = {
    Vehicle: (VehicleReading, VehicleRegister),
    Meter: (MeterReading, MeterRegister),
}
_VALUES: Final = {
    Vehicle: ("soc_percent", "battery_temp_celsius"),
    Meter: ("voltage_v",),
}


class Trace(NamedTuple):
    """Averages over equal pieces of time, without gaps; null if a piece has no value.

    `values` by column: `soc_percent` and `battery_temp_celsius`, or `voltage_v`.
    """

    starts_at: list[datetime]
    values: dict[str, list[float | None]]

    @property
    def is_empty(self) -> bool:
        return all(value is None for column in self.values.values() for value in column)


class Delivery(NamedTuple):
    """One delivery; `energy_kwh` is DC of a vehicle, AC of a meter, as the device sent it."""

    measured_at: datetime
    received_at: datetime
    energy_kwh: float
    is_repeat: bool
    is_replaced: bool
    is_correction: bool
    soc_percent: float | None = None
    battery_temp_celsius: float | None = None
    voltage_v: float | None = None

    @property
    def marks(self) -> list[str]:
        """Return its special marks: late, repeat, correction, replaced."""
        is_late = self.received_at - self.measured_at > LATE_AFTER
        marks = {
            "late": is_late,
            # A delivery that restores the values of an earlier one is a correction.
            "repeat": self.is_repeat and not self.is_correction,
            "correction": self.is_correction,
            "replaced": self.is_replaced,
        }
        return [mark for mark, holds in marks.items() if holds]


def trace(
    kind: type[Vehicle | Meter], device_id: str, window: Window, piece: timedelta, zone: ZoneInfo
) -> Trace:
    """Return the state of a device over `window`, in pieces counted from midnight in `zone`.

    One statement, however long the window is.
    """
    origin = _midnight(window.starts_at, zone)
    rows = _traces[kind].rows(
        {
            "device_id": device_id,
            "starts_at": window.starts_at,
            "ends_at": window.ends_at,
            "piece": piece,
            "origin": origin,
        }
    )
    found = {row.starts_at: row for row in rows}
    first = origin + (window.starts_at - origin) // piece * piece
    pieces = -((first - window.ends_at) // piece)
    starts_at = [first + piece * number for number in range(pieces)]
    values = {
        column: [getattr(found.get(start), column, None) for start in starts_at]
        for column in _VALUES[kind]
    }
    return Trace(starts_at, values)


def first_reading_at(kind: type[Vehicle | Meter], device_id: str) -> datetime | None:
    """Return the timestamp of a device's first reading; None if it has none.

    One statement: it walks along the index, partition by partition. Readings that are only in the
    archive count as well: of each dropped partition, the last one is kept.
    """
    own = {f"{kind._meta.model_name}_id": device_id}
    firsts = (
        model.objects.filter(**own).order_by("measured_at").values("measured_at")[:1]
        for model in _READINGS[kind]
    )
    found = next(firsts).union(*firsts, all=True).values_list("measured_at", flat=True)
    return min(found, default=None)


def recent_deliveries(
    kind: type[Vehicle | Meter], device_id: str, window: Window, at_most: int
) -> list[Delivery]:
    """Return the deliveries measured in `window` that arrived last, newest first."""
    rows = _deliveries[kind].rows(
        {
            "device_id": device_id,
            "starts_at": window.starts_at,
            "ends_at": window.ends_at,
            "deliveries": at_most,
        }
    )
    energy = "energy_dc_kwh" if kind is Vehicle else "energy_ac_kwh"
    return [from_row(Delivery, row, energy_kwh=getattr(row, energy)) for row in rows]


def _midnight(instant: datetime, zone: ZoneInfo) -> datetime:
    day = instant.astimezone(zone).date()
    return datetime.combine(day, datetime.min.time(), zone).astimezone(UTC)
