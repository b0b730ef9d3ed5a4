"""Settings to check: what the list and the device's page show, and who may change what."""

from http import HTTPStatus

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from analytics.models import Hint
from energy_engine.console.words.changes import steps_of
from fleet.models import Meter
from tests.conftest import NOON
from tests.factories import MeterFactory
from tests.lists import cells
from tests.people import member_of, shown, superuser, told

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

TO_CHECK = reverse("admin:analytics_hint_changelist")
WORDS = "DC is 0.09 % of AC over the last 24 hours: 21.5 kWh against 23,889 kWh. Watt-hours?"


@pytest.fixture
def boss() -> Client:
    return superuser()


@pytest.fixture
def operator() -> Client:
    return member_of("Operator")


@pytest.fixture
def hint() -> Hint:
    """M1 reports watt-hours."""
    return made("M1")


def made(meter_id: str, **fields: object) -> Hint:
    """Return a hint that a meter reports watt-hours."""
    MeterFactory(meter_id=meter_id)
    numbers = {"percent": 0.09, "dc_kwh": 21.5, "ac_kwh": 23_889.0, "is_clear": True}
    values = {"field": "scale", "before": 1.0, "proposal": 0.001, "numbers": numbers}
    times = {"opened_at": NOON, "confirmed_at": NOON}
    return Hint.objects.create(kind="unit", meter_id=meter_id, **times, **values | fields)


def page_of(meter_id: str) -> str:
    return reverse("admin:fleet_meter_change", args=[meter_id])


def press(client: Client, hint: Hint, button: str, **values: str):
    view = reverse(f"admin:analytics_hint_{button}", args=[hint.pk])
    return client.post(view, values, follow=True)


def listed(client: Client, query: str = "") -> list[str]:
    return [row["Device"] for row in cells(client.get(TO_CHECK + query))]


class TestList:
    def test_row_says_what_is_wrong_why_and_what_to_do(self, boss, hint):
        assert cells(boss.get(TO_CHECK)) == [
            {
                "Select record": "",
                "Check": "Unit of the energy",
                "Device": "M1",
                "Why": WORDS,
                "What to do": "Set the scale to 0.001",
                "Since, UTC": "2026-07-15 12:00:00",
                "Dismissed by": "-",
            }
        ]

    def test_title_is_that_of_the_sidebar(self, boss, hint):
        content = boss.get(TO_CHECK).content.decode()

        assert "To check | " in content.partition("<title>")[2].partition("</title>")[0]

    def test_dismissed_and_followed_hints_are_not_listed(self, boss, hint):
        made("M2", dismissed_at=NOON)
        made("M3", followed_at=NOON)

        assert listed(boss) == ["M1"]
        assert listed(boss, "?state=dismissed") == ["M2"]
        assert listed(boss, "?state=all") == ["M2", "M1"]

    def test_csv_has_the_words(self, boss, hint):
        content = b"".join(boss.get(reverse("admin:analytics_hint_csv"))).decode()

        assert WORDS in content

    def test_selected_hints_are_followed_at_once(self, operator, hint):
        other = made("M2", before=2.0)  # its scale is 1 by now
        values = {"action": "follow_selected", "_selected_action": [hint.pk, other.pk]}

        response = operator.post(TO_CHECK, values, follow=True)

        assert told(response) == [
            "1 setting changed",
            "1 hint skipped: the setting has changed meanwhile",
        ]
        assert Meter.objects.get(pk="M1").scale == 0.001
        assert Meter.objects.get(pk="M2").scale == 1

    def test_selected_hints_are_dismissed_at_once(self, operator, hint):
        values = {"action": "dismiss_selected", "_selected_action": [hint.pk]}

        assert told(operator.post(TO_CHECK, values, follow=True)) == ["1 hint dismissed"]
        assert listed(operator) == []

    @pytest.mark.parametrize("hints", [1, 10])
    def test_list_costs_the_same_statements_however_long(
        self, boss, hints, django_assert_num_queries
    ):
        for number in range(hints):
            made(f"M{number}")
        listed(boss)

        with django_assert_num_queries(4):
            listed(boss)


class TestButtons:
    def test_page_of_the_device_and_of_the_hint_have_the_words_and_the_buttons(
        self, operator, hint
    ):
        for page in (page_of("M1"), reverse("admin:analytics_hint_change", args=[hint.pk])):
            content = shown(operator, page)
            assert WORDS in content
            assert "Set the scale to 0.001</button>" in content
            assert "Dismiss</button>" in content

    def test_button_changes_the_setting_as_the_form_does(self, operator, hint):
        response = press(operator, hint, "follow", next=page_of("M1"))

        assert response.redirect_chain == [(page_of("M1"), HTTPStatus.FOUND)]
        assert told(response) == ["M1: Scale, kWh per unit: 1.0 → 0.001"]
        assert WORDS not in response.content.decode()
        assert Meter.objects.get().scale == 0.001
        entry = LogEntry.objects.get()
        assert (entry.object_id, entry.content_type.model) == ("M1", "meter")
        assert steps_of(entry.change_message) == ["Scale, kWh per unit: 1.0 → 0.001"]

    def test_hint_is_dismissed(self, operator, hint):
        response = press(operator, hint, "dismiss", next=page_of("M1"))

        assert told(response) == ["Dismissed: unit of the energy, M1"]
        assert WORDS not in response.content.decode()
        assert Hint.objects.get().dismissed_by.username == "operator"
        assert steps_of(LogEntry.objects.get().change_message) == ["Dismissed: no → yes"]

    def test_hint_that_is_outdated_changes_nothing(self, operator, hint):
        Meter.objects.update(scale=0.5)

        assert told(press(operator, hint, "follow")) == ["This setting has changed meanwhile"]
        assert Meter.objects.get().scale == 0.5
        assert not LogEntry.objects.exists()

    def test_hint_is_followed_once(self, operator, hint):
        press(operator, hint, "follow")

        assert told(press(operator, hint, "follow")) == ["This setting has changed meanwhile"]
        assert LogEntry.objects.count() == 1

    def test_answer_leads_to_no_other_host(self, operator, hint):
        response = press(operator, hint, "dismiss", next="https://example.com/")

        assert response.redirect_chain == [(TO_CHECK, HTTPStatus.FOUND)]

    @pytest.mark.parametrize(
        ("group", "may_follow", "may_dismiss"),
        [("Operator", True, True), ("Fleet manager", False, True), ("Analyst", False, False)],
    )
    def test_buttons_are_for_those_who_may_press_them(self, group, may_follow, may_dismiss, hint):
        client = member_of(group)
        content = shown(client, page_of("M1"))

        assert WORDS in content
        assert ("Set the scale to 0.001</button>" in content) == may_follow
        assert ("Dismiss</button>" in content) == may_dismiss
        statuses = {
            button: press(client, hint, button).status_code for button in ("dismiss", "follow")
        }
        assert statuses == {
            "dismiss": HTTPStatus.OK if may_dismiss else HTTPStatus.FORBIDDEN,
            "follow": HTTPStatus.OK if may_follow else HTTPStatus.FORBIDDEN,
        }

    def test_buttons_are_pressed_not_opened(self, boss, hint):
        for button in ("follow", "dismiss"):
            view = reverse(f"admin:analytics_hint_{button}", args=[hint.pk])
            assert boss.get(view).status_code == HTTPStatus.METHOD_NOT_ALLOWED
