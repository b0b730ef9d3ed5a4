"""What a device told: averages over pieces of time, and its latest deliveries with their marks."""

import json
import re
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection

from analytics.figures import trace as traces
from analytics.figures.trace import Delivery, recent_deliveries, trace
from analytics.figures.window import Window
from fleet.models import Meter, Vehicle
from ingestion.writer import record
from tests.conftest import NOON, MeterReading, VehicleReading, at, meter_reading, vehicle_reading

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

UTC = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)
LAST_HOUR = Window(at("11:00"), NOON)


def soc(window: Window, piece: timedelta = QUARTER) -> list[float | None]:
    return trace(Vehicle, "V1", window, piece, UTC).values["soc_percent"]


class TestTrace:
    def test_piece_has_the_average_of_its_readings(self):
        record([vehicle_reading("V1", "11:00", soc_percent=50, battery_temp_celsius=30)], NOON)
        record([vehicle_reading("V1", "11:14", soc_percent=52, battery_temp_celsius=31)], NOON)
        record([vehicle_reading("V1", "11:15", soc_percent=60)], NOON)

        found = trace(Vehicle, "V1", LAST_HOUR, QUARTER, UTC)

        assert found.starts_at == [at("11:00"), at("11:15"), at("11:30"), at("11:45")]
        assert found.values["soc_percent"] == [51.0, 60.0, None, None]
        assert found.values["battery_temp_celsius"] == [30.5, None, None, None]

    def test_meter_has_its_voltage(self):
        record([meter_reading("M1", "11:40", voltage_v=229), meter_reading("M1", "11:41")], NOON)
        record([meter_reading("M1", "11:44", voltage_v=231)], NOON)

        found = trace(Meter, "M1", LAST_HOUR, QUARTER, UTC)

        assert found.values == {"voltage_v": [None, None, 230.0, None]}

    def test_repeat_counts_once(self):
        first = vehicle_reading("V1", "11:01", soc_percent=40)
        record([first, first, vehicle_reading("V1", "11:02", soc_percent=60)], NOON)

        assert soc(LAST_HOUR)[0] == 50.0

    def test_delivery_received_last_counts(self):
        record([vehicle_reading("V1", "11:01", soc_percent=80)], at("11:50"))
        record([vehicle_reading("V1", "11:01", soc_percent=10)], at("11:40"))

        assert soc(LAST_HOUR)[0] == 80.0

    def test_correction_without_a_value_leaves_none(self):
        record([vehicle_reading("V1", "11:01", soc_percent=80)], at("11:40"))
        record([vehicle_reading("V1", "11:01")], at("11:50"))

        assert soc(LAST_HOUR)[0] is None

    def test_start_is_in_the_window_and_end_is_not(self):
        record([vehicle_reading("V1", "10:59:59", soc_percent=1)], NOON)
        record([vehicle_reading("V1", "11:00", soc_percent=2)], NOON)
        record([vehicle_reading("V1", "12:00", soc_percent=3)], NOON)

        assert soc(LAST_HOUR) == [2.0, None, None, None]

    def test_other_devices_are_left_out(self):
        record([vehicle_reading("V2", soc_percent=1)], NOON)

        assert trace(Vehicle, "V1", LAST_HOUR, QUARTER, UTC).is_empty

    def test_first_and_last_piece_may_be_cut_by_the_window(self):
        record([vehicle_reading("V1", "11:05", soc_percent=1)], NOON)
        record([vehicle_reading("V1", "11:07", soc_percent=2)], NOON)
        record([vehicle_reading("V1", "11:31", soc_percent=3)], NOON)
        window = Window(at("11:06"), at("11:31"))

        assert trace(Vehicle, "V1", window, QUARTER, UTC).starts_at == [
            at("11:00"),
            at("11:15"),
            at("11:30"),
        ]
        assert soc(window) == [2.0, None, None]

    def test_pieces_are_counted_from_midnight_in_the_zone(self):
        # Midnight in Berlin is 22:00 UTC in July.
        found = trace(Vehicle, "V1", Window(at("09:00"), NOON), 6 * HOUR, BERLIN)

        assert found.starts_at == [at("04:00"), at("10:00")]

    def test_trace_is_one_statement(self, statements_sent):
        record([vehicle_reading("V1")], NOON)

        with statements_sent() as sent:
            trace(Vehicle, "V1", Window(NOON - timedelta(days=30), NOON), 6 * HOUR, BERLIN)

        assert sent == [1]


def deliveries(kind=Vehicle, device_id="V1", at_most=100) -> list[Delivery]:
    window = Window(NOON - timedelta(days=7), NOON + HOUR)
    return recent_deliveries(kind, device_id, window, at_most)


def marks() -> list[tuple[float, list[str]]]:
    """Return energy and marks of each delivery, the first that arrived first."""
    return [(delivery.energy_kwh, delivery.marks) for delivery in reversed(deliveries())]


def values(delivery: Delivery) -> tuple[float | None, ...]:
    return (
        delivery.energy_kwh,
        delivery.soc_percent,
        delivery.battery_temp_celsius,
        delivery.voltage_v,
    )


def deliver(kwh: float, received: str, measured: str = "11:00", **fields: float) -> None:
    record([vehicle_reading("V1", measured, kwh, **fields)], at(received))


class TestDeliveries:
    def test_newest_arrival_comes_first_whatever_it_measured(self):
        deliver(1, "11:10", measured="11:09")
        deliver(2, "11:30", measured="09:00")
        deliver(3, "11:20", measured="11:19")

        assert [delivery.energy_kwh for delivery in deliveries()] == [2, 3, 1]

    def test_delivery_has_what_the_device_sent(self):
        deliver(1.5, "11:01", soc_percent=80.5, battery_temp_celsius=30.25)
        record([meter_reading("M1", "11:00", 2.5, voltage_v=230.5)], at("11:02"))

        (of_vehicle,), (of_meter,) = deliveries(), deliveries(Meter, "M1")

        assert (of_vehicle.measured_at, of_vehicle.received_at) == (at("11:00"), at("11:01"))
        assert values(of_vehicle) == (1.5, 80.5, 30.25, None)
        assert values(of_meter) == (2.5, None, None, 230.5)

    def test_no_more_than_asked_for(self):
        for minute in range(10, 15):
            deliver(minute, f"11:{minute}", measured=f"11:{minute}")

        assert [delivery.energy_kwh for delivery in deliveries(at_most=2)] == [14, 13]

    def test_readings_outside_the_window_are_left_out(self):
        early = VehicleReading(
            vehicle_id="V1", energy_dc_kwh=1.0, measured_at=NOON - timedelta(days=7, seconds=1)
        )
        record([early], NOON)

        assert deliveries() == []

    def test_late_is_what_came_more_than_five_minutes_after_it_was_measured(self):
        deliver(1, "11:05", measured="11:00")
        deliver(2, "11:06:01", measured="11:01")

        assert marks() == [(1, []), (2, ["late"])]

    def test_repeat_has_the_values_of_an_earlier_delivery(self):
        deliver(1, "11:01")
        deliver(1, "11:02")

        assert marks() == [(1, []), (1, ["repeat"])]

    def test_values_that_are_missing_are_alike(self):
        deliver(1, "11:01", soc_percent=50)
        deliver(1, "11:02", soc_percent=50)
        deliver(1, "11:03")

        assert marks() == [(1, ["replaced"]), (1, ["repeat", "replaced"]), (1, ["correction"])]

    def test_correction_counts_and_what_it_corrects_is_replaced(self):
        deliver(1, "11:01")
        deliver(2, "11:02")
        deliver(2, "11:03")

        assert marks() == [(1, ["replaced"]), (2, ["correction"]), (2, ["repeat"])]

    def test_old_values_can_be_put_back(self):
        deliver(1, "11:01")
        deliver(2, "11:02")
        deliver(1, "11:03")

        assert marks() == [(1, []), (2, ["replaced"]), (1, ["correction"])]

    def test_marks_of_a_meter(self):
        for kwh, minute in ((1, 1), (1, 2), (3, 3)):
            record([meter_reading("M1", "11:00", kwh)], at(f"11:0{minute}"))

        assert [delivery.marks for delivery in deliveries(Meter, "M1")] == [
            ["correction"],
            ["repeat", "replaced"],
            ["replaced"],
        ]

    def test_delivery_that_is_not_shown_is_compared_with_all_the_same(self):
        deliver(1, "11:01")
        deliver(2, "11:02")

        (newest,) = deliveries(at_most=1)

        assert newest.marks == ["correction"]

    def test_deliveries_are_one_statement(self, statements_sent):
        deliver(1, "11:01")

        with statements_sent() as sent:
            deliveries()

        assert sent == [1]


def record_hours_before(ends_at, hours=4) -> None:
    for minute in range(60 * hours):
        measured_at = ends_at - timedelta(minutes=minute + 1)
        record(
            [
                reading
                for number in range(20)
                for reading in (
                    MeterReading(meter_id=f"M{number}", energy_ac_kwh=1.0, measured_at=measured_at),
                    VehicleReading(
                        vehicle_id=f"V{number}", energy_dc_kwh=1.0, measured_at=measured_at
                    ),
                )
            ],
            measured_at,
        )


def scans(statement, values: dict[str, object], types: str) -> list[dict]:
    """Return the nodes of the plan that read history, of the statement as it runs."""
    numbered = re.sub(
        r"%\((\w+)\)[sb]", lambda found: f"${[*values].index(found[1]) + 1}", statement._sql
    )
    marks = ", ".join(["%s"] * len(values))
    with connection.cursor() as cursor:
        cursor.execute(f"PREPARE looked_at ({types}) AS {numbered}")
        try:
            cursor.execute(
                f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE looked_at ({marks})", [*values.values()]
            )
            (found,) = cursor.fetchone()
        finally:
            cursor.execute("DEALLOCATE looked_at")
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return [
        node
        for node in nodes(plan)
        if "reading" in node.get("Relation Name", "") and node["Actual Loops"]
    ]


def nodes(node: dict) -> list[dict]:
    return [node, *(below for child in node.get("Plans", []) for below in nodes(child))]


KINDS = [(Vehicle, "V7"), (Meter, "M7")]


@pytest.mark.django_db(transaction=True)
class TestPlans:
    @pytest.fixture
    def values(self) -> dict[str, object]:
        record_hours_before(NOON - timedelta(days=30))
        record_hours_before(NOON)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE ingestion_vehiclereading, ingestion_meterreading")
        return {"starts_at": NOON - timedelta(days=1), "ends_at": NOON}

    @pytest.mark.parametrize(("kind", "device_id"), KINDS)
    def test_trace_reads_the_device_in_the_partitions_of_its_window(self, values, kind, device_id):
        found = scans(
            traces._traces[kind],
            values | {"device_id": device_id, "piece": QUARTER, "origin": NOON},
            "timestamptz, timestamptz, text, interval, timestamptz",
        )

        self.check(found, kind)
        assert [node["Actual Rows"] for node in found] == [240]

    @pytest.mark.parametrize(("kind", "device_id"), KINDS)
    def test_deliveries_read_the_device_in_the_partitions_of_the_window(
        self, values, kind, device_id
    ):
        found = scans(
            traces._deliveries[kind],
            values | {"device_id": device_id, "deliveries": 100},
            "timestamptz, timestamptz, text, bigint",
        )

        self.check(found, kind)

    def check(self, found: list[dict], kind: type) -> None:
        table = f"ingestion_{kind._meta.model_name}reading_2026_07"
        assert {node["Relation Name"] for node in found} == {table}
        assert {node["Node Type"] for node in found} <= {"Index Scan", "Bitmap Heap Scan"}
        assert all("_id" in node.get("Index Cond", node.get("Recheck Cond", "")) for node in found)
