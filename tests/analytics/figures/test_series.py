"""A window cut into quarters of an hour, hours or days, also where the clock changes."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from analytics.figures.series import MAX_POINTS, Granularity, TooManyPoints, cut
from analytics.figures.window import Window
from analytics.rollups import hourly
from fleet.links import link_vehicle
from fleet.models import Meter, Vehicle
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

PATH = "/v1/analytics/performance/V1"
DAY = "start=2026-07-15T00:00:00Z&end=2026-07-15T12:00:00Z"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def points(api, query: str) -> list[dict]:
    answer = api.get(f"{PATH}/series?{query}")
    assert answer.status_code == 200, answer.content
    return answer.json()["points"]


def dc(of_points: list[dict]) -> list[float]:
    return [point["energyDeliveredDc"] for point in of_points]


def days(zone: str, start: str, end: str) -> list[tuple[str, float]]:
    """Return the days of a window: when each begins, UTC, and how many hours it has."""
    pieces = cut(Window(utc(start), utc(end)), Granularity.DAY, ZoneInfo(zone))
    return [(f"{piece.starts_at:%m-%d %H:%M}", piece.seconds / 3600) for piece in pieces]


def test_quarters_of_an_hour(api):
    record(
        [
            vehicle_reading("V1", "10:00", 0.0),
            vehicle_reading("V1", "10:20", 4.0),  # 3 and 1
            vehicle_reading("V1", "10:50", 12.0),  # 4, 6 and 2
            vehicle_reading("V1", "11:10", 2.0),  # 1, and 1 after the window
        ],
        NOON,
    )

    quarters = points(api, "granularity=15m&start=2026-07-15T10:00:00Z&end=2026-07-15T11:00:00Z")

    assert dc(quarters) == pytest.approx([3, 1 + 4, 6, 2 + 1], abs=1e-9)
    assert (quarters[1]["start"], quarters[1]["end"]) == (
        "2026-07-15T10:15:00Z",
        "2026-07-15T10:30:00Z",
    )


def test_hours_whose_first_and_last_are_clipped_by_the_window(api):
    record([vehicle_reading("V1", f"{hour:02}:40", 3.0) for hour in range(8, 12)], NOON)

    hours = points(api, "start=2026-07-15T08:30:00Z&end=2026-07-15T11:20:00Z")

    assert [(point["start"][11:16], point["end"][11:16]) for point in hours] == [
        ("08:30", "09:00"),
        ("09:00", "10:00"),
        ("10:00", "11:00"),
        ("11:00", "11:20"),
    ]
    # The first reading lies at its instant; of the others, 1 kWh each 20 minutes.
    assert dc(hours) == pytest.approx([3 + 1, 3, 3, 1], abs=1e-9)


def test_series_is_by_the_hour_in_utc_unless_told(api):
    record([vehicle_reading("V1")], NOON)

    series = api.get(f"{PATH}/series").json()

    assert (series["granularity"], series["tz"], len(series["points"])) == ("hour", "UTC", 24)
    assert series["period"] == {"start": "2026-07-14T12:00:00Z", "end": "2026-07-15T12:00:00Z"}


def test_point_has_figures_of_its_own(api):
    link_vehicle("V1", "M1", at("00:00"))
    record([meter_reading("M1", "10:00", 0.0), meter_reading("M1", "11:00", 10.0)], NOON)
    record([meter_reading("M1", "12:00", 20.0), vehicle_reading("V1", "12:00", 16.0)], NOON)
    record([vehicle_reading("V1", "10:00", 0.0, battery_temp_celsius=30.0)], NOON)
    record([vehicle_reading("V1", "11:00", 9.0, battery_temp_celsius=34.0)], NOON)

    ten, eleven = points(api, "window=2h")

    assert ten == {
        "start": "2026-07-15T10:00:00Z",
        "end": "2026-07-15T11:00:00Z",
        "energyConsumedAc": 10.0,
        "energyDeliveredDc": 9.0,
        "efficiencyRatio": 90.0,
        "averageBatteryTemp": 30.0,
        "dataPoints": {"vehicle": 1, "meter": 1},
        "suspectSteps": 0,
    }
    assert (eleven["efficiencyRatio"], eleven["averageBatteryTemp"]) == (80.0, 34.0)


@pytest.mark.parametrize("granularity", Granularity)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_pieces_add_up_to_the_figure_of_the_window(api, granularity, zone):
    """Of a vehicle that changes from a meter of its own to a shared one, all of them counters."""
    for registry, ids in ((Meter, ("M1", "M2")), (Vehicle, ("V1", "V2"))):
        key = registry._meta.pk.name
        registry.objects.bulk_create(
            registry(**{key: id_}, energy_register="counter", max_power_kw=50.0) for id_ in ids
        )
    link_vehicle("V1", "M1", at("02:10"))
    link_vehicle("V1", "M2", at("07:35"))
    link_vehicle("V2", "M2", at("05:00"))
    for number in range(66):
        time = f"{number // 6 + 1:02}:{number % 6}5"
        glitch = 4000.0 if number == 40 else 0.0
        record(
            [
                meter_reading("M1", time, 100 + 2.0 * number),
                meter_reading("M2", time, 900 + 3.0 * number + glitch),
                vehicle_reading("V1", time, 40 + 1.5 * number),
                vehicle_reading("V2", time, 70 + 0.75 * number),
            ],
            NOON,
        )
    hourly.roll_up()
    # One that is summed up no more, and comes from history.
    record([vehicle_reading("V1", "03:55", 66.5)], NOON)

    figure = api.get(f"{PATH}?{DAY}").json()
    pieces = points(api, f"{DAY}&granularity={granularity}&tz={zone}")

    assert figure["acSource"] == "shared"
    assert figure["suspectSteps"] == 1
    for name in ("energyConsumedAc", "energyDeliveredDc", "suspectSteps"):
        assert sum(point[name] for point in pieces) == pytest.approx(figure[name], abs=1e-9)
    for kind in ("vehicle", "meter"):
        readings = sum(point["dataPoints"][kind] for point in pieces)
        assert readings == figure["dataPoints"][kind]


def test_offset_of_the_window_does_not_change_how_a_shared_meter_is_split(api):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V2", "M1", at("08:00"))
    record([meter_reading("M1", "10:00", 0.0), meter_reading("M1", "10:45", 12.0)], NOON)
    record([vehicle_reading("V1", "10:15", 5.0), vehicle_reading("V2", "10:30", 5.0)], NOON)

    in_utc = points(api, "start=2026-07-15T09:20:00Z&end=2026-07-15T11:00:00Z")
    in_kolkata = points(api, "start=2026-07-15T14:50:00%2B05:30&end=2026-07-15T16:30:00%2B05:30")

    assert in_kolkata == in_utc
    assert in_utc[-1]["energyConsumedAc"] == 6.0  # half of the step's 12 kWh


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("summed_up", [False, True])
@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [
        ("2026-03-28T23:00:00", "2026-03-29T22:00:00", 23),
        ("2025-10-25T22:00:00", "2025-10-26T23:00:00", 25),
    ],
    ids=["spring", "autumn"],
)
def test_day_of_berlin_has_23_or_25_hours(api, clock, start, end, hours, summed_up):
    clock.move_to(utc(end) + timedelta(hours=12))
    readings = [vehicle_reading("V1", kwh=1.0) for _ in range(-30, 60)]
    for number, reading in enumerate(readings):
        reading.measured_at = utc(start) + timedelta(hours=number - 30, minutes=30)
    record(readings, utc(end))
    if summed_up:
        hourly.roll_up()
    window = f"start={(utc(start) - timedelta(hours=24)).isoformat()[:-6]}Z&end={end}Z"

    before, day = points(api, f"{window}&granularity=day&tz=Europe/Berlin")

    assert (day["start"], day["end"]) == (f"{start}Z", f"{end}Z")
    assert (before["energyDeliveredDc"], day["energyDeliveredDc"]) == (24, hours)


def test_days_of_a_zone_with_half_an_hour_of_offset(api):
    record([vehicle_reading("V1", "00:00", 1.0)], NOON)
    evening = [vehicle_reading("V1", "18:15", 2.0), vehicle_reading("V1", "18:45", 4.0)]
    for reading in evening:
        reading.measured_at -= timedelta(days=1)
    record(evening, NOON)

    yesterday, today = points(api, "granularity=day&tz=Asia/Kolkata")

    assert (yesterday["end"], today["start"]) == ("2026-07-14T18:30:00Z",) * 2
    # Half of the step across midnight on either side.
    assert dc([yesterday, today]) == [2 + 2, 2 + 1]


def test_day_begins_at_its_first_instant_where_the_clock_changes_at_midnight():
    # Santiago: at 00:00 of 6 September it is 01:00 at once; at 24:00 of 4 April, 23:00 again.
    assert days("America/Santiago", "2026-09-05T04:00", "2026-09-08T03:00") == [
        ("09-05 04:00", 24),
        ("09-06 04:00", 23),
        ("09-07 03:00", 24),
    ]
    assert days("America/Santiago", "2026-04-03T03:00", "2026-04-06T04:00") == [
        ("04-03 03:00", 24),
        ("04-04 03:00", 25),
        ("04-05 04:00", 24),
    ]
    # Cairo: from 00:00 of 24 April to 01:00; at 24:00 of 29 October, 23:00 again.
    assert days("Africa/Cairo", "2026-04-22T22:00", "2026-04-24T21:00") == [
        ("04-22 22:00", 24),
        ("04-23 22:00", 23),
    ]
    assert days("Africa/Cairo", "2025-10-29T21:00", "2025-10-31T22:00") == [
        ("10-29 21:00", 25),
        ("10-30 22:00", 24),
    ]


def test_day_begins_once_where_midnight_comes_twice():
    # Havana: at 01:00 of 2 November it is 00:00 again.
    assert days("America/Havana", "2025-11-01T04:00", "2025-11-04T05:00") == [
        ("11-01 04:00", 24),
        ("11-02 04:00", 25),
        ("11-03 05:00", 24),
    ]


def test_day_that_a_zone_left_out_is_left_out():
    # Samoa went to the other side of the date line: no 30 December in 2011.
    assert days("Pacific/Apia", "2011-12-29T10:00", "2012-01-01T10:00") == [
        ("12-29 10:00", 24),
        ("12-30 10:00", 24),
        ("12-31 10:00", 24),
    ]


def test_series_may_have_10000_points_and_no_more(api):
    quarter = timedelta(minutes=15)
    window = Window(NOON - MAX_POINTS * quarter, NOON)
    longer = Window(window.starts_at - timedelta(microseconds=1), NOON)

    assert len(cut(window, Granularity.QUARTER, ZoneInfo("UTC"))) == 10_000
    with pytest.raises(TooManyPoints):
        cut(longer, Granularity.QUARTER, ZoneInfo("UTC"))
    record([vehicle_reading("V1")], NOON)
    answer = api.get(f"{PATH}/series?granularity=15m&window=105d")
    assert answer.status_code == 400
    assert answer.json()["message"] == (
        "A series may have at most 10,000 points: choose a shorter window or a coarser granularity"
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("granularity=week", "granularity must be one of 15m, hour, day"),
        ("granularity=", "granularity must be one of 15m, hour, day"),
        ("tz=Berlin", "tz must be the name of an IANA time zone, such as Europe/Berlin"),
        ("tz=europe/berlin", "tz must be the name of an IANA time zone, such as Europe/Berlin"),
        ("tz=", "tz must be the name of an IANA time zone, such as Europe/Berlin"),
        ("tz=../etc/passwd", "tz must be the name of an IANA time zone, such as Europe/Berlin"),
        ("tz=%2B02:00", "tz must be the name of an IANA time zone, such as Europe/Berlin"),
        ("tz=%00", "tz must be the name of an IANA time zone, such as Europe/Berlin"),
    ],
)
def test_series_that_there_is_not_is_refused(api, query, message):
    record([vehicle_reading("V1")], NOON)

    answer = api.get(f"{PATH}/series?{query}")

    assert (answer.status_code, answer.json()["message"]) == (400, message)


def test_series_of_an_unlinked_vehicle_shares_the_fleets_ac_over_the_whole_window(api):
    # 30 kWh AC for 24 kWh DC: each kWh of DC stands for 1.25 of AC, whenever it came.
    record([meter_reading("M1", "08:10", 30.0)], NOON)
    record([vehicle_reading("V1", "09:10", 8.0), vehicle_reading("V1", "11:10", 4.0)], NOON)
    record([vehicle_reading("V2", "10:10", 12.0)], NOON)

    figure = api.get(f"{PATH}?window=3h").json()
    assert figure["energyConsumedAc"] == 0  # the meter's reading is not in these hours
    figure = api.get(f"{PATH}?window=4h").json()
    hours = points(api, "window=4h")

    assert (figure["energyConsumedAc"], figure["acSource"]) == (15.0, "fleet")
    assert [point["energyConsumedAc"] for point in hours] == [0, 10, 0, 5]
    assert [point["efficiencyRatio"] for point in hours] == [None, 80, None, 80]


def test_series_of_a_vehicle_without_readings_is_all_zeros_and_nulls(api):
    Vehicle.objects.create(vehicle_id="V1")

    hours = points(api, "window=6h")

    assert len(hours) == 6
    assert dc(hours) == [0] * 6
    assert {point["efficiencyRatio"] for point in hours} == {None}


@pytest.mark.parametrize("window", ["1h", "24h", "400d"])
def test_series_costs_the_same_statements_however_long(api, statements_sent, window):
    link_vehicle("V1", "M1", at("00:00"))
    record([meter_reading("M1"), vehicle_reading("V1")], NOON)

    with statements_sent() as sent:
        points(api, f"granularity=day&window={window}")

    assert sent == [3]
