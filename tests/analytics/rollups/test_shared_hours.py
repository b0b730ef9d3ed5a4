"""Hours of shared meters: stored once they are over, and used as long as the rules are the same."""

from datetime import datetime, timedelta

import pytest

from analytics.figures import sharing
from analytics.models import MeterCadence, VehicleCadence
from analytics.rollups import hourly
from analytics.rollups.cadence import learn_cadences
from fleet.links import link_vehicle
from fleet.models import Meter, Vehicle
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]
FIRST, LAST = at("08:00"), at("10:00")
# They rise, so that they can be those of a counter as well.
READINGS = [(1.0 + number, f"{7 + number // 6:02}:{number % 6}0") for number in range(24)]


def not_stored() -> list[tuple[datetime, datetime]]:
    """Return what has to be calculated of 08:00 to 10:00."""
    [row] = sharing._shared_hours.rows(
        {
            "meter_ids": ["M1"],
            "starts_at": [FIRST],
            "ends_at": [LAST],
            "vehicle_ids": ["V1\nV2"],
            "default_max_power_kw": 400.0,
        }
    )
    return list(zip(row.starts_at or (), row.ends_at or (), strict=True))


@pytest.fixture(autouse=True)
def shared_meter() -> None:
    Meter.objects.create(pk="M1", interval_seconds=600.0)
    for vehicle_id in ("V1", "V2"):
        Vehicle.objects.create(pk=vehicle_id, interval_seconds=600.0)
        link_vehicle(vehicle_id, "M1", at("00:00"))
        record([vehicle_reading(vehicle_id, minute, kwh / 2) for kwh, minute in READINGS], NOON)
    record([meter_reading("M1", minute, kwh) for kwh, minute in READINGS], NOON)


def let_cadences_be_learned() -> None:
    for model in (MeterCadence, VehicleCadence):
        model.objects.update(learned_at=NOON - timedelta(days=2))
    learn_cadences()


def test_hours_that_are_over_are_stored():
    assert not_stored() == [(FIRST, LAST)]

    hourly.roll_up()

    assert not_stored() == []


def test_cadence_that_is_learned_changes_nothing_where_an_interval_is_declared():
    hourly.roll_up()

    let_cadences_be_learned()

    assert MeterCadence.objects.get(pk="M1").cadence_seconds == 600.0
    assert not_stored() == []


def test_another_declared_interval_has_hours_calculated_anew():
    hourly.roll_up()
    let_cadences_be_learned()
    hourly.roll_up()

    Meter.objects.update(interval_seconds=300.0)

    assert not_stored() == [(FIRST, LAST)]
    hourly.roll_up()
    assert not_stored() == []


@pytest.mark.parametrize("model", [Meter, Vehicle])
def test_another_value_that_a_counter_rolls_over_at_has_hours_calculated_anew(model):
    """Hourly sums are the same, shares are not."""
    model.objects.update(energy_register="counter", interval_seconds=None)
    hourly.roll_up()
    let_cadences_be_learned()
    hourly.roll_up()
    assert not_stored() == []

    model.objects.update(rolls_over_at_kwh=1_000_000.0)

    assert not_stored() == [(FIRST, LAST)]
    hourly.roll_up()
    assert not_stored() == []
