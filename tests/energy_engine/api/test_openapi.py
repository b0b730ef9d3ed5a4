"""The OpenAPI document says what the code does, and its page needs no other host."""

import json
import re
from http import HTTPStatus

import pytest
from django.test import Client
from django.urls import get_resolver
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.validation import validate_schema
from jsonschema import Draft202012Validator


@pytest.fixture
def document(api) -> dict:
    return api.get("/v1/schema").json()


def test_document_is_valid_and_complete(document):
    validate_schema(document)
    assert document["openapi"] == "3.1.0"
    assert not GENERATOR_STATS


def test_document_has_every_canonical_path(document):
    known = {re.sub("<[^:>]+:([^>]+)>", in_braces, path) for path in routes(get_resolver())}
    canonical = {
        path
        for path in known
        if not re.match(
            "/api/|/ingest|/admin|/v1/(docs|schema)|/v1/analytics/(meter|vehicle)/", path
        )
    }

    assert set(document["paths"]) == canonical


def in_braces(match) -> str:
    """Return a route's `<device_id:vehicle_id>` as the document names it: `{vehicleId}`."""
    first, *others = match[1].split("_")
    return "{" + first + "".join(word.title() for word in others) + "}"


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


def test_path_parameters_are_those_of_the_path(document):
    for path, _, operation in operations(document):
        named = {parameter.get("name") for parameter in operation["parameters"]}
        assert set(re.findall(r"{(\w+)}", path)) <= named, path


def test_client_may_leave_optional_fields_out_and_gets_every_field(document):
    schemas = document["components"]["schemas"]

    assert schemas["LinkOrder"]["required"] == ["vehicleId", "meterId"]
    assert schemas["KeyOrder"]["required"] == ["name", "scopes"]
    assert set(schemas["VehicleStatus"]["required"]) == set(schemas["VehicleStatus"]["properties"])
    assert set(schemas["HealthCount"]["required"]) == set(schemas["HealthCount"]["properties"])
    assert not [name for name, found in schemas.items() if '"default"' in json.dumps(found)]


def test_instants_are_date_times(document):
    instants = {
        f"{name}.{field}": found
        for name, schema in document["components"]["schemas"].items()
        for field, found in schema.get("properties", {}).items()
        if re.search("(At|End|From|To)$|^(start|end|since|timestamp)$", field)
        if not name.startswith("Tariff")  # local dates, and times of a week
    }
    parameters = [
        parameter
        for _, _, operation in operations(document)
        for parameter in operation["parameters"]
        if parameter.get("name") in ("start", "end")
    ]

    assert {"Error.timestamp", "LinkOrder.validFrom", "FaultRow.openedAt"} <= set(instants)
    assert len(parameters) == 8
    assert [name for name, found in instants.items() if not is_date_time(found)] == []
    assert all(is_date_time(parameter["schema"]) for parameter in parameters)


def is_date_time(schema: dict) -> bool:
    (kind,) = (one for one in schema.get("anyOf", [schema]) if one.get("type") != "null")
    return kind["type"] in ("string", ["string", "null"]) and kind.get("format") == "date-time"


def test_error_of_readings_says_how_many_were_stored(document):
    answer = document["paths"]["/v1/ingest"]["post"]["responses"]["400"]
    shared = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    schema = document["components"]["schemas"]["IngestError"]

    assert shared["content"]["application/json"]["schema"]["$ref"].endswith("/IngestError")
    optional = set(schema["properties"]) - set(schema["required"])
    assert optional == {"accepted", "rejected", "lines", "warnings"}


@pytest.mark.parametrize("status", ["429", "503"])
def test_error_that_passes_says_when_to_try_again(document, status):
    for path, _, operation in operations(document):
        if answer := operation["responses"].get(status):
            name = answer.get("$ref", "").rpartition("/")[2]
            described = document["components"]["responses"].get(name, answer)
            assert "Retry-After" in described["headers"], path


def test_every_operation_has_a_summary_and_an_example_of_its_answers(document):
    for path, method, operation in operations(document):
        assert operation["summary"], path
        for status, answer in operation["responses"].items():
            for media, described in answer.get("content", {}).items():
                has_example = media != "application/json" or described["examples"]
                assert has_example, f"{method} {path} {status}"


def test_examples_are_what_their_schemas_say(document):
    components = {"components": document["components"]}
    found = list(examples_in(document))
    for schema, example in found:
        Draft202012Validator(schema | components).validate(example)
    assert len(found) > 50


def examples_in(node) -> list:
    """Yield every example, with its schema."""
    if isinstance(node, list):
        for item in node:
            yield from examples_in(item)
    elif isinstance(node, dict):
        if "schema" in node:
            for example in node.get("examples", {}).values():
                yield node["schema"], example["value"]
            if "example" in node:
                yield node["schema"], node["example"]
        for item in node.values():
            yield from examples_in(item)


def test_messages_to_webhooks_are_described(document):
    messages = {
        name: found["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for name, found in document["webhooks"].items()
    }
    headers = [header["name"] for header in document["webhooks"]["fault"]["post"]["parameters"]]

    assert messages == {
        "fault": "#/components/schemas/WebhookMessage",
        "job": "#/components/schemas/JobMessage",
    }
    assert headers == ["webhook-id", "webhook-timestamp", "webhook-signature"]


def operations(document) -> list[tuple[str, str, dict]]:
    """Return path, method and description of each operation."""
    return [
        (path, method, operation)
        for path, found in document["paths"].items()
        for method, operation in found.items()
    ]


def test_names_that_are_there_for_other_clients_are_deprecated(document):
    deprecated = {
        (struct, name)
        for struct, schema in document["components"]["schemas"].items()
        for name, described in schema.get("properties", {}).items()
        if described.get("deprecated")
    }

    assert deprecated == {
        ("Performance", "acEnergyConsumed"),
        ("Performance", "dcEnergyDelivered"),
        ("Performance", "efficiency"),
        ("Performance", "avgBatteryTemp"),
        ("MeterStatus", "lastUpdatedAt"),
        ("VehicleStatus", "lastUpdatedAt"),
    }


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
