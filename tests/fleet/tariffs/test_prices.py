"""The price in force at any time, in the time zone of the site, where clocks change too."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.tariffs.models import SeriesPrice, Tariff, TariffRule
from fleet.tariffs.prices import (
    QUARTER,
    PlannedTariff,
    PriceStretch,
    price_stretches,
    site_prices,
)
from fleet.tariffs.weeks import QUARTERS_PER_DAY, Rule, quarter_of, week_of
from tests.factories import SiteFactory

ALL_DAYS = (1, 2, 3, 4, 5, 6, 7)
DAY, NIGHT = Decimal("0.30"), Decimal("0.20")
# 0.20 from 22:00 to 06:00 local time, 0.30 else.
NIGHT_RULE = Rule(ALL_DAYS, time(22), time(6), NIGHT)
DAY_AND_NIGHT = PlannedTariff(None, week_of([NIGHT_RULE], DAY))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def laid(zone: str, start: str, end: str, *tariffs: PlannedTariff, series=()) -> list[tuple]:
    """Return each stretch as the text of its bounds in UTC, and its price."""
    found = price_stretches(tariffs, series, ZoneInfo(zone), utc(start), utc(end))
    return [
        (f"{stretch.starts_at:%d %H:%M}", f"{stretch.ends_at:%d %H:%M}", stretch.price_per_kwh)
        for stretch in found
    ]


def test_price_changes_at_22_local_time():
    # Berlin is two hours ahead of UTC in July.
    assert laid("Europe/Berlin", "2026-07-15 18:00", "2026-07-16 06:00", DAY_AND_NIGHT) == [
        ("15 18:00", "15 20:00", DAY),
        ("15 20:00", "16 04:00", NIGHT),
        ("16 04:00", "16 06:00", DAY),
    ]


@pytest.mark.parametrize(
    ("zone", "night_begins", "night_ends"),
    [("Asia/Kolkata", "15 16:30", "16 00:30"), ("Pacific/Chatham", "15 09:15", "15 17:15")],
)
def test_zones_that_are_not_whole_hours_ahead(zone, night_begins, night_ends):
    found = laid(zone, "2026-07-15 09:00", "2026-07-16 09:00", DAY_AND_NIGHT)

    assert (night_begins, night_ends, NIGHT) in found


def test_hour_that_comes_twice_has_the_price_of_the_rule_twice():
    # On 25 October 2026, 03:00 becomes 02:00 in Berlin, at 01:00 UTC.
    hour = PlannedTariff(None, week_of([Rule([7], time(2), time(3), NIGHT)], DAY))

    assert laid("Europe/Berlin", "2026-10-24 22:00", "2026-10-25 04:00", hour) == [
        ("24 22:00", "25 00:00", DAY),
        ("25 00:00", "25 02:00", NIGHT),
        ("25 02:00", "25 04:00", DAY),
    ]


def test_hour_that_is_skipped_has_no_price():
    # On 29 March 2026, 02:00 becomes 03:00 in Berlin, at 01:00 UTC.
    hour = PlannedTariff(None, week_of([Rule([7], time(2), time(3), NIGHT)], DAY))
    until_half_past = PlannedTariff(
        None, week_of([Rule([7], time(2, 30), time(3, 30), NIGHT)], DAY)
    )

    assert laid("Europe/Berlin", "2026-03-29 00:00", "2026-03-29 04:00", hour) == [
        ("29 00:00", "29 04:00", DAY)
    ]
    assert laid("Europe/Berlin", "2026-03-29 00:00", "2026-03-29 04:00", until_half_past) == [
        ("29 00:00", "29 01:00", DAY),
        ("29 01:00", "29 01:30", NIGHT),
        ("29 01:30", "29 04:00", DAY),
    ]


def test_midnight_that_is_skipped_begins_the_day_later():
    # On 24 April 2026, 00:00 becomes 01:00 in Cairo, at 22:00 UTC.
    new = PlannedTariff(date(2026, 4, 24), week_of([], NIGHT))
    old = PlannedTariff(None, week_of([], DAY))

    assert laid("Africa/Cairo", "2026-04-23 20:00", "2026-04-24 00:00", old, new) == [
        ("23 20:00", "23 22:00", DAY),
        ("23 22:00", "24 00:00", NIGHT),
    ]


def test_tariff_begins_at_local_midnight_and_ends_the_one_before():
    fixed = PlannedTariff(date(2026, 7, 1), week_of([], DAY))
    later = PlannedTariff(date(2026, 8, 1), week_of([], NIGHT))

    assert laid("Asia/Kolkata", "2026-06-30 00:00", "2026-08-02 00:00", fixed, later) == [
        ("30 00:00", "30 18:30", None),
        ("30 18:30", "31 18:30", DAY),
        ("31 18:30", "02 00:00", NIGHT),
    ]


def test_rule_of_the_night_before_does_not_reach_into_the_next_tariff():
    fixed = PlannedTariff(date(2026, 7, 16), week_of([], DAY))

    assert laid("UTC", "2026-07-15 21:00", "2026-07-16 06:00", DAY_AND_NIGHT, fixed) == [
        ("15 21:00", "15 22:00", DAY),
        ("15 22:00", "16 00:00", NIGHT),
        ("16 00:00", "16 06:00", DAY),
    ]


def test_fixed_tariff_is_one_stretch_and_no_tariff_one_without_a_price():
    fixed = PlannedTariff(None, week_of([], DAY))
    span = ("2025-07-15 00:00", "2026-07-15 00:00")

    assert laid("Europe/Berlin", *span, fixed) == [("15 00:00", "15 00:00", DAY)]
    assert laid("Europe/Berlin", *span) == [("15 00:00", "15 00:00", None)]
    assert laid("Europe/Berlin", span[0], span[0], fixed) == []


def test_series_has_gaps_and_counts_only_while_it_is_in_force():
    series = [
        PriceStretch(utc("2026-07-15 00:00"), utc("2026-07-15 01:00"), DAY),
        PriceStretch(utc("2026-07-15 02:00"), utc("2026-07-16 02:00"), NIGHT),
    ]
    tariff = PlannedTariff(None, None)
    fixed = PlannedTariff(date(2026, 7, 16), week_of([], DAY))

    assert laid("UTC", "2026-07-15 00:15", "2026-07-16 01:00", tariff, fixed, series=series) == [
        ("15 00:15", "15 01:00", DAY),
        ("15 01:00", "15 02:00", None),
        ("15 02:00", "16 00:00", NIGHT),
        ("16 00:00", "16 01:00", DAY),
    ]


# --- Against the plainest code ----------------------------------------------------------------


def plain_price(tariffs, zone: ZoneInfo, instant: datetime) -> Decimal | None:
    """Return the price of a quarter hour by looking at a clock on the wall."""
    local = instant.astimezone(zone)
    in_force = [
        tariff
        for tariff in tariffs
        if tariff.valid_from is None or tariff.valid_from <= local.date()
    ]
    if not in_force:
        return None
    of_week = (local.isoweekday() - 1) * QUARTERS_PER_DAY + quarter_of(local.time())
    return in_force[-1].week[of_week]


PRICES = st.sampled_from([None, Decimal("-0.05"), Decimal("0.1"), Decimal("0.3")])
QUARTERS = st.builds(time, st.integers(0, 23), st.sampled_from([0, 15, 30, 45]))
DAYS = st.dates(date(2025, 1, 1), date(2026, 12, 31))
ZONES = st.sampled_from(
    [
        *("UTC", "Europe/Berlin", "Asia/Kolkata", "Pacific/Chatham", "Australia/Lord_Howe"),
        *("Africa/Cairo", "America/Santiago", "America/Havana", "Africa/Casablanca"),
        *("America/New_York", "Asia/Kathmandu", "Atlantic/Azores", "America/Nuuk"),
    ]
).map(ZoneInfo)


@st.composite
def weeks(draw):
    rules = draw(
        st.lists(
            st.builds(
                Rule,
                st.sets(st.integers(1, 7), min_size=1).map(sorted),
                QUARTERS,
                QUARTERS,
                st.just(Decimal("0.2")) | st.just(Decimal("0.4")),
            ),
            max_size=4,
        )
    )
    return week_of(rules, draw(PRICES))


@st.composite
def plans(draw):
    starts = draw(st.sets(st.none() | DAYS, max_size=4))
    ordered = sorted(starts, key=lambda start: start or date.min)
    return [PlannedTariff(start, draw(weeks())) for start in ordered]


@given(
    tariffs=plans(),
    zone=ZONES,
    day=DAYS,
    start=st.integers(0, 95),
    quarters=st.integers(0, 1000),
)
def test_stretches_tile_the_span_with_the_price_on_the_wall(tariffs, zone, day, start, quarters):
    starts_at = datetime.combine(day, time(), UTC) + start * QUARTER
    ends_at = starts_at + quarters * QUARTER

    found = price_stretches(tariffs, [], zone, starts_at, ends_at)

    assert all(one.ends_at == next_.starts_at for one, next_ in pairwise(found))
    assert all(one.price_per_kwh != next_.price_per_kwh for one, next_ in pairwise(found))
    assert (
        [found[0].starts_at, found[-1].ends_at] == [starts_at, ends_at] if found else not quarters
    )
    by_quarter = [
        stretch.price_per_kwh
        for stretch in found
        for _ in range((stretch.ends_at - stretch.starts_at) // QUARTER)
    ]
    assert by_quarter == [
        plain_price(tariffs, zone, starts_at + number * QUARTER) for number in range(quarters)
    ]


# --- From the database ------------------------------------------------------------------------


@pytest.mark.django_db
class TestSitePrices:
    def test_tariffs_rules_and_series_come_from_their_tables(self):
        site = SiteFactory(time_zone="Europe/Berlin", currency="CHF")
        Tariff.objects.create(site=site, price_per_kwh="0.25")
        use = Tariff.objects.create(
            site=site, kind="time_of_use", valid_from="2026-07-02", price_per_kwh="0.30"
        )
        TariffRule.objects.create(
            tariff=use, weekdays=[4], start="22:00", end="00:00", price_per_kwh="0.20"
        )
        Tariff.objects.create(site=site, kind="series", valid_from="2026-07-03")
        for hour, price in ((0, "0.1"), (1, "0.1"), (2, "-0.05")):
            for quarter in range(4):
                SeriesPrice.objects.create(
                    site=site,
                    starts_at=utc("2026-07-03 00:00") + hour * 4 * QUARTER + quarter * QUARTER,
                    price_per_kwh=price,
                )

        found = site_prices([site.pk], utc("2026-07-01 20:00"), utc("2026-07-03 04:00"))

        assert found[site.pk].currency == "CHF"
        assert [
            (f"{one.starts_at:%d %H:%M}", one.price_per_kwh) for one in found[site.pk].stretches
        ] == [
            ("01 20:00", Decimal("0.25")),
            ("01 22:00", Decimal("0.30")),
            ("02 20:00", Decimal("0.20")),
            ("02 22:00", None),
            ("03 00:00", Decimal("0.1")),
            ("03 02:00", Decimal("-0.05")),
            ("03 03:00", None),
        ]

    def test_quarter_hour_that_the_span_cuts_counts(self):
        site = SiteFactory()
        Tariff.objects.create(site=site, kind="series")
        SeriesPrice.objects.create(site=site, starts_at=utc("2026-07-03 00:00"), price_per_kwh=1)

        found = site_prices([site.pk], utc("2026-07-03 00:07"), utc("2026-07-03 00:10"))

        assert found[site.pk].stretches == [
            PriceStretch(utc("2026-07-03 00:07"), utc("2026-07-03 00:10"), Decimal(1))
        ]

    def test_site_without_tariffs_has_no_price_and_unknown_sites_are_absent(self):
        site = SiteFactory(currency="JPY")

        found = site_prices([site.pk, 0], utc("2026-07-03 00:00"), utc("2026-07-04 00:00"))

        assert list(found) == [site.pk]
        assert [stretch.price_per_kwh for stretch in found[site.pk].stretches] == [None]

    def test_any_number_of_sites_takes_two_statements(self, statements_sent):
        sites = [SiteFactory() for _ in range(3)]
        for site in sites:
            Tariff.objects.create(site=site, kind="series")
            Tariff.objects.create(site=site, valid_from="2026-07-01", price_per_kwh=1)

        with statements_sent() as sent:
            found = site_prices(
                [site.pk for site in sites], utc("2026-06-30 00:00"), utc("2026-07-02 00:00")
            )

        assert len(found) == 3
        assert sent == [2]


def test_a_year_of_quarter_hours_is_tiled():
    series = [
        PriceStretch(start, start + QUARTER, Decimal(number % 7))
        for number in range(35_040)
        for start in [utc("2025-01-01 00:00") + number * QUARTER]
    ]
    found = price_stretches(
        [PlannedTariff(None, None)],
        series,
        ZoneInfo("UTC"),
        utc("2025-01-01 00:00"),
        utc("2026-01-01 00:00"),
    )

    assert len(found) == 35_040
    assert sum((one.ends_at - one.starts_at for one in found), timedelta(0)) == timedelta(365)
