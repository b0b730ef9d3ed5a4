"""API keys in the console: made, shown once, rotated and revoked; and by whom."""

from http import HTTPStatus

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from fleet.access.issuing import make_key
from fleet.access.keyring import Keyring
from fleet.models import ApiKey, Scope
from tests.factories import SiteFactory

pytestmark = pytest.mark.django_db

ADD = "admin:fleet_apikey_add"
LIST = "admin:fleet_apikey_changelist"
INGEST = {"name": "gateway", "may_ingest": "on", "reach": "all"}


def signed_in(*groups: str) -> Client:
    user = User.objects.create_user(f"user {len(groups)}", is_staff=True)
    user.groups.set(Group.objects.filter(name__in=groups))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator(clock) -> Client:
    return signed_in("Operator")


def test_key_is_shown_once_and_opens_the_api(operator):
    page = operator.post(reverse(ADD), INGEST)
    token = page.context["token"]

    assert token in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    assert Keyring().look_up(token).scopes == {"ingest"}
    key = ApiKey.objects.get()
    for path in (reverse(LIST), reverse("admin:fleet_apikey_change", args=[key.pk])):
        content = operator.get(path).content.decode()
        assert key.prefix in content
        assert token not in content
    assert token not in LogEntry.objects.get().change_message


def test_key_for_listed_devices_has_one_in_a_line(operator):
    devices = {"reach": "devices", "vehicle_ids": "V1\r\nV2\n", "meter_ids": ""}
    operator.post(reverse(ADD), INGEST | devices)

    assert ApiKey.objects.get().vehicle_ids == ["V1", "V2"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"may_ingest": ""}, "Choose at least one scope"),
        ({"reach": "site"}, "Choose a site"),
        ({"reach": "devices"}, "List at least one device id"),
        ({"vehicle_ids": "V1"}, "List device ids only with the reach"),
        ({"reach": "devices", "vehicle_ids": "V 1!"}, "did not validate"),
    ],
)
def test_key_that_makes_no_sense_is_refused_in_words(operator, wrong, words):
    page = operator.post(reverse(ADD), INGEST | wrong)

    assert words in page.content.decode()
    assert not ApiKey.objects.exists()


def test_key_is_rotated_and_revoked_after_a_question(operator):
    made = make_key("gateway", [Scope.INGEST], site=SiteFactory(name="<b>Depot</b>"))
    rotate, revoke = (
        reverse(f"admin:fleet_apikey_{step}_key", args=[made.key.pk])
        for step in ("rotate", "revoke")
    )

    assert "The old key works for another week" in operator.get(rotate).content.decode()
    successor = operator.post(rotate).context["token"]
    assert Keyring().look_up(successor).site_id == made.key.site_id
    assert Keyring().look_up(made.token)

    assert "refused within seconds" in operator.get(revoke).content.decode()
    assert Keyring().look_up(made.token)
    operator.post(revoke)
    assert Keyring().look_up(made.token) is None
    assert operator.post(rotate).status_code == HTTPStatus.FOUND
    assert ApiKey.objects.count() == 2
    listed = operator.get(reverse(LIST)).content.decode()
    assert "<b>Depot" not in listed
    said = [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")]
    assert "Successor" in said[0]
    assert "revoked" in said[1]


def test_nobody_gets_a_key_that_may_do_more_than_himself(operator):
    managing = make_key("manager", [Scope.MANAGE])
    rotate = reverse("admin:fleet_apikey_rotate_key", args=[managing.key.pk])

    assert "may_manage" not in operator.get(reverse(ADD)).content.decode()
    for path, posted in ((reverse(ADD), INGEST | {"may_manage": "on"}), (rotate, {})):
        assert operator.post(path, posted).status_code == HTTPStatus.FORBIDDEN
    assert ApiKey.objects.count() == 1

    both = signed_in("Operator", "Fleet manager")
    assert "may_manage" in both.get(reverse(ADD)).content.decode()
    assert Keyring().look_up(both.post(rotate).context["token"]).scopes == {"manage"}


@pytest.mark.parametrize("group", ["Fleet manager", "Analyst"])
def test_others_see_keys_and_change_none(clock, group):
    client = signed_in(group)
    made = make_key("gateway", [Scope.INGEST])

    assert client.get(reverse(LIST)).status_code == HTTPStatus.OK
    assert client.post(reverse(ADD), INGEST).status_code == HTTPStatus.FORBIDDEN
    revoke = reverse("admin:fleet_apikey_revoke_key", args=[made.key.pk])
    assert client.post(revoke).status_code == HTTPStatus.FORBIDDEN
    assert Keyring().look_up(made.token)
