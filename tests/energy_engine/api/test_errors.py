"""Every error is the JSON of the contract, and a database that is away is 503."""

from unittest import mock

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory
from rest_framework.request import Request

from energy_engine.api.errors import exception_handler
from energy_engine.postgres.storage import storage
from energy_engine.server.deadlines import ClientGone
from fleet.models import Vehicle
from fleet.stores import single_flight
from fleet.stores.redis import redis
from tests.conftest import Api


def assert_error(answer, status: int, code: str) -> None:
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/json"
    body = answer.json()
    assert set(body) >= {
        "statusCode",
        "path",
        "message",
        "code",
        "timestamp",
        "requestId",
        "errors",
    }
    assert (body["statusCode"], body["code"]) == (status, code)
    assert body["requestId"] == answer["X-Request-ID"]


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/v1",
        "/v1/nope",
        "/v1/ingest/",
        "/ingest",
        "/v1/status/vehicle/a%20b",
        "/v2/ingest",
    ],
)
def test_unknown_path_is_404(api, path):
    assert_error(api.get(path), 404, "not_found")


@pytest.mark.parametrize("path", ["/", "/health/live", "/v1/analytics/performance/V1", "/v1/links"])
def test_other_method_is_405(api, path):
    answer = api.post(path, {})

    assert_error(answer, 405, "method_not_allowed")
    assert "GET" in answer["Allow"]


def test_unknown_host_is_400(db):
    answer = Client(headers={"host": "elsewhere.example"}).get("/")

    assert_error(answer, 400, "unknown_host")


@pytest.mark.in_process
def test_request_id_of_a_proxy_is_kept_when_it_is_well_formed(api):
    assert api.get("/", **{"X-Request-ID": "abc-123"})["X-Request-ID"] == "abc-123"
    assert api.get("/", **{"X-Request-ID": "a b\n"})["X-Request-ID"] != "a b\n"


@pytest.mark.in_process
def test_fault_of_the_engine_is_500_without_a_traceback(api):
    with mock.patch("fleet.views.vehicle_status", side_effect=ZeroDivisionError("secret")):
        answer = api.get("/v1/status/vehicle/V1")

    assert_error(answer, 500, "internal_error")
    assert b"secret" not in answer.content
    assert b"Traceback" not in answer.content


@pytest.fixture
def database_is_away(transactional_db, settings, monkeypatch):
    """Close the connection, and let the next one go where nothing listens."""
    monkeypatch.setattr(storage, "_check", None)  # what it was a moment ago
    connection.close()
    connection.close_pool()
    options = connection.settings_dict["OPTIONS"]
    host = options["host"]
    options["host"] = "/nowhere"
    options["pool"]["timeout"], timeout = 0.3, options["pool"]["timeout"]
    yield
    options["host"], options["pool"]["timeout"] = host, timeout
    connection.close_pool()


@pytest.mark.usefixtures("database_is_away", "redis_is_away")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/v1/ingest"),
        ("get", "/v1/status/vehicle/V1"),
        ("get", "/v1/analytics/performance/V1"),
        ("put", "/v1/links"),
        ("get", "/v1/links"),
    ],
)
def test_database_that_is_away_is_503_with_retry_after(method, path):
    bodies = {
        "/v1/ingest": {"meterId": "M1", "kwhConsumedAc": 1},
        "/v1/links": {"vehicleId": "V1", "meterId": "M1"},
    }

    answer = getattr(Api(), method)(path, *([] if method == "get" else [bodies[path]]))

    assert_error(answer, 503, "storage_unavailable")
    assert int(answer["Retry-After"]) >= 1


@pytest.mark.usefixtures("database_is_away", "redis_is_away")
def test_engine_without_database_is_live_but_not_ready():
    assert Api().get("/health/live").status_code == 200

    answer = Api().get("/health/ready")

    assert_error(answer, 503, "not_ready")
    assert answer.json()["checks"]["database"] == "unreachable"
    assert answer["Retry-After"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (psycopg.OperationalError("the connection is lost"), 503, "storage_unavailable"),
        (psycopg.errors.QueryCanceled("statement timeout"), 503, "took_too_long"),
        (ClientGone("the client has gone"), 499, "client_closed_request"),
    ],
)
def test_drivers_own_error_is_that_of_the_database(error, status, code):
    request = Request(RequestFactory().get("/v1/links"))

    answer = exception_handler(error, {"request": request})

    assert (answer.status_code, answer.data["code"]) == (status, code)
    assert ("Retry-After" in answer.headers) == (status == 503)


@pytest.mark.usefixtures("database_is_away")
def test_admin_without_database_is_503():
    client = Client(headers={"host": "localhost"}, raise_request_exception=False)
    client.cookies["sessionid"] = "x" * 32

    assert_error(client.get("/admin/"), 503, "storage_unavailable")


def test_page_whose_figure_another_process_computes_for_long_is_503(
    admin_client: Client, monkeypatch
):
    monkeypatch.setattr(single_flight, "_WAIT_SECONDS", 0.05)
    Vehicle.objects.create(vehicle_id="V1")
    redis().set("analytics:unlinked::last:86400.0:lock", "of another process")
    admin_client.raise_request_exception = False

    answer = admin_client.get("/admin/fleet/vehicle/V1/change/", headers={"host": "localhost"})

    assert_error(answer, 503, "overloaded")
    assert answer["Retry-After"] == "1"


def test_page_that_the_admin_does_not_know_is_html(admin_client: Client, admin_user: User):
    answer = admin_client.get("/admin/nope/", headers={"host": "localhost"})

    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")


def test_page_asked_for_with_a_value_that_no_column_takes_is_400(admin_client: Client):
    admin_client.raise_request_exception = False
    answer = admin_client.get(
        "/admin/fleet/vehicle/?energy_register__exact=%00", headers={"host": "localhost"}
    )

    assert_error(answer, 400, "bad_request")
