"""Ingest over HTTP: routes, status codes and bodies of the contract."""

import json

import pytest

from fleet.models import MeterLiveState, Vehicle
from ingestion.models import MeterReading, VehicleReading

METER = {"meterId": "M1", "kwhConsumedAc": 25.5}
VEHICLE = {"vehicleId": "V1", "kwhDeliveredDc": 21.5}
BAD = {"vehicleId": "V2", "kwhDeliveredDc": 1, "soc": 101}


@pytest.mark.parametrize("path", ["/ingest/meter", "/v1/ingest/meter", "/api/v1/ingest/meter"])
@pytest.mark.parametrize("body", [METER, [METER]], ids=["single", "array"])
def test_meter_readings_are_stored_and_answered_with_201(api, path, body):
    answer = api.post(path, body)

    assert answer.status_code == 201
    assert answer.json() == {"accepted": 1, "rejected": 0, "errors": []}
    assert MeterReading.objects.get().energy_ac_kwh == 25.5


@pytest.mark.parametrize(
    "path", ["/ingest/vehicle", "/v1/ingest/vehicle", "/api/v1/ingest/vehicle"]
)
@pytest.mark.parametrize("body", [VEHICLE, [VEHICLE]], ids=["single", "array"])
def test_vehicle_readings_are_stored_and_answered_with_201(api, path, body):
    assert api.post(path, body).status_code == 201
    assert VehicleReading.objects.get().energy_dc_kwh == 21.5


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1"])
def test_mixed_array_stores_both_kinds(api, prefix):
    answer = api.post(f"{prefix}/ingest", [METER, VEHICLE])

    assert (answer.status_code, answer.json()["accepted"]) == (201, 2)
    assert (MeterReading.objects.count(), VehicleReading.objects.count()) == (1, 1)


@pytest.mark.parametrize("body", [METER, VEHICLE], ids=["meter", "vehicle"])
def test_mixed_route_takes_a_single_reading(api, body):
    assert api.post("/v1/ingest", body).status_code == 201


@pytest.mark.parametrize(("kind", "item"), [("meter", METER), ("vehicle", VEHICLE)])
def test_batch_route_takes_arrays_only(api, kind, item):
    path = f"/v1/ingest/{kind}/batch"

    assert api.post(path, [item, item]).status_code == 201
    refused = api.post(path, item)
    assert refused.status_code == 400
    assert refused.json()["message"] == "This route expects an array of readings"


def test_bad_item_is_named_and_the_good_ones_are_stored(api):
    answer = api.post("/v1/ingest/vehicle/batch", [VEHICLE, BAD, VEHICLE | {"vehicleId": "V3"}])

    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": 2,
        "rejected": 1,
        "errors": [
            {
                "index": 1,
                "field": "soc",
                "code": "out_of_range",
                "message": "soc must be a number from 0 to 100",
            }
        ],
    }
    assert {row.vehicle_id for row in VehicleReading.objects.all()} == {"V1", "V3"}


@pytest.mark.parametrize("path", ["/v1/ingest", "/v1/ingest/vehicle"])
def test_single_bad_reading_is_400_in_the_words_of_the_contract(api, path):
    answer = api.post(path, BAD)

    assert answer.status_code == 400
    body = answer.json()
    assert body["statusCode"] == 400
    assert body["path"] == path
    assert "soc must be a number from 0 to 100" in body["message"]
    assert (body["accepted"], body["rejected"]) == (0, 1)
    assert body["errors"][0]["field"] == "soc"
    assert body["requestId"] == answer["X-Request-ID"]
    assert body["timestamp"] == "2026-07-15T12:00:00Z"
    assert not VehicleReading.objects.exists()


def test_batch_without_a_good_reading_is_400(api):
    answer = api.post("/v1/ingest/vehicle", [BAD, BAD])

    assert (answer.status_code, answer.json()["rejected"]) == (400, 2)


def test_atomic_batch_with_one_bad_reading_stores_nothing(api):
    answer = api.post("/v1/ingest/vehicle/batch?atomic=true", [VEHICLE, BAD])

    assert answer.status_code == 400
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (0, 2)
    assert [error["index"] for error in answer.json()["errors"]] == [1]
    assert not VehicleReading.objects.exists()
    assert not Vehicle.objects.exists()


def test_atomic_batch_of_good_readings_is_stored(api):
    assert api.post("/v1/ingest?atomic=true", [METER, VEHICLE]).status_code == 201


def test_atomic_takes_only_true_and_false(api):
    answer = api.post("/v1/ingest?atomic=maybe", [METER])

    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "atomic must be true or false",
    )


def test_at_most_100_errors_are_listed(api):
    answer = api.post("/v1/ingest/vehicle", [VEHICLE, *[BAD] * 150])

    assert answer.json()["rejected"] == 150
    assert len(answer.json()["errors"]) == 100


def test_empty_array_is_refused(api):
    answer = api.post("/v1/ingest/vehicle", [])

    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "The array is empty; send at least one reading",
    )


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "application/JSON", "application/json;"]
)
def test_json_is_recognised_however_it_is_spelled(api, content_type):
    assert api.post("/v1/ingest/vehicle", json.dumps(VEHICLE), content_type).status_code == 201


def test_unknown_device_is_rejected_and_its_neighbours_are_stored(api, settings):
    settings.INGEST_UNKNOWN_DEVICES = "reject"
    Vehicle.objects.create(vehicle_id="V1")

    answer = api.post("/v1/ingest", [METER, VEHICLE, VEHICLE | {"vehicleId": "V9"}])

    assert answer.status_code == 200
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (1, 2)
    assert [(e["index"], e["field"], e["code"]) for e in answer.json()["errors"]] == [
        (0, "meterId", "unknown_device"),
        (2, "vehicleId", "unknown_device"),
    ]
    assert VehicleReading.objects.get().vehicle_id == "V1"
    assert not MeterLiveState.objects.exists()


def test_atomic_batch_with_an_unknown_device_stores_nothing(api, settings):
    settings.INGEST_UNKNOWN_DEVICES = "reject"
    Vehicle.objects.create(vehicle_id="V1")

    answer = api.post("/v1/ingest?atomic=true", [METER, VEHICLE])

    assert (answer.status_code, answer.json()["accepted"]) == (400, 0)
    assert not VehicleReading.objects.exists()


@pytest.mark.parametrize("size", [10, 1000])
def test_accepted_batch_costs_one_statement_whatever_its_size(api, statements_sent, size):
    batch = [VEHICLE | {"vehicleId": f"V{number}"} for number in range(size)]
    api.post("/v1/ingest/vehicle/batch", batch)

    with statements_sent() as sent:
        assert api.post("/v1/ingest/vehicle/batch", batch).status_code == 201

    assert sent == [1]
