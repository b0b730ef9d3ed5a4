"""Gaps of a device that reports a minute: where they are looked for, and what they come to."""

from collections.abc import Iterator
from datetime import datetime

import pytest

from analytics.figures.energy import Span, Stretch, vehicle_energies
from tests.analytics.figures.field import DAY, HOUR, MINUTE, Field, every
from tests.conftest import NOON

START = NOON - DAY


def hours(number: int, minutes: int = 0) -> datetime:
    return START + number * HOUR + minutes * MINUTE


# From the reading before to the reading after: within an hour, from one into the next, and with two
# hours without any reading. Without the minute of the step that ends them: 29, 29 and 130 minutes.
WITHIN, ACROSS, LONG = (
    (hours(2, 10), hours(2, 40)),
    (hours(7, 50), hours(8, 20)),
    (hours(13, 59), hours(16, 10)),
)


def every_minute_but(*gaps: Stretch) -> Iterator[tuple[datetime, float]]:
    for at, kwh in every(MINUTE, START, NOON, 0.1, first_kwh=0.0):
        if not any(first < at < last for first, last in gaps):
            yield at, kwh


@pytest.fixture
def day(field: Field) -> Field:
    """V1 with three gaps while M1 reports throughout a day."""
    for device_id in ("M1", "V1"):
        field.device(device_id, interval_seconds=60.0)
    field.link("V1", "M1", START)
    field.delivers("M1", every(MINUTE, START, NOON, 0.12, first_kwh=0.0))
    field.delivers("V1", every_minute_but(WITHIN, ACROSS, LONG))
    return field


def unseen(starts_at: datetime, ends_at: datetime) -> list[Stretch]:
    span = Span("V1", starts_at, ends_at)
    return list(vehicle_energies([span])[span].unseen)


@pytest.mark.parametrize("field", ["hourly sums"], indirect=True)
def test_gaps_are_looked_for_around_the_hours_that_have_them(day):
    day.sum_up()

    assert unseen(START, NOON) == [
        (hours(1), hours(4)),
        (hours(6), hours(10)),
        (hours(13), hours(18)),
    ]
    assert unseen(hours(18), NOON) == []
    assert unseen(hours(2), hours(4)) == [(hours(2), hours(3, 59))]  # up to the last reading


def test_gaps_of_all_kinds_are_not_covered(day):
    figure = day.figure("V1", START, NOON)

    assert figure["coverage"] == {"vehicle": 0.869, "meter": 1.0}  # 1440 - 188 minutes


@pytest.mark.parametrize(
    ("late", "part"),
    [
        (hours(2, 20), 0.876),  # leaves a pause that steps reach over, and a gap of 19 minutes
        (hours(15, 0), 0.870),  # leaves gaps of 60 and 69 minutes
        (hours(20, 0), 0.869),  # is there already
    ],
)
def test_late_reading_cuts_a_gap_at_once(day, late, part):
    day.sum_up()
    day.delivers("V1", [(late, 0.1)])

    assert day.figure_at_once("V1", START, NOON)["coverage"]["vehicle"] == part


def test_link_that_cuts_a_gap_does_not_hide_it(day):
    day.gap("V1", hours(8, 0), hours(8, 10))

    # Of 1430 minutes, the link has 178 of the gaps.
    assert day.figure("V1", START, NOON)["coverage"]["vehicle"] == 0.876
