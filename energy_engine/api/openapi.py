"""The OpenAPI document: canonical paths only, and the schemas of the msgspec structs.

Views declare what is specific to them: parameters, bodies, responses, and in their docstrings what
an operation does. What many operations share is added here: errors, headers, keys, examples.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Final

import msgspec
from msgspec.inspect import CollectionType, DateTimeType, Field, Metadata, StructType, UnionType

from analytics.alerting.fault_list import FaultHistory, FaultPage
from analytics.alerting.webhooks import JobMessage, WebhookMessage
from analytics.figures.explain import Explanation
from analytics.figures.performance import Performance
from analytics.figures.series import Series
from analytics.figures.whole_fleet import FleetTotals, VehiclePage
from energy_engine.api import openapi_examples
from energy_engine.api.errors import Error, IngestError
from energy_engine.api.health import Live, Ready, Unready
from energy_engine.api.root import Service
from fleet.access.views import KeyMade, KeyOrder, KeyPage, KeyRow
from fleet.http.openapi import body, schema
from fleet.registry.tariffs import PricesInForce, SeriesStored
from fleet.registry.views import DevicesChanged
from fleet.status import MeterStatus, VehicleStatus
from fleet.views import Link, LinkMade, LinkOrder, LinkPage, Unlinked
from ingestion.intake import Outcome
from ingestion.readings import MeterReading, VehicleReading

# Clients may leave out fields in requests; responses always have all of them.
BODIES: Final = (MeterReading, VehicleReading, LinkOrder, KeyOrder)
ANSWERS: Final = (
    *(Service, Live, Ready, Unready, Outcome, Error, IngestError),
    *(Link, LinkMade, LinkPage, Unlinked, KeyRow, KeyMade, KeyPage, MeterStatus, VehicleStatus),
    *(Performance, Series, Explanation, VehiclePage, FleetTotals, FaultPage, FaultHistory),
    *(WebhookMessage, JobMessage, DevicesChanged, PricesInForce, SeriesStored),
)
_KEY: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key; not needed with API_AUTH=open, the default of `make run`.",
}
_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-Request-ID": {
        "description": "Identifies this request in the engine's log; one that you send is kept.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds to wait before sending the same request again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "The authentication scheme: Bearer.",
        "schema": {"type": "string"},
    },
}
_HEADERS_OF: Final = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After",),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
}
_CONTENT_ENCODING: Final = {
    "in": "header",
    "name": "Content-Encoding",
    "description": "How the body is compressed; leave it out if it is not.",
    "schema": {"type": "string", "enum": ["gzip", "identity"]},
}
_aliases = re.compile("/api/|/ingest/|/v1/analytics/(meter|vehicle)/")
_snake_case = re.compile("_([a-z])")

Endpoint = tuple[str, str, str, Callable[..., Any]]


def canonical_paths_only(endpoints: list[Endpoint], **_: Any) -> list[Endpoint]:
    """Leave out aliases: one path for each operation."""
    return [endpoint for endpoint in endpoints if not _aliases.match(endpoint[0])]


def complete(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Return the document with everything that its operations share."""
    result["servers"] = [{"url": "/", "description": "This engine"}]
    result["paths"] = {_camel_case(path): found for path, found in result["paths"].items()}
    components = result.setdefault("components", {})
    components["securitySchemes"] = {"key": _KEY}
    components["parameters"] = {"ContentEncoding": _CONTENT_ENCODING}
    components["headers"] = _HEADERS
    components["schemas"] = _of_serializers(components.get("schemas", {})) | _schemas()
    components["responses"] = {}
    for path, operations in result["paths"].items():
        for operation in operations.values():
            _complete_operation(path, operation, components["responses"])
    result["webhooks"] = {
        "fault": {"post": _message(WebhookMessage, "faultMessage", "A fault changed")},
        "job": {
            "post": _message(JobMessage, "jobMessage", "A background job failed, or works again")
        },
    }
    return result


# --- Schemas ------------------------------------------------------------------------------------


def _of_serializers(components: dict[str, Any]) -> dict[str, Any]:
    """Return the schemas of serializers without marks of the generator, and without titles."""
    for component in components.values():
        for prop in component["properties"].values():
            prop.pop("x-spec-enum-id", None)
            prop.pop("title", None)
    return components


def _schemas() -> dict[str, Any]:
    """Return the schema of each struct, and of those within it."""
    components: dict[str, Any] = msgspec.json.schema_components(
        (*BODIES, *ANSWERS), ref_template="#/components/schemas/{name}"
    )[1]
    for struct in _structs(*map(msgspec.inspect.type_info, (*BODIES, *ANSWERS))):
        described = components[struct.cls.__name__]
        for field in struct.fields:
            _complete_property(described, field, is_sent=struct.cls in BODIES)
    for component in components.values():
        component["description"] = inspect.cleandoc(component["description"])
    for kind, reading in (("meter", MeterReading), ("vehicle", VehicleReading)):
        components[reading.__name__]["properties"]["type"] = {
            "description": "The kind of reading, on `/v1/ingest`; other routes ignore it.",
            "const": kind,
        }
    return components


def _structs(*types: Any) -> Iterator[StructType]:
    for of_type in types:
        if isinstance(of_type, StructType):
            yield of_type
            yield from _structs(*(field.type for field in of_type.fields))
        elif isinstance(of_type, UnionType):
            yield from _structs(*of_type.types)
        elif isinstance(of_type, CollectionType):
            yield from _structs(of_type.item_type)


def _complete_property(described: dict[str, Any], field: Field, *, is_sent: bool) -> None:
    """Add what msgspec leaves out: which strings are times, and that responses have all fields."""
    prop = described["properties"][field.encode_name]
    choices = prop.get("anyOf", [prop])
    field_type = field.type.type if isinstance(field.type, Metadata) else field.type
    types = field_type.types if isinstance(field_type, UnionType) else (field_type,)
    if any(isinstance(of_type, DateTimeType) for of_type in types):
        next(choice for choice in choices if choice.get("type") == "string")["format"] = "date-time"
    # A generated client would require a field that has a default.
    if "default" in prop:
        del prop["default"]
        if not is_sent:
            described["required"].append(field.encode_name)


# --- Operations ---------------------------------------------------------------------------------


def _complete_operation(path: str, operation: dict[str, Any], shared: dict[str, Any]) -> None:
    summary, _, more = operation.pop("description").partition("\n")
    operation["summary"] = summary.removesuffix(".")
    if more:
        operation["description"] = more.strip()
    operation.setdefault("tags", ["service"])
    operation["security"] = [{"key": []}] if _needs_key(path) else []
    parameters = operation.setdefault("parameters", [])
    for parameter in parameters:
        if parameter["in"] == "path":
            parameter["name"] = _camel_case(parameter["name"])
            parameter["description"] = _PATH_PARAMETERS[parameter["name"]]
    if "requestBody" in operation:
        parameters.append({"$ref": "#/components/parameters/ContentEncoding"})
        operation["requestBody"]["required"] = True
        _add_examples(operation["requestBody"]["content"])
    responses = operation["responses"]
    for text, response in responses.items():
        status = HTTPStatus(int(text))
        response["headers"] = response.get("headers", {}) | _headers_of(status)
        _add_examples(response.get("content", {}), status)
    for status in _errors_of(path, operation):
        responses.setdefault(str(int(status)), _shared_error(path, status, shared))
    responses["default"] = _shared_error(path, None, shared)
    operation["responses"] = dict(sorted(responses.items()))


_PATH_PARAMETERS: Final = {
    "vehicleId": "Id of a vehicle",
    "meterId": "Id of a meter",
    "faultId": "Id of a fault",
    "siteId": "Id of a site, from the list of sites",
    "tariffId": "Id of a tariff, from the list of tariffs",
    "prefix": "Prefix of a key, such as `eie_0a1b2c3d4e`",
}


def _camel_case(name: str) -> str:
    return _snake_case.sub(lambda match: match[1].upper(), name)


def _needs_key(path: str) -> bool:
    return path.startswith(("/v1/", "/metrics"))


def _errors_of(path: str, operation: dict[str, Any]) -> list[HTTPStatus]:
    """Return the errors that a client of `operation` has to handle."""
    errors = [HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE]
    if _needs_key(path):
        errors += [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS]
    if not path.startswith("/v1/ingest") and (
        operation["parameters"] or "requestBody" in operation
    ):
        errors.append(HTTPStatus.NOT_FOUND)  # a device, or the cursor of a page
    if "requestBody" in operation:
        errors += [
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        ]
    return errors


def _shared_error(path: str, status: HTTPStatus | None, shared: dict[str, Any]) -> dict[str, Any]:
    """Return a reference to the response for `status`, or for any other; add it to `shared`."""
    error = IngestError if path.startswith("/v1/ingest") else Error
    phrase = status.phrase if status else "Any other error"
    name = error.__name__.removesuffix("Error") + phrase.title().replace(" ", "")
    if name not in shared:
        example = openapi_examples.error(error, status or HTTPStatus.INTERNAL_SERVER_ERROR)
        shared[name] = {
            "description": phrase,
            "headers": _headers_of(status),
            "content": {"application/json": {"schema": schema(error), "example": example}},
        }
    return {"$ref": f"#/components/responses/{name}"}


def _headers_of(status: HTTPStatus | None) -> dict[str, Any]:
    names = ("X-Request-ID", *(_HEADERS_OF.get(status, ()) if status else ()))
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _add_examples(content: dict[str, Any], status: HTTPStatus | None = None) -> None:
    for described in content.values():
        if examples := openapi_examples.of_schema(described["schema"], status):
            described["examples"] = examples


def _message(struct: type, operation_id: str, summary: str) -> dict[str, Any]:
    """Return the operation that a webhook receiver provides for messages of `struct`."""
    content = {media: {"schema": found} for media, found in body(schema(struct)).items()}
    _add_examples(content)
    return {
        "operationId": operation_id,
        "summary": summary,
        "description": "Signed according to Standard Webhooks. Verify the signature over "
        "`{webhook-id}.{webhook-timestamp}.{body}`, refuse old timestamps, and ignore an id that "
        "you have already received.",
        "security": [],
        "parameters": [
            {
                "in": "header",
                "name": name,
                "required": True,
                "description": description,
                "schema": {"type": kind},
            }
            for name, kind, description in _WEBHOOK_HEADERS
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "2XX": {"description": "Received; the body of the response is not read"},
            "default": {"description": "Not received: the message is retried for a day"},
        },
    }


_WEBHOOK_HEADERS: Final = (
    ("webhook-id", "string", "Id of the message; the same for each attempt"),
    ("webhook-timestamp", "integer", "Time of the attempt, in Unix seconds"),
    ("webhook-signature", "string", "`v1,` and the HMAC-SHA256 in base64"),
)
