"""`record`: history keeps every delivery, live state moves forward only."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.models import Meter, MeterLiveState, Vehicle, VehicleLiveState
from ingestion import models
from ingestion.readings import DeviceKind, VehicleReading
from ingestion.writer import UnknownDevices, record
from tests.conftest import NOON, at, meter_reading, vehicle_reading

pytestmark = pytest.mark.django_db


def live_state(vehicle_id: str) -> VehicleLiveState:
    return VehicleLiveState.objects.get(pk=vehicle_id)


def history_size(vehicle_id: str) -> int:
    return models.VehicleReading.objects.filter(vehicle_id=vehicle_id).count()


def test_reading_is_kept_with_both_its_times_and_shown_live():
    record([meter_reading("M1", "11:00", 25.5, voltage_v=230.0)], received_at=NOON)

    row = models.MeterReading.objects.get()
    assert (row.meter_id, row.measured_at, row.received_at) == ("M1", at("11:00"), NOON)
    assert (row.energy_ac_kwh, row.voltage_v) == (25.5, 230.0)
    live = MeterLiveState.objects.get(pk="M1")
    assert (live.measured_at, live.energy_ac_kwh, live.voltage_v) == (at("11:00"), 25.5, 230.0)


def test_late_reading_joins_history_but_leaves_live_state():
    record([vehicle_reading("V1", "11:05", soc_percent=70.0)], NOON)
    record([vehicle_reading("V1", "11:00", soc_percent=65.0)], NOON)

    assert live_state("V1").soc_percent == 70
    assert history_size("V1") == 2


def test_missing_field_keeps_its_last_known_value():
    record([vehicle_reading("V1", "11:00", soc_percent=70.0, battery_temp_celsius=30.0)], NOON)
    record([vehicle_reading("V1", "11:01", battery_temp_celsius=31.0)], NOON)

    live = live_state("V1")
    assert (live.soc_percent, live.battery_temp_celsius) == (70, 31)
    assert live.measured_at == at("11:01")


def test_missing_field_takes_the_last_known_value_of_the_same_batch():
    record([vehicle_reading("V1", "10:00", soc_percent=50.0)], NOON)
    record(
        [
            vehicle_reading("V1", "11:03"),
            vehicle_reading("V1", "11:01", soc_percent=60.0),
            vehicle_reading("V1", "11:02", battery_temp_celsius=31.0),
        ],
        NOON,
    )

    live = live_state("V1")
    assert (live.soc_percent, live.battery_temp_celsius) == (60, 31)
    assert live.measured_at == at("11:03")


def test_value_older_than_the_one_shown_does_not_fill_a_gap():
    record([vehicle_reading("V1", "11:02", soc_percent=70.0)], NOON)
    record([vehicle_reading("V1", "11:01", soc_percent=60.0), vehicle_reading("V1", "11:03")], NOON)

    assert live_state("V1").soc_percent == 70


def test_repeat_is_kept_again():
    for _ in range(3):
        record([vehicle_reading("V1", "11:00", 21.5)], NOON)

    assert history_size("V1") == 3


def test_correction_with_the_same_timestamp_is_shown():
    record([vehicle_reading("V1", "11:00", 21.5)], NOON)
    record([vehicle_reading("V1", "11:00", 22.5)], NOON + timedelta(seconds=1))

    assert live_state("V1").energy_dc_kwh == 22.5


def test_of_two_readings_with_one_timestamp_in_one_batch_the_later_one_is_shown():
    record([vehicle_reading("V1", "11:00", 1.0), vehicle_reading("V1", "11:00", 2.0)], NOON)

    assert live_state("V1").energy_dc_kwh == 2
    newest = models.VehicleReading.objects.order_by("-received_at", "-id").first()
    assert newest.energy_dc_kwh == 2


def test_delivery_that_was_received_first_but_written_last_is_not_shown():
    record([vehicle_reading("V1", "11:00", 2.0)], NOON + timedelta(seconds=1))
    record([vehicle_reading("V1", "11:00", 1.0)], NOON)

    assert live_state("V1").energy_dc_kwh == 2


def test_unknown_devices_register_themselves():
    record([meter_reading("M1"), vehicle_reading("V1")], NOON)

    assert Meter.objects.get().pk == "M1"
    assert Vehicle.objects.get().energy_register == "interval"


def test_registered_device_keeps_its_settings():
    Vehicle.objects.create(vehicle_id="V1", energy_register="counter")
    record([vehicle_reading("V1")], NOON)

    assert Vehicle.objects.get().energy_register == "counter"


def test_unknown_device_is_refused_and_nothing_recorded(settings):
    settings.INGEST_UNKNOWN_DEVICES = "reject"
    Meter.objects.create(meter_id="M1")

    with pytest.raises(UnknownDevices) as refused:
        record([meter_reading("M1"), vehicle_reading("V1")], NOON)

    assert refused.value.device_ids == {DeviceKind.METER: set(), DeviceKind.VEHICLE: {"V1"}}
    assert not models.MeterReading.objects.exists()
    assert not VehicleLiveState.objects.exists()


def test_ids_compare_as_bytes():
    record([vehicle_reading("v1"), vehicle_reading("V1")], NOON)

    assert list(Vehicle.objects.values_list("pk", flat=True)) == ["V1", "v1"]


def test_reading_in_a_month_without_partition_makes_it(transactional_db):
    old = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)
    reading = VehicleReading(vehicle_id="V1", energy_dc_kwh=1.0, measured_at=old)

    record([reading], NOON)

    assert models.VehicleReading.objects.get().measured_at == old
