"""`manage.py simulate`: a fleet that is the same each time, with figures that are known."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from itertools import pairwise
from operator import ne
from threading import Thread

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from fleet.models import Meter, Site, Vehicle, VehicleLiveState, VehicleMeterLink
from fleet.tariffs.models import Tariff
from fleet.tariffs.prices import site_prices
from ingestion import models
from ingestion.management import receivers
from ingestion.readings import MeterReading, VehicleReading, device_id
from ingestion.simulation.deliveries import batches, deliveries
from ingestion.simulation.scenario import Scenario
from tests.conftest import NOON, at

EFFICIENCIES = """
    WITH dc AS (
        SELECT vehicle_id, sum(energy_dc_kwh) AS energy_kwh
        FROM (
            SELECT DISTINCT ON (vehicle_id, measured_at) vehicle_id, energy_dc_kwh
            FROM ingestion_vehiclereading
            ORDER BY vehicle_id, measured_at, received_at DESC, id DESC
        ) GROUP BY vehicle_id
    ), ac AS (
        SELECT meter_id, sum(energy_ac_kwh) AS energy_kwh
        FROM (
            SELECT DISTINCT ON (meter_id, measured_at) meter_id, energy_ac_kwh
            FROM ingestion_meterreading
            ORDER BY meter_id, measured_at, received_at DESC, id DESC
        ) GROUP BY meter_id
    )
    SELECT vehicle_id, 100 * sum(dc.energy_kwh) / sum(ac.energy_kwh)
    FROM fleet_vehiclemeterlink JOIN dc USING (vehicle_id) JOIN ac USING (meter_id)
    GROUP BY vehicle_id
"""


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


def run(*arguments: str) -> str:
    """Run the command; return what it prints."""
    printed = StringIO()
    call_command("simulate", *arguments, stdout=printed)
    return printed.getvalue()


def efficiencies() -> dict[str, float]:
    with connection.cursor() as cursor:
        cursor.execute(EFFICIENCIES)
        return dict(cursor.fetchall())


def printed_faulty(text: str) -> dict[str, float]:
    return {
        vehicle_id: float(percent)
        for vehicle_id, percent in re.findall(r"^  (SIM-V\d+)  SIM-M\d+  ([\d.]+)%$", text, re.M)
    }


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


def test_readings_are_plausible():
    habits = {"public_share": 0.5, "interrupted_share": 0.5}
    of = scenario(vehicles=10, meters=8, ends_at=at("06:00") + timedelta(days=2), **habits)

    for reading in deliveries(of):
        if isinstance(reading, VehicleReading):
            assert 10 <= reading.soc_percent <= 95
            assert 20 <= reading.battery_temp_celsius <= 40
            assert 0 <= reading.energy_dc_kwh <= 19 / 60
        else:
            assert 220 <= reading.voltage_v <= 240
            assert 0 < reading.energy_ac_kwh <= 2 * 11 / 60 / 0.6


@pytest.mark.parametrize(
    ("leaking_share", "least_kw", "most_kw"), [(0, 0.001, 0.005), (1, 0.09, 0.12)]
)
def test_meter_that_serves_nobody_draws_its_standby_alone(leaking_share, least_kw, most_kw):
    of = scenario(vehicles=1, leaking_share=leaking_share)

    assert least_kw * 6 <= energy_kwh(of, "SIM-M0002") <= most_kw * 6
    assert energy_kwh(of, "SIM-M0002") == pytest.approx(of.chargers[1].standby_kw * 6, abs=0.001)


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


# --- Into the writer --------------------------------------------------------------------------


@pytest.mark.django_db
def test_every_delivery_is_recorded_and_every_vehicle_linked_from_the_start(clock):
    run("--vehicles=3", "--meters=2", "--hours=2", "--repeated=0.1", "--start=2026-07-15T08:00:00Z")

    meter_readings = models.MeterReading.objects.values("meter_id", "measured_at")
    vehicle_readings = models.VehicleReading.objects.values("vehicle_id", "measured_at")
    assert meter_readings.distinct().count() == 2 * 120
    assert vehicle_readings.distinct().count() == 3 * 120
    assert meter_readings.count() + vehicle_readings.count() == 600 + 60
    links = VehicleMeterLink.objects.values_list("vehicle_id", "meter_id", "valid_during")
    assert [
        (vehicle_id, meter_id, span.lower, span.upper) for vehicle_id, meter_id, span in links
    ] == [
        ("SIM-V0001", "SIM-M0001", at("08:00"), None),
        ("SIM-V0002", "SIM-M0002", at("08:00"), None),
        ("SIM-V0003", "SIM-M0001", at("08:00"), None),
    ]


@pytest.mark.django_db
def test_newest_readings_are_those_of_now(clock):
    clock.shift(timedelta(seconds=59))
    run("--vehicles=2", "--hours=1", "--late=0")

    times = {live.measured_at for live in VehicleLiveState.objects.all()}
    assert times == {NOON}
    assert models.VehicleReading.objects.earliest("measured_at").measured_at == at("11:01")


@pytest.mark.django_db
@pytest.mark.parametrize("hours", ["1", "24"])
def test_efficiencies_in_history_tell_faulty_chargers_from_healthy_ones(clock, hours):
    printed = run(
        *("--vehicles=10", "--meters=10", f"--hours={hours}", "--public=0", "--faulty=0.3"),
        *("--late=0.05", "--repeated=0.05"),
    )

    faulty, found = printed_faulty(printed), efficiencies()
    assert len(found) == 10
    assert len(faulty) == 3
    for vehicle_id, percent in found.items():
        low, high = (60, 80) if vehicle_id in faulty else (84, 93)
        assert low <= percent <= high
        assert percent == pytest.approx(faulty.get(vehicle_id, percent), abs=0.2)


@pytest.mark.django_db
def test_second_run_changes_no_figure(clock):
    run("--vehicles=2", "--hours=24", "--public=1")
    before = efficiencies()
    links = list(VehicleMeterLink.objects.order_by("pk").values_list("vehicle_id", "valid_during"))
    run("--vehicles=2", "--hours=24", "--public=1")

    assert efficiencies() == before
    assert len(links) > 2
    after = VehicleMeterLink.objects.order_by("pk").values_list("vehicle_id", "valid_during")
    assert sorted(after, key=str) == sorted(links, key=str)
    assert list(Site.objects.values_list("name", flat=True)) == ["SIM North", "SIM South"]
    assert Tariff.objects.count() == 2


@pytest.mark.django_db
def test_chargers_and_their_vehicles_are_at_sites_with_tariffs(clock):
    run("--vehicles=3", "--meters=4", "--hours=1")

    assert dict(Meter.objects.values_list("pk", "site__name")) == {
        "SIM-M0001": "SIM North",
        "SIM-M0002": "SIM South",
        "SIM-M0003": "SIM North",
        "SIM-M0004": None,
    }
    assert dict(Vehicle.objects.values_list("pk", "site__name")) == {
        "SIM-V0001": "SIM North",
        "SIM-V0002": "SIM South",
        "SIM-V0003": "SIM North",
    }
    prices = site_prices(Site.objects.values_list("pk", flat=True), at("03:00"), at("05:00"))
    assert [[float(price) for *_, price in of_site.stretches] for of_site in prices.values()] == [
        [0.22, 0.34],
        [0.29],
    ]


@pytest.mark.django_db
def test_site_that_exists_stays_as_it_is(clock):
    Site.objects.create(name="SIM North", time_zone="Asia/Kolkata")
    run("--vehicles=1", "--hours=1", "--sites=1")

    assert Site.objects.values_list("name", "time_zone").get() == ("SIM North", "Asia/Kolkata")
    assert Meter.objects.get().site.name == "SIM North"
    assert not Tariff.objects.exists()


@pytest.mark.django_db
def test_report_counts_what_was_delivered(clock):
    printed = run("--vehicles=2", "--hours=1", "--late=0.1", "--repeated=0.05", "--faulty=0")

    assert printed.startswith("252 readings in ")
    assert "240 of them count; 12 were delivered twice, 24 late" in printed
    assert "from 2026-07-15T11:01:00Z until 2026-07-15T12:01:00Z" in printed
    assert "0 vehicles on faulty chargers" in printed
    assert "standby load" not in printed
    assert "/v1/analytics/performance/SIM-V0001\n" in printed


@pytest.mark.django_db
def test_report_of_one_vehicle_is_in_the_singular(clock):
    printed = run("--vehicles=1", "--hours=1", "--faulty=1")

    assert "\n1 vehicle on 1 meter, from " in printed
    assert "\n1 vehicle on faulty chargers, with " in printed


@pytest.mark.django_db
def test_report_names_chargers_with_a_standby_load(clock):
    printed = run("--vehicles=2", "--hours=1", "--leaking=0.5")

    assert "\n1 charger with a standby load, a day:\n" in printed
    assert re.search(r"^  SIM-M000[12]  2\.\d\d kWh$", printed, re.M)


@pytest.mark.django_db
def test_devices_that_may_not_register_themselves_are_named(clock, settings):
    settings.INGEST_UNKNOWN_DEVICES = "reject"

    with pytest.raises(CommandError, match="INGEST_UNKNOWN_DEVICES"):
        run("--vehicles=1")


def test_database_that_is_away_is_said_in_a_word(clock, monkeypatch):
    def away(*_: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(receivers, "link_vehicle", away)

    with pytest.raises(CommandError, match="The database is not available: connection refused"):
        run("--vehicles=1")


# --- Through the HTTP API ---------------------------------------------------------------------


def test_http_stores_what_the_writer_does(clock, live_server):
    run("--vehicles=3", "--meters=2", "--hours=2", "--via=http", f"--url={live_server.url}/")

    stored = sorted(models.VehicleReading.objects.values_list("vehicle_id", "measured_at"))
    of = scenario(
        vehicles=3,
        starts_at=at("10:01"),
        ends_at=at("12:01"),
        late_share=0.01,
        repeated_share=0.01,
    )
    assert stored == sorted(
        identity(reading) for reading in deliveries(of) if isinstance(reading, VehicleReading)
    )
    assert models.MeterReading.objects.count() + len(stored) == of.delivery_count
    lowers = {link.vehicle_id: link.valid_during.lower for link in VehicleMeterLink.objects.all()}
    assert list(lowers.values()) == [at("10:01")] * 3
    assert set(Vehicle.objects.values_list("site__name", "site__tariffs__kind")) == {
        ("SIM North", "time_of_use"),
        ("SIM South", "fixed"),
    }


@pytest.mark.django_db(transaction=True)
def test_http_does_the_same_again(clock, live_server):
    for _ in "12":
        run(
            "--vehicles=2",
            "--hours=24",
            "--interval=600",
            "--public=1",
            "--via=http",
            f"--url={live_server.url}",
        )

    assert VehicleMeterLink.objects.count() > 2
    assert (Site.objects.count(), Tariff.objects.count()) == (2, 2)


class Engine:
    """Stands in for an engine: gives the `answers` of its script, then takes everything.

    An answer is status, headers and body, or raw bytes, after which the connection is closed.
    """

    def __init__(self, *answers: tuple[int, dict[str, str], object] | bytes) -> None:
        self.script = list(answers)
        self.bodies: list[bytes] = []

    def answer(self, body: bytes) -> tuple[int, dict[str, str], object] | bytes:
        self.bodies.append(body)
        everything = (201, {}, {"accepted": len(msgspec.json.decode(body))})
        return self.script.pop(0) if self.script else everything

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Listen on a free port; yield the URL."""
        with ThreadingHTTPServer(("127.0.0.1", 0), handler_for(self)) as server:
            thread = Thread(target=server.serve_forever, args=[0.01])
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()


def handler_for(engine: Engine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            answer = engine.answer(self.rfile.read(int(self.headers["Content-Length"])))
            if isinstance(answer, bytes):
                self.close_connection = True
                self.wfile.write(answer)
                return
            status, headers, body = answer
            content = body if isinstance(body, bytes) else msgspec.json.encode(body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_POST

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """What the command would have waited, in seconds."""
    waited: list[float] = []
    monkeypatch.setattr(receivers, "sleep", waited.append)
    return waited


def simulate_at(engine: Engine) -> str:
    """Deliver one vehicle and one meter: three requests."""
    with engine.serving() as url:
        return run(
            "--vehicles=1", "--sites=0", "--public=0", "--hours=1", "--via=http", f"--url={url}"
        )


@pytest.mark.parametrize(
    ("answer", "wait_seconds"),
    [
        ((503, {"Retry-After": "7"}, {"message": "not now"}), 7),
        ((429, {"Retry-After": "0"}, {"message": "too many"}), 0),
        ((503, {"Retry-After": "Wed, 15 Jul 2026 12:00:09 GMT"}, b"<html>"), 0.1),
        (b"", 0.1),
        (b"nonsense", 0.1),
    ],
)
def test_request_that_was_not_taken_is_sent_again_unchanged(clock, waits, answer, wait_seconds):
    engine = Engine((200, {}, {}), answer)
    simulate_at(engine)

    assert waits == [wait_seconds]
    assert len(engine.bodies) == 4
    assert engine.bodies[1] == engine.bodies[2]


def test_engine_that_never_takes_a_request_is_given_up(clock, waits):
    busy = (503, {"Retry-After": "2"}, {"message": "The database is not available"})

    with pytest.raises(
        CommandError, match="503: The database is not available; gave up after 8 attempts"
    ):
        simulate_at(Engine(*[busy] * 8))
    assert waits == [2] * 7


def test_engine_that_is_not_there_is_named(clock, waits):
    with Engine().serving() as url:
        pass

    with pytest.raises(CommandError, match=f"No answer from {url}"):
        run("--vehicles=1", "--via=http", f"--url={url}")
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, {}, {"message": "Not found", "errors": []}), "404: Not found"),
        (
            (
                400,
                {},
                {"message": "No reading was accepted", "errors": [{"message": "soc must be"}]},
            ),
            "400: No reading was accepted: soc must be",
        ),
        ((500, {}, b"<html>"), "500: no reason given"),
        ((301, {"Location": "https://127.0.0.1/"}, b""), "301: no reason given"),
        ((200, {}, b"<html>"), "accepted 0 of 60 readings: no reason given"),
        (
            (
                200,
                {},
                {"accepted": 57, "errors": [{"message": "timestamp must be at most 9 days old"}]},
            ),
            "accepted 57 of 60 readings: timestamp must be at most 9 days old",
        ),
    ],
)
def test_refusal_ends_the_simulation_in_the_words_of_the_engine(clock, waits, answer, words):
    with pytest.raises(CommandError, match=words):
        simulate_at(Engine((201, {}, {}), answer))
    assert waits == []


# --- Arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--vehicles=0"], "--vehicles: must be a whole number of at least 1"),
        (["--meters=some"], "--meters: must be a whole number of at least 1"),
        (["--interval=0.5"], "--interval: must be a whole number of at least 1"),
        (["--interval=7200", "--hours=1"], "--interval must not be longer than --hours"),
        (["--hours=0"], "--hours: must be more than 0"),
        (["--hours=nan"], "--hours: must be more than 0"),
        (["--hours=9601"], r"--hours: .* at most 9600 \(HISTORY_HORIZON_DAYS\)"),
        (["--faulty=1.1"], "--faulty: must be a number from 0 to 1"),
        (["--late=few"], "--late: must be a number from 0 to 1"),
        (["--late=0.6", "--repeated=0.6"], "--late and --repeated must add up to at most 1"),
        (["--start=yesterday"], "--start: must be RFC 3339 with an offset"),
        (["--start=2026-07-15T08:00:00"], "--start: must be RFC 3339 with an offset"),
        (["--start=2025-06-10T11:59:59Z"], r"400 days \(HISTORY_HORIZON_DAYS\)"),
        (["--start=2026-07-15T11:10:01Z", "--hours=1"], "at most 10 minutes ahead of now"),
        (["--start=9999-12-31T23:59:59Z"], "at most 10 minutes ahead of now"),
        (["--sites=3"], "--sites: invalid choice: 3"),
        (["--via=pigeon"], "--via: invalid choice"),
        (["--via=http", "--url=127.0.0.1:8000"], "--url must look like http://127.0.0.1:8000"),
        (["--via=http", "--url=http://:8000"], "--url must look like"),
        (["--via=http", "--url=http://localhost:http"], "--url must look like"),
    ],
)
def test_argument_that_can_not_be_is_explained(clock, arguments, words):
    with pytest.raises(CommandError, match=words):
        run(*arguments)


@pytest.mark.django_db
@pytest.mark.parametrize("start", ["2025-06-10T12:00:00Z", "2026-07-15T12:55:00+01:00"])
def test_start_may_lie_at_the_limits(clock, start):
    run("--vehicles=1", "--hours=0.25", f"--start={start}", "--repeated=0")

    assert models.VehicleReading.objects.count() == 15
