"""Readings whose optional fields are invalid, where the sender asks to drop those fields."""

import json

import pytest

from fleet.access.authorization import EVERYTHING
from fleet.models import VehicleLiveState
from ingestion.decoding import decode, decode_lines
from ingestion.models import MeterReading, VehicleReading
from ingestion.readings import DeviceKind
from ingestion.stream import StreamInterrupted, take_in_stream
from tests.conftest import NOON

NDJSON = "application/x-ndjson"
METER = {"meterId": "M1", "kwhConsumedAc": 25.5}
VEHICLE = {"vehicleId": "V1", "kwhDeliveredDc": 21.5}
SOC = "soc must be a number from 0 to 100"
TEMP = "batteryTemp must be a number from -100 to 200"


def lines(*items: object) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def dropped(item: dict | bytes, kind: DeviceKind | None = DeviceKind.VEHICLE):
    body = item if isinstance(item, bytes) else json.dumps(item).encode()
    return decode(body, kind, NOON, drops_optional=True)


@pytest.mark.parametrize("soc", [255, 65535, -1, "80%", "80", True, [], {"value": 80}, 1e308])
@pytest.mark.parametrize("kind", [DeviceKind.VEHICLE, None])
def test_invalid_value_is_dropped_and_the_others_are_kept(soc, kind):
    result = dropped(VEHICLE | {"soc": soc, "batteryTemp": 21}, kind)

    (reading,) = result.readings
    assert (reading.energy_dc_kwh, reading.soc_percent) == (21.5, None)
    assert reading.battery_temp_celsius == 21
    assert [(error.index, error.field) for error in result.dropped] == [(0, "soc")]


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
@pytest.mark.parametrize("body", [b"%s", b"[%s]", b"[ %s ]"])
def test_nan_of_an_optional_field_is_dropped(number, body):
    item = b'{"vehicleId":"V1", "soc" : %s,"kwhDeliveredDc":1,"batteryTemp":%s}' % (number, number)
    result = dropped(body % item)

    assert [reading.energy_dc_kwh for reading in result.readings] == [1]
    assert [(e.field, e.code) for e in result.dropped] == [
        ("soc", "wrong_type"),
        ("batteryTemp", "wrong_type"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b'{"vehicleId":"V1","kwhDeliveredDc":NaN}',
        b'{"vehicleId":"V1","kwhDeliveredDc":1,"other":NaN}',
        b'{"vehicleId":"V1","kwhDeliveredDc":1,"soc":NaNa}',
        b'{"vehicleId":"V1","kwhDeliveredDc":1,"soc":255,"batteryTemp":}',
    ],
)
def test_other_items_that_are_not_json_stay_errors(body):
    result = dropped(b"[%s]" % body)

    assert [error.code for error in result.errors] == ["malformed_json"]
    assert result.dropped == []


def test_text_that_only_looks_like_nan_is_left_as_it_is():
    text = '"soc": NaN, \\"soc\\":NaN'
    result = dropped(VEHICLE | {"vehicleId": text, "batteryTemp": 500})

    assert [error.field for error in result.errors] == ["vehicleId"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"kwhDeliveredDc": -1}, "kwhDeliveredDc"),
        ({"kwhDeliveredDc": None}, "kwhDeliveredDc"),
        ({"vehicleId": "a b"}, "vehicleId"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"timestamp": "2026-07-15T12:00:00.1234567Z"}, "timestamp"),
        ({"timestamp": "2026-07-15T13:00:00Z"}, "timestamp"),
    ],
    ids=str,
)
def test_what_else_is_wrong_is_the_error_in_any_order(wrong, field):
    for item in ({"soc": 255} | VEHICLE | wrong, VEHICLE | wrong | {"soc": 255}):
        result = dropped(item)

        assert [error.field for error in result.errors] == [field]
        assert result.readings == []


def test_value_that_is_there_twice_is_dropped_if_one_of_them_is_invalid():
    result = dropped(b'{"vehicleId":"V1","kwhDeliveredDc":1,"soc":255,"soc":80}')

    assert [reading.soc_percent for reading in result.readings] == [None]
    assert [error.field for error in result.dropped] == ["soc"]


def test_line_without_any_optional_field_of_its_kind_is_unchanged():
    result = decode_lines(lines(METER, METER | {"soc": 255}), DeviceKind.METER, NOON, True)

    assert (len(result.readings), result.dropped) == (2, [])


# --- Over HTTP --------------------------------------------------------------------------------


def test_answer_counts_what_was_dropped_by_field_and_names_it_by_index(api):
    batch = [VEHICLE, VEHICLE | {"soc": 255}, VEHICLE | {"soc": "80%", "batteryTemp": 500}]

    answer = api.post("/v1/ingest/vehicle/batch?optional=drop", batch)

    assert answer.status_code == 201
    assert answer.json() == {
        "accepted": 3,
        "rejected": 0,
        "errors": [],
        "warnings": {
            "dropped": {"soc": 2, "batteryTemp": 1},
            "items": [
                {"index": 1, "field": "soc", "code": "out_of_range", "message": SOC},
                {"index": 2, "field": "soc", "code": "wrong_type", "message": SOC},
                {"index": 2, "field": "batteryTemp", "code": "out_of_range", "message": TEMP},
            ],
        },
    }
    assert VehicleReading.objects.filter(soc_percent=None).count() == 3


def test_answer_lists_100_and_counts_all(api):
    answer = api.post("/v1/ingest?optional=drop", [VEHICLE | {"soc": 255}] * 120).json()

    assert answer["warnings"]["dropped"] == {"soc": 120}
    assert [item["index"] for item in answer["warnings"]["items"]] == [*range(100)]


@pytest.mark.parametrize("path", ["/v1/ingest", "/v1/ingest/vehicle", "/v1/ingest?optional=reject"])
def test_reading_is_rejected_unless_asked_otherwise(api, path):
    answer = api.post(path, VEHICLE | {"soc": 255})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "soc"
    assert "warnings" not in answer.json()


def test_setting_is_the_default_which_a_request_overrides(api, settings):
    settings.INGEST_BAD_OPTIONAL = "drop"

    assert api.post("/v1/ingest", METER | {"voltage": "n/a"}).status_code == 201
    assert api.post("/v1/ingest?optional=reject", METER | {"voltage": "n/a"}).status_code == 400


def test_answer_is_unchanged_where_nothing_is_dropped(api):
    plain, dropping = (api.post(f"/v1/ingest{query}", VEHICLE) for query in ("", "?optional=drop"))

    assert plain.content == dropping.content == b'{"accepted":1,"rejected":0,"errors":[]}'


@pytest.mark.parametrize("choice", ["", "keep", "DROP", "true"])
def test_other_choices_are_refused(api, choice):
    answer = api.post(f"/v1/ingest?optional={choice}", VEHICLE)

    assert answer.status_code == 400
    assert answer.json()["message"] == "optional must be reject or drop"


def test_atomic_batch_is_stored_if_only_optional_fields_are_invalid(api):
    path = "/v1/ingest?atomic=true&optional=drop"
    batch = [VEHICLE | {"soc": 255}, METER]

    assert api.post(path, batch).json()["warnings"]["dropped"] == {"soc": 1}
    refused = api.post(path, [*batch, METER | {"kwhConsumedAc": -1}])
    assert refused.status_code == 400
    assert "warnings" not in refused.json()
    assert (VehicleReading.objects.count(), MeterReading.objects.count()) == (1, 1)


def test_only_fields_of_stored_readings_are_counted(api, settings):
    settings.INGEST_UNKNOWN_DEVICES = "reject"
    stranger, bad = VEHICLE | {"soc": 255}, METER | {"voltage": -1, "kwhConsumedAc": -1}

    answer = api.post("/v1/ingest?optional=drop", [stranger, bad]).json()

    assert (answer["rejected"], "warnings" in answer) == (2, False)


def test_dropped_value_leaves_the_last_known_one_in_live_state(api):
    api.post("/v1/ingest", VEHICLE | {"soc": 80, "timestamp": "2026-07-15T11:00:00Z"})
    api.post("/v1/ingest?optional=drop", VEHICLE | {"soc": 255})

    live = VehicleLiveState.objects.get()
    assert (live.soc_percent, live.measured_at) == (80, NOON)


@pytest.mark.parametrize("chunk", [1, 2, 5000])
def test_stream_counts_over_all_its_chunks(api, settings, chunk):
    settings.INGEST_STREAM_CHUNK_READINGS = chunk
    body = lines(VEHICLE, VEHICLE | {"soc": 255}) + b"{\n\n" + lines(METER | {"voltage": -1})

    answer = api._client.generic("POST", "/v1/ingest?optional=drop", body, NDJSON).json()

    assert (answer["accepted"], answer["rejected"]) == (3, 1)
    assert answer["warnings"]["dropped"] == {"soc": 1, "voltage": 1}
    assert [(i["index"], i["field"]) for i in answer["warnings"]["items"]] == [
        (1, "soc"),
        (4, "voltage"),
    ]


@pytest.mark.django_db(transaction=True)
def test_stream_in_lanes_counts_too(clock, settings):
    settings.INGEST_STREAM_CHUNK_READINGS = 300
    body = lines(*({"vehicleId": f"V{n}", "kwhDeliveredDc": 1, "soc": 255} for n in range(450)))

    outcome = take_in_stream([body], EVERYTHING, DeviceKind.VEHICLE, drops_optional=True)

    assert outcome.warnings.dropped == {"soc": 450}
    assert len(outcome.warnings.items) == 100


def test_interrupted_stream_has_the_warnings_until_then(api, settings):
    settings.INGEST_STREAM_CHUNK_READINGS = 1

    def cut() -> object:
        yield lines(VEHICLE | {"soc": 255})
        yield lines(VEHICLE)
        raise OSError

    with pytest.raises(StreamInterrupted) as interrupted:
        take_in_stream(cut(), EVERYTHING, DeviceKind.VEHICLE, drops_optional=True)

    assert interrupted.value.outcome.warnings.dropped == {"soc": 1}
