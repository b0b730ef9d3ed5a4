"""The OpenAPI document says what the code does, and its page needs no other host."""

import re
from http import HTTPStatus

import pytest
from django.test import Client
from django.urls import get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.validation import validate_schema


@pytest.fixture
def document(api) -> dict:
    return api.get("/v1/schema").json()


def test_document_is_valid_and_complete(document):
    validate_schema(document)
    assert document["openapi"] == "3.1.0"
    assert not GENERATOR_STATS


def test_document_has_every_canonical_path(document):
    known = {re.sub("<[^:>]+:([^>]+)>", r"{\1}", path) for path in routes(get_resolver())}
    canonical = {
        path
        for path in known
        if not re.match(
            "/api/|/ingest|/admin|/v1/(docs|schema)|/v1/analytics/(meter|vehicle)/", path
        )
    }

    assert set(document["paths"]) == canonical


def routes(resolver, prefix: str = "/") -> list[str]:
    if not hasattr(resolver, "url_patterns"):
        return [prefix]
    found = []
    for pattern in resolver.url_patterns:
        found += routes(pattern, prefix + str(pattern.pattern))
    return found


def test_document_says_what_needs_a_key(document, settings):
    settings.API_AUTH = "required"
    [scheme] = document["components"]["securitySchemes"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            asked = re.sub(r"{\w+}", "1", path)
            answer = Client(headers={"host": "localhost"}).generic(method.upper(), asked)
            needs_key = answer.status_code == HTTPStatus.UNAUTHORIZED
            assert operation["security"] == ([{scheme: []}] if needs_key else []), path


def test_limits_of_a_reading_are_those_of_the_structs(document):
    reading = document["components"]["schemas"]["VehicleReading"]

    assert reading["required"] == ["vehicleId", "kwhDeliveredDc"]
    assert reading["properties"]["soc"]["anyOf"][0]["maximum"] == 100
    assert reading["properties"]["vehicleId"]["maxLength"] == 64


def test_every_ingest_route_takes_json_and_streams(document):
    for path, operations in document["paths"].items():
        if path.startswith("/v1/ingest"):
            media = operations["post"]["requestBody"]["content"]
            assert set(media) == {"application/json", "application/x-ndjson"}, path


def test_page_takes_everything_from_the_engine_itself(api):
    page = api.get("/v1/docs")

    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.content.decode())
    assert addresses
    for address in addresses:
        assert address.startswith("/")
        answer = api.get(address)
        assert answer.status_code == 200, address
        answer.close()
