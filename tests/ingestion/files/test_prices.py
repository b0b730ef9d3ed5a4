"""Price series out of CSV files, and the command that stores them."""

import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command

from fleet.tariffs.models import SeriesPrice
from ingestion.files.formats import Unreadable
from ingestion.files.prices import Layout, read_series
from ingestion.files.times import Times, duration, zone
from tests.factories import SiteFactory

HEADER = "start,pricePerKwh"


def read(
    *lines: str,
    header: str = HEADER,
    tz: str | None = None,
    time_format: str | None = None,
    **layout: object,
):
    times = Times(time_format, zone(tz) if tz else None)
    return read_series([f"{line}\n" for line in (header, *lines)], Layout(times, **layout))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_hours_are_four_quarter_hours_each():
    series = read("2026-07-15T01:00Z,0.1", "2026-07-15T00:00Z,-0.05")

    assert series.starts_at == utc("2026-07-15 00:00")
    assert series.prices == [Decimal("-0.05")] * 4 + [Decimal("0.1")] * 4


def test_line_or_price_that_is_missing_is_a_time_without_a_price():
    series = read("2026-07-15T00:00Z,1", "2026-07-15T00:15Z,", "2026-07-15T00:45Z,2")

    assert series.prices == [1, None, None, 2]


def test_single_price_applies_for_an_hour_unless_it_is_told():
    assert len(read("2026-07-15T00:00Z,1").prices) == 4
    assert len(read("2026-07-15T00:00Z,1", every=duration("15m")).prices) == 1


def test_file_of_a_power_exchange_is_read_as_it_is():
    series = read(
        "15.07.2026 00:00;87,34",
        "15.07.2026 01:00;-1,2",
        header="Von;EUR/MWh",
        time_column="Von",
        price_column="EUR/MWh",
        separator=";",
        decimal_mark=",",
        scale=Decimal("0.001"),
        tz="Europe/Berlin",
        time_format="%d.%m.%Y %H:%M",
    )

    assert series.starts_at == utc("2026-07-14 22:00")
    assert series.prices == [Decimal("0.08734")] * 4 + [Decimal("-0.0012")] * 4


def test_day_on_which_clocks_go_forward_has_23_hours():
    hours = [hour for hour in range(24) if hour != 2]
    lines = [f"2026-03-29 {hour:02}:00,{hour}" for hour in hours]

    series = read(*lines, tz="Europe/Berlin")

    assert len(series.prices) == 23 * 4
    assert series.prices[::4] == hours


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "the file has no prices"),
        (["2026-07-15 00:00,1"], "line 2: the time has no time zone: say which one it is in"),
        (["2026-07-15T00:10Z,1"], "line 2: the time is not at a full quarter hour"),
        (["2026-07-15T00:00Z,one"], "line 2: the price is not a number"),
        (["2026-07-15T00:00Z,NaN"], "line 2: the price must be from -100,000 to 100,000 per kWh"),
        (["2026-07-15T00:00Z,1e9"], "line 2: the price must be from -100,000 to 100,000 per kWh"),
        (["2026-07-15T00:00Z,0.0000001"], "line 2: the price must have at most 6 decimals"),
        (
            ["2026-07-15T00:00Z,1", "2026-07-15T00:30Z,1", "2026-07-15T01:00Z,1"],
            "the prices must be 15 or 60 minutes apart, not 30: see --every",
        ),
        (
            ["2026-07-15T00:00Z,1", "2026-07-15T02:00+02:00,1"],
            "line 3: begins before the price of line 2 ends",
        ),
        (["2026-07-15T00:00Z"], None),
    ],
)
def test_line_that_is_wrong_is_named(lines, message):
    if message is None:
        assert read(*lines).prices == [None] * 4
        return
    with pytest.raises(Unreadable) as refused:
        read(*lines)
    assert str(refused.value).startswith(message)


def test_ten_errors_are_listed():
    with pytest.raises(Unreadable) as refused:
        read(*["today,1"] * 12)

    assert len(str(refused.value).splitlines()) == 11
    assert str(refused.value).endswith("and 2 more")


def test_column_that_is_missing_is_named_with_those_there_are():
    with pytest.raises(Unreadable) as refused:
        read(header="time,price")

    assert str(refused.value) == (
        "the file has no column start, but time and price: name it with --time-column"
    )


@pytest.mark.django_db
class TestCommand:
    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "prices.csv"
        path.write_text(f"{HEADER}\n2026-07-15T00:00Z,0.1\n2026-07-15T01:00Z,\n")
        return str(path)

    def run(self, *arguments: str) -> str:
        printed = io.StringIO()
        call_command("prices", "import", *arguments, stdout=printed)
        return printed.getvalue()

    def test_prices_are_stored_again_without_a_change(self, file):
        SiteFactory(name="Berlin")
        told = (
            "4 quarter hours have a price, from 2026-07-15 00:00 to 2026-07-15 02:00 UTC; "
            "4 have none.\n"
        )

        assert self.run(file, "--site=Berlin", "--dry-run") == f"Nothing was stored. {told}"
        assert not SeriesPrice.objects.exists()
        for _ in range(2):
            assert self.run(file, "--site=Berlin") == told
            assert [*SeriesPrice.objects.values_list("price_per_kwh", flat=True)] == [
                Decimal("0.1")
            ] * 4

    def test_price_that_the_file_takes_away_is_told(self, file):
        site = SiteFactory(name="Berlin")
        SeriesPrice.objects.create(site=site, starts_at=utc("2026-07-15 01:30"), price_per_kwh=1)

        assert self.run(file, "--site=Berlin").endswith("4 have none. 1 lost theirs.\n")

    def test_unknown_site_or_file_is_refused(self, file):
        SiteFactory(name="Berlin")

        with pytest.raises(CommandError, match="There is no site named Bonn"):
            self.run(file, "--site=Bonn")
        with pytest.raises(CommandError, match="nowhere"):
            self.run("nowhere.csv", "--site=Berlin")
        with pytest.raises(CommandError, match="number above 0"):
            self.run(file, "--site=Berlin", "--scale=0")
