"""`manage.py simulate`: into the writer, through the HTTP API, and its arguments."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
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
from ingestion.readings import VehicleReading
from ingestion.simulation.deliveries import deliveries
from tests.conftest import NOON, at
from tests.ingestion.test_simulation import identity, scenario

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
        assert percent == pytest.approx(faulty.get(vehicle_id, percent), abs=0.1)


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
    assert "leaking" not in printed
    assert "/v1/analytics/performance/SIM-V0001\n" in printed


@pytest.mark.django_db
def test_report_of_one_vehicle_is_in_the_singular(clock):
    printed = run("--vehicles=1", "--hours=1", "--faulty=1")

    assert "\n1 vehicle on 1 meter, from " in printed
    assert "\n1 vehicle on faulty chargers, with " in printed


@pytest.mark.django_db
def test_report_names_leaking_chargers(clock):
    printed = run("--vehicles=2", "--hours=1", "--leaking=0.5")

    assert "\n1 leaking charger, with the draw while nobody charges:\n" in printed
    assert re.search(r"^  SIM-M000[12]  (9\d|1[012]\d) W$", printed, re.M)


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
    run(
        "--vehicles=3",
        "--meters=2",
        "--hours=2",
        "--public=0",
        "--via=http",
        f"--url={live_server.url}/",
    )

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
    assert [link.valid_during.lower for link in VehicleMeterLink.objects.all()] == [at("10:01")] * 3
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
