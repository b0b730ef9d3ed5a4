"""How long a request may wait for PostgreSQL, and why a wait is given up.

Time counts while a greenlet waits for the database, for a connection or an answer. All waits of a
request count together, so that many statements get no more time than one. A stream of readings or
of CSV may take as long as its client likes, so each of its waits counts by itself; so do waits
outside of requests. `energy_engine.server.waiting` measures the time.
"""

import re
import select
from collections.abc import Callable
from typing import Any, Final

import psycopg
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from gevent import getcurrent
from gevent.monkey import get_original

# Time is counted in ticks, not by a clock: while the process itself gets no CPU, no tick passes, so
# that a busy machine is not mistaken for a frozen database.
TICK_SECONDS: Final = 0.2
# From this age on, a wait is checked: does PostgreSQL answer, is the client still there?
LONG_WAIT_TICKS: Final = 4

# What may take longer than a write: figures, lists, the console, and bodies of many readings.
_takes_longer = re.compile(r"/(admin|metrics|(api/)?v1/(analytics|faults))\b")
_LARGE_BODY_BYTES: Final = 64 * 1024
_poll = get_original("select", "poll")


class GivenUp(psycopg.OperationalError):
    """A wait for PostgreSQL that was given up; its connection is closed."""


class NoAnswer(GivenUp):
    """PostgreSQL does not answer at all: it is frozen, or its machine is."""


class TookTooLong(GivenUp, psycopg.errors.QueryCanceled):
    """A request timed out."""


class ClientGone(GivenUp):
    """The client is no longer there to read the response."""


class Waiting:
    """The waits of one request for PostgreSQL."""

    __slots__ = ("allowed_ticks", "client", "ticks")

    def __init__(self, allowed_seconds: float, client: Any) -> None:
        self.ticks = 0
        self.allowed_ticks = allowed_seconds / TICK_SECONDS
        # The socket of a client that only reads; what a client sends is stored even if it is gone.
        self.client = client


# The current requests, by the greenlet that serves each; and the greenlets that have to give up.
requests: Final[dict[Any, Waiting]] = {}
over: Final[set[Any]] = set()


class DeadlineMiddleware:
    """Limits the time that a request waits for PostgreSQL."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.content_type == "application/x-ndjson":
            return self._get_response(request)
        me = getcurrent()
        requests[me] = Waiting(allowed_seconds(request), _client_of(request))
        try:
            return self._get_response(request)
        finally:
            requests.pop(me, None)
            over.discard(me)


def allowed_seconds(request: HttpRequest) -> float:
    """Return how long `request` may wait for PostgreSQL."""
    if _takes_longer.match(request.path_info) or _has_large_body(request):
        return float(settings.LONG_STATEMENT_TIMEOUT_SECONDS)
    return float(settings.STATEMENT_TIMEOUT_SECONDS)


def reason_to_give_up(waiter: Any, ticks: int) -> GivenUp | None:
    """Return why `waiter`, which has waited for `ticks` so far, should give up; None to go on.

    Call it once per tick: it counts them.
    """
    request = requests.get(waiter)
    if request is None:
        limit = settings.LONG_STATEMENT_TIMEOUT_SECONDS
        return TookTooLong(_too_long(limit)) if ticks * TICK_SECONDS > limit else None
    request.ticks += 1
    if request.ticks > request.allowed_ticks:
        over.add(waiter)
        return TookTooLong(_too_long(request.allowed_ticks * TICK_SECONDS))
    if ticks >= LONG_WAIT_TICKS and request.client and _has_gone(request.client):
        over.add(waiter)
        return ClientGone("the client disconnected before its response")
    return None


def _too_long(seconds: float) -> str:
    return f"PostgreSQL has not answered within {seconds:g} s"


def _has_large_body(request: HttpRequest) -> bool:
    length = request.META.get("CONTENT_LENGTH")
    if not length:
        return bool(request.META.get("wsgi.input_terminated"))  # in chunks, of any size
    return int(length) > _LARGE_BODY_BYTES


def _client_of(request: HttpRequest) -> Any:
    return request.META.get("gunicorn.socket") if request.method == "GET" else None


def _has_gone(client: Any) -> bool:
    """Return whether the other end of a socket is closed, without waiting."""
    if client.fileno() < 0:
        return True
    poll = _poll()
    poll.register(client.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
