"""Import the prices of a site's series from a CSV file."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fleet.models import Site
from fleet.tariffs.changes import store_series
from ingestion.files.formats import Unreadable
from ingestion.files.opening import Member
from ingestion.files.prices import Layout, Series, read_series
from ingestion.files.reading import NotThatFormat
from ingestion.files.times import Times, duration, zone


class Command(BaseCommand):
    """Store prices of quarter hours or hours, in place of those of the same time."""

    help = (
        "Import the price series of a site from a CSV file, also gzipped. The prices are in force "
        "while the site has a tariff of kind series. If a line is wrong, nothing is imported."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="import")
        importing = actions.add_parser("import", help="import prices from a file")
        add = importing.add_argument
        add("file", type=Path, metavar="FILE.csv")
        add("--site", required=True, help="name of the site")
        add("--time-column", default="start", help="when a price begins to apply; default start")
        add("--price-column", default="pricePerKwh", help="default pricePerKwh")
        add(
            "--scale",
            type=_factor,
            default=Decimal(1),
            help="price per kWh for a price of 1 in the file: 0.001 for prices per MWh",
        )
        add("--every", type=_argument(duration), help="how long a price applies: 15m or 1h")
        add("--tz", type=_argument(zone), help="time zone of times without an offset")
        add(
            "--time-format", help="such as '%%d.%%m.%%Y %%H:%%M', unix or unix_ms; default ISO 8601"
        )
        add("--separator", default=",", help="between columns; default a comma")
        add("--decimal-mark", default=".", help="default a point")
        add("--encoding", help="default UTF-8")
        add("--dry-run", action="store_true", help="read the file, and store nothing")

    def handle(self, **options: Any) -> None:
        site = Site.objects.filter(name=options["site"]).first()
        if site is None:
            raise CommandError(f"There is no site named {options['site']}")
        series = _read(options)
        known = sum(price is not None for price in series.prices)
        if options["dry_run"]:
            self.stdout.write(f"Nothing was stored. {_summary(series, known)}")
            return
        outcome = store_series(site, series.starts_at, series.prices)
        replaced = f" {outcome.removed:,} lost theirs." if outcome.removed else ""
        self.stdout.write(f"{_summary(series, known)}{replaced}")


def _read(options: dict[str, Any]) -> Series:
    """Errors: `CommandError`."""
    path: Path = options["file"]
    of_zone: tzinfo | None = options["tz"]
    layout = Layout(
        Times(options["time_format"], of_zone),
        options["time_column"],
        options["price_column"],
        options["separator"],
        options["decimal_mark"],
        options["scale"],
        options["every"],
    )
    try:
        with path.open("rb") as raw, Member(path.name, raw).text(options["encoding"]) as text:
            return read_series(text, layout)
    except (OSError, Unreadable, NotThatFormat) as error:
        raise CommandError(f"{path}: {error}") from None


def _summary(series: Series, known: int) -> str:
    last = series.starts_at + timedelta(minutes=15) * len(series.prices)
    return (
        f"{known:,} quarter hours have a price, from {series.starts_at:%Y-%m-%d %H:%M} to "
        f"{last:%Y-%m-%d %H:%M} UTC; {len(series.prices) - known:,} have none."
    )


def _factor(text: str) -> Decimal:
    try:
        factor = Decimal(text)
    except InvalidOperation:
        factor = Decimal(0)
    if not (factor.is_finite() and factor > 0):
        raise ArgumentTypeError("must be a number above 0")
    return factor


def _argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def argument(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return argument
