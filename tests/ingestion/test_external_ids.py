"""Readings that carry the external id of a device in place of its id."""

import json
import threading
from datetime import timedelta

import pytest
from django.core.management import call_command

from fleet.models import Meter, Site, Vehicle
from fleet.stores.statements import Statement
from ingestion import group_commit
from ingestion.external_ids import ExternalIds, external_ids
from ingestion.models import MeterReading, VehicleReading
from ingestion.writer import ExternalIdsGiven, record
from tests.callers import INGEST, caller
from tests.conftest import NOON, meter_reading, vehicle_reading

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clock")]

NDJSON = "application/x-ndjson"
# Of M1 and of V1; one of them could be an id, the others could not.
SHAPES = ["DE-4711", "SN 4711/2", "Zähler 7", "=1+1", "x" * 200, "-"]


@pytest.fixture(autouse=True)
def _new_process() -> None:
    """Let this process know of no external ids, neither before the test nor after it."""
    external_ids.__init__()
    yield
    external_ids.__init__()


@pytest.fixture(params=SHAPES, ids=lambda text: text[:9])
def external_id(request) -> str:
    """The external id of M1 and of V1."""
    Meter.objects.create(meter_id="M1", external_id=request.param)
    Vehicle.objects.create(vehicle_id="V1", external_id=request.param)
    return request.param


def of_meter(text: str, **fields: object) -> dict[str, object]:
    return {"meterId": text, "kwhConsumedAc": 1} | fields


def of_vehicle(text: str, **fields: object) -> dict[str, object]:
    return {"vehicleId": text, "kwhDeliveredDc": 1} | fields


def stored() -> list[str]:
    """Return the ids of all readings, those of meters first."""
    meters = MeterReading.objects.order_by("id").values_list("meter_id", flat=True)
    return [*meters, *VehicleReading.objects.order_by("id").values_list("vehicle_id", flat=True)]


def registered() -> list[str]:
    return [*Meter.objects.values_list("pk", flat=True)]


# --- Every door -------------------------------------------------------------------------------


def test_single_reading_is_stored_under_the_id(api, external_id):
    assert api.post("/v1/ingest/meter", of_meter(external_id)).status_code == 201
    assert api.post("/v1/ingest", of_vehicle(external_id)).status_code == 201

    assert stored() == ["M1", "V1"]
    assert registered() == ["M1"]
    assert api.get("/v1/status/meter/M1").json()["kwhConsumedAc"] == 1


def test_array_keeps_the_order_and_the_indexes_of_errors(api, external_id):
    batch = [of_meter("a b"), of_meter(external_id), of_meter("M2"), of_meter("c d")]

    answer = api.post("/v1/ingest/meter/batch", [*batch, of_meter(external_id), of_meter("M1")])

    assert answer.json()["accepted"] == 4
    assert [error["index"] for error in answer.json()["errors"]] == [0, 3]
    assert sorted(stored()) == ["M1", "M1", "M1", "M2"]


@pytest.mark.parametrize("chunk", [2, 5000])
def test_stream_of_both_kinds_is_stored_under_the_ids(api, settings, external_id, chunk):
    settings.INGEST_STREAM_CHUNK_READINGS = chunk
    items = [of_meter(external_id), of_vehicle(external_id), of_meter("M2"), of_meter("a b")]
    body = b"".join(json.dumps(item).encode() + b"\n" for item in items)

    answer = api._client.generic("POST", "/v1/ingest", body, NDJSON).json()

    assert (answer["accepted"], answer["errors"][0]["index"]) == (3, 3)
    assert stored() == ["M1", "M2", "V1"]


def test_large_stream_in_lanes_is_stored_under_the_ids(api, external_id):
    body = b"".join(
        json.dumps(of_meter(text)).encode() + b"\n"
        for text in [external_id, *(f"N{number}" for number in range(300))]
    )

    assert api._client.generic("POST", "/v1/ingest", body, NDJSON).json()["accepted"] == 301
    assert "M1" in stored()
    assert external_id not in stored()


def test_atomic_batch_takes_external_ids(api, external_id):
    path = "/v1/ingest?atomic=true"

    assert api.post(path, [of_meter(external_id), of_meter("M2")]).status_code == 201
    assert api.post(path, [of_meter(external_id), of_meter("a b")]).status_code == 400
    assert sorted(stored()) == ["M1", "M2"]


def test_file_is_imported_under_the_ids(tmp_path, external_id):
    path = tmp_path / "day.csv"
    path.write_text(
        "timestamp,meterId,kwhConsumedAc\n"
        f"2026-07-15T11:00:00Z,{external_id},1\n"
        "2026-07-15T11:00:00Z,a b,1\n"
        f",{external_id},1\n"
    )

    call_command("import_readings", path)

    assert stored() == ["M1"]
    report = path.with_name("day.csv.rejected.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in report[1:]] == [
        ["3", "meterId", "invalid_format"],
        ["4", "timestamp", "missing"],
    ]


@pytest.mark.parametrize("text", SHAPES, ids=lambda text: text[:9])
def test_devices_that_do_not_register_themselves_are_found_too(api, settings, text):
    settings.INGEST_UNKNOWN_DEVICES = "reject"
    Meter.objects.create(meter_id="M1", external_id=text)

    answer = api.post("/v1/ingest/meter", [of_meter(text), of_meter("M9"), of_meter("M1")])

    assert answer.json()["accepted"] == 2
    assert answer.json()["errors"][0]["code"] == "unknown_device"
    assert stored() == ["M1", "M1"]


# --- What it does not change ------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a b", "x" * 65, "x" * 201, "N\0L", "", "line\nbreak"], ids=ascii)
def test_text_that_is_nobodys_is_refused_as_ever(api, text):
    Meter.objects.create(meter_id="M1", external_id="other")

    error = api.post("/v1/ingest/meter", of_meter(text)).json()["errors"][0]

    assert (error["field"], error["code"]) == ("meterId", "invalid_format")
    assert stored() == []


def test_id_that_is_nobodys_registers_its_device(api):
    Meter.objects.create(meter_id="M1", external_id="other")

    assert api.post("/v1/ingest/meter", of_meter("M2")).status_code == 201
    assert registered() == ["M1", "M2"]


def test_external_id_is_that_of_its_kind_only(api):
    Vehicle.objects.create(vehicle_id="V1", external_id="X")

    api.post("/v1/ingest", [of_meter("X"), of_vehicle("X")])

    assert stored() == ["X", "V1"]


@pytest.mark.parametrize("has_reported", [True, False])
def test_id_goes_before_the_external_id_of_another_device(api, has_reported):
    Meter.objects.create(meter_id="X")
    if has_reported:
        record([meter_reading("X", "11:00", 1.0)], NOON)
    Meter.objects.create(meter_id="M1", external_id="X")

    assert api.post("/v1/ingest/meter", of_meter("X")).status_code == 201
    assert set(stored()) == {"X"}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"timestamp": "2026-07-15T13:00:00Z"}, "timestamp"),
        ({"timestamp": "2026-07-15T11:00:00.1234567Z"}, "timestamp"),
        ({"kwhConsumedAc": -1}, "kwhConsumedAc"),
        ({"voltage": -1}, "voltage"),
    ],
    ids=str,
)
def test_what_else_is_wrong_is_the_error(api, external_id, wrong, field):
    answer = api.post("/v1/ingest/meter", of_meter(external_id, **wrong))

    assert answer.json()["errors"][0]["field"] == field
    assert stored() == []


def test_bad_optional_field_is_dropped_and_the_reading_stored_under_the_id(api, external_id):
    reading = of_meter(external_id, voltage="n/a")
    answer = api.post("/v1/ingest/meter?optional=drop", reading).json()

    assert answer["warnings"]["dropped"] == {"voltage": 1}
    assert stored() == ["M1"]


# --- Case -------------------------------------------------------------------------------------


def test_case_counts(api):
    Meter.objects.create(meter_id="M1", external_id="AA:BB:CC")
    Meter.objects.create(meter_id="M2", external_id="SN 47")

    answer = api.post("/v1/ingest/meter", [of_meter("aa:bb:cc"), of_meter("sn 47")]).json()

    assert (answer["accepted"], answer["rejected"]) == (1, 1)
    assert stored() == ["aa:bb:cc"]


@pytest.mark.parametrize("text", ["aa:bb:cc", "AA:bb:CC", "sn 47", "Sn 47"])
@pytest.mark.parametrize("mode", ["register", "reject"])
def test_case_does_not_count_where_the_setting_says_so(api, settings, text, mode):
    settings.EXTERNAL_IDS_IGNORE_CASE = True
    settings.INGEST_UNKNOWN_DEVICES = mode
    Meter.objects.create(meter_id="M1", external_id=text.upper())

    assert api.post("/v1/ingest/meter", [of_meter(text)] * 2).status_code == 201
    assert stored() == ["M1", "M1"]
    assert registered() == ["M1"]


def test_text_that_several_devices_have_but_for_its_case_is_refused(api, settings):
    settings.EXTERNAL_IDS_IGNORE_CASE = True
    Meter.objects.create(meter_id="M1", external_id="Ab")
    Meter.objects.create(meter_id="M2", external_id="aB")

    answer = api.post("/v1/ingest/meter", [of_meter("Ab"), of_meter("ab"), of_meter("aB")]).json()

    assert (answer["accepted"], answer["rejected"]) == (2, 1)
    assert answer["errors"] == [
        {
            "index": 1,
            "field": "meterId",
            "code": "ambiguous_id",
            "message": "meterId is the external id of several meters, but for its case",
        }
    ]
    assert stored() == ["M1", "M2"]


# --- Keys -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("closed")
class TestKeys:
    def test_key_of_a_device_reaches_it_by_its_external_id(self, external_id):
        bound = caller(INGEST, meter_ids=["M1"])

        assert bound.post(of_meter(external_id))[0] == 201
        assert bound.post(of_vehicle(external_id))[0] == 400
        assert stored() == ["M1"]

    def test_key_of_a_site_reaches_its_devices_by_their_external_ids(self, external_id):
        site = Site.objects.create(name="Berlin")
        Meter.objects.filter(pk="M1").update(site=site)
        bound = caller(INGEST, site=site)

        assert bound.post(of_meter(external_id))[0] == 201
        assert bound.post(of_vehicle(external_id))[1]["errors"][0]["code"] in (
            "unknown_device",
            "invalid_format",
        )
        assert stored() == ["M1"]

    @pytest.mark.parametrize("is_known_to_the_process", [True, False])
    def test_key_that_names_an_external_id_does_not_reach_its_device(self, is_known_to_the_process):
        Meter.objects.create(meter_id="M1", external_id="X")
        if is_known_to_the_process:
            caller(INGEST).post(of_meter("X"))
        before = stored()

        status, answer = caller(INGEST, meter_ids=["X"]).post(of_meter("X"))

        assert (status, answer["errors"][0]["code"]) == (400, "unknown_device")
        assert stored() == before
        assert registered() == ["M1"]


# --- Changes, and what they cost --------------------------------------------------------------


@pytest.fixture
def statements(monkeypatch) -> list[str]:
    """The statements that run, by the name of their file."""
    ran: list[str] = []
    rows = Statement.rows

    def counted(self: Statement, parameters: object) -> list:
        ran.append(self._sql.split(".sql")[0].rpartition("/")[2])
        return rows(self, parameters)

    monkeypatch.setattr(Statement, "rows", counted)
    return ran


@pytest.mark.parametrize("others_have_external_ids", [True, False])
def test_known_ids_cost_no_statement_more(api, statements, others_have_external_ids):
    api.post("/v1/ingest/meter", of_meter("M1"))
    if others_have_external_ids:
        Meter.objects.create(meter_id="M2", external_id="X")
        api.post("/v1/ingest/meter", of_meter("X"))
    statements.clear()

    api.post("/v1/ingest/meter", [of_meter("M1")] * 50)

    assert statements == ["record_meter_readings"]


def test_new_devices_cost_one_statement_a_batch(api, statements):
    api.post("/v1/ingest/meter", [of_meter(f"N{number}") for number in range(50)])

    assert statements == ["record_meter_readings", "similar_meters"]


def test_unknown_texts_cost_one_statement_a_request(api, statements):
    api.post("/v1/ingest/meter", [of_meter(f"N {number}") for number in range(50)])

    assert statements == ["meters_by_external_id"]


def test_writer_fails_once_and_then_the_process_knows_all_external_ids(api, statements):
    Meter.objects.create(meter_id="M1", external_id="X")
    Meter.objects.create(meter_id="M2", external_id="Y")
    api.post("/v1/ingest/meter", [of_meter("M1"), of_meter("M2")])
    statements.clear()

    for text in ("X", "X", "Y"):
        api.post("/v1/ingest/meter", of_meter(text))

    asked, recorded = "meters_by_external_id", "record_meter_readings"
    assert statements == [recorded, asked, recorded, recorded, asked, recorded]
    assert stored()[2:] == ["M1", "M1", "M2"]


def test_device_that_gets_another_external_id_is_noticed(api, monkeypatch):
    monkeypatch.setattr(ExternalIds, "LOOK_SECONDS", 0.0)
    Meter.objects.create(meter_id="M1", external_id="X 1")
    Meter.objects.create(meter_id="M2")
    api.post("/v1/ingest/meter", of_meter("X 1"))
    Meter.objects.filter(pk="M1").update(external_id="Y 1")
    assert api.post("/v1/ingest/meter", of_meter("X 1")).status_code == 400
    Meter.objects.filter(pk="M2").update(external_id="X 1")

    api.post("/v1/ingest/meter", [of_meter("X 1"), of_meter("Y 1")])

    assert stored() == ["M1", "M1", "M2"]


def test_what_is_found_holds_for_two_seconds_at_most():
    assert ExternalIds.LOOK_SECONDS <= 2


def test_process_keeps_no_more_than_its_limit(api, monkeypatch):
    monkeypatch.setattr(ExternalIds, "MOST", 2)
    for number in range(5):
        Meter.objects.create(meter_id=f"M{number}", external_id=f"X {number}")

    answer = api.post("/v1/ingest/meter", [of_meter(f"X {number}") for number in range(5)])

    assert answer.json()["accepted"] == 5
    assert len(external_ids._seen) == 2


def test_writer_records_nothing_if_it_is_given_an_external_id():
    Meter.objects.create(meter_id="M1", external_id="X")

    with pytest.raises(ExternalIdsGiven):
        record(
            [meter_reading("M2", "11:00", 1.0), meter_reading("X", "11:00", 1.0)],
            NOON + timedelta(seconds=1),
        )
    with pytest.raises(ExternalIdsGiven):
        record([vehicle_reading("V2", "11:00", 1.0), meter_reading("X", "11:00", 1.0)], NOON)

    assert stored() == []


def test_concurrent_requests_harm_each_other_neither_way(api, monkeypatch):
    monkeypatch.setattr(group_commit, "ALONE_FROM_READINGS", 10**9)
    Meter.objects.create(meter_id="M1", external_id="X")
    statuses: list[int] = []
    barrier = threading.Barrier(8)

    def send(number: int) -> None:
        from django.db import connection

        barrier.wait(10)
        text = "X" if number % 2 else f"N{number}"
        statuses.append(api.post("/v1/ingest/meter", of_meter(text)).status_code)
        connection.close()

    threads = [threading.Thread(target=send, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert statuses == [201] * 8
    assert sorted(stored()) == ["M1"] * 4 + ["N0", "N2", "N4", "N6"]
