"""Whoever calls the API with a key."""

import json

from django.http import HttpResponse
from django.test import Client

from fleet.access.issuing import make_key
from fleet.models import Scope

INGEST, READ, MANAGE = Scope.INGEST, Scope.READ, Scope.MANAGE
EVERY = (INGEST, READ, MANAGE)


class Caller:
    """The API as whoever holds a token sees it."""

    def __init__(self, token: str | None) -> None:
        headers = {"host": "localhost"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        self._client = Client(headers=headers, raise_request_exception=False)

    def answer(self, path: str, method: str = "GET", **headers: str) -> HttpResponse:
        return self._client.generic(method, path, headers=headers)

    def get(self, path: str) -> tuple[int, dict]:
        answer = self._client.get(path)
        return answer.status_code, json.loads(answer.content)

    def post(self, body: object, path: str = "/v1/ingest") -> tuple[int, dict]:
        answer = self._client.post(path, body, content_type="application/json")
        return answer.status_code, json.loads(answer.content)

    def put(self, vehicle_id: str, meter_id: str) -> tuple[int, dict]:
        body = {"vehicleId": vehicle_id, "meterId": meter_id}
        answer = self._client.put("/v1/links", body, content_type="application/json")
        return answer.status_code, json.loads(answer.content)

    def delete(self, path: str) -> tuple[int, dict]:
        answer = self._client.delete(path)
        return answer.status_code, json.loads(answer.content)


def caller(*scopes: Scope, **bound: object) -> Caller:
    return Caller(make_key("test", scopes, **bound).token)
