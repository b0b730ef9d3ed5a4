"""gunicorn's gevent worker, which answers what is not HTTP in the words of the contract too."""

import logging
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

import gevent
import msgspec
from gevent.hub import Hub
from gunicorn.http import errors, wsgi
from gunicorn.workers import ggevent
from gunicorn.workers.ggevent import GeventWorker

log = logging.getLogger(__name__)

_STATUSES: Final = {
    errors.LimitRequestLine: (HTTPStatus.REQUEST_URI_TOO_LONG, "The request line is too long"),
    errors.LimitRequestHeaders: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The headers are too many or too large",
    ),
    errors.UnsupportedTransferCoding: (HTTPStatus.NOT_IMPLEMENTED, "Unknown Transfer-Encoding"),
    errors.ExpectationFailed: (HTTPStatus.EXPECTATION_FAILED, "Unknown Expect header"),
}
_ACCEPTED_AT_ONCE: Final = 32
# How long a client may pause within its request, or leave its answer unread.
_PATIENCE_SECONDS: Final = 20
# How long, and how much, a client that was refused may go on sending before it is cut off: bytes
# that nobody reads would make the kernel drop the answer on its way.
_LINGER_SECONDS: Final = 2
_LINGER_BYTES: Final = 64 * 1024 * 1024
_NOT_HTTP: Final = (HTTPStatus.BAD_REQUEST, "The request is not valid HTTP/1.1")
_FAULT: Final = (HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error")


class _Response(wsgi.Response):  # type: ignore[misc] # gunicorn has no types
    """Sends the headers together with the first bytes of the body: one system call, not two."""

    headers_sent: bool
    _head = b""
    # A HEAD is answered with the headers of a GET alone; that is no warning.
    _omits_body_warned = property(lambda _: True, lambda _, __: None)

    def should_close(self) -> bool:
        # Where the next request begins is unknown.
        return bool(self.req.body.failed or super().should_close())

    def send_headers(self) -> None:
        if self.headers_sent:
            return
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers)]
        self._head = "".join([*lines, "\r\n"]).encode("latin-1")
        self.headers_sent = True

    def sendfile(self, respiter: Any) -> bool:
        self._send_head_alone()
        return bool(super().sendfile(respiter))

    def close(self) -> None:
        self._send_head_alone()
        super().close()

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            self._send_head_alone()
        head, self._head = self._head, b""
        super()._emit_body(head + data)

    def _send_head_alone(self) -> None:
        self.send_headers()
        head, self._head = self._head, b""
        if head:
            self.sock.sendall(head)


class _Server(ggevent.StreamServer):  # type: ignore[misc] # gunicorn has no types
    """Accepts many connections a turn: gunicorn's one lets others wait for seconds under load."""

    max_accept = property(lambda _: _ACCEPTED_AT_ONCE, lambda _, __: None)


# gunicorn has no setting for either.
wsgi.Response = _Response
ggevent.StreamServer = _Server


class Worker(GeventWorker):  # type: ignore[misc] # gunicorn has no types
    """Requests that never reach Django get JSON errors as well, without a word of theirs.

    It goes when those who replace it serve: see `energy_engine.handover`.
    """

    _is_leaving = False

    def patch(self) -> None:
        super().patch()
        # Not before: psycopg has to be imported after the standard library is patched.
        from energy_engine.waiting import use_gevent

        use_gevent()
        Hub.print_exception = _log_exception

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        if req.version >= (1, 1) and not any(name == "HOST" for name, _ in req.headers):
            raise errors.InvalidHeader("HOST", req)
        sock.settimeout(_PATIENCE_SECONDS)
        try:
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError:
            self.log.debug("the client does not read its answer")
            raise StopIteration from None
        except StopIteration:
            if _is_unread(req.body.reader):
                _let_finish(sock)
            raise

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Handle SIGTERM, which gunicorn repeats every second while it reloads."""
        if not self.handover.is_replaced():
            self.alive = False
        elif not self._is_leaving:
            self._is_leaving = True
            gevent.spawn(self._leave)

    def _leave(self) -> None:
        self.handover.wait(gevent.sleep)
        self.alive = False

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        if isinstance(exc, errors.ParseException):
            status, message = _STATUSES.get(type(exc), _NOT_HTTP)
        else:
            self.log.exception("error handling a request")
            status, message = _FAULT
        try:
            client.sendall(_response(status, message))
            _let_finish(client)
        except OSError:
            self.log.debug("the client has gone before its answer")


def _is_unread(reader: Any) -> bool:
    """Return whether gunicorn's reader of a body stopped before its end."""
    return bool(getattr(reader, "length", 0) or getattr(reader, "parser", None))


def _let_finish(client: Any) -> None:
    """Drop what a client goes on sending, so that it comes to read its answer."""
    deadline = time.monotonic() + _LINGER_SECONDS
    received = 0
    with suppress(OSError):
        client.shutdown(socket.SHUT_WR)
        while received < _LINGER_BYTES and (seconds := deadline - time.monotonic()) > 0:
            client.settimeout(seconds)
            block = client.recv(64 * 1024)
            if not block:
                return
            received += len(block)


def _log_exception(_hub: object, _context: object, *found: Any) -> None:
    """Log what gevent would print: an exception that a greenlet has not caught."""
    log.error("uncaught exception in a greenlet", exc_info=found)


def _response(status: HTTPStatus, message: str) -> bytes:
    request_id = uuid4().hex
    body = msgspec.json.encode(
        {
            "statusCode": int(status),
            "path": "",
            "message": message,
            "code": status.name.lower(),
            "timestamp": datetime.now(UTC),
            "requestId": request_id,
            "errors": [],
        }
    )
    head = (
        f"HTTP/1.1 {int(status)} {status.phrase}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"X-Request-ID: {request_id}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body
