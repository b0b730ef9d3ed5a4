"""docs/api.md says of fields, limits and codes what the code does."""

import ast
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from analytics.figures.window import LONGEST
from energy_engine.api import api_reference
from energy_engine.api.api_reference import DOCUMENT, DOCUMENTS, FIELD_CODES, answer_codes
from energy_engine.environment import ROOT
from energy_engine.server.worker import _PATIENCE_SECONDS

FLOORS = ("fleet", "ingestion", "analytics", "energy_engine")
# Of files that a person imports, not of the API.
NOT_OF_THE_API = {"malformed_csv"}
_word = re.compile("[a-z]+(_[a-z]+)*")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_document_is_what_the_code_says(document):
    assert api_reference.filled(document) == document.read_text(), "run make docs"


@pytest.mark.parametrize(
    "said",
    [
        f"no more of the body arrived for {_PATIENCE_SECONDS} seconds",
        f"`15m` to `{LONGEST.days}d`",
        f"at most {LONGEST.days} days apart",
    ],
)
def test_limits_in_sentences_are_those_of_the_code(said):
    assert said in DOCUMENT.read_text()


def test_every_code_of_a_field_is_explained_and_no_other():
    # Before the message, which stands last.
    raised = set(words(-2, "FieldError", "ItemError"))

    assert raised | set(of_the_decoder()) == set(FIELD_CODES) | NOT_OF_THE_API


def test_every_code_of_an_answer_is_explained_once():
    codes = Counter((found.status, found.code) for found in answer_codes())

    assert [code for code, times in codes.items() if times > 1] == []
    assert all(found.meaning.endswith(".") for found in answer_codes())
    assert {(400, "cut_short"), (401, "key_required"), (503, "overloaded")} <= set(codes)


def test_code_made_without_an_exception_is_explained():
    made = set(words(-1, "error_body", "error_response"))

    assert {"not_ready", "internal_error"} <= made
    assert made <= {found.code for found in answer_codes()}


def words(position: int, *functions: str) -> Iterator[str]:
    """Yield the word that stands at a position in each call of one of `functions`."""
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in functions:
                    found = getattr(node.args[position], "value", None)
                    if _word.fullmatch(str(found)):
                        yield str(found)


def of_the_decoder() -> Iterator[str]:
    """Yield what `fleet.http.wire._code` returns."""
    tree = ast.parse((ROOT / "fleet" / "http" / "wire.py").read_text())
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "_code")
    for node in ast.walk(function):
        if isinstance(node, ast.Return):
            yield node.value.value
