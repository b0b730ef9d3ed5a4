"""Readings that are JSON, but not what a device may send: refused by themselves, each by name."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.engine.wire import (
    JSON,
    NDJSON,
    Item,
    answer_to,
    assert_refused_alone,
    post,
    reading_for,
    stored,
    stored_since,
    storing_nothing,
)

pytestmark = pytest.mark.xdist_group("bad input")

ID = {"meter": "meterId", "vehicle": "vehicleId"}
ENERGY = {"meter": "kwhConsumedAc", "vehicle": "kwhDeliveredDc"}
ID_RULE = (
    "1 to 64 characters: letters, digits and . _ : - * + @ ~ # ( ) =, "
    "beginning with a letter, a digit or _"
)
ENERGY_RULE = "a number from 0 to 1,000,000,000"
LIMITS = {
    ("meter", "voltage"): "a number from 0 to 1,000,000",
    ("vehicle", "soc"): "a number from 0 to 100",
    ("vehicle", "batteryTemp"): "a number from -100 to 200",
}
FIELDS = [("meter", ENERGY["meter"]), ("vehicle", ENERGY["vehicle"]), *LIMITS]


def good(kind: str, **change: object) -> dict[str, object]:
    return {ID[kind]: "BAD-1", ENERGY[kind]: 1.5} | change


def bad(kind: str, change: dict[str, object], field: str, code: str, message: str) -> Item:
    return Item(kind, json.dumps(good(kind, **change)).encode(), field, code, message)


@pytest.mark.parametrize("value", [True, False, "1", "nan", "1_000", "١٢", "", [], {}], ids=repr)
@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_number_that_is_none_is_refused(engine, kind, field, value):
    message = f"{field} must be {LIMITS.get((kind, field), ENERGY_RULE)}"

    assert_refused_alone(engine, bad(kind, {field: value}, field, "wrong_type", message))


@pytest.mark.parametrize("number", ["-0.1", "-1e-300", "1e308", str(2**63), "1e400", "9" * 5_000])
@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_number_beyond_its_limits_is_refused(engine, kind, field, number):
    rule = LIMITS.get((kind, field), ENERGY_RULE)
    if field == "batteryTemp" and number.startswith("-"):
        number = "-101"
    raw = json.dumps(good(kind, **{field: 0})).replace(f'"{field}": 0', f'"{field}": {number}')
    message = f"{field} must be {rule}"

    assert_refused_alone(engine, Item(kind, raw.encode(), field, "out_of_range", message))


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("vehicle", "soc", 101),
        ("vehicle", "soc", 100.00001),
        ("vehicle", "batteryTemp", 200.1),
        ("meter", "voltage", 1_000_000.5),
        ("meter", "kwhConsumedAc", 1_000_000_001),
        ("vehicle", "kwhDeliveredDc", 1_000_000_001),
    ],
)
def test_number_just_beyond_its_limit_is_refused(engine, kind, field, value):
    message = f"{field} must be {LIMITS.get((kind, field), ENERGY_RULE)}"

    assert_refused_alone(engine, bad(kind, {field: value}, field, "out_of_range", message))


@pytest.mark.parametrize("raw", ["255000000", '"80%"', "true", "[]", "{}", "1e400", "NaN"])
@pytest.mark.parametrize(("kind", "field"), LIMITS)
def test_bad_optional_field_is_dropped_where_that_is_asked_for(engine, kind, field, raw):
    device = f"DROP-{len(stored(engine))}"
    reading = json.dumps(good(kind, **{ID[kind]: device, field: 0}))
    item = reading.replace(f'"{field}": 0', f'"{field}": {raw}').encode()
    neighbour, batch = reading_for(kind, device), f"/v1/ingest/{kind}/batch"
    before = stored(engine)

    answers = [
        answer_to(engine, post(path, body, content_type=media))
        for path, body, media in [
            (f"/v1/ingest/{kind}?optional=drop", item, JSON),
            ("/v1/ingest?optional=drop", b"[%s, %s]" % (item, neighbour), JSON),
            (f"{batch}?optional=drop&atomic=true", b"[%s, %s]" % (item, neighbour), JSON),
            (f"{batch}?optional=drop", b"\n".join([item, neighbour]), NDJSON),
        ]
    ]

    assert [(answer.status, answer.body["accepted"]) for answer in answers] == [
        (201, 1),
        (201, 2),
        (201, 2),
        (201, 2),
    ]
    for answer in answers:
        assert answer.body["warnings"]["dropped"] == {field: 1}
        (named,) = answer.body["warnings"]["items"]
        assert (named["index"], named["field"]) == (0, field)
        assert named["message"] == f"{field} must be {LIMITS[kind, field]}"
    tables = [table for table, of_device in stored_since(engine, before) if of_device == device]
    assert tables == ["history"] * 7 + ["live", "registry"]


@pytest.mark.parametrize("raw", ["1e400", '"1"', "NaN"])
@pytest.mark.parametrize("kind", ID)
def test_bad_energy_is_refused_where_optional_fields_are_dropped(engine, kind, raw):
    reading = json.dumps(good(kind, **{ENERGY[kind]: 0}))
    item = reading.replace(f'"{ENERGY[kind]}": 0', f'"{ENERGY[kind]}": {raw}').encode()

    with storing_nothing(engine):
        assert answer_to(engine, post("/v1/ingest?optional=drop", item)).status == 400


TIME_RULE = (
    "timestamp must be an RFC 3339 time with an offset and at most 6 decimal places, "
    "such as 2026-07-15T12:00:00Z"
)
AHEAD = "timestamp must be at most 10 minutes ahead of the server"
TOO_OLD = "timestamp must be at most 400 days old (HISTORY_HORIZON_DAYS)"


def in_minutes(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()


@pytest.mark.parametrize(
    ("timestamp", "code", "message"),
    [
        pytest.param(timestamp, code, message, id=name)
        for name, timestamp, code, message in [
            ("naive", "2026-06-15T11:00:00", "invalid_format", TIME_RULE),
            ("date only", "2026-06-15", "invalid_format", TIME_RULE),
            ("ISO week", "2026-W24-1T11:00:00Z", "invalid_format", TIME_RULE),
            ("day of the year", "2026-166T11:00:00Z", "invalid_format", TIME_RULE),
            ("epoch number", 1_781_521_200, "wrong_type", TIME_RULE),
            ("epoch in a string", "1781521200", "invalid_format", TIME_RULE),
            ("nanoseconds", "2026-06-15T11:00:00.123456789Z", "invalid_format", TIME_RULE),
            ("second 60", "2026-06-30T23:59:60Z", "invalid_format", TIME_RULE),
            ("24:00", "2026-06-15T24:00:00Z", "invalid_format", TIME_RULE),
            ("30 February", "2026-02-30T11:00:00Z", "invalid_format", TIME_RULE),
            ("year 0", "0000-06-15T11:00:00Z", "invalid_format", TIME_RULE),
            ("year 10000", "10000-06-15T11:00:00Z", "invalid_format", TIME_RULE),
            ("offset of a day", "2026-06-15T11:00:00+24:00", "invalid_format", TIME_RULE),
            ("other digits", "٢٠٢٦-06-15T11:00:00Z", "invalid_format", TIME_RULE),
            ("newline at its end", "2026-06-15T11:00:00Z\n", "invalid_format", TIME_RULE),
            ("empty", "", "invalid_format", TIME_RULE),
            ("year 1", "0001-01-01T00:00:00+23:59", "out_of_range", TOO_OLD),
            ("year 9999", "9999-12-31T23:59:59-23:59", "out_of_range", AHEAD),
            ("11 minutes ahead", in_minutes(11 + 60), "out_of_range", AHEAD),
            ("beyond the horizon", in_minutes(-400 * 24 * 60 - 1), "out_of_range", TOO_OLD),
        ]
    ],
)
@pytest.mark.parametrize("kind", ID)
def test_bad_time_is_refused(engine, kind, timestamp, code, message):
    item = bad(kind, {"timestamp": timestamp}, "timestamp", code, message)

    assert_refused_alone(engine, item)


def test_time_11_minutes_ahead_is_refused_and_one_of_9_is_not(engine):
    path = "/v1/ingest/vehicle"
    answers = [
        answer_to(engine, post(path, json.dumps(good("vehicle", timestamp=time)).encode()))
        for time in (in_minutes(11), in_minutes(9))
    ]

    assert [answer.status for answer in answers] == [400, 201]


@pytest.mark.parametrize(
    "device_id",
    [
        "line\nbreak",
        "return\rcarriage",
        "\x1b[31mred",
        "with space",
        " before",
        "sla/sh",
        "..\\..",
        "A" * 65,
        "",
        "-dash",
        "N\0L",
        "élan",
        "A\u202eB",
        "<script>",
        "=cmd",
        "*star",
        "#hash",
        "A&B",
        "A%20B",
        "A,B",
        "A?B",
        "'; DROP TABLE fleet_meter; --",
        "%00",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("kind", ID)
def test_malformed_id_is_refused(engine, kind, device_id):
    field = ID[kind]
    item = bad(kind, {field: device_id}, field, "invalid_format", f"{field} must be {ID_RULE}")

    assert_refused_alone(engine, item)


@pytest.mark.parametrize("device_id", [7, True, ["A"], {"id": "A"}], ids=repr)
@pytest.mark.parametrize("kind", ID)
def test_id_that_is_no_string_is_refused(engine, kind, device_id):
    field = ID[kind]
    item = bad(kind, {field: device_id}, field, "wrong_type", f"{field} must be {ID_RULE}")

    assert_refused_alone(engine, item)


@pytest.mark.parametrize("kind", ID)
def test_reading_without_its_energy_is_refused(engine, kind):
    field = ENERGY[kind]
    raw = json.dumps({ID[kind]: "BAD-1"}).encode()

    assert_refused_alone(
        engine, Item(kind, raw, field, "missing", f"{field} is required: {ENERGY_RULE}")
    )


# --- Which kind it is ---------------------------------------------------------------------------

BOTH = {"meterId": "KIND-M", "vehicleId": "KIND-V", "kwhConsumedAc": 1, "kwhDeliveredDc": 1}
NEITHER = {"kwhConsumedAc": 1, "kwhDeliveredDc": 1}


@pytest.mark.parametrize(
    ("item", "field", "code", "message"),
    [
        (
            BOTH,
            "type",
            "unknown_kind",
            "a reading with both meterId and vehicleId needs a type: meter or vehicle",
        ),
        (
            NEITHER,
            "type",
            "unknown_kind",
            "a reading with neither meterId nor vehicleId needs a type: meter or vehicle",
        ),
        (
            {"type": "vehicle", "meterId": "KIND-M", "kwhConsumedAc": 1},
            "vehicleId",
            "missing",
            f"vehicleId is required: {ID_RULE}",
        ),
        (
            {"type": "meter", "vehicleId": "KIND-V", "kwhDeliveredDc": 1},
            "meterId",
            "missing",
            f"meterId is required: {ID_RULE}",
        ),
        ({"type": "car", **BOTH}, "type", "invalid_format", "type must be meter or vehicle"),
        ({"type": 1, **BOTH}, "type", "wrong_type", "type must be meter or vehicle"),
    ],
    ids=["both ids", "neither id", "vehicle by type", "meter by type", "unknown type", "number"],
)
def test_reading_of_unclear_kind_is_refused_on_the_mixed_route(engine, item, field, code, message):
    before = stored(engine)
    batch = b"[%s, %s]" % (json.dumps(item).encode(), reading_for("meter", "KIND-GOOD"))

    alone = answer_to(engine, post("/v1/ingest", json.dumps(item).encode()))
    among = answer_to(engine, post("/v1/ingest", batch))

    alone.is_error(400, "rejected", "/v1/ingest")
    error = {"index": 0, "field": field, "code": code, "message": message}
    assert alone.body["errors"] == among.body["errors"] == [error]
    assert (among.status, among.body["accepted"]) == (200, 1)
    assert {device for _, device in stored_since(engine, before)} == {"KIND-GOOD"}


@pytest.mark.parametrize("kind", ID)
def test_route_of_a_kind_takes_its_own_id_and_ignores_type_and_the_other_one(engine, kind):
    before = stored(engine)
    body = json.dumps(BOTH | {"type": "car"}).encode()

    assert answer_to(engine, post(f"/v1/ingest/{kind}", body)).status == 201
    assert {device for _, device in stored_since(engine, before)} == {BOTH[ID[kind]]}


# --- What is there twice, and who is not known --------------------------------------------------


def test_reading_that_is_twice_in_a_batch_is_stored_twice_and_the_last_one_counts(engine):
    at = in_minutes(-5)
    equal = [good("vehicle", vehicleId="TWICE-1", soc=50, timestamp=at)] * 2
    different = [
        good("vehicle", vehicleId="TWICE-2", soc=soc, timestamp=at, kwhDeliveredDc=soc)
        for soc in (60, 40)
    ]
    body = json.dumps(equal + different).encode()

    answer = answer_to(engine, post("/v1/ingest/vehicle/batch", body))

    assert (answer.status, answer.body["accepted"]) == (201, 4)
    ((deliveries,),) = engine.rows(
        "SELECT count(*) FROM ingestion_vehiclereading WHERE vehicle_id LIKE 'TWICE-%'"
    )
    assert deliveries == 4
    for vehicle, energy in (("TWICE-1", 1.5), ("TWICE-2", 40)):
        _, live = engine.request("GET", f"/v1/status/vehicle/{vehicle}")
        _, figure = engine.request("GET", f"/v1/analytics/performance/{vehicle}?window=1h")
        assert live["kwhDeliveredDc"] == figure["energyDeliveredDc"] == energy


def test_unknown_device_is_refused_alone_where_devices_do_not_register_themselves(make_engine):
    strict = make_engine(INGEST_UNKNOWN_DEVICES="reject").start()
    with strict.connected() as database:
        database.execute(
            "INSERT INTO fleet_vehicle (vehicle_id, energy_register, registered_at)"
            " VALUES ('KNOWN', 'interval', now())"
        )
    before = stored(strict)
    body = b"[%s]" % b",".join(reading_for("vehicle", device) for device in ("KNOWN", "STRANGER"))

    alone = answer_to(strict, post("/v1/ingest/meter", reading_for("meter", "STRANGER")))
    among = answer_to(strict, post("/v1/ingest", body))

    alone.is_error(400, "rejected", "/v1/ingest/meter")
    assert alone.body["errors"][0]["message"] == "meterId must be the id of a registered meter"
    assert (among.status, among.body["accepted"]) == (200, 1)
    assert among.body["errors"][0]["code"] == "unknown_device"
    assert stored_since(strict, before) == [("history", "KNOWN"), ("live", "KNOWN")]
