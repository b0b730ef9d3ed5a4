"""Query parameters: a request may have only those that the OpenAPI document lists for it.

Ignoring an unknown parameter would answer a different question: `?windw=7d` with the last 24 hours.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import APIException
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from fleet.http.wire import listed, suggestion

# By handler: the parameters that it accepts, and whether they may be repeated.
_taken: Final[dict[Callable[..., Any], Mapping[str, bool]]] = {}


class UnknownParameter(APIException):
    """The path does not accept a query parameter. Lists those it accepts, never the input."""

    status_code = HTTPStatus.BAD_REQUEST
    default_code = "unknown_parameter"

    def __init__(self, name: str, taken: Mapping[str, bool]) -> None:
        known = f"This path accepts {listed(taken)}"
        super().__init__(f"Unknown query parameter{suggestion(name, taken)} {known}")


class RepeatedParameter(APIException):
    """A query parameter is repeated, although only one of its values would be used."""

    status_code = HTTPStatus.BAD_REQUEST
    default_code = "repeated_parameter"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} may be given only once")


class KnownParameters(BasePermission):
    """Allows a request whose query parameters are in `extend_schema` of its handler.

    Every view has this permission by default; one that sets `permission_classes` lists it last.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        if request._request.META.get("QUERY_STRING"):  # nearly every device sends none
            _require_known(request, view)
        return True


def _require_known(request: Request, view: Any) -> None:
    """Errors: `UnknownParameter`, `RepeatedParameter`."""
    handler = getattr(view, str(request.method).lower(), None)
    if handler is None:
        return  # 405 follows
    taken = parameters_of(view, handler)
    for name, values in request.GET.lists():
        if name not in taken:
            raise UnknownParameter(name, taken)
        if len(values) > 1 and not taken[name]:
            raise RepeatedParameter(name)


def parameters_of(view: Any, handler: Any) -> Mapping[str, bool]:
    """Return the query parameters of a view's handler, and whether they may be repeated."""
    function = handler.__func__
    if function not in _taken:
        documented: list[OpenApiParameter] = []
        if described := getattr(function, "kwargs", {}).get("schema"):
            schema = described()
            schema.view = view
            documented = schema.get_override_parameters()
        _taken[function] = {
            parameter.name: bool(parameter.many)
            for parameter in documented
            if parameter.location == OpenApiParameter.QUERY
        }
    return _taken[function]
