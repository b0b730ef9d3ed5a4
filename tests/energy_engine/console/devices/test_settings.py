"""Settings of the devices selected in a list: only what is ticked changes, after a confirmation."""

from http import HTTPStatus

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from energy_engine.console.words.changes import steps_of
from fleet.models import DeviceDefaults, Meter, Vehicle
from fleet.registers import register_changed
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading
from tests.factories import MeterFactory, SiteFactory, VehicleFactory
from tests.lists import cells, found, page
from tests.people import NO_DEFAULTS, member_of, shown, superuser, told

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

ACTION = "Change settings of the selected devices"


@pytest.fixture
def console() -> Client:
    return superuser()


@pytest.fixture
def meters():
    for number in (1, 2, 3):
        MeterFactory(meter_id=f"M{number}")


def posted(client: Client, *ids: str, query: str = "", kind: str = "meter", **values: str):
    body = {"action": "change_settings", "_selected_action": ids, **values}
    return client.post(page(kind, query), body, follow=True)


def ticked(**values: str) -> dict[str, str]:
    """Return what the form posts for these settings: each ticked."""
    return {f"change_{name}": "on" for name in values} | values


def log() -> dict[str, list[str]]:
    return {entry.object_id: steps_of(entry.change_message) for entry in LogEntry.objects.all()}


class TestAction:
    def test_form_comes_first_and_changes_nothing(self, console, meters):
        response = posted(console, "M1", "M2")

        text = response.content.decode()
        assert "2 selected meters. Only the settings that are ticked change." in text
        assert 'name="change_scale"' in text
        assert 'name="external_id"' not in text
        assert not LogEntry.objects.exists()

    def test_change_is_reviewed_before_it_is_made(self, console, meters):
        Meter.objects.filter(pk="M2").update(scale=0.001)
        wanted = ticked(scale="0.001", energy_register="counter") | {"name": "not ticked"}

        response = posted(console, "M1", "M2", step="review", **wanted)

        assert response.context["steps"] == [
            ("Energy register", "counter", 2),
            ("Scale, kWh per unit", "0.001", 1),
        ]
        assert "<strong>2</strong> of 2 selected meters will change." in response.content.decode()
        assert not Meter.objects.filter(energy_register="counter").exists()

    def test_only_ticked_settings_of_selected_devices_change(self, console, meters):
        wanted = ticked(scale="0.001", max_power_kw="22") | {"name": "not ticked"}

        response = posted(console, "M1", "M2", step="apply", matched="2", **wanted)

        assert told(response) == [
            "Settings of 2 of 2 meters changed; the audit log has the former ones"
        ]
        rows = Meter.objects.order_by("pk").values_list("pk", "scale", "max_power_kw", "name")
        assert [*rows] == [
            ("M1", 0.001, 22, ""),
            ("M2", 0.001, 22, ""),
            ("M3", 1, None, ""),
        ]

    def test_each_changed_device_has_an_entry_with_its_former_settings(self, console, meters):
        Meter.objects.filter(pk="M1").update(site=SiteFactory(name="Berlin"), scale=40)
        Meter.objects.filter(pk="M3").update(site=(ulm := SiteFactory(name="Ulm")))

        posted(console, "M1", "M2", "M3", step="apply", matched="3", **ticked(site=str(ulm.pk)))

        assert log() == {"M1": ["Site: Berlin → Ulm"], "M2": ["Site: - → Ulm"]}

    def test_empty_value_takes_back(self, console, meters):
        Meter.objects.update(max_power_kw=22, retired_at=at("08:00"))
        wanted = {"change_max_power_kw": "on", "change_retired_at": "on", "max_power_kw": ""}

        posted(console, "M1", step="apply", matched="1", **wanted)

        meter = Meter.objects.get(pk="M1")
        assert (meter.max_power_kw, meter.retired_at) == (None, None)

    def test_all_devices_of_a_filter_change(self, console, meters):
        berlin = SiteFactory(name="Berlin")
        Meter.objects.bulk_create(Meter(meter_id=f"N{n:03}", site=berlin) for n in range(120))
        query = f"?site__id__exact={berlin.pk}"
        across = {"select_across": "1", **ticked(scale="40")}

        review = posted(console, "N000", query=query, step="review", **across)
        assert "<strong>120</strong> of 120 selected meters will change." in (
            review.content.decode()
        )
        assert 'name="select_across" value="1"' in review.content.decode()
        posted(console, "N000", query=query, step="apply", matched="120", **across)

        assert Meter.objects.filter(scale=40).count() == 120
        assert len(log()) == 120

    def test_selection_that_has_changed_since_the_review_is_reviewed_again(self, console, meters):
        response = posted(console, "M1", "M2", step="apply", matched="1", **ticked(scale="40"))

        assert "The selection has changed meanwhile." in response.content.decode()
        assert not Meter.objects.filter(scale=40).exists()

    def test_defaults_of_the_site_come_on_request(self, console, meters):
        berlin = SiteFactory(name="Berlin")
        DeviceDefaults.objects.create(site=berlin, kind="meter", scale=0.001, max_power_kw=22)
        wanted = ticked(site=str(berlin.pk), max_power_kw="11") | {"apply_defaults": "on"}

        posted(console, "M1", step="apply", matched="1", **wanted)

        meter = Meter.objects.get(pk="M1")
        assert (meter.site, meter.scale, meter.max_power_kw) == (berlin, 0.001, 11)

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            ({}, "Tick at least one setting to change"),
            ({"scale": "2"}, "Tick at least one setting to change"),
            (ticked(scale="0"), "must be a number above 0"),
            (ticked(scale=""), "This field cannot be null."),
            (ticked(scale="x"), "Enter a number."),
            (
                ticked(rolls_over_at_kwh="100"),
                "must be empty unless the energy register is counter (M1 and 1 other)",
            ),
            (
                ticked(scale="2") | {"apply_defaults": "on"},
                "Tick the site, whose defaults are to be set",
            ),
        ],
        ids=str,
    )
    def test_bad_form_says_why_and_changes_nothing(self, console, meters, wanted, message):
        before = [*Meter.objects.values()]

        response = posted(console, "M1", "M2", step="apply", matched="2", **wanted)

        assert message in response.content.decode()
        assert [*Meter.objects.values()] == before

    def test_value_that_is_not_ticked_may_be_anything(self, console, meters):
        wanted = ticked(name="Yard") | {"scale": "x"}

        posted(console, "M1", step="apply", matched="1", **wanted)

        assert Meter.objects.get(pk="M1").name == "Yard"

    def test_changed_registers_are_announced_in_one_go(
        self, console, meters, django_capture_on_commit_callbacks
    ):
        announced = []

        def note(sender, device_ids, **_) -> None:
            announced.append((sender, device_ids))

        register_changed.connect(note)
        with django_capture_on_commit_callbacks(execute=True):
            posted(console, "M1", "M2", step="review", **ticked(scale="40"))
            posted(console, "M1", "M2", step="apply", matched="2", **ticked(scale="40"))
        register_changed.disconnect(note)

        assert announced == [(Meter, ["M1", "M2"])]

    def test_statements_do_not_grow_with_the_devices(self, console, statements_sent):
        def sent_for(count: int) -> int:
            site = SiteFactory()
            Vehicle.objects.bulk_create(
                Vehicle(vehicle_id=f"V{count}-{n}", site=site) for n in range(count)
            )
            query = f"?site__id__exact={site.pk}"
            body = {"action": "change_settings", "select_across": "1", **ticked(scale="40")}
            body |= {"_selected_action": f"V{count}-0", "step": "apply", "matched": str(count)}
            with statements_sent() as sent:
                console.post(page("vehicle", query), body)
            assert Vehicle.objects.filter(site=site, scale=40).count() == count
            return sent[0]

        sent_for(2)
        assert sent_for(3) == sent_for(700)

    @pytest.mark.parametrize(("group", "may"), [("Operator", True), ("Analyst", False)])
    def test_only_who_may_change_devices_is_offered_it(self, meters, group, may):
        client = member_of(group)

        assert (ACTION in shown(client, page("meter"))) == may
        posted(client, "M1", step="apply", matched="1", **ticked(scale="40"))
        assert Meter.objects.filter(scale=40).exists() == may


class TestLists:
    def test_name_register_and_retirement_are_shown(self, console):
        MeterFactory(
            meter_id="M1",
            name="Yard",
            energy_register="session_counter",
            retired_at=at("11:00"),
        )
        record([meter_reading("M1", "11:30")], NOON)

        (row,) = cells(console.get(page("meter")))

        assert row["Meter"] == "M1 Yard"
        assert row["Register"] == "Session counter"
        assert row["Last seen, UTC"] == "2026-07-15 11:30:00 retired"

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("?register=counter", ["V2"]),
            ("?retired=yes", ["V3"]),
            ("?retired=no", ["V1", "V2"]),
            ("?online=no", ["V1", "V2"]),
            ("?q=bus", ["V1"]),
            ("?q=SN-2", ["V2"]),
        ],
    )
    def test_filters_and_search(self, console, query, expected):
        VehicleFactory(vehicle_id="V1", name="School bus")
        VehicleFactory(vehicle_id="V2", energy_register="counter", external_id="SN-2")
        VehicleFactory(vehicle_id="V3", retired_at=at("11:00"))

        assert found(console, "vehicle", query) == expected


class TestPage:
    def test_settings_stand_in_three_sections(self, console, meters):
        text = shown(console, reverse("admin:fleet_meter_change", args=["M1"]))

        sections = ("What it is", "How its energy is counted", "Clock")
        places = [text.index(section) for section in sections]
        assert places == sorted(places)

    def test_form_has_the_rules_of_the_api(self, console, meters):
        path = reverse("admin:fleet_meter_change", args=["M1"])
        wrong = {"energy_register": "interval", "scale": "0", "rolls_over_at_kwh": "5"}

        response = console.post(path, wrong | {"clock_offset_seconds": "0"})

        assert response.context["adminform"].form.errors == {
            "scale": ["must be a number above 0"],
            "rolls_over_at_kwh": ["must be empty unless the energy register is counter"],
        }

    def test_external_id_left_empty_is_none(self, console, meters):
        for name in ("M1", "M2"):
            path = reverse("admin:fleet_meter_change", args=[name])
            values = {"energy_register": "interval", "scale": "40", "clock_offset_seconds": "0"}
            assert console.post(path, values).status_code == HTTPStatus.FOUND

        assert [*Meter.objects.filter(scale=40).values_list("external_id", flat=True)] == [
            None,
            None,
        ]


class TestDefaults:
    def test_defaults_of_a_site_are_set_on_its_page(self, console):
        site = SiteFactory(name="Berlin")
        inline = {
            "device_defaults-TOTAL_FORMS": "1",
            "device_defaults-0-kind": "meter",
            "device_defaults-0-energy_register": "counter",
            "device_defaults-0-scale": "0.001",
            "device_defaults-0-site": str(site.pk),
        }
        values = {"name": "Berlin", "time_zone": "UTC", "currency": "EUR"}

        response = console.post(
            reverse("admin:fleet_site_change", args=[site.pk]), values | NO_DEFAULTS | inline
        )

        assert response.status_code == HTTPStatus.FOUND
        defaults = DeviceDefaults.objects.get()
        assert (defaults.site, defaults.kind, defaults.scale) == (site, "meter", 0.001)
        assert log()[str(site.pk)] == [
            "Meters of Berlin: Kind: - → meter",
            "Meters of Berlin: Energy register: - → counter",
            "Meters of Berlin: Scale, kWh per unit: - → 0.001",
        ]

    def test_defaults_for_all_others_have_a_page(self, console):
        values = {"kind": "vehicle", "energy_register": "session_counter", "scale": "1"}

        response = console.post(reverse("admin:fleet_devicedefaults_add"), values)

        assert response.status_code == HTTPStatus.FOUND
        assert cells(console.get(page("devicedefaults")))[0]["New devices"] == "All other vehicles"

    def test_second_defaults_for_the_same_devices_are_refused(self, console):
        DeviceDefaults.objects.create(kind="meter")
        values = {"kind": "meter", "energy_register": "interval", "scale": "1"}

        response = console.post(reverse("admin:fleet_devicedefaults_add"), values)

        assert "This site already has defaults for this kind of device" in (
            response.content.decode()
        )

    def test_only_who_may_change_them_can(self):
        site = SiteFactory(name="Berlin")
        path = reverse("admin:fleet_site_change", args=[site.pk])
        DeviceDefaults.objects.create(kind="meter", site=site)

        assert 'name="device_defaults-0-scale"' in shown(member_of("Fleet manager"), path)
        assert 'name="device_defaults-0-scale"' not in shown(member_of("Analyst"), path)
