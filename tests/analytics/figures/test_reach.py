"""Out of reach is unknown: an answer about a device of others tells not even that there is one."""

import json

import pytest
from django.http import HttpResponse

from analytics.alerting import faults
from analytics.figures import snapshot
from fleet.access.issuing import make_key
from fleet.links import link_vehicle
from fleet.models import Site, VehicleMeterLink
from ingestion.models import VehicleReading
from ingestion.writer import record
from tests.callers import EVERY, READ, Caller, caller
from tests.conftest import NOON, at, meter_reading, vehicle_reading
from tests.factories import MeterFactory, SiteFactory, VehicleFactory

pytestmark = pytest.mark.usefixtures("closed")

READING = {"kwhDeliveredDc": 1, "timestamp": "2026-07-15T11:59:00Z"}
OF_A_VEHICLE = (
    "/v1/status/vehicle/{}",
    "/v1/analytics/vehicle/{}/live",
    "/v1/analytics/performance/{}",
    "/v1/analytics/performance/{}?window=1h",
    "/v1/analytics/performance/{}/series",
    "/v1/analytics/performance/{}/explain",
    "/v1/links?vehicleId={}",
    "/v1/faults?vehicleId={}&state=all",
)
OF_A_METER = (
    "/v1/status/meter/{}",
    "/v1/analytics/meter/{}/live",
    "/v1/links?meterId={}",
    "/v1/faults?meterId={}&state=all",
)


@pytest.fixture
def sites() -> tuple[Site, Site]:
    """Two sites, each with a hot vehicle at a meter: V1, M1 and V2, M2. V9 and M9 are unknown."""
    made = SiteFactory(name="Site 1"), SiteFactory(name="Site 2")
    for site, number in zip(made, "12", strict=True):
        VehicleFactory(vehicle_id=f"V{number}", site=site)
        MeterFactory(meter_id=f"M{number}", site=site)
        link_vehicle(f"V{number}", f"M{number}", at("08:00"))
        record(
            [
                meter_reading(f"M{number}", "11:00", 20.0),
                vehicle_reading(f"V{number}", "11:59", 10.0, battery_temp_celsius=60),
            ],
            NOON,
        )
    snapshot.refresh()
    faults.watch()
    return made


@pytest.fixture(params=["site", "listed devices"])
def key(request, sites) -> Caller:
    """A key that opens everything of V1 and M1, and nothing of others."""
    if request.param == "site":
        return caller(*EVERY, site=sites[0])
    return caller(*EVERY, meter_ids=["M1"], vehicle_ids=["V1"])


def told(answer: HttpResponse) -> tuple[object, ...]:
    """Return all that an answer says, but for what names the request."""
    headers = {name: value for name, value in answer.items() if name != "X-Request-ID"}
    content = answer.content.decode()
    if answer["Content-Type"] == "application/json":
        body = json.loads(content)
        content = {name: value for name, value in body.items() if name not in ("path", "requestId")}
        headers.pop("Content-Length", None)
    return answer.status_code, headers, content


@pytest.mark.parametrize(
    ("path", "foreign", "unknown"),
    [
        *((path, "V2", "V9") for path in OF_A_VEHICLE),
        *((path, "M2", "M9") for path in OF_A_METER),
        ("/v1/faults/{}", "of others", "999999"),
        ("/v1/analytics/performance?site={}", "Site%202", "Site%209"),
        ("/v1/faults?site={}&state=all", "Site%202", "Site%209"),
    ],
)
def test_device_of_others_answers_as_an_unknown_one(key, statements_sent, path, foreign, unknown):
    if foreign == "of others":
        everything = caller(READ).get("/v1/faults?vehicleId=V2")[1]["results"]
        foreign = str(everything[0]["id"])
    key.answer("/v1/links")  # from here on it is known
    with statements_sent() as for_foreign:
        of_foreign = key.answer(path.format(foreign))
    with statements_sent() as for_unknown:
        of_unknown = key.answer(path.format(unknown))

    assert told(of_foreign) == told(of_unknown)
    assert for_foreign == for_unknown


@pytest.mark.parametrize("path", [*OF_A_VEHICLE, *OF_A_METER[:-1]])  # no meter has a fault
def test_device_of_ones_own_answers(key, path):
    own = "V1" if path in OF_A_VEHICLE else "M1"

    status, body = key.get(path.format(own))

    assert status == 200
    assert body.get("results", [body]) != []
    assert "V2" not in str(body)
    assert "M2" not in str(body)


@pytest.mark.parametrize(
    "path", ["/v1/analytics/performance", "/v1/faults?state=all", "/v1/links", "/v1/links?limit=1"]
)
def test_lists_leave_others_out(key, path):
    text = str(key.get(path))

    assert "V1" in text
    assert "V2" not in text
    assert "M2" not in text


def test_csv_leaves_others_out(key):
    rows = b"".join(key.answer("/v1/analytics/performance", accept="text/csv")).decode()

    assert [line.split(",")[0] for line in rows.splitlines()] == ["vehicleId", "V1"]


@pytest.mark.parametrize("path", ["/v1/analytics/fleet", "/metrics", "/v1/keys"])
def test_what_is_of_all_devices_takes_a_key_for_all(key, path):
    assert key.answer(path).status_code == 403


@pytest.mark.parametrize("unknown_devices", ["register", "reject"])
@pytest.mark.parametrize("path", ["/v1/ingest", "/v1/ingest?atomic=true", "/v1/ingest/vehicle"])
def test_reading_for_a_device_of_others_is_refused_as_for_an_unknown_one(
    key, settings, statements_sent, path, unknown_devices
):
    settings.INGEST_UNKNOWN_DEVICES = unknown_devices
    key.post([READING | {"vehicleId": "V1"}])
    before = VehicleReading.objects.filter(vehicle_id="V2").count()

    for batch in ([], [READING | {"vehicleId": "V1"}]):
        answers, sent = [], []
        for vehicle_id in ("V2", "V9"):
            with statements_sent() as statements:
                status, body = key.post([*batch, READING | {"vehicleId": vehicle_id}], path)
            body.pop("requestId", None)
            answers.append((status, body))
            sent.append(statements)
        assert answers[0] == answers[1]
        assert sent[0] == sent[1]
        assert answers[0][1]["errors"][0]["code"] == "unknown_device"
    assert VehicleReading.objects.filter(vehicle_id="V2").count() == before


@pytest.mark.parametrize(("vehicle_id", "meter_id"), [("V{}", "M1"), ("V1", "M{}")])
def test_device_of_others_cannot_be_linked(key, statements_sent, vehicle_id, meter_id):
    key.answer("/v1/links")  # from here on it is known
    answers, sent = [], []
    for number in "29":
        with statements_sent() as statements:
            status, body = key.put(vehicle_id.format(number), meter_id.format(number))
        body.pop("requestId")
        answers.append((status, body))
        sent.append(statements)

    assert answers[0] == answers[1]
    assert sent[0] == sent[1] == [0]
    assert answers[0][0] == 404
    assert VehicleMeterLink.objects.count() == 2


def test_link_of_others_cannot_be_ended(key):
    for query in ("", "?from=2026-07-15T08:00:00Z&to=2026-07-15T10:00:00Z"):
        foreign, unknown = (key.answer(f"/v1/links/{id_}{query}", "DELETE") for id_ in ("V2", "V9"))

        assert told(foreign) == told(unknown)
    assert caller(READ).get("/v1/links?vehicleId=V2")[1]["results"][0]["validFrom"] == (
        "2026-07-15T08:00:00Z"
    )
    assert caller(READ).get("/v1/links?vehicleId=V2")[1]["results"][0]["validTo"] is None


def test_figure_that_one_key_has_had_cached_is_not_for_another(sites):
    paths = [path.format("V2") for path in OF_A_VEHICLE[:6]]
    everything = caller(READ)
    assert {everything.get(path)[0] for path in paths} == {200}
    assert everything.answer("/v1/analytics/performance/V2")["X-Cache"] == "hit"

    other = caller(READ, site=sites[0])

    assert {other.get(path)[0] for path in paths} == {404}


def test_bound_key_touches_no_key(key):
    prefix = make_key("of others", [READ]).key.prefix

    assert key.post({"name": "more", "scopes": ["manage"]}, "/v1/keys")[0] == 403
    assert key.post({}, f"/v1/keys/{prefix}/rotate")[0] == 403
    assert key.delete(f"/v1/keys/{prefix}")[0] == 403
