"""Change the tariffs of a site, so that no two writers mix theirs."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from django.db import models, transaction

from fleet.stores.statements import Statement
from fleet.tariffs.models import SeriesPrice, Tariff, TariffKind, TariffRule
from fleet.tariffs.weeks import QUARTER_MINUTES

_QUARTER: Final = timedelta(minutes=QUARTER_MINUTES)
_store_series_prices: Final = Statement(Path(__file__).parent / "sql" / "store_series_prices.sql")


class HasOtherTariffs(Exception):
    """The site has tariffs that one price can't stand for; nothing was changed."""


def set_only_price(site: models.Model, price_per_kwh: Decimal | None) -> None:
    """Give a site one fixed tariff at all times, or none.

    Errors: `HasOtherTariffs`, if it has any other tariff.
    """
    with transaction.atomic():
        lock(site)
        tariffs: Any = Tariff.objects.filter(site_id=site.pk)
        if any(not is_only_price(tariff) for tariff in tariffs):
            raise HasOtherTariffs
        tariffs.delete()
        if price_per_kwh is not None:
            Tariff.objects.create(site_id=site.pk, price_per_kwh=price_per_kwh)


def is_only_price(tariff: Tariff) -> bool:
    """Return whether a tariff is one price at all times, if it is the only one of its site."""
    return tariff.kind == TariffKind.FIXED and tariff.valid_from is None


def lock(site: models.Model) -> None:
    """Let other writers of the site's tariffs wait until the end of the transaction."""
    sites = type(site)._default_manager.filter(pk=site.pk)
    list(sites.select_for_update(no_key=True).values_list("pk"))


class BeginsWithAnother(Exception):
    """The site has another tariff from the same day on; nothing was changed."""


class Stored(NamedTuple):
    """How many quarter hours got a price, and how many others lost theirs."""

    stored: int
    removed: int


def save_tariff(tariff: Tariff, rules: Sequence[Mapping[str, Any]]) -> None:
    """Save a tariff with these rules, in place of those it had. Errors: `BeginsWithAnother`."""
    with transaction.atomic():
        lock(tariff.site)
        others = Tariff.objects.filter(site=tariff.site, valid_from=tariff.valid_from)
        if others.exclude(pk=tariff.pk).exists():
            raise BeginsWithAnother
        tariff.save()
        tariff.rules.all().delete()
        TariffRule.objects.bulk_create(TariffRule(tariff=tariff, **rule) for rule in rules)


def store_series(
    site: models.Model, starts_at: datetime, prices: Sequence[Decimal | None]
) -> Stored:
    """Store the prices of successive quarter hours of a site's series; None removes one.

    Two statements, in one transaction, for any number of prices.
    """
    priced = [(number, price) for number, price in enumerate(prices) if price is not None]
    ends_at = starts_at + len(prices) * _QUARTER
    with transaction.atomic():
        lock(site)
        before: Any = SeriesPrice.objects.filter(
            site_id=site.pk, starts_at__gte=starts_at, starts_at__lt=ends_at
        )
        had = set(before.values_list("starts_at", flat=True))
        before.delete()
        _store_series_prices.rows(
            {
                "site_id": site.pk,
                "starts_at": [starts_at + number * _QUARTER for number, _ in priced],
                "prices_per_kwh": [price for _, price in priced],
            }
        )
    kept = {starts_at + number * _QUARTER for number, _ in priced}
    return Stored(len(priced), len(had - kept))
