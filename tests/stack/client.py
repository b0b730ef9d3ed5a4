"""A device or an analyst that speaks to the stack over HTTPS."""

import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """Status, headers, and the body's JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class Client:
    """A kept connection; each request carries the key."""

    def __init__(self, connect: Callable[[], HTTPConnection], key: str) -> None:
        self._connection = connect()
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, None, headers)

    def post(self, body: object, path: str = "/v1/ingest", **headers: str) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, raw, headers)

    def link(self, vehicle_id: str, meter_id: str) -> Answer:
        body = {"vehicleId": vehicle_id, "meterId": meter_id}
        return self.request("PUT", "/v1/links", json.dumps(body).encode(), {})

    def request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> Answer:
        try:
            self._connection.request(method, path, body, self._headers | headers)
            answer = self._connection.getresponse()
            return Answer(answer.status, dict(answer.headers), json.loads(answer.read()))
        except OSError:
            self._connection.close()
            raise
