"""HTTP that is bent, broken or slow, on the ingest routes of a running engine.

Each request carries a good reading where it can, so that what is refused would have been stored.
"""

import gzip

import pytest

from tests.engine.wire import (
    CHUNKED,
    INGEST_ROUTES,
    JSON,
    NDJSON,
    answer_to,
    answers_on,
    answers_to,
    chunk,
    connected,
    good_body,
    post,
    reading_for,
    stored,
    stored_since,
    storing_nothing,
)

pytestmark = pytest.mark.xdist_group("bad input")

PATH = "/v1/ingest/vehicle"
READING = reading_for(PATH)
# What its clients sent is stored, or is not, at any time after they have left.
LEFT_EARLY = "LEFT-EARLY"
NOT_HTTP = "The request is not valid HTTP/1.1"
TOO_LARGE = "The headers are too many or too large"


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
    if "stores" in request.keywords:
        yield
    else:
        with storing_nothing(engine, but_of=LEFT_EARLY):
            yield


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
    assert answer.body["message"] == "The Host header is not in ALLOWED_HOSTS"


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
    request = post(PATH, READING, header, method="GET")

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


# --- Where it ends ------------------------------------------------------------------------------

CUT_SHORT = "The request body is incomplete; send it again"
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
            connection.sendall(post(PATH, reading_for(PATH, LEFT_EARLY)))

    assert answer_to(engine, post(PATH, READING)).status == 201


def test_engine_answers_while_others_stall(engine):
    assert answer_to(engine, post("/health/live", b"", method="GET")).status == 200


@pytest.mark.parametrize("what", ["body with a length", "body in chunks", "stream"])
def test_body_that_stalls_is_408_in_the_end(stalled, what):
    (answer,) = answers_on(stalled[what])

    answer.is_error(408, "stalled", PATH)
    assert (
        answer.body["message"]
        == "Timed out waiting for the rest of the request body; send it again"
    )
    assert answer.headers["Connection"] == "close"


def test_headers_that_stall_are_cut_off(stalled):
    assert answers_on(stalled["headers"]) == []
