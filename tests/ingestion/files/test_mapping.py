"""Maps of files: a wrong key or value is named, with what it may be."""

import pytest

from ingestion.files.formats import Unreadable
from ingestion.files.mapping import Map, read_map


def test_options_win_over_the_map_and_add_to_its_columns(tmp_path):
    path = tmp_path / "map.toml"
    path.write_text('unit = "Wh"\ntz = "UTC"\n[columns]\ntimestamp = "Time"\n')

    mapping = read_map(path, {"tz": "Europe/Berlin", "unit": None, "columns": {"soc": "SoC"}})

    assert (mapping.unit, mapping.tz) == ("Wh", "Europe/Berlin")
    assert mapping.columns == {"timestamp": "Time", "soc": "SoC"}


def test_nothing_said_is_the_empty_map():
    assert read_map(None, {"tz": None, "columns": {}}) == Map()


def test_separator_may_be_named():
    assert read_map(None, {"separator": "tab"}).separator == "\t"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unit = ", "not TOML"),
        ('colums = "x"', "unknown key colums; the keys are format, separator"),
        ('[columns]\nkwh = "Energy"', "columns: kwh is not a field; fields are batteryTemp, kwhC"),
        ("unit = 5", "unit: Expected"),
        ('unit = "kW"', "unit must be Wh, kWh, MWh or GWh"),
        ('decimal = ";"', "decimal: Invalid enum value"),
        ('separator = ";;"', "separator must be one character, or tab"),
        ('decimal = ","\nthousands = ","', "thousands and decimal must differ"),
        ('tz = "Mars"', "tz must be an IANA time zone"),
        ('interval = "soon"', "interval must be a number and s, m, h or d"),
        ('encoding = "klingon"', "encoding must be a known encoding, such as cp1252"),
        ('stamped = "start"', "stamped = start needs an interval"),
        ("skip_lines = -1", "skip_lines must be 0 or more"),
        ('meter = "M1"\nvehicle = "V1"', "meter and vehicle exclude each other"),
        ('meter = "M1"\n[meters]\n"A" = "M2"', "meters and vehicles already say"),
        ('[meters]\n"A" = "M1"\n[vehicles]\n"A" = "V1"', "A is under both meters and vehicles"),
    ],
)
def test_what_is_wrong_with_a_map_is_named(tmp_path, text, words):
    path = tmp_path / "map.toml"
    path.write_text(text)

    with pytest.raises(Unreadable, match=words) as refused:
        read_map(path, {})
    assert "map.toml" in str(refused.value)
