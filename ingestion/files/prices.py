"""Prices out of a CSV file: a time and a price per line, for quarter hours or hours."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Final, NamedTuple

from fleet.http.wire import listed
from fleet.tariffs.models import MAX_PER_KWH, PRICE_DECIMALS
from fleet.tariffs.prices import QUARTER
from ingestion.files.formats import Unreadable
from ingestion.files.times import NotATime, Times

_HOUR: Final = timedelta(hours=1)
_ERRORS_SHOWN: Final = 10


class Layout(NamedTuple):
    """How a file is written; `scale` is kWh prices per unit of the file, 0.001 for MWh."""

    times: Times
    time_column: str = "start"
    price_column: str = "pricePerKwh"
    separator: str = ","
    decimal_mark: str = "."
    scale: Decimal = Decimal(1)
    every: timedelta | None = None


class Series(NamedTuple):
    """The prices of successive quarter hours; None where the file has none."""

    starts_at: datetime
    prices: list[Decimal | None]


class _Line(NamedTuple):
    number: int
    starts_at: datetime
    price_per_kwh: Decimal | None


def read_series(text: Iterable[str], layout: Layout) -> Series:
    """Return the prices of a file, from its first time to its last.

    A line without a price is a time without one. Each price applies for `every`; without it, for
    the shortest time between two lines.
    Errors: `Unreadable`, which lists the lines that are wrong.
    """
    lines, errors = _lines(csv.DictReader(text, delimiter=layout.separator), layout)
    _refuse(errors)
    if not lines:
        raise Unreadable("the file has no prices")
    lines.sort(key=lambda line: line.starts_at)
    every = layout.every or min(
        (after.starts_at - before.starts_at for before, after in pairwise(lines)), default=_HOUR
    )
    _refuse(
        f"line {after.number}: begins before the price of line {before.number} ends"
        for before, after in pairwise(lines)
        if after.starts_at - before.starts_at < max(every, QUARTER)
    )
    if every not in (QUARTER, _HOUR):
        minutes = every // timedelta(minutes=1)
        raise Unreadable(f"the prices must be 15 or 60 minutes apart, not {minutes}: see --every")
    first, quarters = lines[0].starts_at, every // QUARTER
    prices: list[Decimal | None] = [None] * ((lines[-1].starts_at - first) // QUARTER + quarters)
    for line in lines:
        place = (line.starts_at - first) // QUARTER
        prices[place : place + quarters] = [line.price_per_kwh] * quarters
    return Series(first, prices)


def _refuse(errors: Iterable[str]) -> None:
    """Errors: `Unreadable`, if there are any."""
    found = list(errors)
    if found:
        more = [f"and {len(found) - _ERRORS_SHOWN:,} more"] if len(found) > _ERRORS_SHOWN else []
        raise Unreadable("\n".join([*found[:_ERRORS_SHOWN], *more]))


def _lines(rows: "csv.DictReader[str]", layout: Layout) -> tuple[list[_Line], list[str]]:
    columns = rows.fieldnames or []
    for column, option in ((layout.time_column, "time"), (layout.price_column, "price")):
        if column not in columns:
            raise Unreadable(
                f"the file has no column {column}, but {listed(columns)}: "
                f"name it with --{option}-column"
            )
    lines, errors = [], []
    for row in _rows(rows):
        try:
            lines.append(_line(rows.line_num, row, layout))
        except ValueError as error:
            errors.append(f"line {rows.line_num}: {error}")
    return lines, errors


def _rows(rows: "csv.DictReader[str]") -> Iterator[Mapping[str, str]]:
    try:
        yield from rows
    except csv.Error as error:
        raise Unreadable(f"line {rows.line_num}: {error}") from None


def _line(number: int, row: Mapping[str, str | None], layout: Layout) -> _Line:
    """Errors: `ValueError`, also `NotATime`."""
    starts_at = layout.times.instant((row[layout.time_column] or "").strip())
    if starts_at.minute % 15 or starts_at.second or starts_at.microsecond:
        raise NotATime("the time is not at a full quarter hour")
    text = (row[layout.price_column] or "").strip()
    return _Line(number, starts_at, _price(text, layout) if text else None)


def _price(text: str, layout: Layout) -> Decimal:
    try:
        found = Decimal(text.replace(layout.decimal_mark, ".")) * layout.scale
    except InvalidOperation:
        raise ValueError("the price is not a number") from None
    if not (found.is_finite() and abs(found) <= MAX_PER_KWH):
        raise ValueError(f"the price must be from {-MAX_PER_KWH:,} to {MAX_PER_KWH:,} per kWh")
    rounded = round(found, PRICE_DECIMALS)
    if rounded != found:
        raise ValueError(f"the price must have at most {PRICE_DECIMALS} decimals per kWh")
    return rounded
