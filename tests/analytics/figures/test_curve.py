"""Readings judged one by one and in blocks: the same steps, whatever they are cut into.

`CURVE_EXAMPLES=20000 pytest tests/analytics/figures/test_curve.py` tries more examples.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.figures.curve import Block, Register, Step, judge
from fleet.models import EnergyRegister
from tests.conftest import NOON

many = settings(max_examples=int(os.environ.get("CURVE_EXAMPLES", "300")), database=None)

# Exact in binary: figures that should be the same are equal.
VALUES = [0.0, 0.5, 1.0, 2.0, 5.0, 9.5, 10.0, 50.0, 55.0, 99.5, 100.0, 101.0, 500.0, 1000.0]
MOVES = st.one_of(
    st.just(0.0).map(lambda rise: ("by", rise)),
    st.sampled_from([0.125, 0.5, 1.0, 2.0, 5.0]).map(lambda rise: ("by", rise)),
    st.sampled_from([-0.125, -1.0, -5.0, 40.0, 900.0]).map(lambda change: ("by", change)),
    st.sampled_from(VALUES).map(lambda value: ("to", value)),
    st.integers(1, 3).map(lambda readings: ("back", readings)),
)
PAUSES_SECONDS = st.sampled_from([10, 60, 60, 600, 3600, 5 * 3600, 24 * 3600])
COUNTERS = st.builds(
    Register,
    kind=st.sampled_from([EnergyRegister.COUNTER, EnergyRegister.SESSION_COUNTER]),
    max_power_kw=st.sampled_from([0.5, 11.0, 400.0]),
    rolls_over_at_kwh=st.sampled_from([None, None, 100.0, 1000.0]),
    cadence_seconds=st.just(None),
    reach_seconds=st.just(4500.0),
)


class Reading(NamedTuple):
    at: datetime
    kwh: float


@st.composite
def histories(draw: st.DrawFn, ends_at: datetime | None = None) -> list[Reading]:
    """Return readings that rise, stand still, dip, leap and start again; up to `ends_at`."""
    moves = draw(st.lists(st.tuples(MOVES, PAUSES_SECONDS), min_size=1, max_size=25))
    values = [draw(st.sampled_from(VALUES))]
    at, times = NOON, [NOON]
    for (kind, number), pause in moves:
        if kind == "back":
            values.append(values[-number - 1] if number < len(values) else values[0])
        else:
            values.append(max(0.0, values[-1] + number if kind == "by" else number))
        at += timedelta(seconds=pause)
        times.append(at)
    shift = (ends_at or at) - at
    return [Reading(at + shift, kwh) for at, kwh in zip(times, values, strict=True)]


def singles(readings: Sequence[Reading]) -> list[Block]:
    return [Block.of(*reading) for reading in readings]


def block_of(readings: Sequence[Reading]) -> Block:
    rose = [
        after for before, after in pairwise(readings)
        if after.kwh > before.kwh
    ]  # fmt: skip
    return Block(
        *readings[0],
        *readings[-1],
        energy_kwh=readings[-1].kwh - readings[0].kwh,
        readings=len(readings),
        rises=len(rose),
        last_rose_at=rose[-1].at if rose else None,
    )


def goes_on(register: Register, before: Reading, after: Reading) -> bool:
    """Return whether both may be in one block: no fall, and a plausible rise."""
    seconds = (after.at - before.at).total_seconds()
    rise_kwh = after.kwh - before.kwh
    return rise_kwh >= 0 and register.is_plausible(rise_kwh, seconds)


@st.composite
def stretches(draw: st.DrawFn, register: Register, readings: list[Reading]) -> list[list[Reading]]:
    """Cut readings into stretches that are blocks: where they have to be cut, and anywhere else."""
    cut = [readings[:1]]
    for before, after in pairwise(readings):
        if goes_on(register, before, after) and not draw(st.booleans()):
            cut[-1].append(after)
        else:
            cut.append([after])
    return cut


def opened(register: Register, cut: list[list[Reading]]) -> list[list[Reading]]:
    """Return the stretches once those have been taken apart that have to be."""
    while True:
        blocks = [block_of(stretch) for stretch in cut]
        to_open = {n for n in judge(register, blocks).opened if len(cut[n]) > 1}
        if not to_open:
            return cut
        cut = [
            part
            for n, stretch in enumerate(cut)
            for part in ([[one] for one in stretch] if n in to_open else [stretch])
        ]


def step_by_step(
    register: Register, cut: list[list[Reading]]
) -> Iterator[tuple[Reading, Step | None, bool]]:
    """Yield each reading with the step into it, and whether it is ignored."""
    judged = judge(register, [block_of(stretch) for stretch in cut])
    for stretch, step, is_ignored in zip(cut, judged.steps, judged.is_ignored, strict=True):
        yield stretch[0], step, is_ignored
        for before, after in pairwise(stretch):
            inner = None if is_ignored else Step(before.at, after.at, after.kwh - before.kwh)
            yield after, inner, is_ignored


@many
@given(st.data(), COUNTERS, histories())
def test_blocks_of_a_counter_come_to_the_same_as_its_readings(data, register, readings):
    one_by_one = judge(register, singles(readings))
    cut = opened(register, data.draw(stretches(register, readings)))

    in_blocks = list(step_by_step(register, cut))

    assert [reading for reading, _, _ in in_blocks] == readings
    assert [is_ignored for _, _, is_ignored in in_blocks] == one_by_one.is_ignored
    assert [step for _, step, _ in in_blocks] == one_by_one.steps


@many
@given(COUNTERS, histories(ends_at=NOON - timedelta(seconds=10)), histories())
def test_what_is_certain_does_not_depend_on_what_was_before(register, earlier, readings):
    alone = judge(register, singles(readings))
    joined = judge(register, singles(earlier + readings))

    first = len(earlier) + alone.certain_from
    assert joined.steps[first:] == alone.steps[alone.certain_from :]
    assert joined.is_ignored[first:] == alone.is_ignored[alone.certain_from :]


@many
@given(st.data(), COUNTERS, histories(ends_at=NOON - timedelta(seconds=10)), histories())
def test_what_is_certain_of_blocks_does_not_depend_on_what_was_before(
    data, register, earlier, readings
):
    cut = opened(register, data.draw(stretches(register, readings)))
    blocks = [block_of(stretch) for stretch in cut]
    alone = judge(register, blocks)
    joined = judge(register, singles(earlier) + blocks)

    first = len(earlier) + alone.certain_from
    assert joined.steps[first:] == alone.steps[alone.certain_from :]
    assert joined.is_ignored[first:] == alone.is_ignored[alone.certain_from :]
    assert all(
        number < first or blocks[number - len(earlier)].readings == 1 for number in joined.opened
    )


def reads(*values: float) -> list[Block]:
    return singles(
        [Reading(NOON + number * timedelta(hours=1), kwh) for number, kwh in enumerate(values)]
    )


COUNTER = Register(EnergyRegister.COUNTER, 400.0, None, None, 4500.0)


def test_three_rises_in_a_row_make_certain():
    assert judge(COUNTER, reads(1, 2, 3, 4, 5)).certain_from == 3
    assert judge(COUNTER, reads(1, 2, 3, 3, 4, 5)).certain_from == 4
    assert judge(COUNTER, reads(1, 2, 3, 2, 3, 4, 5)).certain_from == 6
    assert judge(COUNTER, reads(3, 3, 3)).certain_from == 3  # none is


def test_block_whose_last_value_may_be_a_leap_has_to_be_opened():
    readings = [block.first_kwh for block in reads(100, 101, 150, 102)]
    block = block_of([Reading(NOON + n * timedelta(hours=1), readings[n]) for n in range(3)])
    after = Block.of(NOON + timedelta(hours=3), readings[3])

    assert judge(COUNTER, [block, after]).opened == [0]
    assert judge(COUNTER, [block, after._replace(first_kwh=160.0, last_kwh=160.0)]).opened == []


def test_interval_goes_on_from_the_last_reading_of_the_block_before():
    interval = Register(EnergyRegister.INTERVAL, 11.0, None, None, 4500.0)
    block = block_of([Reading(NOON, 1.0), Reading(NOON + timedelta(minutes=30), 1.0)])
    after = [Block.of(NOON + timedelta(minutes=minutes), 9.0) for minutes in (59, 90)]

    judged = judge(interval, [block, *after])

    # 1.1 · 11 kW · 30 min are 6.05 kWh, 32 min 6.45.
    assert judged.steps == [
        Step(NOON, NOON, 1.0),
        Step(block.last_at, after[0].first_at, None),
        Step(after[0].first_at, after[1].first_at, None),
    ]
    assert (judged.opened, judged.certain_from) == ([], 1)


def test_dip_that_lasts_may_be_a_roll_over_later():
    rolls_over = COUNTER._replace(max_power_kw=11.0, rolls_over_at_kwh=100.0)
    seconds = {0: 0.0, 10: 0.5, 20: 1.0, 30: 0.0, 24 * 3600: 0.0, 24 * 3600 + 10: 0.5}
    readings = [Reading(NOON + timedelta(seconds=after), kwh) for after, kwh in seconds.items()]

    one_by_one = judge(rolls_over, singles(readings))
    cut = opened(rolls_over, [[one] for one in readings[:3]] + [readings[3:5], readings[5:]])

    assert one_by_one.is_ignored == [False, False, True, True, False, True]
    assert [is_ignored for _, _, is_ignored in step_by_step(rolls_over, cut)] == [
        *one_by_one.is_ignored
    ]
