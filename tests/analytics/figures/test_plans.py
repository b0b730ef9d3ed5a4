"""What a figure reads: the partitions of its window, by their keys; no more in a longer history."""

import json
import re
from datetime import datetime, timedelta

import pytest
from django.db import connection

from analytics.figures.history import METERS, VEHICLES
from analytics.figures.window import Window
from analytics.rollups import hourly
from energy_engine.environment import ROOT
from fleet.stores.statements import Statement
from ingestion.writer import record
from tests.conftest import NOON, MeterReading, VehicleReading

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("clock")]
MINUTES = 240


def record_hours_before(ends_at: datetime, devices: int = 20) -> None:
    for minute in range(MINUTES):
        at = ends_at - timedelta(minutes=minute + 1)
        record(
            [
                reading
                for number in range(devices)
                for reading in (
                    MeterReading(meter_id=f"M{number}", energy_ac_kwh=1.0, measured_at=at),
                    VehicleReading(vehicle_id=f"V{number}", energy_dc_kwh=1.0, measured_at=at),
                )
            ],
            at,
        )


def plan(statement: Statement, device_id: str, window: Window) -> dict[str, object]:
    """Return the plan of an energy statement as it runs: planned once, for any parameters."""
    around = timedelta(hours=3)
    first, last = window.starts_at - around, window.ends_at + around
    # What is before, the window, and what is after: a step may reach into it from either side.
    values = {
        "device_ids": [device_id] * 3,
        "starts_at": [first, window.starts_at, window.ends_at],
        "ends_at": [window.starts_at, window.ends_at, last],
        "roles": [-1, 0, 1],
        "first": first,
        "last": last,
        "window_starts_at": window.starts_at,
        "window_ends_at": window.ends_at,
        "default_max_power_kw": 400.0,
    }
    numbered = re.sub(
        r"%\((\w+)\)[sb]", lambda found: f"${[*values].index(found[1]) + 1}", statement._sql
    )
    types = "text[], timestamptz[], timestamptz[], smallint[]" + 4 * ", timestamptz" + ", float8"
    with connection.cursor() as cursor:
        cursor.execute(f"PREPARE figure ({types}) AS {numbered}")
        try:
            cursor.execute(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)"
                " EXECUTE figure (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [*values.values()],
            )
            (found,) = cursor.fetchone()
        finally:
            cursor.execute("DEALLOCATE figure")
    return (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]


def nodes(node: dict) -> list[dict]:
    return [node, *(below for child in node.get("Plans", []) for below in nodes(child))]


def read_tables(node: dict) -> set[str]:
    return {
        one["Relation Name"]
        for one in nodes(node)
        if "Relation Name" in one and one["Actual Loops"] and "reading" in one["Relation Name"]
    }


STATEMENTS = [(METERS.blocks, "M7", "meter"), (VEHICLES.blocks, "V7", "vehicle")]


@pytest.mark.parametrize(("statement", "device_id", "kind"), STATEMENTS)
def test_figure_reads_only_the_partitions_of_its_window_by_their_keys(statement, device_id, kind):
    record_hours_before(NOON - timedelta(days=30))
    record_hours_before(NOON)

    window = Window(NOON - timedelta(hours=3), NOON - timedelta(minutes=30))
    found = plan(statement, device_id, window)

    assert read_tables(found) == {f"ingestion_{kind}reading_2026_07"}
    scans = [one["Node Type"] for one in nodes(found) if "reading" in one.get("Relation Name", "")]
    assert set(scans) <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}


@pytest.mark.parametrize(("statement", "device_id", "kind"), STATEMENTS)
def test_longer_history_makes_a_figure_read_no_more(statement, device_id, kind):
    window = Window(NOON - timedelta(hours=3), NOON - timedelta(minutes=30))
    record_hours_before(NOON)
    hourly.roll_up()
    short = plan(statement, device_id, window)["Shared Hit Blocks"]

    for days in (31, 61, 91, 121):
        record_hours_before(NOON - timedelta(days=days))
    long = plan(statement, device_id, window)["Shared Hit Blocks"]

    assert long <= short + 10


def test_statements_of_history_are_short_enough_for_the_driver_to_remember():
    statements = [*ROOT.glob("*/sql/*.sql")]
    assert statements
    too_long = [
        str(path)
        for path in statements
        # Those of last week run when a person asks for them, now and then.
        if path.name != "curve.sql"
        and not path.stem.endswith("_last_week")
        and len(Statement(path)._sql) >= 4096
    ]

    assert too_long == []
