"""Amounts of money in words."""

from fleet.tariffs.costs import Cost


def shown_money(cost: Cost, currency: str) -> str:
    """Return an amount with the decimals of its currency; empty where nothing has a price."""
    amount = cost.rounded(currency)
    return "" if amount is None else f"{amount:,f} {currency}"
