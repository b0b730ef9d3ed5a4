"""The tables of the docs that come from the code: readings, limits, error codes, kinds of faults.

`make docs` writes them; a test checks that they are up to date.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from django.urls import get_resolver
from rest_framework.exceptions import APIException

from analytics.alerting.kinds import KINDS
from analytics.figures import series, window
from analytics.models import FaultThresholds
from energy_engine.environment import ROOT
from fleet import device_ids, links
from fleet.http import body, pagination, wire
from ingestion import intake, items, readings

DOCUMENT: Final = ROOT / "docs" / "api.md"
OPERATIONS: Final = ROOT / "docs" / "operations.md"
_FLOORS: Final = ("fleet", "ingestion", "analytics", "energy_engine")


class AnswerCode(NamedTuple):
    """An error `code`, its status and its meaning."""

    status: int
    code: str
    meaning: str

    @property
    def is_worth_repeating(self) -> bool:
        """Whether the same request may succeed when it is sent again."""
        return self.status in (408, 429, 500, 503) or self.code == "cut_short"


# Codes from the framework, and of requests that never reach a view.
_OTHERS: Final = (
    AnswerCode(400, "bad_request", "The request is not valid HTTP/1.1."),
    AnswerCode(400, "unknown_host", "The `Host` header is not in `ALLOWED_HOSTS`."),
    AnswerCode(403, "permission_denied", "This needs a key for all devices."),
    AnswerCode(404, "not_found", "There is no such path, device, site, link, fault, key or page."),
    AnswerCode(405, "method_not_allowed", "The path has other methods; `Allow` lists them."),
    AnswerCode(414, "request_uri_too_long", "The URL is too long."),
    AnswerCode(415, "unsupported_media_type", "The type of body is wrong; see the message."),
    AnswerCode(417, "expectation_failed", "The `Expect` header is unknown."),
    AnswerCode(431, "request_header_fields_too_large", "The headers are too many or too large."),
    AnswerCode(500, "internal_error", "The engine failed; its log has the `requestId`."),
    AnswerCode(500, "internal_server_error", "The same, before the request was parsed."),
    AnswerCode(501, "not_implemented", "The `Transfer-Encoding` is unknown."),
    AnswerCode(503, "not_ready", "Only `/health/ready`: a check failed; `checks` says which."),
)
# Codes in `errors`, where each error is about one field, or about a whole item.
FIELD_CODES: Final = {
    "missing": "A required field is absent.",
    "wrong_type": "The value has the wrong type, such as a string or `true` for a number, a number "
    "for a string, or `null` for a required field. With `field` null: the item is not a JSON "
    "object.",
    "out_of_range": "The value exceeds a limit, which the message names.",
    "invalid_format": "Not an id, not a time with an offset, or not one of the allowed values.",
    "unknown_field": "The body has no such field; the message names the most similar one.",
    "unknown_kind": "A reading has neither `type` nor exactly one of the two ids.",
    "unknown_device": "The device is not in the registry and unknown devices are rejected, or the "
    "key does not reach it.",
    "ambiguous_id": "The external ids of several devices differ from the given one only by case.",
    "malformed_json": "The item is not JSON, not UTF-8, or nested too deeply.",
    "conflict": "Two fields can't be combined.",
    "read_only": "The field can't be changed.",
    "not_unique": "Another object already has this value.",
    "unknown_site": "There is no site with that name.",
}


def answer_codes() -> list[AnswerCode]:
    """Return every error `code`, by status; the docstrings of exceptions say what they mean."""
    _ = get_resolver().url_patterns  # imports every view, and with it its exceptions
    own = [
        AnswerCode(found.status_code, found.default_code, (found.__doc__ or "").splitlines()[0])
        for found in _subclasses(APIException)
        if found.__module__.startswith(_FLOORS) and "default_code" in vars(found)
    ]
    return sorted({*own, *_OTHERS})


def _subclasses(of: type[APIException]) -> Iterator[type[APIException]]:
    for found in of.__subclasses__():
        yield found
        yield from _subclasses(found)


def filled(document: Path) -> str:
    """Return the text of one of `DOCUMENTS` with its tables updated."""
    text = document.read_text()
    for name, table in DOCUMENTS[document].items():
        begins, ends = f"<!-- {name}: written by `make docs` -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begins)
        after = rest.partition(ends)[2]
        text = f"{before}{begins}{table()}{ends}{after}"
    return text


def write_documents() -> None:
    """Update the tables of all documents."""
    for document in DOCUMENTS:
        document.write_text(filled(document))


# --- Tables -------------------------------------------------------------------------------------


def _table(*rows: tuple[str, ...]) -> str:
    """Return `rows` as a table; the first row is its header."""
    lines = [f"| {' | '.join(row)} |\n" for row in rows]
    return "".join([lines[0], "|---" * len(rows[0]) + "|\n", *lines[1:]])


def _readings() -> str:
    rows = [("field", "of", "required", "what it is")]
    for kind, struct in (("meter", readings.MeterReading), ("vehicle", readings.VehicleReading)):
        schema = msgspec.json.schema_components([struct])[1][struct.__name__]
        for name, described in schema["properties"].items():
            if name == "timestamp" and kind == "meter":
                continue  # listed with the vehicle's, for both
            described = described.get("anyOf", [described])[0]
            what = ": ".join(filter(None, [described.get("description"), wire.rule(struct, name)]))
            is_required = "yes" if name in schema["required"] else ""
            of = "both" if name == "timestamp" else kind
            rows.append((f"`{name}`", of, is_required, what))
    return _table(*rows)


def _limits() -> str:
    ahead = int(readings.MAX_AHEAD.total_seconds() / 60)
    return _table(
        ("what", "limit"),
        ("a JSON body, after decompression", f"{body.MAX_JSON_BYTES:,} bytes (10 MiB)"),
        ("readings in a JSON body", f"{items.MAX_READINGS:,}"),
        ("a line of a stream", f"{readings.MAX_LINE_BYTES:,} bytes (64 KiB); streams, none"),
        ("errors listed in an answer", f"{intake.MAX_LISTED_ERRORS}; `rejected` counts all"),
        ("the id of a device", f"{device_ids.DEVICE_ID_MAX_LENGTH} characters"),
        ("`timestamp` of a reading", f"{ahead} minutes ahead, `HISTORY_HORIZON_DAYS` old"),
        (
            "`validFrom`, `validTo` of a link",
            f"from {links.EARLIEST:%Y-%m-%d} on, {links.MAX_AHEAD.days:,} days ahead",
        ),
        ("a window", f"{window.LONGEST.days} days; its `end`, {window.MAX_AHEAD.days} day ahead"),
        ("points of a series", f"{series.MAX_POINTS:,}"),
        (
            "rows per page",
            f"{pagination.Pages.max_page_size:,}; {pagination.Pages.page_size} without `limit`",
        ),
    )


def _answer_codes() -> str:
    rows = [
        (
            str(found.status),
            f"`{found.code}`",
            found.meaning,
            "yes" if found.is_worth_repeating else "",
        )
        for found in answer_codes()
    ]
    return _table(("status", "code", "meaning", "send it again"), *rows)


def _field_codes() -> str:
    rows = [(f"`{code}`", meaning) for code, meaning in FIELD_CODES.items()]
    return _table(("code", "meaning"), *rows)


def _fault_kinds() -> str:
    rows = [
        (
            f"`{record.kind}`",
            record.noun,
            record.value,
            f"`{record.unit}`",
            record.least_change_words,
        )
        for record in KINDS.values()
    ]
    return _table(("kind", "what is wrong", "`value`", "`unit`", "step"), *rows)


def _fault_thresholds() -> str:
    defaults = FaultThresholds()
    rows = [
        (
            f"`{record.kind}`",
            record.with_thresholds(record.opens, defaults),
            record.with_thresholds(record.gone, defaults),
        )
        for record in KINDS.values()
    ]
    return _table(("kind", "opens", "its cause is gone"), *rows)


DOCUMENTS: Final[dict[Path, dict[str, Callable[[], str]]]] = {
    DOCUMENT: {
        "readings": _readings,
        "limits": _limits,
        "fault kinds": _fault_kinds,
        "answer codes": _answer_codes,
        "field codes": _field_codes,
    },
    OPERATIONS: {"fault thresholds": _fault_thresholds},
}
