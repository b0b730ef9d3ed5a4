"""Weeks of prices as pictures: seven days by 24 hours, each price in a shade of its own."""

from collections.abc import Sequence
from datetime import time
from decimal import Decimal
from typing import Final, NamedTuple

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from fleet.tariffs.weeks import QUARTERS_PER_DAY, WEEKDAYS, Run, Week, runs

_SHADES: Final = 6
_ROW: Final = 18
_LEFT: Final = 34
_TOP: Final = 14
_QUARTER_WIDTH: Final = 6
# A run of at least two and a half hours has room for its price.
_WORDS_FROM: Final = 10
_PRICES_LISTED: Final = 8


class Box(NamedTuple):
    """A run of a day in the picture; `shade` 0 is a time without a price."""

    x: int
    width: int
    shade: int
    words: str
    title: str


class Row(NamedTuple):
    """A day in the picture."""

    y: int
    name: str
    boxes: list[Box]


class Swatch(NamedTuple):
    """A price and its shade, for the legend."""

    shade: int
    words: str


def week_picture(week: Week, currency: str) -> SafeString:
    """Return the picture of a week of prices, with a legend."""
    days = [runs(week, weekday) for weekday in range(1, len(WEEKDAYS) + 1)]
    return picture(list(zip([day.capitalize() for day in WEEKDAYS], days, strict=True)), currency)


def picture(days: Sequence[tuple[str, Sequence[Run]]], currency: str) -> SafeString:
    """Return the picture of named days, whose runs fill them, with a legend."""
    prices = {run.price_per_kwh for _, of_day in days for run in of_day}
    shades = _shades(sorted(price for price in prices if price is not None))
    rows = [
        Row(_TOP + number * _ROW, name, [_box(name, run, shades, currency) for run in of_day])
        for number, (name, of_day) in enumerate(days)
    ]
    has_gaps = any(run.price_per_kwh is None for _, of_day in days for run in of_day)
    context = {
        "rows": rows,
        "hours": [(_LEFT + hour * 4 * _QUARTER_WIDTH, hour) for hour in range(0, 25, 3)],
        "width": _LEFT + QUARTERS_PER_DAY * _QUARTER_WIDTH + 12,
        "height": _TOP + len(rows) * _ROW,
        "row_height": _ROW - 2,
        "left": _LEFT,
        "legend": _legend(shades, currency),
        "has_gaps": has_gaps,
    }
    return SafeString(render_to_string("console/week.html", context))


def _shades(prices: Sequence[Decimal]) -> dict[Decimal | None, int]:
    """Return the shade of each price, darker for higher ones."""
    last = max(len(prices) - 1, 1)
    shades: dict[Decimal | None, int] = {None: 0}
    for place, price in enumerate(prices):
        shades[price] = 1 + round(place * (_SHADES - 1) / last)
    return shades


def _box(day: str, run: Run, shades: dict[Decimal | None, int], currency: str) -> Box:
    price = run.price_per_kwh
    words = "no price" if price is None else price_words(price)
    times = f"{day} {run.start:%H:%M} to {end_words(run.end)}"
    return Box(
        _LEFT + run.first * _QUARTER_WIDTH,
        (run.after - run.first) * _QUARTER_WIDTH,
        shades[price],
        words if run.after - run.first >= _WORDS_FROM else "",
        f"{times}: {words}" if price is None else f"{times}: {words} {currency}",
    )


def _legend(shades: dict[Decimal | None, int], currency: str) -> list[Swatch]:
    prices = [price for price in shades if price is not None]
    if len(prices) <= _PRICES_LISTED:
        return [Swatch(shades[price], f"{price_words(price)} {currency}") for price in prices]
    ends = [prices[0], prices[len(prices) // 2], prices[-1]]
    return [Swatch(shades[price], f"{price_words(price)} {currency}") for price in ends]


def end_words(end: time) -> str:
    """Return when a part of a day ends; midnight is 24:00."""
    return "24:00" if end == time() else f"{end:%H:%M}"


def price_words(price: Decimal) -> str:
    """Return a price without needless zeros, with at least two decimals."""
    text = f"{price.normalize():f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.ljust(2, '0')}"
