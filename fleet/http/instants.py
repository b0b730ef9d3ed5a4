"""Instants in query parameters."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

RULE: Final = "an RFC 3339 time with an offset, in the years 2000 to 9998"


class NotAnInstant(ValueError):
    """A parameter is not a time with an offset, or out of range; the text says which one."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} must be {RULE}")
        self.name = name


def instant_of(query: Mapping[str, str], name: str) -> datetime | None:
    """Return the instant under `name`, in UTC; None if it is absent. Errors: `NotAnInstant`."""
    if name not in query:
        return None
    date, between, time = query[name][:10], query[name][10:11], query[name][11:]
    # A space may replace the T, as in a reading; later on, it is a plus sign that was not escaped.
    text = date + between.replace(" ", "T") + time.replace(" ", "+")
    try:
        instant = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        instant = None
    if instant is None or instant.tzinfo is None or not 2000 <= instant.year <= 9998:
        raise NotAnInstant(name)
    return instant.astimezone(UTC)
