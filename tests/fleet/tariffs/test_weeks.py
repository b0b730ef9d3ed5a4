"""Weeks of prices: which quarter hours a rule covers, overlaps and gaps."""

from datetime import time
from decimal import Decimal

from fleet.tariffs.weeks import Gap, Overlap, Rule, gaps, overlap, runs, week_of

WEEKDAYS = (1, 2, 3, 4, 5)
DAY = Rule(WEEKDAYS, time(6), time(22), Decimal("0.30"))
NIGHT = Rule(WEEKDAYS, time(22), time(6), Decimal("0.20"))


def test_rule_over_midnight_ends_on_the_next_day():
    week = week_of([NIGHT], None)

    friday, saturday, monday = runs(week, 5), runs(week, 6), runs(week, 1)
    assert [(run.start, run.end, run.price_per_kwh) for run in friday] == [
        (time(0), time(6), Decimal("0.20")),
        (time(6), time(22), None),
        (time(22), time(0), Decimal("0.20")),
    ]
    assert [(run.start, run.end) for run in saturday if run.price_per_kwh] == [(time(0), time(6))]
    # Sunday has no rule, so Monday begins without a price.
    assert [(run.start, run.end) for run in monday if run.price_per_kwh] == [(time(22), time(0))]


def test_rule_of_sunday_night_ends_on_monday():
    week = week_of([Rule([7], time(23, 45), time(0, 15), Decimal(1))], Decimal(2))

    assert runs(week, 1)[0][:2] == (0, 1)
    assert runs(week, 7)[-1][:2] == (95, 96)


def test_rule_from_midnight_to_midnight_is_the_whole_day():
    assert runs(week_of([Rule([3], time(0), time(0), Decimal(1))], None), 3) == [
        (0, 96, Decimal(1))
    ]


def test_overlap_names_both_rules_and_the_first_quarter_hour():
    evening = Rule([5, 6], time(21, 45), time(23), Decimal("0.40"))

    assert overlap([NIGHT, DAY]) is None
    assert overlap([DAY, NIGHT, evening]) == Overlap(0, 2, 5, time(21, 45))
    assert overlap([NIGHT, Rule([6], time(5, 45), time(7), Decimal(1))]) == Overlap(
        0, 1, 6, time(5, 45)
    )


def test_gaps_are_the_times_without_a_price_by_weekdays():
    assert gaps(week_of([DAY, NIGHT], Decimal("0.25"))) == []
    assert gaps(week_of([DAY, NIGHT], None)) == [
        Gap((1,), time(0), time(6)),
        Gap((6,), time(6), time(0)),
        Gap((7,), time(0), time(0)),
    ]
    assert gaps(week_of([], None)) == [Gap((1, 2, 3, 4, 5, 6, 7), time(0), time(0))]
