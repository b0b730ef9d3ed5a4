"""Split a JSON body into its items, even if some of them are malformed."""

import re
from itertools import islice
from typing import Final

import msgspec

from fleet.http.wire import DECODE_ERRORS, Buffer, MalformedBody

MAX_READINGS: Final = 50_000
_TOO_MANY: Final = f"A JSON body may hold at most {MAX_READINGS:,} readings"
# 20 per reading: more belong to an array of tiny items, which would only fill memory.
_MOST_COMMAS: Final = 20 * MAX_READINGS
# 30 per reading, for the same reason: each takes a third of a microsecond to check.
_MOST_MARKS: Final = 30 * MAX_READINGS

_raw_items = msgspec.json.Decoder(list[msgspec.Raw])
_raw_item = msgspec.json.Decoder(msgspec.Raw)
# Tokens that show where the items of an array end: strings, complete or not, and punctuation.
_marks = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)


class TooManyReadings(ValueError):
    """A body with more than `MAX_READINGS` readings."""


def require_count(count: int) -> None:
    """Errors: `TooManyReadings`."""
    if count > MAX_READINGS:
        raise TooManyReadings(_TOO_MANY)


def split(body: Buffer) -> tuple[list[bytes], bool]:
    """Return the items of `body`, undecoded, and whether it is an array.

    Errors: `MalformedBody`, if it is unclear where the items end; `TooManyReadings`.
    """
    is_array = body.lstrip(b" \t\r\n").startswith(b"[")
    if body.count(b",") > _MOST_COMMAS:
        raise TooManyReadings(_TOO_MANY)
    try:
        items = _raw_items.decode(body) if is_array else [_raw_item.decode(body)]
    except DECODE_ERRORS as error:
        items_by_marks = _split_by_marks(body) if is_array else None
        if items_by_marks is None:
            raise MalformedBody(error) from None
        require_count(len(items_by_marks))
        return items_by_marks, True
    require_count(len(items))
    return [bytes(item) for item in items], is_array


def _split_by_marks(body: Buffer) -> list[bytes] | None:
    """Split an array at the commas between its items, even if an item is not valid JSON.

    So an item that is malformed or nested too deeply fails alone. None if it is unclear where the
    items end.
    """
    items: list[bytes] = []
    depth = start = 0
    for mark in islice(_marks.finditer(body), _MOST_MARKS):
        end, sign = mark.start(), mark[0]
        if sign == b"," and depth == 1:
            items.append(bytes(body[start:end]).strip())
            start = end + 1
        elif sign in (b"[", b"{"):
            depth += 1
            start = start or end + 1
        elif sign in (b"]", b"}"):
            depth -= 1
            if depth == 0:
                items.append(bytes(body[start:end]).strip())
                is_whole = sign == b"]" and not body[end + 1 :].strip() and all(items)
                return items if is_whole else None
    return None
