"""An id for each request, so that an error can be found in the log."""

import re
from collections.abc import Callable
from typing import Final
from uuid import uuid4

from django.http import HttpRequest, HttpResponse

from energy_engine.origin import origin

HEADER: Final = "X-Request-ID"
_well_formed = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIdMiddleware:
    """Uses the id that a client or proxy sent, or generates one; every response carries it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = given if _well_formed.fullmatch(given) else uuid4().hex
        request.META["request_id"] = request_id
        token = origin.set({"request_id": request_id})
        try:
            response = self._get_response(request)
        finally:
            origin.reset(token)
        response[HEADER] = request_id
        return response


def request_id_of(request: HttpRequest) -> str:
    """Return the id of `request`; empty before the middleware has seen it."""
    return str(request.META.get("request_id", ""))
