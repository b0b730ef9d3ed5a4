"""Links and live state over HTTP."""

from datetime import timedelta

import pytest

from fleet.links import link_vehicle
from fleet.models import Meter, Vehicle, VehicleMeterLink
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

LINK = {"vehicleId": "V1", "meterId": "M1"}


def test_put_links_a_vehicle_from_now_on(api):
    answer = api.put("/v1/links", LINK)

    assert answer.status_code == 201
    assert answer.json() == LINK | {
        "validFrom": "2026-07-15T12:00:00Z",
        "validTo": None,
        "superseded": [],
    }


def test_put_of_the_same_link_answers_200(api):
    api.put("/v1/links", LINK | {"validFrom": "2026-07-15T10:00:00+02:00"})
    answer = api.put("/v1/links", LINK)

    assert answer.status_code == 200
    assert answer.json()["validFrom"] == "2026-07-15T08:00:00Z"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"meterId": "M1"}, "vehicleId"),
        (LINK | {"vehicleId": "a b"}, "vehicleId"),
        (LINK | {"meterId": "M1\n"}, "meterId"),
        (LINK | {"validFrom": "2026-07-15T10:00:00"}, "validFrom"),
        (LINK | {"validFrom": "yesterday"}, "validFrom"),
        (LINK | {"validFrom": "0001-01-01T00:00:00+14:00"}, "validFrom"),
        (LINK | {"validFrom": "1999-12-31T23:59:59Z"}, "validFrom"),
        (LINK | {"validFrom": "9999-12-31T23:59:59-14:00"}, "validFrom"),
        (LINK | {"validTo": "2026-07-16T10:00:00"}, "validTo"),
        (LINK | {"validTo": 1}, "validTo"),
        (LINK | {"validTo": "1999-12-31T23:59:59Z"}, "validTo"),
        (LINK | {"validTo": "9999-12-31T23:59:59-14:00"}, "validTo"),
        (LINK | {"validTo": "2026-07-15T12:00:00Z"}, "validTo"),
        (
            LINK | {"validFrom": "2026-07-15T10:00:00Z", "validTo": "2026-07-15T12:00:00+02:00"},
            "validTo",
        ),
    ],
    ids=str,
)
def test_put_names_the_bad_field(api, body, field):
    answer = api.put("/v1/links", body)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field
    assert field in answer.json()["message"]


def test_unknown_device_is_404_where_devices_do_not_register(api, settings):
    settings.INGEST_UNKNOWN_DEVICES = "reject"

    assert api.put("/v1/links", LINK).json()["message"] == "Meter not found"


def test_delete_ends_the_link_in_force(api):
    link_vehicle("V1", "M1", at("08:00"))

    answer = api.delete("/v1/links/V1")
    assert answer.status_code == 200
    assert answer.json()["validTo"] == "2026-07-15T12:00:00Z"
    again = api.delete("/v1/links/V1")
    assert (again.status_code, again.json()["message"]) == (404, "No link in force")


def test_list_is_filtered_and_the_newest_link_comes_first(api):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V1", "M2", at("09:00"))
    link_vehicle("V2", "M1", at("08:00"))

    def listed(query: str) -> list[tuple[str, str]]:
        results = api.get(f"/v1/links{query}").json()["results"]
        return [(link["vehicleId"], link["meterId"]) for link in results]

    assert listed("") == [("V1", "M2"), ("V1", "M1"), ("V2", "M1")]
    assert listed("?vehicleId=V1") == [("V1", "M2"), ("V1", "M1")]
    assert listed("?meterId=M1") == [("V1", "M1"), ("V2", "M1")]
    assert listed("?vehicleId=V1&meterId=M1") == [("V1", "M1")]
    assert listed("?vehicleId=%00") == []


def test_list_comes_in_pages(api):
    for number in range(3):
        link_vehicle(f"V{number}", "M1")

    first = api.get("/v1/links?limit=2").json()
    second = api.get(first["next"]).json()

    assert [link["vehicleId"] for link in first["results"] + second["results"]] == [
        "V0",
        "V1",
        "V2",
    ]
    assert second["next"] is None


def test_put_names_the_links_that_it_supersedes(api):
    link_vehicle("V1", "M9", at("10:00"))
    answer = api.put("/v1/links", LINK | {"validFrom": "2026-07-15T09:00:00Z"})

    assert answer.json()["superseded"] == [
        {"vehicleId": "V1", "meterId": "M9", "validFrom": "2026-07-15T10:00:00Z", "validTo": None}
    ]


def test_put_that_undoes_a_slip_answers_with_the_link_that_goes_on(api):
    link_vehicle("V1", "M1", at("08:00"))
    api.put("/v1/links", {"vehicleId": "V1", "meterId": "M2", "validFrom": "2026-07-15T10:30:00Z"})
    answer = api.put(
        "/v1/links", {"vehicleId": "V1", "meterId": "M1", "validFrom": "2026-07-15T10:30:00Z"}
    )

    assert (answer.status_code, answer.json()["validFrom"]) == (201, "2026-07-15T08:00:00Z")
    assert [link["meterId"] for link in answer.json()["superseded"]] == ["M2"]
    assert len(api.get("/v1/links?vehicleId=V1").json()["results"]) == 1


def put_past(api, meter_id: str, begins: str, ends: str | None = None):
    span = {"validFrom": f"2026-07-15T{begins}:00Z"}
    if ends:
        span["validTo"] = f"2026-07-15T{ends}:00Z"
    return api.put("/v1/links", {"vehicleId": "V1", "meterId": meter_id} | span)


def timeline(api) -> list[tuple[str, str, str | None]]:
    links = api.get("/v1/links?vehicleId=V1").json()["results"]
    return [(link["meterId"], link["validFrom"], link["validTo"]) for link in links[::-1]]


def test_link_of_the_past_is_put_and_undone(api):
    put_past(api, "M1", "07:00", "08:00")
    put_past(api, "M2", "09:00")
    before = timeline(api)
    answer = put_past(api, "M3", "07:30", "10:00")

    assert answer.status_code == 201
    assert answer.json() == {
        "vehicleId": "V1",
        "meterId": "M3",
        "validFrom": "2026-07-15T07:30:00Z",
        "validTo": "2026-07-15T10:00:00Z",
        "superseded": [
            {
                "vehicleId": "V1",
                "meterId": "M1",
                "validFrom": "2026-07-15T07:30:00Z",
                "validTo": "2026-07-15T08:00:00Z",
            },
            {
                "vehicleId": "V1",
                "meterId": "M2",
                "validFrom": "2026-07-15T09:00:00Z",
                "validTo": "2026-07-15T10:00:00Z",
            },
        ],
    }
    assert timeline(api) == [
        ("M1", "2026-07-15T07:00:00Z", "2026-07-15T07:30:00Z"),
        ("M3", "2026-07-15T07:30:00Z", "2026-07-15T10:00:00Z"),
        ("M2", "2026-07-15T10:00:00Z", None),
    ]

    api.delete("/v1/links/V1?from=2026-07-15T07:30:00Z&to=2026-07-15T10:00:00Z")
    for link in answer.json()["superseded"]:
        assert api.put("/v1/links", link).status_code == 201
    assert timeline(api) == before


def test_same_put_again_changes_nothing_and_answers_200(api):
    put_past(api, "M2", "08:00")
    first = put_past(api, "M1", "09:00", "10:00")
    before = timeline(api)
    again = put_past(api, "M1", "09:00", "10:00")

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json() | {"superseded": []}
    assert timeline(api) == before


def test_delete_makes_a_gap_and_names_what_it_removes(api):
    put_past(api, "M1", "08:00")
    gap = "/v1/links/V1?from=2026-07-15T11:00:00+02:00&to=2026-07-15T10:00:00Z"
    answer = api.delete(gap)

    assert answer.status_code == 200
    assert answer.json() == {
        "vehicleId": "V1",
        "validFrom": "2026-07-15T09:00:00Z",
        "validTo": "2026-07-15T10:00:00Z",
        "superseded": [
            {
                "vehicleId": "V1",
                "meterId": "M1",
                "validFrom": "2026-07-15T09:00:00Z",
                "validTo": "2026-07-15T10:00:00Z",
            }
        ],
    }
    assert timeline(api) == [
        ("M1", "2026-07-15T08:00:00Z", "2026-07-15T09:00:00Z"),
        ("M1", "2026-07-15T10:00:00Z", None),
    ]
    again = api.delete(gap)
    assert (again.status_code, again.json()["superseded"]) == (200, [])


@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ("from=yesterday", "from", "from must be an RFC 3339 time with an offset"),
        ("from=2026-07-15T10:00:00", "from", "from must be an RFC 3339 time with an offset"),
        ("from=", "from", "from must be an RFC 3339 time with an offset"),
        ("to=%00", "to", "to must be an RFC 3339 time with an offset"),
        ("to=2026-07-15T12:00:00Z", "to", "to must be after from (now, because it is absent)"),
        ("from=2026-07-15T12:00:00Z&to=2026-07-15T11:00:00Z", "to", "to must be after from"),
        ("from=2040-01-01T00:00:00Z", "from", "from must be in the year 2000 or later and at most"),
        ("to=2040-01-01T00:00:00Z", "to", "to must be in the year 2000 or later and at most"),
    ],
)
def test_delete_names_the_bad_parameter(api, query, field, message):
    link_vehicle("V1", "M1", at("08:00"))
    answer = api.delete(f"/v1/links/V1?{query}")

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == field
    assert answer.json()["message"].startswith(message)
    assert VehicleMeterLink.objects.get().valid_during.upper is None


def test_gap_of_an_unknown_vehicle_is_404(api):
    answer = api.delete("/v1/links/V1?from=2026-07-15T10:00:00Z")

    assert (answer.status_code, answer.json()["message"]) == (404, "Vehicle not found")


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "abc", "²"])
def test_page_size_out_of_range_is_named(api, limit):
    answer = api.get(f"/v1/links?limit={limit}")

    assert answer.status_code == 400
    assert "1 to 1000" in answer.json()["message"]


@pytest.mark.parametrize(
    "path", ["/v1/status/vehicle/V1", "/v1/analytics/vehicle/V1/live", "/api/v1/status/vehicle/V1"]
)
def test_live_state_of_a_vehicle(api, path):
    record([vehicle_reading("V1", "11:00", 1.5, soc_percent=80.0)], NOON)

    assert api.get(path).json() == {
        "vehicleId": "V1",
        "soc": 80.0,
        "kwhDeliveredDc": 1.5,
        "batteryTemp": None,
        "timestamp": "2026-07-15T11:00:00Z",
        "receivedAt": "2026-07-15T12:00:00Z",
        "lastUpdatedAt": "2026-07-15T11:00:00Z",
    }


@pytest.mark.parametrize("path", ["/v1/status/meter/M1", "/v1/analytics/meter/M1/live"])
def test_live_state_of_a_meter(api, path):
    record([meter_reading("M1", "11:00", 1.5, voltage_v=231.4)], NOON)

    assert api.get(path).json() == {
        "meterId": "M1",
        "kwhConsumedAc": 1.5,
        "voltage": 231.4,
        "timestamp": "2026-07-15T11:00:00Z",
        "receivedAt": "2026-07-15T12:00:00Z",
        "lastUpdatedAt": "2026-07-15T11:00:00Z",
    }


@pytest.mark.parametrize("kind", ["vehicle", "meter"])
def test_live_state_of_an_unknown_device_is_404(api, kind):
    answer = api.get(f"/v1/status/{kind}/UNKNOWN")

    assert (answer.status_code, answer.json()["message"]) == (
        404,
        f"{kind.capitalize()} not found",
    )


def test_device_that_has_sent_nothing_yet_has_an_empty_live_state(api):
    Vehicle.objects.create(vehicle_id="V1")
    Meter.objects.create(meter_id="M1")

    assert api.get("/v1/status/vehicle/V1").json()["timestamp"] is None
    assert api.get("/v1/status/meter/M1").json()["kwhConsumedAc"] is None


def test_every_link_of_a_vehicle_with_thousands_is_listed_once(api):
    link_vehicle("V1", "M1", at("08:00"))
    VehicleMeterLink.objects.bulk_create(
        VehicleMeterLink(
            vehicle_id="V1",
            meter_id="M1",
            valid_during=(
                at("00:00") + timedelta(seconds=number),
                at("00:00") + timedelta(seconds=number + 1),
            ),
        )
        for number in range(2_100)
    )
    page, listed = "/v1/links?limit=1000", []
    while page:
        answer = api.get(page).json()
        listed += [link["validFrom"] for link in answer["results"]]
        page = answer["next"]

    assert len(listed) == len(set(listed)) == 2_101


def test_value_that_no_column_takes_is_400(api):
    answer = api.get("/v1/links?cursor=cD0lMDA%3D")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("validForm", "; did you mean validFrom?"),
        ("valid_from", "; did you mean validFrom?"),
        ("site", "."),
        ("missing required field `site` - at `$.site`", "."),
        ("", "."),
        ("v" * 100_000, "."),
    ],
)
def test_field_that_a_body_may_not_have_is_refused(api, field, message):
    answer = api.put("/v1/links", LINK | {field: "2026-07-15T10:00:00Z"})

    assert answer.status_code == 400
    assert answer.json()["errors"] == [
        {
            "field": None,
            "code": "unknown_field",
            "message": f"Unknown field{message} The body may have vehicleId, meterId, validFrom "
            "and validTo",
        }
    ]
    assert not VehicleMeterLink.objects.exists()


def test_link_does_not_end_by_a_body_that_nobody_reads(api):
    link_vehicle("V1", "M1", at("08:00"))

    refused = api._client.generic(
        "DELETE", "/v1/links/V1", b'{"validTo": "2026-08-01T00:00:00Z"}', "application/json"
    )

    assert refused.json()["errors"][0]["code"] == "unknown_field"
    assert VehicleMeterLink.objects.get().valid_during.upper is None
    assert api._client.generic("DELETE", "/v1/links/V1", b"{}", "application/json").status_code == (
        200
    )
