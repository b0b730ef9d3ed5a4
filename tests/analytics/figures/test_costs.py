"""What a vehicle's loss costs: by the price in force at the meter's site when AC was drawn."""

from decimal import Decimal

import pytest

from analytics.figures import snapshot
from analytics.figures.costs import LossCost, loss_costs
from analytics.figures.performance import vehicle_account
from analytics.figures.unlinked import unlinked_energy
from analytics.figures.window import Window
from analytics.models import VehicleDay
from fleet.links import link_vehicle
from fleet.tariffs.costs import Cost
from fleet.tariffs.models import SeriesPrice, Tariff, TariffRule
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading
from tests.factories import MeterFactory, SiteFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

MORNING = Window(at("08:00"), NOON)
ALL_DAYS = [1, 2, 3, 4, 5, 6, 7]


def loss_cost(vehicle_id: str, window: Window = MORNING) -> LossCost:
    (cost,) = loss_costs([vehicle_account(vehicle_id, window, unlinked_energy)])
    return cost


@pytest.fixture
def by_time():
    """A site in London, an hour ahead of UTC: 0.20 until 11:00, 10:00 UTC, then 0.30."""
    site = SiteFactory(time_zone="Europe/London", currency="GBP")
    tariff = Tariff.objects.create(site=site, kind="time_of_use", price_per_kwh="0.30")
    TariffRule.objects.create(
        tariff=tariff, weekdays=ALL_DAYS, start="00:00", end="11:00", price_per_kwh="0.20"
    )
    return site


def charge(vehicle_id: str, meter_id: str, ac_kwh: float, dc_kwh: float) -> None:
    """Let AC and DC flow evenly from 09:30 to 10:30 UTC."""
    record([meter_reading(meter_id, "09:30", 0.0), vehicle_reading(vehicle_id, "09:30", 0.0)], NOON)
    record(
        [meter_reading(meter_id, "10:30", ac_kwh), vehicle_reading(vehicle_id, "10:30", dc_kwh)],
        NOON,
    )


def test_loss_over_a_change_of_price_is_split_by_time(by_time):
    MeterFactory(meter_id="M1", site=by_time)
    link_vehicle("V1", "M1", at("08:00"))
    charge("V1", "M1", 12.0, 10.0)

    # 6 - 5 kWh at 0.20 and 6 - 5 kWh at 0.30.
    assert loss_cost("V1") == LossCost("GBP", Cost(Decimal("0.5")))


def test_losses_of_pieces_add_up_to_that_of_the_window(by_time):
    MeterFactory(meter_id="M1", site=by_time)
    link_vehicle("V1", "M1", at("08:00"))
    charge("V1", "M1", 12.0, 10.0)

    bounds = [at("08:00"), at("09:45"), at("10:00"), at("10:15"), NOON]
    pieces = [
        loss_cost("V1", Window(*bounds[number : number + 2])).cost.amount for number in range(4)
    ]

    # A quarter of 2 kWh in each quarter hour of charging.
    assert [float(piece) for piece in pieces] == pytest.approx([0.1, 0.1, 0.15, 0.15])


def test_vehicles_at_one_meter_share_its_loss_in_each_piece(by_time):
    MeterFactory(meter_id="M1", site=by_time)
    for vehicle_id in ("V1", "V2"):
        link_vehicle(vehicle_id, "M1", at("08:00"))
    record([meter_reading("M1", "09:30", 0.0), meter_reading("M1", "10:00", 5.0)], NOON)
    record([meter_reading("M1", "10:30", 6.0)], NOON)
    # V1 takes 4 until 10:00, V2 4 after it.
    record([vehicle_reading("V1", "09:30", 0.0), vehicle_reading("V1", "10:00", 4.0)], NOON)
    record([vehicle_reading("V2", "10:00", 0.0), vehicle_reading("V2", "10:30", 4.0)], NOON)

    assert loss_cost("V1").cost.rounded("GBP") == Decimal("0.20")  # 1 kWh at 0.20
    assert loss_cost("V2").cost.rounded("GBP") == Decimal("0.60")  # 2 kWh at 0.30


def test_time_without_a_price_is_not_guessed(by_time):
    Tariff.objects.update(price_per_kwh=None)
    MeterFactory(meter_id="M1", site=by_time)
    link_vehicle("V1", "M1", at("08:00"))
    charge("V1", "M1", 12.0, 10.0)

    assert loss_cost("V1") == LossCost("GBP", Cost(Decimal("0.2"), Decimal(1)))


def test_series_prices_each_hour():
    site = SiteFactory()
    Tariff.objects.create(site=site, kind="series")
    for minute, price in (("09:30", 1), ("09:45", 2), ("10:00", 3)):
        SeriesPrice.objects.create(site=site, starts_at=at(minute), price_per_kwh=price)
    MeterFactory(meter_id="M1", site=site)
    link_vehicle("V1", "M1", at("08:00"))
    charge("V1", "M1", 12.0, 8.0)

    # 1 kWh in each quarter hour, the last without a price.
    assert loss_cost("V1") == LossCost("EUR", Cost(Decimal(6), Decimal(1)))


def test_meters_of_another_currency_or_of_no_site_count_as_without_a_price():
    MeterFactory(meter_id="M1", site=SiteFactory(price_per_kwh="0.1", currency="CHF"))
    MeterFactory(meter_id="M2", site=SiteFactory(price_per_kwh="0.5"))
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V1", "M2", at("10:00"))
    charge("V1", "M1", 6.0, 10.0)
    record([meter_reading("M2", "09:30", 0.0), meter_reading("M2", "10:30", 12.0)], NOON)
    link_vehicle("V2", "M3", at("08:00"))
    charge("V2", "M3", 12.0, 10.0)

    # M1 3 - 5 kWh, M2 6 - 5 kWh at 0.5.
    assert loss_cost("V1") == LossCost("EUR", Cost(Decimal("0.5"), Decimal(-2)))
    assert loss_cost("V2") == LossCost(None, Cost(None, Decimal(2)))


def test_vehicle_without_a_link_has_no_loss():
    record([meter_reading("M1", "09:30", 12.0), vehicle_reading("V1", "09:30", 10.0)], NOON)

    assert loss_cost("V1") == LossCost(None, Cost())


def test_fixed_price_takes_no_energy_again(statements_sent):
    MeterFactory(meter_id="M1", site=SiteFactory(price_per_kwh="0.5"))
    link_vehicle("V1", "M1", at("08:00"))
    charge("V1", "M1", 12.0, 10.0)
    account = vehicle_account("V1", MORNING, unlinked_energy)

    with statements_sent() as sent:
        assert loss_costs([account]) == [LossCost("EUR", Cost(Decimal(1)))]

    assert sent == [2]  # which site the meter is at, and its tariffs


@pytest.mark.parametrize("vehicles", [2, 12])
def test_statements_do_not_grow_with_vehicles(by_time, statements_sent, vehicles):
    for number in range(vehicles):
        MeterFactory(meter_id=f"M{number}", site=by_time)
        link_vehicle(f"V{number}", f"M{number}", at("08:00"))
        charge(f"V{number}", f"M{number}", 12.0, 10.0)
    accounts = [
        vehicle_account(f"V{number}", MORNING, unlinked_energy) for number in range(vehicles)
    ]

    with statements_sent() as sent:
        assert len(loss_costs(accounts)) == vehicles

    assert sent == [4]  # and DC and AC around the change of price


def test_snapshot_keeps_what_losses_cost(by_time):
    MeterFactory(meter_id="M1", site=by_time)
    link_vehicle("V1", "M1", at("08:00"))
    charge("V1", "M1", 12.0, 10.0)
    link_vehicle("SUSPECT", "M2", at("08:00"))
    charge("SUSPECT", "M2", 12.0, 14.0)

    snapshot.refresh()

    kept = VehicleDay.objects.values_list("loss_cost", "loss_currency", "loss_unpriced_kwh")
    assert kept.get(pk="V1") == (Decimal("0.5"), "GBP", 0)
    assert kept.get(pk="SUSPECT") == (None, None, None)
