"""The whole fleet over HTTP: lists, filters, orders, pages, CSV and totals."""

import csv
import io
from datetime import timedelta
from itertools import chain
from urllib.parse import urlsplit

import pytest
from drf_spectacular.validation import validate_schema

from analytics.figures import snapshot
from fleet.links import link_vehicle
from fleet.models import Meter, Site, Vehicle
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

NO_HEALTH = (
    "health must be one or more of healthy, degraded, critical, suspect, unknown, "
    "separated by commas"
)
PATH = "/v1/analytics/performance"
ORDERINGS = [
    "vehicleId",
    "efficiencyRatio",
    "energyConsumedAc",
    "energyDeliveredDc",
    "averageBatteryTemp",
    "suspectSteps",
]
# Vehicle, AC and DC in kWh, °C: 90, 80, 60 and 130 %, one without AC, one without anything.
FLEET = (
    ("A", 10.0, 9.0, 30.0),
    ("B", 40.0, 32.0, None),
    ("C", 20.0, 12.0, 45.0),
    ("D", 10.0, 13.0, 25.0),
    ("E", None, 5.0, 20.0),
    ("F", None, None, None),
)


@pytest.fixture
def fleet(api):
    """Six vehicles at meters of their own; A, C and F at the north depot, B at the south one."""
    for vehicle_id, ac, dc, temp in FLEET:
        link_vehicle(vehicle_id, f"M-{vehicle_id}", at("00:00"))
        if ac is not None:
            record([meter_reading(f"M-{vehicle_id}", kwh=ac)], NOON)
        if dc is not None:
            record([vehicle_reading(vehicle_id, kwh=dc, battery_temp_celsius=temp)], NOON)
    north, south = (Site.objects.create(name=f"Depot {name}") for name in ("North", "South & Co"))
    Vehicle.objects.filter(pk__in="ACF").update(site=north)
    Vehicle.objects.filter(pk="B").update(site=south)
    snapshot.refresh()


@pytest.fixture
def large_fleet(api):
    """250 vehicles of one and the same efficiency, 150 without one, and 3 that differ."""
    record([meter_reading("M1", kwh=1000.0)], NOON)
    record([vehicle_reading(f"SAME{number:03}", kwh=3.0) for number in range(250)], NOON)
    Vehicle.objects.bulk_create(Vehicle(vehicle_id=f"NULL{number:03}") for number in range(150))
    for number, dc in enumerate((90.0, 50.0, 70.0)):
        link_vehicle(f"X{number}", f"MX{number}", at("00:00"))
        record([meter_reading(f"MX{number}", kwh=100.0)], NOON)
        record([vehicle_reading(f"X{number}", kwh=dc)], NOON)
    snapshot.refresh()


def ids(api, query: str = "") -> list[str]:
    answer = api.get(f"{PATH}?{query}")
    assert answer.status_code == 200, answer.content
    return [row["vehicleId"] for row in answer.json()["results"]]


def turned(api, address: str | None, way: str) -> list[list[str]]:
    """Return the ids of the pages from `address` on; the last one's way back is `pages[-1]`."""
    pages = []
    while address:
        parts = urlsplit(address)
        page = api.get(f"{parts.path}?{parts.query}").json()
        pages.append([row["vehicleId"] for row in page["results"]])
        last, address = page, page[way]
    pages.append(last["previous" if way == "next" else "next"])
    return pages


# --- Rows, filters and orders -----------------------------------------------------------------


@pytest.mark.usefixtures("fleet")
def test_list_has_a_row_for_each_vehicle_by_id(api):
    page = api.get(PATH).json()

    assert [row["vehicleId"] for row in page["results"]] == list("ABCDEF")
    assert (page["next"], page["previous"]) == (None, None)
    assert page["results"][0] == {
        "vehicleId": "A",
        "site": "Depot North",
        "meterId": "M-A",
        "periodEnd": "2026-07-15T12:00:00Z",
        "energyConsumedAc": 10.0,
        "energyDeliveredDc": 9.0,
        "efficiencyRatio": 90.0,
        "averageBatteryTemp": 30.0,
        "acSource": "linked",
        "health": "healthy",
        "reason": None,
        "dataPoints": {"vehicle": 1, "meter": 1},
        "coverage": {"vehicle": None, "meter": None},
        "suspectSteps": 0,
    }


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("health=healthy", "A"),
        ("health=degraded", "B"),
        ("health=critical", "C"),
        ("health=suspect", "D"),
        ("health=unknown", "EF"),
        ("health=degraded,critical", "BC"),
        ("site=Depot%20North", "ACF"),
        ("site=Depot%20South%20%26%20Co", "B"),
        ("site=depot%20north", ""),
        ("site=", ""),
        ("minEfficiency=80", "ABD"),
        ("minEfficiency=80.01", "AD"),
        ("maxEfficiency=80", "BC"),
        ("minEfficiency=70&maxEfficiency=100", "AB"),
        ("minEfficiency=90&maxEfficiency=60", ""),
        ("maxEfficiency=1e3", "ABCD"),
        ("health=critical&site=Depot%20North", "C"),
        ("health=healthy&maxEfficiency=80", ""),
    ],
)
def test_filter(api, query, expected):
    assert ids(api, query) == list(expected)


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("health=fine", NO_HEALTH),
        ("health=", NO_HEALTH),
        ("minEfficiency=abc", "minEfficiency must be a number, in percent"),
        ("minEfficiency=", "minEfficiency must be a number, in percent"),
        ("maxEfficiency=85,5", "maxEfficiency must be a number, in percent"),
        ("maxEfficiency=nan", "maxEfficiency must be a number, in percent"),
        ("maxEfficiency=1e999", "maxEfficiency must be a number, in percent"),
        ("maxEfficiency=true", "maxEfficiency must be a number, in percent"),
        ("limit=0", "limit must be a whole number from 1 to 1000"),
        ("site=%00", "The request contains a value that cannot be stored"),
        *(
            (
                f"ordering={ordering}",
                f"ordering must be one of {', '.join(ORDERINGS)}; prefix with - for descending"
                " order",
            )
            for ordering in ("health", "efficiency_percent", "", "-", "--vehicleId", "rank")
        ),
    ],
)
def test_filter_or_order_that_there_is_not_is_refused(api, query, message):
    answer = api.get(f"{PATH}?{query}")

    assert (answer.status_code, answer.json()["message"]) == (400, message)


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    ("ordering", "expected"),
    [
        ("vehicleId", "ABCDEF"),
        ("-vehicleId", "FEDCBA"),
        ("efficiencyRatio", "CBADEF"),  # 60, 80, 90, 130, none, none
        ("-efficiencyRatio", "DABCEF"),
        ("energyConsumedAc", "EFADCB"),  # 0, 0, 10, 10, 20, 40
        ("-energyConsumedAc", "BCADEF"),
        ("energyDeliveredDc", "FEACDB"),  # 0, 5, 9, 12, 13, 32
        ("-energyDeliveredDc", "BDCAEF"),
        ("averageBatteryTemp", "EDACBF"),  # 20, 25, 30, 45, none, none
        ("-averageBatteryTemp", "CADEBF"),
        ("suspectSteps", "ABCDEF"),
        ("-suspectSteps", "ABCDEF"),
    ],
)
def test_order_has_those_without_a_value_last_whichever_way_round(api, ordering, expected):
    assert ids(api, f"ordering={ordering}") == list(expected)


def test_order_by_suspect_steps(api):
    for vehicle_id, glitches in (("A", 1), ("B", 3), ("C", 0)):
        Vehicle.objects.create(vehicle_id=vehicle_id, energy_register="counter", max_power_kw=22.0)
        values = [10.0, 5000.0] * (glitches + 1)
        readings = [("09:0" + str(n), kwh) for n, kwh in enumerate(values[: glitches + 1])]
        record([vehicle_reading(vehicle_id, time, kwh) for time, kwh in readings], NOON)
    snapshot.refresh()

    assert ids(api, "ordering=-suspectSteps") == ["B", "A", "C"]
    assert ids(api, "ordering=suspectSteps") == ["C", "A", "B"]


@pytest.mark.usefixtures("large_fleet")
def test_worst_vehicles_are_one_question(api):
    assert ids(api, "ordering=efficiencyRatio&limit=3") == ["X1", "X2", "SAME000"]


# --- Pages ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("large_fleet")
@pytest.mark.parametrize("ordering", [*ORDERINGS, *(f"-{name}" for name in ORDERINGS)])
def test_pages_hold_each_vehicle_once(api, ordering):
    in_one = ids(api, f"ordering={ordering}&limit=1000")
    assert len(set(in_one)) == len(in_one) == 403

    *pages, _ = turned(api, f"{PATH}?ordering={ordering}&limit=37", "next")

    assert [len(page) for page in pages] == [37] * 10 + [33]
    assert list(chain.from_iterable(pages)) == in_one


@pytest.mark.usefixtures("large_fleet")
@pytest.mark.parametrize(
    "ordering",
    [
        "vehicleId",
        "-vehicleId",
        "efficiencyRatio",
        "-energyDeliveredDc",
        "suspectSteps",
    ],
)
def test_pages_back_from_the_last_one_are_those_that_led_there(api, ordering):
    *there, way_back = turned(api, f"{PATH}?ordering={ordering}&limit=37", "next")

    *back, way_there = turned(api, way_back, "previous")

    assert back == there[-2::-1]
    assert turned(api, way_there, "next")[:-1] == there[1:]


@pytest.mark.usefixtures("large_fleet")
def test_page_amid_vehicles_of_one_value_leads_to_both_of_its_neighbours(api):
    *pages, _ = turned(api, f"{PATH}?ordering=efficiencyRatio&limit=20", "next")
    third = api.get(f"{PATH}?ordering=efficiencyRatio&limit=20")
    for _ in range(2):
        third = api.get(third.json()["next"].removeprefix("http://localhost"))

    *back, _ = turned(api, third.json()["previous"], "previous")

    assert back == [pages[1], pages[0]]


@pytest.mark.usefixtures("large_fleet")
def test_pages_keep_to_the_filter(api):
    *pages, _ = turned(api, f"{PATH}?health=healthy&ordering=-efficiencyRatio&limit=50", "next")

    assert pages == [["X0"]]
    *pages, _ = turned(api, f"{PATH}?health=unknown&limit=50", "next")
    assert list(chain.from_iterable(pages)) == [f"NULL{number:03}" for number in range(150)]


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    "query",
    [
        "cursor=abc",
        "ordering=efficiencyRatio&cursor=cD1hYmM=",  # stands at "abc"
    ],
)
def test_cursor_that_is_none_is_404(api, query):
    answer = api.get(f"{PATH}?{query}")

    assert (answer.status_code, answer.json()["message"]) == (404, "Invalid cursor")


@pytest.mark.parametrize("vehicles", [10, 300])
@pytest.mark.parametrize("ordering", ORDERINGS)
def test_page_costs_the_same_statements_however_large_the_fleet(
    api, statements_sent, vehicles, ordering
):
    record([vehicle_reading(f"V{number}") for number in range(vehicles)], NOON)
    snapshot.refresh()

    with statements_sent() as sent:
        assert len(ids(api, f"ordering={ordering}&limit=100&maxEfficiency=200")) == 0
        assert len(ids(api, f"ordering={ordering}&limit=100")) == min(vehicles, 100)

    assert sent == [2]


def test_list_of_an_empty_fleet_is_empty(api):
    empty = {"next": None, "previous": None, "results": []}

    assert api.get(PATH).json() == empty
    snapshot.refresh()
    assert api.get(PATH).json() == empty


# --- CSV --------------------------------------------------------------------------------------


def lines(api, query: str = "", accept: str = "text/csv") -> list[list[str]]:
    answer = api.get(f"{PATH}?{query}", accept=accept)
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.streaming
    return list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))


@pytest.mark.usefixtures("fleet")
def test_csv_has_a_header_and_a_line_for_each_vehicle(api):
    header, *vehicles = lines(api, "ordering=-efficiencyRatio")

    assert header == [
        "vehicleId",
        "site",
        "meterId",
        "periodEnd",
        "energyConsumedAc",
        "energyDeliveredDc",
        "efficiencyRatio",
        "averageBatteryTemp",
        "acSource",
        "health",
        "reason",
        "suspectSteps",
    ]
    assert [line[0] for line in vehicles] == list("DABCEF")
    assert vehicles[1] == [
        "A",
        "Depot North",
        "M-A",
        "2026-07-15T12:00:00Z",
        "10.0",
        "9.0",
        "90.0",
        "30.0",
        "linked",
        "healthy",
        "",
        "0",
    ]
    assert vehicles[-1][6:11] == ["", "", "linked", "unknown", "no_ac"]


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize("start", ["=", "\uff1d", " =", "\u00a0=", "\ufeff="], ids=ascii)
def test_csv_has_nothing_that_a_spreadsheet_takes_for_a_formula(api, start):
    formula = f"{start}cmd|'/c calc'!A1"
    Site.objects.filter(name="Depot North").update(name=formula)

    sites = {line[1] for line in lines(api)}
    assert f"'{formula}" in sites
    assert formula not in sites


@pytest.mark.usefixtures("large_fleet")
def test_csv_holds_all_vehicles_in_one_and_takes_the_same_filters(api):
    assert len(lines(api, "limit=10")) == 1 + 403
    assert len(lines(api, "health=unknown")) == 1 + 150
    assert [line[0] for line in lines(api, "minEfficiency=65&ordering=efficiencyRatio")[1:3]] == [
        "X2",
        "SAME000",
    ]


@pytest.mark.usefixtures("fleet")
def test_csv_is_asked_for_by_what_the_client_accepts(api):
    assert len(lines(api, accept="text/csv; charset=utf-8, */*;q=0.1")) == 7
    assert api.get(PATH, accept="*/*")["Content-Type"] == "application/json"


def test_csv_of_an_empty_fleet_is_a_header(api):
    assert [line[0] for line in lines(api)] == ["vehicleId"]


@pytest.mark.usefixtures("fleet")
def test_error_is_json_also_where_csv_is_asked_for(api):
    answer = api.get(f"{PATH}?health=fine", accept="text/csv")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


# --- Totals -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("fleet")
def test_totals_of_the_fleet(api):
    assert api.get("/v1/analytics/fleet").json() == {
        "period": {"start": "2026-07-14T12:00:00Z", "end": "2026-07-15T12:00:00Z"},
        "energyConsumedAc": 80.0,
        "energyDeliveredDc": 71.0,
        "efficiencyRatio": 88.75,
        "health": {"healthy": 1, "degraded": 1, "critical": 1, "suspect": 1, "unknown": 2},
        "vehicles": {"total": 6, "online": 5},
        "meters": {"total": 6, "online": 4},
    }


def test_totals_before_the_first_look_are_zeros_and_nulls(api):
    Meter.objects.create(meter_id="M1")

    assert api.get("/v1/analytics/fleet").json() == {
        "period": None,
        "energyConsumedAc": 0.0,
        "energyDeliveredDc": 0.0,
        "efficiencyRatio": None,
        "health": {"healthy": 0, "degraded": 0, "critical": 0, "suspect": 0, "unknown": 0},
        "vehicles": {"total": 0, "online": 0},
        "meters": {"total": 1, "online": 0},
    }


def test_device_is_online_for_five_minutes_after_its_last_delivery(api, clock):
    record([vehicle_reading("V1", "07:00"), meter_reading("M1")], NOON)  # hours old, sent just now

    def online() -> tuple[int, int]:
        totals = api.get("/v1/analytics/fleet").json()
        return totals["vehicles"]["online"], totals["meters"]["online"]

    clock.shift(timedelta(minutes=5))
    assert online() == (1, 1)
    clock.shift(timedelta(seconds=1))
    assert online() == (0, 0)


def test_retired_devices_are_neither_counted_nor_online(api):
    record([vehicle_reading("V1"), vehicle_reading("V2"), meter_reading("M1")], NOON)
    Vehicle.objects.filter(pk="V1").update(retired_at=NOON)
    Meter.objects.update(retired_at=NOON + timedelta(days=1))  # not yet

    totals = api.get("/v1/analytics/fleet").json()

    assert totals["vehicles"] == {"total": 1, "online": 1}
    assert totals["meters"] == {"total": 1, "online": 1}


def test_reading_of_a_retired_device_is_stored(api):
    Vehicle.objects.create(vehicle_id="V1", retired_at=at("08:00"))

    assert api.post("/v1/ingest", {"vehicleId": "V1", "kwhDeliveredDc": 1}).status_code == 201
    assert api.get("/v1/status/vehicle/V1").json()["kwhDeliveredDc"] == 1


def test_how_long_a_device_is_online_is_a_setting(api, clock, settings):
    settings.ONLINE_WINDOW = timedelta(minutes=30)
    record([vehicle_reading("V1")], NOON)
    clock.shift(timedelta(minutes=30))

    assert api.get("/v1/analytics/fleet").json()["vehicles"]["online"] == 1


@pytest.mark.parametrize("vehicles", [10, 300])
def test_totals_cost_the_same_statements_however_large_the_fleet(api, statements_sent, vehicles):
    record([vehicle_reading(f"V{number}") for number in range(vehicles)], NOON)
    snapshot.refresh()

    with statements_sent() as sent:
        api.get("/v1/analytics/fleet")

    assert sent == [6]


# --- The document -----------------------------------------------------------------------------


def test_document_describes_every_route_of_analytics(api):
    document = api.get("/v1/schema").json()
    described = {
        path: operation["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        for path, operation in document["paths"].items()
        if path.startswith("/v1/analytics/")
    }

    validate_schema(document)
    assert described == {
        "/v1/analytics/performance": "#/components/schemas/VehiclePage",
        "/v1/analytics/performance/{vehicleId}": "#/components/schemas/Performance",
        "/v1/analytics/performance/{vehicleId}/series": "#/components/schemas/Series",
        "/v1/analytics/performance/{vehicleId}/explain": "#/components/schemas/Explanation",
        "/v1/analytics/fleet": "#/components/schemas/FleetTotals",
    }
    for reference in described.values():
        assert reference.rpartition("/")[2] in document["components"]["schemas"]


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/v1/analytics/performance/{vehicleId}", {"start", "end", "window"}),
        (
            "/v1/analytics/performance/{vehicleId}/series",
            {"start", "end", "window", "granularity", "tz"},
        ),
        (
            "/v1/analytics/performance",
            {"health", "site", "minEfficiency", "maxEfficiency", "ordering", "cursor", "limit"},
        ),
    ],
)
def test_document_names_every_parameter(api, path, parameters):
    operation = api.get("/v1/schema").json()["paths"][path]["get"]

    described = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
    assert described == parameters
