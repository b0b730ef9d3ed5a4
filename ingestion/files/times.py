"""Instants out of the texts that files have for them; a time is never guessed."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

_ISO: Final = "YYYY-MM-DD HH:MM:SS"
_offset = re.compile(r"([+-])(\d\d):?(\d\d)")
_midnight = re.compile(r"([ T])24:00(:00)?")
_duration = re.compile(r"(\d{1,5}) ?(s|m|min|h|d)", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
# What Python reads as ISO 8601, and people do not write as a time: 20260301, 2026-W09-7.
_date_and_time = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d.*", re.ASCII | re.DOTALL)
_finer = re.compile(r"\.\d{7}")
_UNIX: Final = {"unix": 1, "unix_ms": 1_000}
_whole_number = re.compile(r"-?\d{1,17}(\.\d{1,6})?", re.ASCII)


class NotATime(ValueError):
    """The text is no instant; the message says why, without the text."""


def zone(name: str) -> tzinfo:
    """Return the zone of an IANA name or of an offset such as +10:00. Errors: `ValueError`."""
    if name in available_timezones():
        return ZoneInfo(name)
    if match := _offset.fullmatch(name):
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    raise ValueError(
        "must be an IANA time zone, such as Europe/Berlin, or an offset, such as +10:00"
    )


def duration(text: str) -> timedelta:
    """Return what `15m`, `1h`, `30 min`, `900s` or `1d` means. Errors: `ValueError`."""
    match = _duration.fullmatch(text.strip())
    if not match or not int(match[1]):
        raise ValueError("must be a number and s, m, h or d, such as 15m")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def instant_of(local: datetime, of_zone: tzinfo | None) -> datetime:
    """Return the instant of `local` in UTC; `of_zone` is for a time without an offset.

    Errors: `NotATime`, also if a clock change makes the time ambiguous or skips it (PEP 495: the
    offsets of the two folds differ; the larger one comes first where a time happens twice).
    """
    if local.tzinfo is not None:
        return local.astimezone(UTC)
    if of_zone is None:
        raise NotATime("the time has no time zone: say which one it is in with --tz")
    first, second = (local.replace(tzinfo=of_zone, fold=fold) for fold in (0, 1))
    before, after = first.utcoffset(), second.utcoffset()
    if before is not None and after is not None and before != after:
        if before > after:
            raise NotATime(
                f"the time happened twice in {of_zone}, when clocks went back: "
                "export the file with offsets or in UTC"
            )
        raise NotATime(f"the time does not exist in {of_zone}: clocks went forward over it")
    return first.astimezone(UTC)


class Times:
    """Reads the times of one file: in `time_format`, or as ISO 8601 without one.

    `time_format` is one of `strptime`, or `unix` (seconds) or `unix_ms`. `shift` is added to each:
    a reading is stamped with the end of its interval, and some files have its start.
    """

    def __init__(
        self, time_format: str | None, of_zone: tzinfo | None, shift: timedelta = timedelta(0)
    ) -> None:
        self._format = time_format
        self._zone = of_zone
        self._shift = shift
        # The devices of a file often share their times.
        self.instant = lru_cache(maxsize=4096)(self._instant)

    def _instant(self, text: str) -> datetime:
        """Return the instant in UTC. Errors: `NotATime`."""
        try:
            return self._read(text) + self._shift
        except OverflowError:
            raise NotATime("the time is out of range") from None

    def _read(self, text: str) -> datetime:
        if self._format in _UNIX:
            return _since_1970(text, _UNIX[self._format])
        # The end of a day, as some write it; it is the beginning of the next.
        text, is_midnight = _midnight.subn(r"\g<1>00:00\2", text, count=1)
        local = _in_format(text, self._format) if self._format else _iso(text)
        return instant_of(local + timedelta(days=is_midnight), self._zone)


def _iso(text: str) -> datetime:
    if _finer.search(text):
        raise NotATime("the time is finer than a microsecond")
    try:
        if _date_and_time.fullmatch(text):
            return datetime.fromisoformat(text.replace(" +", "+").replace(" Z", "Z"))
    except ValueError:
        pass
    raise NotATime(
        f"the time is not of the form {_ISO}: say which form it has with --time-format, "
        "such as '%d.%m.%Y %H:%M'"
    )


def _in_format(text: str, time_format: str) -> datetime:
    try:
        return datetime.strptime(text, time_format)
    except ValueError:
        raise NotATime(f"the time is not of the form {time_format}") from None


def _since_1970(text: str, parts_of_a_second: int) -> datetime:
    if not _whole_number.fullmatch(text):
        raise NotATime("the time is not a number of seconds or milliseconds since 1970")
    whole, _, fraction = text.partition(".")
    microseconds = int(whole) * 1_000_000 // parts_of_a_second
    if parts_of_a_second == 1:
        microseconds += int(fraction.ljust(6, "0") or 0)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
