"""Times in files: read exactly, or refused with a reason."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.files.times import NotATime, Times, duration, instant_of, zone

BERLIN = zone("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00"),
        ("2026-03-01 10:00", "2026-03-01T09:00:00"),
        ("2026-07-01 10:00:00.25", "2026-07-01T08:00:00.250000"),
        ("2026-07-01 10:00:00+05:30", "2026-07-01T04:30:00"),
        ("2026-07-01 10:00:00 +0530", "2026-07-01T04:30:00"),
        ("2026-02-28 24:00", "2026-02-28T23:00:00"),
    ],
)
def test_iso_times_are_read_with_their_offset_or_in_the_zone(text, expected):
    assert Times(None, BERLIN).instant(text).isoformat() == f"{expected}+00:00"


@pytest.mark.parametrize(
    ("time_format", "text", "expected"),
    [
        ("%d.%m.%Y %H:%M", "01.03.2026 10:00", "2026-03-01T09:00:00"),
        ("%d.%m.%Y %H:%M", "31.12.2025 24:00", "2025-12-31T23:00:00"),
        ("%m/%d/%Y %I:%M %p", "03/01/2026 01:30 PM", "2026-03-01T12:30:00"),
        ("%Y-%m-%dT%H:%M%z", "2026-03-01T10:00+0300", "2026-03-01T07:00:00"),
        ("unix", "1772359200", "2026-03-01T10:00:00"),
        ("unix", "1772359200.5", "2026-03-01T10:00:00.500000"),
        ("unix_ms", "1772359200250", "2026-03-01T10:00:00.250000"),
    ],
)
def test_times_of_another_form_are_read_as_said(time_format, text, expected):
    assert Times(time_format, BERLIN).instant(text).isoformat() == f"{expected}+00:00"


@pytest.mark.parametrize(
    ("time_format", "of_zone", "text", "words"),
    [
        (None, None, "2026-03-01 10:00", "no time zone: say which one it is in with --tz"),
        (None, BERLIN, "01.03.2026 10:00", "say which form it has with --time-format"),
        (None, BERLIN, "20260301T100000", "say which form it has"),
        (None, BERLIN, "2026-03-01", "say which form it has"),
        (None, BERLIN, "2026-13-01 10:00", "say which form it has"),
        (None, BERLIN, "2026-03-01T10:00:00.1234567Z", "finer than a microsecond"),
        ("%d.%m.%Y %H:%M", BERLIN, "30.02.2026 10:00", r"not of the form %d\.%m\.%Y %H:%M"),
        ("unix", None, "1e9", "seconds or milliseconds since 1970"),
        ("unix", None, "99999999999999999", "out of range"),
        (None, BERLIN, "2026-03-29 02:30", "does not exist in Europe/Berlin"),
        (None, BERLIN, "2025-10-26 02:00", "happened twice in Europe/Berlin"),
        (None, BERLIN, "2025-10-26 02:59:59", "happened twice"),
    ],
)
def test_what_is_no_single_instant_is_refused(time_format, of_zone, text, words):
    with pytest.raises(NotATime, match=words) as refused:
        Times(time_format, of_zone).instant(text)
    assert text not in str(refused.value)


def test_hours_around_a_clock_change_are_read():
    times = Times(None, BERLIN)

    assert times.instant("2025-10-26 01:59").hour == 23
    assert times.instant("2025-10-26 03:00").hour == 2
    assert times.instant("2026-03-29 01:59").hour == 0
    assert times.instant("2026-03-29 03:00").hour == 1


def test_time_stamped_at_the_start_is_shifted_after_it_became_an_instant():
    times = Times(None, BERLIN, timedelta(hours=1))

    # The hour that began at 01:00 ended when clocks went from 02:00 to 03:00.
    assert times.instant("2026-03-29 01:00") == datetime(2026, 3, 29, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"), [("15m", 900), ("30 min", 1800), ("1h", 3600), ("45s", 45), ("1d", 86400)]
)
def test_length_of_an_interval_is_read(text, seconds):
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0m", "15", "-15m", "1.5h", "15 weeks"])
def test_what_is_no_length_is_refused(text):
    with pytest.raises(ValueError, match="such as 15m"):
        duration(text)


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "CET+1", "+1000000"])
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(ValueError, match="IANA time zone"):
        zone(name)


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca",
         "Pacific/Apia", "America/Sao_Paulo", "Europe/Dublin", "Asia/Kolkata"]  # fmt: skip


def instants_with(local: datetime, name: str) -> list[datetime]:
    """Return every instant at which a clock in the zone shows `local`, by trying all offsets."""
    there = ZoneInfo(name)
    around = (local.replace(tzinfo=UTC) + timedelta(hours=hours) for hours in range(-30, 31))
    tried = {local - at.astimezone(there).utcoffset() for at in around}
    instants = sorted(at.replace(tzinfo=UTC) for at in tried)
    return [at for at in instants if at.astimezone(there).replace(tzinfo=None) == local]


@given(
    name=st.sampled_from(ZONES),
    local=st.datetimes(datetime(1990, 1, 1), datetime(2037, 1, 1)),
    near_a_change=st.booleans(),
    place=st.integers(0, 400),
)
def test_local_time_is_the_one_instant_that_shows_it_or_is_refused(
    name, local, near_a_change, place
):
    if near_a_change:
        local = near_change(name, local.year, place)
    possible = instants_with(local, name)

    if len(possible) == 1:
        assert instant_of(local, zone(name)) == possible[0]
    else:
        words = "happened twice" if possible else "does not exist"
        with pytest.raises(NotATime, match=words):
            instant_of(local, zone(name))


def near_change(name: str, year: int, place: int) -> datetime:
    """Return a local time within three hours of a change of the zone's offset, if any."""
    there, hour = ZoneInfo(name), timedelta(hours=1)
    at = datetime(year, 1, 1, tzinfo=UTC)
    for _ in range(366 * 24):
        if at.astimezone(there).utcoffset() != (at + hour).astimezone(there).utcoffset():
            return at.astimezone(there).replace(tzinfo=None) + timedelta(minutes=place - 200)
        at += hour
    return at.replace(tzinfo=None)
