"""Requests as bytes, and what an engine answers to them, over a bare socket.

`http.client` would tidy up what these tests want to send as it is.
"""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from io import BytesIO
from typing import Any, NamedTuple

from energy_engine.api.api_reference import answer_codes
from tests.engine.conftest import Engine

# docs/api.md has them.
DOCUMENTED = {(found.status, found.code) for found in answer_codes()}
JSON, NDJSON = "application/json", "application/x-ndjson"
CHUNKED = "Transfer-Encoding: chunked"
INGEST_ROUTES = [
    "/v1/ingest",
    "/v1/ingest/meter",
    "/v1/ingest/vehicle",
    "/v1/ingest/meter/batch",
    "/v1/ingest/vehicle/batch",
]


class Answer(NamedTuple):
    """One answer; `body` is decoded where there is one."""

    status: int
    headers: dict[str, str]
    body: Any

    def is_error(self, status: int, code: str, path: str) -> None:
        """Assert that this is that error, in the shape that every error has."""
        assert self.status == status, self
        assert self.headers["Content-Type"] == JSON
        assert self.body.keys() >= {"message", "timestamp", "errors"}
        assert self.body["statusCode"] == status
        assert (self.body["code"], self.body["path"]) == (code, path)
        assert (status, code) in DOCUMENTED
        assert self.body["requestId"] == self.headers["X-Request-ID"]
        assert "Traceback" not in str(self.body)


def reading_for(path: str, device: str = "D1") -> bytes:
    """Return one good reading for `path`."""
    if "vehicle" in path:
        return b'{"vehicleId": "%s", "kwhDeliveredDc": 1.5}' % device.encode()
    return b'{"meterId": "%s", "kwhConsumedAc": 1.5}' % device.encode()


def good_body(path: str, content_type: str = JSON) -> bytes:
    """Return a body of one reading that `path` takes as `content_type`."""
    is_array = path.endswith("batch") and content_type == JSON
    return b"[%s]" % reading_for(path) if is_array else reading_for(path)


def post(
    path: str,
    body: bytes,
    *headers: str,
    content_type: str | None = JSON,
    length: int | None = -1,
    host: str | None = "localhost",
    method: str = "POST",
) -> bytes:
    """Return a request; its Content-Length is that of the body, unless given, or None."""
    lines = [f"{method} {path} HTTP/1.1", *headers]
    if host is not None:
        lines.append(f"Host: {host}")
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunk(body: bytes) -> bytes:
    """Return `body` as a chunk of a body in chunks."""
    return b"%x\r\n%s\r\n" % (len(body), body)


def answers_to(engine: Engine, request: bytes, seconds: float = 15) -> list[Answer]:
    """Send `request`, say that nothing follows, and return every answer until the end."""
    with connected(engine, seconds) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return answers_on(connection, request.split(b" ")[0].decode(errors="replace"))


def answer_to(engine: Engine, request: bytes) -> Answer:
    """Return the only answer to `request`."""
    (answer,) = answers_to(engine, request)
    return answer


def connected(engine: Engine, seconds: float = 15) -> socket.socket:
    return socket.create_connection(("127.0.0.1", engine.port), timeout=seconds)


def answers_on(connection: socket.socket, method: str = "POST") -> list[Answer]:
    """Return the answers that come on `connection` until the engine closes it."""
    received = _Received()
    while part := connection.recv(65536):
        received.write(part)
    size = received.tell()
    received.seek(0)
    answers = []
    while received.tell() < size:
        response = HTTPResponse(received, method=method)
        response.begin()
        body = response.read()
        decoded = json.loads(body) if body else None
        answers.append(Answer(response.status, dict(response.headers), decoded))
    return answers


class _Received(BytesIO):
    """Bytes that `HTTPResponse` takes for a socket, and leaves open for the next answer."""

    def makefile(self, _mode: str) -> "_Received":
        return self

    def close(self) -> None: ...


_STORED = """
SELECT 'history', meter_id, energy_ac_kwh, voltage_v, NULL, measured_at, id
  FROM ingestion_meterreading UNION ALL
SELECT 'history', vehicle_id, energy_dc_kwh, soc_percent, battery_temp_celsius, measured_at, id
  FROM ingestion_vehiclereading UNION ALL
SELECT 'live', meter_id, energy_ac_kwh, voltage_v, NULL, measured_at, NULL
  FROM fleet_meterlivestate UNION ALL
SELECT 'live', vehicle_id, energy_dc_kwh, soc_percent, battery_temp_celsius, measured_at, NULL
  FROM fleet_vehiclelivestate UNION ALL
SELECT 'registry', meter_id, NULL, NULL, NULL, NULL, NULL FROM fleet_meter UNION ALL
SELECT 'registry', vehicle_id, NULL, NULL, NULL, NULL, NULL FROM fleet_vehicle
"""


def stored(engine: Engine) -> Counter[tuple[object, ...]]:
    """Return every row of history, of live state and of the registry."""
    return Counter(engine.rows(_STORED))


def stored_since(engine: Engine, before: Counter[tuple[object, ...]]) -> list[tuple[str, str]]:
    """Return table and device of each row that `before` has not; none of it may be gone."""
    now = stored(engine)
    gone = before - now
    # Live state moves on: its old row is gone where there is a new one.
    assert all(row[0] == "live" for row in gone), gone
    return sorted((str(row[0]), str(row[1])) for row in (now - before).elements())


@contextmanager
def storing_nothing(engine: Engine, but_of: str = "") -> Iterator[None]:
    """Hold that nothing is stored meanwhile, except of the device `but_of`."""
    before = stored(engine)
    yield
    assert [row for row in stored_since(engine, before) if row[1] != but_of] == []


class Item(NamedTuple):
    """A bad item, raw, of a kind; and the error that it has to be refused with."""

    kind: str
    raw: bytes
    field: str | None
    code: str
    message: str


def assert_refused_alone(engine: Engine, item: Item) -> None:
    """Send `item` by itself, among good ones, and in streams; hold that it alone is refused.

    On the route of its kind and on the mixed one. An atomic batch stores none of them.
    """
    before = stored(engine)
    neighbours = []
    own, mixed = f"/v1/ingest/{item.kind}", "/v1/ingest"
    for number, path in enumerate((own, mixed)):
        good = [f"N{number}{letter}-{len(before)}" for letter in "abcd"]
        first, second, third, fourth = (reading_for(own, device) for device in good)
        batch = b"[%s, %s, %s]" % (first, item.raw, second)
        lines = b"\n".join([third, item.raw.replace(b"\n", b" "), fourth, b""])
        route = own + "/batch" if path == own else mixed

        _assert_refused(answer_to(engine, post(path, item.raw)), item, 0, path)
        _assert_refused(answer_to(engine, post(f"{route}?atomic=true", batch)), item, 1, route)
        _assert_partly_taken(answer_to(engine, post(route, batch)), item)
        _assert_partly_taken(answer_to(engine, post(path, lines, content_type=NDJSON)), item)
        neighbours += good
    tables = ("history", "live", "registry")
    assert stored_since(engine, before) == sorted(
        (table, device) for table in tables for device in neighbours
    )


def _assert_refused(answer: Answer, item: Item, index: int, path: str) -> None:
    if index == 0 and answer.body["code"] == "malformed_json":
        # A body of one item that is no JSON is no JSON itself.
        answer.is_error(400, "malformed_json", path)
        assert answer.body["message"] == f"The body is {item.message}"
        return
    answer.is_error(400, "rejected", path)
    assert (answer.body["accepted"], answer.body["rejected"]) == (0, 1 if index == 0 else 3)
    assert answer.body["message"] == f"No reading was accepted: {item.message}"
    _assert_named(answer, item, index)


def _assert_partly_taken(answer: Answer, item: Item) -> None:
    assert (answer.status, answer.body["accepted"], answer.body["rejected"]) == (200, 2, 1), answer
    _assert_named(answer, item, 1)


def _assert_named(answer: Answer, item: Item, index: int) -> None:
    expected = {"index": index, "field": item.field, "code": item.code, "message": item.message}
    assert answer.body["errors"] == [expected]
