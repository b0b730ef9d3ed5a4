"""Requests by the thousand that nobody thought of: made from the OpenAPI document, and bodies.

`FUZZ_REQUESTS` says how many; the same ones each time, unless `FUZZ_SEED` says otherwise.
"""

import gzip
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.engine.conftest import Engine
from tests.engine.wire import INGEST_ROUTES, JSON, NDJSON

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "2000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
SLOW_SECONDS = 2.0

# Nothing is learned from one request for the next, and nothing kept: what fails is shown as it was.
QUIET = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[*HealthCheck],
)


@dataclass
class Tally:
    """What was sent, and what came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    stored: int = 0
    slow: int = 0
    slow_again: list[str] = field(default_factory=list)

    def count(self, what: str, send: Callable[[], int]) -> None:
        """Count what `send` returns, a status; an answer that takes long is asked for once more.

        The machine may have been busy with something else; a request that is slow by itself is
        slow twice.
        """
        seconds = self._seconds_of(send)
        if seconds > SLOW_SECONDS:
            self.slow += 1
            if (seconds := self._seconds_of(send)) > SLOW_SECONDS:
                self.slow_again.append(f"{what}: {seconds:.1f} s")

    def _seconds_of(self, send: Callable[[], int]) -> float:
        begun = time.monotonic()
        self.statuses[send()] += 1
        return time.monotonic() - begun

    def __str__(self) -> str:
        by_status = ", ".join(f"{status}: {n:,}" for status, n in sorted(self.statuses.items()))
        return (
            f"{self.statuses.total():,} requests: {by_status}; {self.stored:,} readings stored; "
            f"{self.slow} took more than {SLOW_SECONDS:.0f} s, {len(self.slow_again)} again"
        )


# --- Bodies, of items of which it is known whether they are good --------------------------------

Value = tuple[Any, bool]  # and whether it is good
ABSENT = object()


@st.composite
def pool(draw: st.DrawFn, good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> Value:
    """Draw a value for a field; mostly a good one, so that many items are."""
    is_good = draw(MOSTLY)
    return draw(good if is_good else bad), is_good


MOSTLY = st.sampled_from([True] * 9 + [False])


def numbers(low: float, high: float) -> st.SearchStrategy[Value]:
    inside = st.floats(low, high, allow_nan=False) | st.integers(int(low), int(high))
    below, above = st.floats(max_value=low, exclude_max=True), st.floats(high, exclude_min=True)
    no_number = st.sampled_from([True, "1", "nan", [], {}, 2**70, float("nan")])
    return pool(inside, below | above | no_number)


def maybe(values: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    return st.sampled_from([(ABSENT, True), (None, True)]) | values


NOW = datetime.now(UTC)
IDS = pool(
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._:*+@~#()=-]{0,63}", fullmatch=True),
    st.from_regex(r"[ -/<\n\x00é][A-Z]{0,9}", fullmatch=True)
    | st.sampled_from(["", "A" * 65, 7, True, [], "V\n", "a b"]),
)
TIMES = pool(
    st.timedeltas(timedelta(days=-399), timedelta(0)).map(lambda ago: (NOW + ago).isoformat()),
    st.dates().map(str)
    | st.times().map(str)
    | st.text(max_size=30)
    | st.integers()
    | st.sampled_from(["2026-06-15T11:00:00", "9999-12-31T23:59:59Z", "2026-06-30T23:59:60Z"]),
)
FIELDS: dict[str, dict[str, st.SearchStrategy[Value]]] = {
    "meter": {
        "meterId": IDS,
        "kwhConsumedAc": numbers(0, 1e9),
        "voltage": maybe(numbers(0, 1e6)),
        "timestamp": maybe(TIMES),
    },
    "vehicle": {
        "vehicleId": IDS,
        "kwhDeliveredDc": numbers(0, 1e9),
        "soc": maybe(numbers(0, 100)),
        "batteryTemp": maybe(numbers(-100, 200)),
        "timestamp": maybe(TIMES),
    },
}


IGNORED = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=1)


@st.composite
def items(draw: st.DrawFn, kind: str) -> Value:
    """Draw a reading, and whether it is good."""
    drawn = {name: draw(values) for name, values in FIELDS[kind].items()}
    item = {name: value for name, (value, _) in drawn.items() if value is not ABSENT}
    item |= draw(IGNORED)
    is_good = all(good for _, good in drawn.values())
    return item, is_good


NO_ITEMS = st.sampled_from([None, 7, "text", [], {}]).map(lambda item: (item, False))
LISTS = {
    kinds: st.lists(st.one_of([*(items(kind) for kind in kinds), NO_ITEMS]), min_size=1, max_size=5)
    for kinds in [("meter",), ("vehicle",), ("meter", "vehicle")]
}


@dataclass
class Body:
    """A body as it is sent; the good items in it, or None where that is not known."""

    path: str
    content_type: str
    content: bytes
    is_gzip: bool
    good: list[dict[str, Any]] | None


@st.composite
def bodies(draw: st.DrawFn) -> Body:
    """Draw a body of good and bad items, as an array, a stream or by itself."""
    path = draw(st.sampled_from(INGEST_ROUTES))
    drawn = draw(LISTS[tuple(kind for kind in FIELDS if kind in path) or tuple(FIELDS)])
    good = [item for item, is_good in drawn if is_good]
    texts = [json.dumps(item).encode() for item, _ in drawn]
    shape = draw(st.sampled_from(["array", "stream", "single"]))
    media, content = JSON, b"[" + b", ".join(texts) + b"]"
    if shape == "stream":
        media, content = NDJSON, b"\n".join(texts)
    elif shape == "single" and not path.endswith("batch"):
        content, good = texts[0], good[:1] if drawn[0][1] else []
    is_gzip = draw(st.booleans())
    return Body(path, media, gzip.compress(content) if is_gzip else content, is_gzip, good)


@st.composite
def spoiled_bodies(draw: st.DrawFn) -> Body:
    """Draw a body that was cut, joined or overwritten somewhere, or is nothing but noise."""
    body = draw(bodies())
    content = bytearray(body.content)
    marks = st.sampled_from([b'"', b",", b"]", b"{", b"\\", b"\n"])
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(content)))
        until = min(len(content), at + draw(st.integers(0, 3)))
        content[at:until] = draw(st.binary(max_size=3) | marks)
    noise = st.binary(max_size=500) | st.text(max_size=200).map(str.encode)
    body.content = bytes(content) if draw(MOSTLY) else draw(noise)
    return Body(body.path, body.content_type, body.content, body.is_gzip, None)


Row = tuple[Any, ...]
COLUMNS = {
    "meter": "meter_id, energy_ac_kwh, voltage_v, NULL",
    "vehicle": "vehicle_id, energy_dc_kwh, soc_percent, battery_temp_celsius",
}


class Sender:
    """Sends bodies with a key, and holds what is answered against what the database then has."""

    def __init__(self, engine: Engine, key: str, tally: Tally) -> None:
        self._http = HTTPConnection("127.0.0.1", engine.port, timeout=30)
        self._database = engine.connected()
        self._database.autocommit = True
        self._key, self._tally = key, tally
        self._newest = {"meter": 0, "vehicle": 0}
        self._new_rows()

    def close(self) -> None:
        self._http.close()
        self._database.close()

    def send(self, body: Body) -> None:
        """Send `body`; what was accepted has to be stored exactly, and nothing else."""
        self._tally.count(f"POST {body.path}", lambda: self._sent(body))

    def _sent(self, body: Body) -> int:
        status, answer = self._answer_to(body)
        rows = self._new_rows()
        assert status in (200, 201, 400, 413), answer
        assert answer.get("accepted", 0) == len(rows), answer
        if status in (200, 201):
            assert rows
        elif body.content_type == JSON:
            assert not rows  # a stream is stored as far as it came
        if body.good is not None:
            expected = [_row(item) for item in body.good]
            assert _comparable(rows) == _comparable(expected), answer
        if status >= 400:
            assert answer.keys() >= {"code", "message", "path", "requestId", "errors"}
        self._tally.stored += len(rows)
        return status

    def _answer_to(self, body: Body) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": body.content_type, "Authorization": f"Bearer {self._key}"}
        if body.is_gzip:
            headers["Content-Encoding"] = "gzip"
        self._http.request("POST", body.path, body.content, headers)
        response = self._http.getresponse()
        raw = response.read()
        assert response.headers["Content-Type"] == JSON
        assert b"Traceback" not in raw
        return response.status, json.loads(raw)

    def _new_rows(self) -> list[Row]:
        rows: list[Row] = []
        for kind, columns in COLUMNS.items():
            found = self._database.execute(
                f"SELECT id, {columns} FROM ingestion_{kind}reading WHERE id > %s",
                [self._newest[kind]],
            ).fetchall()
            self._newest[kind] = max([self._newest[kind], *(row[0] for row in found)])
            rows += [row[1:] for row in found]
        return rows


def _row(item: dict[str, Any]) -> Row:
    """Return what history should have of a good reading."""
    if "meterId" in item:
        return (item["meterId"], item["kwhConsumedAc"], item.get("voltage"), None)
    return (item["vehicleId"], item["kwhDeliveredDc"], item.get("soc"), item.get("batteryTemp"))


def _comparable(rows: list[Row]) -> list[str]:
    numbers = ([row[0], *(None if v is None else float(v) for v in row[1:])] for row in rows)
    return sorted(map(repr, numbers))
