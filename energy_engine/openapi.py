"""The OpenAPI document: canonical paths only, and the schemas of the msgspec structs."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import msgspec

from analytics.explain import Explanation
from analytics.fault_list import FaultHistory, FaultPage
from analytics.fleet import FleetTotals, VehiclePage
from analytics.performance import Performance
from analytics.series import Series
from analytics.webhooks import JobMessage, WebhookMessage
from fleet.key_views import KeyMade, KeyOrder, KeyPage, KeyRow
from fleet.status import MeterStatus, VehicleStatus
from fleet.views import Link, LinkMade, LinkOrder, LinkPage
from fleet.wire import FieldError
from ingestion.intake import Outcome
from ingestion.readings import MeterReading, VehicleReading

STRUCTS: Final = (
    MeterReading,
    VehicleReading,
    Outcome,
    LinkOrder,
    Link,
    LinkMade,
    LinkPage,
    KeyOrder,
    KeyRow,
    KeyMade,
    KeyPage,
    MeterStatus,
    VehicleStatus,
    Performance,
    Series,
    Explanation,
    VehiclePage,
    FleetTotals,
    FaultPage,
    FaultHistory,
    WebhookMessage,
    JobMessage,
)
_KEY: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key; none is needed where API_AUTH is open, as `make run` has it.",
}
_aliases = re.compile("/api/|/ingest/|/v1/analytics/(meter|vehicle)/")


class Error(msgspec.Struct):
    """What went wrong."""

    status_code: int = msgspec.field(name="statusCode")
    path: str
    message: str
    code: str
    timestamp: str
    request_id: str = msgspec.field(name="requestId")
    errors: list[FieldError]


Endpoint = tuple[str, str, str, Callable[..., Any]]


def canonical_paths_only(endpoints: list[Endpoint], **_: Any) -> list[Endpoint]:
    """Leave out aliases: one name for each thing."""
    return [endpoint for endpoint in endpoints if not _aliases.match(endpoint[0])]


def add_components(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the structs' schemas, what needs a key, and the errors of each path, all of one shape."""
    components = msgspec.json.schema_components(
        (*STRUCTS, Error), ref_template="#/components/schemas/{name}"
    )[1]
    result.setdefault("components", {}).setdefault("schemas", {}).update(components)
    result["components"]["securitySchemes"] = {"key": _KEY}
    for path, operations in result["paths"].items():
        for operation in operations.values():
            operation["security"] = [{"key": []}] if _needs_key(path) else []
            responses = operation["responses"]
            for status in _errors_of(path, operation):
                responses.setdefault(str(int(status)), _error(status.phrase))
            responses["default"] = _error("Any other error")
    return result


def _needs_key(path: str) -> bool:
    return path.startswith(("/v1/", "/metrics"))


def _errors_of(path: str, operation: dict[str, Any]) -> list[HTTPStatus]:
    """Return the errors that a client of `operation` has to reckon with."""
    errors = [HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE]
    if _needs_key(path):
        errors += [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS]
    if "{" in path or operation.get("parameters") or "requestBody" in operation:
        errors.append(HTTPStatus.NOT_FOUND)  # a device, or the cursor of a page
    if "requestBody" in operation:
        errors += [
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        ]
    return errors


def _error(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
