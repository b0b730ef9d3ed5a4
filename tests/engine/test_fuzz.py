"""Thousands of requests that nobody thought of: bodies, and what the OpenAPI document allows."""

import itertools
import re
from contextlib import suppress

import pytest
import requests
import schemathesis
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tqdm import tqdm

from tests.engine.conftest import Engine
from tests.engine.fuzz import QUIET, REQUESTS, SEED, Sender, Tally, bodies, spoiled_bodies
from tests.engine.wire import DOCUMENTED

pytestmark = pytest.mark.xdist_group("fuzz")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def closed_engine(tmp_path_factory):
    """An engine that asks for keys, and limits nobody who has one."""
    no_limits = {
        name: "0"
        for name in (
            "LIMIT_REQUESTS_PER_KEY",
            "LIMIT_READINGS_PER_KEY",
            "LIMIT_REQUESTS_PER_ADDRESS",
            "LIMIT_WRONG_KEYS_PER_ADDRESS",
        )
    }
    engine = Engine(tmp_path_factory.mktemp("engine"), API_AUTH="required", **no_limits).start()
    yield engine
    try:
        output = "".join(engine.output)
        assert "Traceback" not in output, output
        assert "ERROR" not in output, output
    finally:
        engine.stop()


def key_for(engine: Engine, *scopes: str) -> str:
    """Return a new key, made by the command."""
    words = [word for scope in scopes for word in ("--scope", scope)]
    return re.search(r"eie_\S+", engine.manage("api_key", "create", "fuzz", *words))[0]


@pytest.mark.parametrize(
    ("drawn", "share"), [(bodies(), 0.35), (spoiled_bodies(), 0.25)], ids=["items", "noise"]
)
def test_readings_are_stored_exactly_as_answered(closed_engine, drawn, share, capsys):
    tally = Tally()
    sender = Sender(closed_engine, key_for(closed_engine, "ingest"), tally)
    wanted = int(REQUESTS * share)
    progress = tqdm(total=wanted, mininterval=5, disable=None)

    @seed(SEED)
    @settings(QUIET, max_examples=wanted)
    @given(drawn)
    def send(body):
        sender.send(body)
        progress.update()

    try:
        send()
    finally:
        progress.close()
        sender.close()
    with capsys.disabled():
        print(f"\n{tally}")
    assert tally.statuses.total() >= wanted * 0.9
    assert tally.slow_again == []


def test_every_answer_is_as_the_openapi_document_says(closed_engine, capsys):
    tally = Tally()
    keys = {
        "all": key_for(closed_engine, "ingest", "read", "manage"),
        "read": key_for(closed_engine, "read"),
        "wrong": "eie_" + "0" * 53,
        "none": "",
    }
    address = f"http://127.0.0.1:{closed_engine.port}"
    document = requests.get(f"{address}/v1/schema", timeout=30).json()
    operations = [
        found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()
    ]
    ways = list(itertools.product(operations, [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]))
    each = round(REQUESTS * 0.55 / len(ways)) + 1
    progress = tqdm(total=each * len(ways), mininterval=5, disable=None)
    failures: dict[str, str] = {}
    with requests.Session() as session:
        for operation, mode in ways:
            # A request without parameters and body cannot be wrong.
            with suppress(Unsatisfiable):
                cases = operation.as_strategy(generation_mode=mode)
                Asker(session, address, keys, tally, failures).ask(cases, each, progress)
    progress.close()
    with capsys.disabled():
        print(f"\n{tally}")
    assert not failures, "\n\n".join(f"{what}: {why}" for what, why in failures.items())
    assert tally.slow_again == []


class Asker:
    """Sends cases with one of the keys, and notes what is not as the document says."""

    def __init__(self, session, address, keys, tally, failures) -> None:
        self._session, self._address, self._keys = session, address, keys
        self._tally, self._failures = tally, failures

    def ask(self, cases, wanted: int, progress) -> None:
        @seed(SEED)
        @settings(QUIET, max_examples=wanted)
        @given(cases, st.sampled_from(["all", "all", "all", "read", "wrong", "none"]))
        def send(case, key):
            progress.update()
            headers = {"Authorization": f"Bearer {self._keys[key]}"} if self._keys[key] else {}
            name = f"{case.method} {case.operation.path}"
            self._tally.count(name, lambda: self._answered(case, headers, name))

        send()

    def _answered(self, case, headers, name) -> int:
        response = case.call(
            base_url=self._address, session=self._session, headers=headers, timeout=30
        )
        try:
            case.validate_response(response, checks=CHECKS)
            assert b"Traceback" not in response.content
            # By itself: the document has a default for what only a proxy would answer.
            assert str(response.status_code) in case.operation.definition.raw["responses"]
            if response.status_code >= 400:
                assert (response.status_code, response.json()["code"]) in DOCUMENTED
        except Exception as error:
            self._failures.setdefault(f"{name} {response.status_code}", str(error)[:1500])
        return response.status_code
