"""A simulated fleet that is the same each time, with figures that are known."""

from collections import Counter, defaultdict
from datetime import timedelta
from itertools import pairwise
from operator import ne

import msgspec
import pytest

from ingestion.readings import MeterReading, VehicleReading, device_id
from ingestion.simulation.deliveries import batches, deliveries
from ingestion.simulation.scenario import Scenario
from tests.conftest import NOON, at


def scenario(**changes: object) -> Scenario:
    """Return six hours of two vehicles at two meters where nothing happens, but for `changes`."""
    calm = {"late_share": 0, "repeated_share": 0, "out_of_order_share": 0}
    calm |= {"leaking_share": 0, "public_share": 0, "interrupted_share": 0}
    span = {"starts_at": at("06:00"), "ends_at": at("12:00")}
    return Scenario(**{"vehicles": 2, "meters": 2} | span | calm | changes)


def identity(reading: MeterReading | VehicleReading) -> tuple:
    return device_id(reading), reading.measured_at


def of_vehicles(of: Scenario) -> dict[str, list[VehicleReading]]:
    readings = defaultdict(list)
    for reading in deliveries(of):
        if isinstance(reading, VehicleReading):
            readings[reading.vehicle_id].append(reading)
    return readings


def energy_kwh(of: Scenario, meter_id: str) -> float:
    return sum(
        reading.energy_ac_kwh for reading in deliveries(of) if device_id(reading) == meter_id
    )


# --- The fleet --------------------------------------------------------------------------------


def test_same_scenario_delivers_the_same_bytes():
    mishaps = {"late_share": 0.1, "repeated_share": 0.1, "out_of_order_share": 0.1}
    first, second = (msgspec.json.encode(list(batches(scenario(**mishaps), 100))) for _ in "12")

    assert first == second


def test_another_seed_delivers_something_else():
    assert list(deliveries(scenario(seed=1))) != list(deliveries(scenario(seed=2)))


def test_every_device_reads_at_each_tick_from_start_until_end():
    counted = Counter(map(device_id, deliveries(scenario())))
    times = sorted({reading.measured_at for reading in deliveries(scenario())})

    assert counted == dict.fromkeys(["SIM-M0001", "SIM-M0002", "SIM-V0001", "SIM-V0002"], 360)
    assert (times[0], times[-1]) == (at("06:00"), at("11:59"))
    assert scenario().reading_count == 4 * 360


def test_without_mishaps_readings_arrive_in_order_of_time():
    times = [reading.measured_at for batch in batches(scenario(), 100) for reading in batch]

    assert times == sorted(times)


def test_late_readings_arrive_once_and_after_newer_ones_of_their_device():
    of = scenario(late_share=0.1)
    newest, overtaken = {}, 0
    for reading in deliveries(of):
        device, measured_at = identity(reading)
        overtaken += measured_at < newest.get(device, measured_at)
        newest[device] = max(measured_at, newest.get(device, measured_at))

    assert of.late_count == 144
    # Where a device's last readings are late, no newer one is left to overtake them.
    assert 135 <= overtaken <= 144
    assert sorted(map(identity, deliveries(of))) == sorted(map(identity, deliveries(scenario())))


def test_repeated_readings_arrive_twice():
    of = scenario(repeated_share=0.1)
    times_delivered = Counter(Counter(map(identity, deliveries(of))).values())

    assert times_delivered == {1: 1440 - 144, 2: 144}
    assert of.delivery_count == 1440 + 144


def test_readings_out_of_order_stand_elsewhere_in_their_batch():
    in_order = list(batches(scenario(), 100))
    swapped = list(batches(scenario(out_of_order_share=0.1), 100))

    for batch, other in zip(in_order, swapped, strict=True):
        assert sum(map(ne, batch, other)) == int(len(batch) * 0.1 / 2) * 2
        assert sorted(map(identity, batch)) == sorted(map(identity, other))


def test_every_reading_may_be_late_or_repeated_or_out_of_order():
    shares = {"late_share": 0.5, "repeated_share": 0.5, "out_of_order_share": 1}
    wild = scenario(vehicles=1, ends_at=at("06:05"), **shares)

    assert (wild.reading_count, wild.late_count, wild.repeated_count) == (15, 8, 7)
    assert sum(map(len, batches(wild, 7))) == wild.delivery_count == 22


@pytest.mark.parametrize("hour", range(24))
def test_every_vehicle_charges_in_every_hour(hour):
    starts_at = NOON + timedelta(hours=hour)
    ends_at = starts_at + timedelta(hours=1)
    of = scenario(vehicles=5, meters=5, interrupted_share=0.5, starts_at=starts_at, ends_at=ends_at)

    for readings in of_vehicles(of).values():
        assert sum(reading.energy_dc_kwh for reading in readings) > 0.3


def test_soc_falls_on_the_road_and_rises_at_the_charger():
    of = scenario(starts_at=at("00:00"), ends_at=at("00:00") + timedelta(days=3))
    (readings, *_) = of_vehicles(of).values()

    for before, after in pairwise(readings):
        if after.energy_dc_kwh == 0:
            assert after.soc_percent <= before.soc_percent
        if after.measured_at.hour < 6:
            assert after.energy_dc_kwh > 0
            assert after.soc_percent >= before.soc_percent
    by_hour = {(r.measured_at.day, r.measured_at.hour): r.soc_percent for r in readings}
    assert by_hour[15, 18] < by_hour[15, 5] - 15
    assert by_hour[16, 12] != by_hour[15, 12]


@pytest.mark.parametrize(
    ("changes", "most_dc_kw", "most_ac_kw"),
    [
        ({}, 11, 11 / 0.6),
        ({"public_share": 0.5, "interrupted_share": 0.5}, 19, 11 / 0.6),
        ({"meters": 8}, 11, 2 * 11 / 0.6),  # by day, two vehicles may top up together
    ],
)
def test_readings_are_plausible(changes, most_dc_kw, most_ac_kw):
    fleet = {"vehicles": 10, "meters": 10, "ends_at": at("06:00") + timedelta(days=2)}
    of = scenario(**fleet | changes)

    for reading in deliveries(of):
        if isinstance(reading, VehicleReading):
            assert 10 <= reading.soc_percent <= 95
            assert 20 <= reading.battery_temp_celsius <= 40
            assert 0 <= reading.energy_dc_kwh <= most_dc_kw / 60
        else:
            assert 220 <= reading.voltage_v <= 240
            assert 0 < reading.energy_ac_kwh <= most_ac_kw / 60


@pytest.mark.parametrize(
    ("leaking_share", "least_kw", "most_kw"), [(0, 0.001, 0.003), (1, 0.09, 0.12)]
)
def test_meter_that_serves_nobody_draws_its_standby_alone(leaking_share, least_kw, most_kw):
    of = scenario(vehicles=1, leaking_share=leaking_share)

    assert least_kw * 6 <= energy_kwh(of, "SIM-M0002") <= most_kw * 6
    assert energy_kwh(of, "SIM-M0002") == pytest.approx(of.chargers[1].standby_kw * 6, abs=0.0002)


def test_public_charging_is_outside_of_links_and_draws_nothing_from_the_meter():
    day = {"vehicles": 1, "meters": 1, "starts_at": at("00:00"), "ends_at": at("23:59")}
    of = scenario(**day, public_share=1)
    (away,) = of.away()
    elsewhere_kwh = ac_kwh = 0.0
    for reading in deliveries(of):
        if away.starts_at < reading.measured_at <= away.ends_at:
            if isinstance(reading, VehicleReading):
                elsewhere_kwh += reading.energy_dc_kwh
            else:
                ac_kwh += reading.energy_ac_kwh

    assert 10 < elsewhere_kwh < 13  # two thirds of an hour at 15 to 19 kW
    assert ac_kwh < 0.01
    efficiency = of.pairings[0].efficiency
    dc_kwh = sum(reading.energy_dc_kwh for reading in of_vehicles(of)["SIM-V0001"])
    assert energy_kwh(of, "SIM-M0001") == pytest.approx(
        (dc_kwh - elsewhere_kwh) / efficiency, rel=0.01
    )
    assert list(scenario(**day).away()) == []


def test_interrupted_night_has_one_pause():
    night = {"starts_at": at("20:00"), "ends_at": at("20:00") + timedelta(hours=10)}
    for share, pauses in ((0, 0), (1, 1)):
        readings = of_vehicles(scenario(**night, interrupted_share=share))["SIM-V0001"]
        charges = [reading.energy_dc_kwh > 0 for reading in readings[1:]]
        assert sum(is_now < was for was, is_now in pairwise(charges)) == pauses
        assert 20 * pauses - 1 <= charges.count(False) <= 50 * pauses


def test_vehicles_that_share_a_charger_take_turns_at_night():
    night = {"starts_at": at("20:01"), "ends_at": at("20:00") + timedelta(hours=10)}
    readings = of_vehicles(scenario(vehicles=2, meters=1, **night))
    charges = {
        vehicle_id: {reading.measured_at for reading in own if reading.energy_dc_kwh > 0}
        for vehicle_id, own in readings.items()
    }

    assert charges["SIM-V0001"].isdisjoint(charges["SIM-V0002"])
    assert [len(own) for own in charges.values()] == [300, 299]
    assert max(charges["SIM-V0001"]) == at("20:00") + timedelta(hours=5)


def test_scenarios_of_one_fleet_agree_where_they_overlap():
    later = scenario(starts_at=at("08:00:30"), ends_at=at("14:00:30"))
    energies = [
        {identity(reading): msgspec.structs.astuple(reading)[1] for reading in deliveries(of)}
        for of in (scenario(), later)
    ]
    shared = energies[0].keys() & energies[1].keys()

    assert len(shared) == 4 * 239
    assert all(energies[0][key] == energies[1][key] for key in shared)


def test_vehicles_share_meters_where_those_are_fewer():
    pairings = scenario(vehicles=5, meters=2).pairings

    assert [(pairing.vehicle_id, pairing.meter_id) for pairing in pairings] == [
        ("SIM-V0001", "SIM-M0001"),
        ("SIM-V0002", "SIM-M0002"),
        ("SIM-V0003", "SIM-M0001"),
        ("SIM-V0004", "SIM-M0002"),
        ("SIM-V0005", "SIM-M0001"),
    ]


@pytest.mark.parametrize(("share", "faulty"), [(0, 0), (0.01, 1), (0.25, 5), (1, 20)])
def test_share_of_faulty_chargers(share, faulty):
    pairings = scenario(vehicles=20, meters=25, faulty_share=share).pairings

    assert sum(pairing.is_faulty for pairing in pairings) == faulty
    for pairing in pairings:
        low, high = (0.6, 0.8) if pairing.is_faulty else (0.86, 0.91)
        assert low <= pairing.efficiency <= high


def test_faulty_charger_wastes_the_same_of_each_vehicle():
    pairings = scenario(vehicles=6, meters=2, faulty_share=0.5).pairings

    assert len({pairing.efficiency for pairing in pairings if pairing.is_faulty}) == 1
    assert len({pairing.efficiency for pairing in pairings if not pairing.is_faulty}) == 3
