"""SQL for meters and SQL for vehicles do the same, except for the differences listed here."""

import re

import pytest

from analytics.models import MeterDay, VehicleDay
from energy_engine.environment import ROOT
from ingestion.readings import MeterReading, VehicleReading

FILES = sorted(ROOT.glob("*/sql/*.sql"))
# The optional fields of a reading: all but id, energy and time.
OWN_COLUMNS = {
    "meter": MeterReading.__struct_fields__[2:-1],
    "vehicle": VehicleReading.__struct_fields__[2:-1],
}
ENERGY = {"meter": "_ac_", "vehicle": "_dc_"}
DAYS = {"meter": MeterDay, "vehicle": VehicleDay}
SUMS_OF_HOURS = (
    ", sum(battery_temp_celsius_sum) AS battery_temp_celsius_sum,"
    " sum(battery_temp_readings) AS battery_temp_readings"
)
# Vehicles are at meters, and not the other way round.
NO_TWINS = {"take_shared_*_hours"}
# The battery temperature, which has sums for vehicles only; each as often as it occurs.
VEHICLES_ALONE = {
    "sum_up_*_hours": (
        ", battery_temp_celsius_sum, battery_temp_readings",
        ", counted.battery_temp_celsius_sum, counted.battery_temp_readings",
        ", battery_temp_celsius_sum = EXCLUDED.battery_temp_celsius_sum,"
        " battery_temp_readings = EXCLUDED.battery_temp_readings",
    ),
    "*_blocks": (", block.battery_temp_celsius_sum, block.battery_temp_readings",),
    "analytics_*_blocks": (
        ", battery_temp_celsius_sum float8, battery_temp_readings bigint",
        ", block.battery_temp_celsius_sum::float8, block.battery_temp_readings::bigint",
        ", sums.battery_temp_celsius_sum, sums.battery_temp_readings",
        ", counted.battery_temp_celsius_sum, counted.battery_temp_readings",
        *2 * (SUMS_OF_HOURS,),
        ", 0 AS battery_temp_celsius_sum, 0 AS battery_temp_readings",
    ),
    "analytics_*_span": (
        ", battery_temp_celsius_sum float8, battery_temp_readings bigint",
        ", coalesce(sum(step.battery_temp_celsius), 0), count(step.battery_temp_celsius)",
        ", counted.battery_temp_celsius",
        ", reading.battery_temp_celsius",
    ),
}


def twins() -> dict[str, dict[str, str]]:
    """Return statements and functions by their name without the kind, then by kind."""
    statements = {path.stem: path.read_text() for path in FILES}
    for file in ("curve", "registers"):
        for function in statements.pop(file).split("CREATE OR REPLACE FUNCTION ")[1:]:
            statements[function.partition("(")[0]] = function
    found: dict[str, dict[str, str]] = {}
    for name, sql in statements.items():
        for kind in OWN_COLUMNS:
            if kind in name:
                found.setdefault(name.replace(kind, "*"), {})[kind] = sql
    return found


def alike(name: str, kind: str, sql: str) -> list[str]:
    """Return the items of `sql` without comments, layout and the words of its kind."""
    code = " ".join(re.sub(r"--.*", "", sql).split())
    code = re.sub(r"(?<=\() | (?=\))", "", code)
    pieces = VEHICLES_ALONE.get(name, ()) if kind == "vehicle" else ()
    for piece in dict.fromkeys(pieces):
        assert code.count(piece) == pieces.count(piece), piece
        code = code.replace(piece, "")
    if name == "keep_*_days":
        code = _without_columns_of_days(code, kind)
    if name != "*_trace":  # a chart need not show all
        places = {column: code.count(column) for column in OWN_COLUMNS[kind]}
        assert len(set(places.values())) == 1, places
    for column in OWN_COLUMNS[kind]:
        code = code.replace(column, "OWN")
    code = code.replace(kind, "KIND").replace(ENERGY[kind], "_ENERGY_")
    # Collapse what is repeated for each of several own columns.
    again = r"([^ ,]{1,200}?(?: .{1,400}?)?)(?:(?:,| OR) \1(?![\w.]))+"
    code = re.sub(again, lambda found: found[1 if "OWN" in found[1] else 0], code)
    return re.split(r"(?<=[,(]) ?| (?=[A-Z]{4,})", code)


def _without_columns_of_days(code: str, kind: str) -> str:
    """Replace the columns of a day, each of which must be in every list of the statement."""
    for field in DAYS[kind]._meta.concrete_fields:
        code, places = re.subn(rf"\b{field.column}\b", "OWN", code)
        # INSERT, unnest, and twice in SET; the key is in ON CONFLICT instead.
        assert places == (3 if field.primary_key else 4), field.column
    return re.sub(r"::\w+\[\]", "::TYPE[]", code)


def test_twins_are_found_where_they_are():
    assert {
        "record_*_readings",
        "*_blocks",
        "*_pauses",
        "*_readings",
        "analytics_*_span",
    } <= twins().keys()


@pytest.mark.parametrize("name", sorted(twins().keys() - NO_TWINS))
def test_twins_do_the_same(name):
    pair = twins()[name]

    assert pair.keys() == OWN_COLUMNS.keys()
    assert alike(name, "meter", pair["meter"]) == alike(name, "vehicle", pair["vehicle"])
