"""Decode readings without the optional fields that are invalid, for those who ask for it."""

import re
from collections.abc import Callable, Collection
from functools import cache
from typing import TypeVar

import msgspec

from fleet.http.wire import DECODE_ERRORS, Buffer, FieldError, field_error

T = TypeVar("T")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode_without_invalid(
    item: bytes,
    error: Exception,
    decode: Callable[[bytes], T],
    struct: type[T],
    optional: Collection[str],
) -> tuple[T | FieldError, list[FieldError]]:
    """Decode `item`, which failed with `error`, without its `optional` fields that are invalid.

    Returns the decoded item and what is wrong with each field left out. If something else is wrong
    too, returns that error and no fields.
    """
    dropped: list[FieldError] = []
    problem = field_error(error, struct)
    while problem.field and problem.field in optional:
        try:
            members = _members.decode(item)
            members.pop(problem.field)
            dropped.append(problem)
            item = msgspec.json.encode(members)
            return decode(item), dropped
        except DECODE_ERRORS as next_error:
            problem = field_error(next_error, struct)
    return problem, []


def with_quoted_nans(body: Buffer, optional: Collection[str]) -> bytes:
    """Return `body` with NaN and Infinity of `optional` fields as strings.

    They are not JSON, so the whole item would be malformed; a string is only an invalid value.
    """
    return _nan_of(frozenset(optional)).sub(rb'\1"\2"', body)


@cache
def _nan_of(fields: frozenset[str]) -> re.Pattern[bytes]:
    # A quote within a string is escaped, so this never matches within one.
    names = "|".join(sorted(fields))
    return re.compile(rf'((?<!\\)"(?:{names})"\s*:\s*)(NaN|-?Infinity)(?=[\s,}}])'.encode())
