"""Where most devices are ahead, the server is behind: their readings get 503, not 400."""

from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from energy_engine.telemetry import sampling
from fleet.access.authorization import EVERYTHING, Grant
from fleet.models import Scope
from ingestion import intake, server_clock, stream
from ingestion.models import VehicleReading
from ingestion.readings import DeviceKind
from ingestion.server_clock import ServerClock, ServerClockBehind
from ingestion.stream import StreamInterrupted, take_in_stream
from tests.conftest import NOON

IN_TIME, LATE, AHEAD = "2026-07-15T12:09:00Z", "2026-07-15T09:00:00Z", "2026-07-15T12:11:00Z"


@pytest.fixture(autouse=True)
def heard(monkeypatch) -> ServerClock:
    """A process that has not heard of any device yet."""
    fresh = ServerClock()
    for module in (server_clock, intake, stream, sampling):
        monkeypatch.setattr(module, "server_clock", fresh)
    return fresh


def reading(number: int, timestamp: str | None) -> dict:
    return {"vehicleId": f"V{number}", "kwhDeliveredDc": 1, "timestamp": timestamp}


def statuses(api, timestamp: str | None, numbers: range) -> list[int]:
    return [api.post("/v1/ingest", reading(n, timestamp)).status_code for n in numbers]


def test_fifth_device_that_is_ahead_shows_the_clock_to_be_behind(api):
    assert statuses(api, AHEAD, range(6)) == [400, 400, 400, 400, 503, 503]


def test_answer_asks_for_the_same_bytes_again(api):
    statuses(api, AHEAD, range(5))

    answer = api.post("/v1/ingest", reading(1, AHEAD))

    assert (answer.json()["code"], answer["Retry-After"]) == ("server_clock_behind", "60")


def test_readings_that_are_good_are_taken_all_the_same(api):
    statuses(api, AHEAD, range(5))

    assert statuses(api, None, range(5, 6)) == [201]
    assert statuses(api, IN_TIME, range(6, 7)) == [201]


def test_minority_is_ahead_by_itself(api):
    statuses(api, IN_TIME, range(3))
    statuses(api, LATE, range(3, 6))

    assert statuses(api, AHEAD, range(10, 16)) == [400] * 6
    assert statuses(api, AHEAD, range(16, 17)) == [503]  # seven of thirteen


def test_one_device_with_a_thousand_readings_is_one_device(api):
    body = [reading(1, AHEAD)] * 1_000

    assert [api.post("/v1/ingest", body).status_code for _ in range(10)] == [400] * 10


def test_reading_that_the_server_has_stamped_says_nothing(api):
    statuses(api, None, range(50))

    assert statuses(api, AHEAD, range(100, 105)) == [400, 400, 400, 400, 503]


def test_clock_that_is_set_is_right_at_once(api, clock, heard):
    statuses(api, AHEAD, range(6))
    clock.shift(timedelta(minutes=30))

    assert statuses(api, AHEAD, range(6)) == [201] * 6
    assert not heard.is_behind()


def test_clock_that_is_set_back_is_found_out_by_the_last_hundred_devices(api):
    statuses(api, IN_TIME, range(120))

    assert statuses(api, AHEAD, range(120, 172)) == [400] * 50 + [503] * 2


def test_nothing_of_such_a_body_is_stored(api):
    statuses(api, AHEAD, range(5))

    answer = api.post("/v1/ingest", [reading(7, None), reading(8, IN_TIME), reading(1, AHEAD)])

    assert answer.status_code == 503
    assert not VehicleReading.objects.exists()


def test_batch_speaks_for_its_devices_in_proportion(api, heard):
    body = [reading(n, AHEAD if n % 10 == 0 else IN_TIME) for n in range(1_000)]

    assert api.post("/v1/ingest", body).json()["rejected"] == 100
    assert len(heard._sightings) <= ServerClock.MOST_OF_A_BODY
    assert not heard.is_behind()


def test_batch_of_a_gateway_is_enough_to_find_out(api):
    assert api.post("/v1/ingest", [reading(n, AHEAD) for n in range(5)]).status_code == 503


@pytest.mark.parametrize("heard_of", [None, frozenset({"V1", "V2"})])
def test_key_speaks_for_the_devices_that_it_reaches_alone(db, clock, heard, heard_of):
    key = Grant(1, frozenset(Scope), None, frozenset(), heard_of, None, 0.0)
    lines = b"".join(
        b'{"vehicleId": "V%d", "kwhDeliveredDc": 1, "timestamp": "%s"}\n' % (n, AHEAD.encode())
        for n in range(9)
    )

    if heard_of:
        assert take_in_stream([lines], key, DeviceKind.VEHICLE).rejected == 9
        assert set(heard._sightings) == heard_of
    else:
        with pytest.raises(StreamInterrupted) as interrupted:
            take_in_stream([lines], key, DeviceKind.VEHICLE)
        assert isinstance(interrupted.value.cause, ServerClockBehind)


def test_key_with_many_devices_of_its_own_does_not_outvote_the_others(api, heard):
    def hear(key_id: int, timestamp: str, count: int) -> None:
        body = intake.decode(
            str([reading(100 * key_id + n, timestamp) for n in range(count)])
            .replace("'", '"')
            .encode(),
            DeviceKind.VEHICLE,
            NOON,
        )
        key = Grant(key_id, frozenset(Scope), None, None, None, None, 0.0)
        heard.notice(body, key, NOON)

    hear(1, IN_TIME, 3)
    hear(2, AHEAD, 20)  # invented
    assert not heard.is_behind()

    with pytest.raises(ServerClockBehind):
        hear(3, AHEAD, 2)


def test_devices_that_were_heard_long_ago_do_not_count(api, heard, monkeypatch):
    statuses(api, AHEAD, range(6))
    monkeypatch.setattr(ServerClock, "SECONDS", 0.0)

    assert not heard.is_behind()


def test_it_is_logged_once_and_shown_to_prometheus(api, clock, caplog):
    caplog.set_level("INFO", logger=server_clock.__name__)
    shown = []
    for ahead, count in ((AHEAD, 8), (IN_TIME, 8)):
        statuses(api, ahead, range(count))
        sampling.sample()
        shown.append(REGISTRY.get_sample_value("engine_server_clock_behind"))

    assert shown == [1.0, 0.0]
    logged = [record for record in caplog.records if record.name == "ingestion.server_clock"]
    assert [record.getMessage() for record in logged] == [
        "most devices are ahead of the server's clock: it seems to be behind",
        "most devices agree with the server's clock again",
    ]


def test_open_api_has_one_voice_for_each_device(api):
    assert EVERYTHING.key_id is None
    assert statuses(api, AHEAD, range(5))[-1] == 503
