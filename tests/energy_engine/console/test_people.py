"""Who may do what: the three groups, and that nobody gives what they do not have."""

import importlib
from http import HTTPStatus

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from analytics import models as analytics_models
from fleet import models as fleet_models
from ingestion import models as ingestion_models
from tests.factories import LinkFactory, SiteFactory, VehicleFactory
from tests.people import NO_DEFAULTS, UNSCALED, member_of, person, shown, signed_in, superuser

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

ROLES = ["Fleet manager", "Analyst", "Operator"]
groups_migration = importlib.import_module("energy_engine.migrations.0001_groups")


def permissions_of(group: str) -> set[str]:
    permissions = Permission.objects.filter(group__name=group).select_related("content_type")
    return {f"{each.content_type.app_label}.{each.codename}" for each in permissions}


def changes_of(group: str) -> set[str]:
    return {name for name in permissions_of(group) if ".view_" not in name}


class TestGroups:
    def test_migration_makes_them(self):
        assert sorted(Group.objects.values_list("name", flat=True)) == sorted(ROLES)

    def test_everybody_sees_the_same(self):
        manager, analyst, operator = (
            {name for name in permissions_of(group) if ".view_" in name} for group in ROLES
        )

        assert manager == analyst == operator
        assert {"fleet.view_vehicle", "fleet.view_site", "fleet.view_vehiclemeterlink"} <= analyst
        assert {"analytics.view_fault", "analytics.view_webhook"} <= analyst
        assert {"admin.view_logentry", "procrastinate.view_procrastinatejob"} <= analyst

    def test_each_changes_what_is_its_own(self):
        assert changes_of("Analyst") == set()
        assert changes_of("Operator") == {
            *("fleet.add_vehicle", "fleet.change_vehicle"),
            *("fleet.add_meter", "fleet.change_meter"),
            *("auth.add_user", "auth.change_user"),
            *("fleet.add_apikey", "fleet.change_apikey"),
            "energy_engine.delete_failedsignin",
            "analytics.change_hint",
        }
        assert changes_of("Fleet manager") == {
            "fleet.add_devicedefaults",
            "fleet.change_devicedefaults",
            "fleet.delete_devicedefaults",
            *("fleet.add_vehiclemeterlink", "fleet.change_vehiclemeterlink"),
            *("fleet.add_site", "fleet.change_site", "fleet.delete_site"),
            *("fleet.add_tariff", "fleet.change_tariff", "fleet.delete_tariff"),
            *("fleet.add_tariffrule", "fleet.change_tariffrule", "fleet.delete_tariffrule"),
            *("analytics.change_fault", "analytics.change_hint"),
            "analytics.add_faultthresholds",
            "analytics.change_faultthresholds",
            "analytics.delete_faultthresholds",
            *("analytics.add_webhook", "analytics.change_webhook", "analytics.delete_webhook"),
        }

    def test_each_permission_is_made_once(self):
        keys = list(Permission.objects.values_list("content_type", "codename"))

        assert len(keys) == len(set(keys))

    def test_migration_can_be_undone_and_done_again(self):
        call_command("migrate", "energy_engine", "zero", verbosity=0)
        assert not Group.objects.exists()

        Permission.objects.filter(content_type__app_label="fleet").delete()
        call_command("migrate", "energy_engine", verbosity=0)
        assert sorted(Group.objects.values_list("name", flat=True)) == sorted(ROLES)
        assert "fleet.change_vehicle" in permissions_of("Operator")

    def test_group_of_that_name_that_is_there_already_stays_as_it_is(self):
        Group.objects.all().delete()
        Group.objects.create(name="Analyst")

        with connection.schema_editor() as editor:
            groups_migration.make_groups(apps, editor)

        assert permissions_of("Analyst") == set()
        assert changes_of("Operator") != set()

    def test_nothing_is_left_to_migrate(self):
        call_command("makemigrations", "energy_engine", check=True, dry_run=True, verbosity=0)


SEEN_BY_ALL = [
    "fleet_vehicle",
    "fleet_meter",
    "fleet_site",
    "fleet_tariff",
    "fleet_devicedefaults",
    "fleet_vehiclemeterlink",
    "auth_user",
    "auth_group",
    "admin_logentry",
    "procrastinate_procrastinatejob",
]
ADD_PAGES = {
    "fleet_vehicle": "Operator",
    "fleet_meter": "Operator",
    "auth_user": "Operator",
    "fleet_site": "Fleet manager",
    "fleet_tariff": "Fleet manager",
    "fleet_devicedefaults": "Fleet manager",
    "fleet_vehiclemeterlink": "Fleet manager",
    "auth_group": None,
    "admin_logentry": None,
}


class TestLimits:
    @pytest.mark.parametrize("group", ROLES)
    @pytest.mark.parametrize("name", SEEN_BY_ALL)
    def test_list_is_seen_and_reached_from_the_sidebar(self, group, name):
        client, page = member_of(group), reverse(f"admin:{name}_changelist")

        assert page in shown(client, reverse("admin:index"))
        shown(client, page)

    @pytest.mark.parametrize("group", ROLES)
    @pytest.mark.parametrize("name", ADD_PAGES)
    def test_who_adds(self, group, name):
        response = member_of(group).get(reverse(f"admin:{name}_add"))

        may = ADD_PAGES[name] == group
        assert response.status_code == (HTTPStatus.OK if may else HTTPStatus.FORBIDDEN)

    @pytest.mark.parametrize(
        ("group", "status"), [("Fleet manager", 403), ("Analyst", 403), ("Operator", 302)]
    )
    def test_who_changes_a_device(self, group, status):
        VehicleFactory(vehicle_id="V1")
        page = reverse("admin:fleet_vehicle_change", args=["V1"])

        response = member_of(group).post(page, {"energy_register": "counter", **UNSCALED})

        assert response.status_code == status

    @pytest.mark.parametrize(
        ("group", "status"), [("Fleet manager", 302), ("Analyst", 403), ("Operator", 403)]
    )
    def test_who_changes_a_site(self, group, status):
        site = SiteFactory(name="Berlin")
        page = reverse("admin:fleet_site_change", args=[site.pk])
        berlin = {"name": "Hamburg", "time_zone": "Europe/Berlin", "currency": "EUR", **NO_DEFAULTS}

        response = member_of(group).post(page, berlin)

        assert response.status_code == status
        site.refresh_from_db()
        assert (site.name == "Hamburg") == (status == 302)

    @pytest.mark.parametrize(
        ("group", "ends"), [("Fleet manager", True), ("Analyst", False), ("Operator", False)]
    )
    def test_who_ends_a_link(self, group, ends):
        link = LinkFactory()
        member_of(group).post(
            reverse("admin:fleet_vehiclemeterlink_changelist"),
            {"action": "end_links", "_selected_action": [link.pk]},
        )

        link.refresh_from_db()
        assert (link.valid_during.upper is not None) == ends

    def test_history_and_live_state_have_no_page_for_anybody(self):
        models = [
            ingestion_models.MeterReading,
            ingestion_models.VehicleReading,
            fleet_models.MeterLiveState,
            fleet_models.VehicleLiveState,
            analytics_models.MeterHour,
            analytics_models.VehicleHour,
        ]

        assert [model for model in models if admin.site.is_registered(model)] == []


def page_of(user: User) -> str:
    return reverse("admin:auth_user_change", args=[user.pk])


def save(client: Client, user: User, **fields: object):
    """Save the page of a user as it is, but for `fields`."""
    values = {
        "username": user.username,
        "is_active": "on" if user.is_active else "",
        "is_staff": "on" if user.is_staff else "",
        "groups": [group.pk for group in user.groups.all()],
    }
    return client.post(page_of(user), values | fields)


def group_named(name: str) -> Group:
    return Group.objects.get(name=name)


class TestEscalation:
    """An operator looks after access, and gives nobody more than an operator has."""

    @pytest.fixture
    def me(self) -> User:
        return person("Operator", "me")

    @pytest.fixture
    def operator(self, me) -> Client:
        return signed_in(me)

    def test_operator_gives_a_newcomer_access(self, operator):
        operator.post(
            reverse("admin:auth_user_add"),
            {
                "username": "newcomer",
                "usable_password": "true",
                "password1": "rather long words",
                "password2": "rather long words",
            },
        )
        newcomer = User.objects.get(username="newcomer")
        assert not newcomer.is_superuser

        for name in ("Analyst", "Operator"):
            response = save(operator, newcomer, is_staff="on", groups=[group_named(name).pk])
            assert response.status_code == HTTPStatus.FOUND
            newcomer.refresh_from_db()
            assert newcomer.is_staff
            assert [group.name for group in newcomer.groups.all()] == [name]

    def test_operator_makes_nobody_a_superuser(self, operator, me):
        colleague = person("Analyst")
        every_permission = [permission.pk for permission in Permission.objects.all()]

        for user in (me, colleague):
            save(operator, user, is_superuser="on", user_permissions=every_permission)
            user.refresh_from_db()
            assert not user.is_superuser
            assert not user.user_permissions.exists()

    def test_operator_makes_nobody_a_fleet_manager(self, operator, me):
        for user in (me, person("Analyst")):
            before = list(user.groups.all())
            response = save(operator, user, groups=[group_named("Fleet manager").pk])

            assert "not one of the available choices" in response.content.decode()
            assert list(user.groups.all()) == before

    def test_group_that_may_more_in_part_is_out_of_reach_too(self, operator, me):
        mixed = Group.objects.create(name="Mixed")
        mixed.permissions.set(
            Permission.objects.filter(codename__in=["view_vehicle", "change_fault"])
        )

        save(operator, me, groups=[mixed.pk])

        assert [group.name for group in me.groups.all()] == ["Operator"]

    @pytest.mark.parametrize("make", ["superuser", "manager", "sleeping manager", "by permission"])
    def test_who_may_more_is_not_touched(self, operator, make):
        if make == "superuser":
            user = User.objects.create_superuser("boss")
        elif make == "by permission":
            user = User.objects.create_user("special", is_staff=True)
            user.user_permissions.add(Permission.objects.get(codename="change_fault"))
        else:
            user = person("Fleet manager")
        if make == "sleeping manager":
            User.objects.filter(pk=user.pk).update(is_active=False)
        password = reverse("admin:auth_user_password_change", args=[user.pk])
        words = {"password1": "mine from now on", "password2": "mine from now on"}

        shown(operator, page_of(user))
        assert save(operator, user, username="taken").status_code == HTTPStatus.FORBIDDEN
        assert operator.get(password).status_code == HTTPStatus.FORBIDDEN
        response = operator.post(password, words | {"usable_password": "true"})
        assert response.status_code == HTTPStatus.FORBIDDEN
        before = user.password, user.username
        user.refresh_from_db()
        assert (user.password, user.username) == before

    def test_operator_sets_the_password_of_an_analyst(self, operator):
        analyst = person("Analyst")
        password = reverse("admin:auth_user_password_change", args=[analyst.pk])
        words = {"password1": "rather long words", "password2": "rather long words"}

        response = operator.post(password, words | {"usable_password": "true"})

        assert response.status_code == HTTPStatus.FOUND
        analyst.refresh_from_db()
        assert analyst.check_password("rather long words")

    def test_operator_neither_makes_nor_changes_groups(self, operator):
        analyst = group_named("Analyst")
        page = reverse("admin:auth_group_change", args=[analyst.pk])
        everything = {"name": "A", "permissions": [each.pk for each in Permission.objects.all()]}

        add = operator.post(reverse("admin:auth_group_add"), everything)
        change = operator.post(page, everything)

        assert add.status_code == change.status_code == HTTPStatus.FORBIDDEN

    def test_who_may_change_groups_puts_in_what_they_have_alone(self):
        me = User.objects.create_user("me", is_staff=True)
        mine = Permission.objects.filter(
            codename__in=["add_group", "change_group", "delete_group", "view_group"]
        )
        me.user_permissions.set(mine)
        client = signed_in(me)
        more = Permission.objects.get(codename="change_fault")
        small = Group.objects.create(name="Small")
        page = reverse("admin:auth_group_change", args=[small.pk])

        client.post(page, {"name": "Small", "permissions": [more.pk]})
        assert not small.permissions.exists()
        client.post(page, {"name": "Small", "permissions": [mine[0].pk]})
        assert list(small.permissions.all()) == [mine[0]]

        manager = group_named("Fleet manager")
        page = reverse("admin:auth_group_change", args=[manager.pk])
        delete = reverse("admin:auth_group_delete", args=[manager.pk])
        assert client.post(page, {"name": "Mine"}).status_code == HTTPStatus.FORBIDDEN
        assert client.post(delete, {"post": "yes"}).status_code == HTTPStatus.FORBIDDEN
        client.post(
            reverse("admin:auth_group_changelist"),
            {"action": "delete_selected", "_selected_action": [manager.pk], "post": "yes"},
        )
        assert Group.objects.filter(pk=manager.pk).exists()

    def test_user_who_leaves_is_switched_off_not_deleted(self):
        boss, leaver = superuser(), person("Analyst")
        delete = reverse("admin:auth_user_delete", args=[leaver.pk])

        assert boss.post(delete, {"post": "yes"}).status_code == HTTPStatus.FORBIDDEN
        save(boss, leaver, is_active="")
        leaver.refresh_from_db()
        assert not leaver.is_active

    def test_superuser_gives_everything(self):
        boss, user = superuser(), person("Analyst")

        save(boss, user, is_superuser="on", groups=[group_named("Fleet manager").pk])

        user.refresh_from_db()
        assert user.is_superuser
        assert [group.name for group in user.groups.all()] == ["Fleet manager"]

    def test_hash_of_a_password_is_not_shown(self, operator):
        analyst = person("Analyst", "ann")
        User.objects.filter(pk=analyst.pk).update(password=make_password("x" * 20, "s" * 22))
        analyst.refresh_from_db()

        assert analyst.password.rpartition("$")[2] not in shown(operator, page_of(analyst))
        assert "algorithm" not in shown(member_of("Analyst"), page_of(analyst))


class TestList:
    def test_user_is_shown_with_groups(self):
        boss = superuser()
        person("Analyst", "ann")

        content = shown(boss, reverse("admin:auth_user_changelist"))

        assert "Analyst" in content
        assert "Superuser" in content

    def test_statements_do_not_grow_with_people(self):
        boss = superuser()
        page = reverse("admin:auth_user_changelist")
        analyst = group_named("Analyst")
        counts = []
        for number in (10, 40):
            users = [User(username=f"u{number}-{each}") for each in range(number)]
            for user in User.objects.bulk_create(users):
                user.groups.add(analyst)
            with CaptureQueriesContext(connection) as statements:
                shown(boss, page)
            counts.append(len(statements))

        assert counts[0] == counts[1]


def test_names_are_text_whatever_they_hold():
    boss = superuser()
    User.objects.create_user("<script>alert(1)</script>", first_name="=cmd|' /C calc'!A0")

    content = shown(boss, reverse("admin:auth_user_changelist"))

    assert "<script>alert(1)" not in content
    assert "&lt;script&gt;alert(1)" in content


class TestRefusals:
    def test_what_is_not_permitted_is_said_in_words(self):
        response = member_of("Analyst").get(reverse("admin:fleet_site_add"))

        assert response.status_code == HTTPStatus.FORBIDDEN
        assert "You are signed in as analyst" in response.content.decode()

    def test_page_that_is_not_there_is_said_in_words(self):
        response = superuser().get("/admin/fleet/nothing/")

        assert response.status_code == HTTPStatus.NOT_FOUND
        assert "Page not found" in response.content.decode()
        assert reverse("admin:index") in response.content.decode()
