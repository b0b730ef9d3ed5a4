"""Faults over HTTP: which are listed, in which order, and what is told of one."""

from datetime import timedelta
from typing import get_args

import pytest
from django.contrib.auth.models import User

from analytics.alerting import faults
from analytics.alerting.fault_list import Kind, State
from analytics.models import Fault, FaultKind, FaultState
from ingestion.writer import record
from tests.conftest import NOON, vehicle_reading
from tests.factories import SiteFactory, VehicleFactory


def opened(**fields: object) -> Fault:
    """Return a fault as the watch leaves it."""
    kinds = {"kind": "hot_battery", "value": 60, "threshold": 50, "opened_at": NOON}
    return Fault.objects.create(**(kinds | fields))


def ids(api, query: str = "") -> list[str]:
    """Return the vehicles, meters or kinds of the faults that are listed."""
    results = api.get(f"/v1/faults{query}").json()["results"]
    return [row["vehicleId"] or row["meterId"] or row["kind"] for row in results]


@pytest.fixture
def five(api) -> None:
    """Faults of five kinds, and one that is closed; the oldest first."""
    north, south = SiteFactory(name="North"), SiteFactory(name="South")
    opened(vehicle_id="V1", site=north)
    opened(vehicle_id="V2", site=south, kind="low_efficiency", state="acknowledged")
    opened(meter_id="M1", site=south, kind="silent")
    opened(site=north, kind="site_silent")
    opened(vehicle_id="V3", state="closed", closed_at=NOON)


def test_fault_stands_on_the_wire_in_camel_case(api):
    VehicleFactory(vehicle_id="V1", site=SiteFactory(name="Depot"))
    record([vehicle_reading("V1", "12:00", battery_temp_celsius=60)], NOON)
    faults.watch()
    fault = Fault.objects.get()

    assert api.get("/v1/faults").json() == {
        "next": None,
        "previous": None,
        "results": [
            {
                "id": fault.pk,
                "kind": "hot_battery",
                "state": "open",
                "vehicleId": "V1",
                "meterId": None,
                "site": "Depot",
                "value": 60.0,
                "unit": "celsius",
                "threshold": 50.0,
                "openedAt": "2026-07-15T12:00:00Z",
                "acknowledgedAt": None,
                "closedAt": None,
            }
        ],
    }


def test_one_fault_is_told_with_all_its_steps(api, clock):
    ada = User.objects.create_user("ada")
    record([vehicle_reading("V1", "12:00", battery_temp_celsius=60)], NOON)
    faults.watch()
    fault = Fault.objects.get()
    for state in ("acknowledge", "close"):
        clock.shift(timedelta(minutes=1))
        getattr(faults, state)(fault.pk, ada, f"to {state}")

    told = api.get(f"/v1/faults/{fault.pk}").json()

    assert told["acknowledgedAt"] == "2026-07-15T12:01:00Z"
    assert told["closedAt"] == "2026-07-15T12:02:00Z"
    assert told["changes"] == [
        {"state": "open", "changedAt": "2026-07-15T12:00:00Z", "user": None, "note": ""},
        {
            "state": "acknowledged",
            "changedAt": "2026-07-15T12:01:00Z",
            "user": "ada",
            "note": "to acknowledge",
        },
        {
            "state": "closed",
            "changedAt": "2026-07-15T12:02:00Z",
            "user": "ada",
            "note": "to close",
        },
    ]


@pytest.mark.parametrize(
    ("query", "listed"),
    [
        ("", ["site_silent", "M1", "V2", "V1"]),
        ("?state=open", ["site_silent", "M1", "V1"]),
        ("?state=acknowledged", ["V2"]),
        ("?state=closed", ["V3"]),
        ("?state=acknowledged&state=closed", ["V3", "V2"]),
        ("?state=acknowledged,closed", ["V3", "V2"]),
        ("?state=all", ["V3", "site_silent", "M1", "V2", "V1"]),
        ("?kind=silent", ["M1"]),
        ("?kind=silent,site_silent", ["site_silent", "M1"]),
        ("?site=North", ["site_silent", "V1"]),
        ("?site=North&kind=hot_battery", ["V1"]),
        ("?site=Nowhere", []),
        ("?vehicleId=V2", ["V2"]),
        ("?vehicleId=V3", []),
        ("?vehicleId=V3&state=all", ["V3"]),
        ("?meterId=M1", ["M1"]),
        ("?meterId=no%20id", []),
        ("?vehicleId=V1&meterId=M1", []),
    ],
)
def test_filters(api, five, query, listed):
    assert ids(api, query) == listed


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("state=shut", "state must be one or more of open, acknowledged, closed, all"),
        ("state=", "state must be one or more of open, acknowledged, closed, all"),
        ("state=open,", "state must be one or more of open, acknowledged, closed, all"),
        (
            "kind=broken",
            f"kind must be one or more of {', '.join(FaultKind.values)}",
        ),
        ("limit=0", "limit must be a whole number from 1 to 1000"),
    ],
)
def test_filter_that_there_is_not_is_named(api, query, message):
    answer = api.get(f"/v1/faults?{query}")

    assert answer.status_code == 400
    assert answer.json()["message"] == message


@pytest.mark.parametrize("fault_id", ["1", "99999999999999999999"])
def test_unknown_fault_is_not_found(api, fault_id):
    answer = api.get(f"/v1/faults/{fault_id}")

    assert (answer.status_code, answer.json()["message"]) == (404, "Fault not found")


def test_pages_hold_each_fault_once_even_while_some_close(api):
    for number in range(10):
        opened(vehicle_id=f"V{number}")  # all at noon
    first = api.get("/v1/faults?limit=4").json()
    Fault.objects.filter(vehicle_id="V9").update(state="closed")
    second = api.get(first["next"]).json()
    third = api.get(second["next"]).json()

    listed = [[row["vehicleId"] for row in page["results"]] for page in (first, second, third)]
    assert listed == [["V9", "V8", "V7", "V6"], ["V5", "V4", "V3", "V2"], ["V1", "V0"]]
    assert third["next"] is None
    assert "limit=4" in third["previous"]


def test_pages_keep_their_filters(api, five):
    first = api.get("/v1/faults?state=all&site=South&limit=1").json()

    assert ids(api, first["next"].partition("/v1/faults")[2]) == ["V2"]


def test_cursor_of_somewhere_else_is_not_found(api):
    assert api.get("/v1/faults?cursor=x").status_code == 404


def test_same_routes_answer_under_api(api, five):
    assert api.get("/api/v1/faults").json() == api.get("/v1/faults").json()
    fault_id = Fault.objects.first().pk
    assert api.get(f"/api/v1/faults/{fault_id}").status_code == 200


def test_faults_are_only_read_here(api, five):
    assert api.post("/v1/faults", {}).status_code == 405
    assert api.delete(f"/v1/faults/{Fault.objects.first().pk}").status_code == 405


def test_fault_of_a_site_that_is_gone_names_none(api):
    site = SiteFactory()
    opened(site=site, kind="site_silent")
    site.delete()

    assert [row["site"] for row in api.get("/v1/faults").json()["results"]] == [None]


@pytest.mark.parametrize("number", [10, 200])
def test_page_costs_the_same_statements_however_many_faults(api, statements_sent, number):
    site = SiteFactory()
    ada = User.objects.create_user("ada")
    for index in range(number):
        fault = opened(vehicle_id=f"V{index}", site=site)
        faults.acknowledge(fault.pk, ada, "seen")

    with statements_sent() as sent:
        rows = api.get("/v1/faults?limit=1000").json()["results"]
    assert (len(rows), sent) == (number, [1])

    with statements_sent() as sent:
        api.get(f"/v1/faults/{fault.pk}")
    assert sent == [2]


def test_wire_knows_the_kinds_and_states_of_the_table():
    assert list(get_args(Kind)) == FaultKind.values
    assert list(get_args(State)) == FaultState.values


def test_every_kind_has_its_unit(api, five):
    rows = api.get("/v1/faults").json()["results"]

    assert {row["kind"]: row["unit"] for row in rows} == {
        "hot_battery": "celsius",
        "low_efficiency": "percent",
        "silent": "minutes",
        "site_silent": "devices",
    }


def test_document_names_the_filters_and_what_they_may_be(api):
    document = api.get("/v1/schema").json()

    parameters = {
        parameter["name"]: parameter["schema"]
        for parameter in document["paths"]["/v1/faults"]["get"]["parameters"]
    }
    assert set(parameters) >= {"state", "kind", "site", "vehicleId", "meterId", "cursor", "limit"}
    assert set(parameters["state"]["items"]["enum"]) == {"open", "acknowledged", "closed", "all"}
    message = document["components"]["schemas"]["WebhookMessage"]["properties"]["type"]
    assert message["enum"] == ["fault.acknowledged", "fault.closed", "fault.opened"]
