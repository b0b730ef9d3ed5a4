"""The span of time that a figure covers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone

from fleet.http import instants

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
    try:
        return instants.instant_of(query, name)
    except instants.NotAnInstant:
        raise InvalidWindow(name, instants.RULE) from None
