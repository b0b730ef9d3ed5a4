"""Rows of statements become results by the names of their columns, not by their order."""

from pathlib import Path
from typing import NamedTuple

import pytest

from fleet.stores.statements import Statement, from_row

pytestmark = pytest.mark.django_db


class Result(NamedTuple):
    energy_kwh: float
    readings: int
    voltage_v: float | None = None


@pytest.fixture
def row(tmp_path: Path):
    file = tmp_path / "row.sql"
    file.write_text("SELECT 7 AS readings, 'V1' AS vehicle_id, 1.5::float8 AS energy_kwh")
    [row] = Statement(file).rows({})
    return row


def test_fields_take_the_columns_of_their_names(row):
    assert from_row(Result, row) == Result(energy_kwh=1.5, readings=7, voltage_v=None)


def test_fields_that_are_no_column_are_given_beside_the_row(row):
    assert from_row(Result, row, voltage_v=230.0).voltage_v == 230.0


def test_field_without_column_and_default_is_an_error(row):
    class Other(NamedTuple):
        energy_kwh: float
        soc_percent: float

    with pytest.raises(TypeError, match="soc_percent"):
        from_row(Other, row)
