"""The price in force at any time: a site's tariffs, laid over time in its time zone."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from fleet.stores.statements import Statement
from fleet.tariffs.models import TariffKind
from fleet.tariffs.weeks import QUARTER_MINUTES, Rule, Run, Week, runs, week_of

QUARTER: Final = timedelta(minutes=QUARTER_MINUTES)
_DAY: Final = timedelta(days=1)
_SQL: Final = Path(__file__).parent / "sql"
_tariffs_of_sites: Final = Statement(_SQL / "tariffs_of_sites.sql")
_in_series: Final = Statement(_SQL / "series_stretches.sql")


class PriceStretch(NamedTuple):
    """A span of time with one price per kWh, half-open; None: without a price."""

    starts_at: datetime
    ends_at: datetime
    price_per_kwh: Decimal | None


class SitePrices(NamedTuple):
    """The prices of a site over a span, and their currency."""

    currency: str
    stretches: Sequence[PriceStretch]


class PlannedTariff(NamedTuple):
    """A tariff as a plain value: from a local date on, a week of prices; None: the series."""

    valid_from: date | None
    week: Week | None

    @property
    def is_fixed(self) -> bool:
        return self.week is not None and len(set(self.week)) == 1


class _Site(NamedTuple):
    zone: ZoneInfo
    currency: str
    tariffs: list[PlannedTariff]

    @property
    def has_series(self) -> bool:
        return any(tariff.week is None for tariff in self.tariffs)


class _Offset(NamedTuple):
    """A span of time over which local time is this far ahead of UTC."""

    starts_at: datetime
    ends_at: datetime
    ahead: timedelta


def site_prices(
    site_ids: Collection[int], starts_at: datetime, ends_at: datetime
) -> dict[int, SitePrices]:
    """Return the prices of sites from one instant to another; unknown sites are absent.

    Shape: the stretches of a site fill the span in time order, and no two neighbours have the same
    price. Statements: one for any number of sites; one more if any has a series.
    """
    sites = _sites(site_ids)
    in_series = [site_id for site_id, site in sites.items() if site.has_series]
    series = series_stretches(in_series, starts_at, ends_at)
    return {
        site_id: SitePrices(
            site.currency,
            price_stretches(site.tariffs, series.get(site_id, []), site.zone, starts_at, ends_at),
        )
        for site_id, site in sites.items()
    }


def _sites(site_ids: Collection[int]) -> dict[int, _Site]:
    rows = _tariffs_of_sites.rows({"site_ids": list(site_ids)}) if site_ids else []
    sites = {}
    for site_id, of_site in groupby(rows, attrgetter("site_id")):
        own = list(of_site)
        sites[site_id] = _Site(ZoneInfo(own[0].time_zone), own[0].currency, list(_planned(own)))
    return sites


def _planned(rows: Iterable[Any]) -> Iterator[PlannedTariff]:
    for tariff_id, of_tariff in groupby(rows, attrgetter("tariff_id")):
        own = list(of_tariff)
        first = own[0]
        if tariff_id is None:
            continue
        if first.kind == TariffKind.SERIES:
            yield PlannedTariff(first.valid_from, None)
            continue
        rules = [
            Rule(row.weekdays, row.start, row.end, row.price_per_kwh)
            for row in own
            if row.weekdays is not None and first.kind == TariffKind.TIME_OF_USE
        ]
        yield PlannedTariff(first.valid_from, week_of(rules, first.otherwise_per_kwh))


def series_stretches(
    site_ids: Collection[int], starts_at: datetime, ends_at: datetime
) -> dict[int, list[PriceStretch]]:
    """Return the prices that were sent for sites, in time order; one statement, or none.

    Shape: stretches by site; times without a price, and sites without any, are absent.
    """
    if not site_ids:
        return {}
    span = {"site_ids": list(site_ids), "starts_at": starts_at, "ends_at": ends_at}
    series: dict[int, list[PriceStretch]] = defaultdict(list)
    for row in _in_series.rows(span):
        series[row.site_id].append(PriceStretch(row.starts_at, row.ends_at, row.price_per_kwh))
    return series


# --- Laid over time ---------------------------------------------------------------------------


def price_stretches(
    tariffs: Sequence[PlannedTariff],
    series: Sequence[PriceStretch],
    zone: ZoneInfo,
    starts_at: datetime,
    ends_at: datetime,
) -> list[PriceStretch]:
    """Return the prices of a span, without the database: see `site_prices`.

    `tariffs` are in the order in which they begin, `series` in time order. A local time that comes
    twice has its price twice; one that is skipped has no energy, so no price.
    """
    pieces = (
        piece
        for offset in _offsets(zone, starts_at, ends_at)
        for piece in _of_offset(offset, tariffs, series)
    )
    return _merged(pieces)


def _offsets(zone: ZoneInfo, starts_at: datetime, ends_at: datetime) -> Iterator[_Offset]:
    """Yield the span in parts of one offset each; clocks change at full quarter hours of UTC."""
    first = reached = starts_at.astimezone(UTC)
    ends_at = ends_at.astimezone(UTC)
    ahead = _ahead(zone, first)
    while reached < ends_at:
        after = min(reached + _DAY, ends_at)
        if _ahead(zone, after) == ahead:
            reached = after
            continue
        reached = _next_quarter(reached)
        while _ahead(zone, reached) == ahead:
            reached += QUARTER
        yield _Offset(first, min(reached, ends_at), ahead)
        first = reached
        ahead = _ahead(zone, reached)
    if first < ends_at:
        yield _Offset(first, ends_at, ahead)


def _ahead(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)


def _next_quarter(instant: datetime) -> datetime:
    whole = instant.replace(
        minute=instant.minute - instant.minute % QUARTER_MINUTES, second=0, microsecond=0
    )
    return whole + QUARTER


def _of_offset(
    offset: _Offset, tariffs: Sequence[PlannedTariff], series: Sequence[PriceStretch]
) -> Iterator[PriceStretch]:
    """Yield the prices of a span in which local time is UTC plus a constant."""
    starts_at, ends_at, ahead = offset
    begin = [*(_midnight(tariff, ahead) for tariff in tariffs), ends_at]
    yield PriceStretch(starts_at, min(begin[0], ends_at), None)
    for number, tariff in enumerate(tariffs):
        first, last = max(begin[number], starts_at), min(begin[number + 1], ends_at)
        if first >= last:
            continue
        if tariff.week is None:
            yield from _of_series(series, first, last)
        elif tariff.is_fixed:
            yield PriceStretch(first, last, tariff.week[0])
        else:
            yield from _of_week(tariff.week, first, last, ahead)


def _midnight(tariff: PlannedTariff, ahead: timedelta) -> datetime:
    if tariff.valid_from is None:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.combine(tariff.valid_from, time(), UTC) - ahead


def _of_series(
    series: Sequence[PriceStretch], starts_at: datetime, ends_at: datetime
) -> Iterator[PriceStretch]:
    reached = starts_at
    for stretch in series:
        first, last = max(stretch.starts_at, starts_at), min(stretch.ends_at, ends_at)
        if first < last:
            yield PriceStretch(reached, first, None)
            yield PriceStretch(first, last, stretch.price_per_kwh)
            reached = last
    yield PriceStretch(reached, ends_at, None)


def _of_week(
    week: Week, starts_at: datetime, ends_at: datetime, ahead: timedelta
) -> Iterator[PriceStretch]:
    # The first local midnight at or before the start, as if local time were UTC.
    midnight = (starts_at + ahead).replace(hour=0, minute=0, second=0, microsecond=0)
    of_weekdays: dict[int, list[Run]] = {}
    while midnight - ahead < ends_at:
        weekday = midnight.isoweekday()
        if weekday not in of_weekdays:
            of_weekdays[weekday] = runs(week, weekday)
        for run in of_weekdays[weekday]:
            first = midnight + run.first * QUARTER - ahead
            last = midnight + run.after * QUARTER - ahead
            yield PriceStretch(max(first, starts_at), min(last, ends_at), run.price_per_kwh)
        midnight += _DAY


def _merged(pieces: Iterable[PriceStretch]) -> list[PriceStretch]:
    """Join neighbours of the same price, and drop what is empty."""
    merged: list[PriceStretch] = []
    for piece in pieces:
        if piece.starts_at >= piece.ends_at:
            continue
        if merged and merged[-1].price_per_kwh == piece.price_per_kwh:
            merged[-1] = merged[-1]._replace(ends_at=piece.ends_at)
        else:
            merged.append(piece)
    return merged
