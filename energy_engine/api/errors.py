"""Every error as the JSON of the contract; a database that is away as 503."""

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
from ingestion.readings import ItemError
from ingestion.server_clock import ServerClockBehind
from ingestion.stream import StreamInterrupted

RETRY_AFTER_SECONDS: Final = 2
# Raised when PostgreSQL is away, out of connections, out of disk, or gave up waiting for a lock.
# Closing a cursor of the server raises the driver's own, which Django does not translate.
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
    """Why no reading was accepted, or how far a stream came, and why no further."""

    errors: list[ItemError]  # type: ignore[assignment] # as others, with the index of the item
    accepted: int | msgspec.UnsetType = msgspec.UNSET
    rejected: int | msgspec.UnsetType = msgspec.UNSET
    # Of a stream: so many lines from its first are done with.
    lines: int | msgspec.UnsetType = msgspec.UNSET


class StorageUnavailable(APIException):
    """The database is down, full, or out of connections."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "storage_unavailable"
    default_detail = "The database is not available; send the request again"
    wait = RETRY_AFTER_SECONDS


class TookTooLong(APIException):
    """The database did not answer within the time limit of the request."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "took_too_long"
    default_detail = "The database took too long; ask for less at once, or send the request again"
    wait = RETRY_AFTER_SECONDS


class ClientClosedRequest(APIException):
    """The client has disconnected; only the log and the metrics show this code."""

    status_code = 499  # as nginx has it
    default_code = "client_closed_request"
    default_detail = "The client has closed the connection"


class TryLater(APIException):
    """More requests arrive than the engine can serve, or this figure is being calculated."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "overloaded"
    default_detail = "Too much is waiting to be written; send the request again"
    wait = 1


class ServerClockWrong(APIException):
    """The server's clock is behind the clocks of most devices."""

    status_code = HTTPStatus.SERVICE_UNAVAILABLE
    default_code = "server_clock_behind"
    default_detail = (
        "The server's clock seems to be behind: most devices are ahead of it; send the request "
        "again once it is set"
    )
    wait = 60


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return DRF's answer to `error`; None for what is a fault of the engine."""
    so_far: dict[str, Any] = {}
    if isinstance(error, StreamInterrupted):
        so_far = msgspec.structs.asdict(error.outcome) | {"lines": error.lines}
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
        body["message"] += f". Lines done so far: {lines:,}; send the ones after them"
    return Response(body, error.status_code, headers=_headers(error))


def _told(error: Exception, request: HttpRequest) -> Exception:
    """Return `error` as the client is told of it; as it is, where it is a fault of the engine."""
    if isinstance(error, Http404):
        return NotFound()
    if isinstance(error, PermissionDenied):
        return NotPermitted()
    if isinstance(error, Overloaded):
        return TryLater(str(error) or None)
    if isinstance(error, ServerClockBehind):
        return ServerClockWrong()
    if isinstance(error, DataError):
        # A value that no column takes, such as a NUL in a query parameter.
        return ValidationError("The request holds a value that cannot be stored")
    if isinstance(error, STORAGE_ERRORS):
        note_cause(request, error)
        return _unavailable(error)
    if isinstance(error, MethodNotAllowed):
        error.detail = ErrorDetail("This path does not take the method; Allow names those it takes")
    return error


def error_body(
    request: HttpRequest,
    status: int,
    message: str,
    code: str,
    errors: list[FieldError] | None = None,
) -> dict[str, Any]:
    """Return the body of an error answer, as the contract has it."""
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
    """Return an error answer for what happens outside of DRF's views."""
    return HttpResponse(
        msgspec.json.encode(error_body(request, status, message, code)),
        content_type="application/json",
        status=status,
    )


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Handle 400: a request that Django itself refuses."""
    if isinstance(exception, DisallowedHost):
        message, code = "The Host header names none of ALLOWED_HOSTS", "unknown_host"
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
    """Handle 500, and what is not the engine's fault: 503 where the database is away."""
    cause = sys.exception()
    if is_page(request) and isinstance(cause, DataError):
        # An address made by hand, with a value that no column takes, such as a NUL.
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
    """Return what to answer where the database did not do what it was asked."""
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
