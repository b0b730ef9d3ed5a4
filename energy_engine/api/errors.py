"""Every error as JSON in one format; an unavailable database as 503."""

import sys
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
import psycopg
from django.core.exceptions import DisallowedHost, PermissionDenied
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views import defaults
from psycopg.errors import QueryCanceled
from rest_framework.exceptions import (
    APIException,
    ErrorDetail,
    MethodNotAllowed,
    NotFound,
    ValidationError,
)
from rest_framework.exceptions import PermissionDenied as NotPermitted
from rest_framework.response import Response
from rest_framework.views import set_rollback

from energy_engine.api.request_ids import request_id_of
from energy_engine.paths import is_page
from energy_engine.server.deadlines import ClientGone
from energy_engine.telemetry.request_log import note_cause
from fleet.http.wire import FieldError
from fleet.stores.batching import Overloaded
from ingestion.intake import Warnings
from ingestion.readings import ItemError
from ingestion.server_clock import ServerClockBehind
from ingestion.stream import StreamInterrupted

RETRY_AFTER_SECONDS: Final = 2
# Raised when PostgreSQL is unreachable, out of connections, out of disk, or timed out on a lock.
# Closing a server-side cursor raises the driver's own errors, which Django does not translate.
STORAGE_ERRORS: Final = (
    *(OperationalError, InterfaceError),
    *(psycopg.OperationalError, psycopg.InterfaceError),
)


class Error(msgspec.Struct):
    """What went wrong."""

    status_code: int = msgspec.field(name="statusCode")
    path: str
    message: Annotated[str, msgspec.Meta(description="For people; it may change.")]
    code: Annotated[str, msgspec.Meta(description="For programs; docs/api.md lists them.")]
    timestamp: datetime
    request_id: str = msgspec.field(name="requestId")
    errors: list[FieldError]


class IngestError(Error, kw_only=True):
    """Why no reading was accepted, or where and why a stream stopped."""

    errors: list[ItemError]  # type: ignore[assignment] # as others, with the index of the item
    accepted: int | msgspec.UnsetType = msgspec.UNSET
    rejected: int | msgspec.UnsetType = msgspec.UNSET
    # Of a stream: how many lines from its first have been processed.
    lines: int | msgspec.UnsetType = msgspec.UNSET
    warnings: Warnings | msgspec.UnsetType = msgspec.UNSET


class StorageUnavailable(APIException):
    """The database is unreachable, full or out of connections."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "storage_unavailable"
    default_detail = "The database is not available; send the request again"
    wait = RETRY_AFTER_SECONDS


class TookTooLong(APIException):
    """The request timed out waiting for the database."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "took_too_long"
    default_detail = "The database timed out; request less at once, or send the request again"
    wait = RETRY_AFTER_SECONDS


class ClientClosedRequest(APIException):
    """The client closed the connection; this code is only in logs and metrics."""

    status_code = 499  # as nginx has it
    default_code = "client_closed_request"
    default_detail = "The client has closed the connection"


class TryLater(APIException):
    """The engine is overloaded, or this figure is still being calculated."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "overloaded"
    default_detail = "Too many readings are waiting to be written; send the request again"
    wait = 1


class ServerClockWrong(APIException):
    """The server's clock is behind those of most devices."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "server_clock_behind"
    default_detail = (
        "The server's clock seems to be behind those of most devices; send the request again once "
        "it is correct"
    )
    wait = 60


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response to `error`; None if it is a bug of the engine."""
    so_far: dict[str, Any] = {}
    if isinstance(error, StreamInterrupted):
        so_far = msgspec.to_builtins(error.outcome) | {"lines": error.lines}
        error = error.cause
    error = _told(error, context["request"])
    if not isinstance(error, APIException):
        return None
    set_rollback()
    body = error_body(
        context["request"],
        error.status_code,
        _message(error),
        _code(error),
        getattr(error, "errors", []),
    )
    body |= getattr(error, "extra", {}) | so_far
    if lines := so_far.get("lines"):
        body["message"] += f". Lines processed so far: {lines:,}; send the lines after them"
    return Response(body, error.status_code, headers=_headers(error))


def _told(error: Exception, request: HttpRequest) -> Exception:
    """Return `error` as the client gets it; unchanged if it is a bug of the engine."""
    if isinstance(error, Http404):
        return NotFound()
    if isinstance(error, PermissionDenied):
        return NotPermitted()
    if isinstance(error, Overloaded):
        return TryLater(str(error) or None)
    if isinstance(error, ServerClockBehind):
        return ServerClockWrong()
    if isinstance(error, DataError):
        # A value that no column accepts, such as a NUL in a query parameter.
        return ValidationError("The request contains a value that cannot be stored")
    if isinstance(error, STORAGE_ERRORS):
        note_cause(request, error)
        return _unavailable(error)
    if isinstance(error, MethodNotAllowed):
        error.detail = ErrorDetail("Method not allowed; the Allow header lists the allowed ones")
    return error


def error_body(
    request: HttpRequest,
    status: int,
    message: str,
    code: str,
    errors: list[FieldError] | None = None,
) -> dict[str, Any]:
    """Return the body of an error response."""
    return {
        "statusCode": int(status),
        "path": request.path,
        "message": message,
        "code": code,
        "timestamp": timezone.now(),
        "requestId": request_id_of(request),
        "errors": errors or [],
    }


def error_response(request: HttpRequest, status: int, message: str, code: str) -> HttpResponse:
    """Return an error response from outside of DRF's views."""
    return HttpResponse(
        msgspec.json.encode(error_body(request, status, message, code)),
        content_type="application/json",
        status=status,
    )


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Handle 400: a request that Django itself refuses."""
    if isinstance(exception, DisallowedHost):
        message, code = "The Host header is not in ALLOWED_HOSTS", "unknown_host"
    else:
        message, code = "Bad request", "bad_request"
    return error_response(request, HTTPStatus.BAD_REQUEST, message, code)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Handle 403."""
    if is_page(request):
        return defaults.permission_denied(request, exception)
    return error_response(request, HTTPStatus.FORBIDDEN, "Not permitted", "permission_denied")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Handle 404: an unknown path."""
    if is_page(request):
        return defaults.page_not_found(request, exception)
    return error_response(request, HTTPStatus.NOT_FOUND, "Not found", "not_found")


def server_error(request: HttpRequest) -> HttpResponse:
    """Handle 500, and errors that are no bugs of the engine: 503 if the database is unavailable."""
    cause = sys.exception()
    if is_page(request) and isinstance(cause, DataError):
        # A hand-made URL with a value that no column accepts, such as a NUL.
        return bad_request(request, cause)
    if isinstance(cause, STORAGE_ERRORS):
        return _answer(request, _unavailable(cause))
    if isinstance(cause, Overloaded):
        return _answer(request, TryLater(str(cause) or None))
    return error_response(
        request, HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error", "internal_error"
    )


def _answer(request: HttpRequest, error: APIException) -> HttpResponse:
    response = error_response(request, error.status_code, str(error.detail), error.default_code)
    for name, value in _headers(error).items():
        response[name] = value
    return response


def _unavailable(error: BaseException) -> APIException:
    """Return the error for a client after the database has failed."""
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    if isinstance(cause, ClientGone):
        return ClientClosedRequest()
    return TookTooLong() if isinstance(cause, QueryCanceled) else StorageUnavailable()


def _message(error: APIException) -> str:
    if isinstance(error, ValidationError):
        return " ".join(str(detail) for detail in _flat(error.detail))
    return str(error.detail)


def _flat(detail: Any) -> list[str]:
    if isinstance(detail, dict):
        return [text for value in detail.values() for text in _flat(value)]
    return (
        [text for value in detail for text in _flat(value)]
        if isinstance(detail, list)
        else [str(detail)]
    )


def _code(error: APIException) -> str:
    codes = error.get_codes()
    return codes if isinstance(codes, str) else error.default_code


def _headers(error: APIException) -> dict[str, str]:
    headers = {}
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = f"{wait:.0f}"
    if auth_header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    return headers
