"""NEM12 files, whose days have 48, 96 or 288 intervals in UTC+10 all year."""

import pytest

from ingestion.files.formats import Unreadable
from tests.ingestion.files.sources import taken


def nem12(*records: str) -> str:
    return "\r\n".join(["100,NEM12,202606161806,MDP1,RETAIL1", *records, "900", ""])


def stream(suffix: str = "E1", unit: str = "kWh", minutes: int = 30, nmi: str = "6305") -> str:
    return f"200,{nmi},E1B1,{suffix},{suffix},N1,METER01,{unit},{minutes},20261231"


def day(date: str = "20260601", *, values: str = "0.5", count: int = 48, quality: str = "A") -> str:
    cells = ",".join([values] * count)
    return f"300,{date},{cells},{quality},,,20260602000000,"


def test_intervals_are_stamped_with_their_end_in_market_time(tmp_path):
    """The first half hour of 1 June in Australia ends at 00:30+10:00, 14:30 UTC of 31 May."""
    result = taken(tmp_path / "a.csv", nem12(stream(), day()))

    assert len(result.readings) == 48
    assert result.readings[0] == ("6305-E1", "05-31 14:30", 0.5)
    assert result.readings[-1] == ("6305-E1", "06-01 14:00", 0.5)
    assert sum(kwh for *_, kwh in result.readings) == 24
    assert result.registers == {"6305-E1": "interval"}


@pytest.mark.parametrize(("minutes", "first"), [(5, "14:05"), (15, "14:15"), (30, "14:30")])
def test_intervals_have_their_length(tmp_path, minutes, first):
    count = 1440 // minutes
    result = taken(tmp_path / "a.csv", nem12(stream(minutes=minutes), day(count=count)))

    assert len(result.readings) == count
    assert result.readings[0][1] == f"05-31 {first}"


@pytest.mark.parametrize(
    ("unit", "kwh"), [("Wh", 0.0005), ("KWH", 0.5), ("kwh", 0.5), ("MWh", 500)]
)
def test_unit_of_the_register_counts(tmp_path, unit, kwh):
    assert taken(tmp_path / "a.csv", nem12(stream(unit=unit), day())).readings[0][2] == kwh


def test_no_daylight_saving_even_in_its_half_of_the_year(tmp_path):
    result = taken(tmp_path / "a.csv", nem12(stream(), day("20260115")))

    assert result.readings[0][1] == "01-14 14:30"


def test_zone_outside_the_market_is_taken_in_its_standard_time(tmp_path):
    """Western Australia: UTC+8. In Sydney's zone, the standard's time is UTC+10 in summer, too."""
    content = nem12(stream(), day("20260115"))

    assert taken(tmp_path / "a.csv", content, tz="+08:00").readings[0][1] == "01-14 16:30"
    assert taken(tmp_path / "a.csv", content, tz="Australia/Sydney").readings[0][1] == "01-14 14:30"


def test_only_consumption_is_taken_unless_the_map_lists_more(tmp_path):
    content = nem12(
        stream(), day(), stream("B1"), day(values="0.1"), stream("Q1", "kVArh"), day(values="9")
    )
    plain = taken(tmp_path / "a.csv", content)
    listed = taken(tmp_path / "b.csv", content, '[meters]\n"6305-E1" = "M1"\n"6305-B1" = "PV"\n')

    assert {row[0] for row in plain.readings} == {"6305-E1"}
    assert plain.notes == {
        "skipped: days of registers other than of consumption (suffix E)": 1,
        "skipped: days of registers whose unit is not one of energy": 1,
    }
    assert {(row[0], row[2]) for row in listed.readings} == {("M1", 0.5), ("PV", 0.1)}


def test_register_of_volts_may_have_any_length(tmp_path):
    content = nem12(stream("V1", "", 10), day(values="230.1", count=144), stream(), day())
    result = taken(tmp_path / "a.csv", content)

    assert (len(result.readings), result.errors) == (48, [])


def test_two_registers_are_two_meters_and_never_one(tmp_path):
    content = nem12(stream("E1"), day(), stream("E2"), day())

    assert {row[0] for row in taken(tmp_path / "a.csv", content).readings} == {"6305-E1", "6305-E2"}
    with pytest.raises(Unreadable, match='it has "6305-E1" and "6305-E2"'):
        taken(tmp_path / "a.csv", content, meter="M1")


def test_quality_flags_say_which_intervals_have_data(tmp_path):
    """Variable: 1 to 40 actual, 41 to 46 substituted, 47 and 48 null."""
    content = nem12(
        stream(),
        day(quality="V"),
        "400,1,40,A,,",
        "400,41,46,S14,76,",
        "400,47,48,N,,",
        day("20260602", quality="E52"),
        day("20260603", quality="N"),
    )
    result = taken(tmp_path / "a.csv", content)

    assert len(result.readings) == 46 + 48
    assert result.readings[45][1] == "06-01 13:00"
    assert result.notes == {
        "taken, though substituted": 6,
        "taken, though estimated": 48,
        "skipped: intervals without data (quality N)": 2 + 48,
    }
    assert result.errors == []


@pytest.mark.parametrize(
    ("records", "error", "words"),
    [
        ([day()], 2, "it comes before any record 200"),
        ([stream(minutes=20), day()], 2, "interval length must be 5, 15 or 30"),
        (["200,6305,E1"], 2, "the interval length is the 9th"),
        ([stream(), day(count=47)], 3, "it has 47 values; the interval length of record 200"),
        ([stream(), "300,20260601," + ",".join(["1"] * 40)], 3, "needs 48 values"),
        ([stream(), day(count=96)], 3, "after 48 values must be a quality flag"),
        ([stream(), day("20260631")], 3, "date must be YYYYMMDD"),
        ([stream(), day("2026-6-1")], 3, "date must be YYYYMMDD"),
        ([stream(), "400,1,48,A,,"], 3, "must follow a valid record 300"),
        ([stream(), day(quality="V"), "400,40,49,A,,"], 4, "intervals must be from 1 to 48"),
        ([stream(), day(quality="V"), "400,1,48,Z9,,"], 4, "must have a quality flag"),
        (["ABC,1"], 2, "must begin with 100, 200"),
        ([stream(), day(values="0x1")], 3, "kwhConsumedAc of interval 1 must be a number"),
        ([stream(), day(values="-1")], 3, "kwhConsumedAc must be a number from 0"),
    ],
)
def test_record_that_is_not_as_the_standard_says_is_rejected_by_line(
    tmp_path, records, error, words
):
    result = taken(tmp_path / "a.csv", nem12(*records))

    assert result.errors[0][0] == error
    assert words in result.messages[0]


def test_bad_day_harms_no_other(tmp_path):
    content = nem12(
        stream(), day(count=47), day("20260602"), stream(minutes=7), day(), stream("E2")
    )
    result = taken(tmp_path / "a.csv", content)

    assert len(result.readings) == 48
    assert [line for line, *_ in result.errors] == [3, 5, 6]


def test_file_may_begin_with_an_empty_line_or_lack_its_header_and_have_several_ends(tmp_path):
    """As some meter data agents write it, and as files that are joined are."""
    whole = nem12(stream(), day())

    assert len(taken(tmp_path / "a.csv", "\r\n" + whole).readings) == 48
    assert len(taken(tmp_path / "a.csv", whole.split("\r\n", 1)[1]).readings) == 48
    assert len(taken(tmp_path / "a.csv", whole + whole).readings) == 96


def test_name_may_say_nothing_if_the_format_is_said(tmp_path):
    content = nem12(stream(), day())

    assert len(taken(tmp_path / "NEM12#1#A#B.V01", content, format="nem12").readings) == 48


def test_accumulated_data_is_refused(tmp_path):
    with pytest.raises(Unreadable, match="NEM13 has readings of months"):
        taken(tmp_path / "a.csv", "100,NEM13,202606161806,MDP1,RETAIL1\r\n900\r\n")
