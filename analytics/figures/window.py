"""The span of time that a figure covers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from django.utils import timezone

DEFAULT_LENGTH: Final = timedelta(hours=24)
LONGEST: Final = timedelta(days=400)
MAX_AHEAD: Final = timedelta(days=1)

_SHORTEST: Final = timedelta(minutes=15)
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_length = re.compile(r"([1-9][0-9]{0,5})([mhd])")


class InvalidWindow(ValueError):
    """An invalid window; the text names the parameter and its limit."""

    def __init__(self, parameter: str, rule: str) -> None:
        super().__init__(f"{parameter} must be {rule}")
        self.parameter = parameter


@dataclass(frozen=True)
class Window:
    """From `starts_at` up to, but not including, `ends_at`."""

    starts_at: datetime
    ends_at: datetime

    @property
    def seconds(self) -> float:
        return (self.ends_at - self.starts_at).total_seconds()

    @classmethod
    def last(cls, length: timedelta = DEFAULT_LENGTH) -> "Window":
        """Return the window of that length that ends now."""
        now = timezone.now()
        return cls(now - length, now)

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> "Window":
        """Return what `start`, `end` or `window` ask for; by default, the last 24 hours.

        Errors: `InvalidWindow`.
        """
        if "window" in query:
            if "start" in query or "end" in query:
                raise InvalidWindow("window", "given without start and end")
            return cls.last(_parsed_length(query["window"]))
        now = timezone.now()
        ends_at = _parsed_instant(query, "end") or now
        starts_at = _parsed_instant(query, "start") or ends_at - DEFAULT_LENGTH
        if ends_at > now + MAX_AHEAD:
            raise InvalidWindow("end", "at most one day in the future")
        if starts_at >= ends_at:
            raise InvalidWindow("start", "before end")
        if ends_at - starts_at > LONGEST:
            raise InvalidWindow("start", f"at most {LONGEST.days} days before end")
        return cls(starts_at, ends_at)


def _parsed_length(text: str) -> timedelta:
    match = _length.fullmatch(text)
    length = int(match[1]) * _UNITS[match[2]] if match else timedelta()
    if not _SHORTEST <= length <= LONGEST:
        raise InvalidWindow("window", f"a length from 15m to {LONGEST.days}d, such as 6h or 7d")
    return length


def _parsed_instant(query: Mapping[str, str], name: str) -> datetime | None:
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
        raise InvalidWindow(name, "an RFC 3339 time with an offset, in the years 2000 to 9998")
    return instant.astimezone(UTC)
