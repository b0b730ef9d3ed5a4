"""`pytest -p tests.stack.through --through-stack`: the tests of the API through the whole stack.

What a test sends with Django's test client goes over HTTPS to nginx, and comes back from the engine
behind PgBouncer and beside a replica. The test's database is the stack's primary, so what a test
arranges is committed, and is emptied after it; its clock travels in a header (see `wsgi.py`).

Left out are tests that reach into the process that answers (settings, mocks, counts of statements),
and those that never send a request. How many, and why, is printed at the end.
"""

import inspect
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import TransactionTestCase
from django.test.client import ClientHandler
from django.utils import timezone

from energy_engine import environment
from tests.stack.stack import Stack

CLOCK_HEADER = "X-Test-Clock"

_IN_PROCESS = {
    "settings": "changes settings",
    "monkeypatch": "patches the process",
    "redis_is_away": "changes settings",
    "statements_sent": "counts statements",
    "django_assert_num_queries": "counts statements",
    "django_assert_max_num_queries": "counts statements",
}
_WRITTEN_TO = ("fleet_", "ingestion_", "analytics_", "auth_user", "django_admin_log")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--through-stack", action="store_true", help="send requests to a whole stack")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out: Counter[str] = Counter()
    chosen, others = [], []
    for item in items:
        reason = _why_not(item)
        if reason is None:
            item.fixturenames.insert(0, "transactional_db")
            item.fixturenames.append("_through_stack")
            chosen.append(item)
        else:
            left_out[reason] += 1
            others.append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=others)
    config.stash[_LEFT_OUT] = left_out


_LEFT_OUT = pytest.StashKey[Counter]()


def _why_not(item: pytest.Item) -> str | None:
    """Return why a test can't go through the stack; None where it can."""
    fixtures = set(getattr(item, "fixturenames", ()))
    # pytest-django itself asks for it.
    fixtures -= {"monkeypatch"} - set(inspect.signature(item.function).parameters)
    if "api" not in fixtures:
        return "sends no request by `api`"
    if item.get_closest_marker("in_process"):
        return "marked in_process"
    return next((why for name, why in _IN_PROCESS.items() if name in fixtures), None)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    terminalreporter.section("through the stack")
    terminalreporter.write_line(f"{_Sender.requests} requests over HTTPS")
    for reason, number in config.stash[_LEFT_OUT].most_common():
        terminalreporter.write_line(f"left out: {number:5}  {reason}")


@pytest.fixture(scope="session")
def _stack(django_db_setup: None, django_db_blocker: Any) -> Iterator[Stack]:
    """The stack, on the tests' own database."""
    with tempfile.TemporaryDirectory(prefix="energy-engine-stack-") as folder:
        stack = Stack(
            Path(folder),
            primary_dir=environment.data_dir(),
            database=connection.settings_dict["NAME"],
            wsgi="tests.stack.wsgi",
            REDIS_URL=environment.read("REDIS_URL"),
            ALLOWED_HOSTS="localhost,127.0.0.1,testserver",
            SECURE_COOKIES="false",  # as in this process, where tests sign people in
            LIMIT_REQUESTS_PER_KEY="0",
            LIMIT_READINGS_PER_KEY="0",
            LIMIT_REQUESTS_PER_ADDRESS="0",
        )
        try:
            yield stack.start()
        finally:
            stack.stop()


class _Sender:
    """Takes the place of the handler behind Django's test client."""

    requests = 0

    def __init__(self, stack: Stack, token: str) -> None:
        self._stack = stack
        self._token = token
        self._connection: HTTPSConnection = stack.connection()

    def __call__(self, environ: dict[str, Any]) -> HttpResponse:
        headers = {
            name.removeprefix("HTTP_").replace("_", "-"): value
            for name, value in environ.items()
            if name.startswith("HTTP_") or name == "CONTENT_TYPE"
        }
        headers.setdefault("HOST", "localhost")
        headers.setdefault("AUTHORIZATION", f"Bearer {self._token}")
        headers[CLOCK_HEADER] = timezone.now().isoformat()
        query = quote(
            environ.get("QUERY_STRING", "").encode("latin-1"), safe="%=&/:@!$'()*+,;?-._~"
        )
        path = environ["PATH_INFO"].encode("latin-1")
        target = _quoted(path) + (f"?{query}" if query else "")
        body = environ["wsgi.input"].read() if "wsgi.input" in environ else b""
        if environ["REQUEST_METHOD"] == "GET":
            self._stack.until_replicated()
        self._connection.request(environ["REQUEST_METHOD"], target, body, headers)
        answer = self._connection.getresponse()
        _Sender.requests += 1
        return _response(answer.status, dict(answer.headers), answer.read())

    def close(self) -> None:
        self._connection.close()


def _quoted(path: bytes) -> str:
    return quote(path, safe="/:@!$&'()*+,;=-._~")


def _response(status: int, headers: dict[str, str], body: bytes) -> HttpResponse:
    response = HttpResponse(body, status=status)
    for name, value in headers.items():
        response[name] = value
    response.json = partial(json.loads, body)
    response.streaming = "text/csv" in headers.get("Content-Type", "")
    response.streaming_content = iter([body])
    response.request = {}
    response.client = None
    return response


@pytest.fixture
def _through_stack(_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Not before: Django's settings are read after this plugin.
    from fleet.access.issuing import make_key
    from fleet.models import Scope

    token = make_key("stack", list(Scope)).token
    sender = _Sender(_stack, token)
    monkeypatch.setattr(ClientHandler, "__call__", lambda _, environ: sender(environ))
    monkeypatch.setattr("django.test.Client.request", _request)
    yield
    sender.close()


def _request(self: Any, **request: Any) -> HttpResponse:
    """Send a request as the test client does, without the templates and signals of a process."""
    response = self.handler(self._base_environ(**request))
    response.client = self
    return response


def _empty(_: object) -> None:
    """Empty what tests write to; several times as fast as Django's flush of every table."""
    tables = [
        table for table in connection.introspection.table_names() if table.startswith(_WRITTEN_TO)
    ]
    names = ", ".join(connection.ops.quote_name(table) for table in tables)
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")


TransactionTestCase._fixture_teardown = _empty
