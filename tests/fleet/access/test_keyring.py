"""What a process remembers of keys: for how long, how many, and at which cost to the database."""

import math
import time
from datetime import timedelta
from hashlib import sha256
from unittest import mock

import pytest
from django.db import OperationalError
from django.utils import timezone

from fleet.access.issuing import make_key, revoke, rotate
from fleet.access.keyring import Keyring
from fleet.models import ApiKey, Vehicle
from fleet.stores.batching import Member
from tests.callers import INGEST, READ, Caller, caller
from tests.factories import SiteFactory, VehicleFactory

pytestmark = pytest.mark.usefixtures("closed")


@pytest.fixture
def ring(monkeypatch) -> Keyring:
    """A process that looks for changes at every request."""
    monkeypatch.setattr(Keyring, "LOOK_SECONDS", 0.0)
    return Keyring()


def test_key_revoked_while_nobody_asked_anything_opens_nothing(clock, ring):
    made = make_key("test", [READ])
    assert ring.look_up(made.token)
    ring.known(made.token)

    clock.shift(timedelta(minutes=5))
    revoke(made.key)
    clock.shift(timedelta(hours=10))

    assert ring.known(made.token) is None
    assert ring.look_up(made.token) is None


def test_change_is_not_missed_where_a_look_failed(clock, ring):
    made = make_key("test", [READ])
    assert ring.look_up(made.token)
    revoke(made.key)
    clock.shift(timedelta(minutes=5))
    with (
        mock.patch.object(ApiKey.objects, "filter", side_effect=OperationalError),
        pytest.raises(OperationalError),
    ):
        ring.known(made.token)

    assert ring.known(made.token) is None


def test_key_that_expires_in_the_cache_opens_nothing_and_costs_no_more_queries(
    clock, statements_sent
):
    device = caller(READ, expires_at=timezone.now() + timedelta(hours=1))
    assert device.get("/v1/links")[0] == 200
    clock.shift(timedelta(hours=1))
    assert device.get("/v1/links")[0] == 401

    with statements_sent() as sent:
        answers = {device.get("/v1/links")[0] for _ in range(20)}

    assert (answers, sent) == ({401}, [0])


def test_same_wrong_key_again_is_no_guess_and_locks_nobody_out(settings):
    settings.LIMIT_WRONG_KEYS_PER_ADDRESS = 2
    revoked = make_key("test", [READ])
    revoke(revoked.key)

    assert {Caller(revoked.token).get("/v1/links")[0] for _ in range(10)} == {401}
    assert caller(READ).get("/v1/links")[0] == 200


def test_key_of_a_site_goes_on_beside_somebody_who_guesses(settings, monkeypatch):
    monkeypatch.setattr(Keyring, "SITE_SECONDS", 0.0)
    settings.LIMIT_WRONG_KEYS_PER_ADDRESS = 1
    site = SiteFactory()
    VehicleFactory(vehicle_id="V1", site=site)
    neighbour = caller(READ, site=site)
    assert neighbour.get("/v1/status/vehicle/V1")[0] == 200

    assert [Caller(f"eie_{number}").get("/v1/links")[0] for number in range(3)] == [401, 429, 429]
    assert neighbour.get("/v1/status/vehicle/V1")[0] == 200


def test_key_that_was_just_made_is_no_guess_at_the_next_look(ring):
    made = make_key("test", [READ])
    assert ring.look_up(made.token)

    assert ring.known(made.token) is None  # its change may have been committed since
    assert ring.has_seen(made.token)
    assert ring.look_up(made.token)


def test_guessing_pushes_no_good_key_out(monkeypatch):
    monkeypatch.setattr(Keyring, "MOST", 3)
    monkeypatch.setattr(Keyring, "LOOK_SECONDS", math.inf)
    ring = Keyring()
    good = make_key("test", [READ])
    assert ring.look_up(good.token)
    for number in range(50):
        assert ring.look_up(f"eie_{number}") is None

    assert ring.known(good.token)
    assert len(ring._wrong) == 3


def test_unknown_keys_that_come_at_once_share_a_statement(statements_sent, ring):
    tokens = [make_key(str(number), [READ]).token for number in range(30)]
    tokens += [f"eie_{number}" for number in range(70)]
    group = [Member(sha256(token.encode()).digest(), 1) for token in tokens]

    with statements_sent() as sent:
        assert ring._find(group) is None

    assert sent == [1]
    assert [member.result is not None for member in group] == [True] * 30 + [False] * 70


def test_successor_of_a_key_that_expires_expires_as_well(clock):
    old = make_key("test", [INGEST], expires_at=timezone.now() + timedelta(days=30))
    clock.shift(timedelta(days=20))

    new = rotate(old.key)

    assert new.key.expires_at == timezone.now() + timedelta(days=30)
    old.key.refresh_from_db()
    assert old.key.expires_at == timezone.now() + timedelta(days=7)


def test_device_that_leaves_the_site_is_out_of_reach_within_half_a_minute(monkeypatch):
    site, other = SiteFactory(), SiteFactory()
    vehicle = VehicleFactory(vehicle_id="V1", site=site)
    key = caller(INGEST, site=site)
    reading = {"vehicleId": "V1", "kwhDeliveredDc": 1}
    assert key.post(reading)[0] == 201

    vehicle.site = other
    vehicle.save()
    monkeypatch.setattr(time, "monotonic", lambda: math.inf)  # half a minute is over

    status, body = key.post(reading)
    assert (status, body["errors"][0]["code"]) == (400, "unknown_device")


@pytest.mark.parametrize("unknown_devices", ["register", "reject"])
def test_bound_key_registers_no_device(settings, unknown_devices):
    settings.INGEST_UNKNOWN_DEVICES = unknown_devices
    site = SiteFactory()
    VehicleFactory(vehicle_id="V1", site=site)
    new, good = ({"vehicleId": id_, "kwhDeliveredDc": 1} for id_ in ("V9", "V1"))

    for key in (caller(INGEST, site=site), caller(INGEST, vehicle_ids=["V1"])):
        status, body = key.post([new, good])
        assert (status, body["accepted"]) == (200, 1)
        assert body["errors"][0]["code"] == "unknown_device"
    assert not Vehicle.objects.filter(pk="V9").exists()
