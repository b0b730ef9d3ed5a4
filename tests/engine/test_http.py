"""What only a real server shows: requests that are no HTTP, chunks, clients that leave."""

import json
import socket

import pytest

from tests.engine.conftest import Engine

READING = b'{"vehicleId": "V1", "kwhDeliveredDc": 1.5}'


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = Engine(tmp_path_factory.mktemp("engine")).start()
    yield engine
    engine.stop()


def answer_to(engine, request: bytes) -> tuple[int, dict[str, object]]:
    """Send bytes as they are; return status and body of the first answer."""
    with socket.create_connection(("127.0.0.1", engine.port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.JSONDecoder().raw_decode(body.decode())[0]


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /v1/ingest/vehicle HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode() + body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /" + b"a" * 4200 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 8300 + b"\r\n\r\n", 431),
        (post(b"{}", "Content-Length: many"), 400),
        (post(b"", "Content-Length: 5", "Transfer-Encoding: chunked"), 400),
    ],
    ids=["no request line", "long line", "long header", "length", "two lengths"],
)
def test_request_that_is_no_http_gets_a_json_error_without_its_own_words(
    engine, request_bytes, status
):
    got, body = answer_to(engine, request_bytes)

    assert got == body["statusCode"] == status
    assert set(body) >= {"path", "message", "code", "timestamp", "requestId", "errors"}
    assert "GARBAGE" not in str(body)
    assert "many" not in str(body).replace("too many", "")


def test_body_in_chunks_is_stored(engine):
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(READING), READING)

    status, body = answer_to(engine, post(chunks, "Transfer-Encoding: chunked"))

    assert (status, body["accepted"]) == (201, 1)


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(READING, f"Content-Length: {len(READING) + 5}"),
        post(b"ZZ\r\n" + READING, "Transfer-Encoding: chunked"),
        post(b"20\r\nshort", "Transfer-Encoding: chunked"),
    ],
    ids=["shorter than its length", "bad chunk size", "short chunk"],
)
def test_body_that_is_cut_short_is_400(engine, request_bytes):
    status, body = answer_to(engine, request_bytes)

    assert (status, body["code"]) == (400, "cut_short")


def test_client_that_leaves_before_its_answer_harms_nobody(engine):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", engine.port)) as connection:
            connection.sendall(post(READING, f"Content-Length: {len(READING)}"))
    status, _ = engine.request("POST", "/v1/ingest", json.loads(READING))

    assert status == 201
