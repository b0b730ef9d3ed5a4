"""The lists of vehicles and meters: their columns, filters, order and CSV."""

import csv
import io
from datetime import timedelta
from http import HTTPStatus

import pytest
from django.test import Client

from analytics.figures import snapshot
from analytics.models import MeterDay, VehicleDay
from fleet.models import Vehicle
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading
from tests.factories import LinkFactory, MeterFactory, SiteFactory, VehicleFactory
from tests.lists import cells, found, page
from tests.people import shown, signed_in, superuser

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

DEVICES = ["vehicle", "meter"]
QUERIES = [
    "",
    "?o=4",
    "?q={initial}",
    "?health=healthy&online=yes&linked=yes&o=-7",
    "?seen=hour&site__isnull=False&o=8",
]


@pytest.fixture
def console(clock) -> Client:
    return superuser()


def day(vehicle_id: str, efficiency: float | None, health: str, reason: str | None = None) -> None:
    VehicleDay.objects.create(
        vehicle_id=vehicle_id,
        ends_at=NOON,
        energy_ac_kwh=10,
        energy_dc_kwh=(efficiency or 0) / 10,
        efficiency_percent=efficiency,
        vehicle_readings=1,
        meter_readings=1,
        suspect_steps=0,
        ac_source="linked",
        health=health,
        reason=reason,
    )


@pytest.fixture
def fleet() -> None:
    """LOSSY and GOOD share M1 in Berlin; ALONE has no link, NEW has sent nothing, as has M2."""
    berlin = SiteFactory(name="Berlin", time_zone="Europe/Berlin")
    m1 = MeterFactory(meter_id="M1", site=berlin)
    MeterFactory(meter_id="M2")
    lossy = VehicleFactory(vehicle_id="LOSSY", site=berlin)
    good = VehicleFactory(vehicle_id="GOOD", site=berlin)
    VehicleFactory(vehicle_id="NEW")
    LinkFactory(vehicle=lossy, meter=m1)
    LinkFactory(vehicle=good, meter=m1)
    fields = {"soc_percent": 80.04, "battery_temp_celsius": 31.5}
    record([vehicle_reading("LOSSY", "11:30", 6.5, **fields)], NOON)
    record([vehicle_reading("GOOD", "11:30", 9.0), vehicle_reading("ALONE", "10:30")], at("11:50"))
    record([meter_reading("M1", "11:30", 20.0, voltage_v=229.96)], NOON)
    snapshot.refresh()
    VehicleDay.objects.all().delete()
    day("LOSSY", 65.0, "critical")
    day("GOOD", 90.0, "healthy")
    day("ALONE", 20.0, "unknown", "too_little_energy")


class TestColumns:
    def test_vehicle_is_shown_with_its_newest_values_its_day_and_its_meter(self, console, fleet):
        _, _, lossy, new = cells(console.get(page("vehicle")))

        assert lossy == {
            "Select record": "",
            "Vehicle": "LOSSY",
            "Site": "Berlin",
            "Register": "Interval",
            "SoC, %": "80.0",
            "Battery, °C": "31.5",
            "Last seen, UTC": "2026-07-15 11:30:00 online 13:30:00 CEST",
            "DC 24 h, kWh": "6.50",
            "AC 24 h, kWh": "10.00",
            "Efficiency, %": "65.00",
            "Health": "critical",
            "Meter now": "M1",
        }
        assert set(new.values()) == {"", "NEW", "Interval", "-"}

    def test_meter_is_shown_with_its_newest_values_its_day_and_its_vehicles(self, console, fleet):
        m1, m2 = cells(console.get(page("meter")))

        assert m1 == {
            "Select record": "",
            "Meter": "M1",
            "Site": "Berlin",
            "Register": "Interval",
            "Voltage, V": "230.0",
            "Last seen, UTC": "2026-07-15 11:30:00 online 13:30:00 CEST",
            "AC 24 h, kWh": "20.00",
            "DC while linked, kWh": "15.50",
            "Efficiency, %": "77.50",
            "Health": "degraded",
            "Vehicles now": "GOOD , LOSSY",
        }
        assert (m2["Meter"], m2["Voltage, V"], m2["Vehicles now"]) == ("M2", "-", "-")

    def test_online_is_who_was_heard_of_lately_whatever_time_it_sent(self, console, fleet):
        seen = [row["Last seen, UTC"] for row in cells(console.get(page("vehicle")))]

        assert seen[0] == "2026-07-15 10:30:00 offline"
        assert seen[1] == "2026-07-15 11:30:00 offline 13:30:00 CEST"
        assert seen[2] == "2026-07-15 11:30:00 online 13:30:00 CEST"

    def test_site_on_another_day_shows_which(self, console):
        tokyo = SiteFactory(time_zone="Asia/Tokyo")
        VehicleFactory(vehicle_id="V1", site=tokyo)
        record([vehicle_reading("V1", "11:59")], NOON)
        record([vehicle_reading("V1", "15:30")], at("15:30"))

        (row,) = cells(console.get(page("vehicle")))
        assert row["Last seen, UTC"] == "2026-07-15 15:30:00 online 16 Jul 00:30:00 JST"

    def test_reason_stands_below_a_health_that_is_unknown_or_suspect(self, console, fleet):
        day("NEW", 130.0, "suspect")

        healths = {row["Vehicle"]: row["Health"] for row in cells(console.get(page("vehicle")))}

        assert healths["ALONE"] == "unknown too little energy"
        assert healths["NEW"] == "suspect over 100 %"

    @pytest.mark.parametrize("name", ["vehicle", "meter"])
    def test_warning_stands_below_an_id_that_looks_like_an_earlier_one(self, console, name):
        heading, make = name.capitalize(), {"vehicle": VehicleFactory, "meter": MeterFactory}[name]
        for device_id in ("A-1", "a-1.0", "A-10"):
            make(pk=device_id)

        listed = [row[heading] for row in cells(console.get(page(name)))]

        assert listed == ["A-1", "A-10", "a-1.0 ⚠ A-1 differs only by case or .0"]
        assert [row[heading] for row in exported(console, name)] == ["A-1", "A-10", "a-1.0"]

    def test_meter_that_was_never_linked_says_so(self, console, fleet):
        record([meter_reading("M2", "11:30", 5.0)], NOON)
        snapshot.refresh()

        _, m2 = cells(console.get(page("meter")))
        assert (m2["Health"], m2["DC while linked, kWh"]) == ("unknown no link in 24 h", "0.00")

    def test_meter_of_many_vehicles_names_two_and_counts_the_others(self, console):
        meter = MeterFactory()
        for number in range(5):
            LinkFactory(vehicle=VehicleFactory(vehicle_id=f"V{number}"), meter=meter)

        (row,) = cells(console.get(page("meter")))
        assert row["Vehicles now"] == "V0 , V1 and 3 more"

    def test_link_that_has_ended_or_begins_later_is_not_the_meter_now(self, console, clock):
        vehicle = VehicleFactory()
        LinkFactory(vehicle=vehicle, meter=MeterFactory(meter_id="BEFORE"), valid_from=at("08:00"))
        LinkFactory(vehicle=vehicle, meter=MeterFactory(meter_id="NOW"), valid_from=at("10:00"))
        LinkFactory(vehicle=vehicle, meter=MeterFactory(meter_id="LATER"), valid_from=at("13:00"))

        assert [row["Meter now"] for row in cells(console.get(page("vehicle")))] == ["NOW"]
        linked = {row["Meter"]: row["Vehicles now"] for row in cells(console.get(page("meter")))}
        assert linked == {"BEFORE": "-", "NOW": vehicle.pk, "LATER": "-"}


class TestFiltersAndOrder:
    @pytest.mark.parametrize(
        ("name", "query", "expected"),
        [
            ("vehicle", "?health=critical", ["LOSSY"]),
            ("vehicle", "?health=unknown", ["ALONE"]),
            ("vehicle", "?health=whatever", ["ALONE", "GOOD", "LOSSY", "NEW"]),
            ("vehicle", "?online=yes", ["LOSSY"]),
            ("vehicle", "?online=no", ["ALONE", "GOOD", "NEW"]),
            ("vehicle", "?linked=no&online=no", ["ALONE", "NEW"]),
            ("vehicle", "?health=critical&q=good", []),
            ("meter", "?health=degraded", ["M1"]),
            ("meter", "?online=yes", ["M1"]),
            ("meter", "?online=no", ["M2"]),
            ("meter", "?linked=yes", ["M1"]),
            ("meter", "?linked=no", ["M2"]),
        ],
    )
    def test_filters_keep_the_devices_asked_for(self, console, fleet, name, query, expected):
        assert found(console, name, query) == expected

    @pytest.mark.parametrize(
        ("name", "heading", "rising"),
        [
            ("vehicle", "Efficiency, %", ["ALONE", "LOSSY", "GOOD", "NEW"]),
            ("vehicle", "Health", ["LOSSY", "GOOD", "ALONE", "NEW"]),
            ("vehicle", "Last seen, UTC", ["ALONE", "LOSSY", "GOOD", "NEW"]),
            ("vehicle", "Meter now", ["LOSSY", "GOOD", "NEW", "ALONE"]),
            ("meter", "Efficiency, %", ["M1", "M2"]),
            ("meter", "Vehicles now", ["M2", "M1"]),
        ],
    )
    def test_any_column_orders_with_rows_without_a_value_last(
        self, console, fleet, name, heading, rising
    ):
        column = list(cells(console.get(page(name)))[0]).index(heading)

        assert found(console, name, f"?o={column}") == rising


class TestTitle:
    def test_show_all_is_offered_only_where_something_is_left_out(self, console, fleet):
        assert "Show all" not in shown(console, page("vehicle"))
        assert "1 result" in shown(console, page("vehicle", "?health=critical"))
        assert "Show all" in shown(console, page("vehicle", "?q=lossy"))

    def test_list_without_rows_says_whether_there_are_none_or_none_that_fit(self, console):
        assert "There are no vehicles." in shown(console, page("vehicle"))
        assert "No vehicles match this search" in shown(console, page("vehicle", "?q=none"))


class TestStatements:
    @pytest.mark.parametrize("query", QUERIES)
    @pytest.mark.parametrize("name", DEVICES)
    def test_list_costs_the_same_statements_however_many_devices(
        self, console, statements_sent, name, query
    ):
        few, many = [], []
        for devices, sent_of in ((10, few), (200, many)):
            grow_fleet(devices)
            with statements_sent() as sent:
                assert found(console, name, query.format(initial=name[0]))
            sent_of += sent

        assert few == many

    @pytest.mark.parametrize("name", DEVICES)
    def test_csv_costs_the_same_statements_however_many_devices(
        self, console, statements_sent, name
    ):
        few, many = [], []
        for devices, sent_of in ((10, few), (200, many)):
            grow_fleet(devices)
            with statements_sent() as sent:
                exported(console, name)
            sent_of += sent

        assert few == many


def grow_fleet(size: int) -> None:
    """Add linked vehicles, healthy and heard of, that are seldom alone at their meter."""
    site = SiteFactory()
    meters = MeterFactory.create_batch(size // 2, site=site)
    for number in range(size):
        vehicle = VehicleFactory(site=site)
        LinkFactory(vehicle=vehicle, meter=meters[number // 2])
        day(vehicle.pk, 90.0, "healthy")
    record([vehicle_reading(vehicle.pk) for vehicle in Vehicle.objects.all()], NOON)
    record([meter_reading(meter.pk) for meter in meters], NOON)
    for meter in meters:
        MeterDay.objects.create(
            meter=meter,
            ends_at=NOON,
            energy_ac_kwh=20,
            linked_ac_kwh=20,
            linked_dc_kwh=18,
            efficiency_percent=90,
            readings=1,
            suspect_steps=0,
            health="healthy",
        )


def exported(console: Client, name: str, query: str = "") -> list[dict[str, str]]:
    response = console.get(page(name, f"csv{query}"))
    assert (response.status_code, response["Content-Type"]) == (
        HTTPStatus.OK,
        "text/csv; charset=utf-8",
    )
    text = b"".join(response.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


class TestCsv:
    def test_it_has_the_columns_of_the_list_with_all_digits(self, console, fleet):
        _, _, lossy, new = exported(console, "vehicle")

        assert lossy == {
            "Vehicle": "LOSSY",
            "Name": "",
            "Site": "Berlin",
            "Register": "interval",
            "SoC, %": "80.04",
            "Battery, °C": "31.5",
            "Last seen, UTC": "2026-07-15 11:30:00",
            "Online": "yes",
            "DC 24 h, kWh": "6.5",
            "AC 24 h, kWh": "10.0",
            "Efficiency, %": "65.0",
            "Health": "critical",
            "Reason": "",
            "Meter now": "M1",
        }
        assert (new["Vehicle"], new["SoC, %"], new["Online"]) == ("NEW", "", "no")

    def test_meters_name_all_their_vehicles(self, console, fleet):
        m1, m2 = exported(console, "meter")

        assert (m1["Voltage, V"], m1["Vehicles now"]) == ("229.96", "GOOD LOSSY")
        assert (m2["Voltage, V"], m2["Vehicles now"]) == ("", "")

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("?health=critical", ["LOSSY"]),
            ("?q=o&o=-7", ["GOOD", "LOSSY", "ALONE"]),
            ("?online=no&o=-0", ["NEW", "GOOD", "ALONE"]),
        ],
    )
    def test_it_has_the_rows_and_the_order_of_the_list(self, console, fleet, query, expected):
        assert [row["Vehicle"] for row in exported(console, "vehicle", query)] == expected
        assert found(console, "vehicle", query) == expected

    def test_it_has_the_rows_of_all_pages(self, console):
        VehicleFactory.create_batch(120)

        assert len(found(console, "vehicle", "?p=2")) == 50
        assert len(exported(console, "vehicle", "?p=2")) == 120

    @pytest.mark.parametrize(
        "start", ["=", "+", "-", "@", "\t", "\r", "\uff1d", "\u00a0=", "\ufeff="]
    )
    def test_text_is_no_formula_to_a_spreadsheet(self, console, start):
        VehicleFactory(vehicle_id="V1", site=SiteFactory(name=f"{start}1+1"))

        (row,) = exported(console, "vehicle")
        assert row["Site"] == f"'{start}1+1"

    def test_number_below_zero_stays_a_number(self, console):
        record([vehicle_reading("V1", battery_temp_celsius=-12.5)], NOON)

        (row,) = exported(console, "vehicle")
        assert row["Battery, °C"] == "-12.5"

    def test_list_leads_to_the_csv_of_what_is_filtered(self, console, fleet):
        content = console.get(page("vehicle", "?health=critical&o=-7")).content.decode()

        assert 'href="/admin/fleet/vehicle/csv?health=critical&amp;o=-7"' in content

    def test_filter_that_cannot_be_understood_leads_back_to_the_list(self, console, fleet):
        response = console.get(page("vehicle", "csv?site__id__exact=nowhere"))

        assert response["Location"] == page("vehicle", "?e=1")

    def test_who_may_not_see_the_list_gets_no_csv(self, django_user_model, fleet):
        staff = signed_in(django_user_model.objects.create_user("staff", is_staff=True))

        assert staff.get(page("vehicle", "csv")).status_code == HTTPStatus.FORBIDDEN


def test_device_that_is_heard_of_again_is_online(console, fleet, clock):
    clock.shift(timedelta(minutes=6))
    assert found(console, "vehicle", "?online=yes") == []

    record([vehicle_reading("GOOD", "12:05")], at("12:06"))

    assert found(console, "vehicle", "?online=yes") == ["GOOD"]
