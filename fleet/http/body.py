"""Read the body of a request within its limits: with a length or in chunks, gzipped or plain.

Reads the server's stream itself: DRF takes a request without Content-Length for one without a body.
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
# For zlib: expect the header of gzip.
_GZIP_WINDOW_BITS: Final = 31
_charset = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)


class MediaType(StrEnum):
    """What a body may be."""

    JSON = "application/json"
    NDJSON = "application/x-ndjson"


class BodyTooLarge(APIException):
    """The body, or a line of it, is over a limit, which the message names."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class BodyCutShort(ParseError):
    """The body, or the gzip in it, ended before its end."""

    default_code = "cut_short"
    default_detail = "The body ended before its end; send it again"


class BodyStalled(APIException):
    """Nothing more of the body came for 20 seconds."""

    status_code = HTTPStatus.REQUEST_TIMEOUT
    default_code = "stalled"
    default_detail = "The body did not go on; send it again"


class BrokenChunks(ParseError):
    """The body is not in chunks, though its `Transfer-Encoding` says so."""

    default_code = "broken_chunks"
    default_detail = "The body is not valid Transfer-Encoding: chunked"


class BrokenGzip(ParseError):
    """The body is not gzip, though its `Content-Encoding` says so."""

    default_code = "broken_gzip"
    default_detail = "The body is not valid gzip"


def media_type(request: Request, *allowed: MediaType) -> MediaType:
    """Return what the body is said to be. Errors: `UnsupportedMediaType`."""
    content_type = request.content_type or ""
    if content_type in allowed and "HTTP_CONTENT_ENCODING" not in request.META:
        return MediaType(content_type)  # as nearly every device says it
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
    """Return a JSON body, of at most 10 MiB after decompression.

    Errors: `UnsupportedMediaType`, `BodyTooLarge`, and those of `blocks`.
    """
    media_type(request, MediaType.JSON)
    return _read(request)


def require_no_fields(request: Request) -> None:
    """Pass a request whose path takes nothing in its body: it has none, or an empty object.

    Errors: `InvalidBody`, and those of `json_body`.
    """
    if body := _read(request):
        media_type(request, MediaType.JSON)
        decode_struct(body, Order)


def blocks(request: Request) -> Iterator[bytes]:
    """Yield a body, decompressed, in blocks of at most `BLOCK_BYTES`.

    Errors: `BodyCutShort`, `BodyStalled`, `BrokenChunks`, `BrokenGzip`, each after what came
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
    """Inflate a block at a time, so that a bomb goes off in small portions."""
    inflater = zlib.decompressobj(_GZIP_WINDOW_BITS)
    try:
        for compressed in received:
            while compressed:
                if inflater.eof:  # one gzip after another is one gzip
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
