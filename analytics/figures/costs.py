"""What vehicles' losses cost, by the price in force at the site of the meter."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain, pairwise
from typing import NamedTuple

from analytics.figures.accounts import Account, Part, parts_of
from analytics.figures.energy import Span
from analytics.figures.links import Slice
from fleet.models import Meter
from fleet.tariffs.costs import Cost, EnergyPiece, cost_of
from fleet.tariffs.prices import PriceStretch, SitePrices, site_prices


class LossCost(NamedTuple):
    """What a loss costs, in the currency of the last meter's site; None if it has no site.

    What was lost at meters of other currencies, or of no site, counts as without a price.
    """

    currency: str | None
    cost: Cost


def loss_costs(accounts: Sequence[Account]) -> list[LossCost]:
    """Return what the AC less DC of each account costs, in their order.

    AC and DC are those that the efficiency compares. No statement without linked meters; else two,
    one more for price series, and those of energies where a price changes while a meter is linked.
    """
    parts = [part for account in accounts for part in account.parts]
    prices = _prices_of_meters(parts)
    pieces = iter(_at_one_price(accounts, prices))
    return [
        _loss_cost(account, [next(pieces) for _ in account.parts], prices) for account in accounts
    ]


def _loss_cost(
    account: Account, pieces: Sequence[Sequence[Part]], prices: Mapping[str, SitePrices]
) -> LossCost:
    last = prices.get(account.parts[-1].slice.meter.device_id) if account.parts else None
    currency = last.currency if last else None
    cost = Cost()
    for part in chain.from_iterable(pieces):
        own = prices.get(part.slice.meter.device_id)
        known = own.stretches if own and own.currency == currency else []
        cost += cost_of([_lost(part)], known)
    return LossCost(currency, cost)


def _lost(part: Part) -> EnergyPiece:
    meter = part.slice.meter
    return EnergyPiece(meter.starts_at, meter.ends_at, part.energy_ac_kwh - part.energy_dc_kwh)


def _prices_of_meters(parts: Sequence[Part]) -> dict[str, SitePrices]:
    """Return the prices at the meters of `parts`, around all of them; without meters of no site."""
    meters = [part.slice.meter for part in parts]
    if not meters:
        return {}
    at_sites = Meter.objects.filter(
        pk__in={meter.device_id for meter in meters}, site__isnull=False
    )
    sites = dict(at_sites.values_list("pk", "site_id"))
    starts_at = min(meter.starts_at for meter in meters)
    ends_at = max(meter.ends_at for meter in meters)
    prices = site_prices({*sites.values()}, starts_at, ends_at)
    return {meter_id: prices[site_id] for meter_id, site_id in sites.items() if site_id in prices}


def _at_one_price(
    accounts: Sequence[Account], prices: Mapping[str, SitePrices]
) -> list[list[Part]]:
    """Return each part of the accounts, cut where its price changes."""
    found: list[list[Part]] = []
    cuts: list[tuple[int, str, Slice]] = []
    for account in accounts:
        for part in account.parts:
            meter = part.slice.meter
            own = prices.get(meter.device_id)
            bounds = _changes(own.stretches, meter.starts_at, meter.ends_at) if own else []
            found.append([] if bounds else [part])
            edges = [meter.starts_at, *bounds, meter.ends_at] if bounds else []
            for edge in pairwise(edges):
                cut = Slice(Span(meter.device_id, *edge), part.slice.vehicle_ids)
                cuts.append((len(found) - 1, account.vehicle.device_id, cut))
    pieces = parts_of([(vehicle_id, cut) for _, vehicle_id, cut in cuts]) if cuts else []
    for (number, _, _), piece in zip(cuts, pieces, strict=True):
        found[number].append(piece)
    return found


def _changes(
    stretches: Sequence[PriceStretch], starts_at: datetime, ends_at: datetime
) -> list[datetime]:
    """Return when the price changes between two instants."""
    first = bisect_right(stretches, starts_at, key=lambda stretch: stretch.starts_at)
    last = bisect_left(stretches, ends_at, key=lambda stretch: stretch.starts_at)
    return [stretch.starts_at for stretch in stretches[first:last]]
