"""Cached figures: in Redis under their documented key, one recompute at a time."""

import json
import threading

import msgspec
import pytest
from django.db import connection

from analytics.figures import cache as performance_cache
from fleet.links import end_link, link_vehicle, undo, unlink_vehicle
from fleet.stores import single_flight
from fleet.stores.redis import redis
from fleet.stores.single_flight import SingleFlight
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

PATH = "/v1/analytics/performance/V1"
KEY = "analytics:performance:V1"


@pytest.fixture
def linked_vehicle(transactional_db):
    link_vehicle("V1", "M1", at("08:00"))
    record([meter_reading("M1", kwh=10.0), vehicle_reading("V1", kwh=9.0)], NOON)


@pytest.mark.usefixtures("linked_vehicle")
def test_figure_is_kept_in_redis_for_as_long_as_the_setting_says(api):
    api.get(PATH)

    # A fifth of it is left to chance, so that figures asked for together do not lapse together.
    assert 24 <= redis().ttl(KEY) <= 30


@pytest.mark.usefixtures("linked_vehicle")
def test_kept_figure_is_served_without_a_statement(api, statements_sent):
    first = api.get(PATH)
    with statements_sent() as sent:
        second = api.get(PATH)

    assert second.content == first.content
    assert sent == [0]


@pytest.mark.usefixtures("linked_vehicle")
def test_kept_figure_is_dropped_when_the_link_changes(api, clock):
    assert api.get(PATH).json()["efficiencyRatio"] == 90.0
    link_vehicle("V1", "M2", at("08:00"))
    assert api.get(PATH).json()["efficiencyRatio"] is None
    end_link("V1")
    link_vehicle("V1", "M1", at("08:00"))

    assert api.get(PATH).json()["efficiencyRatio"] == 90.0


@pytest.mark.usefixtures("linked_vehicle", "clock")
def test_kept_figures_of_all_at_a_meter_are_dropped_when_a_link_of_the_past_moves_away(api):
    """Though nothing says any more that the vehicle was ever linked to that meter."""
    link_vehicle("V2", "M1", at("08:00"))
    record([vehicle_reading("V2", kwh=9.0)], NOON)
    assert api.get(PATH).json()["energyConsumedAc"] == 5.0
    link_vehicle("V2", "M2", at("08:00"))

    assert api.get(PATH).json()["energyConsumedAc"] == 10.0


@pytest.mark.usefixtures("linked_vehicle", "clock")
def test_kept_figure_is_dropped_by_a_gap_in_the_past_and_by_undoing_it(api):
    """Both readings are of 11:00."""
    gap = unlink_vehicle("V1", at("11:00"), NOON)
    assert api.get(PATH).json()["energyConsumedAc"] == 0.0
    undo(gap)

    assert api.get(PATH).json()["energyConsumedAc"] == 10.0


@pytest.mark.usefixtures("linked_vehicle", "clock")
def test_many_readers_at_once_compute_a_figure_once(monkeypatch):
    computed = []
    compute = performance_cache.vehicle_performance
    everybody_is_here = threading.Barrier(8)

    def counted(*args):
        computed.append(args)
        return compute(*args)

    def read():
        everybody_is_here.wait()
        figures.append(performance_cache.cached_performance("V1"))
        connection.close()

    monkeypatch.setattr(performance_cache, "vehicle_performance", counted)
    figures: list[tuple[msgspec.Raw, bool]] = []
    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(computed) == 1
    assert len(figures) == 8
    assert len({bytes(figure) for figure, _ in figures}) == 1
    assert sorted(was_cached for _, was_cached in figures) == [False] + [True] * 7


@pytest.mark.usefixtures("linked_vehicle", "clock")
def test_figure_computed_from_old_links_does_not_outlive_their_change(monkeypatch):
    """However long a reader takes that began before the change, which waits for nobody."""
    compute = performance_cache.vehicle_performance
    reader_has_computed, link_has_changed = threading.Event(), threading.Event()

    def slow(*args):
        figure = compute(*args)
        reader_has_computed.set()
        link_has_changed.wait(10)
        return figure

    def read():
        performance_cache.cached_performance("V1")
        connection.close()

    monkeypatch.setattr(performance_cache, "vehicle_performance", slow)
    reader = threading.Thread(target=read)
    reader.start()
    reader_has_computed.wait(10)
    link_vehicle("V1", "M2", at("08:00"))
    link_has_changed.set()
    reader.join()

    assert not redis().exists(KEY)


@pytest.mark.usefixtures("linked_vehicle", "clock")
@pytest.mark.parametrize("is_redis_there", [True, False])
def test_who_asks_after_a_change_gets_no_figure_of_before(request, monkeypatch, is_redis_there):
    """Though it is being computed just then, and whoever asks again would get the same one."""
    if not is_redis_there:
        request.getfixturevalue("redis_is_away")
    compute = performance_cache.vehicle_performance
    reader_has_computed, all_is_done = threading.Event(), threading.Event()

    def slow(*args):
        figure = compute(*args)
        if not reader_has_computed.is_set():
            reader_has_computed.set()
            all_is_done.wait(10)
        return figure

    def read():
        performance_cache.cached_performance("V1")
        connection.close()

    monkeypatch.setattr(performance_cache, "vehicle_performance", slow)
    reader = threading.Thread(target=read)
    reader.start()
    reader_has_computed.wait(10)
    link_vehicle("V1", "M2", at("08:00"))
    figure, _ = performance_cache.cached_performance("V1")
    all_is_done.set()
    reader.join()

    assert msgspec.json.decode(figure)["meterId"] == "M2"


@pytest.mark.usefixtures("linked_vehicle", "clock")
@pytest.mark.parametrize("generation", [None, 5])
def test_figure_is_computed_once_though_redis_goes_away_meanwhile(request, monkeypatch, generation):
    if generation:
        redis().set("analytics:performance-generation:V1", generation)
    compute = performance_cache.vehicle_performance
    computed, has_begun, may_end = [], threading.Event(), threading.Event()
    wait = SingleFlight._result_of

    def slow(*args):
        computed.append(args)
        has_begun.set()
        may_end.wait(10)
        return compute(*args)

    def wait_and_let_end(flights, flight):
        may_end.set()
        return wait(flights, flight)

    def read():
        performance_cache.cached_performance("V1")
        connection.close()

    monkeypatch.setattr(performance_cache, "vehicle_performance", slow)
    monkeypatch.setattr(SingleFlight, "_result_of", wait_and_let_end)
    reader = threading.Thread(target=read)
    reader.start()
    has_begun.wait(10)
    request.getfixturevalue("redis_is_away")
    _, was_cached = performance_cache.cached_performance("V1")
    reader.join()

    assert was_cached
    assert len(computed) == 1


@pytest.mark.usefixtures("linked_vehicle")
def test_figure_that_another_process_takes_too_long_for_is_503(api, monkeypatch):
    monkeypatch.setattr(single_flight, "_WAIT_SECONDS", 0.05)
    redis().set("analytics:performance-lock:V1:1", "of another process")
    redis().set("analytics:performance-generation:V1", 1)

    answer = api.get(PATH)

    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
    assert answer.json()["code"] == "overloaded"
    assert answer.json()["message"] == "This figure is still being calculated; retry in a moment"


@pytest.mark.usefixtures("linked_vehicle")
@pytest.mark.parametrize("kept", [b"xx{", b"{}", b"null"])
def test_figure_that_another_version_has_kept_is_none(api, kept):
    redis().set(KEY, kept)

    assert api.get(PATH).json()["efficiencyRatio"] == 90.0


@pytest.mark.usefixtures("linked_vehicle")
@pytest.mark.parametrize("suffix", [":lock", "-lock", ":generation"])
def test_vehicles_with_odd_ids_do_not_meddle_with_each_other(api, suffix):
    link_vehicle(f"V1{suffix}", "M3", at("08:00"))
    assert api.get(PATH + suffix).status_code == 200
    assert api.get(PATH).json()["efficiencyRatio"] == 90.0
    assert api.get(PATH + suffix).json()["vehicleId"] == f"V1{suffix}"


@pytest.mark.usefixtures("linked_vehicle")
def test_without_redis_the_same_answer_comes_from_the_database(api, redis_is_away):
    assert api.get(PATH).json()["efficiencyRatio"] == 90.0
    link_vehicle("V1", "M2", at("08:00"))
    assert api.get(PATH).json()["efficiencyRatio"] is None


def test_unknown_vehicle_is_404(api):
    answer = api.get("/v1/analytics/performance/UNKNOWN")

    assert answer.status_code == 404
    body = answer.json()
    assert body.pop("requestId")
    assert body == {
        "statusCode": 404,
        "path": "/v1/analytics/performance/UNKNOWN",
        "message": "Vehicle not found",
        "code": "not_found",
        "timestamp": "2026-07-15T12:00:00Z",
        "errors": [],
    }


@pytest.mark.usefixtures("linked_vehicle")
def test_figure_is_served_in_the_words_of_the_contract(api):
    assert api.get(PATH).json() == {
        "vehicleId": "V1",
        "meterId": "M1",
        "period": {"start": "2026-07-14T12:00:00Z", "end": "2026-07-15T12:00:00Z"},
        "energyConsumedAc": 10.0,
        "energyDeliveredDc": 9.0,
        "efficiencyRatio": 90.0,
        "averageBatteryTemp": None,
        "acSource": "linked",
        "health": "healthy",
        "reason": None,
        "dataPoints": {"vehicle": 1, "meter": 1},
        "coverage": {"vehicle": None, "meter": None},
        "suspectSteps": 0,
        "acEnergyConsumed": 10.0,
        "dcEnergyDelivered": 9.0,
        "efficiency": 0.9,
        "avgBatteryTemp": None,
    }


@pytest.mark.usefixtures("linked_vehicle")
def test_figure_has_its_former_names_too_from_the_cache_or_not(api):
    record([vehicle_reading("V1", "10:30", 0.333, battery_temp_celsius=31.5)], NOON)

    for path in (PATH, PATH, f"{PATH}?window=24h"):
        figure = api.get(path).json()
        assert (figure["energyConsumedAc"], figure["acEnergyConsumed"]) == (10.0, 10.0)
        assert (figure["energyDeliveredDc"], figure["dcEnergyDelivered"]) == (9.333, 9.333)
        assert (figure["efficiencyRatio"], figure["efficiency"]) == (93.33, 0.93)
        assert (figure["averageBatteryTemp"], figure["avgBatteryTemp"]) == (31.5, 31.5)


def test_figure_without_ac_has_no_efficiency_under_either_name(api):
    record([vehicle_reading("V1")], NOON)

    figure = api.get(PATH).json()

    assert (figure["efficiencyRatio"], figure["efficiency"]) == (None, None)


@pytest.mark.usefixtures("linked_vehicle")
def test_figure_that_an_older_version_has_kept_is_computed_anew(api):
    kept = api.get(PATH).json()
    del kept["efficiency"]
    redis().set(KEY, json.dumps(kept))

    assert (api.get(PATH).json()["efficiency"], api.get(PATH)["X-Cache"]) == (0.9, "hit")


@pytest.mark.usefixtures("linked_vehicle")
def test_answer_says_whether_it_came_from_the_cache(api):
    assert [api.get(PATH)["X-Cache"] for _ in range(2)] == ["miss", "hit"]
