"""No way in without a key: every route, method and spelling; and what a good key must not break."""

import base64
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock
from urllib.parse import quote, urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import get_resolver
from drf_spectacular.generators import SchemaGenerator

from fleet.access.issuing import make_key
from fleet.links import link_vehicle
from fleet.models import ApiKey
from fleet.stores.redis import redis
from tests.callers import EVERY, MANAGE, READ, Caller, caller
from tests.conftest import at

pytestmark = pytest.mark.usefixtures("closed")

# What is told to everybody, and nothing else.
OPEN = {
    "/",
    "/health/live",
    "/health/ready",
    "/v1/schema",
    "/v1/docs",
    "/api/v1/schema",
    "/api/v1/docs",
    "/admin/login/",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_EXAMPLES = {"device_id": "V1", "int": "1", "slug": "eie_0", "path": "1", "str": "1"}


def routes(patterns: list[Any], before: str = "/") -> Iterator[str]:
    """Yield an address for each route of the project, whoever has added it."""
    for pattern in patterns:
        address = before + _example(str(pattern.pattern))
        if hasattr(pattern, "url_patterns"):
            yield from routes(pattern.url_patterns, address)
        else:
            yield address


def _example(route: str) -> str:
    route = re.sub(r"<(?:(\w+):)?\w+>", lambda match: _EXAMPLES[match[1] or "str"], route)
    route = re.sub(r"\(\?P1?\w*\(?([\w]+)[^)]*\)", r"\1", route)  # the first of several words
    return route.replace("(?P.*)", "nothing").strip("^$")


ROUTES = sorted(set(routes(get_resolver().url_patterns)))


def test_every_route_is_among_them():
    assert len(ROUTES) > 60
    assert {"/v1/keys/eie_0/rotate", "/api/v1/ingest", "/ingest/meter", "/metrics"} <= set(ROUTES)
    assert set(ROUTES) >= OPEN


@pytest.mark.parametrize("path", [path for path in ROUTES if path not in OPEN])
def test_nobody_gets_in_without_a_key_or_a_login(path):
    client = Client(headers={"host": "localhost"})

    answers = {method: client.generic(method, path) for method in METHODS}

    if path.startswith("/admin/"):
        for answer in answers.values():
            assert answer.status_code in (302, 403, 405)
            assert answer.get("Location", "/admin/").startswith("/admin/")
    else:
        assert {answer.status_code for answer in answers.values()} == {401}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../admin/",
        "/v1//links",
        "/v1/./links",
        "/v1/links/",
        "/v1/links;x",
        "/V1/links",
        "/v1/links%00",
        "/v1/links%3F",
        "/%2e%2e/admin/",
        "/ADMIN/",
        "/v1/keys/..%2F..%2Fadmin",
        "/v1/status/vehicle/V1%0a",
        "/static/../manage.py",
        "/static/%2e%2e/%2e%2e/manage.py",
    ],
)
def test_another_spelling_of_a_path_leads_nowhere(path):
    for key in (Caller(None), caller(*EVERY)):
        assert key.answer(path).status_code == 404


@pytest.mark.parametrize(
    ("path", "most"), [("/", 0), ("/health/live", 0), ("/v1/schema", 0), ("/health/ready", 8)]
)
def test_what_is_open_to_everybody_costs_few_statements(statements_sent, path, most):
    Caller(None).answer(path)

    with statements_sent() as sent:
        Caller(None).answer(path)

    assert sent[0] <= most


def test_description_of_the_api_is_made_once():
    first = Caller(None).answer("/v1/schema")
    with mock.patch.object(SchemaGenerator, "get_schema", side_effect=AssertionError):
        second = Caller(None).answer("/v1/schema")

    assert first.content == second.content


def test_encoded_slash_leads_to_the_same_door():
    assert Caller(None).answer("/v1%2Flinks").status_code == 401


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"])
def test_method_is_the_one_of_the_request_line(name):
    reader = caller(READ)

    assert reader.answer("/v1/keys", "POST", **{name: "GET"}).status_code == 403
    assert reader.answer("/v1/links", **{name: "PUT"}).status_code == 200
    assert reader.answer("/v1/links?_method=PUT").json()["code"] == "unknown_parameter"


def test_login_to_the_console_opens_nothing_of_the_api():
    client = Client(headers={"host": "localhost"}, enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("admin"))

    for path in (path for path in ROUTES if not path.startswith("/admin/") and path not in OPEN):
        assert client.get(path).status_code == 401
        assert client.post(path, {}, content_type="application/json").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"cookie": "sessionid={0}; key={0}"},
        {"x-api-key": "{0}"},
        {"proxy-authorization": "Bearer {0}"},
        {"authorization": "Basic {0}"},
        {"authorization": "{0}"},
        {"authorization": "Bearer  {0}"},
        {"authorization": "Bearer\t{0}"},
        {"authorization": "Bearer {0},Bearer {0}"},  # as two headers arrive
        {"authorization": "Bearer \u00e9\u00ff"},
        {"authorization": "Bearer {0}\u00e9"},
    ],
)
def test_good_key_in_the_wrong_place_opens_nothing(headers):
    token = make_key("test", EVERY).token
    headers = {name: value.format(token) for name, value in headers.items()}

    answer = Client(headers={"host": "localhost"}).get("/v1/links", headers=headers)

    assert answer.status_code == 401
    assert token not in answer.content.decode()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_scheme_is_read_in_any_case(scheme):
    headers = {"host": "localhost", "authorization": f"{scheme} {make_key('test', [READ]).token}"}

    assert Client(headers=headers).get("/v1/links").status_code == 200


@pytest.mark.parametrize("parameter", ["key", "access_token", "token", "api_key", "authorization"])
def test_key_in_the_address_is_no_key(parameter):
    token = make_key("test", EVERY).token

    assert Caller(None).get(f"/v1/links?{parameter}={token}")[0] == 401


def test_no_cache_on_the_way_keeps_what_a_key_has_opened():
    everything = caller(*EVERY)
    paths = [path for path in ROUTES if path.startswith("/v1/") and path not in OPEN]

    kept = {path: everything.answer(path).get("Cache-Control") for path in paths}

    assert {path for path, header in kept.items() if header != "private, no-store"} == {
        path
        for path in paths
        if path.startswith("/v1/ingest")  # which only takes
    }
    assert Caller(None).answer("/v1/links")["Cache-Control"] == "private, no-store"
    made = everything.answer("/v1/keys/eie_0/rotate", "POST")
    assert made["Cache-Control"] == "private, no-store"


def test_keys_are_never_shown_again():
    manager = caller(MANAGE)
    made = manager.post({"name": "gateway", "scopes": ["read"]}, "/v1/keys")[1]
    secret = made["token"].removeprefix(f"{made['prefix']}_")
    hashes = [bytes(key.sha256) for key in ApiKey.objects.all()]
    prefix = made["prefix"]

    answers = [
        manager.answer("/v1/keys"),
        manager.answer(f"/v1/keys/{prefix}", "DELETE"),
        manager.answer(f"/v1/keys/{prefix}/rotate", "POST"),
    ]

    for answer in answers:
        text = answer.content.decode()
        assert secret not in text
        assert not any(
            hash_.hex() in text or base64.b64encode(hash_).decode() in text for hash_ in hashes
        )


LISTS = (
    "/v1/links?",
    "/v1/keys?",
    "/v1/faults?",
    "/v1/analytics/performance?",
    "/v1/analytics/performance?ordering=-efficiencyRatio&",
)
INJECTIONS = ("' OR 1=1--", "1;DROP TABLE fleet_vehicle", "\x00", "\u00e9", "1e999", "nan", "")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("position", [*INJECTIONS, "9" * 400, "inf inf", "0 V1"])
def test_forged_cursor_finds_nothing(path, position):
    forged = base64.b64encode(urlencode({"p": position, "o": 10**30}).encode()).decode()

    status, body = caller(*EVERY).get(f"{path}cursor={quote(forged)}")

    assert status in (200, 400, 404)
    assert body.get("results", []) == []


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["1000000", "1001", "0", "-1", "1e3", "9" * 3000, "١٢", ""])
def test_giant_page_is_refused(path, limit):
    status, body = caller(*EVERY).get(f"{path}limit={quote(limit)}")

    assert (status, body["message"]) == (400, "limit must be a whole number from 1 to 1000")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/links?vehicleId=",
        "/v1/links?meterId=",
        "/v1/faults?site=",
        "/v1/faults?state=",
        "/v1/faults?kind=",
        "/v1/faults?vehicleId=",
        "/v1/analytics/performance?site=",
        "/v1/analytics/performance?health=",
        "/v1/analytics/performance?ordering=",
        "/v1/analytics/performance?minEfficiency=",
        "/v1/analytics/performance/V1?window=",
        "/v1/analytics/performance/V1?start=",
        "/v1/analytics/performance/V1/series?tz=",
        "/v1/analytics/performance/V1/series?granularity=",
        "/v1/status/vehicle/",
        "/v1/keys/",
    ],
)
def test_sql_in_a_parameter_selects_nothing(path):
    link_vehicle("V1", "M1", at("08:00"))
    everything = caller(*EVERY)

    for injection in ("' OR 'a'='a", "V1' OR 1=1--", "1);DELETE FROM fleet_site;--", "\x00", "%"):
        status, body = everything.get(path + quote(injection))
        assert status in (200, 400, 404, 405)
        assert body.get("results", []) == []
    assert everything.get("/v1/links")[1]["results"] != []


@pytest.mark.parametrize("what", ["", "/series", "/explain"])
@pytest.mark.parametrize(
    "window",
    [
        "start=2016-07-15T00:00:00Z&end=2026-07-15T00:00:00Z",
        "window=3650d",
        "window=999999d",
        "start=0001-01-01T00:00:00Z",
        "end=9999-12-31T23:59:59-23:00",
    ],
)
def test_ten_years_are_refused(what, window, statements_sent):
    reader = caller(READ)
    reader.get("/v1/status/vehicle/V1")

    with statements_sent() as sent:
        status, body = reader.get(f"/v1/analytics/performance/V1{what}?{window}")

    assert (status, body["code"], sent) == (400, "invalid", [0])


def test_longest_window_by_the_quarter_of_an_hour_is_too_many_points():
    link_vehicle("V1", "M1", at("08:00"))

    status, body = caller(READ).get(
        "/v1/analytics/performance/V1/series?window=400d&granularity=15m"
    )

    assert status == 400
    assert body["message"].startswith("A series may have at most 10,000 points: ")


def test_line_break_in_a_request_makes_no_line_of_the_log(caplog):
    forged = "2026-07-15 ERROR forged"
    everything = caller(*EVERY)

    everything.answer(f"/v1/status/vehicle/V1%0a{quote(forged)}", **{"User-Agent": f"x\n{forged}"})
    everything.answer("/v1/links", **{"X-Request-ID": f"id\n{forged}"})
    everything.post([{"vehicleId": f"V1\n{forged}", "kwhDeliveredDc": 1}])

    assert not [line for line in caplog.text.splitlines() if line.startswith(forged)]


def test_only_the_hash_of_a_key_is_kept():
    made = make_key("test", EVERY)
    Caller(made.token).get("/v1/analytics/performance/V1")

    row = str(ApiKey.objects.values().get())
    kept = [str(key) + str(redis().dump(key)) for key in redis().keys("*")]
    secret = made.token.removeprefix(f"{made.key.prefix}_")
    assert secret not in row
    assert not [text for text in kept if secret in text]
