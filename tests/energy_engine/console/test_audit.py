"""The audit log: every change with what was before and what is after; never a secret."""

from datetime import UTC, datetime
from http import HTTPStatus

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from analytics.models import FaultThresholds
from energy_engine.background import failures
from energy_engine.console.words.changes import steps_of
from tests.conftest import at
from tests.factories import LinkFactory, MeterFactory, SiteFactory, VehicleFactory
from tests.people import NO_DEFAULTS, UNSCALED, member_of, person, shown, signed_in, superuser

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

LOG = reverse("admin:admin_logentry_changelist")


@pytest.fixture
def boss() -> Client:
    return superuser()


def logged() -> list[str]:
    """Return the steps of the one change that the log holds."""
    return steps_of(LogEntry.objects.get().change_message)


def change_page(name: str, pk: object) -> str:
    return reverse(f"admin:{name}_change", args=[pk])


class TestSteps:
    def test_change_of_a_site_has_before_and_after(self, boss):
        site = SiteFactory(name="Zürich")
        boss.post(
            change_page("fleet_site", site.pk),
            {"name": "Basel", "time_zone": "Europe/Zurich", "currency": "EUR", **NO_DEFAULTS},
        )

        assert logged() == [
            "Name: Zürich → Basel",
            "Time zone: UTC → Europe/Zurich",
        ]
        assert "Zürich → Basel" in shown(boss, LOG)

    def test_change_of_a_devices_register_and_site(self, boss):
        vehicle = VehicleFactory(vehicle_id="V1", site=SiteFactory(name="Berlin"))
        hamburg = SiteFactory(name="Hamburg")
        boss.post(
            change_page("fleet_vehicle", vehicle.pk),
            {"site": hamburg.pk, "energy_register": "counter", "max_power_kw": "22", **UNSCALED},
        )

        assert sorted(logged()) == [
            "Energy register: interval → counter",
            "Max power, kW: - → 22.0",
            "Site: Berlin → Hamburg",
        ]

    def test_new_object_says_all_that_it_holds(self, boss):
        boss.post(
            reverse("admin:fleet_site_add"),
            {"name": "Berlin", "time_zone": "UTC", "currency": "EUR", **NO_DEFAULTS},
        )

        assert logged() == ["Name: - → Berlin", "Time zone: - → UTC", "Currency: - → EUR"]

    def test_deletion_says_what_was_there(self, boss):
        site = SiteFactory(name="Berlin")
        boss.post(reverse("admin:fleet_site_delete", args=[site.pk]), {"post": "yes"})

        assert LogEntry.objects.get().is_deletion()
        assert logged() == ["Name: Berlin → -", "Time zone: UTC → -", "Currency: EUR → -"]

    def test_sites_deleted_together_are_logged_one_by_one(self, boss):
        sites = [SiteFactory(name=name) for name in ("Berlin", "Hamburg")]
        boss.post(
            reverse("admin:fleet_site_changelist"),
            {
                "action": "delete_selected",
                "_selected_action": [site.pk for site in sites],
                "post": "yes",
            },
        )

        first = [steps_of(entry.change_message)[0] for entry in LogEntry.objects.all()]
        assert sorted(first) == ["Name: Berlin → -", "Name: Hamburg → -"]

    def test_page_saved_as_it_is_changes_nothing(self, boss):
        site = SiteFactory(name="Berlin")
        boss.post(
            change_page("fleet_site", site.pk),
            {"name": "Berlin", "time_zone": "UTC", "currency": "EUR", **NO_DEFAULTS},
        )

        assert not LogEntry.objects.exists()

    def test_groups_of_a_user_that_come_and_go(self, boss):
        user = person("Analyst", "ann")
        boss.post(
            change_page("auth_user", user.pk),
            {
                "username": "ann",
                "is_active": "on",
                "groups": [Group.objects.get(name="Operator").pk],
            },
        )

        assert logged() == ["Staff status: yes → no", "Groups: added Operator; removed Analyst"]

    def test_permissions_of_a_group_that_come(self, boss):
        group = Group.objects.create(name="Night shift")
        permission = Permission.objects.get(codename="view_vehicle")
        page = change_page("auth_group", group.pk)
        boss.post(page, {"name": "Night shift", "permissions": [permission.pk]})

        assert logged() == ["Permissions: added Can view vehicle"]

    def test_new_link_says_what_it_put_an_end_to(self, boss):
        v1, m1, m2, m3 = VehicleFactory(vehicle_id="V1"), *MeterFactory.create_batch(3)
        LinkFactory(vehicle=v1, meter=m1, valid_from=at("08:00"))
        LinkFactory(vehicle=v1, meter=m3, valid_from=at("14:00"))
        boss.post(
            reverse("admin:fleet_vehiclemeterlink_add"),
            {"vehicle": "V1", "meter": m2.pk, "valid_from_0": "", "valid_from_1": ""},
        )

        assert logged() == [
            f"V1: {m1} from 2026-07-15 12:00 UTC to 2026-07-15 14:00 UTC,"
            f" {m3} from 2026-07-15 14:00 UTC"
            f" → {m2} from 2026-07-15 12:00 UTC"
        ]

    def test_deletion_of_a_site_takes_its_thresholds_along(self, boss):
        site = SiteFactory(name="Berlin")
        FaultThresholds.objects.create(site=site, efficiency_opens_percent=80)
        boss.post(reverse("admin:fleet_site_delete", args=[site.pk]), {"post": "yes"})

        _, thresholds = LogEntry.objects.order_by("pk")
        assert thresholds.object_repr == "Berlin"
        assert "Efficiency opens, %: 80.0 → -" in steps_of(thresholds.change_message)

    def test_passwords_never_appear(self, boss):
        words = {"password1": "first words", "password2": "first words", "usable_password": "true"}
        boss.post(reverse("admin:auth_user_add"), {"username": "ann"} | words)
        ann = User.objects.get(username="ann")
        words = {"password1": "other words", "password2": "other words", "usable_password": "true"}
        boss.post(reverse("admin:auth_user_password_change", args=[ann.pk]), words)

        added, changed = LogEntry.objects.order_by("pk")
        assert steps_of(added.change_message) == ["Username: - → ann"]
        assert steps_of(changed.change_message) == ["Password: changed"]
        assert "words" not in added.change_message + changed.change_message

    @pytest.mark.parametrize(
        ("text", "steps"),
        [
            ("", []),
            ("Ended.", ["Ended."]),
            ("[not JSON", ["[not JSON"]),
            ('[{"added": {}}]', []),
            ('[{"changed": {"fields": ["Name: a → b"]}}]', ["Name: a → b"]),
            ("[1]", ["[1]"]),
            ("7", ["7"]),
        ],
    )
    def test_message_of_any_origin_is_readable(self, text, steps):
        assert steps_of(text) == steps


class TestPage:
    def test_row_says_who_did_what_to_what(self, boss):
        site = SiteFactory(name="Berlin")
        manager = person("Fleet manager", "maria")
        signed_in(manager).post(
            change_page("fleet_site", site.pk),
            {"name": "Hamburg", "time_zone": "UTC", "currency": "EUR", **NO_DEFAULTS},
        )

        content = shown(boss, LOG)

        assert "2026-07-15 12:00:00" in content
        assert "maria" in content
        assert f'href="{change_page("fleet_site", site.pk)}"' in content
        assert "Name: Berlin → Hamburg" in content

    def test_history_of_an_object_is_its_part_of_the_log(self, boss):
        berlin, rome = SiteFactory(name="Berlin"), SiteFactory(name="Rome")
        for site in (berlin, rome):
            boss.post(
                change_page("fleet_site", site.pk),
                {"name": f"{site} depot", "time_zone": "UTC", "currency": "EUR", **NO_DEFAULTS},
            )

        history = reverse("admin:fleet_site_history", args=[berlin.pk])
        response = boss.get(history, follow=True)

        assert [str(entry.object_repr) for entry in response.context["cl"].result_list] == [
            "Berlin depot"
        ]
        viewer = User.objects.create_user("viewer", is_staff=True)
        viewer.user_permissions.add(Permission.objects.get(codename="view_site"))
        assert "Name: Berlin → Berlin depot" in shown(signed_in(viewer), history)
        stranger = signed_in(User.objects.create_user("stranger", is_staff=True))
        assert stranger.get(history).status_code == HTTPStatus.FORBIDDEN

    def test_what_is_gone_has_no_link(self, boss):
        site = SiteFactory(name="Berlin")
        boss.post(reverse("admin:fleet_site_delete", args=[site.pk]), {"post": "yes"})

        content = shown(boss, LOG)

        assert "<b>Berlin</b>" in content
        assert change_page("fleet_site", site.pk) not in content

    @pytest.mark.parametrize(
        ("query", "rows"),
        [
            ("?q=Hamburg", 1),
            ("?q=hans", 1),
            ("?q=nothing", 0),
            ("?action_flag__exact=3", 1),
            ("?action_time__gte=2026-07-16 00:00:00%2B00:00", 0),
        ],
    )
    def test_search_and_filters(self, boss, query, rows):
        hans = signed_in(User.objects.create_superuser("hans"))
        site = SiteFactory(name="Berlin")
        boss.post(
            change_page("fleet_site", site.pk),
            {"name": "Hamburg", "time_zone": "UTC", "currency": "EUR", **NO_DEFAULTS},
        )
        gone = SiteFactory(name="Rome")
        hans.post(reverse("admin:fleet_site_delete", args=[gone.pk]), {"post": "yes"})

        assert len(boss.get(LOG + query).context["cl"].result_list) == rows

    def test_filter_by_person_and_kind(self, boss):
        site = SiteFactory(name="Berlin")
        boss.post(reverse("admin:fleet_site_delete", args=[site.pk]), {"post": "yes"})
        entry = LogEntry.objects.get()

        for query in (
            f"?user__id__exact={entry.user_id}",
            f"?content_type__id__exact={entry.content_type_id}",
        ):
            assert len(boss.get(LOG + query).context["cl"].result_list) == 1

    def test_every_column_can_be_sorted_by(self, boss):
        MeterFactory()
        for number in range(6):
            shown(boss, f"{LOG}?o={number}")

    def test_nobody_changes_it(self, boss):
        site = SiteFactory(name="Berlin")
        boss.post(reverse("admin:fleet_site_delete", args=[site.pk]), {"post": "yes"})
        entry = LogEntry.objects.get()
        page = change_page("admin_logentry", entry.pk)
        selected = {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"}

        shown(boss, page)
        assert boss.post(page, {"object_repr": "x"}).status_code == HTTPStatus.FORBIDDEN
        delete = reverse("admin:admin_logentry_delete", args=[entry.pk])
        assert boss.post(delete, {"post": "yes"}).status_code == HTTPStatus.FORBIDDEN
        boss.post(LOG, selected)
        assert LogEntry.objects.get() == entry

    def test_who_may_not_see_it_does_not(self):
        stranger = signed_in(User.objects.create_user("stranger", is_staff=True))

        assert stranger.get(LOG).status_code == HTTPStatus.FORBIDDEN
        assert LOG not in shown(stranger, reverse("admin:index"))
        shown(member_of("Analyst"), LOG)

    def test_names_are_text_whatever_they_hold(self, boss):
        site = SiteFactory(name="<script>alert(1)</script>")
        boss.post(
            change_page("fleet_site", site.pk),
            {
                "name": "<img src=x onerror=alert(2)>",
                "time_zone": "UTC",
                "currency": "EUR",
                **NO_DEFAULTS,
            },
        )

        content = shown(boss, LOG)

        assert "<script>alert(1)" not in content
        assert "<img src=x" not in content
        assert "&lt;script&gt;alert(1)" in content

    def test_statements_do_not_grow_with_the_log(self, boss):
        counts = []
        for number in (10, 100):
            sites = [SiteFactory() for _ in range(number)]
            user = User.objects.get()
            for site in sites:
                LogEntry.objects.log_actions(user.pk, [site], 2, "[]")
            with CaptureQueriesContext(connection) as statements:
                shown(boss, LOG)
            counts.append(len(statements))

        assert counts[0] == counts[1]


JOBS = reverse("admin:procrastinate_procrastinatejob_changelist")
ROLL_UP = "energy_engine.jobs.roll_up"


def run_of(name: str, turn: datetime, status: str, *events: tuple[str, datetime]) -> None:
    """Leave the traces of a periodic job's run, as procrastinate does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
            " VALUES ('default', %s, %s) RETURNING id",
            [name, status],
        )
        job = cursor.fetchone()[0]
        # The queue notes by itself that the job was made, at the time of the server's clock.
        cursor.executemany(
            "INSERT INTO procrastinate_events (job_id, type, at) VALUES (%s, %s, %s)",
            [(job, *event) for event in events],
        )
        cursor.execute(
            "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp, job_id)"
            " VALUES (%s, %s, %s)",
            [name, int(turn.timestamp()), job],
        )


def july(day: int, hour: int, minute: int, second: int = 0) -> datetime:
    return datetime(2026, 7, day, hour, minute, second, tzinfo=UTC)


def row_of(response, job: str) -> str:
    (row,) = [row for row in response.context["table"]["rows"] if f">{job}" in row[0]]
    return " ".join(str(cell) for cell in row)


class TestJobs:
    def test_job_that_has_run_says_when_and_how_long(self, boss):
        started = ("started", july(15, 11, 59, 1))
        run_of(ROLL_UP, july(15, 11, 59), "succeeded", started, ("succeeded", july(15, 11, 59, 3)))
        run_of(ROLL_UP, july(15, 12, 0), "todo")

        row = row_of(boss.get(JOBS), "Roll up")

        assert "Roll up the hours that have ended or changed" in row
        assert "done" in row
        assert "2026-07-15 11:59:01" in row
        assert "2.0 s" in row
        assert "2026-07-15 12:01:00" in row
        assert "none" in row

    def test_failure_is_told_a_week_long(self, boss):
        failed = [("started", july(14, 8, 0, 1)), ("failed", july(14, 8, 0, 2))]
        run_of(ROLL_UP, july(14, 8, 0), "failed", *failed)
        run_of(ROLL_UP, july(15, 12, 0), "doing", ("started", july(15, 12, 0)))
        failures.failed("roll_up", "OSError: <disk> full")

        row = row_of(boss.get(JOBS), "Roll up")

        assert "2026-07-14 08:00:02" in row
        assert "OSError: &lt;disk&gt; full" in row
        assert "running" in row

    def test_failed_run_is_the_state(self, boss):
        failed = [("started", july(15, 11, 59, 1)), ("failed", july(15, 11, 59, 2))]
        run_of(ROLL_UP, july(15, 11, 59), "failed", *failed)

        assert ">failed" in "".join(row_of(boss.get(JOBS), "Roll up").split())

    def test_job_that_missed_two_turns_is_late(self, boss):
        done = [("started", july(15, 11, 50)), ("succeeded", july(15, 11, 50, 1))]
        run_of(ROLL_UP, july(15, 11, 50), "succeeded", *done)

        assert "late" in row_of(boss.get(JOBS), "Roll up")

    def test_job_of_the_night_has_not_run_on_the_first_day(self, boss):
        row = row_of(boss.get(JOBS), "Ensure partitions")

        assert "not run yet" in row
        assert "2026-07-16 03:17:00" in row

    def test_page_says_whether_there_is_a_worker(self, boss):
        assert "No background worker has run yet" in shown(boss, JOBS)

        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (%s)",
                [july(15, 11, 59, 55)],
            )
        assert "Last heartbeat: 11:59:55 UTC" in shown(boss, JOBS)

        with connection.cursor() as cursor:
            cursor.execute("UPDATE procrastinate_workers SET last_heartbeat = %s", [july(15, 9, 0)])
        assert "No background worker is running" in shown(boss, JOBS)

    def test_statements_do_not_grow_with_the_runs(self, boss):
        counts = []
        for hour, number in ((9, 2), (10, 40)):
            for minute in range(number):
                done = [("started", july(15, hour, minute)), ("succeeded", july(15, hour, minute))]
                run_of(ROLL_UP, july(15, hour, minute), "succeeded", *done)
            with CaptureQueriesContext(connection) as statements:
                shown(boss, JOBS)
            counts.append(len(statements))

        assert counts[0] == counts[1]

    def test_who_may_not_see_it_does_not(self):
        stranger = signed_in(User.objects.create_user("stranger", is_staff=True))

        assert stranger.get(JOBS).status_code == HTTPStatus.FORBIDDEN
        shown(member_of("Analyst"), JOBS)
