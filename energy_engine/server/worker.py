"""gunicorn's gevent worker, with JSON errors even for requests that are not valid HTTP."""

import errno
import logging
import os
import resource
from _socket import socket  # not gevent's: for connections that last no longer than an answer
from contextlib import nullcontext, suppress
from http import HTTPStatus
from io import FileIO
from typing import Any, Final

import gevent
from gevent.hub import Hub
from gunicorn.http import errors, wsgi
from gunicorn.workers import ggevent
from gunicorn.workers.ggevent import GeventWorker

from energy_engine.server.admission import (
    MOST_PARKED,
    MOST_RESERVED,
    MOST_SILENT,
    Admission,
    Client,
    Refused,
)
from energy_engine.server.refusals import let_finish, refusal

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
# Connections that a worker accepts per turn: a few, so that the other workers get their share;
# twice as many each time that more are left over, so that none waits in the kernel's queue.
_ACCEPTED_AT_ONCE: Final = 16
_MOST_ACCEPTED_AT_ONCE: Final = 1_024
# After so many, active requests have their turn.
_REFUSED_AT_ONCE: Final = 2_000
# Files that a worker needs for itself: connections to PostgreSQL and Redis, logs, counters.
_OWN_FILES: Final = 100
# After this pause, a file may be free again.
_PAUSE_SECONDS: Final = 0.05
_NO_FILES: Final = (errno.EMFILE, errno.ENFILE)
# How long a client may pause within its request, or leave its response unread.
_PATIENCE_SECONDS: Final = 20
_NOT_HTTP: Final = (HTTPStatus.BAD_REQUEST, "The request is not valid HTTP/1.1")
_FAULT: Final = (HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error")


class _Response(wsgi.Response):  # type: ignore[misc] # gunicorn has no types
    """Sends the headers together with the first bytes of the body: one system call, not two."""

    headers_sent: bool
    _head = b""
    # The response to a HEAD has only the headers of a GET; that is no reason for a warning.
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
    """Accepts every connection immediately, and refuses excess requests."""

    _accepts = _ACCEPTED_AT_ONCE // 2
    max_accept = property(lambda self: self._accepts, lambda _, __: None)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # A FileIO: gevent's os.close() waits for the event loop.
        self._spare_file: FileIO | None = FileIO(os.devnull)

    def set_spawn(self, spawn: Any) -> None:
        super().set_spawn(spawn)
        del self.full  # the pool's, which would let connections wait uncounted

    def _do_read(self) -> None:
        self._accepts = min(2 * self._accepts, _MOST_ACCEPTED_AT_ONCE)
        super()._do_read()

    def do_read(self) -> tuple[Client, Any] | None:
        """Return the next connection that is admitted; None if there is no other."""
        admission = Client.admission
        for _ in range(_REFUSED_AT_ONCE):
            try:
                file, address = self.socket._accept()
            except BlockingIOError:
                self._accepts = _ACCEPTED_AT_ONCE // 2  # which the next turn doubles
                return None
            except OSError as error:
                if error.errno not in _NO_FILES:
                    raise
                self._refuse_with_spare_file()
                return None
            connection = socket(self.socket.family, self.socket.type, self.socket.proto, file)
            client = admission.client(connection, self.pool.free_count())
            if client is not None:
                return client, address
        return None

    def _refuse_with_spare_file(self) -> None:
        """Refuse one connection although the process is out of file descriptors."""
        if self._spare_file is not None:
            self._spare_file.close()
            self._spare_file = None
        with suppress(OSError):
            file, _ = self.socket._accept()
            Client.admission.refuse(socket(fileno=file))
        try:
            self._spare_file = FileIO(os.devnull)
        except OSError:  # the refused client still has it
            self.stop_accepting()
            self._timer = self.loop.timer(_PAUSE_SECONDS)
            self._timer.start(self._start_accepting_if_started)


# gunicorn has no setting for either.
wsgi.Response = _Response
ggevent.StreamServer = _Server


class Worker(GeventWorker):  # type: ignore[misc] # gunicorn has no types
    """Answers requests that never reach Django with JSON errors as well, without quoting them.

    On a reload it stops once its replacements serve: see `energy_engine.server.handover`.
    """

    worker_connections: int
    _is_leaving = False

    def init_process(self) -> None:
        self.admission = Client.admission = Admission()
        _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
        spare = MOST_RESERVED + MOST_SILENT
        most_connections = min(
            self.worker_connections + spare, most_files - _OWN_FILES - MOST_PARKED
        )
        self.worker_connections = most_connections
        super().init_process()

    def patch(self) -> None:
        super().patch()
        # Not before: psycopg has to be imported after the standard library is patched.
        from energy_engine.server.waiting import use_gevent

        use_gevent()
        Hub.print_exception = _log_exception

    def timeout_ctx(self) -> Any:
        """Leave timeouts to `Client`; gunicorn's timer would also run while a request waits."""
        return nullcontext()

    def handle(self, listener: Any, client: Client, addr: Any) -> None:
        try:
            super().handle(listener, client, addr)
        finally:
            client.end_request(expects_another=False)

    def handle_request(self, listener_name: Any, req: Any, sock: Client, addr: Any) -> None:
        sock.begin_request()
        if req.version >= (1, 1) and not any(name == "HOST" for name, _ in req.headers):
            raise errors.InvalidHeader("HOST", req)
        sock.settimeout(_PATIENCE_SECONDS)
        try:
            super().handle_request(listener_name, req, sock, addr)
        except TimeoutError:
            self.log.debug("the client does not read its response")
            raise StopIteration from None
        except StopIteration:
            if _is_unread(req.body.reader):
                let_finish(sock)
            raise
        finally:
            sock.end_request(expects_another=not _is_unread(req.body.reader))

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

    def handle_error(self, req: Any, client: Client, addr: Any, exc: BaseException) -> None:
        client.end_request(expects_another=False)
        if isinstance(exc, Refused):
            answer = self.admission.refusal(is_last=True)
        elif isinstance(exc, errors.ParseException):
            status, message = _STATUSES.get(type(exc), _NOT_HTTP)
            answer = refusal(status, message, status.name.lower())
        else:
            self.log.exception("error handling a request")
            answer = refusal(*_FAULT, "internal_server_error")
        try:
            client.sendall(answer)
            let_finish(client)
        except OSError:
            self.log.debug("the client disconnected before its response")


def _is_unread(reader: Any) -> bool:
    """Return whether gunicorn's reader of a body stopped before its end."""
    return bool(getattr(reader, "length", 0) or getattr(reader, "parser", None))


def _log_exception(_hub: object, _context: object, *found: Any) -> None:
    """Log what gevent would print: an exception that a greenlet has not caught."""
    log.error("uncaught exception in a greenlet", exc_info=found)
