"""What is kept of the whole fleet: the last 24 hours of each vehicle, its totals, and for a minute
the energy of the devices without a link."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection

from analytics.figures import cache as performance_cache
from analytics.figures import snapshot
from analytics.figures import unlinked as unlinked_module
from analytics.figures.cache import cached_unlinked_energy
from analytics.figures.performance import vehicle_performance
from analytics.figures.unlinked import FleetEnergy
from analytics.figures.window import Window
from analytics.models import FleetDay, FleetHour, MeterDay, UnlinkedDay, VehicleDay
from analytics.rollups import hourly
from analytics.rollups.cadence import learn_cadences
from fleet.links import link_vehicle
from fleet.models import Meter, Site, Vehicle
from fleet.registers import announce_register
from fleet.stores.redis import redis
from fleet.stores.single_flight import SingleFlight
from fleet.stores.stopping import Stopped
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, stopped_after, vehicle_reading

PATH = "/v1/analytics/performance"
COLUMNS_OF_A_ROW = {"site", "periodEnd"}


def rows(api, query: str = "") -> dict[str, dict]:
    results = api.get(f"{PATH}?limit=1000{query}").json()["results"]
    return {row["vehicleId"]: row for row in results}


@pytest.fixture
def mixed_fleet(api):
    """A vehicle of each kind that there is: alone, sharing, unlinked, silent, with a counter."""
    link_vehicle("ALONE", "M1", at("00:00") - timedelta(hours=1))
    for vehicle_id in ("SHARE1", "SHARE2"):
        link_vehicle(vehicle_id, "M2", at("00:00") - timedelta(hours=1))
    link_vehicle("PARTLY", "M3", at("09:30"))
    Vehicle.objects.create(vehicle_id="SILENT")
    Vehicle.objects.create(vehicle_id="COUNTER", energy_register="counter", max_power_kw=30.0)
    Meter.objects.create(meter_id="M4", energy_register="counter")
    link_vehicle("COUNTER", "M4", at("00:00"))
    for number in range(36):
        time = f"{number // 3:02}:{20 * (number % 3):02}"
        record([meter_reading(f"M{meter}", time, 0.5 * meter) for meter in (1, 2, 3, 9)], NOON)
        record([meter_reading("M4", time, 100 + 2.0 * number)], NOON)
        vehicles = ("ALONE", "SHARE1", "PARTLY", "UNLINKED1", "UNLINKED2")
        record(
            [vehicle_reading(id_, time, 0.4, battery_temp_celsius=20 + number) for id_ in vehicles],
            NOON,
        )
        record([vehicle_reading("SHARE2", time, 0.1 * (number % 4))], NOON)
        glitch = 7000.0 if number == 20 else 0
        record([vehicle_reading("COUNTER", time, 10 + 1.75 * number + glitch)], NOON)


@pytest.mark.parametrize("summed_up", [False, True])
def test_row_of_each_vehicle_is_its_single_figure(api, mixed_fleet, summed_up):
    learn_cadences()
    if summed_up:
        hourly.roll_up()
    snapshot.refresh()

    listed = rows(api)

    assert len(listed) == 8
    for vehicle_id, row in listed.items():
        single = api.get(f"{PATH}/{vehicle_id}").json()
        for former in ("acEnergyConsumed", "dcEnergyDelivered", "efficiency", "avgBatteryTemp"):
            del single[former]  # which lists never had
        assert row["periodEnd"] == single.pop("period")["end"] == "2026-07-15T12:00:00Z"
        assert {name: value for name, value in row.items() if name in single} == single
        assert set(row) - set(single) == COLUMNS_OF_A_ROW
    sources = {row["acSource"] for row in listed.values()}
    assert sources == {"linked", "shared", "fleet", "none"}
    assert listed["COUNTER"]["suspectSteps"] == 1
    assert listed["ALONE"]["coverage"] == {"vehicle": 1.0, "meter": 1.0}


def test_fleet_is_the_same_in_portions(api, mixed_fleet, monkeypatch):
    snapshot.refresh()
    at_once = rows(api)

    monkeypatch.setattr(snapshot, "AT_ONCE", 3)

    assert snapshot.refresh() == 8
    assert rows(api) == at_once


def test_look_that_is_told_to_stop_is_whole_with_the_next_one(api, mixed_fleet, monkeypatch):
    monkeypatch.setattr(snapshot, "AT_ONCE", 3)
    with stopped_after(portions=1), pytest.raises(Stopped):
        snapshot.refresh()
    assert 0 < VehicleDay.objects.count() < 8

    assert snapshot.refresh() == 8
    assert VehicleDay.objects.count() == 8


def test_new_look_takes_the_place_of_the_one_before(api, clock):
    record([vehicle_reading("V1", "11:00", 5.0)], NOON)
    snapshot.refresh()
    clock.shift(timedelta(hours=23))
    record([vehicle_reading("V2", "11:30", 5.0)], NOON)
    snapshot.refresh()
    assert [row["energyDeliveredDc"] for row in rows(api).values()] == [5, 5]
    clock.shift(timedelta(minutes=1))

    snapshot.refresh()

    assert [row["energyDeliveredDc"] for row in rows(api).values()] == [0, 5]
    assert VehicleDay.objects.count() == 2


def test_vehicle_that_is_new_joins_with_the_next_look(api):
    snapshot.refresh()
    record([vehicle_reading("V1")], NOON)
    assert rows(api) == {}

    snapshot.refresh()

    assert list(rows(api)) == ["V1"]


def test_look_at_an_empty_fleet_keeps_its_zeros(api):
    assert snapshot.refresh() == 0

    assert not VehicleDay.objects.exists()
    assert FleetDay.objects.get().energy_ac_kwh == 0


def test_totals_are_the_ac_of_all_meters_and_the_dc_of_all_vehicles(api):
    link_vehicle("V1", "M1", at("10:00"))
    record([meter_reading("M1", "09:00", 30.0), meter_reading("M1", "11:00", 50.0)], NOON)
    record([meter_reading("M2", "11:00", 20.0), vehicle_reading("V2", "11:00", 25.0)], NOON)
    record([vehicle_reading("V1", "09:00", 20.0), vehicle_reading("V1", "11:00", 40.0)], NOON)
    snapshot.refresh()

    day = FleetDay.objects.get()

    assert (day.energy_ac_kwh, day.energy_dc_kwh) == (100, 85)
    assert (day.starts_at, day.ends_at) == (NOON - timedelta(hours=24), NOON)


@pytest.mark.parametrize("vehicles", [10, 300])
def test_look_costs_the_same_statements_however_many_vehicles(api, statements_sent, vehicles):
    for number in range(vehicles):
        link_vehicle(f"V{number}", f"M{number // 2}", at("08:00"))
    record([vehicle_reading(f"V{number}") for number in range(vehicles)], NOON)
    record([vehicle_reading("UNLINKED"), meter_reading("UNLINKED")], NOON)

    with statements_sent() as sent:
        snapshot.refresh()

    # Vehicles; links, DC, AC, three for how meters are shared; devices without a link, their AC and
    # DC, two to keep that; keep the vehicles; meters, their AC; keep the meters; keep the fleet.
    assert sent == [17]


# --- Energy of the devices without a link -----------------------------------------------------


@pytest.fixture
def unlinked(api):
    record([meter_reading("M1", kwh=30.0), vehicle_reading("V1", kwh=8.0)], NOON)
    record([vehicle_reading("V2", kwh=12.0)], NOON)


def fleet_figure(api, query: str = "?window=24h") -> tuple[float, float | None]:
    """Return AC and efficiency of V1, of which nothing is kept."""
    figure = api.get(f"{PATH}/V1{query}").json()
    return figure["energyConsumedAc"], figure["efficiencyRatio"]


def kept_energies() -> list[bytes]:
    return redis().keys("analytics:unlinked:*")


def test_energy_without_a_link_is_reckoned_once_for_all_vehicles(api, unlinked, statements_sent):
    api.get(f"{PATH}/V2?window=24h")

    with statements_sent() as sent:
        assert fleet_figure(api) == (12.0, 66.67)

    assert sent == [3]  # links and DC; and whether the worker has kept the energy


def test_kept_energy_is_a_minute_old_at_most(api, unlinked):
    fleet_figure(api)
    record([meter_reading("M1", "11:30", kwh=10.0)], NOON)

    assert fleet_figure(api) == (12.0, 66.67)
    (key,) = kept_energies()
    assert 0 < redis().ttl(key) <= 60
    redis().delete(key)  # as in a minute
    assert fleet_figure(api) == (16.0, 50.0)


def test_kept_energy_that_is_less_than_the_vehicles_own_is_reckoned_anew(api, unlinked):
    fleet_figure(api)
    record([vehicle_reading("V1", "11:59", kwh=20.0)], NOON)  # 28 of 40, where 20 is kept

    # 30 kWh AC for 40 kWh DC; a share of 28 in 20 would be more than there is.
    assert fleet_figure(api) == (21.0, 133.33)


def test_kept_energy_is_dropped_when_links_change(
    api, unlinked, django_capture_on_commit_callbacks
):
    assert fleet_figure(api) == (12.0, 66.67)

    with django_capture_on_commit_callbacks(execute=True):
        link_vehicle("V2", "M1", at("00:00"))

    assert fleet_figure(api) == (0.0, None)  # no meter is left without a link


def test_windows_that_do_not_end_now_are_kept_apart(api, unlinked):
    record([meter_reading("M1", "08:30", kwh=6.0), vehicle_reading("V1", "08:30", kwh=3.0)], NOON)

    morning = "?start=2026-07-15T06:00:00Z&end=2026-07-15T09:00:00Z"
    noon = "?start=2026-07-15T09:00:00Z&end=2026-07-15T12:00:00Z"

    assert fleet_figure(api, morning) == (6.0, 50.0)
    assert fleet_figure(api, noon) == (12.0, 66.67)
    assert fleet_figure(api, morning) == (6.0, 50.0)


@pytest.mark.usefixtures("redis_is_away")
def test_without_redis_energy_without_a_link_comes_from_the_database(api, unlinked):
    assert fleet_figure(api) == (12.0, 66.67)

    record([meter_reading("M1", "11:30", kwh=10.0)], NOON)

    assert fleet_figure(api) == (16.0, 50.0)


@pytest.mark.parametrize("kept", [b"xx{", b"{}", b"null"])
def test_energy_that_another_version_has_kept_is_none(api, unlinked, kept):
    fleet_figure(api)
    (key,) = kept_energies()
    redis().set(key, kept)

    assert fleet_figure(api) == (12.0, 66.67)


def test_kept_energy_is_that_of_history(api, unlinked):
    reckoned = cached_unlinked_energy(Window.last())

    assert reckoned == FleetEnergy(30.0, 20.0, 1)
    assert cached_unlinked_energy(Window.last()) == reckoned
    figure = vehicle_performance("V1", Window.last(), performance_cache.cached_unlinked_energy)
    assert figure == vehicle_performance("V1", Window.last())


class TestEnergyWithoutALinkThatTheWorkerKeeps:
    """Of the last 24 hours: requests compute it only where the worker has not."""

    def test_requests_use_it_with_or_without_redis(self, api, unlinked, redis_is_away):
        snapshot.refresh()
        record([meter_reading("M1", "11:30", kwh=10.0)], NOON)

        assert fleet_figure(api) == (12.0, 66.67)
        snapshot.refresh()  # as in a minute
        assert fleet_figure(api) == (16.0, 50.0)

    @pytest.mark.parametrize("minutes", [1, 5])
    def test_it_is_good_until_the_next_turn_and_half_a_minute_more(
        self, api, unlinked, clock, settings, minutes
    ):
        settings.FLEET_SNAPSHOT_MINUTES = minutes
        snapshot.refresh()
        record([meter_reading("M1", "11:30", kwh=10.0)], NOON)
        clock.shift(timedelta(minutes=minutes, seconds=29))
        assert fleet_figure(api) == (12.0, 66.67)

        clock.shift(timedelta(seconds=1))

        assert fleet_figure(api) == (16.0, 50.0)

    def test_it_is_not_that_of_other_windows(self, api, unlinked):
        snapshot.refresh()
        record([meter_reading("M1", "11:30", kwh=10.0)], NOON)

        assert fleet_figure(api, "?window=6h") == (16.0, 50.0)
        until_noon = "?start=2026-07-14T11:59:00Z&end=2026-07-15T11:59:00Z"
        assert fleet_figure(api, until_noon) == (16.0, 50.0)

    def test_what_is_less_than_the_vehicles_own_is_not_used(self, api, unlinked):
        snapshot.refresh()
        record([vehicle_reading("V1", "11:59", kwh=20.0)], NOON)

        assert fleet_figure(api) == (21.0, 133.33)

    @pytest.mark.parametrize("change", ["link", "register"])
    def test_it_is_forgotten_when_a_link_or_a_register_changes(
        self, api, unlinked, change, redis_is_away, django_capture_on_commit_callbacks
    ):
        record([meter_reading("M2", "10:00", kwh=100.0), meter_reading("M2", kwh=130.0)], NOON)
        snapshot.refresh()
        assert fleet_figure(api) == (104.0, 7.69)

        with django_capture_on_commit_callbacks(execute=True):
            change_of_m2(change)

        # Without M2; or with the 30 kWh by which its register has risen.
        assert fleet_figure(api) == {"link": (30.0, 26.67), "register": (24.0, 33.33)}[change]

    @pytest.mark.parametrize("change", ["link", "register"])
    def test_nothing_is_kept_that_was_computed_while_they_changed(
        self, api, unlinked, change, redis_is_away, monkeypatch, django_capture_on_commit_callbacks
    ):
        compute = unlinked_module.unlinked_energy

        def overtaken(window):
            energy = compute(window)
            with django_capture_on_commit_callbacks(execute=True):
                change_of_m2(change)
            return energy

        record([meter_reading("M2", "10:00", kwh=100.0), meter_reading("M2", kwh=130.0)], NOON)
        monkeypatch.setattr(unlinked_module, "unlinked_energy", overtaken)
        snapshot.refresh()

        assert fleet_figure(api) == {"link": (30.0, 26.67), "register": (24.0, 33.33)}[change]

    def test_nothing_is_kept_by_who_was_overtaken_by_another(self, api, unlinked, monkeypatch):
        """Whose row was taken away, and is there again because another has begun to compute."""
        compute = unlinked_module.unlinked_energy

        def overtaken(window):
            energy = compute(window)
            unlinked_module.forget_day()
            UnlinkedDay.objects.create(pk=1, attempt=uuid4())
            return energy

        monkeypatch.setattr(unlinked_module, "unlinked_energy", overtaken)
        snapshot.refresh()

        assert unlinked_module.kept_day() is None


def change_of_m2(change: str) -> None:
    if change == "link":
        link_vehicle("V2", "M2", at("00:00"))
    else:
        meter = Meter.objects.get(pk="M2")
        meter.energy_register = "counter"
        meter.save()
        announce_register(meter)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("is_redis_there", [True, False])
@pytest.mark.parametrize("is_outdated", [False, True])
def test_energy_without_a_link_is_computed_once_for_all_who_ask_at_once(
    request, monkeypatch, is_redis_there, is_outdated
):
    """Also where the worker has kept one that is less than each of the vehicles' own."""
    if not is_redis_there:
        request.getfixturevalue("redis_is_away")
    if is_outdated:
        Vehicle.objects.create(vehicle_id="V0")
        snapshot.refresh()
    vehicles = [f"V{number}" for number in range(8)]
    record([meter_reading("M1", kwh=100.0)], NOON)
    record([vehicle_reading(vehicle_id, kwh=10.0) for vehicle_id in vehicles], NOON)
    everybody_is_here, everybody_waits = threading.Barrier(8), threading.Semaphore(0)
    compute = performance_cache.unlinked_energy
    computed = []

    def slow(window):
        computed.append(window)
        for _ in range(7):
            everybody_waits.acquire(timeout=10)
        return compute(window)

    wait = SingleFlight._result_of

    def counted_wait(flights, flight):
        everybody_waits.release()
        return wait(flights, flight)

    def read(vehicle_id: str) -> dict:
        everybody_is_here.wait(10)
        figure, _ = performance_cache.cached_performance(vehicle_id)
        connection.close()
        return json.loads(bytes(figure))

    monkeypatch.setattr(performance_cache, "unlinked_energy", slow)
    monkeypatch.setattr(SingleFlight, "_result_of", counted_wait)
    with ThreadPoolExecutor(8) as pool:
        figures = list(pool.map(read, vehicles))

    assert len(computed) == 1
    assert [figure["energyConsumedAc"] for figure in figures] == [12.5] * 8


def test_site_of_a_vehicle_is_that_of_the_registry_not_of_the_last_look(api):
    site = Site.objects.create(name="Depot")
    Vehicle.objects.create(vehicle_id="V1")
    snapshot.refresh()
    assert rows(api)["V1"]["site"] is None

    Vehicle.objects.update(site=site)

    assert rows(api)["V1"]["site"] == "Depot"


def test_meter_shows_its_ac_and_what_became_of_it_while_vehicles_were_linked(api, mixed_fleet):
    learn_cadences()
    snapshot.refresh()

    m2, m3, unlinked = (MeterDay.objects.get(pk=meter_id) for meter_id in ("M2", "M3", "M9"))

    # 36 readings of 1 kWh; SHARE1 took 36 of 0.4, SHARE2 nine times 0 + 0.1 + 0.2 + 0.3.
    assert (m2.energy_ac_kwh, m2.linked_ac_kwh) == (36.0, 36.0)
    assert m2.linked_dc_kwh == pytest.approx(36 * 0.4 + 9 * 0.6)
    assert (m2.efficiency_percent, m2.health) == (55.0, "critical")
    assert (m2.readings, m2.coverage, m2.reason) == (36, 1.0, None)
    # Linked from 09:30 on: of 36 readings half of that at 09:40, and the six later ones.
    assert (m3.energy_ac_kwh, m3.linked_ac_kwh) == (54.0, 0.75 + 6 * 1.5)
    assert (unlinked.energy_ac_kwh, unlinked.linked_ac_kwh) == (162.0, 0.0)
    assert (unlinked.efficiency_percent, unlinked.health) == (None, "unknown")


class TestTrend:
    @pytest.fixture
    def two_days(self, api):
        """1 kWh of AC and 0.9 of DC at 11:30 and 12:50 of yesterday, 2 and 1.6 at 11:30 today."""
        for clock_time, ac, dc in (("11:30", 1.0, 0.9), ("12:50", 1.0, 0.9)):
            readings = [meter_reading("M1", clock_time, ac), vehicle_reading("V1", clock_time, dc)]
            for reading in readings:
                reading.measured_at -= timedelta(days=1)
            record(readings, NOON)
        record([meter_reading("M1", "11:30", 2.0), vehicle_reading("V1", "11:30", 1.6)], NOON)

    def test_last_day_is_compared_with_the_one_before(self, two_days):
        snapshot.refresh()
        snapshot.refresh_trend()

        day = FleetDay.objects.get()
        assert (day.energy_ac_kwh, day.energy_dc_kwh) == (3.0, 2.5)
        assert (day.before_ac_kwh, day.before_dc_kwh) == (1.0, 0.9)

    def test_hours_are_those_of_the_last_day_and_the_one_that_is_not_over(self, two_days, clock):
        clock.shift(timedelta(minutes=10))
        snapshot.refresh()
        snapshot.refresh_trend()

        hours = list(FleetHour.objects.order_by("hour"))
        assert len(hours) == 25
        assert (hours[0].hour, hours[-1].hour) == (NOON - timedelta(days=1), NOON)
        assert [hour.energy_ac_kwh for hour in hours] == [1.0] + [0.0] * 22 + [2.0, 0.0]
        assert hours[0].energy_dc_kwh == 0.9

    def test_what_comes_late_is_in_its_hour_once_that_had_its_turn(
        self, two_days, clock, monkeypatch
    ):
        monkeypatch.setattr(snapshot, "_AGAIN_SECONDS", -1.0)  # a fleet that leaves time for one
        snapshot.refresh_trend()
        record([meter_reading("M1", "06:30", 5.0)], NOON)

        for _ in range(24):
            clock.shift(timedelta(seconds=1))
            snapshot.refresh_trend()

        assert FleetHour.objects.get(hour=at("06:00")).energy_ac_kwh == 5.0

    def test_hour_that_is_long_past_goes(self, two_days, clock):
        snapshot.refresh_trend()
        clock.shift(timedelta(hours=2))
        snapshot.refresh_trend()

        assert not FleetHour.objects.filter(hour__lt=NOON + timedelta(hours=2 - 24)).exists()
        assert FleetHour.objects.count() == 25
