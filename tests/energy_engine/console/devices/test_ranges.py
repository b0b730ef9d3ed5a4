"""The range of a device's page: dates, months, the span before, and where readings begin."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
import time_machine
from django.test import Client

from analytics.figures.window import Window
from energy_engine.console.devices.ranges import Range, asked_range, range_of
from fleet.links import link_vehicle
from fleet.models import Meter, Site, Vehicle
from ingestion.models import ArchivedPartition, VehicleRegister
from ingestion.writer import record
from tests.conftest import NOON, meter_reading, vehicle_reading
from tests.energy_engine.console.devices.test_pages import chart, html, page_of, words
from tests.people import superuser

BERLIN = ZoneInfo("Europe/Berlin")
KOLKATA = ZoneInfo("Asia/Kolkata")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(starts: str, ends: str) -> Window:
    return Window(utc(starts), utc(ends))


def asked(zone: ZoneInfo = BERLIN, **query: str) -> Range:
    return asked_range({name.rstrip("_"): value for name, value in query.items()}, zone)


@pytest.mark.usefixtures("clock")  # 2026-07-15 12:00 UTC
class TestAsked:
    @pytest.mark.parametrize(("name", "days"), [("24h", 1), ("7d", 7), ("30d", 30)])
    def test_lengths_end_now_and_are_compared_with_as_much_before(self, name, days):
        chosen = asked(range=name)

        assert chosen.window == Window(NOON - timedelta(days=days), NOON)
        assert chosen.before == Window(NOON - timedelta(days=2 * days), chosen.window.starts_at)

    def test_days_are_those_of_the_site_and_both_dates_are_included(self):
        chosen = asked(from_="2026-07-01", to="2026-07-03")

        assert chosen.window == window("2026-06-30 22:00", "2026-07-03 22:00")
        assert chosen.before == window("2026-06-27 22:00", "2026-06-30 22:00")
        assert (chosen.title, chosen.within) == (
            "2026-07-01 to 2026-07-03",
            "from 2026-07-01 to 2026-07-03",
        )
        assert chosen.span == "2026-07-01 00:00 CEST to 2026-07-04 00:00 CEST"
        assert (str(chosen.first_day), str(chosen.last_day)) == ("2026-07-01", "2026-07-03")

    def test_half_hour_zone(self):
        chosen = asked(KOLKATA, from_="2026-07-01", to="2026-07-01")

        assert chosen.window == window("2026-06-30 18:30", "2026-07-01 18:30")
        assert chosen.title == "2026-07-01"

    def test_day_on_which_the_clocks_change_has_25_hours_and_the_days_before_24(self):
        chosen = asked(from_="2025-10-26", to="2025-10-26")

        assert chosen.window == window("2025-10-25 22:00", "2025-10-26 23:00")
        assert chosen.before == window("2025-10-24 22:00", "2025-10-25 22:00")

    def test_range_that_ends_in_the_future_is_shown_until_now(self):
        chosen = asked(from_="2026-07-14", to="2026-07-20")

        assert chosen.window == window("2026-07-13 22:00", "2026-07-15 12:00")
        assert chosen.notes == (
            "The range ends in the future: it is shown until 2026-07-15 14:00 CEST.",
        )
        # A day and 14 hours, as what is shown.
        assert chosen.before == window("2026-07-12 08:00", "2026-07-13 22:00")
        assert chosen.query == "from=2026-07-14&to=2026-07-20"

    def test_one_date_is_enough(self):
        assert asked(from_="2026-07-14").asked == {"from": "2026-07-14", "to": "2026-07-15"}
        assert asked(to="2026-07-14").asked == {"from": "2026-07-14", "to": "2026-07-14"}

    @pytest.mark.parametrize(
        ("first", "last", "why"),
        [
            ("2026-07-03", "2026-07-01", "The first date must not be after the last"),
            ("2026-07-16", "2026-07-17", "The range begins in the future"),
            ("2026-07-16", "", "The range begins in the future"),
            ("2025-06-01", "2026-07-06", "A range has at most 400 days"),
            ("soon", "2026-07-01", "Enter dates such as 2026-07-15"),
            ("2026-07-01", "9999-12-31", "Enter dates such as 2026-07-15"),
            ("0001-01-01", "", "Enter dates such as 2026-07-15"),
        ],
    )
    def test_dates_that_are_no_range_are_said_to_be_none(self, first, last, why):
        chosen = asked(from_=first, to=last)

        assert chosen.window == Window(NOON - timedelta(days=1), NOON)
        assert chosen.notes == (f"{why}. The last 24 hours are shown instead.",)

    def test_400_days_are_a_range(self):
        assert asked(from_="2025-06-01", to="2026-07-05").notes == ()

    def test_this_month_is_compared_with_the_same_part_of_the_month_before(self):
        chosen = asked(range="this-month")

        assert chosen.window == window("2026-06-30 22:00", "2026-07-15 12:00")
        assert chosen.before == window("2026-05-31 22:00", "2026-06-15 12:00")

    def test_last_month_is_compared_with_the_month_before(self):
        chosen = asked(range="last-month")

        assert chosen.window == window("2026-05-31 22:00", "2026-06-30 22:00")
        assert chosen.before == window("2026-04-30 22:00", "2026-05-31 22:00")

    @pytest.mark.parametrize(
        ("query", "address"),
        [
            ({}, "range=24h"),
            ({"range": "century"}, "range=24h"),
            ({"range": "last-month", "compare": "1"}, "range=last-month&compare=1"),
        ],
    )
    def test_address_keeps_the_range(self, query, address):
        assert asked_range(query, BERLIN).query == address


@time_machine.travel("2026-03-31T12:00:00Z", tick=False)
def test_31_days_are_not_compared_with_more_than_february():
    chosen = asked(ZoneInfo("UTC"), range="this-month")

    assert chosen.before == window("2026-02-01 00:00", "2026-03-01 00:00")


@pytest.fixture
def v1(clock) -> Vehicle:
    """V1 in Berlin at M1; the first reading of V1 is at 09:40 UTC on 10 July."""
    site = Site.objects.create(name="Berlin", time_zone="Europe/Berlin")
    Meter.objects.create(meter_id="M1", site=site)
    vehicle = Vehicle.objects.create(vehicle_id="V1", site=site)
    link_vehicle("V1", "M1", utc("2026-07-01 00:00"))
    for day, dc_kwh in ((10, 8.0), (12, 6.0), (14, 9.0)):
        shift = timedelta(days=15 - day)
        dc = vehicle_reading("V1", "09:40", dc_kwh)
        ac = meter_reading("M1", "09:40", 10.0)
        record([_earlier(dc, shift), _earlier(ac, shift)], NOON)
    return vehicle


def _earlier(reading, shift: timedelta):
    return msgspec.structs.replace(reading, measured_at=reading.measured_at - shift)


@pytest.mark.django_db
class TestReadings:
    def test_range_begins_with_the_day_of_the_first_reading_and_says_so(self, v1):
        chosen = range_of(v1, {"range": "30d"})

        assert chosen.window == Window(utc("2026-07-09 22:00"), NOON)
        assert chosen.notes == (
            "The first reading is from 2026-07-10 11:40 CEST: "
            "the range is shown from 2026-07-10 00:00 CEST.",
        )

    def test_range_by_hour_begins_with_the_hour(self, v1):
        chosen = range_of(v1, {"from": "2026-07-10", "to": "2026-07-11"})

        assert chosen.window.starts_at == utc("2026-07-10 09:00")

    def test_span_before_the_first_reading_is_not_compared(self, v1):
        chosen = range_of(v1, {"range": "30d", "compare": "1"})

        assert chosen.before is None
        assert chosen.notes[-1] == "Not compared: the span before has no readings."

    def test_span_with_the_first_reading_is_compared_and_said_to_be_short(self, v1):
        chosen = range_of(v1, {"from": "2026-07-12", "to": "2026-07-14", "compare": "1"})

        assert chosen.before == window("2026-07-08 22:00", "2026-07-11 22:00")
        assert chosen.notes == ("The span before has readings since 2026-07-10 11:40 CEST only.",)

    def test_device_without_readings_has_the_range_that_was_asked_for(self, clock):
        chosen = range_of(Vehicle.objects.create(vehicle_id="V2"), {"range": "7d"})

        assert (chosen.window, chosen.notes) == (Window(NOON - timedelta(days=7), NOON), ())

    def test_readings_in_the_archive_count_as_well(self, v1):
        VehicleRegister.objects.create(
            vehicle_id="V1", measured_at=utc("2026-03-01 00:00"), energy_dc_kwh=1.0
        )

        assert range_of(v1, {"range": "30d"}).notes == ()

    def archived(self, starts: str, ends: str) -> None:
        ArchivedPartition.objects.create(
            starts_at=utc(starts),
            ends_at=utc(ends),
            readings=1,
            energy_kwh=1,
            last_id=1,
            archived_at=NOON,
            is_out=True,
            kind="vehicle",
            table_name="p",
            file=starts,
        )

    def test_what_is_in_the_archive_is_left_out_and_said_to_be(self, v1):
        self.archived("2026-05-01 00:00", "2026-07-11 00:00")
        chosen = range_of(v1, {"range": "last-month", "compare": "1"})
        assert (chosen.is_gone, chosen.before) == (True, None)
        assert chosen.notes == (
            "History before 2026-07-11 02:00 CEST is in the archive: nothing can be shown.",
        )

        chosen = range_of(v1, {"range": "this-month", "compare": "1"})
        assert chosen.window == window("2026-07-11 00:00", "2026-07-15 12:00")
        assert chosen.notes == (
            "Earlier history is in the archive: the range is shown from 2026-07-11 02:00 CEST.",
            "Not compared: the span before is archived.",
        )

        chosen = range_of(v1, {"from": "2026-07-13", "to": "2026-07-14", "compare": "1"})
        assert chosen.notes == ("Not compared: the span before is archived.",)


@pytest.mark.django_db
class TestPage:
    @pytest.fixture
    def console(self, clock) -> Client:
        return superuser()

    def shown(self, console: Client, query: str, kind: str = "vehicle") -> str:
        return words(html(console, f"{page_of(kind, 'V1' if kind == 'vehicle' else 'M1')}?{query}"))

    def test_dates_have_the_figure_of_the_api(self, console, api, v1):
        figure = api.get(
            "/v1/analytics/performance/V1?start=2026-07-11T22:00:00Z&end=2026-07-14T22:00:00Z"
        ).json()
        content = self.shown(console, "from=2026-07-12&to=2026-07-14")

        assert figure["efficiencyRatio"] == 75.0  # (6 + 9) / (10 + 10)
        assert "2026-07-12 to 2026-07-14" in content
        assert "Efficiency 75.00 %" in content
        assert "AC in 20.000 kWh DC out 15.000 kWh" in content

    def test_each_figure_has_its_difference_from_the_span_before(self, console, v1):
        content = self.shown(console, "from=2026-07-13&to=2026-07-14&compare=1")

        assert "Before: 2026-07-11 00:00 CEST to 2026-07-13 00:00 CEST" in content
        assert "before: 60.00 %; +30.00 points" in content
        assert "AC in 10.000 kWh before: 10.000 kWh; +0.000 kWh, +0.0 %" in content
        assert "DC out 9.000 kWh before: 6.000 kWh; +3.000 kWh, +50.0 %" in content
        assert "Lost 1.00 kWh before: 4.00 kWh; -3.00 kWh, -75.0 %" in content

    def test_meter_is_compared_too(self, console, v1):
        content = self.shown(console, "from=2026-07-13&to=2026-07-14&compare=1", "meter")

        assert "DC of these vehicles 9.000 kWh before: 6.000 kWh; +3.000 kWh, +50.0 %" in content
        assert "Efficiency 90.00 % before: 60.00 %; +30.00 points" in content

    def test_chart_has_the_span_before_behind(self, console, v1):
        page = f"{page_of('vehicle', 'V1')}?from=2026-07-12&to=2026-07-14&compare=1"
        drawn = {
            series["label"]: series for series in chart(html(console, page), "energy")["series"]
        }

        assert drawn["DC out"]["values"] == [6.0, 0.0, 9.0]
        assert drawn["DC out, before"]["values"] == [0.0, 8.0, 0.0]
        assert drawn["DC out, before"]["behind"]

    def test_part_of_the_page_has_the_address_of_the_page(self, console, v1):
        path = page_of("vehicle", "V1", "figures") + "?from=2026-07-13&to=2026-07-14&compare=1"
        answer = console.get(path)

        assert answer["HX-Replace-Url"] == (
            page_of("vehicle", "V1") + "?from=2026-07-13&to=2026-07-14&compare=1"
        )

    def test_archived_range_shows_a_note_and_no_figures(self, console, v1):
        TestReadings().archived("2026-05-01 00:00", "2026-07-11 00:00")
        content = self.shown(console, "range=last-month")

        assert "is in the archive: nothing can be shown" in content
        assert "Efficiency" not in content.partition("Linked meters")[0]
        assert "nothing can be shown" in self.shown(console, "range=last-month", "meter")
