"""The overview: that its numbers are those of the API, and that it points at what is wrong."""

import json
import re
from datetime import timedelta
from html import unescape
from http import HTTPStatus

import pytest
from django.test import Client
from django.urls import reverse

from analytics.figures import snapshot
from analytics.formulas import Health
from analytics.models import Fault, FleetDay, VehicleDay
from energy_engine.console.overview.dashboard import bins
from fleet.links import link_vehicle
from fleet.models import Meter
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading
from tests.factories import MeterFactory, SiteFactory, VehicleFactory
from tests.people import member_of, shown, signed_in, superuser

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

INDEX = "/admin/"
PART = "/admin/overview"

_tile = re.compile(r'data-tile="([^"]*)">(.*?)</li>', re.DOTALL)
_exact = re.compile(r'<data value="([^"]*)"')
_tag = re.compile(r"<[^>]*>")


@pytest.fixture
def console() -> Client:
    return superuser()


def words(html: str) -> str:
    return re.sub(r" ([,.])", r"\1", " ".join(unescape(_tag.sub(" ", html)).split()))


def tiles(client: Client) -> dict[str, str]:
    """Return the text of each tile, by its name."""
    return {name: words(text) for name, text in _tile.findall(shown(client, PART))}


def exact(client: Client) -> dict[str, str]:
    """Return the number behind each tile."""
    found = _tile.findall(shown(client, PART))
    return {name: _exact.search(text).group(1) for name, text in found}


def rows(client: Client, heading: str) -> list[str]:
    """Return the text of each row of the table that `heading` stands above."""
    section = shown(client, PART).split(f'id="{heading}-heading"')[1]
    return [words(row) for row in section.split("<tbody>")[1].split("</tbody>")[0].split("</tr>")][
        :-1
    ]


def charge(
    vehicle_id: str, meter_id: str, dc_kwh: float, ac_kwh: float, clock_time: str = "11:58"
) -> None:
    """Link a vehicle, and let its meter and it send a reading."""
    link_vehicle(vehicle_id, meter_id, at("00:00"))
    record([vehicle_reading(vehicle_id, clock_time, dc_kwh)], NOON)
    record([meter_reading(meter_id, clock_time, ac_kwh)], NOON)


@pytest.fixture
def fleet() -> None:
    """GOOD and LOSSY in Berlin, SUSPECT in Paris, and a meter without a vehicle."""
    berlin = SiteFactory(name="Berlin", time_zone="Europe/Berlin", price_per_kwh="0.5")
    paris = SiteFactory(name="Paris", price_per_kwh="0.25")
    pairs = (("GOOD", "M1", berlin), ("LOSSY", "M2", berlin), ("SUSPECT", "M3", paris))
    for vehicle_id, meter_id, site in pairs:
        VehicleFactory(vehicle_id=vehicle_id, site=site)
        MeterFactory(meter_id=meter_id, site=site)
    charge("GOOD", "M1", 90, 100)
    charge("LOSSY", "M2", 60, 100)
    charge("SUSPECT", "M3", 130, 100)
    record([meter_reading("M4", "11:00", 100)], NOON)
    snapshot.refresh()


class TestTiles:
    def test_numbers_are_those_of_the_api(self, console, fleet, api):
        of_api = api.get("/v1/analytics/fleet").json()

        numbers = exact(console)

        assert float(numbers["ac"]) == of_api["energyConsumedAc"] == 400
        assert float(numbers["dc"]) == of_api["energyDeliveredDc"] == 280
        assert float(numbers["efficiency"]) == of_api["efficiencyRatio"] == 70
        assert int(numbers["vehicles-online"]) == of_api["vehicles"]["online"] == 3
        assert int(numbers["meters-online"]) == of_api["meters"]["online"] == 4
        assert tiles(console)["vehicles-online"].startswith("Vehicles online 3 of 3")

    def test_energy_is_compared_with_the_24_hours_before(self, console, fleet):
        FleetDay.objects.update(before_ac_kwh=500, before_dc_kwh=250)

        found = tiles(console)

        assert found["ac"].endswith("▼ 20.0 % less than in the 24 h before")
        assert found["dc"].endswith("▲ 12.0 % more than in the 24 h before")
        assert found["efficiency"].endswith(
            "▲ 20.00 percentage points higher than in the 24 h before"
        )

    def test_efficiency_that_has_sunk_is_said_to_be_worse(self, console, fleet):
        FleetDay.objects.update(before_ac_kwh=400, before_dc_kwh=300)

        assert tiles(console)["efficiency"].endswith(
            "▼ 5.00 percentage points lower than in the 24 h before"
        )

    def test_what_has_not_changed_is_said_to_be_the_same(self, console, fleet):
        FleetDay.objects.update(before_ac_kwh=400, before_dc_kwh=280)

        found = tiles(console)
        assert found["ac"].endswith("= the same as in the 24 h before")
        assert found["efficiency"].endswith("= the same as in the 24 h before")

    def test_nothing_before_is_said_so(self, console, fleet):
        found = tiles(console)

        assert found["ac"].endswith("none in the 24 h before")
        assert found["efficiency"].endswith("none in the 24 h before")

    def test_loss_is_that_of_vehicles_with_a_meter_and_a_health_that_can_be(self, console, fleet):
        # GOOD loses 10 kWh and LOSSY 40; SUSPECT cannot have delivered what it says.
        assert exact(console)["lost"] == "50.0"
        assert "2 vehicles with a linked meter" in tiles(console)["lost"]

    def test_loss_costs_what_the_site_pays(self, console, fleet):
        assert "25.00 EUR at sites with a tariff" in tiles(console)["lost"]

    def test_loss_is_in_each_currency_that_sites_pay_in(self, console, fleet):
        boston = SiteFactory(price_per_kwh="0.1", currency="USD")
        Meter.objects.filter(pk="M1").update(site=boston)
        snapshot.refresh()

        assert "20.00 EUR and 1.00 USD at sites" in tiles(console)["lost"]

    def test_loss_without_a_tariff_is_in_kwh_alone(self, console, fleet):
        Meter.objects.update(site=SiteFactory())
        snapshot.refresh()

        assert exact(console)["lost"] == "50.0"
        assert "tariff" not in tiles(console)["lost"]

    def test_part_of_the_fleets_ac_is_no_loss_of_a_vehicle(self, console):
        record([vehicle_reading("V1", "11:00", 40.0), meter_reading("M1", "11:00", 100.0)], NOON)
        snapshot.refresh()

        assert VehicleDay.objects.get().ac_source == "fleet"
        assert exact(console)["lost"] == "0"

    def test_faults_that_are_not_closed_are_counted(self, console, fleet):
        for number, state in enumerate(["open", "open", "acknowledged", "closed"]):
            Fault.objects.create(
                kind="low_efficiency",
                state=state,
                vehicle_id=f"V{number}",
                value=60,
                threshold=85,
                opened_at=NOON,
            )

        assert exact(console)["faults"] == "3"
        assert "1 of them acknowledged" in tiles(console)["faults"]
        assert reverse("admin:analytics_fault_changelist") in shown(console, PART)

    def test_rate_of_readings_is_known_at_the_second_look(self, console, fleet, clock):
        first = shown(console, PART)
        assert 'data-renew-seconds="11"' in first
        record([vehicle_reading("GOOD", "11:59")] * 60, NOON)
        clock.shift(timedelta(seconds=30))

        assert exact(console)["rate"] == "2.0"
        assert 'data-renew-seconds="30"' in shown(console, PART)


class TestChart:
    def test_it_has_each_hour_and_the_one_that_is_not_over(self, console, fleet):
        snapshot.refresh_trend()

        chart = json.loads(
            re.search(
                r'<script id="energy-data" type="application/json">(.*?)</script>',
                shown(console, PART),
            ).group(1)
        )

        ac, dc, efficiency = (series["values"] for series in chart["series"])
        assert len(chart["times"]) == len(ac) == 25
        assert chart["times"][0] == "2026-07-14T12:00:00Z"
        assert chart["times"][-1] == "2026-07-15T12:00:00Z"
        assert (ac[23], dc[23], efficiency[23]) == (400, 280, 70)
        assert efficiency[0] is None
        assert [mark["label"] for mark in chart["marks"]] == [
            "Healthy from 85 %",
            "Degraded from 70 %",
        ]


class TestDistribution:
    def test_bins_hold_five_percent_each(self):
        counted = [(Health.HEALTHY, 17, 4), (Health.HEALTHY, 18, 2), (Health.DEGRADED, 16, 1)]

        found = {
            row.label: (row.vehicles, [bar.width_percent for bar in row.bars])
            for row in bins(counted)
        }

        assert found["90 to 95 %"] == (2, [50])
        assert found["85 to 90 %"] == (4, [100])
        assert found["80 to 85 %"] == (1, [25])
        assert found["over 100 %"] == (0, [])

    def test_exactly_one_hundred_percent_is_not_over_it(self):
        found = {row.label: row.vehicles for row in bins([("healthy", 20, 1), ("suspect", 20, 2)])}

        assert (found["95 to 100 %"], found["over 100 %"]) == (1, 2)

    def test_limits_stand_where_the_healths_begin(self, settings):
        settings.HEALTHY_EFFICIENCY_PERCENT = 82.5

        begins = {row.label: row.begins for row in bins([])}

        assert begins["80 to 85 %"] == ["healthy from 82.5 %"]
        assert begins["70 to 75 %"] == ["degraded from 70 %"]

    def test_it_goes_down_to_the_lowest_efficiency(self):
        assert bins([])[-1].label == "50 to 55 %"
        assert bins([("critical", 0, 1)])[-1].label == "0 to 5 %"

    def test_vehicles_of_unknown_health_are_counted_apart(self, console, fleet):
        VehicleFactory(vehicle_id="NEW")
        snapshot.refresh()

        assert rows(console, "bins")[0] == "over 100 % 1"
        assert "1 vehicle with unknown health is not shown" in words(shown(console, PART))


class TestWorst:
    def test_lowest_efficiency_comes_first_with_what_it_is_made_of(self, console, fleet):
        assert rows(console, "worst") == [
            "LOSSY 60.00 critical 40.0 none Berlin M2 its own meter",
            "GOOD 90.00 healthy 10.0 none Berlin M1 its own meter",
            "SUSPECT 130.00 suspect over 100 % - none Paris M3 its own meter",
        ]

    def test_open_fault_is_one_click_away(self, console, fleet):
        fault = Fault.objects.create(
            kind="low_efficiency", vehicle_id="LOSSY", value=60, threshold=85, opened_at=NOON
        )
        Fault.objects.create(
            kind="silent", vehicle_id="LOSSY", value=20, threshold=15, opened_at=NOON
        )

        assert "low efficiency, open" in rows(console, "worst")[0]
        assert reverse("admin:analytics_fault_change", args=[fault.pk]) in shown(console, PART)

    def test_efficiency_that_says_nothing_is_not_among_them(self, console):
        charge("V1", "M1", 0.1, 1.0)
        snapshot.refresh()

        assert "No vehicle has a meaningful efficiency yet" in shown(console, PART)

    def test_they_are_ten(self, console):
        for number in range(12):
            charge(f"V{number:02}", f"M{number}", 90 - number, 100)
        snapshot.refresh()

        assert [row.split()[0] for row in rows(console, "worst")] == [
            f"V{number:02}" for number in range(11, 1, -1)
        ]


class TestSilent:
    def test_longest_silence_comes_first_with_the_time_of_the_site(self, console, clock):
        berlin = SiteFactory(name="Berlin", time_zone="Europe/Berlin")
        VehicleFactory(vehicle_id="V1", site=berlin)
        MeterFactory(meter_id="NEVER")
        record([vehicle_reading("V1", "11:00")], at("11:50"))
        record([meter_reading("M1", "11:00")], at("10:30"))
        record([vehicle_reading("V2", "11:00")], NOON)

        assert rows(console, "silent") == [
            "M1 1 h 30 min meter - 2026-07-15 10:30:00 -",
            "V1 10 min vehicle Berlin 2026-07-15 11:50:00 13:50:00 CEST",
        ]
        text = words(shown(console, PART))
        assert "2 devices are silent. 1 has never sent a reading." in text

    def test_retired_device_is_not_silent(self, console, clock):
        record([meter_reading("M1", "11:00"), vehicle_reading("V1", "11:00")], at("10:30"))
        Meter.objects.update(retired_at=at("11:00"))

        assert [row.split()[0] for row in rows(console, "silent")] == ["V1"]

    def test_they_are_ten_at_most_and_all_are_counted(self, console, clock):
        record([vehicle_reading(f"V{number}") for number in range(12)], at("11:00"))
        record([meter_reading("M1")], at("10:00"))

        found = rows(console, "silent")
        assert (len(found), found[0].split()[0]) == (10, "M1")
        assert "13 devices are silent. Those silent longest are listed" in words(
            shown(console, PART)
        )

    def test_nobody_is(self, console):
        record([vehicle_reading("V1")], NOON)

        assert "No device is silent." in shown(console, PART)


class TestFreshness:
    def test_it_says_how_old_its_figures_are(self, console, fleet, clock):
        clock.shift(timedelta(seconds=40))

        text = shown(console, PART)

        assert "as of 12:00:00 UTC, 40 s ago" in words(text)
        assert 'data-age-seconds="40"' in text
        assert "Check that the background worker" not in text

    def test_old_figures_are_said_to_be_old(self, console, fleet, clock):
        clock.shift(timedelta(minutes=12))

        assert "are 12 min old. Check that the background worker is running" in words(
            shown(console, PART)
        )

    def test_before_the_first_look_it_shows_what_is_known(self, console):
        record([vehicle_reading("V1")], NOON)

        assert "The last 24 hours have not been calculated yet" in words(shown(console, PART))
        assert set(tiles(console)) == {"vehicles-online", "meters-online", "faults", "rate"}

    def test_fleet_without_data_says_how_to_begin(self, console):
        text = unescape(shown(console, PART))

        assert "curl http://testserver/v1/ingest" in text
        assert "manage.py simulate" in text
        assert tiles(console) == {}

    def test_reading_of_the_empty_page_is_one_that_is_accepted(self, console, api):
        body = re.search(r"-d '(.*?)'", unescape(shown(console, PART))).group(1)

        assert api.post("/v1/ingest", body).status_code == HTTPStatus.CREATED


class TestPage:
    def test_it_is_the_index_of_the_console(self, console, fleet):
        page = shown(console, INDEX)

        assert "<title> Overview |" in " ".join(page.split())
        assert f'data-url="{PART}"' in page
        assert "LOSSY" in page
        assert "overview.js" in page

    @pytest.mark.parametrize("group", ["Fleet manager", "Analyst", "Operator"])
    def test_each_role_sees_it(self, group, fleet):
        assert "faults" in tiles(member_of(group))

    def test_who_may_not_see_vehicles_gets_the_plain_index(self, django_user_model, fleet):
        staff = signed_in(django_user_model.objects.create_user("staff", is_staff=True))

        assert "LOSSY" not in shown(staff, INDEX)
        assert staff.get(PART).status_code == HTTPStatus.FORBIDDEN

    def test_who_has_signed_out_is_sent_to_sign_in(self, client, fleet):
        response = client.get(PART)

        assert response["Location"].startswith(reverse("admin:login"))

    def test_headings_are_in_order(self, console, fleet):
        levels = [int(level) for level in re.findall(r"<h(\d)", shown(console, PART))]

        assert set(levels) == {2}

    def test_it_costs_the_same_statements_however_many_devices(self, console, statements_sent):
        few, many = [], []
        for devices, sent_of in ((10, few), (200, many)):
            for number in range(devices):
                charge(f"V{devices}-{number}", f"M{devices}-{number}", 60, 100)
            snapshot.refresh()
            with statements_sent() as sent:
                shown(console, PART)
            sent_of += sent

        assert few == many


class TestSearch:
    @pytest.mark.parametrize(
        ("term", "expected"),
        [
            ("oss", ["LOSSY"]),
            ("m2", ["M2"]),
            ("berl", ["Berlin"]),
            ("vehic", ["Vehicles"]),
            ("nothing like it", []),
            ("", []),
            ("\0", []),
        ],
    )
    def test_devices_sites_and_pages_are_found_by_a_part_of_their_name(
        self, console, fleet, term, expected
    ):
        response = console.get("/admin/search/", {"s": term})

        assert response.status_code == HTTPStatus.OK
        titles = [found.title for found in response.context["results"]] if expected else []
        assert titles == expected

    def test_it_leads_to_the_page_of_what_it_found(self, console, fleet):
        found = console.get("/admin/search/", {"s": "LOSSY"})

        assert reverse("admin:fleet_vehicle_change", args=["LOSSY"]) in found.content.decode()

    def test_it_finds_no_more_than_a_few_of_each_kind(self, console):
        VehicleFactory.create_batch(20)

        response = console.get("/admin/search/", {"s": "V"})
        devices = [found for found in response.context["results"] if found.description == "vehicle"]
        assert len(devices) == 8

    def test_who_may_not_see_vehicles_finds_none(self, django_user_model, fleet):
        staff = signed_in(django_user_model.objects.create_user("staff", is_staff=True))

        assert "LOSSY" not in shown(staff, "/admin/search/?s=LOSSY")
