"""Faults, thresholds and webhooks: what their pages show, who may do what, what is refused."""

from datetime import timedelta
from http import HTTPStatus
from types import SimpleNamespace

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from analytics.alerting import faults, thresholds
from analytics.alerting.kinds import KINDS
from analytics.models import (
    Fault,
    FaultChange,
    FaultKind,
    FaultThresholds,
    Webhook,
    WebhookDelivery,
)
from energy_engine.console.faults import measured
from energy_engine.console.words.changes import steps_of
from energy_engine.console.words.durations import duration
from tests.conftest import NOON, at
from tests.factories import SiteFactory
from tests.people import member_of, shown, signed_in, superuser, told

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

FAULTS = reverse("admin:analytics_fault_changelist")
THRESHOLDS = reverse("admin:analytics_faultthresholds_changelist")
WEBHOOKS = reverse("admin:analytics_webhook_changelist")
ESTIMATE = reverse("admin:analytics_faultthresholds_estimate")


@pytest.fixture
def boss() -> Client:
    return superuser()


@pytest.fixture
def manager() -> Client:
    return member_of("Fleet manager")


def fault(vehicle_id: str | None = "V1", **fields: object) -> Fault:
    """Return a fault that the engine opened at 09:00."""
    values = {
        "kind": FaultKind.LOW_EFFICIENCY,
        "vehicle_id": vehicle_id,
        "value": 71.2,
        "threshold": 85,
        "opened_at": at("09:00"),
    }
    opened = Fault.objects.create(**values | fields)
    FaultChange.objects.create(fault=opened, changed_at=opened.opened_at, state="open")
    return opened


def found(client: Client, query: str = "") -> list[str]:
    response = client.get(FAULTS + query)
    assert response.status_code == HTTPStatus.OK
    return [str(row) for row in response.context["cl"].result_list]


def page_of(model: str, pk: int, view: str = "change") -> str:
    return reverse(f"admin:analytics_{model}_{view}", args=[pk])


def press(client: Client, button: str, pk: int, note: str = ""):
    values = {"_form_submitted": "True", "note": note}
    return client.post(page_of("fault", pk, button), values)


class TestFaultList:
    def test_row_says_what_where_how_bad_and_since_when(self, boss):
        site = SiteFactory(name="Berlin", time_zone="Europe/Berlin")
        opened = fault(site=site)
        faults.acknowledge(opened.pk, User.objects.create_user("maria"))

        content = shown(boss, FAULTS)

        for text in (
            "Low efficiency",
            "acknowledged",
            reverse("admin:fleet_vehicle_change", args=["V1"]),
            "Berlin",
            "71.2 % &lt; 85 %",
            "2026-07-15 09:00:00",
            "11:00:00 CEST",
            "3 h 0 min",
            "maria",
        ):
            assert text in content, text

    @pytest.mark.parametrize(
        ("kind", "value", "threshold", "words"),
        [
            ("low_efficiency", 71.24, 85, "71.24 % < 85 %"),
            ("low_efficiency", 0, 85, "0 % < 85 %"),
            ("standby_loss", 4.8, 2, "4.8 kWh > 2 kWh"),
            ("hot_battery", 53.5, 50, "53.5 °C > 50 °C"),
            ("hot_battery", 44, 50, "44 °C < 50 °C"),
            ("silent", 95, 15, "1 h 35 min > 15 min"),
            ("site_silent", 12, 5, "12 devices > 5 devices"),
            ("site_silent", 5, 5, "5 devices = 5 devices"),
        ],
    )
    def test_measure_stands_beside_its_threshold(self, kind, value, threshold, words):
        of_kind = SimpleNamespace(kind=kind, value=value, threshold=threshold)

        assert measured(of_kind) == words

    def test_fault_that_is_about_to_close_says_so(self, boss):
        fault(recovering_since=at("11:57"))

        assert "cause gone since 11:57" in shown(boss, FAULTS)

    def test_closed_faults_are_seen_on_request_alone(self, boss):
        fault("V1")
        acknowledged, closed = fault("V2"), fault("V3")
        faults.acknowledge(acknowledged.pk, None)
        faults.close(closed.pk, None, "done")
        fault(None, kind=FaultKind.SITE_SILENT, site=SiteFactory(name="Berlin"))

        v1, v2, v3 = (f"low efficiency, V{number}" for number in (1, 2, 3))
        site = "many devices silent, Berlin"
        assert found(boss) == [site, v2, v1]
        assert found(boss, "?state=open") == [site, v1]
        assert found(boss, "?state=acknowledged") == [v2]
        assert found(boss, "?state=closed") == [v3]
        assert found(boss, "?state=all") == [site, v3, v2, v1]
        assert found(boss, "?state=whatever") == [site, v2, v1]

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("?q=v1", ["low efficiency, V1"]),
            ("?q=M9", ["device silent, M9"]),
            ("?q=V9", []),
            ("?kind__exact=silent", ["device silent, M9"]),
            ("?site__isnull=True", ["device silent, M9"]),
        ],
    )
    def test_search_and_filters(self, boss, query, expected):
        fault("V1", site=SiteFactory())
        fault(None, meter_id="M9", kind=FaultKind.SILENT)

        assert found(boss, query) == expected

    def test_every_column_can_be_ordered_by(self, boss):
        fault("V1", value=60)
        fault("V2", value=70)
        columns = boss.get(FAULTS).context["cl"].list_display

        for number in range(1, len(columns)):
            assert len(found(boss, f"?o={number}")) == 2
        value = columns.index(next(c for c in columns if getattr(c, "__name__", "") == "value"))
        assert found(boss, f"?o={value}")[0] == "low efficiency, V1"
        assert found(boss, f"?o=-{value}")[0] == "low efficiency, V2"

    def test_csv_has_numbers_and_their_units(self, boss):
        fault("V1", site=SiteFactory(name="=cmd|' /C calc'!A0"))

        response = boss.get(reverse("admin:analytics_fault_csv"))
        heading, line = b"".join(response.streaming_content).decode().splitlines()

        assert heading == (
            "\ufeffFault,State,Vehicle,Meter,Site,Measured,Threshold,Unit,"
            '"Opened, UTC","Lasted, min",Acknowledged by,Notes'
        )
        assert line == (
            "low_efficiency,open,V1,,'=cmd|' /C calc'!A0,71.2,85.0,%,2026-07-15 09:00:00,180.0,,0"
        )

    def test_many_are_acknowledged_at_once(self, manager):
        open_faults = [fault(f"V{number}") for number in range(3)]
        closed = fault("V9")
        faults.close(closed.pk, None, "done")
        selected = [row.pk for row in [*open_faults, closed]]

        response = manager.post(
            FAULTS + "?state=all",
            {"action": "acknowledge_selected", "_selected_action": selected},
            follow=True,
        )

        assert set(Fault.objects.values_list("state", flat=True)) == {"acknowledged", "closed"}
        assert told(response) == [
            "3 faults acknowledged",
            "1 fault skipped: not open",
        ]
        assert LogEntry.objects.count() == 3
        user = User.objects.get()
        assert FaultChange.objects.filter(state="acknowledged", user=user).count() == 3

    def test_statements_do_not_grow_with_the_faults(self, boss):
        counts = []
        for size in (10, 100):
            for number in range(size):
                opened = fault(f"V{size}-{number}", site=SiteFactory())
                faults.acknowledge(opened.pk, None)
            with CaptureQueriesContext(connection) as statements:
                shown(boss, FAULTS)
            counts.append(len(statements))

        assert counts[0] == counts[1]

    def test_names_are_text_whatever_they_hold(self, boss):
        opened = fault("V1", site=SiteFactory(name="<script>alert(1)</script>"))
        faults.acknowledge(opened.pk, None, "<script>alert(2)</script>")

        content = shown(boss, FAULTS) + shown(boss, page_of("fault", opened.pk))

        assert "<script>alert(" not in content
        assert "&lt;script&gt;alert(1)" in content
        assert "&lt;script&gt;alert(2)" in content


class TestFaultPage:
    def test_history_says_who_when_and_why(self, boss):
        opened = fault(site=SiteFactory(time_zone="Europe/Berlin"))
        faults.acknowledge(opened.pk, User.objects.create_user("maria"), "Called the electrician")
        faults.close(opened.pk, None, "The cause is gone")

        history = boss.get(page_of("fault", opened.pk)).context["history"]

        assert [(str(step["who"]), step["note"]) for step in history] == [
            ("the engine", ""),
            ("maria", "Called the electrician"),
            ("the engine", "The cause is gone"),
        ]
        assert "14:00:00 CEST" in history[1]["at"]

    def test_acknowledging_is_kept_with_who_did_it(self, manager):
        opened = fault()

        response = press(manager, "acknowledge", opened.pk, "I am on it")

        assert response["HX-Redirect"] == page_of("fault", opened.pk)
        opened.refresh_from_db()
        assert opened.state == "acknowledged"
        change = opened.changes.last()
        assert (change.user.username, change.note) == ("fleet-manager", "I am on it")
        assert steps_of(LogEntry.objects.get().change_message) == [
            "State: open → acknowledged",
            "Note: - → I am on it",
        ]

    @pytest.mark.parametrize("state", ["open", "acknowledged", "closed"])
    def test_note_is_kept_with_its_author_and_time_whatever_the_state(self, manager, state):
        opened = fault(state=state, site=SiteFactory(time_zone="Europe/Berlin"))

        response = press(manager, "add_note", opened.pk, " Cable <b>worn</b> ")

        assert response["HX-Redirect"] == page_of("fault", opened.pk)
        note = opened.notes.get()
        assert (note.text, note.author.username, note.written_at) == (
            "Cable <b>worn</b>",
            "fleet-manager",
            NOON,
        )
        opened.refresh_from_db()
        assert opened.state == state
        assert steps_of(LogEntry.objects.get().change_message) == ["Note: - → Cable <b>worn</b>"]
        page = shown(manager, page_of("fault", opened.pk))
        assert "Cable &lt;b&gt;worn&lt;/b&gt;" in page
        assert "14:00:00 CEST" in page

    def test_list_counts_the_notes(self, boss):
        opened, other = fault("V1"), fault("V2")
        for text in ("Called the electrician", "They come on Friday"):
            faults.add_note(opened.pk, None, text)

        rows = boss.get(FAULTS).context["cl"].result_list
        assert {row.vehicle_id: row.notes_written for row in rows} == {"V1": 2, "V2": 0}
        assert not other.notes.exists()

    @pytest.mark.parametrize("text", ["  ", "x" * 1001])
    def test_note_that_is_empty_or_too_long_is_refused(self, manager, text):
        opened = fault()

        press(manager, "add_note", opened.pk, text)

        assert not opened.notes.exists()

    def test_note_of_a_user_who_is_gone_stays(self, boss):
        opened, maria = fault(), User.objects.create_user("maria")
        faults.add_note(opened.pk, maria, "Called the electrician")
        maria.delete()

        assert "a user who is gone" in shown(boss, page_of("fault", opened.pk))

    def test_closing_needs_a_note(self, manager):
        opened = fault()

        response = press(manager, "close", opened.pk, "  ")

        assert "Say why the fault is closed" in response.content.decode()
        opened.refresh_from_db()
        assert opened.state == "open"

    def test_note_of_1001_characters_is_refused(self, manager):
        opened = fault()

        response = press(manager, "close", opened.pk, "x" * 1001)

        assert "at most 1000 characters" in response.content.decode()
        opened.refresh_from_db()
        assert opened.state == "open"

    def test_closing_with_a_note(self, manager):
        opened = fault()

        press(manager, "close", opened.pk, "Charger replaced")

        opened.refresh_from_db()
        assert (opened.state, opened.closed_at) == ("closed", NOON)
        assert steps_of(LogEntry.objects.get().change_message) == [
            "State: open → closed",
            "Note: - → Charger replaced",
        ]

    def test_fault_that_was_closed_meanwhile_is_said_to_be(self, manager):
        opened = fault()
        faults.close(opened.pk, None, "The cause is gone")

        for button in ("acknowledge", "close"):
            press(manager, button, opened.pk, "too late")
            response = manager.get(page_of("fault", opened.pk))
            assert told(response) == ["This fault is already closed"]
        assert not LogEntry.objects.exists()

    @pytest.mark.parametrize(
        ("state", "buttons"),
        [
            ("open", {"acknowledge", "close", "add_note"}),
            ("acknowledged", {"close", "add_note"}),
            ("closed", {"add_note"}),
        ],
    )
    def test_buttons_fit_the_state(self, manager, state, buttons):
        opened = fault(state=state)

        content = shown(manager, page_of("fault", opened.pk))

        for button in ("acknowledge", "close", "add_note"):
            assert (page_of("fault", opened.pk, button) in content) == (button in buttons)

    def test_nobody_adds_edits_or_deletes_faults(self, boss):
        opened = fault()

        assert boss.get(reverse("admin:analytics_fault_add")).status_code == HTTPStatus.FORBIDDEN
        edit = boss.post(page_of("fault", opened.pk), {"value": "99"})
        delete = boss.post(page_of("fault", opened.pk, "delete"), {"post": "yes"})
        assert edit.status_code == delete.status_code == HTTPStatus.FORBIDDEN
        boss.post(
            FAULTS, {"action": "delete_selected", "_selected_action": [opened.pk], "post": "yes"}
        )
        assert Fault.objects.get().value == 71.2

    def test_button_takes_no_request_from_elsewhere(self):
        user = User.objects.create_superuser("boss")
        opened = fault()

        press(signed_in(user, enforce_csrf_checks=True), "close", opened.pk, "gone")

        opened.refresh_from_db()
        assert opened.state == "open"

    def test_button_of_a_fault_that_is_gone_answers_404(self, manager):
        for button in ("close", "add_note"):
            response = press(manager, button, 1_000_000, "gone")
            assert response.status_code == HTTPStatus.NOT_FOUND

    @pytest.mark.parametrize("group", ["Analyst", "Operator"])
    def test_others_look_and_do_nothing(self, group):
        client, opened = member_of(group), fault()

        assert page_of("fault", opened.pk, "close") not in shown(
            client, page_of("fault", opened.pk)
        )
        for button in ("acknowledge", "close", "add_note"):
            response = press(client, button, opened.pk, "mine")
            assert response.status_code == HTTPStatus.FORBIDDEN
        assert not opened.notes.exists()
        client.post(FAULTS, {"action": "acknowledge_selected", "_selected_action": [opened.pk]})
        opened.refresh_from_db()
        assert opened.state == "open"


# The defaults.
THRESHOLD_VALUES = {"site": ""} | {
    name: str(getattr(FaultThresholds(), name))
    for record in KINDS.values()
    for name in record.thresholds
}


class TestThresholds:
    def test_page_says_what_holds_where_nothing_is_set(self, boss):
        assert "uses the defaults. A fault opens when" in shown(boss, THRESHOLDS)

        FaultThresholds.objects.create()
        assert "uses those of “All sites”" in shown(boss, THRESHOLDS)

    def test_thresholds_of_a_site_are_added_changed_and_deleted(self, manager):
        site = SiteFactory(name="Berlin")
        add = reverse("admin:analytics_faultthresholds_add")
        manager.post(add, THRESHOLD_VALUES | {"site": site.pk, "efficiency_opens_percent": "80"})
        own = FaultThresholds.objects.get()
        assert (own.site, own.efficiency_opens_percent) == (site, 80)
        assert "below 80 %, closes at 87 %" in shown(manager, THRESHOLDS)

        page = page_of("faultthresholds", own.pk)
        manager.post(page, THRESHOLD_VALUES | {"site": site.pk, "efficiency_opens_percent": "82"})
        entry = LogEntry.objects.order_by("pk").last()
        assert steps_of(entry.change_message) == ["Efficiency opens, %: 80.0 → 82.0"]

        manager.post(page_of("faultthresholds", own.pk, "delete"), {"post": "yes"})
        assert not FaultThresholds.objects.exists()
        assert LogEntry.objects.order_by("pk").last().is_deletion()

    @pytest.mark.parametrize(
        ("values", "field", "words"),
        [
            (
                {"efficiency_closes_percent": "84.9"},
                "efficiency_closes_percent",
                "must be at least 85 %, the threshold at which faults open",
            ),
            (
                {"battery_closes_celsius": "50.1"},
                "battery_closes_celsius",
                "must be at most 50 °C, the threshold at which faults open",
            ),
            (
                {"standby_closes_kwh": "2.1"},
                "standby_closes_kwh",
                "must be at most 2 kWh, the threshold at which faults open",
            ),
            (
                {"efficiency_opens_percent": "101"},
                "efficiency_opens_percent",
                "Ensure this value is less than or equal to 100.",
            ),
            ({"battery_opens_celsius": "nan"}, "battery_opens_celsius", "Enter a number."),
            ({"site_silent_devices": ""}, "site_silent_devices", "This field is required."),
        ],
    )
    def test_values_that_make_no_sense_are_refused_at_their_field(
        self, manager, values, field, words
    ):
        add = reverse("admin:analytics_faultthresholds_add")
        response = manager.post(add, THRESHOLD_VALUES | values)

        assert response.context["adminform"].form.errors[field] == [words]
        assert words in manager.post(ESTIMATE, THRESHOLD_VALUES | values).content.decode()
        assert not FaultThresholds.objects.exists()

    @pytest.mark.parametrize("where", ["site", "everywhere"])
    def test_site_has_thresholds_once(self, manager, where):
        site = SiteFactory() if where == "site" else None
        FaultThresholds.objects.create(site=site)

        add = reverse("admin:analytics_faultthresholds_add")
        response = manager.post(add, THRESHOLD_VALUES | {"site": site.pk if site else ""})

        assert "already exists" in response.content.decode()
        assert FaultThresholds.objects.count() == 1

    def test_closing_at_the_threshold_of_opening_is_fine(self, manager):
        add = reverse("admin:analytics_faultthresholds_add")
        same = {"efficiency_closes_percent": "85", "battery_closes_celsius": "50"}

        assert manager.post(add, THRESHOLD_VALUES | same).status_code == HTTPStatus.FOUND

    def test_what_would_have_opened_is_told_before_saving(self, manager, monkeypatch):
        tried = []

        def counted(values: FaultThresholds) -> dict[FaultKind, int]:
            tried.append((values.site, values.efficiency_opens_percent))
            return {FaultKind.LOW_EFFICIENCY: 3, FaultKind.SILENT: 1}

        monkeypatch.setattr(thresholds, "faults_last_week", counted)
        site = SiteFactory()
        FaultThresholds.objects.create(site=site, efficiency_opens_percent=70)

        response = manager.post(ESTIMATE, THRESHOLD_VALUES | {"site": site.pk})

        content = " ".join(response.content.decode().split())
        assert "4 faults" in content
        assert "Low efficiency: <strong>3</strong>" in content
        assert "Battery too hot: <strong>0</strong>" in content
        assert "Estimated from the hourly sums" in content
        assert tried == [(site, 85.0)]
        assert FaultThresholds.objects.get().efficiency_opens_percent == 70

    def test_estimate_comes_from_history(self, manager):
        content = manager.post(ESTIMATE, THRESHOLD_VALUES).content.decode()

        assert "0 faults" in content

    @pytest.mark.parametrize("site", ["x", "1000000", "-1", "٣"])
    def test_site_that_is_none_is_refused(self, manager, site):
        response = manager.post(ESTIMATE, THRESHOLD_VALUES | {"site": site})

        assert "Site: Select a valid choice" in response.content.decode()

    def test_forms_ask_for_the_estimate(self, manager):
        page = page_of("faultthresholds", FaultThresholds.objects.create().pk)

        assert f'hx-post="{ESTIMATE}"' in shown(manager, page)
        assert f'hx-post="{ESTIMATE}"' in shown(
            manager, reverse("admin:analytics_faultthresholds_add")
        )
        assert ESTIMATE not in shown(member_of("Analyst"), page)

    @pytest.mark.parametrize("group", ["Analyst", "Operator"])
    def test_others_look_and_change_nothing(self, group):
        client, own = member_of(group), FaultThresholds.objects.create()
        add = reverse("admin:analytics_faultthresholds_add")
        delete = page_of("faultthresholds", own.pk, "delete")

        shown(client, THRESHOLDS)
        shown(client, page_of("faultthresholds", own.pk))
        for path in (add, page_of("faultthresholds", own.pk), delete, ESTIMATE):
            assert client.post(path, THRESHOLD_VALUES).status_code == HTTPStatus.FORBIDDEN
        assert FaultThresholds.objects.get() == own

    def test_statements_do_not_grow_with_the_sites(self, boss):
        counts = []
        for size in (10, 100):
            for site in SiteFactory.create_batch(size):
                FaultThresholds.objects.create(site=site)
            with CaptureQueriesContext(connection) as statements:
                shown(boss, THRESHOLDS)
            counts.append(len(statements))

        assert counts[0] == counts[1]


HOOK = {"url": "https://example.org/hooks?a=1", "is_active": "on"}


def delivery(webhook: Webhook, **fields: object) -> WebhookDelivery:
    number = WebhookDelivery.objects.count()
    change = fault(f"V{number}").changes.get()
    return WebhookDelivery.objects.create(
        webhook=webhook, change=change, message_id=f"msg_{number}", **fields
    )


class TestWebhooks:
    def test_secret_is_shown_once(self, manager):
        response = manager.post(reverse("admin:analytics_webhook_add"), HOOK)

        webhook = Webhook.objects.get()
        assert webhook.secret.startswith("whsec_")
        assert webhook.secret in response.content.decode()
        assert "no-store" in response["Cache-Control"]
        page = page_of("webhook", webhook.pk)
        log = reverse("admin:admin_logentry_changelist")
        for path in (page, WEBHOOKS, log):
            assert webhook.secret not in shown(manager, path)
        assert webhook.secret not in LogEntry.objects.get().change_message

    def test_secret_is_replaced_after_a_question(self, manager):
        webhook = Webhook.objects.create(url="https://example.org", secret="whsec_old")
        page = page_of("webhook", webhook.pk, "replace_secret")

        assert "Create a new secret" in shown(manager, page)
        webhook.refresh_from_db()
        assert webhook.secret == "whsec_old"

        response = manager.post(page)
        webhook.refresh_from_db()
        assert webhook.secret != "whsec_old"
        assert webhook.secret in response.content.decode()
        assert steps_of(LogEntry.objects.get().change_message) == ["Secret: replaced"]

    def test_webhook_is_switched_off(self, manager):
        webhook = Webhook.objects.create(url="https://example.org/hooks?a=1", secret="whsec_a")
        manager.post(page_of("webhook", webhook.pk), {"url": HOOK["url"], "tells_of_jobs": "on"})

        webhook.refresh_from_db()
        assert (webhook.is_active, webhook.secret) == (False, "whsec_a")
        assert steps_of(LogEntry.objects.get().change_message) == ["Active: yes → no"]

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("ftp://example.org/", "must begin with https:// or http://"),
            ("https://user:word@example.org/", "must not contain a user name or password"),
            ("javascript:alert(1)", "Enter a valid URL."),
            ("", "This field is required."),
            ("https://example.org/" + "x" * 500, "at most 500 characters"),
        ],
    )
    def test_address_that_is_none_is_refused(self, manager, url, words):
        response = manager.post(reverse("admin:analytics_webhook_add"), HOOK | {"url": url})

        assert words in response.content.decode()
        assert not Webhook.objects.exists()

    def test_address_without_scheme_is_taken_for_https(self, manager):
        manager.post(reverse("admin:analytics_webhook_add"), HOOK | {"url": "example.org/hook"})

        assert Webhook.objects.get().url == "https://example.org/hook"

    def test_messages_say_what_became_of_them(self, manager):
        webhook = Webhook.objects.create(url="https://example.org", secret="whsec_a")
        delivery(webhook)
        delivery(webhook, attempts=1, attempted_at=NOON, status_code=200, delivered_at=NOON)
        delivery(webhook, attempts=2, attempted_at=NOON, status_code=500, error="answered 500")
        delivery(webhook, attempts=8, attempted_at=NOON, error="no response within 10 seconds")

        content = shown(manager, page_of("webhook", webhook.pk))

        for words in ("waiting", "delivered", "retrying", "given up"):
            assert words in content
        assert "answered 500" in content
        assert "low efficiency, V2" in content

    def test_newest_100_messages_are_shown_in_as_many_statements_as_10(self, manager):
        webhook = Webhook.objects.create(url="https://example.org", secret="whsec_a")
        page, counts = page_of("webhook", webhook.pk), []
        for size in (10, 100):
            for _ in range(size):
                delivery(webhook)
            with CaptureQueriesContext(connection) as statements:
                response = manager.get(page)
            counts.append(len(statements))

        assert counts[0] == counts[1]
        assert len(response.context["deliveries"]) == 100

    def test_webhook_is_deleted_with_its_messages(self, manager):
        webhook = Webhook.objects.create(url="https://example.org", secret="whsec_a")
        delivery(webhook)
        page = page_of("webhook", webhook.pk, "delete")

        assert "https://example.org" in shown(manager, page)
        manager.post(page, {"post": "yes"})

        assert not Webhook.objects.exists()
        assert not WebhookDelivery.objects.exists()
        gone = LogEntry.objects.get()
        assert steps_of(gone.change_message) == [
            "Url: https://example.org → -",
            "Is active: yes → -",
            "Tells of jobs: yes → -",
        ]

    @pytest.mark.parametrize("group", ["Analyst", "Operator"])
    def test_others_look_and_change_nothing(self, group):
        client = member_of(group)
        webhook = Webhook.objects.create(url="https://example.org", secret="whsec_a")
        page = page_of("webhook", webhook.pk)

        shown(client, WEBHOOKS)
        assert "whsec_a" not in shown(client, page)
        for path in (
            page,
            reverse("admin:analytics_webhook_add"),
            page_of("webhook", webhook.pk, "delete"),
            page_of("webhook", webhook.pk, "replace_secret"),
        ):
            assert client.post(path, HOOK).status_code == HTTPStatus.FORBIDDEN
        webhook.refresh_from_db()
        assert webhook.secret == "whsec_a"


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(seconds=0.04), "0.0 s"),
        (timedelta(seconds=9.9), "9.9 s"),
        (timedelta(seconds=59.4), "59 s"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=1), "1 h 0 min"),
        (timedelta(hours=23, minutes=59), "23 h 59 min"),
        (timedelta(days=2, hours=4), "2 d 4 h"),
        (timedelta(seconds=-5), "0.0 s"),
    ],
)
def test_duration_is_no_finer_than_needed(span, words):
    assert duration(span) == words


@pytest.mark.parametrize("path", [FAULTS, THRESHOLDS, WEBHOOKS])
def test_who_may_see_nothing_sees_nothing(path):
    stranger = signed_in(User.objects.create_user("stranger", is_staff=True))

    assert stranger.get(path).status_code == HTTPStatus.FORBIDDEN
    assert path not in shown(stranger, reverse("admin:index"))
