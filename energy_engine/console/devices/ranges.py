"""The range of a device's page: what its address asks for, and the part of it that has readings.

Days, and months, are those of the site's time zone.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from django.utils import timezone

from analytics.figures.series import Granularity
from analytics.figures.trace import first_reading_at
from analytics.figures.window import LONGEST, Window
from fleet.models import Meter, Site, Vehicle
from ingestion.history.retention.restore import gone_until

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_LENGTHS: Final = {
    "24h": ("24 hours", _DAY),
    "7d": ("7 days", 7 * _DAY),
    "30d": ("30 days", 30 * _DAY),
}
_MONTHS: Final = {"this-month": "This month", "last-month": "Last month"}
_YEARS: Final = range(2000, 2200)
_MOMENT: Final = timedelta(microseconds=1)


class InvalidDates(ValueError):
    """Dates that are no range; the text says why."""


class Resolution(NamedTuple):
    """How fine the charts of a range are: its energies, and the averages of its state."""

    granularity: Granularity
    trace_piece: timedelta
    by_trace_piece: str


# By the longest range that each is for.
_RESOLUTIONS: Final = {
    2 * _DAY: Resolution(Granularity.HOUR, _HOUR / 4, "by 15 minutes"),
    14 * _DAY: Resolution(Granularity.DAY, _HOUR, "by hour"),
    62 * _DAY: Resolution(Granularity.DAY, 6 * _HOUR, "by 6 hours"),
    LONGEST + _DAY: Resolution(Granularity.DAY, _DAY, "by day"),
}


class Range(NamedTuple):
    """The span that a page shows, and the one before that it is compared with, if any.

    `asked` is what the address says of it; `title` and `within` are its words in a heading and in
    a sentence. `notes` say how `window` differs from what was asked for. If it `is_gone`, all of
    it is in the archive.
    """

    asked: dict[str, str]
    title: str
    within: str
    window: Window
    before: Window | None
    zone: ZoneInfo
    compares: bool = False
    notes: tuple[str, ...] = ()
    is_gone: bool = False

    @property
    def is_last_day(self) -> bool:
        return self.asked.get("range") == "24h"

    @property
    def resolution(self) -> Resolution:
        length = self.window.ends_at - self.window.starts_at
        return next(fine for longest, fine in _RESOLUTIONS.items() if length <= longest)

    @property
    def query(self) -> str:
        """Return the range as the query string of an address."""
        return _query(self.asked, self.compares)

    @property
    def other_query(self) -> str:
        """Return the same range, compared if it is not, and not compared if it is."""
        return _query(self.asked, not self.compares)

    @property
    def span(self) -> str:
        return _span(self.window, self.zone)

    @property
    def span_before(self) -> str:
        return _span(self.before, self.zone) if self.before else ""

    @property
    def first_day(self) -> date:
        return self.window.starts_at.astimezone(self.zone).date()

    @property
    def last_day(self) -> date:
        return (self.window.ends_at - _MOMENT).astimezone(self.zone).date()

    def noted(self, note: str) -> "Range":
        return self._replace(notes=(*self.notes, note))


class Choice(NamedTuple):
    """A range to choose by one click."""

    title: str
    query: str
    is_chosen: bool


def zone_of(site: Site | None) -> ZoneInfo:
    return ZoneInfo(site.time_zone if site else "UTC")


def choices(chosen: Range) -> list[Choice]:
    titles = {name: title for name, (title, _) in _LENGTHS.items()} | _MONTHS
    return [
        Choice(title, _query({"range": name}, chosen.compares), chosen.asked.get("range") == name)
        for name, title in titles.items()
    ]


def range_of(device: Vehicle | Meter, query: Mapping[str, str]) -> Range:
    """Return the range that an address asks for, without what is in the archive or before the
    device's first reading; at most three statements.
    """
    chosen = _without_archive(asked_range(query, zone_of(device.site)))
    return chosen if chosen.is_gone else _since_first_reading(device, chosen)


def asked_range(query: Mapping[str, str], zone: ZoneInfo) -> Range:
    """Return the range that an address asks for, up to now; by default, the last 24 hours."""
    now = timezone.now()
    compares = query.get("compare") == "1"
    if query.get("from") or query.get("to"):
        try:
            return _between_dates(query, zone, now)._replace(compares=compares)
        except InvalidDates as error:
            last_day = _last("24h", zone, now)._replace(compares=compares)
            return last_day.noted(f"{error}. The last 24 hours are shown instead.")
    name = query.get("range", "")
    chosen = _month(name, zone, now) if name in _MONTHS else _last(name, zone, now)
    return chosen._replace(compares=compares)


def _last(name: str, zone: ZoneInfo, now: datetime) -> Range:
    name = name if name in _LENGTHS else "24h"
    title, length = _LENGTHS[name]
    window = Window(now - length, now)
    before = Window(window.starts_at - length, window.starts_at)
    return Range({"range": name}, f"Last {title}", f"in the last {title}", window, before, zone)


def _month(name: str, zone: ZoneInfo, now: datetime) -> Range:
    """Return this month up to now, or last month, and the same part of the month before."""
    today = now.astimezone(zone).date()
    this = today.replace(day=1)
    last = _month_before(this)
    if name == "this-month":
        window = Window(_midnight(this, zone), now)
        elapsed = now.astimezone(zone).replace(tzinfo=None) - _naive_midnight(this)
        same_time = (_naive_midnight(last) + elapsed).replace(tzinfo=zone)
        before_ends_at = min(same_time.astimezone(UTC), window.starts_at)
        before = Window(_midnight(last, zone), before_ends_at)
    else:
        window = Window(_midnight(last, zone), _midnight(this, zone))
        before = Window(_midnight(_month_before(last), zone), window.starts_at)
    title = _MONTHS[name]
    return Range({"range": name}, title, title.lower(), window, before, zone)


def _between_dates(query: Mapping[str, str], zone: ZoneInfo, now: datetime) -> Range:
    """Return the days from one date to another, both included, and as many days before.

    Without one of the dates, it is the other one, or today. Errors: `InvalidDates`.
    """
    today = now.astimezone(zone).date()
    last = _date(query.get("to") or max(today.isoformat(), query["from"]))
    first = _date(query.get("from") or last.isoformat())
    starts_at, ends_at = _midnight(first, zone), _midnight(last + _DAY, zone)
    if first > last:
        raise InvalidDates("The first date must not be after the last")
    if last - first >= LONGEST:
        raise InvalidDates(f"A range has at most {LONGEST.days} days")
    if starts_at >= now:
        raise InvalidDates("The range begins in the future")
    dates = f"{first} to {last}" if first < last else f"{first}"
    asked = {"from": f"{first}", "to": f"{last}"}
    window = Window(starts_at, min(ends_at, now))
    elapsed = window.ends_at.astimezone(zone).replace(tzinfo=None) - _naive_midnight(first)
    before_starts_at = (_naive_midnight(first) - elapsed).replace(tzinfo=zone).astimezone(UTC)
    before = Window(before_starts_at, starts_at)
    within = f"from {dates}" if first < last else f"on {dates}"
    chosen = Range(asked, dates, within, window, before, zone)
    if ends_at <= now:
        return chosen
    return chosen.noted(f"The range ends in the future: it is shown until {_local(now, zone)}.")


def _without_archive(chosen: Range) -> Range:
    """Return the part of a range that history has; nothing can be said of the rest."""
    window, zone = chosen.window, chosen.zone
    gone = gone_until(window.starts_at, window.ends_at)
    if gone and gone >= window.ends_at:
        note = f"History before {_local(gone, zone)} is in the archive: nothing can be shown."
        return chosen._replace(is_gone=True, before=None).noted(note)
    if gone:
        chosen = chosen._replace(window=Window(gone, window.ends_at)).noted(
            f"Earlier history is in the archive: the range is shown from {_local(gone, zone)}."
        )
    if not chosen.compares or chosen.before is None:
        return chosen._replace(before=None)
    if gone or gone_until(chosen.before.starts_at, chosen.before.ends_at):
        return chosen._replace(before=None).noted("Not compared: the span before is archived.")
    return chosen


def _since_first_reading(device: Vehicle | Meter, chosen: Range) -> Range:
    """Return the part of a range since the day, or hour, of the device's first reading."""
    first = first_reading_at(type(device), device.pk)
    if first is None or first >= chosen.window.ends_at:
        return chosen._replace(before=None)
    since = _bound_before(first, chosen)
    if since > chosen.window.starts_at:
        window = Window(since, chosen.window.ends_at)
        chosen = chosen._replace(window=window).noted(
            f"The first reading is from {_local(first, chosen.zone)}: "
            f"the range is shown from {_local(since, chosen.zone)}."
        )
    if chosen.before is None or since <= chosen.before.starts_at:
        return chosen
    if since >= chosen.before.ends_at:
        return chosen._replace(before=None).noted("Not compared: the span before has no readings.")
    return chosen.noted(f"The span before has readings since {_local(first, chosen.zone)} only.")


def _bound_before(first: datetime, chosen: Range) -> datetime:
    """Return where the day or hour begins that the energy of a first reading is from."""
    # The energy of a reading at midnight is from before.
    local = (first - _MOMENT).astimezone(chosen.zone)
    if chosen.resolution.granularity is Granularity.DAY:
        return _midnight(local.date(), chosen.zone)
    return local.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _query(asked: dict[str, str], compares: bool) -> str:
    return urlencode(asked | ({"compare": "1"} if compares else {}))


def _date(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = date.min
    if found.year not in _YEARS:
        raise InvalidDates("Enter dates such as 2026-07-15")
    return found


def _month_before(first: date) -> date:
    return (first - _DAY).replace(day=1)


def _naive_midnight(day: date) -> datetime:
    return datetime.combine(day, time.min)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def _span(window: Window, zone: ZoneInfo) -> str:
    return f"{_local(window.starts_at, zone)} to {_local(window.ends_at, zone)}"


def _local(instant: datetime, zone: ZoneInfo) -> str:
    return f"{instant.astimezone(zone):%Y-%m-%d %H:%M %Z}"
