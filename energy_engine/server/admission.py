"""How many requests a worker takes on, counted from accept; it refuses all others immediately.

Requests that wait uncounted wait without limit: in the kernel's queue, or in a greenlet that has
not run yet. So a worker accepts every connection immediately. `MOST_ACTIVE` requests share the
processor; the others, up to `MOST_IN_HAND` in total, wait in a queue as long as the queue moves.
Any further request is answered with 503 before it is parsed. A request does not count while the
engine waits for its client, so slow clients do not keep others out.

Health checks, metrics and the console bypass the queue; they have reserved places.

Imports neither Django nor psycopg, see `energy_engine.gunicorn`. Used by one thread.
"""

import logging
import re
import time
from _socket import MSG_DONTWAIT
from _socket import socket as PlainSocket
from collections import deque
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import gevent
from gevent import socket
from gevent.lock import Semaphore

from energy_engine.server.refusals import let_finish, refusal

log = logging.getLogger(__name__)

# Enough for full group commits, and few enough for short turns of the event loop.
MOST_ACTIVE: Final = 64
# About as many as a worker on a small machine serves in a second.
MOST_IN_HAND: Final = 1_000
MOST_RESERVED: Final = 32
# Places for connections that have sent nothing yet, when there is no room for others.
MOST_SILENT: Final = 500
# No request joins a queue whose first request has waited for this long.
SLOW_LINE_SECONDS: Final = 0.8
# Together with the time for the request itself, within two seconds.
MOST_SECONDS_IN_LINE: Final = 1.3
# Clients that retry as soon as they are refused would take the processor from those that are
# served: with 2,000 of them, 4 requests of 5. So a refusal is delayed, unless too many are.
PARKED_SECONDS: Final = 0.3
MOST_PARKED: Final = 2_000

_RESERVED: Final = (
    *(b"GET /health/", b"HEAD /health/", b"GET /metrics"),
    *(b"GET /admin", b"POST /admin", b"GET /static/"),
)
_FIRST_BYTES: Final = 8192
# How long a connection may be idle between two requests, and take to send the head of one.
IDLE_SECONDS: Final = 5
# Clients that were refused and have not sent all of their request yet.
_MOST_LINGERING: Final = 200
# Refused clients retry within this many seconds, but not all in the same one.
_RETRY_AFTER_SECONDS: Final = 5
_LOG_SECONDS: Final = 10.0
_length = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_unknown_length = re.compile(rb"\r\n(?:transfer-encoding|expect):", re.IGNORECASE)
_last = re.compile(rb"^\S+ \S+ HTTP/1\.0\r|\r\nconnection:[ \t]*close", re.IGNORECASE)


class Refused(Exception):
    """A request that is answered with 503; its connection ends."""


class _Waiting(NamedTuple):
    """A request in the queue."""

    turn: Semaphore
    since: float


class Admission:
    """The requests that one worker has in hand."""

    def __init__(self) -> None:
        # Requests that are active or in the queue.
        self.in_hand = 0
        self.refusals = 0
        self._active = 0
        self._reserved = 0
        self._line: deque[_Waiting] = deque()
        self._lingering = 0
        # Connections whose refusal is delayed, the oldest first.
        self._parked: deque[tuple[float, PlainSocket, bytes]] = deque()
        self._sleeping = 0
        self._logged_at = -_LOG_SECONDS

    def client(self, connection: PlainSocket, room: int) -> "Client | None":
        """Return an accepted connection as one to serve; refuse it if there is no place for it.

        `room` is how many more connections the worker has greenlets for. Never waits.
        """
        try:
            first_bytes = connection.recv(_FIRST_BYTES, MSG_DONTWAIT)
        except BlockingIOError:
            first_bytes = b""
        except OSError:
            connection.close()  # the client is gone
            return None
        place = self.place_for(first_bytes) if first_bytes else None
        if place is None:
            needed = MOST_RESERVED
        else:
            needed = 0 if place.is_reserved else MOST_RESERVED + MOST_SILENT
        if (place or not first_bytes) and room > needed:
            return Client.of(connection, first_bytes, place)
        if place:
            place.give_back()
        self._park(connection, first_bytes)
        return None

    def _park(self, connection: PlainSocket, first_bytes: bytes) -> None:
        """Refuse a connection after a delay; never waits."""
        if not self._parked:
            gevent.spawn(self._refuse_parked)
        self._parked.append((time.monotonic() + PARKED_SECONDS, connection, first_bytes))
        if len(self._parked) > MOST_PARKED:
            self.refuse(*self._parked.popleft()[1:])

    def _refuse_parked(self) -> None:
        while self._parked:
            gevent.sleep(max(0, self._parked[0][0] - time.monotonic()))
            now = time.monotonic()
            while self._parked and self._parked[0][0] <= now:
                self.refuse(*self._parked.popleft()[1:])

    def sleep_before_refusal(self) -> None:
        """Delay the refusal of a client that is already connected, like that of a new one."""
        if self._sleeping < MOST_PARKED:
            self._sleeping += 1
            try:
                gevent.sleep(PARKED_SECONDS)
            finally:
                self._sleeping -= 1

    def place_for(self, first_bytes: bytes) -> "Place | None":
        """Return a place for a request that begins with `first_bytes`; None if there is none."""
        if self._reserved < MOST_RESERVED and first_bytes.startswith(_RESERVED):
            return Place(self, is_reserved=True)
        return None if self._is_full() else Place(self)

    def _is_full(self) -> bool:
        if self.in_hand >= MOST_IN_HAND:
            return True
        return bool(self._line) and time.monotonic() - self._line[0].since > SLOW_LINE_SECONDS

    def begin(self) -> None:
        """Return when the caller is active, after those ahead of it. Errors: `Refused`."""
        if self._active < MOST_ACTIVE:
            self._active += 1
            return
        waiting = _Waiting(Semaphore(0), time.monotonic())
        self._line.append(waiting)
        if not waiting.turn.acquire(timeout=MOST_SECONDS_IN_LINE) and waiting in self._line:
            self._line.remove(waiting)
            raise Refused

    def end(self) -> None:
        """Let the next request in the queue be active instead of the caller."""
        if self._line and self._active <= MOST_ACTIVE:
            self._line.popleft().turn.release()
        else:
            self._active -= 1

    def refusal(self, *, is_last: bool) -> bytes:
        """Return the response to a request for which there is no place."""
        self.refusals += 1
        now = time.monotonic()
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.warning("too many requests at once: %d refused so far", self.refusals)
        return refusal(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "Too many requests are waiting; send the request again",
            "overloaded",
            retry_after_seconds=1 + self.refusals % _RETRY_AFTER_SECONDS,
            is_last=is_last,
        )

    def refuse(self, connection: PlainSocket, first_bytes: bytes = b"") -> None:
        """Answer the first request of a connection with 503 and close it; never waits."""
        try:
            first_bytes = first_bytes or connection.recv(_FIRST_BYTES, MSG_DONTWAIT)
        except OSError:
            first_bytes = b""  # nothing received yet
        try:
            connection.send(self.refusal(is_last=True), MSG_DONTWAIT)
        except OSError:
            connection.close()  # the client is gone
            return
        if is_whole(first_bytes) or self._lingering >= _MOST_LINGERING:
            connection.close()
        else:  # what it still has to send must not make it miss the response
            self._lingering += 1
            gevent.spawn(self._linger, socket.socket(fileno=connection.detach()))

    def _linger(self, client: Any) -> None:
        try:
            let_finish(client)
        finally:
            client.close()
            self._lingering -= 1


class Place:
    """One request's place among those in hand; `give_back` it."""

    def __init__(self, admission: Admission, *, is_reserved: bool = False) -> None:
        self.is_reserved = is_reserved
        self._admission = admission
        self._is_active = False
        self._count(1)

    def wait_for_turn(self) -> None:
        """Return when the request is active. Errors: `Refused`."""
        if not self.is_reserved:
            self._admission.begin()
            self._is_active = True

    def pause(self) -> None:
        """Free the place while the engine waits for the client."""
        self._count(-1)
        if self._is_active:
            self._admission.end()

    def go_on(self) -> None:
        """Take the place again after a pause, even if there are too many requests now."""
        self._count(1)
        if self._is_active:
            self._admission._active += 1

    give_back = pause

    def _count(self, by: int) -> None:
        if self.is_reserved:
            self._admission._reserved += by
        else:
            self._admission.in_hand += by


class Client(socket.socket):  # type: ignore[misc] # gevent has no types
    """A connection that needs a place for each of its requests, from its first bytes on."""

    admission: Admission
    # That of the request which is being received or served.
    _place: Place | None = None
    # What was received and assigned before the connection had a greenlet.
    _first_bytes = b""
    _accepted_place: Place | None = None
    _has_begun = False
    _head_due_at = 0.0

    @classmethod
    def of(cls, connection: PlainSocket, first_bytes: bytes, place: Place | None) -> "Client":
        """Return `connection`, whose `first_bytes` were already received and given `place`."""
        family, kind, protocol = connection.family, connection.type, connection.proto
        client = cls(family, kind, protocol, connection.detach())
        client._first_bytes = first_bytes
        client._accepted_place = place
        return client

    def recv(self, *args: Any) -> bytes:
        """Receive bytes; none if the client is too slow to begin a request.

        Errors: `Refused`, those of any socket.
        """
        if self._has_begun:
            return bytes(super().recv(*args))
        try:
            if self._place is None:
                return self._first_bytes_of_request(*args)
            self.settimeout(max(0.001, self._head_due_at - time.monotonic()))
            return bytes(super().recv(*args))
        except TimeoutError:
            return b""

    def _first_bytes_of_request(self, *args: Any) -> bytes:
        """Return the first bytes of a request that has a place, once it is its turn."""
        while True:
            self.settimeout(IDLE_SECONDS)
            first_bytes, self._first_bytes = self._first_bytes or super().recv(*args), b""
            if not first_bytes:
                return b""
            self._place = self._accepted_place or self.admission.place_for(first_bytes)
            self._accepted_place = None
            if self._place is not None:
                self._place.wait_for_turn()
                self._head_due_at = time.monotonic() + IDLE_SECONDS
                return bytes(first_bytes)
            self.admission.sleep_before_refusal()
            if not is_whole(first_bytes) or _last.search(first_bytes):
                raise Refused
            self.sendall(self.admission.refusal(is_last=False))

    def begin_request(self) -> None:
        """Count a request that arrived with the previous one, and so was not admitted."""
        self._has_begun = True
        if self._place is None:
            self._place = Place(self.admission)

    def end_request(self, *, expects_another: bool) -> None:
        """Give the place back; unless another request is expected, further bytes need none."""
        self._has_begun = not expects_another
        for place in (self._place, self._accepted_place):
            if place is not None:
                place.give_back()
        self._place = self._accepted_place = None

    def _wait(self, *args: Any, **options: Any) -> Any:
        """Wait for the client; gevent calls this to receive and to send."""
        place = self._place
        if place is None:
            return super()._wait(*args, **options)
        place.pause()
        try:
            return super()._wait(*args, **options)
        finally:
            place.go_on()


def is_whole(first_bytes: bytes) -> bool:
    """Return whether these are exactly one complete request."""
    head_size = first_bytes.find(b"\r\n\r\n") + 4
    if head_size < 4 or _unknown_length.search(first_bytes, 0, head_size):
        return False
    length = _length.search(first_bytes, 0, head_size)
    return len(first_bytes) == head_size + (int(length[1]) if length else 0)
