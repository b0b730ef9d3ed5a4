"""Energy of devices over spans of time: from hourly sums that are current, else from history.

All energies in figures come from here. Other modules read history or its sums for other purposes:
explanations, traces, cadences, estimates for thresholds, roll-ups, exports and the archive.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from analytics.figures.window import InvalidWindow
from analytics.sql import STATEMENTS
from fleet.http.wire import instant
from fleet.stores.statements import Statement, from_row

_meter_energy = Statement(STATEMENTS / "meter_energy.sql")
_vehicle_energy = Statement(STATEMENTS / "vehicle_energy.sql")


class Span(NamedTuple):
    """A device over a span of time, half-open."""

    device_id: str
    starts_at: datetime
    ends_at: datetime

    @property
    def seconds(self) -> float:
        return (self.ends_at - self.starts_at).total_seconds()


class ArchivedHistory(InvalidWindow):
    """A window that includes history which is only in the archive."""

    def __init__(self, gone_until: datetime) -> None:
        super().__init__(
            "start", f"{instant(gone_until)} or later: earlier history is in the archive"
        )


class Energy(NamedTuple):
    """The energy and readings of a device over a span, each timestamp counted once.

    `hours_rolled_up` hours of the span came from hourly sums, the rest from history.
    """

    energy_kwh: float = 0.0
    readings: int = 0
    suspect_steps: int = 0
    battery_temp_celsius: float | None = None
    cadence_seconds: float | None = None
    hours_rolled_up: int = 0


def meter_energies(spans: Iterable[Span]) -> dict[Span, Energy]:
    """Return AC energies of meters; one statement. A span of an unknown meter is absent.

    Errors: `ArchivedHistory`, if part of any span's history is only in the archive.
    """
    return _energies(_meter_energy, spans)


def vehicle_energies(spans: Iterable[Span]) -> dict[Span, Energy]:
    """Return DC energies of vehicles, as `meter_energies` does for meters."""
    return _energies(_vehicle_energy, spans)


def _energies(statement: Statement, spans: Iterable[Span]) -> dict[Span, Energy]:
    asked = list(dict.fromkeys(spans))
    if not asked:
        return {}
    rows = statement.rows(
        {
            "device_ids": [span.device_id for span in asked],
            "starts_at": [span.starts_at for span in asked],
            "ends_at": [span.ends_at for span in asked],
            "first": min(span.starts_at for span in asked),
            "last": max(span.ends_at for span in asked),
        }
    )
    if rows and rows[0].gone_until:
        raise ArchivedHistory(rows[0].gone_until)
    return {asked[row.number - 1]: from_row(Energy, row) for row in rows}
