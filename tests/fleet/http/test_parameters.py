"""Query parameters that a path does not take are refused, those of the OpenAPI document taken."""

import pytest
from django.urls import resolve
from rest_framework.views import APIView

from fleet.links import link_vehicle
from tests.conftest import at
from tests.energy_engine.api.test_closed_doors import METHODS, OPEN, ROUTES
from tests.factories import SiteFactory

API_ROUTES = [path for path in ROUTES if not path.startswith("/admin/")]
EXAMPLES = {
    "atomic": "true",
    "cursor": "bz0x",  # a place in a list
    "energyRegister": "counter",
    "externalId": "SN-1",
    "end": "2026-07-15T12:00:00Z",
    "from": "2026-07-15T11:00:00Z",
    "granularity": "day",
    "health": "healthy",
    "kind": "silent",
    "limit": "10",
    "maxEfficiency": "90",
    "meterId": "M1",
    "minEfficiency": "80",
    "optional": "drop",
    "ordering": "-efficiencyRatio",
    "retired": "false",
    "search": "Be",
    "site": "Berlin",
    "start": "2026-07-15T11:00:00Z",
    "state": "open",
    "to": "2026-07-15T13:00:00Z",
    "tz": "Europe/Berlin",
    "vehicleId": "V1",
    "window": "6h",
}


def _filled(path: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        path = path.replace(name, value)
    return path


def refusal(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("path", API_ROUTES)
def test_no_path_takes_a_parameter_that_it_does_not_know(api, path):
    assert issubclass(resolve(path).func.cls, APIView)
    methods = [m for m in METHODS if api._client.generic(m, path).status_code != 405]

    answers = {m: api._client.generic(m, f"{path}?nonsense=1") for m in methods}

    assert len(methods) >= 2  # OPTIONS is always there
    for method, answer in answers.items():
        assert answer.status_code == 400, method
        if method != "HEAD":
            assert answer.json()["code"] == "unknown_parameter", method


def test_every_documented_parameter_is_taken(api):
    link_vehicle("V1", "M1", at("08:00"))
    known = {"{vehicleId}": "V1", "{siteId}": str(SiteFactory().pk)}
    document = api.get("/v1/schema").json()
    asked = [
        (method.upper(), _filled(path, known), parameter["name"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for parameter in operation.get("parameters", [])
        if parameter.get("in") == "query"
    ]

    assert {name for _, _, name in asked} == set(EXAMPLES)
    for method, path, name in asked:
        answer = api._client.generic(method, f"{path}?{name}={EXAMPLES[name]}")
        expected = (415, "unsupported_media_type") if method == "POST" else (200, None)
        assert (answer.status_code, answer.json().get("code")) == expected, (path, name)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("windw=7d", "; did you mean window? This path accepts start, end and window"),
        ("WINDOW=7d", "; did you mean window? This path accepts start, end and window"),
        ("win%64w=7d", "; did you mean window? This path accepts start, end and window"),
        ("=7d", ". This path accepts start, end and window"),
        ("window=7d&tz=UTC", ". This path accepts start, end and window"),
        ("%00", ". This path accepts start, end and window"),
        ("window=7d;end=x", "window"),
    ],
)
def test_refusal_names_the_nearest_parameter_and_those_there_are(api, query, message):
    answer = api.get(f"/v1/analytics/performance/V1?{query}")

    if message == "window":  # a semicolon separates nothing
        assert answer.json()["message"].startswith("window must be a length")
    else:
        assert refusal(answer) == (400, "unknown_parameter")
        assert answer.json()["message"] == f"Unknown query parameter{message}"


def test_path_without_parameters_says_so(api):
    answer = api.get("/v1/analytics/fleet?window=7d")

    assert answer.json()["message"] == "Unknown query parameter. This path accepts none"


def test_parameter_is_known_however_it_is_escaped(api):
    link_vehicle("V1", "M1", at("08:00"))

    answer = api.get("/v1/analytics/performance/V1?%77indow=6h&")

    assert answer.json()["period"]["start"] == "2026-07-15T06:00:00Z"


def test_parameter_given_twice_is_refused_unless_it_may_be(api):
    twice = api.get("/v1/analytics/performance/V1?window=7d&window=1d")

    assert refusal(twice) == (400, "repeated_parameter")
    assert twice.json()["message"] == "window may be given only once"
    assert api.get("/v1/faults?state=open&state=closed").status_code == 200


def test_reading_with_a_parameter_that_is_unknown_is_not_stored(api):
    reading = {"vehicleId": "V1", "kwhDeliveredDc": 1}

    answer = api.post("/v1/ingest?atomc=true", reading)

    assert refusal(answer) == (400, "unknown_parameter")
    assert api.get("/v1/status/vehicle/V1").status_code == 404


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("path", [path for path in API_ROUTES if path not in OPEN])
def test_who_has_no_key_is_not_told_which_parameters_there_are(api, path):
    assert api.get(f"{path}?nonsense=1").status_code == 401
