"""Clocks that are known to be wrong: their readings are stored under the corrected time."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command

from fleet.models import Meter, MeterLiveState, Vehicle, VehicleLiveState
from ingestion.clock_offsets import ClockOffsets, clock_offsets
from ingestion.models import MeterReading
from tests.conftest import NOON, at

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture
def behind(api):
    """M1 and V1 are three days behind; M2 is right."""
    Meter.objects.create(meter_id="M1", external_id="DE*1", clock_offset_seconds=3 * 86_400)
    Meter.objects.create(meter_id="M2")
    Vehicle.objects.create(vehicle_id="V1", clock_offset_seconds=3 * 86_400)
    clock_offsets.look()


def meter(meter_id: str, measured_at: datetime | str | None) -> dict[str, object]:
    """Return a reading on the wire; without a time, the server stamps it."""
    reading = {"meterId": meter_id, "kwhConsumedAc": 1}
    if isinstance(measured_at, datetime):
        measured_at = measured_at.isoformat()
    return reading if measured_at is None else reading | {"timestamp": measured_at}


def stored() -> dict[str, datetime]:
    """Return the time of each meter's only reading."""
    return dict(MeterReading.objects.values_list("meter_id", "measured_at"))


@pytest.mark.usefixtures("behind")
def test_offset_is_added_to_the_timestamps_of_its_device_alone(api):
    readings = [meter(meter_id, at("11:00") - 3 * DAY) for meter_id in ("M1", "M2")]

    assert api.post("/v1/ingest/meter/batch", readings).status_code == 201

    assert stored() == {"M1": at("11:00"), "M2": at("11:00") - 3 * DAY}
    assert MeterLiveState.objects.get(pk="M1").measured_at == at("11:00")


@pytest.mark.usefixtures("behind")
@pytest.mark.parametrize("path", ["/v1/ingest", "/v1/ingest/vehicle"])
def test_offset_holds_for_vehicles_and_for_mixed_bodies(api, path):
    reading = {"vehicleId": "V1", "kwhDeliveredDc": 1, "timestamp": "2026-07-12T11:00:00Z"}

    assert api.post(path, reading).status_code == 201

    assert VehicleLiveState.objects.get().measured_at == at("11:00")


@pytest.mark.usefixtures("behind")
def test_offset_holds_beside_an_invalid_reading_too(api):
    readings = [meter("M1", at("11:00") - 3 * DAY), {"meterId": "M2"}]

    assert api.post("/v1/ingest/meter", readings).json()["accepted"] == 1

    assert stored() == {"M1": at("11:00")}


@pytest.mark.usefixtures("behind")
def test_offset_holds_for_streams(api):
    lines = "\n".join(json.dumps(meter("M1", at(time) - 3 * DAY)) for time in ("10:00", "11:00"))

    assert api.post("/v1/ingest/meter", lines, "application/x-ndjson").status_code == 201

    assert set(MeterReading.objects.values_list("measured_at", flat=True)) == {
        at("10:00"),
        at("11:00"),
    }


@pytest.mark.usefixtures("behind")
def test_reading_without_a_timestamp_needs_no_offset(api):
    assert api.post("/v1/ingest/meter", meter("M1", None)).status_code == 201

    assert stored() == {"M1": NOON}


@pytest.mark.usefixtures("behind")
@pytest.mark.parametrize(
    ("measured_at", "status"),
    [
        (NOON - 3 * DAY + 10 * MINUTE, 201),
        (NOON - 3 * DAY + 11 * MINUTE, 400),
        (NOON - 23 * DAY, 201),
        (NOON - 23 * DAY - MINUTE, 400),
        ("9999-12-31T23:59:59Z", 400),
    ],
)
def test_limits_of_timestamps_are_those_of_the_corrected_time(api, settings, measured_at, status):
    settings.HISTORY_HORIZON_DAYS = 20

    assert api.post("/v1/ingest/meter", meter("M1", measured_at)).status_code == status


def test_clock_that_begins_in_1970_can_be_corrected(api):
    offset = (NOON - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    Meter.objects.create(meter_id="M1", clock_offset_seconds=offset)
    clock_offsets.look()

    assert api.post("/v1/ingest/meter", meter("M1", "1970-01-01T00:00:00Z")).status_code == 201

    assert stored() == {"M1": NOON}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("behind")
def test_imported_files_are_right_as_they_are(tmp_path):
    file = tmp_path / "readings.csv"
    file.write_text("meterId,kwhConsumedAc,timestamp\nM1,1,2026-07-12T11:00:00Z\n")

    call_command("import_readings", str(file))

    assert stored() == {"M1": at("11:00") - 3 * DAY}


@pytest.mark.usefixtures("behind")
def test_process_looks_for_changes_every_two_seconds(monkeypatch, statements_sent):
    seconds = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])
    offsets = ClockOffsets()

    assert set(offsets.known()) == {"meter", "vehicle"}
    Meter.objects.update(clock_offset_seconds=0)
    seconds[0] += 2.0
    with statements_sent() as sent:
        assert set(offsets.known()) == {"meter", "vehicle"}
    assert sent == [0]

    seconds[0] += 0.1
    with statements_sent() as sent:
        assert set(offsets.known()) == {"vehicle"}
    assert sent == [1]


@pytest.mark.usefixtures("behind")
def test_device_is_known_by_its_external_id_too():
    assert clock_offsets.known()["meter"] == {"M1": 3 * DAY, "DE*1": 3 * DAY}
