"""Describe msgspec structs in the OpenAPI document: every description comes from the struct."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse

_TEMPLATE = "#/components/schemas/{name}"


class Schema(AutoSchema):
    """Uses the struct of a response as is, also for the action `list`, whose struct is a page."""

    def _is_list_view(self, serializer: Any = None) -> bool:
        return False


def schema(struct: type) -> dict[str, Any]:
    """Return a reference to `struct`, whose schema the project adds to the document."""
    return {"$ref": _TEMPLATE.format(name=struct.__name__)}


def answer(struct: type, description: str) -> OpenApiResponse:
    """Return the description of a response with a `struct` as its body."""
    return OpenApiResponse(schema(struct), description)


def body(*schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a JSON request body that is one of `schemas`."""
    return {"application/json": schemas[0] if len(schemas) == 1 else {"oneOf": [*schemas]}}


def stream(item: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a body with one JSON object per line."""
    return {"application/x-ndjson": item}


def array(*schemas: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an array of any of `schemas`."""
    items = schemas[0] if len(schemas) == 1 else {"oneOf": [*schemas]}
    return {"type": "array", "items": items}
