"""The rules by which the readings of a device become a curve of energy over time.

Each reading adds a step: an energy over the interval up to its timestamp, spread evenly. This is
the only place that judges readings; `sql/curve.sql` recognises stretches of history that need no
judgement, which come as one block. The rules and examples are in `docs/energy.md`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fleet.models import EnergyRegister

# A power that is a tenth above the maximum is plausible; so is what a clock a minute off yields.
_TOLERANCE: Final = 1.1
_CLOCK_SECONDS: Final = 60.0
# After so many rises in a row, the readings before decide nothing any more.
_RISES_TO_BE_CERTAIN: Final = 3
_RESET_BELOW: Final = 0.1

# Two instants: from the first up to the second.
Stretch = tuple[datetime, datetime]


class Register(NamedTuple):
    """How a device's readings are counted; `cadence_seconds` is null until it is known.

    Steps of an interval register reach back to the reading before, if that is at most
    `reach_seconds` earlier.
    """

    kind: EnergyRegister
    max_power_kw: float | None
    rolls_over_at_kwh: float | None
    cadence_seconds: float | None
    reach_seconds: float

    @property
    def is_interval(self) -> bool:
        return self.kind == EnergyRegister.INTERVAL

    def is_plausible(self, energy_kwh: float, seconds: float | None) -> bool:
        """Return whether a device may take `energy_kwh` in that time; null is an unknown time."""
        if self.max_power_kw is None or seconds is None:
            return True
        hours = (seconds + _CLOCK_SECONDS) / 3600
        return energy_kwh <= _TOLERANCE * self.max_power_kw * hours


class Block(NamedTuple):
    """Readings in a row, of which only the first has to be judged.

    `energy_kwh` is that of the steps after the first reading. Of a counter, no reading is lower
    than the one before, and each of the `rises` is plausible. A single reading is a block too.
    Only in the `unseen` stretches, in time order, may a pause be longer than a step reaches.
    """

    first_at: datetime
    first_kwh: float
    last_at: datetime
    last_kwh: float
    energy_kwh: float = 0.0
    readings: int = 1
    rises: int = 0
    last_rose_at: datetime | None = None
    unseen: Sequence[Stretch] = ()

    @classmethod
    def of(cls, at: datetime, kwh: float) -> "Block":
        """Return the block of a single reading."""
        return cls(at, kwh, at, kwh)


class Step(NamedTuple):
    """An energy over an interval; null if it is suspect. If both ends are one, it is an instant."""

    starts_at: datetime
    ends_at: datetime
    energy_kwh: float | None


class Judged(NamedTuple):
    """The step into each block; none into one that is ignored, or that nothing is before.

    `opened` are the blocks whose readings have to be judged one by one first. `certain_from` is the
    first block whose step depends on nothing before the blocks.
    """

    steps: list[Step | None]
    is_ignored: list[bool]
    opened: list[int]
    certain_from: int


def judge(register: Register, blocks: Sequence[Block]) -> Judged:
    """Return the step into each of `blocks`, which are in time order."""
    if register.is_interval:
        return Judged(_intervals(register, blocks), [False] * len(blocks), [], 1)
    return _Counting(register, blocks).judged()


def _intervals(register: Register, blocks: Sequence[Block]) -> list[Step | None]:
    steps: list[Step | None] = []
    before_at: datetime | None = None
    for block in blocks:
        starts_at, seconds = _interval(register, before_at, block.first_at)
        energy_kwh = block.first_kwh if register.is_plausible(block.first_kwh, seconds) else None
        steps.append(Step(starts_at, block.first_at, energy_kwh))
        before_at = block.last_at
    return steps


def _interval(
    register: Register, before_at: datetime | None, at: datetime
) -> tuple[datetime, float | None]:
    """Return when the interval of a reading begins, and how long it is if that is known."""
    if before_at is not None:
        pause = (at - before_at).total_seconds()
        if pause <= register.reach_seconds:
            return before_at, pause
    if register.cadence_seconds is not None:
        return at - timedelta(seconds=register.cadence_seconds), register.cadence_seconds
    return at, None


class _Counting:
    """Counters, block by block; `base` is the value that counting goes on from."""

    def __init__(self, register: Register, blocks: Sequence[Block]) -> None:
        self._register = register
        self._blocks = blocks
        self._next_values = _next_values(blocks)
        self._steps: list[Step | None] = []
        self._is_ignored: list[bool] = []
        self._opened = [
            number
            for number, (block, next_kwh) in enumerate(zip(blocks, self._next_values, strict=True))
            # Its last value may be a leap.
            if block.rises and next_kwh is not None and block.first_kwh <= next_kwh < block.last_kwh
        ]

    def judged(self) -> Judged:
        certain_from = _certain_from(self._blocks)
        for number, block in enumerate(self._blocks):
            if number == 0:
                self._begin(block)
            else:
                self._judge(number, block)
        return Judged(self._steps, self._is_ignored, sorted(set(self._opened)), certain_from)

    def _begin(self, block: Block) -> None:
        self._rose_at = block.first_at
        self._go_on_from(block)
        self._steps.append(None)
        self._is_ignored.append(False)

    def _go_on_from(self, block: Block) -> None:
        self._base_kwh, self._base_at = block.last_kwh, block.last_at
        if block.last_rose_at is not None:
            self._rose_at = block.last_rose_at

    def _judge(self, number: int, block: Block) -> None:
        """Apply the rules of counters, as numbered in docs/energy.md, to a first reading."""
        kwh, base_kwh = block.first_kwh, self._base_kwh
        # Of a block that rises, the next value is only known to be higher.
        next_kwh = block.last_kwh if block.rises else self._next_values[number]
        seconds = (block.first_at - self._rose_at).total_seconds()
        is_plausible = self._register.is_plausible(kwh - base_kwh, seconds)
        if (
            next_kwh is not None
            and base_kwh <= next_kwh < kwh
            and next_kwh - base_kwh < kwh - next_kwh
        ):  # 1
            self._ignore(number, block, is_suspect=not is_plausible)
        elif kwh >= base_kwh:
            if is_plausible:  # 2
                self._count(block, kwh - base_kwh)
            elif next_kwh is not None and next_kwh >= kwh:  # 3
                self._rose_at = block.first_at
                self._count(block, None)
            else:
                self._ignore(number, block, is_suspect=True)
        else:
            self._judge_drop(number, block, next_kwh, seconds)

    def _judge_drop(
        self, number: int, block: Block, next_kwh: float | None, seconds: float
    ) -> None:
        register, kwh, base_kwh = self._register, block.first_kwh, self._base_kwh
        turned_over_kwh = (register.rolls_over_at_kwh or 0.0) + kwh - base_kwh
        if register.kind == EnergyRegister.SESSION_COUNTER:  # 4
            self._count(block, kwh if register.is_plausible(kwh, seconds) else None)
        elif (
            register.rolls_over_at_kwh is not None
            and turned_over_kwh >= 0
            and register.is_plausible(turned_over_kwh, seconds)
        ):  # 5
            self._count(block, turned_over_kwh)
        elif block.rises:
            self._opened.append(number)
            self._count(block, 0.0)
        elif next_kwh is not None and next_kwh >= base_kwh:  # 6
            self._ignore(number, block, is_suspect=False)
        elif kwh <= base_kwh * _RESET_BELOW:  # 7
            self._count(block, kwh if register.is_plausible(kwh, seconds) else None)
        else:  # 8
            rose_at = self._rose_at
            self._count(block, 0.0)
            if block.last_rose_at is None:
                self._rose_at = rose_at

    def _count(self, block: Block, energy_kwh: float | None) -> None:
        self._steps.append(Step(self._base_at, block.first_at, energy_kwh))
        self._is_ignored.append(False)
        if energy_kwh:
            self._rose_at = block.first_at
        self._go_on_from(block)

    def _ignore(self, number: int, block: Block, *, is_suspect: bool) -> None:
        # The same value may be plausible later on: as a rise, or as a register that rolled over.
        may_change = is_suspect or self._register.rolls_over_at_kwh is not None
        if block.readings > 1 and (block.rises or may_change):
            self._opened.append(number)
        at = block.first_at
        self._steps.append(Step(at, at, None) if is_suspect else None)
        self._is_ignored.append(True)


def _next_values(blocks: Sequence[Block]) -> list[float | None]:
    """Return for each block the next value after it that is not its last one.

    Of a block that rises, it is only known to be higher than its first value.
    """
    values: list[float | None] = [None] * len(blocks)
    for number in range(len(blocks) - 2, -1, -1):
        after = blocks[number + 1]
        if after.first_kwh != blocks[number].last_kwh:
            values[number] = after.first_kwh
        else:
            values[number] = after.last_kwh if after.rises else values[number + 1]
    return values


def _certain_from(blocks: Sequence[Block]) -> int:
    """Return the first block with so many rises before it that what is before them does not matter.

    Of values w < x < y < z in a row, y is counted whatever was before w, and since it is a rise.
    """
    rises = 0
    for number, block in enumerate(blocks):
        if number:
            before_kwh = blocks[number - 1].last_kwh
            if block.first_kwh < before_kwh:
                rises = 0
            elif block.first_kwh > before_kwh:
                rises += 1
        if rises >= _RISES_TO_BE_CERTAIN:
            return number
        rises += block.rises
        if rises >= _RISES_TO_BE_CERTAIN:
            return number + 1
    return len(blocks)
