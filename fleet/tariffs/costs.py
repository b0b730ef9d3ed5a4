"""What energy costs: decimal, not rounded until it is shown, with what has no price beside it."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, NamedTuple

from fleet.tariffs.prices import PriceStretch

# Enough for the sum of any energies times their prices, exactly: see `Cost.rounded`.
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_WITHOUT_NOISE: Final = Decimal("1e-9")
_ZERO: Final = Decimal(0)
_NO_TIME: Final = timedelta(0)
_MICROSECOND: Final = timedelta(microseconds=1)
# ISO 4217, list one: currencies whose minor unit is not a hundredth.
_DECIMALS: Final = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}


class EnergyPiece(NamedTuple):
    """Energy that flowed evenly from one instant to another, or at once where they are equal."""

    starts_at: datetime
    ends_at: datetime
    energy_kwh: float | Decimal


class Cost(NamedTuple):
    """What energy costs, not rounded; None where none of it has a price.

    `unpriced_kwh` is the energy without a price, which the amount leaves out.
    """

    amount: Decimal | None = None
    unpriced_kwh: Decimal = _ZERO

    def __add__(self, other: "Cost") -> "Cost":  # type: ignore[override] # not joining two tuples
        amounts = [cost.amount for cost in (self, other) if cost.amount is not None]
        amount = amounts[0] if amounts else None
        if len(amounts) > 1:
            amount = _EXACT.add(*amounts)
        return Cost(amount, _EXACT.add(self.unpriced_kwh, other.unpriced_kwh))

    def rounded(self, currency: str) -> Decimal | None:
        """Return the amount with the decimals of `currency`, half to even.

        Energies are sums of binary numbers; their noise is taken off first, so that half a cent is
        half a cent.
        """
        if self.amount is None:
            return None
        clean = self.amount.quantize(_WITHOUT_NOISE, context=_EXACT)
        return clean.quantize(Decimal(1).scaleb(-decimals_of(currency)), context=_EXACT)


def decimals_of(currency: str) -> int:
    """Return how many decimals amounts of an ISO 4217 currency have."""
    return _DECIMALS.get(currency, 2)


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs in one currency; nothing costs None."""
    return sum(costs, Cost())


def cost_of(energies: Iterable[EnergyPiece], prices: Sequence[PriceStretch]) -> Cost:
    """Return what energies cost at `prices`, which are in time order.

    A piece over which the price changes is split by time. What lies outside `prices` has no price.
    """
    starts = [price.starts_at for price in prices]
    amount, unpriced_kwh = None, _ZERO
    for piece in energies:
        first = max(bisect_right(starts, piece.starts_at) - 1, 0)
        for energy_kwh, price_per_kwh in _split(piece, prices, first):
            if price_per_kwh is None:
                unpriced_kwh = _EXACT.add(unpriced_kwh, energy_kwh)
            else:
                amount = _EXACT.fma(energy_kwh, price_per_kwh, amount or _ZERO)
    return Cost(amount, unpriced_kwh)


def _split(
    piece: EnergyPiece, prices: Sequence[PriceStretch], number: int
) -> Iterator[tuple[Decimal, Decimal | None]]:
    """Yield the parts of a piece with their prices, from the one with this number on.

    Together, they are the piece.
    """
    starts_at, ends_at, energy = piece
    energy_kwh = energy if isinstance(energy, Decimal) else Decimal(str(energy))
    length = ends_at - starts_at
    left = length
    for first, last, price_per_kwh in map(prices.__getitem__, range(number, len(prices))):
        if first > starts_at and first >= ends_at:
            break
        if first <= starts_at < last and ends_at <= last:
            yield energy_kwh, price_per_kwh
            return
        overlap = min(last, ends_at) - max(first, starts_at)
        if overlap > _NO_TIME:
            left -= overlap
            yield _part(energy_kwh, overlap, length), price_per_kwh
    yield (_part(energy_kwh, left, length) if length else energy_kwh), None


def _part(energy_kwh: Decimal, of_time: timedelta, length: timedelta) -> Decimal:
    microseconds = Decimal(of_time // _MICROSECOND)
    return _EXACT.divide(_EXACT.multiply(energy_kwh, microseconds), Decimal(length // _MICROSECOND))
