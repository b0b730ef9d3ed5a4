"""What energy costs: decimal, rounded once, with what has no price beside it."""

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.tariffs.costs import Cost, EnergyPiece, cost_of, decimals_of, total
from fleet.tariffs.prices import PriceStretch

TEN = datetime(2026, 7, 15, 10, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return TEN + timedelta(minutes=minutes)


def stretch(start: float, end: float, price: str | None) -> PriceStretch:
    return PriceStretch(at(start), at(end), None if price is None else Decimal(price))


def piece(start: float, end: float, kwh: float) -> EnergyPiece:
    return EnergyPiece(at(start), at(end), kwh)


CHANGING = [stretch(0, 60, "0.30"), stretch(60, 120, "0.20"), stretch(120, 180, None)]


def test_energy_costs_the_price_in_force_when_it_was_drawn():
    # 2 kWh at 0.30 and 3 kWh at 0.20.
    assert cost_of([piece(0, 30, 2), piece(60, 90, 3)], CHANGING) == (Decimal("1.2"), 0)


def test_piece_over_which_the_price_changes_is_split_by_time():
    # 6 kWh from 10:40 to 11:10: 4 kWh at 0.30 and 2 kWh at 0.20.
    assert cost_of([piece(40, 70, 6)], CHANGING) == (Decimal("1.6"), 0)


def test_energy_without_a_price_is_counted_and_left_out():
    # 6 kWh from 11:50 to 12:20: 2 kWh at 0.20, 4 kWh without a price.
    assert cost_of([piece(110, 140, 6)], CHANGING) == (Decimal("0.4"), Decimal(4))
    assert cost_of([piece(130, 140, 6)], CHANGING) == (None, Decimal(6))
    # After the last price, and before the first.
    assert cost_of([piece(170, 190, 6)], CHANGING) == (None, Decimal(6))
    assert cost_of([piece(-10, 10, 6)], CHANGING) == (Decimal("0.9"), Decimal(3))
    assert cost_of([piece(0, 10, 6)], []) == (None, Decimal(6))


def test_energy_of_an_instant_has_the_price_of_the_instant():
    assert cost_of([piece(60, 60, 5)], CHANGING) == (Decimal(1), 0)
    assert cost_of([piece(0, 0, 5)], CHANGING) == (Decimal("1.5"), 0)
    assert cost_of([piece(180, 180, 5)], CHANGING) == (None, 5)


def test_no_energy_costs_nothing_where_there_is_a_price():
    assert cost_of([piece(0, 60, 0)], CHANGING).rounded("EUR") == Decimal("0.00")
    assert cost_of([piece(120, 180, 0)], CHANGING).rounded("EUR") is None
    assert cost_of([], CHANGING) == Cost(None, 0)


def test_price_below_zero_is_earned():
    assert cost_of([piece(0, 60, 10)], [stretch(0, 60, "-0.05")]).amount == Decimal("-0.5")


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        ("0.125", "EUR", "0.12"),
        ("0.135", "EUR", "0.14"),
        ("-0.125", "EUR", "-0.12"),
        ("2.5", "JPY", "2"),
        ("3.5", "JPY", "4"),
        ("0.0005", "KWD", "0.000"),
        ("0.0015", "KWD", "0.002"),
        ("1", "EUR", "1.00"),
        ("1e12", "EUR", "1000000000000.00"),
    ],
)
def test_amount_has_the_decimals_of_its_currency_half_to_even(amount, currency, shown):
    assert str(Cost(Decimal(amount)).rounded(currency)) == shown


def test_unknown_currency_has_two_decimals():
    assert [decimals_of(currency) for currency in ("XXX", "CLF", "JPY")] == [2, 4, 0]


def test_noise_of_binary_numbers_does_not_decide_half_a_cent():
    # 0.1 + 0.2 is a little more than 0.3: 0.3 kWh at 0.15 is 0.045, so 0.04.
    cost = cost_of([piece(0, 60, 0.1 + 0.2)], [stretch(0, 60, "0.15")])

    assert cost.rounded("EUR") == Decimal("0.04")


def test_cents_are_rounded_once_at_the_end():
    # Three times 0.004 is 0.012: 0.01, where three rounded amounts are 0.00.
    costs = [cost_of([piece(0, 60, 0.02)], [stretch(0, 60, "0.2")])] * 3

    assert total(costs).rounded("EUR") == Decimal("0.01")


def test_sum_with_a_part_without_a_price_says_so():
    priced, unpriced = Cost(Decimal("0.5")), Cost(None, Decimal(3))

    assert priced + unpriced == Cost(Decimal("0.5"), Decimal(3))
    assert unpriced + unpriced == Cost(None, Decimal(6))


KWH = st.floats(-1e6, 1e6, allow_nan=False)
PRICES = st.none() | st.decimals(-100, 100, places=6)


@given(
    energies=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 90), KWH), max_size=8),
    prices=st.lists(PRICES, min_size=1, max_size=40),
    cuts=st.sets(st.integers(1, 599), max_size=6),
)
def test_costs_of_pieces_are_the_cost_of_the_whole(energies, prices, cuts):
    stretches = [
        PriceStretch(at(15 * number), at(15 * number + 15), price)
        for number, price in enumerate(prices)
    ]
    whole = [piece(start, start + length, kwh) for start, length, kwh in energies]
    bounds = sorted({0, 600, *cuts})

    pieces = [
        cost_of([part for one in whole if (part := within(one, start, end))], stretches)
        for start, end in itertools.pairwise(bounds)
    ]

    once, added = cost_of(whole, stretches), total(pieces)
    assert (once.amount is None) == (added.amount is None)
    with localcontext(prec=60):
        assert abs((once.amount or 0) - (added.amount or 0)) < Decimal("1e-40")
        assert abs(once.unpriced_kwh - added.unpriced_kwh) < Decimal("1e-40")


def within(one: EnergyPiece, start: float, end: float) -> EnergyPiece | None:
    """Return the part of a piece that lies in a span, exactly."""
    first, last = max(one.starts_at, at(start)), min(one.ends_at, at(end))
    length = one.ends_at - one.starts_at
    if not length:
        return one if at(start) <= one.starts_at < at(end) else None
    if first >= last:
        return None
    minutes, of = (last - first) // timedelta(minutes=1), length // timedelta(minutes=1)
    with localcontext(prec=60):
        return EnergyPiece(first, last, Decimal(str(one.energy_kwh)) * minutes / of)
