"""What history holds of devices over pieces of time: blocks of readings, judged by `curve`.

A device with an interval register takes one statement. Of a counter, what is before and after
decides as well: as much of it as is needed is read.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, NamedTuple

from django.conf import settings

from analytics.figures.curve import Block, Judged, Register, Stretch, judge
from analytics.figures.window import InvalidWindow
from analytics.sql import STATEMENTS
from fleet.http.wire import instant
from fleet.models import EnergyRegister
from fleet.stores.statements import Statement, from_row

_HOUR: Final = timedelta(hours=1)
# How much of what is before and after is read, one after the other, until it decides; None: all.
_REACHES: Final = (3 * _HOUR, 24 * _HOUR, 15 * 24 * _HOUR, None)
_EVER: Final = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
_BEFORE, _INSIDE, _AFTER, _ALL_BEFORE = -1, 0, 1, -2
# The shortest reach of a step, in seconds: a longer pause is looked at.
_SHORTEST_REACH: Final = 900.0


class ArchivedHistory(InvalidWindow):
    """A window that includes history which is only in the archive."""

    def __init__(self, gone_until: datetime) -> None:
        super().__init__(
            "start", f"{instant(gone_until)} or later: earlier history is in the archive"
        )


class Source(NamedTuple):
    """The statements that read the history of one kind of device."""

    blocks: Statement
    readings: Statement
    pauses: Statement


METERS: Final = Source(
    Statement(STATEMENTS / "meter_blocks.sql"),
    Statement(STATEMENTS / "meter_readings.sql"),
    Statement(STATEMENTS / "meter_pauses.sql"),
)
VEHICLES: Final = Source(
    Statement(STATEMENTS / "vehicle_blocks.sql"),
    Statement(STATEMENTS / "vehicle_readings.sql"),
    Statement(STATEMENTS / "vehicle_pauses.sql"),
)


class Counted(NamedTuple):
    """What a piece has beside its curve."""

    readings: int = 0
    suspect_steps: int = 0
    hours_rolled_up: int = 0
    battery_temp_celsius_sum: float = 0.0
    battery_temp_readings: int = 0


class Held(NamedTuple):
    """A block of a device's history, and the piece that it lies in; None outside of all pieces.

    Of a block that is not plain, each reading has to be judged.
    """

    block: Block
    piece: int | None
    is_plain: bool = True


@dataclass
class History:
    """A device over pieces that follow each other, which `bounds` separate.

    `held` and `judged` are in time order, with the blocks before and after that it takes; `counted`
    is by piece.
    """

    register: Register
    bounds: Sequence[datetime]
    counted: list[Counted]
    held: list[Held] = field(default_factory=list)
    judged: Judged = field(default_factory=lambda: Judged([], [], [], 0))

    @property
    def reads(self) -> tuple[datetime, datetime] | None:
        """Return the span in which all readings that decide lie; None if it is still open."""
        first, last = self.bounds[0], self.bounds[-1]
        register = self.register
        if register.is_interval:
            reach = timedelta(seconds=max(register.reach_seconds, register.cadence_seconds or 0.0))
            return first - reach, last + reach
        if not _is_certain(self) or not _is_settled(self):
            return None
        return self.held[0].block.first_at, self.held[-1].block.last_at


class Run(NamedTuple):
    """Pieces of a device that follow each other, read apart from its other runs."""

    device_id: str
    number: int = 0


class _Asked(NamedTuple):
    run: Run
    starts_at: datetime
    ends_at: datetime
    role: int
    piece: int | None


def histories(
    source: Source,
    bounds: Mapping[Run, Sequence[datetime]],
    opened: Mapping[Run, set[int]] | None = None,
) -> dict[Run, History]:
    """Return the history of runs; that of a device which is not in the registry is absent.

    In the pieces that are `opened`, by their numbers, each reading is a block of its own.
    Errors: `ArchivedHistory`, if part of any piece is only in the archive.
    """
    found: dict[Run, History] = {}
    due = bounds
    for reach in _REACHES:
        loaded = _read(source, due, reach)
        if opened:
            blocks = {key: _joint_blocks(own, opened[key]) for key, own in loaded.items()}
            _open_blocks(source, loaded, blocks)
        counters = {key: own for key, own in loaded.items() if not own.register.is_interval}
        _open_unsure_blocks(source, counters)
        found |= {run: _history(own) for run, own in loaded.items()}
        due = {
            run: bounds[run] for run, own in counters.items() if not _is_decided(own, found[run])
        }
        if not due:
            break
    return found


# --- Reading ----------------------------------------------------------------------------------


class _Loaded(NamedTuple):
    """The rows of a run, as `Held`, with what is known of the ends of its history."""

    register: Register
    bounds: Sequence[datetime]
    counted: list[Counted]
    held: list[Held]
    has_more_before: bool
    has_more_after: bool


def _read(
    source: Source, bounds: Mapping[Run, Sequence[datetime]], reach: timedelta | None
) -> dict[Run, _Loaded]:
    """Return the blocks of runs, and of counters those around them as far as `reach`."""
    asked = [one for run, own in bounds.items() for one in _pieces(run, own, reach)]
    if not asked:
        return {}
    inside = [one for one in asked if one.role == _INSIDE]
    rows = source.blocks.rows(
        {
            "device_ids": [one.run.device_id for one in asked],
            "starts_at": [one.starts_at for one in asked],
            "ends_at": [one.ends_at for one in asked],
            "roles": [one.role for one in asked],
            "first": min(one.starts_at for one in asked),
            "last": max(one.ends_at for one in asked),
            "window_starts_at": min(one.starts_at for one in inside),
            "window_ends_at": max(one.ends_at for one in inside),
            "default_max_power_kw": settings.DEFAULT_MAX_POWER_KW,
        }
    )
    if rows and rows[0].gone_until:
        raise ArchivedHistory(rows[0].gone_until)
    of_runs: dict[Run, list[tuple[_Asked, Any]]] = defaultdict(list)
    for row in rows:
        one = asked[row.number - 1]
        of_runs[one.run].append((one, row))
    return {run: _loaded(bounds[run], of_run) for run, of_run in of_runs.items()}


def _pieces(run: Run, bounds: Sequence[datetime], reach: timedelta | None) -> Iterable[_Asked]:
    first, last = bounds[0], bounds[-1]
    if reach is None:
        yield _Asked(run, _EVER[0], first, _ALL_BEFORE, None)
    else:
        yield _Asked(run, _hour_of(first) - reach, first, _BEFORE, None)
    for number, (starts_at, ends_at) in enumerate(pairwise(bounds)):
        yield _Asked(run, starts_at, ends_at, _INSIDE, number)
    until = _EVER[1] if reach is None else _hour_of(last) + reach
    yield _Asked(run, last, until, _AFTER, None)


def _hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _loaded(bounds: Sequence[datetime], rows: Sequence[tuple[_Asked, Any]]) -> _Loaded:
    row = rows[0][1]
    register = Register(
        EnergyRegister(row.energy_register),
        row.max_power_kw,
        row.rolls_over_at_kwh,
        row.cadence_seconds,
        row.reach_seconds,
    )
    loaded = _Loaded(
        register,
        bounds,
        counted=[Counted()] * (len(bounds) - 1),
        held=[],
        has_more_before=any(row.is_beyond and one.role == _BEFORE for one, row in rows),
        has_more_after=any(row.is_beyond and one.role == _AFTER for one, row in rows),
    )
    held = []
    for one, row in rows:
        if not row.readings:
            continue
        if one.piece is not None:
            loaded.counted[one.piece] = _with(loaded.counted[one.piece], row)
        held.append(Held(_block(register, row), one.piece, row.is_plain))
    held.sort(key=lambda each: each.block.first_at)
    if register.is_interval and register.max_power_kw is None:
        held = _joined(held)
    loaded.held.extend(held)
    return loaded


def _block(register: Register, row: Any) -> Block:
    energy_kwh = row.energy_kwh - row.first_kwh if register.is_interval else row.energy_kwh
    return Block(
        row.first_measured_at,
        row.first_kwh,
        row.last_measured_at,
        row.last_kwh,
        energy_kwh,
        row.readings,
        row.rises,
        row.last_rose_at,
        _unseen(row),
    )


def _unseen(row: Any) -> Sequence[Stretch]:
    first_at, last_at = row.first_measured_at, row.last_measured_at
    if row.is_gapless:
        return ()
    if row.may_have_gaps is None:
        return ((first_at, last_at),)
    return tuple(
        (max(each.lower, first_at), min(each.upper, last_at)) for each in row.may_have_gaps
    )


def _with(counted: Counted, row: Any) -> Counted:
    more = from_row(Counted, row)
    return Counted(
        readings=counted.readings + more.readings,
        suspect_steps=counted.suspect_steps + more.suspect_steps,
        hours_rolled_up=counted.hours_rolled_up + more.hours_rolled_up,
        battery_temp_celsius_sum=counted.battery_temp_celsius_sum + more.battery_temp_celsius_sum,
        battery_temp_readings=counted.battery_temp_readings + more.battery_temp_readings,
    )


def _joined(held: Iterable[Held]) -> list[Held]:
    """Join the blocks of each piece of an interval register without a maximum power.

    Nothing between them has to be judged; hours that are missing leave blocks that overlap.
    """
    joined: list[Held] = []
    for each in held:
        if not joined or each.piece is None or joined[-1].piece != each.piece:
            joined.append(each)
            continue
        before, block = joined[-1].block, each.block
        whole = before._replace(
            last_at=max(before.last_at, block.last_at),
            energy_kwh=before.energy_kwh + block.first_kwh + block.energy_kwh,
            readings=before.readings + block.readings,
            unseen=_joint_unseen(before, block),
        )
        joined[-1] = joined[-1]._replace(block=whole)
    return joined


def _joint_unseen(before: Block, block: Block) -> Sequence[Stretch]:
    pause = (block.first_at - before.last_at).total_seconds()
    if pause < 0:  # in hours that are missing in the block before, which has not seen them
        return before.unseen
    if pause <= _SHORTEST_REACH:
        return (*before.unseen, *block.unseen)
    return (*before.unseen, (before.last_at, block.first_at), *block.unseen)


def _history(loaded: _Loaded) -> History:
    blocks = [each.block for each in loaded.held]
    return History(
        loaded.register, loaded.bounds, loaded.counted, loaded.held, judge(loaded.register, blocks)
    )


# --- Judging counters -------------------------------------------------------------------------


def _open_unsure_blocks(source: Source, open_: dict[Run, _Loaded]) -> None:
    """Replace blocks by their readings until all can be judged."""
    due = {
        run: {number for number, each in enumerate(loaded.held) if not each.is_plain}
        for run, loaded in open_.items()
    }
    while True:
        _open_blocks(source, open_, {key: numbers for key, numbers in due.items() if numbers})
        due = {}
        for run, loaded in open_.items():
            judged = judge(loaded.register, [each.block for each in loaded.held])
            opened = {n for n in judged.opened if loaded.held[n].block.readings > 1}
            if opened:
                due[run] = opened
        if not due:
            return


def _open_blocks(
    source: Source, open_: dict[Run, _Loaded], due: Mapping[Run, Iterable[int]]
) -> None:
    """Replace the numbered blocks of runs by their readings; one statement."""
    asked = [(run, number) for run, numbers in due.items() for number in numbers]
    if not asked:
        return
    spans = [open_[run].held[number].block for run, number in asked]
    rows = source.readings.rows(
        {
            "device_ids": [run.device_id for run, _ in asked],
            "starts_at": [block.first_at for block in spans],
            "ends_at": [block.last_at + timedelta(microseconds=1) for block in spans],
            "first": min(block.first_at for block in spans),
            "last": max(block.last_at for block in spans) + timedelta(microseconds=1),
        }
    )
    readings: dict[tuple[Run, int], list[Block]] = defaultdict(list)
    for row in rows:
        readings[asked[row.number - 1]].append(Block.of(row.measured_at, row.kwh))
    for run in due:
        loaded = open_[run]
        loaded.held[:] = [
            each
            for number, held in enumerate(loaded.held)
            for each in (
                [Held(block, held.piece) for block in readings[run, number]]
                if (run, number) in readings
                else [held]
            )
        ]


def _joint_blocks(loaded: _Loaded, pieces: set[int]) -> list[int]:
    return [
        number
        for number, each in enumerate(loaded.held)
        if each.piece in pieces and each.block.readings > 1
    ]


def _is_decided(loaded: _Loaded, history: History) -> bool:
    """Return whether what is before and after the blocks that were read changes nothing."""
    return (not loaded.has_more_before or _is_certain(history)) and (
        not loaded.has_more_after or _is_settled(history)
    )


def _is_certain(history: History) -> bool:
    """Return whether nothing before the blocks changes what is counted from the first piece on."""
    first = history.bounds[0]
    begins = (n for n, each in enumerate(history.held) if each.block.last_at >= first)
    return history.judged.certain_from <= next(begins, len(history.held))


def _is_settled(history: History) -> bool:
    """Return whether nothing after the blocks changes what is counted up to the last piece.

    That is so once counting went on from a reading after it, and the value changed again.
    """
    last = history.bounds[-1]
    blocks = [each.block for each in history.held]
    return any(
        each.first_at >= last
        and not history.judged.is_ignored[number]
        and any(other.last_kwh != each.first_kwh for other in blocks[number:])
        for number, each in enumerate(blocks)
    )
