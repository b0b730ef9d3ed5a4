"""HTTP that is bent, broken or slow, on the ingest routes of a running engine.

Each request carries a good reading where it can, so that what is refused would have been stored.
"""

import gzip
import zlib

import pytest

from tests.engine.wire import (
    INGEST_ROUTES,
    JSON,
    NDJSON,
    answer_to,
    answers_on,
    answers_to,
    connected,
    good_body,
    post,
    reading_for,
    stored,
    stored_since,
)

pytestmark = pytest.mark.xdist_group("bad input")

PATH = "/v1/ingest/vehicle"
READING = reading_for(PATH)
CHUNKED = "Transfer-Encoding: chunked"
NOT_HTTP = "The request is not valid HTTP/1.1"
TOO_LARGE = "The headers are too many or too large"
NOT_TAKEN = (
    "The body must be application/json or application/x-ndjson in UTF-8, plain or with "
    "Content-Encoding: gzip"
)
ROUTES_AND_TYPES = [(path, media) for path in INGEST_ROUTES for media in (JSON, NDJSON)]


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


@pytest.fixture(scope="module")
def stalled(engine):
    """Clients that stopped within their request when the tests of this module began."""
    requests = {
        "body with a length": post(PATH, READING, length=500),
        "body in chunks": post(PATH, b"1f4\r\n" + READING, CHUNKED, length=None),
        "stream": post(PATH, READING[:20], content_type=NDJSON, length=500),
        "headers": post(PATH, READING).partition(b"\r\n\r\n")[0],
    }
    connections = {name: connected(engine, 60) for name in requests}
    for name, connection in connections.items():
        connection.sendall(requests[name])
    yield connections
    for connection in connections.values():
        connection.close()


@pytest.fixture(autouse=True)
def _nothing_is_stored(request, engine, stalled):
    """Hold that the test stores nothing, unless it is marked as one that does."""
    before = stored(engine)
    yield
    if "stores" not in request.keywords:
        assert stored_since(engine, before) == []


# --- What is no HTTP at all -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_bytes", "status", "message"),
    [
        pytest.param(request, status, message, id=name)
        for name, request, status, message in [
            ("no request line", b"GARBAGE\r\n\r\n", 400, NOT_HTTP),
            ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, NOT_HTTP),
            ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, NOT_HTTP),
            ("bare line feeds", post(PATH, READING).replace(b"\r\n", b"\n"), 400, NOT_HTTP),
            ("no Host", post(PATH, READING, host=None), 400, NOT_HTTP),
            ("two Hosts", post(PATH, READING, "Host: localhost"), 400, NOT_HTTP),
            ("two types", post(PATH, READING, f"Content-Type: {JSON}"), 400, NOT_HTTP),
            ("NUL in a header", post(PATH, READING, "X-A: b\0c"), 400, NOT_HTTP),
            ("folded header", post(PATH, READING, "X-A: b\r\n c"), 400, NOT_HTTP),
            ("header without a colon", post(PATH, READING, "X-A"), 400, NOT_HTTP),
            (
                "long request line",
                post(f"{PATH}?{'a' * 4200}", READING),
                414,
                "The request line is too long",
            ),
            ("64 KB header", post(PATH, READING, "X-A: " + "a" * 65_536), 431, TOO_LARGE),
            (
                "1,000 headers",
                post(PATH, READING, *[f"X-{n}: a" for n in range(1_000)]),
                431,
                TOO_LARGE,
            ),
            ("unknown Expect", post(PATH, READING, "Expect: more"), 417, "Unknown Expect header"),
        ]
    ],
)
def test_request_that_is_no_http_is_refused_in_json_without_its_own_words(
    engine, request_bytes, status, message
):
    answer = answer_to(engine, request_bytes)

    code = {400: "bad_request", 414: "request_uri_too_long", 417: "expectation_failed"}
    answer.is_error(status, code.get(status, "request_header_fields_too_large"), "")
    assert answer.body["message"] == message
    assert "GARBAGE" not in str(answer.body)


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 42", CHUNKED],
        [CHUNKED, "Content-Length: 0"],
        ["Content-Length: 42", "Content-Length: 43"],
        ["Content-Length: 42, 42"],
        ["Content-Length: +42"],
        ["Content-Length: -1"],
        ["Content-Length: many"],
        ["Content-Length: 0x2a"],
        ["Transfer-Encoding : chunked"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: xchunked"],
    ],
    ids=" | ".join,
)
@pytest.mark.parametrize("body", [READING, chunk(READING) + b"0\r\n\r\n"], ids=["plain", "chunks"])
def test_body_whose_end_is_not_clear_is_refused_and_the_connection_closed(engine, headers, body):
    # What follows must not be taken for a request either, or it could be smuggled past a proxy.
    smuggled = post(PATH, READING)
    answer = answer_to(engine, post(PATH, body, *headers, length=None) + smuggled)

    if headers == ["Transfer-Encoding: xchunked"]:
        answer.is_error(501, "not_implemented", "")
    else:
        answer.is_error(400, "bad_request", "")
    assert answer.headers["Connection"] == "close"


def test_chunks_of_http_1_0_are_refused(engine):
    request = post(PATH, chunk(READING) + b"0\r\n\r\n", CHUNKED, length=None)

    answer_to(engine, request.replace(b"HTTP/1.1", b"HTTP/1.0")).is_error(400, "bad_request", "")


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "local/host", "localhost.evil.example", "127.0.0.1@evil", ""]
)
def test_unknown_host_is_refused(engine, host):
    answer = answer_to(engine, post(PATH, READING, host=host))

    answer.is_error(400, "unknown_host", PATH)
    assert answer.body["message"] == "The Host header names none of ALLOWED_HOSTS"


# --- Methods and headers ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "TRACE", "<SCRIPT>"])
@pytest.mark.parametrize("path", INGEST_ROUTES)
def test_other_method_is_405_with_allow(engine, path, method):
    answer = answer_to(engine, post(path, good_body(path), method=method))

    if method == "<SCRIPT>":
        answer.is_error(400, "bad_request", "")
        return
    assert answer.headers["Allow"] == "POST, OPTIONS"
    if method == "HEAD":
        assert (answer.status, answer.body) == (405, None)
        return
    answer.is_error(405, "method_not_allowed", path)
    assert method not in answer.body["message"]


@pytest.mark.parametrize(
    "header",
    ["X-HTTP-Method-Override: POST", "X-HTTP-Method: POST", "X-Method-Override: POST"],
)
def test_header_that_would_override_the_method_is_ignored(engine, header):
    request = post(f"{PATH}?_method=POST", READING, header, method="GET")

    answer_to(engine, request).is_error(405, "method_not_allowed", PATH)


@pytest.mark.stores
def test_override_of_a_post_is_ignored_as_well(engine):
    answer = answer_to(engine, post(PATH, READING, "X-HTTP-Method-Override: DELETE"))

    assert (answer.status, answer.body["accepted"]) == (201, 1)


@pytest.mark.stores
@pytest.mark.parametrize("accept", ["text/html", "application/xml", "*/*;q=0", "\xff", "text/csv"])
def test_answer_is_json_whatever_is_accepted(engine, accept):
    good = answer_to(engine, post(PATH, READING, f"Accept: {accept}"))
    bad = answer_to(engine, post(PATH, b"{", f"Accept: {accept}"))

    assert (good.status, good.headers["Content-Type"]) == (201, JSON)
    bad.is_error(400, "malformed_json", PATH)


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


GZIP = "Content-Encoding: gzip"


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
                "The body ended before its end; send it again",
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


EMPTY = {JSON: "empty, cut short", NDJSON: "The stream holds no reading"}


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


# --- Where it ends ------------------------------------------------------------------------------

CUT_SHORT = "The body ended before its end; send it again"
BROKEN_CHUNKS = "The body is not valid Transfer-Encoding: chunked"


@pytest.mark.parametrize("path", INGEST_ROUTES)
def test_content_length_that_is_too_short_ends_the_body_and_the_connection(engine, path):
    body = good_body(path)
    cut, rest = answers_to(engine, post(path, body, length=len(body) - 5) + b"\r\n\r\n")

    cut.is_error(400, "malformed_json", path)
    rest.is_error(400, "bad_request", "")


@pytest.mark.parametrize("path", INGEST_ROUTES)
@pytest.mark.parametrize(
    ("frame", "header"),
    [(lambda body: body, "Content-Length: 500"), (lambda body: b"1f4\r\n" + body, CHUNKED)],
    ids=["length", "chunk"],
)
def test_body_that_ends_before_its_length_is_400(engine, path, frame, header):
    body = good_body(path)
    answer = answer_to(engine, post(path, frame(body), header, length=None))

    answer.is_error(400, "cut_short", path)
    assert answer.body["message"] == CUT_SHORT


@pytest.mark.parametrize(
    "body",
    [
        b"ZZ\r\n" + READING,
        b"-1\r\n" + READING,
        b"0x2b\r\n" + READING + b"\r\n0\r\n\r\n",
        b"\r\n" + READING,
        b"2b;\rx\r\n" + READING + b"\r\n0\r\n\r\n",
        chunk(READING) + b"0\r\nHost: elsewhere\r\n\r\n",
        chunk(READING) + b"0\r\nno trailer\r\n\r\n",
        b"f" * 20_000,
    ],
    ids=[
        "no number",
        "negative",
        "0x",
        "no size",
        "return in an extension",
        "Host among the trailers",
        "trailer without a colon",
        "endless size",
    ],
)
@pytest.mark.parametrize("content_type", [JSON, NDJSON])
def test_garbage_in_place_of_chunks_is_400_and_the_connection_closed(engine, content_type, body):
    request = post(PATH, body, CHUNKED, content_type=content_type, length=None)
    answer = answer_to(engine, request + post(PATH, READING))

    answer.is_error(400, "broken_chunks", PATH)
    assert answer.body["message"] == BROKEN_CHUNKS
    assert answer.headers["Connection"] == "close"


@pytest.mark.stores
def test_stream_that_is_cut_short_is_stored_as_far_as_its_lines_are_whole(engine):
    before = stored(engine)
    body = reading_for(PATH, "CUT-1") + b"\n" + reading_for(PATH, "CUT-2")[:-3]
    answer = answer_to(engine, post(PATH, body, content_type=NDJSON, length=500))

    answer.is_error(400, "cut_short", PATH)
    assert (answer.body["accepted"], answer.body["rejected"]) == (1, 0)
    assert stored_since(engine, before) == [
        ("history", "CUT-1"),
        ("live", "CUT-1"),
        ("registry", "CUT-1"),
    ]


def test_request_within_a_body_is_no_request(engine):
    body = b"0\r\n\r\n" + post(PATH, READING)

    answer_to(engine, post(PATH, body)).is_error(400, "malformed_json", PATH)


@pytest.mark.stores
def test_requests_in_a_row_are_answered_in_order(engine):
    before = stored(engine)
    row = [reading_for(PATH, "ROW-1"), b"{", reading_for(PATH, "ROW-2")]

    answers = answers_to(engine, b"".join(post(PATH, body) for body in row))

    assert [answer.status for answer in answers] == [201, 400, 201]
    new = stored_since(engine, before)
    assert [device for table, device in new if table == "history"] == ["ROW-1", "ROW-2"]


# --- What is good, however odd it looks ---------------------------------------------------------


@pytest.mark.stores
@pytest.mark.parametrize(
    "request_bytes",
    [
        post(PATH, chunk(READING) + b"0\r\n\r\n", CHUNKED, length=None),
        post(PATH, chunk(READING[:9]) + chunk(READING[9:]) + b"0\r\n\r\n", CHUNKED, length=None),
        post(PATH, READING).replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(PATH, READING, host=None).replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(PATH, READING, content_type="Application/JSON;charset=UTF-8"),
        post(PATH, gzip.compress(READING), "Content-Encoding: GZIP"),
        post(PATH, READING, "Expect: 100-continue"),
    ],
    ids=["a chunk", "chunks", "HTTP/1.0", "HTTP/1.0 without Host", "type", "gzip", "expect"],
)
def test_good_reading_is_stored_however_it_is_sent(engine, request_bytes):
    *_, answer = answers_to(engine, request_bytes)

    assert (answer.status, answer.body["accepted"]) == (201, 1)


# --- Who does not wait, and who makes others wait -----------------------------------------------


@pytest.mark.stores
def test_client_that_leaves_before_its_answer_harms_nobody(engine):
    for _ in range(20):
        with connected(engine) as connection:
            connection.sendall(post(PATH, READING))

    assert answer_to(engine, post(PATH, READING)).status == 201


def test_engine_answers_while_others_stall(engine):
    assert answer_to(engine, post("/health/live", b"", method="GET")).status == 200


@pytest.mark.parametrize("what", ["body with a length", "body in chunks", "stream"])
def test_body_that_stalls_is_408_in_the_end(stalled, what):
    (answer,) = answers_on(stalled[what])

    answer.is_error(408, "stalled", PATH)
    assert answer.body["message"] == "The body did not go on; send it again"
    assert answer.headers["Connection"] == "close"


def test_headers_that_stall_are_cut_off(stalled):
    assert answers_on(stalled["headers"]) == []
