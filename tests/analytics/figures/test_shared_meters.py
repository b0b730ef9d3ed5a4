"""A meter that several vehicles are linked to: its AC is split by DC, and the pieces add up."""

from datetime import datetime, timedelta
from urllib.parse import quote

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.figures import snapshot
from analytics.figures.cache import redis
from analytics.figures.energy import Span
from analytics.figures.links import Slice
from analytics.figures.meters import meter_account
from analytics.figures.sharing import shared_energies
from analytics.figures.window import Window
from analytics.rollups import hourly
from fleet.links import link_vehicle
from fleet.models import Meter, Vehicle, VehicleMeterLink
from ingestion.readings import MeterReading, VehicleReading
from ingestion.writer import record
from tests.analytics.figures.reference import World, figures
from tests.conftest import NOON, at, meter_reading, vehicle_reading

PATH = "/v1/analytics/performance"
HOUR = "start=2026-07-15T10:00:00Z&end=2026-07-15T11:00:00Z"


def get(api, path: str) -> dict:
    answer = api.get(path)
    assert answer.status_code == 200, answer.content
    return answer.json()


def add_touching_link(vehicle_id: str, meter_id: str, starts_at: datetime) -> None:
    """Cut the link in force at `starts_at` in two that touch."""
    link = VehicleMeterLink.objects.get(vehicle_id=vehicle_id, valid_during__contains=starts_at)
    assert link.meter_id == meter_id
    begins, ends = link.valid_during.lower, link.valid_during.upper
    link.valid_during = (begins, starts_at)
    link.save()
    VehicleMeterLink.objects.create(
        vehicle_id=vehicle_id, meter_id=meter_id, valid_during=(starts_at, ends)
    )


def test_shares_add_up_where_what_follows_has_to_be_judged_too(clock, db):
    # The register stands at 0 from 11:29 on: a dip, until it may have rolled over, by 12:55. What
    # follows 11:58 is a block that falls, and so is judged reading by reading as well.
    Meter.objects.create(meter_id="M1", energy_register="counter", rolls_over_at_kwh=128.0)
    link_vehicle("V1", "M1", at("09:05"))
    link_vehicle("V2", "M1", at("09:05"))
    early = {
        "11:25": 126.5,
        "11:26": 0.25,
        "11:27": 0.375,
        "11:28": 0.5,
        "11:29": 0.0,
        "11:30": 0.0,
    }
    late = {"12:55": 0.0, "13:05": 7.0, "13:20": 7.0, "13:35": 0.125}
    record([meter_reading("M1", *one) for one in (early | late).items()], NOON)

    account = meter_account("M1", Window(at("09:00"), at("11:57")))

    # From 11:26 to 11:28, 0.25 more than the 1.75 up to 11:26; then 29 of the 87 minutes of 127.5.
    assert account.ac.energy_kwh == pytest.approx(1.75 + 0.25 + 127.5 * 29 / 87)
    assert account.linked_ac_kwh == pytest.approx(account.ac.energy_kwh)


def test_step_that_reaches_from_one_day_into_another_is_shared_once(clock, db):
    """A counter stood at 0 on the 1st, and at 336 kWh two weeks later: 1 kWh an hour."""
    Meter.objects.create(meter_id="M1", energy_register="counter")
    for vehicle_id in ("V1", "V2"):
        link_vehicle(vehicle_id, "M1", NOON - timedelta(days=20))
    two_weeks_ago = NOON - timedelta(days=14)
    readings = [(two_weeks_ago, 0.0), (NOON, 336.0), (NOON + timedelta(minutes=5), 336.5)]
    record(
        [
            MeterReading(meter_id="M1", energy_ac_kwh=kwh, measured_at=measured_at)
            for measured_at, kwh in readings
        ],
        NOON,
    )
    days = [
        Slice(Span("M1", first, first + timedelta(days=1)), frozenset({"V1", "V2"}))
        for first in (two_weeks_ago, NOON - timedelta(days=1))
    ]

    shares = shared_energies(days)

    for day in days:
        assert shares[day] == {"V1": pytest.approx(12.0), "V2": pytest.approx(12.0)}


# --- Pieces of a series -----------------------------------------------------------------------


def quarters(api, window: str) -> list[float]:
    series = get(api, f"{PATH}/V1/series?{window}&granularity=15m")
    return [point["energyConsumedAc"] for point in series["points"]]


def test_rounding_leaves_the_sum_of_pieces_as_it_is(api):
    # A third of 1 kWh, in 28 quarters of an hour: 0.0119047619… each.
    for vehicle_id in ("V1", "V2", "V3"):
        link_vehicle(vehicle_id, "M1", at("00:00"))
    record([meter_reading("M1", "00:00", 0.0)], NOON)
    times = [f"{hour:02}:{minute}" for hour in range(7) for minute in ("15", "30", "45")]
    times += [f"{hour:02}:00" for hour in range(1, 8)]
    record([meter_reading("M1", time, 1 / 28) for time in times], NOON)

    window = "start=2026-07-15T00:00:00Z&end=2026-07-15T07:00:00Z"
    pieces = quarters(api, window)

    assert set(pieces) == {0.011904761, 0.011904762}
    assert get(api, f"{PATH}/V1?{window}")["energyConsumedAc"] == 0.333333333
    assert sum(pieces) == pytest.approx(0.333333333, abs=1e-12)


MINUTES = st.integers(0, 239)
KWH = st.integers(0, 400).map(lambda number: number / 7)
VEHICLES, METERS = ("V1", "V2", "V3"), ("M1", "M2")


def instant(minute: int) -> datetime:
    return at("07:30") + timedelta(minutes=minute)


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    registers=st.lists(st.sampled_from(["interval", "counter"]), min_size=5, max_size=5),
    links=st.lists(
        st.tuples(st.sampled_from(VEHICLES), st.sampled_from(METERS), MINUTES), max_size=6
    ),
    readings=st.lists(
        st.tuples(st.sampled_from(VEHICLES + METERS), MINUTES, KWH), min_size=40, max_size=90
    ),
    window=st.tuples(st.integers(0, 90), st.integers(91, 239)),
    is_summed_up=st.booleans(),
)
def test_pieces_add_up_to_the_window_whatever_cuts_it(
    api, registers, links, readings, window, is_summed_up
):
    redis().incr("analytics:unlinked-generation")  # not what was so in the example before
    with transaction.atomic():
        for device_id, register in zip(VEHICLES + METERS, registers, strict=True):
            model = Vehicle if device_id in VEHICLES else Meter
            model.objects.create(pk=device_id, energy_register=register)
        for vehicle_id, meter_id, minute in [("V1", "M1", 0), ("V2", "M1", 0), *links]:
            link_vehicle(vehicle_id, meter_id, instant(minute))
        record([_reading(*one) for one in readings], NOON)
        if is_summed_up:
            hourly.roll_up()

        for vehicle_id in VEHICLES:
            _assert_pieces_add_up(api, vehicle_id, *map(instant, window))
        transaction.set_rollback(True)


def _reading(device_id: str, minute: int, kwh: float) -> MeterReading | VehicleReading:
    measured_at = instant(minute)
    if device_id in METERS:
        return MeterReading(meter_id=device_id, energy_ac_kwh=kwh, measured_at=measured_at)
    return VehicleReading(vehicle_id=device_id, energy_dc_kwh=kwh, measured_at=measured_at)


def _assert_pieces_add_up(api, vehicle_id: str, start: datetime, end: datetime) -> None:
    query = f"start={quote(start.isoformat())}&end={quote(end.isoformat())}"
    figure = get(api, f"{PATH}/{vehicle_id}?{query}")
    world = World.now()
    for granularity in ("15m", "hour", "day"):
        # Where a day begins at 09:30.
        more = f"granularity={granularity}&tz=Pacific/Marquesas"
        pieces = get(api, f"{PATH}/{vehicle_id}/series?{query}&{more}")["points"]
        for name in ("energyConsumedAc", "energyDeliveredDc"):
            total = sum(piece[name] for piece in pieces)
            assert total == pytest.approx(figure[name], abs=1.1e-9), (name, granularity)
            for piece in pieces:
                bounds = [datetime.fromisoformat(piece[bound]) for bound in ("start", "end")]
                expected = figures(world, vehicle_id, *bounds, around=(start, end))
                assert piece[name] == pytest.approx(expected[name], abs=2e-9), (name, bounds)


# --- Links that touch -------------------------------------------------------------------------


@pytest.fixture
def two_halves_of_an_hour(api):
    """Between 10:00 and 11:00 M1 draws 20 kWh AC; V1 takes 10.8 of the 12 kWh DC, V2 1.2.

    It is one step of M1, so V1 has 18 of the 20 kWh, evenly. By half hours it would be 14:
    10 · 10/10 + 10 · 0.8/2.
    """
    for vehicle_id in ("V1", "V2"):
        link_vehicle(vehicle_id, "M1", at("00:00"))
    record([meter_reading("M1", "10:00", 0.0), meter_reading("M1", "11:00", 20.0)], NOON)
    record([vehicle_reading("V1", "10:00", 0.0), vehicle_reading("V1", "10:30", 10.0)], NOON)
    record([vehicle_reading("V1", "11:00", 0.8)], NOON)
    record([vehicle_reading("V2", "10:30", 0.0), vehicle_reading("V2", "11:00", 1.2)], NOON)


def shares(api) -> list[float]:
    """Return the AC of both vehicles in the hour, in kWh."""
    return [get(api, f"{PATH}/{id_}?{HOUR}")["energyConsumedAc"] for id_ in ("V1", "V2")]


def test_slip_that_is_undone_leaves_no_trace(api, two_halves_of_an_hour):
    before = shares(api)
    link_vehicle("V1", "M2", at("10:30"))
    link_vehicle("V1", "M1", at("10:30"))

    assert before == shares(api) == [18.0, 2.0]


@pytest.mark.parametrize("vehicle_id", ["V1", "V2"])
def test_links_that_touch_are_one(api, two_halves_of_an_hour, vehicle_id):
    add_touching_link(vehicle_id, "M1", at("10:30"))

    assert shares(api) == [18.0, 2.0]
    assert quarters(api, HOUR) == [4.5, 4.5, 4.5, 4.5]


def test_links_that_touch_are_one_in_an_explanation(api, two_halves_of_an_hour):
    add_touching_link("V1", "M1", at("10:30"))
    add_touching_link("V2", "M1", at("10:30"))

    explained = get(api, f"{PATH}/V1/explain?{HOUR}")

    (split,) = explained["splits"]
    assert (split["share"], split["energyConsumedAc"]) == (0.9, 18.0)
    assert (split["energyDeliveredDc"], split["vehiclesEnergyDc"]) == (10.8, 12.0)
    assert len(explained["meters"]) == 1


def test_links_that_touch_are_one_to_the_meter_and_to_the_fleet(api, two_halves_of_an_hour):
    add_touching_link("V1", "M1", at("10:30"))
    snapshot.refresh()

    served = meter_account("M1", Window(at("10:00"), at("11:00"))).served
    rows = get(api, PATH)["results"]

    assert [part.vehicle_id for part in served] == ["V1", "V2"]
    assert [part.energy_ac_kwh for part in served] == pytest.approx([18.0, 2.0], abs=1e-9)
    assert [row["energyConsumedAc"] for row in rows] == [18.0, 2.0]


def test_gap_between_links_is_none_of_them(api, two_halves_of_an_hour):
    link = VehicleMeterLink.objects.get(vehicle_id="V1")
    link.valid_during = (at("00:00"), at("10:30"))
    link.save()
    VehicleMeterLink.objects.create(
        vehicle_id="V1", meter_id="M1", valid_during=(at("10:31"), None)
    )

    # All of the minute between them is V2's.
    assert shares(api) == [59 / 60 * 18, 59 / 60 * 2 + 20 / 60]
