"""The wire format: what is accepted, and what is said of what is not."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.http.wire import MalformedBody
from ingestion.decoding import decode
from ingestion.items import TooManyReadings
from ingestion.readings import DeviceKind, MeterReading, VehicleReading
from tests.conftest import NOON, at

GOOD = {"vehicleId": "V1", "kwhDeliveredDc": 1}


def decoded(item: object, kind: DeviceKind | None = DeviceKind.VEHICLE):
    body = item if isinstance(item, bytes) else json.dumps(item).encode()
    return decode(body, kind, NOON)


def only_error(
    item: object, kind: DeviceKind | None = DeviceKind.VEHICLE
) -> tuple[str | None, str]:
    result = decoded(item, kind)
    assert result.readings == []
    (error,) = result.errors
    assert error.message
    return error.field, error.code


def test_reading_of_a_meter_has_all_its_fields():
    body = b"""{"meterId": "M1", "kwhConsumedAc": 25.5, "voltage": 230,
                "timestamp": "2026-07-15T13:00:00.5+02:00", "firmware": {"any": ["thing"]}}"""

    (reading,) = decode(body, DeviceKind.METER, NOON).readings

    assert reading == MeterReading(
        meter_id="M1", energy_ac_kwh=25.5, voltage_v=230.0, measured_at=at("11:00:00.500")
    )


def test_reading_without_timestamp_gets_the_time_of_receipt():
    (reading,) = decoded(GOOD).readings

    assert reading.measured_at == NOON


def test_null_stands_for_an_absent_value():
    (reading,) = decoded(GOOD | {"soc": None, "batteryTemp": None, "timestamp": None}).readings

    assert (reading.soc_percent, reading.measured_at) == (None, NOON)


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ({"meterId": "M1", "kwhConsumedAc": 1}, MeterReading),
        ({"vehicleId": "V1", "kwhDeliveredDc": 1}, VehicleReading),
        ({"type": "meter", "meterId": "M1", "kwhConsumedAc": 1}, MeterReading),
        ({"type": "vehicle", "meterId": 0, **GOOD}, VehicleReading),
    ],
)
def test_item_tells_its_kind_by_type_or_by_its_id(item, kind):
    (reading,) = decoded([item], kind=None).readings

    assert type(reading) is kind


@pytest.mark.parametrize(
    "device_id",
    ["V", "_", "0", "a.b_c:d-e", "DE*8PY*E1", "a+@~#()=", "V" * 64],
    ids=lambda value: value[:9],
)
def test_well_formed_id_is_accepted(device_id):
    assert len(decoded(GOOD | {"vehicleId": device_id}).readings) == 1


@pytest.mark.parametrize(
    "device_id",
    ["", "V" * 65, "-V", ".V", ":V", "a b", "a/b", "V\n", "V\0", "\x1b[31m", "Vé", "V1\nV2"],
    ids=ascii,
)
def test_malformed_id_is_refused(device_id):
    assert only_error(GOOD | {"vehicleId": device_id}) == ("vehicleId", "invalid_format")


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"kwhDeliveredDc": -0.1}, "kwhDeliveredDc", "out_of_range"),
        ({"kwhDeliveredDc": 1.1e9}, "kwhDeliveredDc", "out_of_range"),
        ({"kwhDeliveredDc": "1"}, "kwhDeliveredDc", "wrong_type"),
        ({"kwhDeliveredDc": True}, "kwhDeliveredDc", "wrong_type"),
        ({"kwhDeliveredDc": None}, "kwhDeliveredDc", "wrong_type"),
        ({"soc": 100.1}, "soc", "out_of_range"),
        ({"soc": -0.1}, "soc", "out_of_range"),
        ({"soc": "80"}, "soc", "wrong_type"),
        ({"batteryTemp": 200.5}, "batteryTemp", "out_of_range"),
        ({"batteryTemp": -101}, "batteryTemp", "out_of_range"),
        ({"vehicleId": 7}, "vehicleId", "wrong_type"),
        ({"timestamp": 1752580800}, "timestamp", "wrong_type"),
        ({"timestamp": "2026-07-15"}, "timestamp", "invalid_format"),
        ({"timestamp": "2026-W29-3"}, "timestamp", "invalid_format"),
        ({"timestamp": "2026-07-15T11:00:00"}, "timestamp", "invalid_format"),
        ({"timestamp": "2026-07-15T11:00:60Z"}, "timestamp", "invalid_format"),
        ({"timestamp": "2026-07-15T24:00:00Z"}, "timestamp", "invalid_format"),
        ({"timestamp": "2026-02-30T11:00:00Z"}, "timestamp", "invalid_format"),
        ({"timestamp": "2026-07-15T11:00:00.1234567Z"}, "timestamp", "invalid_format"),
        ({"timestamp": "0001-01-01T00:00:00Z"}, "timestamp", "out_of_range"),
        ({"timestamp": "9999-12-31T23:59:59Z"}, "timestamp", "out_of_range"),
        ({"timestamp": "2026-07-15T12:10:00.000001Z"}, "timestamp", "out_of_range"),
        ({"timestamp": "2025-06-10T11:59:59Z"}, "timestamp", "out_of_range"),
    ],
    ids=str,
)
def test_bad_value_is_refused_with_field_and_code(change, field, code):
    assert only_error(GOOD | change) == (field, code)


@pytest.mark.parametrize(
    "change",
    [
        {"kwhDeliveredDc": 0},
        {"kwhDeliveredDc": 1e9},
        {"soc": 0},
        {"soc": 100},
        {"batteryTemp": -100},
        {"batteryTemp": 200},
        {"timestamp": "2026-07-15T12:10:00Z"},
        {"timestamp": "2025-06-10T12:00:00Z"},
        {"timestamp": "2026-07-15T11:00:00.123456Z"},
    ],
    ids=str,
)
def test_value_at_its_limit_is_accepted(change):
    assert len(decoded(GOOD | change).readings) == 1


@pytest.mark.parametrize(
    "number", ["1e400", "9" * 5000, "-1e400"], ids=["1e400", "5,000 digits", "-1e400"]
)
def test_number_that_no_float_holds_is_out_of_range(number):
    body = b'{"vehicleId": "V1", "kwhDeliveredDc": %s}' % number.encode()

    assert only_error(body) == ("kwhDeliveredDc", "out_of_range")


def test_missing_field_is_named():
    assert only_error({"vehicleId": "V1"}) == ("kwhDeliveredDc", "missing")
    assert only_error({"kwhDeliveredDc": 1}) == ("vehicleId", "missing")


@pytest.mark.parametrize("item", [None, "V1", 7, True])
def test_item_that_is_no_object_is_refused(item):
    assert only_error([item]) == (None, "wrong_type")
    assert only_error([item], kind=None) == (None, "wrong_type")


@pytest.mark.parametrize(
    ("item", "field", "code"),
    [
        ({"kwhConsumedAc": 1}, "type", "unknown_kind"),
        ({"meterId": "M1", "vehicleId": "V1"}, "type", "unknown_kind"),
        ({"type": "car", "vehicleId": "V1"}, "type", "invalid_format"),
        ({"type": 1, "vehicleId": "V1"}, "type", "wrong_type"),
        ({"type": "vehicle", "meterId": "M1", "kwhConsumedAc": 1}, "vehicleId", "missing"),
    ],
    ids=str,
)
def test_item_of_unclear_kind_is_refused(item, field, code):
    assert only_error([item], kind=None)[0] == field
    assert only_error([item], kind=None)[1] == code


def test_bad_item_leaves_its_neighbours_alone():
    result = decoded([GOOD, GOOD | {"soc": 101}, None, GOOD | {"vehicleId": "V4"}])

    assert [reading.vehicle_id for reading in result.readings] == ["V1", "V4"]
    assert list(result.indexes) == [0, 3]
    assert [(error.index, error.field) for error in result.errors] == [(1, "soc"), (2, None)]


def test_item_in_another_encoding_leaves_its_neighbours_alone():
    good = b'{"vehicleId": "V2", "kwhDeliveredDc": 1}'
    body = b'[{"vehicleId": "V\xff", "kwhDeliveredDc": 1}, %s]' % good

    result = decoded(body)

    assert [reading.vehicle_id for reading in result.readings] == ["V2"]
    assert result.errors[0].code == "malformed_json"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[{}",
        b"{} {}",
        b'{"kwhDeliveredDc": NaN}',
        b'{"kwhDeliveredDc": Infinity}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda body: ascii(body[:20]),
)
def test_body_that_is_not_json_is_malformed(body):
    for kind in (DeviceKind.METER, DeviceKind.VEHICLE, None):
        with pytest.raises(MalformedBody):
            decode(body, kind, NOON)


@pytest.mark.parametrize(
    "poison",
    [
        b'{"vehicleId": "V9", "kwhDeliveredDc": NaN}',
        b'{"vehicleId": "\\ud800"}',
        b'{"vehicleId": "V9", "kwhDeliveredDc": 1_000}',
        b'{"vehicleId": "V9\xff", "note": NaN}',
        b'{"note": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"note": "a \\" ], [ \\\\", "kwhDeliveredDc": +1}',
        b"poison",
    ],
    ids=lambda poison: ascii(poison[:40]),
)
def test_item_that_is_not_strict_json_fails_alone(poison):
    good = b'{"vehicleId": "V1", "kwhDeliveredDc": 1}'

    result = decode(b"[%s, %s]" % (poison, good), DeviceKind.VEHICLE, NOON)

    assert [reading.vehicle_id for reading in result.readings] == ["V1"]
    assert [error.index for error in result.errors] == [0]


def test_null_id_is_an_absent_one():
    (reading,) = decoded([GOOD | {"meterId": None}], kind=None).readings

    assert reading.vehicle_id == "V1"


def test_field_that_is_ignored_may_hold_a_time_finer_than_microseconds():
    (reading,) = decoded(
        GOOD | {"built": "2026-01-01T10:00:00.1234567Z", "timestamp": "2026-07-15T11:00:00Z"}
    ).readings

    assert reading.measured_at == at("11:00")


@pytest.mark.parametrize(
    "body",
    [
        b'[{"a": NaN}, {"a": [1}]',
        b'[{"a": NaN}}, {}]',
        b'[{"a": NaN}] {}',
        b'[{"a": NaN}, "cut]',
        b'[{"a": NaN},, {}]',
        b'[{"a": NaN},]',
        b"[" * 10 * 1024 * 1024,
        "[{}]".encode("utf-16-le"),
    ],
    ids=lambda body: ascii(body[:20]),
)
def test_array_whose_items_cannot_be_told_apart_is_malformed(body):
    with pytest.raises(MalformedBody):
        decode(body, DeviceKind.VEHICLE, NOON)


def test_ignored_field_that_is_not_utf8_is_refused():
    body = b'{"vehicleId": "V1", "kwhDeliveredDc": 1, "note": "\xff"}'

    assert only_error(body) == (None, "malformed_json")
    assert only_error(b"[%s]" % body, kind=None) == (None, "malformed_json")


def test_escaped_time_is_no_finer_than_microseconds_either():
    body = json.dumps(GOOD | {"timestamp": "2026-07-15T11:00:00.1234567Z"}).encode()

    assert only_error(body.replace(b".", rb"\u002e")) == ("timestamp", "invalid_format")


def test_array_of_next_to_nothings_is_refused_before_it_takes_memory():
    with pytest.raises(TooManyReadings):
        decode(b"[" + b"0," * 2_000_000 + b"0]", DeviceKind.VEHICLE, NOON)


def test_body_of_too_many_readings_is_refused():
    with pytest.raises(TooManyReadings, match="50,000"):
        decode(b"[" + b"{}," * 50_000 + b"{}]", DeviceKind.VEHICLE, NOON)


def test_message_never_repeats_the_input():
    result = decoded(GOOD | {"soc": "<script>", "vehicleId": "<script>"})

    assert "<script>" not in str(result.errors)


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text("aV1<é", max_size=3)
timestamps = st.datetimes(
    min_value=datetime(2025, 1, 1),
    max_value=datetime(2027, 1, 1),
    timezones=st.just(UTC),
).map(lambda moment: moment.isoformat())
items = st.fixed_dictionaries(
    {},
    optional={
        "vehicleId": st.from_regex(r"[A-Za-z0-9._:-]{0,3}") | values,
        "kwhDeliveredDc": st.floats(-1, 2e9) | values,
        "soc": st.floats(-1, 101) | values,
        "batteryTemp": values,
        "timestamp": timestamps | values,
    },
)


@given(st.lists(items, max_size=6))
def test_whole_body_and_its_items_one_by_one_are_judged_alike(batch):
    batch = json.loads(json.dumps(batch).replace("NaN", "0").replace("Infinity", "1e308"))
    whole = decoded(batch)

    for index, item in enumerate(batch):
        alone = decoded(item)
        assert (index in whole.indexes) == bool(alone.readings)
        if alone.errors:
            error = next(error for error in whole.errors if error.index == index)
            assert (error.field, error.code) == (alone.errors[0].field, alone.errors[0].code)
    for reading in whole.readings:
        assert NOON - timedelta(days=400) <= reading.measured_at <= NOON + timedelta(minutes=10)
