"""Whatever cuts time, the pieces add up: DC, AC and shares, of any history of any register."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.figures.energy import Span, meter_energies
from analytics.figures.meters import meter_account
from analytics.figures.performance import compared, vehicle_account
from analytics.figures.unlinked import unlinked_energy
from analytics.figures.window import Window
from analytics.rollups import hourly
from analytics.rollups.cadence import learn_cadences
from fleet.links import link_vehicle
from fleet.models import Meter, Vehicle
from ingestion.writer import record
from tests.analytics.figures.histories import (
    METERS,
    VEHICLES,
    deliveries,
    device_settings,
    minutes,
    reading,
)
from tests.conftest import NOON

LONG_BEFORE = NOON - timedelta(days=10)
exactly = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
# Any second, so that cuts fall inside of steps, and on their bounds too.
instants = st.one_of(
    minutes, st.integers(-40_000, 40_000).map(lambda number: timedelta(seconds=number))
).map(lambda after: NOON + after)


@st.composite
def worlds(draw: st.DrawFn) -> dict:
    return {
        "settings": draw(st.lists(device_settings, min_size=6, max_size=6)),
        "delivered": draw(st.lists(deliveries, min_size=4, max_size=12)),
        # V1 stays at M1; the others move, and are always at a meter.
        "moves": draw(
            st.lists(
                st.tuples(st.sampled_from(VEHICLES[1:]), st.sampled_from(METERS), instants),
                max_size=5,
            )
        ),
        "learns": draw(st.booleans()),
        "is_summed_up": draw(st.booleans()),
    }


def set_up(world: dict) -> None:
    for device_id, of_device in zip(VEHICLES + METERS, world["settings"], strict=True):
        model = Vehicle if device_id in VEHICLES else Meter
        model.objects.create(pk=device_id, **of_device)
    for vehicle_id in VEHICLES:
        link_vehicle(vehicle_id, "M1", LONG_BEFORE)
    for move in world["moves"]:
        link_vehicle(*move)
    for number, delivered in enumerate(world["delivered"]):
        record([reading(*one) for one in delivered], NOON + timedelta(seconds=number))
    if world["learns"]:
        learn_cadences()
    if world["is_summed_up"]:
        hourly.roll_up()


@exactly
@given(worlds(), st.lists(instants, min_size=3, max_size=8, unique=True))
def test_pieces_add_up_to_the_whole(db, clock, world, cuts):
    with transaction.atomic():
        set_up(world)
        bounds = sorted(cuts)
        for vehicle_id in VEHICLES:
            whole = energies(vehicle_id, bounds[0], bounds[-1])
            pieces = [energies(vehicle_id, *piece) for piece in pairwise(bounds)]
            assert [sum(parts) for parts in zip(*pieces, strict=True)] == near(*whole)
        transaction.set_rollback(True)


def energies(vehicle_id: str, start: datetime, end: datetime) -> tuple[float, float, float]:
    """Return AC, the DC compared with it, and all DC; not rounded."""
    account = vehicle_account(vehicle_id, Window(start, end), unlinked_energy)
    return *compared(account), account.dc.energy_kwh


@exactly
@given(worlds(), st.tuples(instants, instants).filter(lambda pair: pair[0] < pair[1]))
def test_shares_of_a_meter_add_up_to_what_it_drew(db, clock, world, window):
    with transaction.atomic():
        set_up(world)
        span = Span("M1", *window)
        account = meter_account("M1", Window(*window))
        drawn = meter_energies([span])[span].energy_kwh
        assert [sum(part.energy_ac_kwh for part in account.served)] == near(drawn)
        transaction.set_rollback(True)


def near(*kwh: float) -> object:
    return pytest.approx(list(kwh), rel=1e-12, abs=1e-9)
