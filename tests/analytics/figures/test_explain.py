"""What a figure is made of, told so that it can be followed by hand; and how a shared meter is
split step by step."""

from datetime import timedelta

import pytest

from analytics.rollups import hourly
from analytics.rollups.cadence import learn_cadences
from fleet.links import link_vehicle
from fleet.models import Meter, Vehicle
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

PATH = "/v1/analytics/performance"
DAY = "start=2026-07-15T00:00:00Z&end=2026-07-15T12:00:00Z"


def explained(api, vehicle_id: str = "V1", query: str = DAY) -> dict:
    answer = api.get(f"{PATH}/{vehicle_id}/explain?{query}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def figure(api, vehicle_id: str = "V1", query: str = DAY) -> dict:
    return api.get(f"{PATH}/{vehicle_id}?{query}").json()


def deliveries(counted: dict) -> tuple[int, int, int, int]:
    assert counted["deliveries"] == counted["counted"] + counted["repeats"] + counted["corrected"]
    names = ("deliveries", "counted", "repeats", "corrected")
    return tuple(counted[name] for name in names)


def times(part: dict) -> tuple[str, str]:
    return part["start"][11:16], part["end"][11:16]


# --- Explanations -----------------------------------------------------------------------------


def test_explanation_of_a_linked_vehicle_as_a_whole(api):
    link_vehicle("V1", "M1", at("08:00"))
    record([meter_reading("M1", "09:10", 10.0), vehicle_reading("V1", "09:10", 9.0)], NOON)
    record([meter_reading("M1", "11:10", 20.0), vehicle_reading("V1", "11:10", 15.0)], NOON)
    hourly.roll_up()

    told = explained(api)

    assert told.pop("figure") == figure(api)
    assert told == {
        "formula": "efficiencyRatio = 100 · DC / AC = 100 · 24 kWh / 30 kWh = 80.00 %",
        "vehicle": {
            "deviceId": "V1",
            "start": "2026-07-15T00:00:00Z",
            "end": "2026-07-15T12:00:00Z",
            "energyKwh": 24.0,
            "hoursFromRollup": 1,
            "hoursFromHistory": 11.0,
            "deliveries": 2,
            "counted": 2,
            "repeats": 0,
            "corrected": 0,
            "suspectSteps": 0,
            "cadenceSeconds": None,
            "firstStep": None,
            "lastStep": None,
        },
        "meters": [
            {
                "deviceId": "M1",
                "start": "2026-07-15T08:00:00Z",
                "end": "2026-07-15T12:00:00Z",
                "energyKwh": 30.0,
                "hoursFromRollup": 1,
                "hoursFromHistory": 3.0,
                "deliveries": 2,
                "counted": 2,
                "repeats": 0,
                "corrected": 0,
                "suspectSteps": 0,
                "cadenceSeconds": None,
                "firstStep": None,
                "lastStep": None,
            }
        ],
        "splits": [
            {
                "meterId": "M1",
                "start": "2026-07-15T08:00:00Z",
                "end": "2026-07-15T12:00:00Z",
                "vehicleIds": ["V1"],
                "meterEnergyAc": 30.0,
                "share": 1.0,
                "energyConsumedAc": 30.0,
                "energyDeliveredDc": 24.0,
                "vehiclesEnergyDc": 24.0,
            }
        ],
        "fleet": None,
    }


def test_deliveries_are_those_that_count_and_repeats_and_corrected_ones(api):
    link_vehicle("V1", "M1", at("08:00"))
    first = [vehicle_reading("V1", "09:00", 1.0), vehicle_reading("V1", "10:00", 5.0)]
    record(first, NOON)
    record(first, NOON + timedelta(seconds=1))  # two repeats
    record([vehicle_reading("V1", "10:00", 2.0)], NOON + timedelta(seconds=2))  # corrects two
    record([meter_reading("M1", "09:00", 4.0)] * 3, NOON)

    told = explained(api)

    # 09:00 counts, with one repeat; of 10:00 the third delivery counts, two had another value.
    assert deliveries(told["vehicle"]) == (5, 2, 1, 2)
    assert deliveries(told["meters"][0]) == (3, 1, 2, 0)
    assert told["vehicle"]["energyKwh"] == 3.0


def test_delivery_that_differs_in_another_field_alone_is_corrected_too(api):
    link_vehicle("V1", "M1", at("08:00"))
    record([vehicle_reading("V1", soc_percent=70.0), meter_reading("M1")], NOON)
    later = NOON + timedelta(seconds=1)
    record([vehicle_reading("V1", soc_percent=71.0), meter_reading("M1", voltage_v=230.0)], later)

    told = explained(api)

    assert deliveries(told["vehicle"]) == (2, 1, 0, 1)
    assert deliveries(told["meters"][0]) == (2, 1, 0, 1)


def test_late_delivery_of_an_older_value_does_not_win_and_is_told(api):
    record([vehicle_reading("V1", kwh=2.0)], NOON + timedelta(seconds=5))
    record([vehicle_reading("V1", kwh=9.0)], NOON)

    told = explained(api)

    assert deliveries(told["vehicle"]) == (2, 1, 0, 1)
    assert told["vehicle"]["energyKwh"] == 2.0


def test_deliveries_outside_the_window_are_not_counted(api):
    record([vehicle_reading("V1", time) for time in ("08:59", "09:00", "09:59", "10:00")], NOON)

    told = explained(api, query="start=2026-07-15T09:00:00Z&end=2026-07-15T10:00:00Z")

    assert deliveries(told["vehicle"]) == (2, 2, 0, 0)


def test_explanation_says_which_hours_come_from_sums(api, clock):
    record([vehicle_reading("V1", f"{hour:02}:30") for hour in range(6, 12)], NOON)
    query = "start=2026-07-15T06:15:00Z&end=2026-07-15T12:00:00Z"

    def hours() -> tuple[int, float]:
        vehicle = explained(api, query=query)["vehicle"]
        return vehicle["hoursFromRollup"], vehicle["hoursFromHistory"]

    assert hours() == (0, 5.75)
    hourly.roll_up()
    assert hours() == (4, 1.75)  # 07 to 10; 06 is clipped, 11 too young
    record([vehicle_reading("V1", "08:45")], NOON)  # joins an hour that is summed up
    assert hours() == (3, 2.75)
    clock.shift(hourly.QUIET)
    hourly.roll_up()
    assert hours() == (4, 1.75)


def test_suspect_steps_and_cadence_of_each_device_are_told(api):
    Meter.objects.create(meter_id="M1", energy_register="counter", max_power_kw=22.0)
    link_vehicle("V1", "M1", at("08:00"))
    record(
        [meter_reading("M1", f"09:{minute:02}", 10.0 + minute / 10) for minute in range(12)], NOON
    )
    record([meter_reading("M1", "09:05", 5000.0)], NOON + timedelta(seconds=1))
    record([vehicle_reading("V1", "09:05", 0.5)], NOON)
    learn_cadences()

    told = explained(api)
    (meter,) = told["meters"]

    assert (meter["suspectSteps"], meter["cadenceSeconds"]) == (1, 60.0)
    assert meter["energyKwh"] == pytest.approx(1.1)
    assert (told["vehicle"]["suspectSteps"], told["vehicle"]["cadenceSeconds"]) == (0, None)
    assert told["figure"]["suspectSteps"] == 1


@pytest.mark.parametrize("is_summed_up", [False, True])
def test_steps_that_the_bounds_of_a_span_cut_are_told(api, clock, is_summed_up):
    link_vehicle("V1", "M1", at("10:00"))
    for time, ac_kwh, dc_kwh in (
        ("08:55", 1.0, 0.5),
        ("09:55", 10.0, 9.0),
        ("10:10", 3.0, 2.4),
        ("10:50", 8.0, 6.0),
        ("11:05", 6.0, 4.5),
    ):
        record([meter_reading("M1", time, ac_kwh), vehicle_reading("V1", time, dc_kwh)], NOON)
    if is_summed_up:
        clock.shift(hourly.QUIET)
        hourly.roll_up()

    told = explained(api, query="start=2026-07-15T09:15:00Z&end=2026-07-15T11:00:00Z")

    # 40 of 60 minutes of 9 kWh, 2.4 and 6, and 10 of 15 minutes of 4.5.
    assert told["vehicle"]["energyKwh"] == pytest.approx(6 + 2.4 + 6 + 3, abs=1e-9)
    assert told["vehicle"]["firstStep"] == {
        "start": "2026-07-15T08:55:00Z",
        "end": "2026-07-15T09:55:00Z",
        "energyKwh": 9.0,
        "energyInSpanKwh": 6.0,
    }
    last = told["vehicle"]["lastStep"]
    assert (times(last), last["energyKwh"], last["energyInSpanKwh"]) == (("10:50", "11:05"), 4.5, 3)
    # The meter's span begins with the link: 10 of 15 minutes of 3 kWh, 8, and 4 of 6.
    (meter,) = told["meters"]
    assert meter["energyKwh"] == pytest.approx(2 + 8 + 4, abs=1e-9)
    first, last = meter["firstStep"], meter["lastStep"]
    assert (times(first), first["energyKwh"], first["energyInSpanKwh"]) == (
        ("09:55", "10:10"),
        3.0,
        2.0,
    )
    assert (times(last), last["energyKwh"], last["energyInSpanKwh"]) == (("10:50", "11:05"), 6, 4)


def test_step_that_is_longer_than_the_span_is_cut_at_both_ends(api):
    Vehicle.objects.create(vehicle_id="V1", energy_register="counter")
    record([vehicle_reading("V1", "06:00", 100.0), vehicle_reading("V1", "11:00", 110.0)], NOON)

    vehicle = explained(api, query="start=2026-07-15T07:00:00Z&end=2026-07-15T09:00:00Z")["vehicle"]

    assert (vehicle["counted"], vehicle["energyKwh"]) == (0, 4.0)
    assert vehicle["firstStep"] == vehicle["lastStep"]
    assert (times(vehicle["firstStep"]), vehicle["firstStep"]["energyInSpanKwh"]) == (
        ("06:00", "11:00"),
        4.0,
    )


def test_formula_has_the_numbers_of_the_linked_part(api):
    link_vehicle("V1", "M1", at("10:00"))
    record([vehicle_reading("V1", "09:00", 50.0), vehicle_reading("V1", "11:00", 9.0)], NOON)
    record([meter_reading("M1", "11:00", 10.8)], NOON)

    told = explained(api)

    assert told["formula"] == "efficiencyRatio = 100 · DC / AC = 100 · 9 kWh / 10.8 kWh = 83.33 %"
    assert (told["figure"]["efficiencyRatio"], told["figure"]["energyDeliveredDc"]) == (83.33, 59)
    assert told["vehicle"]["energyKwh"] == 59
    assert [split["energyDeliveredDc"] for split in told["splits"]] == [9]


def test_splits_add_up_to_the_figure(api):
    link_vehicle("V1", "M1", at("06:00"))
    link_vehicle("V1", "M2", at("09:20"))
    link_vehicle("V2", "M2", at("08:00"))
    for hour in range(6, 12):
        for minute in (10, 40):
            time = f"{hour:02}:{minute}"
            record([meter_reading("M1", time, 3.0), meter_reading("M2", time, 7.0)], NOON)
            record([vehicle_reading("V1", time, 2.5), vehicle_reading("V2", time, 3.0)], NOON)

    told = explained(api)

    assert [(split["meterId"], *times(split)) for split in told["splits"]] == [
        ("M1", "06:00", "09:20"),
        ("M2", "09:20", "12:00"),
    ]
    for name in ("energyConsumedAc", "energyDeliveredDc"):
        total = sum(split[name] for split in told["splits"])
        assert total == pytest.approx(told["figure"][name], abs=1e-9)
    for split, meter in zip(told["splits"], told["meters"], strict=True):
        shared_kwh = split["meterEnergyAc"] * split["share"]
        assert split["energyConsumedAc"] == pytest.approx(shared_kwh, abs=1e-9)
        assert split["meterEnergyAc"] == pytest.approx(meter["energyKwh"], abs=1e-9)
        assert times(split) == times(meter)


def test_vehicle_without_a_link_is_told_what_it_has_a_share_of(api):
    record([meter_reading("M1", kwh=60.0), meter_reading("M2", kwh=40.0)], NOON)
    record([vehicle_reading("V1", kwh=20.0), vehicle_reading("V2", kwh=60.0)], NOON)

    told = explained(api)

    assert (told["figure"]["acSource"], told["meters"], told["splits"]) == ("fleet", [], [])
    assert told["fleet"] == {"energyConsumedAc": 100.0, "energyDeliveredDc": 80.0}
    assert told["formula"] == "efficiencyRatio = 100 · DC / AC = 100 · 20 kWh / 25 kWh = 80.00 %"


def test_vehicle_without_any_readings_has_an_explanation(api):
    Vehicle.objects.create(vehicle_id="V1")

    told = explained(api)

    assert told["formula"] == "efficiencyRatio = null: there is no AC to compare with"
    assert deliveries(told["vehicle"]) == (0, 0, 0, 0)
    assert (told["vehicle"]["energyKwh"], told["fleet"]) == (0, None)
    assert told["figure"]["reason"] == "no_ac"


def test_linked_vehicle_and_meter_without_any_readings_have_an_explanation(api):
    link_vehicle("V1", "M1", at("08:00"))

    told = explained(api)

    assert deliveries(told["meters"][0]) == (0, 0, 0, 0)
    assert told["splits"][0]["meterEnergyAc"] == 0
    assert told["figure"]["acSource"] == "linked"


def test_unknown_vehicle_has_no_explanation(api):
    answer = api.get(f"{PATH}/V9/explain")

    assert (answer.status_code, answer.json()["message"]) == (404, "Vehicle not found")


@pytest.mark.parametrize("window", ["6h", "24h", "400d"])
def test_explanation_costs_the_same_statements_however_long(api, statements_sent, window):
    link_vehicle("V1", "M1", at("00:00"))
    link_vehicle("V2", "M1", at("00:00"))
    record([meter_reading("M1"), vehicle_reading("V1")], NOON)

    with statements_sent() as sent:
        explained(api, query=f"window={window}")

    # Links, DC, AC; how the meter is shared; DC of those who share it; deliveries of both.
    assert sent == [11]


# --- A shared meter, step by step -------------------------------------------------------------


def share(api, vehicle_id: str) -> tuple[float, float | None]:
    """Return AC and efficiency of a vehicle: the same from history and from sums."""
    from_history = figure(api, vehicle_id)
    hourly.roll_up()
    assert figure(api, vehicle_id) == from_history
    assert from_history["acSource"] == "shared"
    return from_history["energyConsumedAc"], from_history["efficiencyRatio"]


@pytest.fixture
def two_at_a_meter(api):
    link_vehicle("V1", "M1", at("08:00"))
    link_vehicle("V2", "M1", at("08:00"))


@pytest.mark.usefixtures("two_at_a_meter")
def test_shared_meter_is_split_step_by_step(api):
    # Up to 10:00: 10 kWh for V1 alone. Up to 11:00: 20 kWh, 4 of 16 for V1.
    readings = [("09:00", 0.0, 0.0, 0.0), ("10:00", 10.0, 9.0, 0.0), ("11:00", 20.0, 4.0, 12.0)]
    for time, ac_kwh, first_kwh, second_kwh in readings:
        record([meter_reading("M1", time, ac_kwh)], NOON)
        record([vehicle_reading("V1", time, first_kwh)], NOON)
        record([vehicle_reading("V2", time, second_kwh)], NOON)

    # Over the window it would be 13 of 25, 15.6 kWh and 83.33 %, for both of them.
    assert share(api, "V1") == (10 + 5, 86.67)
    assert share(api, "V2") == (15, 80.0)
    shares = [split["share"] for split in explained(api)["splits"]]
    assert shares == [0.5]  # 15 of 30


@pytest.mark.usefixtures("two_at_a_meter")
def test_step_in_which_none_took_any_is_split_equally(api):
    record([meter_reading("M1", "09:00", 0.0), meter_reading("M1", "10:00", 0.4)], NOON)  # standby
    record([vehicle_reading("V1", "10:00", 0.0), vehicle_reading("V1", "11:00", 16.0)], NOON)
    record([meter_reading("M1", "11:00", 20.0)], NOON)

    assert share(api, "V1") == (20.2, 79.21)
    assert share(api, "V2") == (0.2, 0.0)


def test_third_vehicle_joins_amid_an_hour(api, two_at_a_meter):
    link_vehicle("V3", "M1", at("10:30"))
    for time, ac_kwh, *dc_kwh in (
        ("10:00", 0.0, 0.0, 0.0, 0.0),
        ("10:30", 9.0, 2.0, 4.0, 50.0),
        ("11:00", 12.0, 3.0, 3.0, 6.0),
    ):
        record([meter_reading("M1", time, ac_kwh)], NOON)
        vehicles = zip(("V1", "V2", "V3"), dc_kwh, strict=True)
        record([vehicle_reading(id_, time, kwh) for id_, kwh in vehicles], NOON)

    # Up to 10:30: 9 kWh as 2 to 4. After: 12 kWh as 3 to 3 to 6. The 50 kWh came from elsewhere.
    assert share(api, "V1") == (3 + 3, 83.33)
    assert share(api, "V2") == (6 + 3, 77.78)
    assert share(api, "V3") == (6, 100.0)
    assert [times(split) for split in explained(api, "V1")["splits"]] == [
        ("08:00", "10:30"),
        ("10:30", "12:00"),
    ]


def test_figures_of_all_vehicles_of_a_meter_add_up_to_its_ac(api):
    link_vehicle("V1", "M1", at("00:00"))
    link_vehicle("V2", "M1", at("03:20"))
    link_vehicle("V3", "M1", at("05:45"))
    link_vehicle("V2", "M9", at("08:10"))  # leaves
    for number in range(72):
        time = f"{number // 6:02}:{number % 6}5"
        record([meter_reading("M1", time, 0.1 * (number % 7))], NOON)
        for vehicle, cycle in (("V1", 5), ("V2", 11), ("V3", 4)):
            record([vehicle_reading(vehicle, time, 0.03 * max(0, number % cycle - 2))], NOON)

    metered = sum(0.1 * (number % 7) for number in range(72))
    parts = [share(api, vehicle)[0] for vehicle in ("V1", "V2", "V3")]

    assert sum(parts) == pytest.approx(metered, abs=3e-9)  # each is rounded
    assert min(parts) > 1
