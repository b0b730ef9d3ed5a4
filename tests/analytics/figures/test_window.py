"""The window of a question: how it is asked for, what is refused, and where exactly it ends."""

from datetime import UTC, datetime, timedelta

import pytest

from analytics.figures.window import InvalidWindow, Window
from analytics.rollups import hourly
from fleet.links import link_vehicle
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

PATH = "/v1/analytics/performance/V1"


@pytest.fixture
def vehicle(api):
    record([vehicle_reading("V1", "11:00", 2.0)], NOON)


@pytest.mark.usefixtures("clock")
def test_window_is_the_last_24_hours_unless_told():
    assert Window.from_query({}) == Window(NOON - timedelta(hours=24), NOON)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("15m", timedelta(minutes=15)),
        ("90m", timedelta(hours=1, minutes=30)),
        ("6h", timedelta(hours=6)),
        ("7d", timedelta(days=7)),
        ("400d", timedelta(days=400)),
    ],
)
def test_window_of_a_length_ends_now(text, length):
    assert Window.from_query({"window": text}) == Window(NOON - length, NOON)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("query", "window"),
    [
        ({"start": "2026-07-15T09:00:00Z"}, Window(at("09:00"), NOON)),
        (
            {"end": "2026-07-15T09:00:00Z"},
            Window(at("09:00") - timedelta(hours=24), at("09:00")),
        ),
        (
            {"start": "2026-07-15T09:00:00Z", "end": "2026-07-15T09:00:00.000001Z"},
            Window(at("09:00"), at("09:00") + timedelta(microseconds=1)),
        ),
        (
            {"start": "2026-07-15T09:00:00Z", "end": "2026-07-16T12:00:00Z"},
            Window(at("09:00"), NOON + timedelta(days=1)),
        ),
        (
            {"start": "2025-06-10T12:00:00Z"},
            Window(datetime(2025, 6, 10, 12, tzinfo=UTC), NOON),  # 400 days
        ),
    ],
    ids=str,
)
def test_window_may_begin_and_end_where_one_likes(query, window):
    assert Window.from_query(query) == window


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("sign", ["+", " "])
def test_plus_sign_of_an_offset_may_arrive_as_a_space(sign):
    window = Window.from_query({"start": f"2026-07-15T11:30:00{sign}02:00"})

    assert window.starts_at == at("09:30")


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("between", ["T", "t", " "])
@pytest.mark.parametrize("sign", ["+", " "])
def test_space_may_stand_between_date_and_time(between, sign):
    window = Window.from_query({"start": f"2026-07-15{between}11:30:00{sign}02:00"})

    assert window.starts_at == at("09:30")


@pytest.mark.parametrize(
    "start",
    [
        "2026-07-15 11:30:00+02:00",
        "2026-07-15+11:30:00+02:00",
        "2026-07-15%2011:30:00%2B02:00",
        "2026-07-15T11:30:00%2B0200",
    ],
)
def test_instant_of_a_reading_may_start_a_window(api, vehicle, start):
    answer = api.get(f"{PATH}?start={start.replace(' ', '%20')}&end=2026-07-15T12:00:00Z")

    assert answer.json()["period"]["start"] == "2026-07-15T09:30:00Z"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("window=14m", "window must be a length from 15m to 400d, such as 6h or 7d"),
        ("window=401d", "window must be a length from 15m to 400d, such as 6h or 7d"),
        ("window=9601h", "window must be a length from 15m to 400d, such as 6h or 7d"),
        ("window=", "window must be a length from 15m to 400d, such as 6h or 7d"),
        ("window=0h", "window must be a length from 15m to 400d, such as 6h or 7d"),
        ("window=-6h", "window must be a length from 15m to 400d, such as 6h or 7d"),
        ("window=6", "window must be a length from 15m to 400d, such as 6h or 7d"),
        ("window=1w", "window must be a length from 15m to 400d, such as 6h or 7d"),
        ("window=1.5h", "window must be a length from 15m to 400d, such as 6h or 7d"),
        ("window=9999999999d", "window must be a length from 15m to 400d, such as 6h or 7d"),
        ("window=%C2%B9d", "window must be a length from 15m to 400d, such as 6h or 7d"),
        ("window=6h&start=2026-07-15T09:00:00Z", "window must be given without start and end"),
        ("window=6h&end=2026-07-15T09:00:00Z", "window must be given without start and end"),
        ("start=2026-07-15T12:00:00Z", "start must be before end"),
        ("start=2026-07-15T13:00:00Z", "start must be before end"),
        ("start=2026-07-15T09:00:00Z&end=2026-07-15T09:00:00Z", "start must be before end"),
        ("start=2025-06-10T11:59:59Z", "start must be at most 400 days before end"),
        ("end=2026-07-16T12:00:00.000001Z", "end must be at most one day in the future"),
    ],
)
@pytest.mark.usefixtures("vehicle")
def test_window_that_makes_no_sense_is_refused_with_its_limit(api, query, message):
    answer = api.get(f"{PATH}?{query}")

    assert (answer.status_code, answer.json()["message"]) == (400, message)


@pytest.mark.usefixtures("vehicle")
@pytest.mark.parametrize("parameter", ["start", "end"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-07-15",
        "2026-07-15T09:00:00",
        "1752570000",
        "2026-07-15T25:00:00Z",
        "2026-07-15T09:00:60Z",
        "1999-12-31T23:59:59Z",
        "0001-01-01T00:00:00%2B14:00",
        "9999-12-31T23:59:59-14:00",
        "%00",
    ],
)
def test_what_is_no_instant_is_refused_by_its_name_and_never_echoed(api, parameter, text):
    answer = api.get(f"{PATH}?{parameter}={text}")

    assert answer.status_code == 400
    assert answer.json()["message"] == (
        f"{parameter} must be an RFC 3339 time with an offset, in the years 2000 to 9998"
    )


@pytest.mark.parametrize("route", ["", "/series", "/explain"])
def test_every_route_of_a_vehicle_takes_the_same_windows(api, vehicle, route):
    answer = api.get(f"{PATH}{route}?window=6h")
    period = (answer.json()["figure"] if route == "/explain" else answer.json())["period"]

    assert period == {"start": "2026-07-15T06:00:00Z", "end": "2026-07-15T12:00:00Z"}
    assert api.get(f"{PATH}{route}?window=6").status_code == 400
    assert api.get(f"{PATH[:-2]}V9{route}?window=6h").json()["message"] == "Vehicle not found"


def test_period_is_served_in_utc_whatever_the_offset_it_was_asked_with(api, vehicle):
    answer = api.get(f"{PATH}?start=2026-07-15T14:30:00%2B05:30&end=2026-07-15T07:30:00-04:00")

    assert answer.json()["period"] == {
        "start": "2026-07-15T09:00:00Z",
        "end": "2026-07-15T11:30:00Z",
    }
    assert answer.json()["energyDeliveredDc"] == 2.0


def test_start_is_in_the_window_and_end_is_not(api):
    record(
        [
            vehicle_reading("V1", "07:00", 1.0),
            vehicle_reading("V1", "09:00", 2.0),
            vehicle_reading("V1", "11:00", 4.0),
        ],
        NOON,
    )
    # So far apart that each lies at its instant.

    def dc(start: str, end: str) -> float:
        query = f"start=2026-07-15T{start}Z&end=2026-07-15T{end}Z"
        return api.get(f"{PATH}?{query}").json()["energyDeliveredDc"]

    assert dc("09:00:00", "11:00:00") == 2
    assert dc("09:00:00.000001", "11:00:00.000001") == 4
    assert (dc("07:00:00", "09:00:00"), dc("09:00:00", "11:30:00")) == (1, 6)
    assert dc("07:00:00", "11:30:00") == 7


def test_window_clipped_amid_hours_is_the_same_with_and_without_sums(api):
    link_vehicle("V1", "M1", at("00:00"))
    for hour in range(6, 12):
        times = [f"{hour:02}:{minute:02}" for minute in (5, 20, 35, 50)]
        record([vehicle_reading("V1", time, 0.75) for time in times], NOON)
        record([meter_reading("M1", time, 1.0) for time in times], NOON)
    # 4 kWh AC an hour. 07:35 and 07:50; 08, 09 and 10 as a whole; 11:05 and 11:20.
    query = "start=2026-07-15T07:30:00Z&end=2026-07-15T11:30:00Z"

    from_history = api.get(f"{PATH}?{query}").json()
    hourly.roll_up()
    from_sums = api.get(f"{PATH}?{query}").json()

    assert from_sums == from_history
    assert (from_sums["energyConsumedAc"], from_sums["energyDeliveredDc"]) == (16.0, 12.0)
    assert (from_sums["efficiencyRatio"], from_sums["dataPoints"]["vehicle"]) == (75.0, 16)
    assert api.get(f"{PATH}/explain?{query}").json()["vehicle"]["hoursFromRollup"] == 3


def test_window_that_is_not_the_default_one_is_never_answered_from_the_cache(api, vehicle):
    assert "X-Cache" not in api.get(f"{PATH}?window=24h")
    assert api.get(PATH)["X-Cache"] == "miss"


def test_error_of_a_window_knows_its_parameter():
    assert InvalidWindow("start", "before end").parameter == "start"
