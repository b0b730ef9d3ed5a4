"""Bodies of another type, packed otherwise, too large or empty: refused whole."""

import gzip
import zlib

import pytest

from tests.engine.wire import (
    CHUNKED,
    INGEST_ROUTES,
    JSON,
    NDJSON,
    answer_to,
    chunk,
    good_body,
    post,
    reading_for,
    storing_nothing,
)

pytestmark = pytest.mark.xdist_group("bad input")

PATH = "/v1/ingest/vehicle"
READING = reading_for(PATH)
GZIP = "Content-Encoding: gzip"
NOT_TAKEN = (
    "The body must be application/json or application/x-ndjson in UTF-8, plain or with "
    "Content-Encoding: gzip"
)
ROUTES_AND_TYPES = [(path, media) for path in INGEST_ROUTES for media in (JSON, NDJSON)]


@pytest.fixture(autouse=True)
def _nothing_is_stored(engine):
    with storing_nothing(engine):
        yield


# --- What a body is said to be ----------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/xml",
        "application/xml",
        "text/json",
        "application/jsonp",
        "application/json, text/xml",
        "application/json; charset=utf-7",
        "application/json; charset=utf-16",
        'application/json;charset="bz2"',
        "application/json; charset=bogus",
        "application/x-ndjson; charset=latin-1",
    ],
    ids=repr,
)
@pytest.mark.parametrize("path", INGEST_ROUTES)
def test_body_of_another_type_or_charset_is_415(engine, path, content_type):
    answer = answer_to(engine, post(path, good_body(path), content_type=content_type))

    answer.is_error(415, "unsupported_media_type", path)
    assert answer.body["message"] == NOT_TAKEN


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "gzip;q=1", "bogus"])
@pytest.mark.parametrize(("path", "content_type"), ROUTES_AND_TYPES)
def test_body_in_another_encoding_is_415(engine, path, content_type, encoding):
    body = gzip.compress(good_body(path, content_type))
    request = post(path, body, f"Content-Encoding: {encoding}", content_type=content_type)

    answer_to(engine, request).is_error(415, "unsupported_media_type", path)


@pytest.mark.parametrize(
    ("pack", "code", "message"),
    [
        pytest.param(pack, code, message, id=name)
        for name, pack, code, message in [
            ("not packed", lambda body: body, "broken_gzip", "The body is not valid gzip"),
            ("zlib", zlib.compress, "broken_gzip", "The body is not valid gzip"),
            (
                "wrong sum",
                lambda body: gzip.compress(body)[:-8] + b"x" * 8,
                "broken_gzip",
                "The body is not valid gzip",
            ),
            (
                "cut",
                lambda body: gzip.compress(body)[:-9],
                "cut_short",
                "The request body is incomplete; send it again",
            ),
        ]
    ],
)
@pytest.mark.parametrize("path", INGEST_ROUTES)
def test_broken_gzip_is_400(engine, path, pack, code, message):
    answer = answer_to(engine, post(path, pack(good_body(path)), GZIP))

    answer.is_error(400, code, path)
    assert answer.body["message"] == message


@pytest.mark.parametrize(("path", "content_type"), ROUTES_AND_TYPES)
def test_gzip_in_gzip_is_unpacked_once_and_no_json(engine, path, content_type):
    body = gzip.compress(gzip.compress(good_body(path, content_type)))
    answer = answer_to(engine, post(path, body, GZIP, content_type=content_type))

    assert answer.status == 400
    assert "not valid JSON" in answer.body["message"]


def bomb(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(b" " * 2**20) for _ in range(mebibytes)), packer.flush()])


@pytest.mark.parametrize(
    ("content_type", "limit"), [(JSON, "10,485,760 bytes (10 MiB)"), (NDJSON, "65,536 bytes")]
)
def test_gzip_bomb_is_413_and_says_the_limit(engine, content_type, limit):
    answer = answer_to(engine, post(PATH, bomb(200), GZIP, content_type=content_type))

    answer.is_error(413, "too_large", PATH)
    assert limit in answer.body["message"]


# --- How much -----------------------------------------------------------------------------------

OVER_THE_CAP = b"[" + b" " * (10 * 1024 * 1024) + READING + b"]"


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
@pytest.mark.parametrize("sent", ["with its length", "in chunks", "gzipped"])
def test_body_over_the_cap_is_413_and_says_the_limit(engine, sent, connection):
    headers = [f"Connection: {connection}"]
    request = {
        "with its length": post(PATH, OVER_THE_CAP, *headers),
        "in chunks": post(PATH, chunk(OVER_THE_CAP) + b"0\r\n\r\n", CHUNKED, *headers, length=None),
        "gzipped": post(PATH, gzip.compress(OVER_THE_CAP, 1), GZIP, *headers),
    }[sent]

    answer = answer_to(engine, request)

    answer.is_error(413, "too_large", PATH)
    assert answer.body["message"] == "A JSON body may have at most 10,485,760 bytes (10 MiB)"


@pytest.mark.parametrize("path", INGEST_ROUTES)
def test_too_many_readings_are_413_and_say_the_limit(engine, path):
    reading = reading_for(path)
    answer = answer_to(engine, post(path, b"[" + (reading + b",") * 50_000 + reading + b"]"))

    answer.is_error(413, "too_large", path)
    assert answer.body["message"] == "A JSON body may hold at most 50,000 readings"


def test_line_of_a_stream_over_its_cap_is_413_and_says_the_limit(engine):
    line = READING[:-1] + b', "note": "' + b"a" * 200_000 + b'"}'
    answer = answer_to(engine, post(PATH, line, content_type=NDJSON))

    answer.is_error(413, "too_large", PATH)
    assert answer.body["message"] == "A line may have at most 65,536 bytes"
    assert answer.body["accepted"] == 0


EMPTY = {JSON: "empty, incomplete", NDJSON: "The stream is empty; send at least one reading"}


@pytest.mark.parametrize(
    ("body", "headers", "length"),
    [
        (b"", [], -1),
        (b"", [], None),
        (b" \r\n\t", [], -1),
        (b"0\r\n\r\n", [CHUNKED], None),
        (gzip.compress(b""), [GZIP], -1),
    ],
    ids=["length 0", "no length", "blank", "no chunk", "gzip of nothing"],
)
@pytest.mark.parametrize(("path", "content_type"), ROUTES_AND_TYPES)
def test_empty_body_is_400(engine, path, content_type, body, headers, length):
    request = post(path, body, *headers, content_type=content_type, length=length)
    answer = answer_to(engine, request)

    answer.is_error(400, "malformed_json" if content_type == JSON else "invalid", path)
    assert EMPTY[content_type] in answer.body["message"]
