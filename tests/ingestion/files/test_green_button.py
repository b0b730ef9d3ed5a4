"""Green Button: meters, units and links of an ESPI feed."""

import pytest

from ingestion.files.formats import Unreadable
from tests.ingestion.files.sources import taken

# 2026-06-01T00:00:00Z.
JUNE = 1_780_272_000


def reading(number: int, value: int | str, *, seconds: int = 900, quality: str = "") -> str:
    """Return the reading of the interval with this number."""
    told = f"<ReadingQuality><quality>{quality}</quality></ReadingQuality>" if quality else ""
    return (
        f"<IntervalReading>{told}<cost>9</cost><timePeriod><duration>{seconds}</duration>"
        f"<start>{JUNE + number * seconds}</start></timePeriod><value>{value}</value>"
        "</IntervalReading>"
    )


def reading_type(name: str = "07", **fields: str) -> str:
    told = {
        "accumulationBehaviour": "4",
        "commodity": "1",
        "flowDirection": "1",
        "intervalLength": "900",
        "powerOfTenMultiplier": "0",
        "uom": "72",
    } | fields
    texts = "".join(f"<{name}>{text}</{name}>" for name, text in told.items())
    return (
        f'<entry><link rel="self" href="ReadingType/{name}"/><content>'
        f'<ReadingType xmlns="http://naesb.org/espi">{texts}</ReadingType></content></entry>'
    )


def meter(point: str = "01", number: str = "01", of_type: str = "07") -> str:
    own = f"RetailCustomer/9/UsagePoint/{point}/MeterReading/{number}"
    return (
        f'<entry><link rel="self" href="{own}"/><link rel="related" href="{own}/IntervalBlock"/>'
        f'<link rel="related" href="ReadingType/{of_type}"/><content>'
        '<MeterReading xmlns="http://naesb.org/espi"/></content></entry>'
    )


def block(*readings: str, point: str = "01", number: str = "01") -> str:
    up = f"RetailCustomer/9/UsagePoint/{point}/MeterReading/{number}/IntervalBlock"
    return (
        f'<entry><link rel="self" href="{up}/0173"/><link rel="up" href="{up}"/><content>'
        '<IntervalBlock xmlns="http://naesb.org/espi"><interval><duration>86400</duration>'
        f"<start>{JUNE}</start></interval>{''.join(readings)}</IntervalBlock></content></entry>"
    )


def feed(*entries: str) -> str:
    joined = "\n".join(entries)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<feed xmlns="http://www.w3.org/2005/Atom"><id>urn:1</id>{joined}</feed>'
    )


SIMPLE = feed(meter(), block(reading(0, 250), reading(1, 300)), reading_type())


def test_readings_are_stamped_with_the_end_of_their_interval(tmp_path):
    """250 Wh from 00:00 to 00:15 UTC."""
    result = taken(tmp_path / "a.xml", SIMPLE)

    assert result.readings == [("01", "06-01 00:15", 0.25), ("01", "06-01 00:30", 0.3)]
    assert result.registers == {"01": "interval"}
    assert taken(tmp_path / "a.xml", SIMPLE, meter="M1").readings[0][0] == "M1"


@pytest.mark.parametrize(
    ("multiplier", "value", "kwh"),
    [("0", 250, 0.25), ("-3", 250_000, 0.25), ("3", 2, 2), ("6", 2, 2000), ("", 250, 0.25)],
)
def test_multiplier_is_a_power_of_ten_of_watt_hours(tmp_path, multiplier, value, kwh):
    content = feed(reading_type(powerOfTenMultiplier=multiplier), meter(), block(reading(0, value)))

    assert taken(tmp_path / "a.xml", content).readings[0][2] == kwh


def test_usage_points_are_meters_each_with_its_own_type(tmp_path):
    content = feed(
        meter("A", "1", "07"),
        meter("B", "1", "08"),
        reading_type("07"),
        reading_type("08", powerOfTenMultiplier="3"),
        block(reading(0, 5), point="B", number="1"),
        block(reading(0, 5), point="A", number="1"),
    )

    assert taken(tmp_path / "a.xml", content).readings == [
        ("B", "06-01 00:15", 5),
        ("A", "06-01 00:15", 0.005),
    ]
    with pytest.raises(Unreadable, match='it has "A" and "B"'):
        taken(tmp_path / "a.xml", content, meter="M1")


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"flowDirection": "19"}, "skipped: reverse flow"),
        ({"flowDirection": "4"}, "skipped: net flow"),
        ({"uom": "169"}, "skipped: units other than Wh (uom 72)"),
        ({"commodity": "12"}, "skipped: commodities other than electricity"),
        ({"uom": "38"}, "skipped: units other than Wh (uom 72)"),
        ({"powerOfTenMultiplier": "99"}, "skipped: units other than Wh (uom 72)"),
        (
            {"accumulationBehaviour": "12"},
            "skipped: neither energy of intervals nor a counter",
        ),
    ],
)
def test_what_is_no_consumed_energy_is_left_out(tmp_path, fields, note):
    content = feed(reading_type(**fields), meter(), block(reading(0, 250)))
    result = taken(tmp_path / "a.xml", content)

    assert (result.readings, result.errors, result.notes) == ([], [], {note: 1})


def test_reverse_flow_is_taken_if_the_map_lists_it(tmp_path):
    content = feed(
        reading_type("07"),
        reading_type("08", flowDirection="19"),
        meter("01", "1", "07"),
        meter("01", "2", "08"),
        block(reading(0, 250), number="1"),
        block(reading(0, 100), number="2"),
    )
    result = taken(tmp_path / "a.xml", content, '[meters]\n"01" = "M1"\n"01/2" = "PV"\n')

    assert result.readings == [("M1", "06-01 00:15", 0.25), ("PV", "06-01 00:15", 0.1)]


def test_two_readings_of_the_same_energy_are_never_one_meter(tmp_path):
    """Quarter hours and days: together, they would count twice."""
    content = feed(
        reading_type(),
        meter("01", "1"),
        meter("01", "2"),
        block(reading(0, 250), number="1"),
        block(reading(0, 900, seconds=86_400), number="2"),
    )

    with pytest.raises(
        Unreadable, match='01 would get the readings of 2 meter readings, "01/1", "0'
    ):
        taken(tmp_path / "a.xml", content)
    result = taken(tmp_path / "a.xml", content, '[meters]\n"01/1" = "M1"\n"01/2" = ""\n')
    assert result.readings == [("M1", "06-01 00:15", 0.25)]


def test_bulk_quantity_is_a_counter(tmp_path):
    content = feed(reading_type(accumulationBehaviour="1"), meter(), block(reading(0, 5_000_000)))
    result = taken(tmp_path / "a.xml", content)

    assert result.readings[0][2] == 5000
    assert result.registers == {"01": "counter"}


def test_estimated_readings_are_taken_and_counted(tmp_path):
    content = feed(reading_type(), meter(), block(reading(0, 1, quality="8"), reading(1, 2)))

    assert taken(tmp_path / "a.xml", content).notes == {"taken, though estimated": 1}


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (reading(0, "x"), "kwhConsumedAc"),
        (reading(0, -5), "kwhConsumedAc"),
        (reading(0, 2**60), "kwhConsumedAc"),
        ("<IntervalReading><value>5</value></IntervalReading>", "timestamp"),
        (reading(0, 5).replace(str(JUNE), "9" * 20), "timestamp"),
    ],
)
def test_bad_reading_is_rejected_alone_and_named_by_its_number(tmp_path, bad, field):
    content = feed(reading_type(), meter(), block(reading(1, 250), bad, reading(2, 250)))
    result = taken(tmp_path / "a.xml", content)

    assert len(result.readings) == 2
    assert [error[:2] for error in result.errors] == [(2, field)]


def test_links_may_come_after_the_content_and_say_nothing(tmp_path):
    """As in the export of a utility whose links are its own."""
    content = feed(
        '<entry><content><ReadingType xmlns="http://naesb.org/espi"><uom>72</uom></ReadingType>'
        '</content><link rel="self" href="rt/kwh"/></entry>',
        '<entry><content><ReadingType xmlns="http://naesb.org/espi"><uom>38</uom></ReadingType>'
        '</content><link rel="self" href="rt/kw"/></entry>',
        *(
            f'<entry><content><MeterReading xmlns="http://naesb.org/espi"/></content>'
            f'<link rel="self" href="mr/{name}"/><link rel="related" href="rt/{name}"/></entry>'
            '<entry><content><IntervalBlock xmlns="http://naesb.org/espi">'
            f'{reading(0, 250)}</IntervalBlock></content><link rel="self" href="ib/{name}/1"/>'
            f'<link rel="related" href="mr/{name}"/></entry>'
            for name in ("kwh", "kw")
        ),
    )
    result = taken(tmp_path / "a.xml", content)

    assert result.readings == [("kwh", "06-01 00:15", 0.25)]
    assert result.notes == {"skipped: units other than Wh (uom 72)": 1}


def test_feed_of_one_type_needs_no_links(tmp_path):
    content = feed(
        '<entry><content><ReadingType xmlns="http://naesb.org/espi"><uom>72</uom></ReadingType>'
        "</content></entry>",
        '<entry><content><IntervalBlock xmlns="http://naesb.org/espi">'
        f"{reading(0, 250)}</IntervalBlock></content></entry>",
    )

    assert taken(tmp_path / "a.xml", content, meter="M1").readings == [("M1", "06-01 00:15", 0.25)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<html><body/></html>", "no entry with a MeterReading"),
        (SIMPLE[:-20], "not valid XML"),
        (
            SIMPLE.replace("?>", '?><!DOCTYPE feed [<!ENTITY a "aaaa">]>'),
            "document type or entities",
        ),
        (
            feed(meter(), meter("02"), block(reading(0, 1), point="03"), reading_type()),
            "has no link",
        ),
        ("<feed>" + "<a>" * 100, "nested deeper than 64"),
    ],
)
def test_xml_that_is_not_green_button_fails(tmp_path, content, words):
    with pytest.raises(Unreadable, match=words):
        taken(tmp_path / "a.xml", content)
