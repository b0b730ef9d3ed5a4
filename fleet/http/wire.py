"""Decode JSON bodies, and describe their errors.

A msgspec struct describes each body. Decoding and validation are one pass over the bytes, and error
messages come from the same struct as the check.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from rest_framework.exceptions import APIException, ParseError

# A body, also as the bytearray in which it was collected, so that it need not be copied.
Buffer = bytes | bytearray

# What msgspec raises on bytes that are not the expected JSON.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# No known name is close to a longer one, and comparing it takes time that grows with its length.
_MOST_COMPARED: Final = 64
_unknown_field = re.compile("Object contains unknown field `(.*)`", re.DOTALL)
_missing_field = re.compile("missing required field `([^`]+)`")
_field_at = re.compile(r" - at `\$\.(\w+)(?:\[[\d.]+\])?`$")


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """A request body that refuses unknown fields, since one of them might be meant as a limit.

    Readings are not orders and ignore unknown fields, since firmware adds some.
    """


T = TypeVar("T", bound=Order)


class FieldError(msgspec.Struct):
    """What is wrong with one field; `field` is None if it concerns the whole item."""

    field: str | None
    code: str
    message: str


class InvalidBody(APIException):
    """The body or a parameter is invalid; the message says what the route expects."""

    status_code = HTTPStatus.BAD_REQUEST
    default_code = "invalid"

    def __init__(self, error: FieldError, *others: FieldError) -> None:
        super().__init__(error.message)
        self.errors = [error, *others]


class MalformedBody(ParseError):
    """The body is not JSON."""

    default_code = "malformed_json"

    def __init__(self, error: Exception) -> None:
        super().__init__(f"The body is not valid JSON: {_reason(error)}")


def decode_struct(body: Buffer, struct: type[T]) -> T:
    """Return `body` as a `struct`. Errors: `MalformedBody`, `InvalidBody`."""
    try:
        require_utf8(body)
        return msgspec.json.decode(body, type=struct)
    except msgspec.ValidationError as error:
        raise InvalidBody(field_error(error, struct)) from None
    except DECODE_ERRORS as error:
        raise MalformedBody(error) from None


def require_utf8(body: Buffer) -> None:
    """Require UTF-8; msgspec does not check strings that it skips.

    Errors: `UnicodeDecodeError`.
    """
    if not body.isascii():
        body.decode()


def field_error(error: Exception, struct: type) -> FieldError:
    """Return an error of decoding one `struct` as field, code and message, without the input."""
    if not isinstance(error, msgspec.ValidationError):
        return FieldError(None, "malformed_json", f"not valid JSON: {_reason(error)}")
    text = str(error)
    # Checked first: the name comes from the client, and may look like one of the other messages.
    if unknown := _unknown_field.match(text):
        return _unknown(unknown[1], struct)
    if missing := _missing_field.search(text):
        field = missing[1]
        return FieldError(field, "missing", f"{field} is required: {rule(struct, field)}")
    if not (at := _field_at.search(text)):
        return FieldError(None, "wrong_type", "an item must be a JSON object")
    field = at[1]
    return FieldError(field, _code(text), f"{field} must be {rule(struct, field)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence, which suggests the closest of `known` names if one is close."""
    spellings = {one.casefold(): one for one in known}
    near = get_close_matches(name[:_MOST_COMPARED].casefold(), spellings, 1)
    return f"; did you mean {spellings[near[0]]}?" if near else "."


def listed(names: Iterable[str]) -> str:
    """Return `names` as words: "a, b and c", or "none"."""
    *first, last = [*names] or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def _unknown(name: str, struct: type) -> FieldError:
    """Return the error for a field that `struct` does not have; the message lists its fields."""
    known = [field.encode_name for field in msgspec.structs.fields(struct)]
    message = f"Unknown field{suggestion(name, known)} The body may have {listed(known)}"
    return FieldError(None, "unknown_field", message)


@cache
def rule(struct: type, wire_name: str) -> str:
    """Return the rule for `wire_name` of `struct` in words, from the same types as the check."""
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101 -- narrows the type
    field = next(field for field in info.fields if field.encode_name == wire_name)
    return _words(field.type)


def instant(moment: datetime) -> str:
    """Return an instant as sent over the wire: RFC 3339 in UTC, ending in Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _words(of_type: Any) -> str:
    if isinstance(of_type, msgspec.inspect.UnionType):
        of_type = next(t for t in of_type.types if not isinstance(t, msgspec.inspect.NoneType))
    if isinstance(of_type, msgspec.inspect.Metadata):
        if of_type.extra and "rule" in of_type.extra:
            return str(of_type.extra["rule"])
        of_type = of_type.type
    if isinstance(of_type, msgspec.inspect.FloatType):
        return f"a number from {of_type.ge:,.0f} to {of_type.le:,.0f}"
    if isinstance(of_type, msgspec.inspect.DateTimeType):
        return (
            "an RFC 3339 time with an offset and at most 6 decimal places, "
            "such as 2026-07-15T12:00:00Z"
        )
    return "a string"


def _code(text: str) -> str:
    if "got `" in text:
        return "wrong_type"
    if "Number out of range" in text or "`float`" in text:
        return "out_of_range"
    return "invalid_format"


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 (byte {error.start})"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if str(error) == "Input data was truncated":
        # msgspec says the same of half a surrogate pair.
        return "empty, incomplete, or half a surrogate pair"
    # Names a position, never the input.
    return str(error).removeprefix("JSON is malformed: ")
