"""The page of a vehicle and of a meter: what it shows, how links change on it, and for whom."""

import json
import re
from datetime import timedelta
from html import unescape
from http import HTTPStatus

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from analytics.models import Fault
from energy_engine.console.devices import links
from energy_engine.console.words.changes import steps_of
from fleet.links import UnknownDevice, end_link, link_vehicle
from fleet.models import Meter, Site, Vehicle, VehicleMeterLink
from fleet.tariffs.models import Tariff
from ingestion.models import MeterRegister, VehicleRegister
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading
from tests.factories import MeterFactory, SiteFactory
from tests.people import UNSCALED

pytestmark = pytest.mark.django_db

LONG_ID = "V:" + "x" * 62

_tag = re.compile(r"<(script|style|dialog).*?</\1>|<[^>]*>", re.DOTALL)


def signed_in(user: User, **options: bool) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


@pytest.fixture
def console(clock) -> Client:
    """The admin as a superuser sees it, at noon."""
    return signed_in(User.objects.create_superuser("manager"))


@pytest.fixture
def sign_in(clock):
    """Return a function that signs in a member of staff who has nothing but `permissions`."""

    def staff(*permissions: str) -> Client:
        user = User.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        return signed_in(user)

    return staff


@pytest.fixture
def berlin() -> Site:
    return SiteFactory(name="Berlin", time_zone="Europe/Berlin", price_per_kwh="0.5")


@pytest.fixture
def v1(berlin, clock) -> Vehicle:
    """V1 in Berlin, at M1 since 8 o'clock: 10 kWh of AC, 8 kWh of DC; neither is new."""
    Meter.objects.create(meter_id="M2")
    Meter.objects.create(meter_id="M1", site=berlin)
    vehicle = Vehicle.objects.create(vehicle_id="V1", site=berlin)
    link_vehicle("V1", "M1", at("08:00"))
    # Of what they sent in the months before, which is in the archive, the last readings are kept.
    long_ago = NOON - timedelta(days=100)
    VehicleRegister.objects.create(vehicle_id="V1", measured_at=long_ago, energy_dc_kwh=1.0)
    MeterRegister.objects.create(meter_id="M1", measured_at=long_ago, energy_ac_kwh=1.0)
    values = {"soc_percent": 80.04, "battery_temp_celsius": 31.5}
    record([vehicle_reading("V1", "11:30", 8.0, **values)], at("11:31"))
    record([meter_reading("M1", "11:30", 10.0, voltage_v=229.96)], at("11:31"))
    return vehicle


def page_of(kind: str, pk: str, view: str = "change") -> str:
    return reverse(f"admin:fleet_{kind}_{view}", args=[quote(pk)])


def html(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == HTTPStatus.OK
    return response.content.decode()


def words(content: str) -> str:
    """Return the text of a page, its white space as single spaces."""
    return " ".join(unescape(_tag.sub(" ", content)).split())


def shown(client: Client, path: str) -> str:
    return words(html(client, path))


def chart(content: str, name: str) -> dict:
    found = re.search(rf'<script id="{name}-chart-data"[^>]*>(.*?)</script>', content, re.DOTALL)
    return json.loads(found[1])


class TestNow:
    def test_vehicle_shows_its_live_state(self, console, v1):
        content = shown(console, page_of("vehicle", "V1"))

        assert "V1 Berlin Europe/Berlin" in content
        assert "State of charge 80.0 %" in content
        assert "Battery temperature 31.5 °C" in content
        assert "DC of the last reading 8 kWh" in content
        assert "Last seen, UTC 2026-07-15 11:30:00 13:30:00 CEST 30 min ago" in content
        assert "Received, UTC 2026-07-15 11:31:00 13:31:00 CEST 29 min ago" in content

    @pytest.mark.parametrize("kind", ["vehicle", "meter"])
    def test_device_that_looks_like_an_earlier_one_says_so(self, console, v1, kind):
        known, new = ("V1", "v1.0") if kind == "vehicle" else ("M1", "m1.0")
        (Vehicle if kind == "vehicle" else Meter).objects.create(pk=new)

        content = html(console, page_of(kind, new))

        assert f"Probably {known}" in words(content)
        assert f'href="{page_of(kind, known)}"' in content
        assert "Probably" not in shown(console, page_of(kind, known))

    def test_meter_shows_its_live_state(self, console, v1):
        content = shown(console, page_of("meter", "M1"))

        assert "Voltage 230.0 V" in content
        assert "AC of the last reading 10 kWh" in content

    @pytest.mark.parametrize(("received", "word"), [("11:00", "offline"), ("11:59", "online")])
    def test_device_is_said_to_be_online_or_not(self, console, received, word):
        record([vehicle_reading("V1", "10:00")], at(received))

        assert f"no site {word}" in shown(console, page_of("vehicle", "V1"))

    def test_reading_of_a_counter_is_a_register(self, console, v1):
        Vehicle.objects.update(energy_register="counter")

        assert "DC register 8 kWh" in shown(console, page_of("vehicle", "V1"))

    @pytest.mark.parametrize(("model", "kind"), [(Vehicle, "vehicle"), (Meter, "meter")])
    @pytest.mark.parametrize("chosen", ["24h", "7d", "30d"])
    def test_device_that_was_never_seen_says_so(self, console, model, kind, chosen):
        model.objects.create(pk="X1")
        content = shown(console, f"{page_of(kind, 'X1')}?range={chosen}")

        assert f"This {kind} has not sent any readings yet" in content
        assert "no site" in content
        assert "No readings in the last " in content
        assert "No readings measured in the last 7 days" in content
        assert "None" not in content

    def test_value_that_was_never_sent_is_a_dash(self, console):
        record([vehicle_reading("V1"), meter_reading("M1")], NOON)

        content = shown(console, page_of("vehicle", "V1"))
        assert "State of charge - Battery temperature - " in content
        assert "Voltage - " in shown(console, page_of("meter", "M1"))

    def test_long_id_may_break_everywhere(self, console):
        link_vehicle(LONG_ID, LONG_ID, at("08:00"))
        record([vehicle_reading(LONG_ID), meter_reading(LONG_ID)], NOON)

        content = html(console, page_of("vehicle", LONG_ID))
        content += html(console, page_of("vehicle", LONG_ID, "why"))
        content += html(console, page_of("meter", LONG_ID))
        in_cells = re.findall(rf"<t[dh][^>]*>[^<]*{LONG_ID}", content)
        assert in_cells == []
        assert f'<span class="long-id">{LONG_ID}</span>' in content


class TestFigure:
    @pytest.mark.parametrize(("chosen", "window"), [("24h", "24h"), ("7d", "7d"), ("30d", "30d")])
    def test_vehicle_has_the_figure_of_the_api(self, console, api, v1, chosen, window):
        figure = api.get(f"/v1/analytics/performance/V1?window={window}").json()
        content = html(console, f"{page_of('vehicle', 'V1')}?range={chosen}")

        assert (figure["efficiencyRatio"], figure["health"]) == (80.0, "degraded")
        assert "Efficiency 80.00 % degraded" in words(content)
        assert f'<data value="{figure["energyConsumedAc"]}">' in content
        assert f'<data value="{figure["energyDeliveredDc"]}">' in content
        assert "AC source linked the meter served this vehicle alone" in words(content)
        assert "Reason - " in words(content)
        assert "1 from the vehicle, 1 from meters" in words(content)

    def test_loss_has_a_price_where_the_site_has_a_tariff(self, console, v1):
        assert "Lost 2.00 kWh, 1.00 EUR" in shown(console, page_of("vehicle", "V1"))

        Tariff.objects.all().delete()
        assert "Lost 2.00 kWh Battery" in shown(console, page_of("vehicle", "V1"))

    def test_share_of_the_fleet_is_no_loss(self, console):
        record([vehicle_reading("V1", kwh=8.0), meter_reading("M1", kwh=10.0)], NOON)

        content = shown(console, page_of("vehicle", "V1"))
        assert "AC source fleet" in content
        assert "Lost - " in content

    def test_reason_is_given_in_the_words_of_the_api_and_in_plain_ones(self, console):
        Vehicle.objects.create(vehicle_id="V1")

        content = shown(console, page_of("vehicle", "V1"))
        assert "Reason no_ac no AC to compare with" in content
        assert "AC source none no AC to compare with" in content

    def test_longer_range_shows_the_last_day_too(self, console, v1):
        content = shown(console, f"{page_of('vehicle', 'V1')}?range=30d")

        assert "Last 30 days" in content
        assert "Last 24 hours: 80.00 %, degraded" in content

    def test_range_that_is_none_is_a_day(self, console, v1):
        assert "Last 24 hours" in shown(console, f"{page_of('vehicle', 'V1')}?range=century")

    def test_part_of_a_range_comes_alone(self, console, v1):
        content = html(console, f"{page_of('vehicle', 'V1', 'figures')}?range=7d")

        assert content.count("<section") == 1
        assert "Last 7 days" in words(content)

    def test_meter_shows_for_whom_its_ac_was(self, console, v1):
        link_vehicle("V2", "M1", at("11:00"))
        record([vehicle_reading("V2", "11:30", 2.0), meter_reading("M1", "11:00", 0.0)], NOON)
        record([vehicle_reading(id_, "11:00", 0.0) for id_ in ("V1", "V2")], NOON)

        content = shown(console, page_of("meter", "M1"))
        assert "AC 10.000 kWh AC while vehicles were linked 10.000 kWh" in content
        assert "DC of these vehicles 10.000 kWh Efficiency 100.00 %" in content
        assert "V1 8.000 8.000 100.00 V2 2.000 2.000 100.00" in content


class TestCharts:
    def test_day_is_drawn_by_hour_on_the_clocks_of_the_site(self, console, v1):
        drawn = chart(html(console, page_of("vehicle", "V1")), "energy")

        assert drawn["zone"] == "Europe/Berlin"
        assert len(drawn["times"]) == 24
        assert drawn["times"][-1] == "2026-07-15T11:00:00Z"
        last = {series["label"]: series["values"][-1] for series in drawn["series"]}
        assert last == {"AC in": 10.0, "DC out": 8.0, "Efficiency": 80.0}

    @pytest.mark.parametrize(("chosen", "days"), [("7d", 8), ("30d", 31)])
    def test_longer_ranges_are_drawn_by_day_from_midnight_of_the_site(
        self, console, v1, chosen, days
    ):
        drawn = chart(html(console, f"{page_of('vehicle', 'V1')}?range={chosen}"), "energy")

        assert len(drawn["times"]) == days
        assert drawn["times"][-1] == "2026-07-14T22:00:00Z"
        assert drawn["series"][0]["values"][-1] == 10.0

    @pytest.mark.parametrize(("chosen", "pieces"), [("24h", 96), ("7d", 168), ("30d", 121)])
    def test_state_is_drawn_in_pieces(self, console, v1, chosen, pieces):
        drawn = chart(html(console, f"{page_of('vehicle', 'V1')}?range={chosen}"), "state")

        labels = [series["label"] for series in drawn["series"]]
        assert labels == ["State of charge", "Battery temperature"]
        assert len(drawn["times"]) == pieces
        soc = [value for value in drawn["series"][0]["values"] if value is not None]
        assert soc == [80.04]

    def test_meter_has_energy_and_voltage(self, console, v1):
        content = html(console, page_of("meter", "M1"))

        assert chart(content, "energy")["series"][0]["values"][-1] == 10.0
        assert 229.96 in chart(content, "state")["series"][0]["values"]


class TestWhy:
    def why(self, console: Client, query: str = "") -> str:
        return shown(console, page_of("vehicle", "V1", "why") + query)

    def test_page_asks_for_the_very_window_that_it_shows(self, console, v1):
        content = html(console, page_of("vehicle", "V1"))

        (asked,) = re.findall(r'hx-get="([^"]*/why/[^"]*)"', content)
        asked = unescape(asked)
        assert asked.endswith("?start=2026-07-14T12%3A00%3A00Z&end=2026-07-15T12%3A00%3A00Z")
        assert "80.00 %" in shown(console, asked)

    def test_formula_links_and_readings_are_told(self, console, v1):
        record([vehicle_reading("V1", "11:30", 8.0)], NOON)
        content = self.why(console)

        assert "100 · 8 kWh / 10 kWh = 80.00 %" in content
        assert "M1 from 2026-07-15 08:00:00 to 2026-07-15 12:00:00 UTC" in content
        assert "Vehicle V1 8.0 1 0 1 0 0 24" in content
        assert "Meter M1 10.0 1 0 0 0 0 4" in content
        assert '"efficiencyRatio": 80.0' in content

    def test_efficiency_at_each_meter_tells_the_charger_from_the_car(self, console, v1):
        link_vehicle("V1", "M2", at("09:00"), at("10:00"))
        record([vehicle_reading("V1", "09:30", 5.7), meter_reading("M2", "09:30", 6.0)], NOON)
        content = self.why(console)

        # A step of unknown beginning lies at its instant: 5.7 of 6 kWh at M2, 8 of 10 at M1.
        assert "M1 10.000 8.000 80.00 degraded M2 6.000 5.700 95.00 healthy" in content
        assert "AC in 16.000 kWh" in shown(console, page_of("vehicle", "V1"))

    def test_meter_at_which_the_vehicle_took_nothing_has_a_reason(self, console, v1):
        link_vehicle("V1", "M2", at("10:00"), at("11:00"))

        assert "M2 0.000 0.000 - unknown no AC known" in self.why(console)

    def test_meters_are_links_for_those_who_may_view_them(self, console, sign_in, v1):
        why = page_of("vehicle", "V1", "why")

        assert page_of("meter", "M1") in html(console, why)
        assert page_of("meter", "M1") not in html(sign_in("view_vehicle"), why)

    def test_split_of_a_shared_meter_is_told(self, console, v1):
        link_vehicle("V2", "M1", at("11:00"))
        record([vehicle_reading("V2", "11:30", 2.0), meter_reading("M1", "11:00", 0.0)], NOON)
        record([vehicle_reading(id_, "11:00", 0.0) for id_ in ("V1", "V2")], NOON)
        content = self.why(console)

        assert "each step of the meter is split by the DC that they took meanwhile" in content
        assert "V1, V2 10.000000 8.000000 10.000000 80.0 % 8.000000" in content

    def test_steps_that_the_window_cuts_are_told(self, console, v1):
        record([meter_reading("M1", "11:00", 0.0), vehicle_reading("V1", "11:00", 0.0)], NOON)
        content = self.why(console, "?start=2026-07-15T11:10:00Z&end=2026-07-15T11:24:00Z")

        # 14 of 30 minutes.
        assert (
            "Vehicle V1, 2026-07-15 11:00:00 to 2026-07-15 11:30:00 UTC: 3.733333 of 8 kWh"
            in content
        )
        assert (
            "Meter M1, 2026-07-15 11:00:00 to 2026-07-15 11:30:00 UTC: 4.666667 of 10 kWh"
            in content
        )
        assert "the part that lies in the span counts" in content
        assert "A step is" not in self.why(console)

    def test_periods_beyond_the_first_fifty_are_counted_and_the_api_has_them(self, console, v1):
        link_vehicle("V3", "M2", NOON - timedelta(days=3))
        for hours in range(72):  # comes and goes
            meter_id = "M2" if hours % 2 else "M3"
            link_vehicle("V4", meter_id, NOON - timedelta(days=3) + timedelta(hours=hours))
        content = html(console, page_of("vehicle", "V3", "why") + "?window=3d")
        assert "22 more periods not shown" in content
        assert content.count("<tr>") == 2 + 2 + 2 + 50
        assert "/v1/analytics/performance/V3/explain?start=2026-07-12T12%3A00%3A00Z" in content

    def test_vehicle_without_a_link_is_told_of_the_fleet(self, console):
        record([vehicle_reading("V1", kwh=8.0), meter_reading("M1", kwh=10.0)], NOON)

        content = self.why(console)
        assert "all meters without a link delivered 10.0 kWh AC" in content
        assert "Links in force None." in content

    def test_window_that_makes_no_sense_is_refused(self, console, v1):
        response = console.get(page_of("vehicle", "V1", "why") + "?window=ever")

        assert response.status_code == HTTPStatus.BAD_REQUEST


class TestLinks:
    def test_links_are_listed_the_latest_first(self, console, v1):
        link_vehicle("V1", "M2", at("13:00"))
        content = shown(console, page_of("vehicle", "V1"))

        assert (
            "M2 begins later Withdraw Remove 2026-07-15 13:00:00 15:00:00 CEST - "
            "M1 in force End link Remove 2026-07-15 08:00:00 10:00:00 CEST "
            "2026-07-15 13:00:00 15:00:00 CEST"
        ) in content

    def test_picture_begins_with_the_first_link_and_ends_now(self, console, v1):
        link_vehicle("V1", "M1", NOON - timedelta(days=4))
        link_vehicle("V1", "M2", NOON - timedelta(days=1))

        drawn = console.get(page_of("vehicle", "V1")).context["timeline"]
        assert drawn["segments"] == [("M1", 0.0, 75.0), ("M2", 75.0, 25.0)]
        assert not drawn["has_future"]

    def test_picture_has_room_for_a_link_to_come(self, console, v1):
        link_vehicle("V1", "M1", NOON - timedelta(days=4))
        link_vehicle("V1", "M2", NOON + timedelta(days=4))

        drawn = console.get(page_of("vehicle", "V1")).context["timeline"]
        assert drawn["ends_at"] == NOON + timedelta(days=5)
        assert drawn["segments"] == [("M1", 0.0, 88.889), ("M2", 88.889, 11.111)]
        assert drawn["now"] == 44.444

    def test_picture_shows_gaps_and_an_end_to_come(self, console, v1):
        link_vehicle("V1", "M1", NOON - timedelta(days=4), NOON - timedelta(days=3))
        link_vehicle("V1", "M2", NOON - timedelta(days=2), NOON + timedelta(days=4))

        drawn = console.get(page_of("vehicle", "V1")).context["timeline"]
        assert drawn["ends_at"] == NOON + timedelta(days=5)
        assert drawn["segments"] == [
            ("M1", 0.0, 11.111),
            ("M2", 22.222, 66.667),
            ("M1", 88.889, 11.111),
        ]

    def test_picture_leaves_out_what_is_long_ago(self, console, v1):
        link_vehicle("V1", "M1", NOON - timedelta(days=90))
        link_vehicle("V1", "M2", NOON - timedelta(days=60))

        drawn = console.get(page_of("vehicle", "V1")).context["timeline"]
        assert drawn["segments"] == [("M2", 0.0, 100.0)]

    def test_meter_lists_its_vehicles_now_and_before(self, console, v1):
        link_vehicle("V2", "M1", at("07:00"))
        link_vehicle("V2", "M2", at("07:30"))
        content = shown(console, page_of("meter", "M1"))

        assert "V1 in force 2026-07-15 08:00:00" in content
        assert "V2 ended 2026-07-15 07:00:00" in content
        assert "End link" not in content

    def test_only_the_latest_are_listed(self, console, v1):
        for number in range(51):
            link_vehicle(f"V{number}", "M2", at("09:00"))

        context = console.get(page_of("meter", "M2")).context
        assert (len(context["link_rows"]), context["has_more_links"]) == (50, True)

    def test_device_without_links_says_so(self, console, v1):
        assert "No vehicle has ever been linked" in shown(console, page_of("meter", "M2"))


class TestChangingLinks:
    @pytest.fixture
    def send(self, console, v1, django_capture_on_commit_callbacks):
        """Return a function that sends a form of V1's page, as htmx does."""

        def fill_in(view: str, query: str = "", **fields: object):
            with django_capture_on_commit_callbacks(execute=True):
                return console.post(
                    page_of("vehicle", "V1", view),
                    fields,
                    headers={"HX-Current-URL": f"http://testserver/page{query}"},
                )

        return fill_in

    def spans(self) -> list[tuple[str, object, object]]:
        links = VehicleMeterLink.objects.filter(vehicle_id="V1").order_by("valid_during")
        return [(link.meter_id, link.valid_during.lower, link.valid_during.upper) for link in links]

    def log(self) -> list[str]:
        entries = LogEntry.objects.filter(object_id="V1", user__username="manager")
        return [step for entry in entries for step in steps_of(entry.change_message)]

    def told(self, console: Client) -> str:
        return shown(console, page_of("vehicle", "V1"))

    def test_link_begins_now_unless_told(self, send, console):
        response = send("link", "?range=7d", meter="M2")

        assert self.spans() == [("M1", at("08:00"), NOON), ("M2", NOON, None)]
        assert response["HX-Redirect"] == page_of("vehicle", "V1") + "?range=7d"
        assert self.log() == ["V1: M1 from 2026-07-15 12:00 UTC → M2 from 2026-07-15 12:00 UTC"]
        assert "V1 is linked to M2 from 2026-07-15 12:00 UTC" in self.told(console)

    def test_link_begins_at_the_instant_given_in_utc(self, send):
        send("link", meter="M2", valid_from="2026-07-15T10:30")

        assert self.spans() == [("M1", at("08:00"), at("10:30")), ("M2", at("10:30"), None)]

    def test_links_that_are_superseded_are_told_and_logged(self, send, console):
        link_vehicle("V1", "M2", at("10:00"))
        send("link", meter="M2", valid_from="2026-07-15T09:00")

        assert self.log() == [
            "V1: M1 from 2026-07-15 09:00 UTC to 2026-07-15 10:00 UTC, "
            "M2 from 2026-07-15 10:00 UTC → M2 from 2026-07-15 09:00 UTC"
        ]
        assert (
            "Superseded: M1 from 2026-07-15 09:00 UTC to 2026-07-15 10:00 UTC, "
            "M2 from 2026-07-15 10:00 UTC Undo"
        ) in self.told(console)

    def test_slip_that_is_undone_is_told_as_what_it_is(self, send, console):
        link_vehicle("V1", "M3", at("07:00"))
        link_vehicle("V1", "M1", at("08:00"))
        link_vehicle("V1", "M2", at("10:30"))
        send("link", meter="M1", valid_from="2026-07-15T10:30")

        # Not M3, which ended when M1 began.
        assert self.log() == ["V1: M2 from 2026-07-15 10:30 UTC → M1 from 2026-07-15 10:30 UTC"]
        assert self.spans()[1:] == [("M1", at("08:00"), None)]

    def test_first_link_comes_from_nothing(self, send):
        VehicleMeterLink.objects.all().delete()
        send("link", meter="M2")

        assert self.log() == ["V1: no link → M2 from 2026-07-15 12:00 UTC"]

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({}, "Choose a meter"),
            ({"meter": "M9"}, "Choose a registered meter"),
            ({"meter": "M2", "valid_from": "soon"}, "Enter a valid date and time"),
            (
                {"meter": "M2", "valid_from": "1999-12-31T23:59"},
                "From must be in the year 2000 or later and at most 10 years ahead",
            ),
            (
                {"meter": "M2", "valid_to": "2096-07-15T12:00"},
                "To must be in the year 2000 or later and at most 10 years ahead",
            ),
            (
                {"meter": "M2", "valid_to": "2026-07-15T11:59"},
                "To must be after From (now, because it is absent)",
            ),
            ({"meter": "M1"}, "Already linked: M1 since 2026-07-15 08:00 UTC"),
        ],
    )
    def test_what_cannot_be_is_said_beside_the_form(self, send, fields, error):
        response = send("link", **fields)

        assert words(response.content.decode()) == error
        assert "HX-Redirect" not in response
        assert self.spans() == [("M1", at("08:00"), None)]
        assert self.log() == []

    # The registry can change between the form's look at it and the writer's.
    def test_refusal_of_the_writer_is_said_too(self, send, monkeypatch):
        def refuse(*_: object) -> None:
            raise UnknownDevice("Meter")

        monkeypatch.setattr(links, "link_vehicle", refuse)

        assert words(send("link", meter="M2").content.decode()) == "Meter not found"

    def test_link_in_force_can_be_ended(self, send, console):
        response = send("end_link", link=VehicleMeterLink.objects.get().pk)

        assert self.spans() == [("M1", at("08:00"), NOON)]
        assert response["HX-Redirect"] == page_of("vehicle", "V1") + "?range=24h"
        assert self.log() == ["V1: M1 since 2026-07-15 08:00 UTC → ended 2026-07-15 12:00 UTC"]
        assert "Link ended: V1 at M1" in self.told(console)

    def test_link_that_another_has_replaced_is_not_ended(self, send):
        replaced = VehicleMeterLink.objects.get()
        link_vehicle("V1", "M2", at("10:00"))

        answer = words(send("end_link", link=replaced.pk).content.decode())
        assert answer == "This link is not in force now"
        assert self.spans()[1] == ("M2", at("10:00"), None)
        assert self.log() == []

    def test_link_to_come_can_be_withdrawn(self, send, console):
        send("withdraw_link", link=link_vehicle("V1", "M2", at("13:00")).link.pk)

        assert self.spans() == [("M1", at("08:00"), None)]
        assert self.log() == [
            "V1: M2 from 2026-07-15 13:00 UTC → withdrawn; M1 since 2026-07-15 08:00 UTC continues"
        ]
        assert "Link withdrawn: V1 at M2 from" in self.told(console)

    def test_link_that_has_begun_is_not_withdrawn(self, send):
        answer = send("withdraw_link", link=VehicleMeterLink.objects.get().pk)

        assert "This link has already begun" in words(answer.content.decode())
        assert self.spans() == [("M1", at("08:00"), None)]

    @pytest.mark.parametrize("view", ["end_link", "withdraw_link", "remove_link"])
    @pytest.mark.parametrize("link", ["", "1000000", "M1", "9" * 30])
    def test_link_that_is_not_there_is_said_to_be_gone(self, send, view, link):
        answer = send(view, link=link)

        assert words(answer.content.decode()) == "This link no longer exists"

    @pytest.mark.parametrize("view", ["end_link", "withdraw_link", "remove_link"])
    def test_links_of_other_vehicles_are_left_alone(self, send, view):
        others = link_vehicle("V2", "M2", at("13:00")).link

        answer = send(view, link=others.pk)
        assert words(answer.content.decode()) == "This link no longer exists"

    def test_link_of_the_past_begins_and_ends_when_told(self, send, console):
        send("link", meter="M2", valid_from="2026-07-15T09:00", valid_to="2026-07-15T10:00:30")

        assert self.spans() == [
            ("M1", at("08:00"), at("09:00")),
            ("M2", at("09:00"), at("10:00") + timedelta(seconds=30)),
            ("M1", at("10:00") + timedelta(seconds=30), None),
        ]

    def test_link_can_be_ended_in_the_past(self, send, console):
        send("end_link", link=VehicleMeterLink.objects.get().pk, ends_at="2026-07-15T10:00")

        assert self.spans() == [("M1", at("08:00"), at("10:00"))]
        assert self.log() == ["V1: M1 from 2026-07-15 10:00 UTC → removed"]

    def test_link_is_removed_whole_or_in_part(self, send, console):
        link = VehicleMeterLink.objects.get().pk
        send("remove_link", link=link, valid_from="2026-07-15T09:00", valid_to="2026-07-15T10:00")

        assert self.spans() == [
            ("M1", at("08:00"), at("09:00")),
            ("M1", at("10:00"), None),
        ]
        told = "Link removed: V1 at M1 from 2026-07-15 09:00 UTC to 2026-07-15 10:00 UTC Undo"
        assert told in self.told(console)

        send("remove_link", link=link)
        assert self.spans() == [("M1", at("10:00"), None)]

    def test_link_of_the_past_can_be_removed(self, send, console):
        link_vehicle("V1", "M2", at("10:00"))
        send("remove_link", link=VehicleMeterLink.objects.get(meter_id="M1").pk)

        assert self.spans() == [("M2", at("10:00"), None)]

    @pytest.mark.parametrize(
        "fields",
        [
            {"valid_to": "2026-07-15T08:00"},
            {"valid_from": "2026-07-15T10:00", "valid_to": "2026-07-15T09:00"},
            {"valid_from": "2026-07-15T07:00", "valid_to": "2026-07-15T07:30"},
        ],
    )
    def test_time_outside_the_link_is_refused(self, send, fields):
        answer = send("remove_link", link=VehicleMeterLink.objects.get().pk, **fields)

        assert words(answer.content.decode()) == (
            "Enter a time within the link: M1 from 2026-07-15 08:00 UTC"
        )
        assert self.spans() == [("M1", at("08:00"), None)]

    @pytest.mark.parametrize("view", ["end_link", "remove_link"])
    def test_time_that_is_none_is_refused(self, send, view):
        fields = {"ends_at": "soon", "valid_from": "soon"}
        answer = send(view, link=VehicleMeterLink.objects.get().pk, **fields)

        assert words(answer.content.decode()) == "Enter a valid date and time"

    @pytest.mark.parametrize(
        ("view", "fields"),
        [
            ("link", {"meter": "M3", "valid_from": "2026-07-15T09:00"}),
            ("end_link", {}),
            ("withdraw_link", {}),
            ("remove_link", {"valid_from": "2026-07-15T09:00"}),
        ],
    )
    def test_change_is_undone_from_its_message(self, send, console, view, fields):
        MeterFactory(meter_id="M3")
        link_vehicle("V1", "M2", at("13:00"))
        links = VehicleMeterLink.objects.filter(vehicle_id="V1")
        link = links.get(meter_id="M2" if view == "withdraw_link" else "M1").pk
        before = self.spans()
        send(view, **{"link": link} | fields)
        assert self.spans() != before
        page = html(console, page_of("vehicle", "V1"))
        value = re.search(r'name="undo" value="([^"]+)"', page)[1]

        response = console.post(reverse("admin:fleet_vehiclemeterlink_undo"), {"undo": value})
        assert response["Location"] == page_of("vehicle", "V1")
        assert self.spans() == before
        assert any(step.endswith(", undone") for step in self.log())

    @pytest.mark.in_process  # its form comes without a CSRF token
    def test_figure_changes_with_the_link(self, send, api):
        assert api.get("/v1/analytics/performance/V1").json()["meterId"] == "M1"
        send("link", meter="M2", valid_from="2026-07-15T08:00")

        assert api.get("/v1/analytics/performance/V1").json()["meterId"] == "M2"

    @pytest.mark.parametrize("view", ["link", "end_link", "withdraw_link", "remove_link"])
    def test_only_forms_of_the_page_itself_change_links(self, console, v1, view):
        page = page_of("vehicle", "V1", view)
        user = User.objects.get(username="manager")

        assert console.get(page).status_code == HTTPStatus.METHOD_NOT_ALLOWED
        elsewhere = signed_in(user, enforce_csrf_checks=True)
        assert elsewhere.post(page, {"meter": "M2"}).status_code == HTTPStatus.FORBIDDEN


class TestDeliveries:
    def test_deliveries_carry_their_marks(self, console, v1):
        record([vehicle_reading("V1", "11:30", 9.0)], at("11:32"))
        record([vehicle_reading("V1", "11:30", 9.0)], at("11:40"))
        content = shown(console, page_of("vehicle", "V1"))

        assert "11:30:00 13:30:00 CEST late repeat 9 - - 2026-07-15 11:40:00" in content
        assert "11:30:00 13:30:00 CEST correction 9 - - 2026-07-15 11:32:00" in content
        assert "11:30:00 13:30:00 CEST replaced 8 80.04 31.5 2026-07-15 11:31:00" in content

    def test_meter_has_deliveries_too(self, console, v1):
        content = shown(console, page_of("meter", "M1"))

        assert "2026-07-15 11:30:00 13:30:00 CEST 10 229.96 2026-07-15 11:31:00" in content

    def test_reading_of_a_clock_that_is_ahead_is_shown(self, console):
        record([vehicle_reading("V1", "12:10")], NOON)

        assert "2026-07-15 12:10:00" in shown(console, page_of("vehicle", "V1"))


def fault(**fields: object) -> Fault:
    values = {"kind": "low_efficiency", "value": 70.25, "threshold": 85, "opened_at": at("10:00")}
    return Fault.objects.create(**values | fields)


class TestFaults:
    def test_open_faults_stand_on_top(self, console, v1):
        fault(vehicle_id="V1")
        fault(vehicle_id="V1", kind="hot_battery", value=52, threshold=50, state="acknowledged")
        fault(vehicle_id="V2")
        content = shown(console, page_of("vehicle", "V1"))

        assert "Low efficiency open 2026-07-15 10:00:00 12:00:00 CEST 70.2 % 85 %" in content
        assert "Battery too hot acknowledged" in content
        assert content.count("Low efficiency open") == 1
        assert content.index("Open faults") < content.index("State of charge")

    def test_fault_of_the_site_is_shown_with_its_devices(self, console, v1, berlin):
        fault(kind="site_silent", site=berlin, value=7, threshold=5)

        for page in (page_of("vehicle", "V1"), page_of("meter", "M1")):
            assert "Many devices silent at its site open" in shown(console, page)
        assert "Many devices silent" not in shown(console, page_of("meter", "M2"))

    def test_last_closed_ones_are_kept_below(self, console, v1):
        for minute in range(12):
            closed_at = at(f"11:{minute:02}")
            fault(meter_id="M1", kind="silent", value=minute, state="closed", closed_at=closed_at)
        content = shown(console, page_of("meter", "M1"))

        assert "Open faults" not in content
        assert content.count("Device silent closed") == 10
        assert "2026-07-15 11:11:00 13:11:00 CEST" in content

    def test_device_without_faults_says_so(self, console, v1):
        content = shown(console, page_of("vehicle", "V1"))

        assert "Open faults" not in content
        assert "This vehicle has no closed faults" in content


class TestSettings:
    def test_register_is_changed_on_the_page_and_leads_back_to_it(self, console, v1):
        values = {"energy_register": "counter", "max_power_kw": "22", "_continue": "1", **UNSCALED}
        response = console.post(page_of("vehicle", "V1"), values)

        assert response["Location"] == page_of("vehicle", "V1")
        changed = Vehicle.objects.get(pk="V1")
        assert (changed.energy_register, changed.max_power_kw) == ("counter", 22.0)

    def test_mistake_opens_the_settings(self, console, v1):
        closed = html(console, page_of("vehicle", "V1"))
        response = console.post(page_of("vehicle", "V1"), {"max_power_kw": "much"})

        assert 'id="settings">' in closed
        assert 'id="settings" open>' in response.content.decode()
        assert "State of charge 80.0 %" in words(response.content.decode())

    def test_device_is_added_on_a_page_of_its_own(self, console):
        content = shown(console, reverse("admin:fleet_vehicle_add"))

        assert "has not sent any readings" not in content


class TestPeople:
    def test_viewer_sees_all_and_can_change_nothing(self, sign_in, v1):
        viewer = sign_in("view_vehicle")
        link_vehicle("V1", "M2", at("13:00"))
        fault(vehicle_id="V1")
        content = html(viewer, page_of("vehicle", "V1"))

        assert "State of charge 80.0 %" in words(content)
        assert "M2 begins later 2026-07-15 13:00:00" in words(content)
        assert "Low efficiency open" in words(content)
        for way in ("<dialog", 'class="device-form"', 'name="_continue"', "/fault/", "/meter/"):
            assert way not in content
        assert "Links in force M1" in shown(viewer, page_of("vehicle", "V1", "why"))

    @pytest.mark.parametrize("view", ["link", "end_link", "withdraw_link", "remove_link"])
    def test_viewer_is_refused_by_the_server_too(self, sign_in, v1, view):
        viewer = sign_in("view_vehicle", "view_meter", "view_vehiclemeterlink")
        fields = {"meter": "M2", "link": VehicleMeterLink.objects.get().pk}

        response = viewer.post(page_of("vehicle", "V1", view), fields)

        assert response.status_code == HTTPStatus.FORBIDDEN
        assert VehicleMeterLink.objects.get().valid_during.upper is None

    @pytest.mark.parametrize("view", ["change", "figures", "why"])
    def test_others_see_nothing(self, sign_in, v1, view):
        stranger = sign_in("view_meter", "add_vehiclemeterlink")

        assert stranger.get(page_of("vehicle", "V1", view)).status_code == HTTPStatus.FORBIDDEN

    @pytest.mark.parametrize("view", ["figures", "why"])
    def test_unknown_vehicle_is_not_found(self, console, view):
        assert console.get(page_of("vehicle", "V9", view)).status_code == HTTPStatus.NOT_FOUND

    def test_who_may_link_has_the_form_and_who_may_end_has_the_button(self, sign_in, v1):
        manager = sign_in("view_vehicle", "view_meter", "add_vehiclemeterlink")
        assert 'class="device-form"' in html(manager, page_of("vehicle", "V1"))
        assert "<dialog" not in html(manager, page_of("vehicle", "V1"))

        User.objects.all().delete()
        manager = sign_in("view_vehicle", "change_vehiclemeterlink")
        assert 'class="device-form"' not in html(manager, page_of("vehicle", "V1"))
        assert "<dialog" in html(manager, page_of("vehicle", "V1"))


@pytest.mark.parametrize("chosen", ["24h", "30d"])
@pytest.mark.parametrize(("kind", "pk"), [("vehicle", "V1"), ("meter", "M1")])
def test_statements_do_not_grow_with_history(console, v1, statements_sent, kind, pk, chosen):
    page = f"{page_of(kind, pk)}?range={chosen}"

    def happens(numbers):
        for number in numbers:
            end_link("V1")
            link_vehicle("V1", f"M{number % 3}", NOON - timedelta(hours=number))
            link_vehicle(f"V{number}", "M1", NOON - timedelta(days=1, hours=number))
            fault(vehicle_id="V1", meter_id="M1", state="closed", closed_at=NOON)
            minute = f"10:{number:02}"
            record([vehicle_reading("V1", minute), meter_reading("M1", minute)], NOON)

    happens(range(12))
    html(console, page)
    with statements_sent() as few:
        html(console, page)

    happens(range(12, 24))
    with statements_sent() as many:
        html(console, page)

    assert many[0] <= few[0]  # twice the history, no more statements


def test_page_needs_no_other_host(console, v1):
    content = html(console, page_of("vehicle", "V1"))

    assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', content) == []
