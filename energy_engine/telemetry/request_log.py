"""A log line for each request that failed or was slow; for others, ACCESS_LOG decides."""

import logging
import sys
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from django.core.signals import got_request_exception
from django.db import connection
from django.dispatch import receiver
from django.http import HttpRequest

from fleet.access.authorization import key_id_of
from fleet.access.limits import client_address

log = logging.getLogger(__name__)

_CAUSE: Final = "energy_engine.telemetry.request_log.cause"
# The lowest status that is logged however fast it was.
_LOGGED_FROM: Final = {"off": 500, "errors": 400, "all": 100}


def is_logged(status: int, seconds: float) -> bool:
    """Return whether a request that ended with `status` after `seconds` is logged."""
    return status >= _LOGGED_FROM[settings.ACCESS_LOG] or seconds >= settings.SLOW_REQUEST_SECONDS


def log_request(
    request: HttpRequest, route: str, method: str | None, status: int, seconds: float
) -> None:
    """Log how `request` ended, with its route, but nothing of its path, its query or its body."""
    level, event = _kind(status, seconds)
    cause: BaseException | None = request.META.get(_CAUSE)
    fields = {
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(seconds * 1000),
        "address": client_address(request.META),
        **_where_known("key_id", key_id_of(request.META)),
        **_where_known("database_pid", _database_pid()),
    }
    log.log(level, event, extra=fields, exc_info=cause)


def note_cause(request: HttpRequest, error: BaseException | None) -> None:
    """Set the error that caused a response of 500 or more."""
    request.META[_CAUSE] = error


@receiver(got_request_exception)
def _note_uncaught(request: HttpRequest, **_: object) -> None:
    note_cause(request, sys.exception())


def _kind(status: int, seconds: float) -> tuple[int, str]:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        is_fault = status == HTTPStatus.INTERNAL_SERVER_ERROR
        return logging.ERROR if is_fault else logging.WARNING, "request failed"
    if seconds >= settings.SLOW_REQUEST_SECONDS:
        return logging.WARNING, "slow request"
    return logging.INFO, "request"


def _where_known(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}


def _database_pid() -> int | None:
    """Return the id of the PostgreSQL process that served the request, as in PostgreSQL's log."""
    driver = connection.connection
    return None if driver is None or driver.closed else int(driver.pgconn.backend_pid)
