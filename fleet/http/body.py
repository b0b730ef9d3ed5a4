"""Read a request body within its limits: with Content-Length or chunked, gzipped or plain.

Reads the server's stream directly: DRF treats a request without Content-Length as one without a
body.
"""

import re
import zlib
from collections.abc import Iterator
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from gunicorn.http.errors import ChunkMissingTerminator, ParseException
from rest_framework.exceptions import APIException, ParseError, UnsupportedMediaType
from rest_framework.request import Request

from fleet.http.wire import Buffer, Order, decode_struct

MAX_JSON_BYTES: Final = 10 * 1024 * 1024
BLOCK_BYTES: Final = 64 * 1024

_CHARSETS: Final = ("", "utf-8", "utf8", "us-ascii")
_ENCODINGS: Final = ("", "identity", "gzip")
# Tells zlib to expect a gzip header.
_GZIP_WINDOW_BITS: Final = 31
_charset = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)


class MediaType(StrEnum):
    """Media types that a body may have."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"


class BodyTooLarge(APIException):
    """The body, or a line of it, exceeds a limit; the message names the limit."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class BodyCutShort(ParseError):
    """The body, or the gzip data in it, is incomplete."""

    default_code = "cut_short"
    default_detail = "The request body is incomplete; send it again"


class BodyStalled(APIException):
    """No more of the body arrived for 20 seconds."""

    status_code = HTTPStatus.REQUEST_TIMEOUT
    default_code = "stalled"
    default_detail = "Timed out waiting for the rest of the request body; send it again"


class BrokenChunks(ParseError):
    """The body is not chunked, although its `Transfer-Encoding` says so."""

    default_code = "broken_chunks"
    default_detail = "The body is not valid Transfer-Encoding: chunked"


class BrokenGzip(ParseError):
    """The body is not gzip, although its `Content-Encoding` says so."""

    default_code = "broken_gzip"
    default_detail = "The body is not valid gzip"


def media_type(request: Request, *allowed: MediaType) -> MediaType:
    """Return the media type that the request declares. Errors: `UnsupportedMediaType`."""
    content_type = request.content_type or ""
    if content_type in allowed and "HTTP_CONTENT_ENCODING" not in request.META:
        return MediaType(content_type)  # as from nearly every device
    named = content_type.split(";")[0].strip().lower()
    charset = _charset.search(content_type)
    if (
        named not in allowed
        or (charset[1] if charset else "").lower() not in _CHARSETS
        or _encoding(request) not in _ENCODINGS
    ):
        known = " or ".join(allowed)
        raise UnsupportedMediaType(
            content_type, f"The body must be {known} in UTF-8, plain or with Content-Encoding: gzip"
        )
    return MediaType(named)


def json_body(request: Request) -> Buffer:
    """Return a JSON body of at most 10 MiB after decompression.

    Errors: `UnsupportedMediaType`, `BodyTooLarge`, and those of `blocks`.
    """
    media_type(request, MediaType.JSON)
    return _read(request)


def require_no_fields(request: Request) -> None:
    """Require no body or an empty JSON object, for a path that takes no fields.

    Errors: `InvalidBody`, and those of `json_body`.
    """
    if body := _read(request):
        media_type(request, MediaType.JSON)
        decode_struct(body, Order)


def blocks(request: Request) -> Iterator[bytes]:
    """Yield the decompressed body in blocks of at most `BLOCK_BYTES`.

    Errors: `BodyCutShort`, `BodyStalled`, `BrokenChunks`, `BrokenGzip`, each after the blocks
    before it.
    """
    if _encoding(request) == "gzip":
        return _decompressed(_received(request))
    return _received(request)


def _read(request: Request) -> bytearray:
    if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_JSON_BYTES:
        raise _too_large()
    body = bytearray()
    for block in blocks(request):
        body += block
        if len(body) > MAX_JSON_BYTES:
            raise _too_large()
    return body


def _encoding(request: Request) -> str:
    return str(request.META.get("HTTP_CONTENT_ENCODING", "")).strip().lower()


def _received(request: Request) -> Iterator[bytes]:
    stream = request.META["wsgi.input"]
    announced = request.META.get("CONTENT_LENGTH")
    if not announced and not request.META.get("wsgi.input_terminated"):
        return
    missing = int(announced) if announced else None
    while missing is None or missing > 0:
        size = BLOCK_BYTES if missing is None else min(missing, BLOCK_BYTES)
        try:
            block = stream.read(size)
        except TimeoutError:
            raise BodyStalled from None
        except (OSError, ChunkMissingTerminator):
            raise BodyCutShort from None
        except ParseException:
            raise BrokenChunks from None
        if not block:
            break
        if missing is not None:
            missing -= len(block)
        yield block
    if missing:
        raise BodyCutShort


def _decompressed(received: Iterator[bytes]) -> Iterator[bytes]:
    """Inflate one block at a time, so that a gzip bomb never fills the memory."""
    inflater = zlib.decompressobj(_GZIP_WINDOW_BITS)
    try:
        for compressed in received:
            while compressed:
                if inflater.eof:  # gzip may have several members (RFC 1952)
                    inflater = zlib.decompressobj(_GZIP_WINDOW_BITS)
                yield inflater.decompress(compressed, BLOCK_BYTES)
                compressed = inflater.unused_data or inflater.unconsumed_tail
        yield inflater.flush()
    except zlib.error:
        raise BrokenGzip from None
    if not inflater.eof:
        raise BodyCutShort


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"A JSON body may have at most {MAX_JSON_BYTES:,} bytes (10 MiB)")
