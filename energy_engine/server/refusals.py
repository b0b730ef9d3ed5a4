"""Responses that a worker sends without Django: JSON errors, and the end of the connection.

Imports neither Django nor psycopg, see `energy_engine.gunicorn`.
"""

import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from secrets import token_hex
from typing import Any, Final

import msgspec

# How long, and how much, a refused client may go on sending before it is cut off: unread bytes
# would make the kernel drop the response on its way.
_LINGER_SECONDS: Final = 2
_LINGER_BYTES: Final = 64 * 1024 * 1024


def refusal(
    status: HTTPStatus,
    message: str,
    code: str,
    *,
    retry_after_seconds: int = 0,
    is_last: bool = True,
) -> bytes:
    """Return a complete response; `is_last` tells the client that the connection ends with it."""
    request_id = token_hex(16)
    body = msgspec.json.encode(
        {
            "statusCode": int(status),
            "path": "",
            "message": message,
            "code": code,
            "timestamp": datetime.now(UTC),
            "requestId": request_id,
            "errors": [],
        }
    )
    head = [
        f"HTTP/1.1 {int(status)} {status.phrase}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Request-ID: {request_id}",
    ]
    if retry_after_seconds:
        head.append(f"Retry-After: {retry_after_seconds}")
    if is_last:
        head.append("Connection: close")
    return "\r\n".join([*head, "", ""]).encode() + body


def let_finish(client: Any) -> None:
    """Discard what a client still sends, so that it gets to read its response."""
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
