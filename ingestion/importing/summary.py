"""Add up what an import did, and say it."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from heapq import nsmallest
from operator import itemgetter
from typing import Final

from ingestion.files.reading import Block
from ingestion.files.spreadsheets import devices_of
from ingestion.importing.beside import Done, Reason
from ingestion.readings import Decoded, DeviceKind, ItemError, MeterReading, Reading

_MOST_REASONS: Final = 20


def added(
    before: Done,
    block: Block,
    readings: Sequence[Reading],
    errors: Sequence[ItemError],
    report_bytes: int,
) -> Done:
    """Return `before` and a block of which `readings` were accepted."""
    times = [at for reading in readings if (at := reading.measured_at)]
    return Done(
        last_line=block.last_line,
        position_bytes=block.position_bytes,
        accepted=before.accepted + len(readings),
        rejected=before.rejected + len(errors),
        report_bytes=report_bytes,
        first_at=min([*times, *_known(before.first_at)], default=None),
        last_at=max([*times, *_known(before.last_at)], default=None),
        reasons=_reasons(before.reasons, errors, block.lines_before),
        notes={
            note: before.notes.get(note, 0) + block.notes[note]
            for note in [*before.notes, *(new for new in block.notes if new not in before.notes)]
        },
    )


def _known(at: datetime | None) -> list[datetime]:
    return [] if at is None else [at]


def _reasons(
    before: dict[str, Reason], errors: Iterable[ItemError], lines_before: int
) -> dict[str, Reason]:
    reasons = dict(before)
    for error in errors:
        # Most messages are one of a few; one that names an interval or a column is not.
        key = error.message
        if key not in reasons and len(reasons) >= _MOST_REASONS:
            key = f"{error.field or 'line'}: {error.code}"
        first = reasons.get(key) or Reason(0, error.index - lines_before)
        reasons[key] = Reason(first.count + 1, first.line)
    return reasons


class Devices:
    """The devices whose readings were accepted in this run."""

    def __init__(self) -> None:
        self.ids: dict[DeviceKind, set[str]] = {kind: set() for kind in DeviceKind}

    def add(self, readings: Iterable[Reading]) -> set[tuple[DeviceKind, str]]:
        """Add the devices of the readings; return them."""
        of_these = devices_of(readings)
        for kind, id_ in of_these:
            self.ids[kind].add(id_)
        return of_these

    def __str__(self) -> str:
        counts = [
            f"{len(ids):,} {kind}{'' if len(ids) == 1 else 's'}"
            for kind, ids in self.ids.items()
            if ids
        ]
        return " and ".join(counts)


def details(done: Done, devices: Devices) -> list[str]:
    """Return lines that say whose readings there were, from when, and what was left out."""
    lines = []
    if done.first_at and done.last_at:
        lines.append(f"of {devices}, {wire_time(done.first_at)} to {wire_time(done.last_at)}")
    lines += [f"{count:,} {note}" for note, count in done.notes.items()]
    return lines


def reasons(done: Done) -> list[str]:
    """Return a line for each reason why lines were rejected, the most frequent first."""
    by_count = sorted(done.reasons.items(), key=lambda item: -item[1].count)
    return [f"{reason.count:,}: {key} (first in line {reason.line:,})" for key, reason in by_count]


def as_taken(decoded: Decoded, block: Block, at_most: int) -> list[str]:
    """Return a line for each of the first readings, as it would be stored."""
    # Of a block, the meters come before the vehicles.
    pairs = zip(decoded.indexes, decoded.readings, strict=True)
    first = nsmallest(at_most, pairs, key=itemgetter(0))
    where = f"{block.member}, line" if block.member else "line"
    return [f"{where} {line - block.lines_before:,}: {_told(reading)}" for line, reading in first]


def _told(reading: Reading) -> str:
    at = wire_time(reading.measured_at) if reading.measured_at else "now"
    if isinstance(reading, MeterReading):
        others = [("V", reading.voltage_v)]
        told = f"meter {reading.meter_id} at {at}: {reading.energy_ac_kwh:.10g} kWh AC"
    else:
        others = [("% charged", reading.soc_percent), ("°C", reading.battery_temp_celsius)]
        told = f"vehicle {reading.vehicle_id} at {at}: {reading.energy_dc_kwh:.10g} kWh DC"
    return ", ".join([told, *(f"{value:g} {unit}" for unit, value in others if value is not None)])


def wire_time(at: datetime) -> str:
    """Return an instant as in the API."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
