"""The fleet manager's pages: what they show, how links change, and what nobody may touch."""

import re
from http import HTTPStatus

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import IntegrityError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from energy_engine.console import links as console_links
from fleet.links import UnknownDevice, end_link, links_changed
from fleet.models import Meter, Site, Vehicle, VehicleLiveState, VehicleMeterLink
from ingestion.writer import record
from tests.conftest import NOON, at, meter_reading, vehicle_reading
from tests.factories import LinkFactory, MeterFactory, SiteFactory, VehicleFactory
from tests.lists import cells, found, page
from tests.people import NO_DEFAULTS, UNSCALED

pytestmark = pytest.mark.django_db

LISTS = ["vehicle", "meter", "site", "vehiclemeterlink"]
LONG_ID = "V:" + "x" * 62


def signed_in(user: User, **options: bool) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


@pytest.fixture
def manager(clock) -> User:
    """A superuser; without a password, whose hash would take longer than the test."""
    return User.objects.create_superuser("manager")


@pytest.fixture
def console(manager) -> Client:
    """The admin as a superuser sees it, at noon."""
    return signed_in(manager)


@pytest.fixture
def sign_in(clock):
    """Return a function that signs in a member of staff who has nothing but `permissions`."""

    def staff(*permissions: str) -> Client:
        user = User.objects.create_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        return signed_in(user)

    return staff


@pytest.fixture
def changed():
    """Vehicles whose links were announced as changed."""
    vehicle_ids: list[str] = []

    def note(sender: object, vehicle_id: str, **_: object) -> None:
        vehicle_ids.append(vehicle_id)

    links_changed.connect(note)
    yield vehicle_ids
    links_changed.disconnect(note)


@pytest.fixture
def fleet() -> None:
    """V1 in Berlin linked to M1, V2 silent since yesterday and linked before, V3 never seen."""
    berlin = SiteFactory(name="Berlin")
    v1 = VehicleFactory(vehicle_id="V1", site=berlin)
    v2 = VehicleFactory(vehicle_id="V2", energy_register="counter")
    VehicleFactory(vehicle_id="V3")
    m1 = MeterFactory(meter_id="M1", site=berlin)
    MeterFactory(meter_id="M2")
    v1_reading = vehicle_reading("V1", "11:30", 1.25, soc_percent=80.04, battery_temp_celsius=31.5)
    record([v1_reading, vehicle_reading("V2", "11:00", soc_percent=20.0)], NOON)
    record([meter_reading("M1", "09:30", 1.5, voltage_v=229.96)], NOON)
    VehicleLiveState.objects.filter(pk="V2").update(measured_at=at("11:00").replace(day=14))
    LinkFactory(vehicle=v2, meter=m1, valid_from=at("07:00"))
    LinkFactory(vehicle=v2, meter=Meter.objects.get(pk="M2"), valid_from=at("13:00"))
    LinkFactory(vehicle=v1, meter=m1)


def page_of(model: str, pk: object, view: str = "change") -> str:
    return reverse(f"admin:fleet_{model}_{view}", args=[quote(pk)])


def add_page(model: str) -> str:
    return reverse(f"admin:fleet_{model}_add")


def told(response) -> list[str]:
    """Return the messages shown on the page, without their buttons."""
    return [str(message).split(" <form")[0] for message in response.context["messages"]]


def link_of(vehicle_id: str, meter_id: str) -> VehicleMeterLink:
    return VehicleMeterLink.objects.get(vehicle_id=vehicle_id, meter_id=meter_id)


def span(vehicle_id: str, meter_id: str) -> tuple[object, object]:
    valid_during = link_of(vehicle_id, meter_id).valid_during
    return valid_during.lower, valid_during.upper


class TestLists:
    def test_sites_count_their_vehicles_and_meters_apart(self, console):
        site = SiteFactory(name="Berlin")
        VehicleFactory.create_batch(2, site=site)
        MeterFactory.create_batch(3, site=site)
        SiteFactory(name="Empty")

        counts = [(row["Vehicles"], row["Meters"]) for row in cells(console.get(page("site")))]
        assert counts == [("2", "3"), ("0", "0")]

    def test_link_is_shown_with_its_span_and_state(self, console, fleet):
        in_force, later, until_then = cells(console.get(page("vehiclemeterlink")))

        assert (in_force["Vehicle"], in_force["Meter"]) == ("V1", "M1")
        assert in_force["Valid from, UTC"] == "2026-07-15 08:00:00"
        assert (in_force["Valid to, UTC"], in_force["State"]) == ("-", "in force")
        assert later["State"] == "begins later"
        assert until_then["Valid to, UTC"] == "2026-07-15 13:00:00"
        assert until_then["State"] == "in force"

    @pytest.mark.parametrize(
        ("name", "query", "expected"),
        [
            ("vehicle", "?q=v2", ["V2"]),
            ("vehicle", "?q=nothing", []),
            ("vehicle", "?site__isnull=True", ["V2", "V3"]),
            ("vehicle", "?energy_register__exact=counter", ["V2"]),
            ("vehicle", "?seen=hour", ["V1"]),
            ("vehicle", "?seen=day", ["V1"]),
            ("vehicle", "?seen=silent", ["V2"]),
            ("vehicle", "?seen=never", ["V3"]),
            ("vehicle", "?seen=whatever", ["V1", "V2", "V3"]),
            ("vehicle", "?linked=yes", ["V1", "V2"]),
            ("vehicle", "?linked=no", ["V3"]),
            ("meter", "?q=2", ["M2"]),
            ("meter", "?seen=never", ["M2"]),
            ("meter", "?seen=hour", []),
            ("site", "?q=berl", ["Berlin"]),
            ("vehiclemeterlink", "?q=m2", ["V2 at M2"]),
            ("vehiclemeterlink", "?q=v1", ["V1 at M1"]),
            ("vehiclemeterlink", "?state=in-force", ["V1 at M1", "V2 at M1"]),
            ("vehiclemeterlink", "?state=ended", []),
            ("vehiclemeterlink", "?state=later", ["V2 at M2"]),
            ("vehiclemeterlink", "?vehicle=V1", ["V1 at M1"]),
            ("vehiclemeterlink", "?meter=M1", ["V1 at M1", "V2 at M1"]),
            ("vehiclemeterlink", "?vehicle=%00", ["V1 at M1", "V2 at M2", "V2 at M1"]),
        ],
    )
    def test_search_and_filters_keep_the_rows_asked_for(
        self, console, fleet, name, query, expected
    ):
        assert found(console, name, query) == expected

    @pytest.mark.parametrize(
        ("name", "field", "expected"),
        [
            ("vehicle", "site", ["V1"]),
            ("meter", "site", ["M1"]),
            ("vehiclemeterlink", "vehicle__site", ["V1 at M1"]),
            ("vehiclemeterlink", "meter__site", ["V1 at M1", "V2 at M1"]),
        ],
    )
    def test_site_filter_keeps_what_belongs_to_the_site(
        self, console, fleet, name, field, expected
    ):
        site = Site.objects.get(name="Berlin")

        assert found(console, name, f"?{field}__id__exact={site.pk}") == expected

    def test_filter_by_ended_links(self, console, fleet, clock):
        end_link("V1")
        clock.shift(1)

        assert found(console, "vehiclemeterlink", "?state=ended") == ["V1 at M1"]

    def test_rows_without_a_value_come_last_whichever_way_they_are_sorted(self, console, fleet):
        columns = list(cells(console.get(page("vehicle")))[0])
        soc = columns.index("SoC, %")

        assert found(console, "vehicle", f"?o={soc}") == ["V2", "V1", "V3"]
        assert found(console, "vehicle", f"?o=-{soc}") == ["V1", "V2", "V3"]

    @pytest.mark.parametrize("name", LISTS)
    def test_every_column_can_be_sorted_by(self, console, fleet, name):
        columns = len(console.get(page(name)).context["cl"].list_display)

        for column in range(columns):
            found(console, name, f"?o={column}")
            found(console, name, f"?o=-{column}")

    @pytest.mark.parametrize("name", LISTS)
    def test_statements_do_not_grow_with_the_fleet(self, console, name):
        grow_fleet(10)
        few = statements_of(console, name)
        grow_fleet(200)

        assert statements_of(console, name) == few

    def test_long_id_may_break(self, console):
        VehicleFactory(vehicle_id=LONG_ID)

        assert f'<span class="long-id">{LONG_ID}</span>' in shown(console, page("vehicle"))
        assert f'<span class="long-id">{LONG_ID}</span>' in shown(
            console, page_of("vehicle", LONG_ID)
        )


def grow_fleet(size: int) -> None:
    for _ in range(size // 10):
        site = SiteFactory()
        for _ in range(10):
            LinkFactory(vehicle=VehicleFactory(site=site), meter=MeterFactory(site=site))
    record([vehicle_reading(vehicle.pk) for vehicle in Vehicle.objects.all()], NOON)
    record([meter_reading(meter.pk) for meter in Meter.objects.all()], NOON)


def statements_of(console: Client, name: str) -> int:
    with CaptureQueriesContext(connection) as statements:
        assert console.get(page(name)).status_code == HTTPStatus.OK
    return len(statements)


def shown(console: Client, path: str) -> str:
    response = console.get(path)
    assert response.status_code == HTTPStatus.OK
    return response.content.decode()


class TestRegistry:
    def test_vehicle_can_be_added_by_hand(self, console):
        console.post(
            add_page("vehicle"),
            {"vehicle_id": "V1", "energy_register": "interval", **UNSCALED},
        )

        vehicle = Vehicle.objects.get(pk="V1")
        assert vehicle.energy_register == "interval"

    @pytest.mark.parametrize("bad_id", ["", "a b", ".a", "x" * 65, "ä", "a\0"])
    def test_malformed_id_is_refused(self, console, bad_id):
        response = console.post(
            add_page("vehicle"), {"vehicle_id": bad_id, "energy_register": "interval", **UNSCALED}
        )

        assert response.context["errors"]
        assert not Vehicle.objects.exists()

    def test_id_stays_when_a_device_is_edited(self, console, fleet):
        response = console.post(
            page_of("vehicle", "V1"),
            {
                "vehicle_id": "V9",
                "site": SiteFactory(name="Elsewhere").pk,
                "energy_register": "interval",
                **UNSCALED,
            },
        )

        assert response.status_code == HTTPStatus.FOUND
        assert Vehicle.objects.get(pk="V1").site.name == "Elsewhere"
        assert not Vehicle.objects.filter(pk="V9").exists()

    def test_page_of_a_device_shows_what_is_known_of_it(self, console, fleet):
        assert "80.0" in shown(console, page_of("vehicle", "V1"))
        assert "230.0" in shown(console, page_of("meter", "M1"))
        assert "None" not in shown(console, page_of("vehicle", "V3"))

    @pytest.mark.parametrize(("model", "pk"), [("vehicle", "V3"), ("meter", "M2")])
    def test_device_cannot_be_deleted(self, console, fleet, model, pk):
        deletion = page_of(model, pk, "delete")
        console.post(page(model), {"action": "delete_selected", "_selected_action": pk})

        assert console.get(deletion).status_code == HTTPStatus.FORBIDDEN
        assert console.post(deletion, {"post": "yes"}).status_code == HTTPStatus.FORBIDDEN
        assert pk in found(console, model)

    def test_site_can_be_deleted_once_it_is_empty(self, console, fleet):
        berlin, empty = Site.objects.get(name="Berlin"), SiteFactory()
        for site in (berlin, empty):
            console.post(page_of("site", site.pk, "delete"), {"post": "yes"})

        assert list(Site.objects.all()) == [berlin]

    def test_unknown_time_zone_is_refused(self, console):
        moon = {"name": "Moon", "time_zone": "Moon/Sea", "currency": "EUR", **NO_DEFAULTS}
        response = console.post(add_page("site"), moon)

        assert response.context["errors"] == [["must be an IANA time zone, such as Europe/Berlin"]]

    @pytest.mark.parametrize(
        ("action", "leads_to"),
        [("show_links", page), ("add_link", add_page)],
    )
    def test_page_of_a_device_leads_to_its_links(self, console, action, leads_to):
        vehicle = VehicleFactory(vehicle_id="V_1:a")
        button = reverse(f"admin:fleet_vehicle_{action}", args=[quote(vehicle.pk)])

        assert button in shown(console, page_of("vehicle", vehicle.pk))
        assert console.get(button)["Location"] == leads_to("vehiclemeterlink") + "?vehicle=V_1%3Aa"


def undo_page() -> str:
    return reverse("admin:fleet_vehiclemeterlink_undo")


def undo_value(response) -> str:
    """Return what the button in the page's first message sends."""
    return re.search(r'name="undo" value="([^"]+)"', response.content.decode())[1]


class TestLinking:
    @pytest.fixture
    def link(self, console, django_capture_on_commit_callbacks):
        """Return a function that fills in the form, and follows to the page after it."""

        def fill_in(vehicle_id="V1", meter_id="M1", date="", time="", until=("", "")):
            with django_capture_on_commit_callbacks(execute=True):
                return console.post(
                    add_page("vehiclemeterlink"),
                    {
                        "vehicle": vehicle_id,
                        "meter": meter_id,
                        "valid_from_0": date,
                        "valid_from_1": time,
                        "valid_to_0": until[0],
                        "valid_to_1": until[1],
                    },
                    follow=True,
                )

        return fill_in

    def test_link_begins_now_and_ends_the_one_before(self, link, fleet, changed):
        response = link("V1", "M2")

        assert span("V1", "M2") == (NOON, None)
        assert span("V1", "M1") == (at("08:00"), NOON)
        assert changed == ["V1"]
        assert told(response)[0] == (
            "V1 is linked to M2 from 2026-07-15 12:00 UTC. Superseded: M1 from 2026-07-15 12:00 UTC"
        )
        assert "was added successfully" in told(response)[1]

    def test_link_begins_when_told(self, link, fleet):
        link("V3", "M2", "2026-07-15", "10:30:00")

        assert span("V3", "M2") == (at("10:30"), None)

    def test_link_of_the_past_ends_when_told(self, link, fleet):
        link("V1", "M2", "2026-07-15", "09:00:00", ("2026-07-15", "10:30:00"))

        assert span("V1", "M2") == (at("09:00"), at("10:30"))
        assert VehicleMeterLink.objects.filter(vehicle_id="V1", meter_id="M1").count() == 2

    def test_link_that_ends_before_it_begins_is_refused(self, link, fleet):
        response = link("V3", "M2", "2026-07-15", "10:30:00", ("2026-07-15", "10:30:00"))

        assert told(response) == ["Valid to must be after Valid from"]
        assert not VehicleMeterLink.objects.filter(vehicle_id="V3").exists()

    def test_who_linked_is_kept(self, link, fleet):
        link("V3", "M2")

        entry = LogEntry.objects.get()
        assert (entry.object_id, entry.is_addition()) == (str(link_of("V3", "M2").pk), True)

    def test_same_link_again_is_said_to_be_in_force(self, link, fleet, changed):
        response = link("V1", "M1")

        assert told(response) == ["This link is already in force"]
        assert span("V1", "M1") == (at("08:00"), None)
        assert changed == []
        assert not LogEntry.objects.exists()

    @pytest.mark.parametrize(
        "fields",
        [
            {"vehicle_id": "V9"},
            {"vehicle_id": ""},
            {"meter_id": "M9"},
            {"date": "2026-07-15"},
            {"time": "10:00"},
            {"date": "tomorrow", "time": "noon"},
        ],
    )
    def test_form_that_cannot_be_understood_changes_nothing(self, link, fleet, fields):
        response = link(**{"vehicle_id": "V3", "meter_id": "M2"} | fields)

        assert response.context["errors"]
        assert not VehicleMeterLink.objects.filter(vehicle_id="V3").exists()

    # The registry can change between the form's look at it and the writer's.
    @pytest.mark.parametrize(
        ("refusal", "words"),
        [
            (UnknownDevice("Vehicle"), "Vehicle not found"),
            (IntegrityError("secret detail"), "This link cannot be stored"),
        ],
    )
    def test_refusal_of_the_writer_becomes_a_message(
        self, link, fleet, monkeypatch, refusal, words
    ):
        def refuse(*_: object) -> None:
            raise refusal

        monkeypatch.setattr(console_links, "link_vehicle", refuse)

        assert told(link("V3", "M2")) == [words]

    def test_devices_are_found_by_typing(self, console, fleet):
        response = console.get(
            reverse("admin:autocomplete"),
            {
                "app_label": "fleet",
                "model_name": "vehiclemeterlink",
                "field_name": "vehicle",
                "term": "v2",
            },
        )

        assert [found["id"] for found in response.json()["results"]] == ["V2"]

    def test_form_names_no_device_that_was_not_chosen(self, console, fleet):
        assert ">V1<" not in shown(console, add_page("vehiclemeterlink"))
        assert ">V1<" in shown(console, add_page("vehiclemeterlink") + "?vehicle=V1")

    def test_link_can_be_neither_edited_nor_deleted(self, console, fleet):
        link = link_of("V1", "M1")
        edited = console.post(page_of("vehiclemeterlink", link.pk), {"meter": "M2"})
        deleted = console.post(page_of("vehiclemeterlink", link.pk, "delete"), {"post": "yes"})

        assert edited.status_code == deleted.status_code == HTTPStatus.FORBIDDEN
        assert "in force" in shown(console, page_of("vehiclemeterlink", link.pk))
        assert span("V1", "M1") == (at("08:00"), None)


class TestUndoing:
    @pytest.fixture
    def value(self, console, fleet) -> str:
        """What the button sends after V1 was linked to M2 from 10:00."""
        response = console.post(
            add_page("vehiclemeterlink"),
            {
                "vehicle": "V1",
                "meter": "M2",
                "valid_from_0": "2026-07-15",
                "valid_from_1": "10:00:00",
            },
            follow=True,
        )
        return undo_value(response)

    def test_button_restores_the_links(self, console, value):
        response = console.post(undo_page(), {"undo": value}, follow=True)

        assert response.redirect_chain[0][0] == page_of("vehicle", "V1")
        assert told(response) == ["Undone. V1: M1 from 2026-07-15 10:00 UTC"]
        assert span("V1", "M1") == (at("08:00"), None)
        entry = LogEntry.objects.filter(object_id="V1").get()
        assert "M2 from 2026-07-15 10:00 UTC → M1 from 2026-07-15 10:00 UTC, undone" in (
            entry.change_message
        )

    def test_button_works_once(self, console, value):
        console.post(undo_page(), {"undo": value})
        response = console.post(undo_page(), {"undo": value}, follow=True)

        assert told(response)[-1] == "Not undone: links were changed again in that time"
        assert span("V1", "M1") == (at("08:00"), None)

    @pytest.mark.parametrize("forged", ["", "x", "a:b:c"])
    def test_what_the_console_has_not_signed_is_refused(self, console, value, forged):
        response = console.post(undo_page(), {"undo": forged}, follow=True)

        assert told(response)[-1] == "There is nothing to undo"
        assert span("V1", "M2") == (at("10:00"), None)

    def test_button_is_for_the_user_who_made_the_change(self, sign_in, value):
        other = sign_in("add_vehiclemeterlink", "view_vehiclemeterlink")
        response = other.post(undo_page(), {"undo": value}, follow=True)

        assert told(response)[-1] == "There is nothing to undo"
        assert span("V1", "M2") == (at("10:00"), None)

    def test_who_may_not_change_links_undoes_nothing(self, sign_in, value):
        viewer = sign_in("view_vehiclemeterlink")

        assert viewer.post(undo_page(), {"undo": value}).status_code == HTTPStatus.FORBIDDEN
        assert viewer.get(undo_page()).status_code == HTTPStatus.METHOD_NOT_ALLOWED


class TestEndingLinks:
    @pytest.fixture
    def end(self, console, django_capture_on_commit_callbacks):
        """Return a function that selects links in the list, and ends them."""

        def select(*links: VehicleMeterLink):
            with django_capture_on_commit_callbacks(execute=True):
                return console.post(
                    page("vehiclemeterlink"),
                    {"action": "end_links", "_selected_action": [link.pk for link in links]},
                    follow=True,
                )

        return select

    def button(self, link: VehicleMeterLink) -> str:
        return reverse("admin:fleet_vehiclemeterlink_end_this_link", args=[link.pk])

    def test_links_end_now(self, end, fleet, changed):
        response = end(link_of("V1", "M1"), link_of("V2", "M1"))

        assert span("V1", "M1") == (at("08:00"), NOON)
        assert span("V2", "M1") == (at("07:00"), NOON)
        assert sorted(changed) == ["V1", "V2"]
        assert told(response) == ["2 links ended: V1 at M1, V2 at M1"]

    def test_ends_of_several_links_are_undone_together(self, end, console, fleet):
        response = end(link_of("V1", "M1"), link_of("V2", "M1"))
        undone = console.post(undo_page(), {"undo": undo_value(response)}, follow=True)

        assert told(undone) == [
            "Undone. V1: M1 from 2026-07-15 12:00 UTC, "
            "V2: M1 from 2026-07-15 12:00 UTC to 2026-07-15 13:00 UTC"
        ]
        assert span("V1", "M1") == (at("08:00"), None)
        assert span("V2", "M1") == (at("07:00"), at("13:00"))

    def test_who_ended_is_kept(self, end, fleet):
        link = link_of("V1", "M1")
        end(link)

        entry = LogEntry.objects.get()
        assert (entry.object_id, entry.change_message) == (
            str(link.pk),
            '[{"changed": {"fields": ["V1: M1 since 2026-07-15 08:00 UTC'
            ' → ended 2026-07-15 12:00 UTC"]}}]',
        )

    def test_ending_a_link_of_the_past_leaves_the_one_in_force_alone(self, end, fleet, changed):
        LinkFactory(
            vehicle=Vehicle.objects.get(pk="V1"),
            meter=Meter.objects.get(pk="M2"),
            valid_from=at("10:00"),
        )
        response = end(link_of("V1", "M1"))

        assert span("V1", "M1") == (at("08:00"), at("10:00"))
        assert span("V1", "M2") == (at("10:00"), None)
        assert told(response) == ["Not in force now: V1 at M1"]
        assert changed == []
        assert not LogEntry.objects.exists()

    def test_link_that_begins_later_is_not_ended(self, end, fleet):
        response = end(link_of("V2", "M2"))

        assert span("V2", "M2") == (at("13:00"), None)
        assert told(response) == ["Not in force now: V2 at M2"]

    def test_link_that_began_this_very_instant_goes(self, end, fleet):
        response = end(LinkFactory(valid_from=NOON))

        assert VehicleMeterLink.objects.count() == 3
        assert told(response)[0].startswith("1 link ended")

    def test_message_names_a_few_links_and_counts_the_others(self, end, clock):
        response = end(*LinkFactory.create_batch(7))

        assert told(response)[0].startswith("7 links ended: ")
        assert told(response)[0].endswith(" and 2 more")

    def test_button_asks_first_and_then_ends(self, console, fleet):
        link = link_of("V1", "M1")
        assert self.button(link) in shown(console, page_of("vehiclemeterlink", link.pk))

        assert "End this link now?" in shown(console, self.button(link))
        assert span("V1", "M1") == (at("08:00"), None)

        response = console.post(self.button(link), {"_form_submitted": "True"})
        assert response["HX-Redirect"] == page_of("vehiclemeterlink", link.pk)
        assert span("V1", "M1") == (at("08:00"), NOON)

    def test_link_not_in_force_has_no_button(self, console, fleet):
        later = link_of("V2", "M2")

        assert self.button(later) not in shown(console, page_of("vehiclemeterlink", later.pk))

    def test_button_of_a_link_that_is_gone_answers_404(self, console, fleet):
        gone = VehicleMeterLink(pk=1_000_000)
        response = console.post(self.button(gone), {"_form_submitted": "True"})

        assert response.status_code == HTTPStatus.NOT_FOUND

    def test_button_takes_no_request_from_elsewhere(self, manager, fleet):
        elsewhere = signed_in(manager, enforce_csrf_checks=True)
        elsewhere.post(self.button(link_of("V1", "M1")), {"_form_submitted": "True"})

        assert span("V1", "M1") == (at("08:00"), None)


class TestLiveState:
    def test_nobody_can_change_it(self, console, fleet):
        values = {
            **UNSCALED,
            "energy_register": "interval",
            "soc_percent": "1",
            "live_state__soc_percent": "1",
        }

        response = console.post(page_of("vehicle", "V1"), values)

        assert response.status_code == HTTPStatus.FOUND
        assert VehicleLiveState.objects.get(pk="V1").soc_percent == 80.04
        assert not admin.site.is_registered(VehicleLiveState)


class TestPeople:
    @pytest.mark.parametrize("name", LISTS)
    def test_staff_without_permission_sees_nothing(self, sign_in, fleet, name):
        staff = sign_in()

        assert staff.get(page(name)).status_code == HTTPStatus.FORBIDDEN
        assert page(name) not in shown(staff, reverse("admin:index"))

    def test_stranger_is_asked_to_sign_in(self, client):
        response = client.get(page("vehicle"))

        assert response["Location"].startswith(reverse("admin:login"))

    def test_viewer_sees_links_and_can_neither_make_nor_end_them(self, sign_in, fleet):
        viewer = sign_in("view_vehiclemeterlink", "view_vehicle")
        link = link_of("V1", "M1")
        button = reverse("admin:fleet_vehiclemeterlink_end_this_link", args=[link.pk])
        viewer.post(page("vehiclemeterlink"), {"action": "end_links", "_selected_action": link.pk})

        assert found(viewer, "vehiclemeterlink", "?vehicle=V1") == ["V1 at M1"]
        assert button not in shown(viewer, page_of("vehiclemeterlink", link.pk))
        assert viewer.post(button, {"_form_submitted": "True"}).status_code == HTTPStatus.FORBIDDEN
        assert viewer.get(add_page("vehiclemeterlink")).status_code == HTTPStatus.FORBIDDEN
        assert "add_link" not in shown(viewer, page_of("vehicle", "V1"))
        assert span("V1", "M1") == (at("08:00"), None)

    def test_sidebar_leads_to_the_fleet_first_and_to_people_last(self, console):
        content = shown(console, reverse("admin:index"))
        names = ["fleet_vehicle", "fleet_vehiclemeterlink", "auth_user"]
        places = [content.index(reverse(f"admin:{name}_changelist")) for name in names]

        assert "Energy Ingestion Engine" in content
        assert places == sorted(places)

    @pytest.mark.parametrize(
        "name",
        [
            "index",
            "fleet_vehicle_changelist",
            "fleet_vehicle_add",
            "fleet_meter_add",
            "fleet_site_add",
            "fleet_vehiclemeterlink_add",
            "auth_user_changelist",
            "auth_user_add",
            "auth_group_changelist",
            "auth_group_add",
            "procrastinate_procrastinatejob_changelist",
        ],
    )
    def test_page_needs_no_other_host(self, console, fleet, name):
        content = shown(console, reverse(f"admin:{name}"))

        assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', content) == []


def test_login_leads_to_the_console(client, django_user_model):
    django_user_model.objects.create_superuser("boss", password="a long password")

    response = client.post("/admin/login/", {"username": "boss", "password": "a long password"})

    assert (response.status_code, response["Location"]) == (HTTPStatus.FOUND, "/admin/")
