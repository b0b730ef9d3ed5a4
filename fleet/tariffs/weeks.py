"""A week of prices by quarter hour of local time, as plain values: rules, overlaps and gaps."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import time
from decimal import Decimal
from itertools import groupby
from typing import Final, NamedTuple

QUARTER_MINUTES: Final = 15
QUARTERS_PER_DAY: Final = 96
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_QUARTERS_PER_WEEK: Final = len(WEEKDAYS) * QUARTERS_PER_DAY

# The price of each quarter hour from Monday 00:00 on, or None where there is none.
Week = Sequence[Decimal | None]


class Rule(NamedTuple):
    """A price from one local time to another, on the weekdays on which it starts (Monday is 1).

    An end at or before the start is on the next day; so 00:00 is midnight at the end of the day.
    """

    weekdays: Sequence[int]
    start: time
    end: time
    price_per_kwh: Decimal

    def quarters(self) -> Iterator[int]:
        """Yield the quarter hours that the rule covers, counted from Monday 00:00."""
        first, last = quarter_of(self.start), quarter_of(self.end)
        if last <= first:
            last += QUARTERS_PER_DAY
        for weekday in self.weekdays:
            midnight = (weekday - 1) * QUARTERS_PER_DAY
            for quarter in range(first, last):
                yield (midnight + quarter) % _QUARTERS_PER_WEEK


class Overlap(NamedTuple):
    """Two rules, by their places, that cover the same quarter hour, and the first such one."""

    first: int
    second: int
    weekday: int
    start: time


class Gap(NamedTuple):
    """A time of these weekdays without a price; an end of 00:00 is the end of the day."""

    weekdays: tuple[int, ...]
    start: time
    end: time


class Run(NamedTuple):
    """Successive quarter hours of one day with the same price, counted from midnight."""

    first: int
    after: int
    price_per_kwh: Decimal | None

    @property
    def start(self) -> time:
        return time_of(self.first)

    @property
    def end(self) -> time:
        return time_of(self.after)


def quarter_of(local: time) -> int:
    """Return the quarter hour of the day that begins at `local`."""
    return (local.hour * 60 + local.minute) // QUARTER_MINUTES


def time_of(quarter: int) -> time:
    """Return when a quarter hour of the day begins; the end of the day is 00:00."""
    hour, of_hour = divmod(quarter % QUARTERS_PER_DAY, 4)
    return time(hour, of_hour * QUARTER_MINUTES)


def overlap(rules: Sequence[Rule]) -> Overlap | None:
    """Return the first two rules that cover the same quarter hour; None if no rules do."""
    covered: dict[int, int] = {}
    for place, rule in enumerate(rules):
        for quarter in rule.quarters():
            before = covered.setdefault(quarter, place)
            if before != place:
                weekday, of_day = divmod(quarter, QUARTERS_PER_DAY)
                return Overlap(before, place, weekday + 1, time_of(of_day))
    return None


def week_of(rules: Iterable[Rule], otherwise: Decimal | None) -> Week:
    """Return the prices of a week; `otherwise` applies where no rule does."""
    week: list[Decimal | None] = [otherwise] * _QUARTERS_PER_WEEK
    for rule in rules:
        for quarter in rule.quarters():
            week[quarter] = rule.price_per_kwh
    return week


def runs(week: Week, weekday: int) -> list[Run]:
    """Return a weekday (Monday is 1) as runs of equal price, which fill the day."""
    midnight = (weekday - 1) * QUARTERS_PER_DAY
    of_day = week[midnight : midnight + QUARTERS_PER_DAY]
    found, first = [], 0
    for price, quarters in groupby(of_day):
        after = first + len(list(quarters))
        found.append(Run(first, after, price))
        first = after
    return found


def gaps(week: Week) -> list[Gap]:
    """Return the times without a price; weekdays with the same times are together."""
    weekdays: dict[tuple[int, int], list[int]] = defaultdict(list)
    for weekday in range(1, len(WEEKDAYS) + 1):
        for run in runs(week, weekday):
            if run.price_per_kwh is None:
                weekdays[run.first, run.after].append(weekday)
    return [
        Gap(tuple(of_gap), time_of(first), time_of(after))
        for (first, after), of_gap in weekdays.items()
    ]
