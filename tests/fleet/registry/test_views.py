"""Devices and sites over HTTP: reading, changing one, changing many."""

from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from analytics.models import FaultThresholds
from fleet.access.issuing import make_key
from fleet.models import DeviceDefaults, Meter, Scope, Site, Vehicle
from fleet.registers import register_changed
from fleet.tariffs.models import SeriesPrice, Tariff
from tests.callers import MANAGE, READ, Caller
from tests.conftest import NOON, at
from tests.factories import LinkFactory, MeterFactory, SiteFactory, VehicleFactory

UNSET = {
    "name": "",
    "externalId": None,
    "site": None,
    "energyRegister": "interval",
    "scale": 1.0,
    "maxPowerKw": None,
    "intervalSeconds": None,
    "rollsOverAtKwh": None,
    "clockOffsetSeconds": 0.0,
    "retiredAt": None,
    "registeredAt": "2026-07-15T12:00:00Z",
}
SET = {
    "name": "Yard, bay 4",
    "externalId": "DE*8PY*E123*1",
    "site": "Berlin",
    "energyRegister": "counter",
    "scale": 0.001,
    "maxPowerKw": 22.0,
    "intervalSeconds": 900.0,
    "rollsOverAtKwh": 838.8608,
    "clockOffsetSeconds": -3600.0,
    "retiredAt": "2026-07-01T00:00:00Z",
}


def refusal(answer) -> tuple[int, str | None, str]:
    (error,) = answer.json()["errors"]
    return answer.status_code, error["field"], error["code"]


def listed(api, path: str) -> list[str]:
    answer = api.get(path)
    assert answer.status_code == 200, answer.content
    kind = "meterId" if "/meters" in path else "vehicleId" if "/vehicles" in path else "name"
    return [row[kind] for row in answer.json()["results"]]


@pytest.fixture
def announced(django_capture_on_commit_callbacks):
    """Return what is announced of registers while a function runs."""

    def during(work) -> list[tuple[str, list[str]]]:
        found = []

        def note(sender, device_ids, **_) -> None:
            found.append((sender.__name__, device_ids))

        register_changed.connect(note)
        try:
            with django_capture_on_commit_callbacks(execute=True):
                work()
        finally:
            register_changed.disconnect(note)
        return found

    return during


class TestOneDevice:
    def test_device_has_every_setting(self, api):
        MeterFactory(meter_id="M1")
        VehicleFactory(vehicle_id="V1")

        assert api.get("/v1/meters/M1").json() == {"meterId": "M1", **UNSET}
        assert api.get("/v1/vehicles/V1").json() == {"vehicleId": "V1", **UNSET}

    def test_unknown_device_is_404(self, api):
        for answer in (api.get("/v1/meters/M1"), api.patch("/v1/meters/M1", {"scale": 2})):
            assert (answer.status_code, answer.json()["message"]) == (404, "Meter not found")

    def test_settings_change_and_are_answered(self, api):
        MeterFactory(meter_id="M1")
        SiteFactory(name="Berlin")

        answer = api.patch("/v1/meters/M1", SET)

        assert answer.status_code == 200
        assert answer.json() == {"meterId": "M1", **UNSET, **SET}
        assert api.get("/v1/meters/M1").json() == answer.json()

    def test_what_the_body_leaves_out_stays(self, api):
        VehicleFactory(vehicle_id="V1", scale=40, name="Van")

        api.patch("/v1/vehicles/V1", {"name": "Bus"})

        vehicle = Vehicle.objects.get()
        assert (vehicle.name, vehicle.scale) == ("Bus", 40)

    def test_null_and_an_empty_text_take_back(self, api):
        SiteFactory(name="Berlin")
        MeterFactory(meter_id="M1")
        api.patch("/v1/meters/M1", SET)

        answer = api.patch(
            "/v1/meters/M1",
            {"site": None, "externalId": "", "maxPowerKw": None, "retiredAt": None},
        )

        changed = {name: answer.json()[name] for name in ("site", "externalId", "maxPowerKw")}
        assert changed == {"site": None, "externalId": None, "maxPowerKw": None}

    @pytest.mark.parametrize(
        ("body", "field", "code"),
        [
            ({"scale": 0}, "scale", "out_of_range"),
            ({"scale": -0.001}, "scale", "out_of_range"),
            ({"scale": "1"}, "scale", "wrong_type"),
            ({"scale": True}, "scale", "wrong_type"),
            ({"scale": None}, "scale", "wrong_type"),
            ({"scale": 10**400}, "scale", "out_of_range"),
            ({"maxPowerKw": -1}, "maxPowerKw", "out_of_range"),
            ({"intervalSeconds": 0}, "intervalSeconds", "out_of_range"),
            ({"clockOffsetSeconds": 1e9}, "clockOffsetSeconds", "out_of_range"),
            ({"energyRegister": "meter"}, "energyRegister", "invalid_format"),
            ({"energyRegister": 1}, "energyRegister", "wrong_type"),
            ({"rollsOverAtKwh": 100}, "rollsOverAtKwh", "conflict"),
            (
                {"rollsOverAtKwh": 100, "energyRegister": "session_counter"},
                "rollsOverAtKwh",
                "conflict",
            ),
            ({"name": 1}, "name", "wrong_type"),
            ({"name": "x" * 201}, "name", "out_of_range"),
            ({"name": "two\nlines"}, "name", "invalid_format"),
            ({"externalId": "NUL \0"}, "externalId", "invalid_format"),
            ({"externalId": "SN-2"}, "externalId", "not_unique"),
            ({"site": "Rome"}, "site", "unknown_site"),
            ({"site": 1}, "site", "wrong_type"),
            ({"retiredAt": "2026-07-15T12:00:00"}, "retiredAt", "invalid_format"),
            ({"registeredAt": "2026-07-15T12:00:00Z"}, "registeredAt", "read_only"),
            ({"meterId": "M1"}, "meterId", "read_only"),
            ({"scle": 1}, None, "unknown_field"),
            ([], None, "wrong_type"),
        ],
        ids=str,
    )
    def test_bad_value_names_its_field_and_changes_nothing(self, api, body, field, code):
        MeterFactory(meter_id="M1")
        MeterFactory(meter_id="M2", external_id="SN-2")

        answer = api.patch("/v1/meters/M1", body)

        assert refusal(answer) == (400, field, code)
        assert (field or "") in answer.json()["message"]
        assert api.get("/v1/meters/M1").json() == {"meterId": "M1", **UNSET}

    def test_every_bad_field_is_listed(self, api):
        MeterFactory(meter_id="M1")

        answer = api.patch("/v1/meters/M1", {"scale": 0, "name": 1})

        assert {error["field"] for error in answer.json()["errors"]} == {"scale", "name"}

    def test_what_is_no_json_is_told_so(self, api):
        MeterFactory(meter_id="M1")

        answer = api._client.generic("PATCH", "/v1/meters/M1", b"{", "application/json")

        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")

    def test_device_may_keep_its_external_id(self, api):
        MeterFactory(meter_id="M1", external_id="SN-1")

        assert api.patch("/v1/meters/M1", {"externalId": "SN-1"}).status_code == 200

    def test_change_of_a_register_is_announced_and_of_a_name_is_not(self, api, announced):
        MeterFactory(meter_id="M1")

        def change(**values) -> list:
            return announced(lambda: api.patch("/v1/meters/M1", values))

        assert change(name="Yard") == []
        assert change(scale=1.0) == []  # as it was
        assert change(scale=40, name="Yard") == [("Meter", ["M1"])]


class TestLists:
    @pytest.fixture
    def fleet(self):
        berlin = SiteFactory(name="Berlin")
        MeterFactory(meter_id="M1", site=berlin, name="Yard")
        MeterFactory(meter_id="M2", energy_register="counter", external_id="SN-2")
        MeterFactory(meter_id="X3", site=berlin, retired_at=at("11:59"))
        MeterFactory(meter_id="X4", retired_at=at("12:01"), name="yardstick")

    @pytest.mark.parametrize(
        ("query", "ids"),
        [
            ("", ["M1", "M2", "X3", "X4"]),
            ("?site=Berlin", ["M1", "X3"]),
            ("?site=", ["M2", "X4"]),
            ("?site=Rome", []),
            ("?energyRegister=counter", ["M2"]),
            ("?externalId=SN-2", ["M2"]),
            ("?externalId=sn", []),
            ("?search=m", ["M1", "M2"]),
            ("?search=YARD", ["M1", "X4"]),
            ("?search=%25", []),
            ("?retired=true", ["X3"]),
            ("?retired=false", ["M1", "M2", "X4"]),
            ("?site=Berlin&retired=false", ["M1"]),
        ],
    )
    def test_list_is_filtered(self, api, fleet, query, ids):
        assert listed(api, f"/v1/meters{query}") == ids

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("retired=yes", "retired must be true or false"),
            (
                "energyRegister=x",
                "energyRegister must be one of interval, counter and session_counter",
            ),
            ("sit=Berlin", "Unknown query parameter; did you mean site? This path accepts "),
        ],
    )
    def test_bad_filter_is_refused(self, api, query, message):
        answer = api.get(f"/v1/vehicles?{query}")

        assert answer.status_code == 400
        assert answer.json()["message"].startswith(message)

    def test_list_comes_in_pages(self, api, fleet):
        first = api.get("/v1/meters?limit=3").json()
        second = api.get(first["next"]).json()

        assert [row["meterId"] for row in first["results"]] == ["M1", "M2", "X3"]
        assert [row["meterId"] for row in second["results"]] == ["X4"]
        assert second["next"] is None

    def test_statements_do_not_grow_with_the_rows(self, api, statements_sent):
        def sent_for(count: int) -> int:
            site = SiteFactory()
            Vehicle.objects.bulk_create(
                Vehicle(vehicle_id=f"V{count}-{n}", site=site) for n in range(count)
            )
            with statements_sent() as sent:
                assert len(listed(api, f"/v1/vehicles?site={site.name}&limit=1000")) == count
            return sent[0]

        assert sent_for(10) == sent_for(1000)


class TestManyDevices:
    @pytest.fixture
    def fleet(self):
        berlin = SiteFactory(name="Berlin")
        for number in (1, 2, 3):
            MeterFactory(meter_id=f"M{number}", site=berlin if number < 3 else None)

    def test_listed_devices_change(self, api, fleet, announced):
        order = {"ids": ["M1", "M3"], "set": {"energyRegister": "counter", "scale": 0.001}}
        answers = []

        assert announced(lambda: answers.append(api.patch("/v1/meters", order))) == [
            ("Meter", ["M1", "M3"])
        ]
        assert answers[0].json() == {"matched": 2, "changed": 2}
        assert [*Meter.objects.values_list("pk", "energy_register", "scale")] == [
            ("M1", "counter", 0.001),
            ("M2", "interval", 1.0),
            ("M3", "counter", 0.001),
        ]

    @pytest.mark.parametrize(
        ("chosen", "ids"),
        [
            ({"site": "Berlin"}, ["M1", "M2"]),
            ({"site": None}, ["M3"]),
            ({"site": "Berlin", "search": "M2"}, ["M2"]),
            ({"retired": False}, ["M1", "M2", "M3"]),
            ({}, ["M1", "M2", "M3"]),
            ({"externalId": "none"}, []),
        ],
        ids=str,
    )
    def test_devices_of_a_filter_change(self, api, fleet, chosen, ids):
        answer = api.patch("/v1/meters", {"filter": chosen, "set": {"maxPowerKw": 11}})

        assert answer.json() == {"matched": len(ids), "changed": len(ids)}
        assert [*Meter.objects.filter(max_power_kw=11).values_list("pk", flat=True)] == ids

    def test_device_that_had_the_setting_is_matched_but_not_changed(self, api, fleet, announced):
        Meter.objects.filter(pk="M1").update(scale=40)
        order = {"filter": {}, "set": {"scale": 40}}

        assert announced(lambda: api.patch("/v1/meters", order)) == [("Meter", ["M2", "M3"])]
        assert api.patch("/v1/meters", order).json() == {"matched": 3, "changed": 0}

    def test_unknown_ids_are_named_by_index_and_nothing_changes(self, api, fleet):
        order = {"ids": ["M1", "M9", "M2", "a b"], "set": {"scale": 2}}

        answer = api.patch("/v1/meters", order)

        assert answer.status_code == 400
        assert [(error["field"], error["code"]) for error in answer.json()["errors"]] == [
            ("ids[1]", "unknown_device"),
            ("ids[3]", "unknown_device"),
        ]
        assert not Meter.objects.filter(scale=2).exists()

    def test_one_device_that_cannot_have_the_settings_leaves_all_as_they_are(self, api, fleet):
        Meter.objects.filter(pk="M1").update(energy_register="counter")

        answer = api.patch("/v1/meters", {"filter": {}, "set": {"rollsOverAtKwh": 100}})

        assert refusal(answer) == (400, "set.rollsOverAtKwh", "conflict")
        assert answer.json()["message"] == (
            "set.rollsOverAtKwh must be empty unless the energy register is counter"
            " (M2 and 1 other)"
        )
        assert not Meter.objects.filter(rolls_over_at_kwh=100).exists()

    @pytest.mark.parametrize(
        ("order", "field", "code"),
        [
            ({"set": {"scale": 2}}, "ids", "conflict"),
            ({"ids": ["M1"], "filter": {}, "set": {"scale": 2}}, "ids", "conflict"),
            ({"ids": [], "set": {"scale": 2}}, "ids", "out_of_range"),
            ({"ids": "M1", "set": {"scale": 2}}, "ids", "wrong_type"),
            ({"ids": [1], "set": {"scale": 2}}, "ids[0]", "wrong_type"),
            ({"ids": ["M1"]}, "set", "missing"),
            ({"ids": ["M1"], "set": {}}, "set", "out_of_range"),
            ({"ids": ["M1"], "set": {"scale": 0}}, "set.scale", "out_of_range"),
            ({"ids": ["M1"], "set": {"scle": 1}}, None, "unknown_field"),
            ({"ids": ["M1"], "set": {"externalId": "X"}}, "set.externalId", "conflict"),
            ({"ids": ["M1"], "set": 1}, None, "wrong_type"),
            ({"filter": {"sight": "x"}, "set": {"scale": 2}}, None, "unknown_field"),
            ({"filter": {"retired": "no"}, "set": {"scale": 2}}, "filter.retired", "wrong_type"),
            (
                {"filter": {"energyRegister": "x"}, "set": {"scale": 2}},
                "filter.energyRegister",
                "invalid_format",
            ),
            ({"ids": ["M1"], "set": {"scale": 2}, "dryRun": True}, None, "unknown_field"),
            (
                {"ids": ["M1"], "set": {"scale": 2}, "applyDefaults": True},
                "applyDefaults",
                "conflict",
            ),
        ],
        ids=str,
    )
    def test_bad_order_names_what_is_wrong(self, api, fleet, order, field, code):
        assert refusal(api.patch("/v1/meters", order)) == (400, field, code)
        assert not Meter.objects.exclude(scale=1).exists()

    def test_site_brings_its_defaults_on_request(self, api, fleet):
        DeviceDefaults.objects.create(
            kind="meter", site=SiteFactory(name="Hamburg"), scale=0.001, max_power_kw=22
        )
        move = {"ids": ["M1"], "set": {"site": "Hamburg", "maxPowerKw": 11}}

        api.patch("/v1/meters", move)
        assert Meter.objects.get(pk="M1").scale == 1
        api.patch("/v1/meters", move | {"applyDefaults": True})

        meter = Meter.objects.get(pk="M1")
        assert (meter.site.name, meter.scale, meter.max_power_kw) == ("Hamburg", 0.001, 11)

    def test_statements_do_not_grow_with_the_devices(
        self, api, statements_sent, django_capture_on_commit_callbacks
    ):
        def sent_for(count: int) -> int:
            vehicles = [Vehicle(vehicle_id=f"V{count}-{n}") for n in range(count)]
            Vehicle.objects.bulk_create(vehicles)
            order = {"ids": [vehicle.pk for vehicle in vehicles], "set": {"scale": 0.001}}
            with statements_sent() as sent, django_capture_on_commit_callbacks(execute=True):
                assert api.patch("/v1/vehicles", order).json()["changed"] == count
            return sent[0]

        assert sent_for(3) == sent_for(3000)

    def test_devices_are_locked_in_the_order_of_their_ids(self, api, fleet):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            api.patch("/v1/meters", {"ids": ["M3", "M1"], "set": {"scale": 2}})

        (locking,) = [query["sql"] for query in queries if "FOR NO KEY UPDATE" in query["sql"]]
        assert 'ORDER BY "fleet_meter"."meter_id"' in locking


class TestSites:
    def test_site_is_made_read_changed_and_deleted(self, api):
        made = api.post("/v1/sites", {"name": "Berlin", "timeZone": "Europe/Berlin"})
        path = f"/v1/sites/{made.json()['id']}"

        assert made.status_code == 201
        assert api.get(path).json() == {
            "id": made.json()["id"],
            "name": "Berlin",
            "timeZone": "Europe/Berlin",
            "tariffPerKwh": None,
            "currency": "EUR",
        }
        assert api.patch(path, {"tariffPerKwh": 0.3125}).json()["tariffPerKwh"] == 0.3125
        assert api.get(path).json()["tariffPerKwh"] == 0.3125
        assert api.delete(path).json()["name"] == "Berlin"
        assert api.get(path).json()["message"] == "Site not found"

    def test_price_of_a_site_is_a_fixed_tariff_at_all_times(self, api):
        made = api.post("/v1/sites", {"name": "Berlin", "tariffPerKwh": -0.05})
        path = f"/v1/sites/{made.json()['id']}"

        assert made.json()["tariffPerKwh"] == -0.05
        api.patch(path, {"tariffPerKwh": 0.3})
        assert [*Tariff.objects.values_list("kind", "valid_from", "price_per_kwh")] == [
            ("fixed", None, Decimal("0.3"))
        ]
        api.patch(path, {"name": "Bonn"})
        assert api.get("/v1/sites").json()["results"][0]["tariffPerKwh"] == 0.3
        assert api.patch(path, {"tariffPerKwh": None}).json()["tariffPerKwh"] is None
        assert not Tariff.objects.exists()

    def test_price_of_a_site_does_not_replace_tariffs_by_date(self, api):
        site = SiteFactory(name="Berlin", price_per_kwh="0.3")
        Tariff.objects.create(site=site, valid_from="2026-07-01", price_per_kwh="0.4")

        answer = api.patch(f"/v1/sites/{site.pk}", {"name": "Bonn", "tariffPerKwh": 0.5})

        assert refusal(answer) == (400, "tariffPerKwh", "conflict")
        assert api.get(f"/v1/sites/{site.pk}").json()["tariffPerKwh"] is None
        assert [site.name for site in Site.objects.all()] == ["Berlin"]

    def test_list_of_sites_takes_the_same_statements_however_many_tariffs(
        self, api, statements_sent
    ):
        def statements() -> int:
            with statements_sent() as sent:
                api.get("/v1/sites")
            return sent[0]

        SiteFactory(price_per_kwh="0.3")
        few = statements()
        for _ in range(5):
            SiteFactory(price_per_kwh="0.3")
        assert statements() == few

    def test_sites_are_listed_by_name_in_pages(self, api):
        for name in ("Ulm", "Bern", "Berlin"):
            SiteFactory(name=name)

        first = api.get("/v1/sites?limit=2").json()

        assert [row["name"] for row in first["results"]] == ["Berlin", "Bern"]
        assert listed(api, first["next"]) == ["Ulm"]
        assert listed(api, "/v1/sites?search=ber") == ["Berlin", "Bern"]

    @pytest.mark.parametrize(
        ("body", "field", "code"),
        [
            ({}, "name", "missing"),
            ({"name": ""}, "name", "invalid_format"),
            ({"name": "Berlin"}, "name", "not_unique"),
            ({"name": "Bonn", "timeZone": "Moon/Sea"}, "timeZone", "invalid_format"),
            ({"name": "Bonn", "currency": "euro"}, "currency", "invalid_format"),
            ({"name": "Bonn", "currency": "eur"}, "currency", "invalid_format"),
            ({"name": "Bonn", "tariffPerKwh": -100_001}, "tariffPerKwh", "out_of_range"),
            ({"name": "Bonn", "tariffPerKwh": 0.0000001}, "tariffPerKwh", "out_of_range"),
            ({"name": "Bonn", "tariffPerKwh": "0.3"}, "tariffPerKwh", "wrong_type"),
            ({"name": "Bonn", "id": 1}, "id", "read_only"),
            ({"name": "Bonn", "zone": "UTC"}, None, "unknown_field"),
        ],
        ids=str,
    )
    def test_bad_site_names_the_field(self, api, body, field, code):
        SiteFactory(name="Berlin")

        assert refusal(api.post("/v1/sites", body)) == (400, field, code)
        assert Site.objects.count() == 1

    def test_site_in_use_is_not_deleted(self, api):
        site = SiteFactory(name="Berlin")
        VehicleFactory(site=site)
        FaultThresholds.objects.create(site=site)
        make_key("gateway", [Scope.INGEST], site=site)

        answer = api.delete(f"/v1/sites/{site.pk}")

        assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
        assert answer.json()["message"] == (
            "The site can't be deleted: API keys, fault thresholds and vehicles refer to it"
        )

    def test_defaults_and_tariffs_of_a_site_go_with_it(self, api):
        site = SiteFactory(name="Berlin", price_per_kwh="0.3")
        SeriesPrice.objects.create(site=site, starts_at=NOON, price_per_kwh=1)
        DeviceDefaults.objects.create(site=site, kind="meter")

        assert api.delete(f"/v1/sites/{site.pk}").status_code == 200
        for model in (DeviceDefaults, Tariff, SeriesPrice):
            assert not model.objects.exists()


@pytest.mark.usefixtures("closed")
class TestReach:
    @pytest.fixture
    def berlin(self):
        site = SiteFactory(name="Berlin")
        VehicleFactory(vehicle_id="V1", site=site)
        MeterFactory(meter_id="M1", site=site)
        LinkFactory(
            vehicle=VehicleFactory(vehicle_id="V2"),
            meter=MeterFactory(meter_id="M2", site=SiteFactory(name="Hamburg")),
        )
        return site

    def key(self, *scopes: Scope, **bound: object) -> Caller:
        return Caller(make_key("test", scopes, **bound).token)

    def patch(self, key: Caller, path: str, body: object):
        return key._client.patch(path, body, content_type="application/json")

    def test_reading_needs_read_and_changing_needs_manage(self, berlin):
        reader, manager = self.key(READ), self.key(MANAGE)

        assert reader.get("/v1/meters/M1")[0] == 200
        assert self.patch(reader, "/v1/meters/M1", {"scale": 2}).json()["code"] == "scope_required"
        assert self.patch(reader, "/v1/meters", {}).json()["code"] == "scope_required"
        assert self.patch(manager, "/v1/meters/M1", {"scale": 2}).status_code == 200
        assert manager.get("/v1/meters/M1")[1]["code"] == "scope_required"

    @pytest.mark.parametrize("by", ["site", "devices"])
    def test_bound_key_sees_its_own_alone(self, berlin, by):
        bound = {"site": berlin} if by == "site" else {"meter_ids": ["M1"], "vehicle_ids": ["V1"]}
        reader = self.key(READ, **bound)

        assert listed_by(reader, "/v1/meters", "meterId") == ["M1"]
        assert listed_by(reader, "/v1/vehicles", "vehicleId") == ["V1"]
        assert listed_by(reader, "/v1/sites", "name") == ["Berlin"]
        assert reader.get("/v1/meters/M2")[1]["message"] == "Meter not found"
        hamburg = Site.objects.get(name="Hamburg")
        assert reader.get(f"/v1/sites/{hamburg.pk}")[0] == 404

    @pytest.mark.parametrize("by", ["site", "devices"])
    def test_bound_key_changes_its_own_alone(self, berlin, by):
        bound = {"site": berlin} if by == "site" else {"meter_ids": ["M1"], "vehicle_ids": ["V1"]}
        manager = self.key(MANAGE, **bound)

        assert self.patch(manager, "/v1/meters/M2", {"scale": 2}).status_code == 404
        foreign = self.patch(manager, "/v1/meters", {"ids": ["M2"], "set": {"scale": 2}})
        unknown = self.patch(manager, "/v1/meters", {"ids": ["M9"], "set": {"scale": 2}})
        assert foreign.json()["errors"] == unknown.json()["errors"]
        of_all = self.patch(manager, "/v1/meters", {"filter": {}, "set": {"scale": 2}})
        assert of_all.json() == {"matched": 1, "changed": 1}
        assert [*Meter.objects.values_list("pk", "scale")] == [("M1", 2), ("M2", 1)]

    def test_bound_key_moves_no_device_and_changes_no_site(self, berlin):
        manager = self.key(MANAGE, site=berlin)

        for body in ({"site": "Hamburg"}, {"site": None}):
            assert self.patch(manager, "/v1/meters/M1", body).status_code == 403
        many = self.patch(manager, "/v1/meters", {"filter": {}, "set": {"site": "Hamburg"}})
        assert many.json()["message"] == (
            "Moving devices to another site needs a key for all devices"
        )
        stays = self.patch(manager, "/v1/meters/M1", {"site": "Berlin", "scale": 2})
        assert stays.status_code == 200
        assert self.patch(manager, f"/v1/sites/{berlin.pk}", {"name": "B"}).status_code == 403
        assert manager.post({"name": "New"}, "/v1/sites")[0] == 403
        assert manager.delete(f"/v1/sites/{berlin.pk}")[0] == 403
        assert Meter.objects.get(pk="M1").site == berlin


def listed_by(key: Caller, path: str, name: str) -> list[str]:
    return [row[name] for row in key.get(path)[1]["results"]]
