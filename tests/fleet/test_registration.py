"""Devices that register themselves get the defaults of their site, and keep them."""

import pytest

from fleet.links import link_vehicle
from fleet.models import DeviceDefaults, Meter, Vehicle
from fleet.registration import defaults_of, join_site, register
from ingestion.writer import record
from tests.callers import INGEST, caller
from tests.conftest import NOON, meter_reading, vehicle_reading
from tests.factories import MeterFactory, SiteFactory, VehicleFactory

pytestmark = pytest.mark.django_db

COUNTER = {"energy_register": "counter", "scale": 0.001, "max_power_kw": 22.0}


@pytest.fixture
def berlin():
    return SiteFactory(name="Berlin")


def settings_of(device: Meter | Vehicle) -> tuple[str, float, float | None]:
    device.refresh_from_db()
    return device.energy_register, device.scale, device.max_power_kw


class TestReadings:
    def test_new_devices_get_the_defaults_of_their_kind(self):
        DeviceDefaults.objects.create(
            kind="meter", **COUNTER, interval_seconds=900, rolls_over_at_kwh=1e6
        )
        record([meter_reading("M1"), vehicle_reading("V1")], NOON)

        meter, vehicle = Meter.objects.get(), Vehicle.objects.get()
        assert settings_of(meter) == ("counter", 0.001, 22.0)
        assert (meter.interval_seconds, meter.rolls_over_at_kwh) == (900, 1e6)
        assert settings_of(vehicle) == ("interval", 1.0, None)

    def test_known_devices_keep_their_own(self):
        meter = MeterFactory(meter_id="M1", scale=40)
        DeviceDefaults.objects.create(kind="meter", **COUNTER)

        record([meter_reading("M1")], NOON)

        assert settings_of(meter) == ("interval", 40.0, None)

    def test_defaults_of_a_site_are_not_for_devices_without_one(self, berlin):
        DeviceDefaults.objects.create(kind="vehicle", site=berlin, **COUNTER)

        record([vehicle_reading("V1")], NOON)

        assert settings_of(Vehicle.objects.get()) == ("interval", 1.0, None)


class TestLinks:
    def test_device_that_a_link_registers_gets_them_too(self):
        DeviceDefaults.objects.create(kind="meter", **COUNTER)

        link_vehicle("V1", "M1")

        assert settings_of(Meter.objects.get()) == ("counter", 0.001, 22.0)


class TestDefaults:
    def test_those_of_the_site_come_before_those_of_all_others(self, berlin):
        DeviceDefaults.objects.create(kind="meter", scale=40)
        assert defaults_of(Meter, berlin.pk)["scale"] == 40
        DeviceDefaults.objects.create(kind="meter", site=berlin, scale=0.001)

        assert defaults_of(Meter, berlin.pk)["scale"] == 0.001
        assert defaults_of(Meter)["scale"] == 40
        assert defaults_of(Vehicle, berlin.pk)["scale"] == 1

    def test_statements_do_not_grow_with_the_devices(self, statements_sent, berlin):
        def sent_for(count: int) -> int:
            with statements_sent() as sent:
                register(Meter, [f"N{count}-{n}" for n in range(count)], berlin.pk)
            return sent[0]

        assert sent_for(2) == sent_for(500)


@pytest.mark.usefixtures("closed")
class TestKeyOfASite:
    @pytest.fixture(autouse=True)
    def _devices_may_register_at_berlin(self, berlin):
        DeviceDefaults.objects.create(kind="meter", site=berlin, **COUNTER)
        DeviceDefaults.objects.create(kind="vehicle", site=berlin)

    def test_new_device_is_registered_at_the_site_of_its_key(self, berlin):
        gateway = caller(INGEST, site=berlin)

        status, outcome = gateway.post({"meterId": "M1", "kwhConsumedAc": 1000})

        assert (status, outcome["accepted"]) == (201, 1)
        assert Meter.objects.get().site == berlin
        assert settings_of(Meter.objects.get()) == ("counter", 0.001, 22.0)
        assert gateway.post({"meterId": "M1", "kwhConsumedAc": 1001})[0] == 201

    def test_device_of_another_site_or_of_none_stays_out_of_reach(self, berlin):
        MeterFactory(meter_id="M1", site=SiteFactory(name="Hamburg"))
        VehicleFactory(vehicle_id="V1")
        body = [
            {"meterId": "M1", "kwhConsumedAc": 1},
            {"vehicleId": "V1", "kwhDeliveredDc": 1},
            {"meterId": "M2", "kwhConsumedAc": 1},
        ]

        status, outcome = caller(INGEST, site=berlin).post(body)

        assert (status, outcome["accepted"]) == (200, 1)
        assert [(error["index"], error["code"]) for error in outcome["errors"]] == [
            (0, "unknown_device"),
            (1, "unknown_device"),
        ]
        assert [*Meter.objects.values_list("pk", "site__name")] == [
            ("M1", "Hamburg"),
            ("M2", "Berlin"),
        ]

    def test_nothing_is_registered_at_a_site_without_defaults(self):
        hamburg = SiteFactory(name="Hamburg")
        DeviceDefaults.objects.create(kind="vehicle", site=hamburg)

        status, _ = caller(INGEST, site=hamburg).post({"meterId": "M1", "kwhConsumedAc": 1})

        assert (status, Meter.objects.count()) == (400, 0)

    def test_nothing_is_registered_where_devices_do_not_register(self, berlin, settings):
        settings.INGEST_UNKNOWN_DEVICES = "reject"

        status, _ = caller(INGEST, site=berlin).post({"meterId": "M1", "kwhConsumedAc": 1})

        assert (status, Meter.objects.count()) == (400, 0)

    def test_nothing_is_registered_by_a_body_that_is_not_stored(self, berlin):
        body = [{"meterId": "M1", "kwhConsumedAc": 1}, {"meterId": "M2", "kwhConsumedAc": -1}]

        status, _ = caller(INGEST, site=berlin).post(body, "/v1/ingest?atomic=true")

        assert (status, Meter.objects.count()) == (400, 0)

    def test_key_for_listed_devices_registers_none(self):
        status, _ = caller(INGEST, meter_ids=["M1"]).post({"meterId": "M2", "kwhConsumedAc": 1})

        assert (status, Meter.objects.count()) == (400, 0)

    def test_known_devices_cost_no_statement_more(self, berlin, statements_sent):
        MeterFactory(meter_id="M1", site=berlin)
        gateway, everything = caller(INGEST, site=berlin), caller(INGEST)

        def sent_by(key) -> int:
            key.post({"meterId": "M1", "kwhConsumedAc": 1})
            with statements_sent() as sent:
                key.post({"meterId": "M1", "kwhConsumedAc": 1})
            return sent[0]

        assert sent_by(gateway) == sent_by(everything)

    def test_only_unknown_devices_join(self, berlin):
        MeterFactory(meter_id="M1", site=berlin)
        MeterFactory(meter_id="M2")

        assert join_site(Meter, {"M1", "M2", "M3"}, berlin.pk) == {"M1", "M3"}
