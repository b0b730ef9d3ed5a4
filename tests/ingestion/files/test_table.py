"""CSV of any kind, read as a map says; every number is checked by hand."""

import pytest

from ingestion.files.formats import Unreadable
from tests.ingestion.files.sources import taken

GERMAN = """\
Gerät;Datum;Uhrzeit;Verbrauch [Wh];Spannung
4103035;01.07.2026;00:15;1.250,5;231,4
4103035;01.07.2026;24:00;800;
"""
GERMAN_MAP = """
decimal = ","
thousands = "."
unit = "Wh"
time_format = "%d.%m.%Y %H:%M"
tz = "Europe/Berlin"
[columns]
meterId = "Gerät"
timestamp = ["Datum", "Uhrzeit"]
kwhConsumedAc = "Verbrauch [Wh]"
voltage = "Spannung"
"""


# --- Numbers, units, encodings ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "options"),
    [
        ("utf-8", {}),
        ("utf-8-sig", {}),
        ("utf-16", {}),
        ("cp1252", {"encoding": "cp1252"}),
        ("utf-8-sig", {"encoding": "cp1252"}),
    ],
)
def test_german_file_is_taken(tmp_path, encoding, options):
    """1,250.5 Wh are 1.2505 kWh; midnight at the end of 1 July in Berlin is 22:00 UTC."""
    result = taken(tmp_path / "day.csv", GERMAN.encode(encoding), GERMAN_MAP, **options)

    assert result.readings == [
        ("4103035", "06-30 22:15", 1.2505),
        ("4103035", "07-01 22:00", 0.8),
    ]
    assert result.errors == []


def test_file_in_another_encoding_says_so(tmp_path):
    with pytest.raises(Unreadable, match="not UTF-8: say its encoding with --encoding, such as cp"):
        taken(tmp_path / "day.csv", GERMAN.encode("cp1252"), GERMAN_MAP)
    with pytest.raises(Unreadable, match="not utf-8: try another --encoding"):
        taken(tmp_path / "day.csv", GERMAN.encode("cp1252"), GERMAN_MAP, encoding="utf-8")


@pytest.mark.parametrize(
    ("unit", "kwh"), [("Wh", 0.3), ("kWh", 300), ("KWH", 300), ("MWh", 300_000)]
)
def test_energy_becomes_kwh(tmp_path, unit, kwh):
    content = "meterId,timestamp,kwhConsumedAc\nM1,2026-07-01T00:00:00Z,300\n"

    assert taken(tmp_path / "a.csv", content, unit=unit).readings[0][2] == kwh


@pytest.mark.parametrize(
    ("cell", "options", "kwh"),
    [
        ("1,5", {"decimal": ","}, 1.5),
        ("-0,0", {"decimal": ","}, 0),
        ("1'234.5", {"thousands": "'"}, 1234.5),
        ("1 234,5", {"thousands": " ", "decimal": ","}, 1234.5),
        ("1\u202f234,5", {"thousands": " ", "decimal": ","}, 1234.5),
        ("1.5e1", {}, 15),
        (".5", {}, 0.5),
    ],
)
def test_number_is_read_as_said(tmp_path, cell, options, kwh):
    content = f"meterId;timestamp;kwhConsumedAc\nM1;2026-07-01T00:00:00Z;{cell}\n"

    assert taken(tmp_path / "a.csv", content, **options).readings[0][2] == kwh


@pytest.mark.parametrize(
    ("cell", "options", "words"),
    [
        ("1,5", {}, "it has a comma: for decimal commas, add --decimal ,"),
        ("1,234", {}, "it has a comma"),
        ("1.5", {"decimal": ","}, "with a decimal comma; it has a point"),
        ("12.34", {"decimal": ",", "thousands": "."}, "groups of three digits"),
        ("1.234.5", {}, "must be a number"),
        ("nan", {}, "must be a number"),
        ("1_000", {}, "must be a number"),
        ("٣", {}, "must be a number"),
        ("9" * 65, {}, "must be a number"),
    ],
)
def test_number_that_could_mean_something_else_is_refused(tmp_path, cell, options, words):
    content = f"meterId;timestamp;kwhConsumedAc\nM1;2026-07-01T00:00:00Z;{cell}\n"
    result = taken(tmp_path / "a.csv", content, **options)

    assert result.errors == [(2, "kwhConsumedAc", "wrong_type")]
    assert words in result.messages[0]
    assert cell not in result.messages[0]


# --- Separators and columns ---------------------------------------------------------------------


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_separator_is_found(tmp_path, separator):
    """Without any option, where columns have the API's names."""
    rows = [
        ["vehicleId", "timestamp", "kwhDeliveredDc", "note"],
        ["V1", "2026-07-01T00:00:00Z", "1", ""],
    ]
    content = "".join(separator.join(row) + "\r\n" for row in rows)

    assert taken(tmp_path / "a.csv", content).readings == [("V1", "07-01 00:00", 1)]


def test_separator_is_the_one_under_which_the_columns_are(tmp_path):
    content = "Time;Energy, kWh, net, gross\n2026-07-01 00:00;1,5\n"
    columns = {"timestamp": "Time", "kwhConsumedAc": "Energy, kWh, net, gross"}
    result = taken(tmp_path / "a.csv", content, columns=columns, meter="M1", decimal=",", tz="UTC")

    assert result.readings == [("M1", "07-01 00:00", 1.5)]


def test_separator_may_be_said_in_the_first_line_as_excel_does(tmp_path):
    content = "sep=|\nmeterId|timestamp|kwhConsumedAc,\nM1|2026-07-01T00:00Z|1\nM1||\n"
    result = taken(tmp_path / "a.csv", content, columns={"kwhConsumedAc": "kwhConsumedAc,"})

    assert result.readings == [("M1", "07-01 00:00", 1)]
    assert result.errors == [(4, "timestamp", "missing")]


def test_error_names_the_separator_if_that_is_what_is_wrong(tmp_path):
    content = "meterId;timestamp;kwhConsumedAc\nM1;2026-07-01T00:00:00Z;1\n"

    with pytest.raises(Unreadable) as refused:
        taken(tmp_path / "a.csv", content, separator=",")
    assert str(refused.value).endswith(
        "the whole line is one column, since the separator was said to be a comma, and the line "
        "has a semicolon: say --separator ';'"
    )


@pytest.mark.parametrize(
    ("header", "options", "words"),
    [
        ("Time;meterId;kwhConsumedAc", {}, '--column timestamp=NAME; its columns are "Time", "m'),
        ("timestamp;Device;kwhConsumedAc", {}, '--meter ID or --vehicle ID; its columns are "tim'),
        ("timestamp;meterId;kWh", {}, '--column kwhConsumedAc=NAME; its columns are "timestamp"'),
        (
            "timestamp;meterId;kWh",
            {"columns": {"kwhConsumedAc": "KWh"}},
            'columns.kwhConsumedAc: the column "KWh" is not in the header; its columns are "times',
        ),
        (
            "timestamp;meterId;kWh;kWh",
            {"columns": {"kwhConsumedAc": "kWh"}},
            'the column "kWh" is twice in the header',
        ),
        (
            "timestamp;meterId;kWh",
            {"columns": {"kwhConsumedAc": ["kWh", "meterId"]}},
            "only timestamp may have several",
        ),
    ],
)
def test_column_that_is_missing_is_named_with_those_that_are_there(
    tmp_path, header, options, words
):
    with pytest.raises(Unreadable, match=words.replace("(", r"\(")):
        taken(tmp_path / "a.csv", f"{header}\n1;2;3\n", **options)


def test_lines_before_the_header_are_skipped_and_counted(tmp_path):
    content = "Report\n\nmeterId;timestamp;kwhConsumedAc\nM1;2026-07-01T00:00Z;x\n"
    result = taken(tmp_path / "a.csv", content, skip_lines=2)

    assert result.errors == [(4, "kwhConsumedAc", "wrong_type")]


def test_line_with_too_few_cells_is_rejected_and_empty_ones_at_its_end_are_not(tmp_path):
    content = "meterId;timestamp;kwhConsumedAc\nM1;1\nM1;2026-07-01T00:00Z;1;;\n"
    result = taken(tmp_path / "a.csv", content)

    assert result.errors == [(2, None, "malformed_csv")]
    assert len(result.readings) == 1


# --- Devices ------------------------------------------------------------------------------------


def test_whole_file_may_be_of_one_device(tmp_path):
    content = "Time,kWh\n2026-07-01 00:15,0.5\n"
    columns = {"timestamp": "Time", "kwhDeliveredDc": "kWh"}
    result = taken(tmp_path / "a.csv", content, columns=columns, vehicle="V1", tz="UTC")

    assert result.readings == [("V1", "07-01 00:15", 0.5)]


def test_file_that_is_not_all_of_one_device_is_refused(tmp_path):
    content = "meterId;timestamp;kwhConsumedAc\nA;2026-07-01T00:00Z;1\nB;2026-07-01T00:00Z;1\n"

    with pytest.raises(Unreadable, match='not all of it is one meter: it has "A" and "B"'):
        taken(tmp_path / "a.csv", content, meter="M1")


def test_devices_may_have_other_names_in_the_file_and_others_are_left_out(tmp_path):
    content = "".join(
        f"{id_};2026-07-01T00:00Z;1\n" for id_ in ("Garage 1", "Garage 2", "Office", "Garage 1")
    )
    result = taken(
        tmp_path / "a.csv",
        f"Name;timestamp;kwhConsumedAc\n{content}",
        '[columns]\nmeterId = "Name"\n[meters]\n"Garage 1" = "M1"\n"Garage 2" = ""\n',
    )

    assert [row[0] for row in result.readings] == ["M1", "M1"]
    assert result.notes == {"skipped: devices that the map does not list": 2}


def test_wide_file_has_a_column_for_each_device(tmp_path):
    content = "Time;M1;M2\n2026-07-01 00:15;0,5;\n2026-07-01 00:30;0,25;x\n"
    result = taken(
        tmp_path / "a.csv",
        content,
        layout="wide",
        columns={"timestamp": "Time"},
        decimal=",",
        tz="UTC",
    )

    assert result.readings == [("M1", "07-01 00:15", 0.5), ("M1", "07-01 00:30", 0.25)]
    assert result.errors == [(3, "kwhConsumedAc", "wrong_type")]
    assert 'in column "M2"' in result.messages[0]
    assert result.notes == {"skipped: empty cells": 1}


def test_columns_of_a_wide_file_may_be_listed(tmp_path):
    content = "Time;Wallbox (kWh);Car (kWh);Weather\n2026-07-01 00:15;0.5;0.4;21\n"
    map_file = """
        layout = "wide"
        tz = "UTC"
        columns = { timestamp = "Time" }
        meters = { "Wallbox (kWh)" = "M1" }
        vehicles = { "Car (kWh)" = "V1" }
    """

    assert taken(tmp_path / "a.csv", content, map_file).readings == [
        ("M1", "07-01 00:15", 0.5),
        ("V1", "07-01 00:15", 0.4),
    ]
    with pytest.raises(Unreadable, match='meters: the column "Wallbox" is not in the header'):
        taken(tmp_path / "a.csv", content, map_file.replace("Wallbox (kWh)", "Wallbox"))


def test_time_stamped_at_the_start_of_an_interval_becomes_its_end(tmp_path):
    content = "meterId;timestamp;kwhConsumedAc\nM1;2026-07-01T00:00Z;1\n"
    result = taken(tmp_path / "a.csv", content, stamped="start", interval="15m")

    assert result.readings == [("M1", "07-01 00:15", 1)]


def test_ambiguous_and_impossible_local_times_are_reported_by_line(tmp_path):
    lines = ["2025-10-26 02:30", "2026-03-29 02:30", "2026-03-29 03:30"]
    content = "".join(f"M1;{at};1\n" for at in lines)
    result = taken(
        tmp_path / "a.csv", f"meterId;timestamp;kwhConsumedAc\n{content}", tz="Europe/Berlin"
    )

    assert result.errors == [
        (2, "timestamp", "invalid_format"),
        (3, "timestamp", "invalid_format"),
    ]
    assert "happened twice" in result.messages[0]
    assert "does not exist" in result.messages[1]
    assert result.readings == [("M1", "03-29 01:30", 1)]


def test_other_rules_are_those_of_the_api(tmp_path):
    rows = [
        "V1;2026-07-01T00:00Z;1;101",
        "V 1;2026-07-01T00:00Z;1;",
        ";2026-07-01T00:00Z;1;",
        "V1;;1;",
    ]
    content = "vehicleId;timestamp;kwhDeliveredDc;soc\n" + "\n".join(
        [*rows, "V1;2026-07-01T00:00Z;;"]
    )
    result = taken(tmp_path / "a.csv", content)

    assert result.errors == [
        (2, "soc", "out_of_range"),
        (3, "vehicleId", "invalid_format"),
        (4, "vehicleId", "missing"),
        (5, "timestamp", "missing"),
        (6, "kwhDeliveredDc", "missing"),
    ]
