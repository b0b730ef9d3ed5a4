"""What a key opens, for whom, and for how long."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from ipaddress import ip_network
from threading import Barrier
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from fleet.access import limits
from fleet.access.issuing import NotUsable, make_key, revoke, rotate
from fleet.access.keyring import Keyring
from fleet.access.limits import Budgets, client_address
from fleet.links import link_vehicle
from fleet.models import ApiKey, Meter, Site, Vehicle
from ingestion.models import VehicleReading
from tests.callers import EVERY, INGEST, MANAGE, READ, Caller, caller
from tests.conftest import at
from tests.factories import MeterFactory, SiteFactory, VehicleFactory

V1 = {"vehicleId": "V1", "kwhDeliveredDc": 1}
V2 = {"vehicleId": "V2", "kwhDeliveredDc": 1}


pytestmark = pytest.mark.usefixtures("closed")


@pytest.fixture
def berlin() -> Site:
    """A site with V1 and M1; V2 and M2 stand elsewhere, each linked to the meter of its number."""
    site = SiteFactory(name="Berlin")
    VehicleFactory(vehicle_id="V1", site=site)
    MeterFactory(meter_id="M1", site=site)
    for number in "12":
        link_vehicle(f"V{number}", f"M{number}", at("08:00"))
    return site


def stored() -> set[str]:
    return set(VehicleReading.objects.values_list("vehicle_id", flat=True))


class TestWithoutAGoodKey:
    @pytest.mark.parametrize(
        "token", [None, "", "x", "eie_0000000000_" + "A" * 43, "\u00e9", "a" * 7000]
    )
    @pytest.mark.parametrize("path", ["/v1/ingest", "/api/v1/ingest", "/ingest/vehicle"])
    def test_nothing_is_taken_in(self, token, path):
        status, body = Caller(token).post(V1, path)

        assert (status, body["code"]) == (401, "key_required")
        assert stored() == set()

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/links",
            "/v1/status/vehicle/V1",
            "/v1/status/meter/M1",
            "/v1/analytics/vehicle/V1/live",
            "/v1/analytics/performance",
            "/v1/analytics/performance/V1",
            "/v1/analytics/performance/V1/series",
            "/v1/analytics/performance/V1/explain",
            "/v1/analytics/fleet",
        ],
    )
    def test_nothing_is_read(self, berlin, path):
        assert Caller(None).get(path)[0] == 401
        assert caller(READ).get(path)[0] == 200

    def test_answer_says_what_is_missing(self):
        answer = Client(headers={"host": "localhost"}).get("/v1/links")

        assert answer["WWW-Authenticate"] == "Bearer"
        assert answer.json()["message"].startswith("A valid API key is required")

    def test_key_in_the_address_opens_nothing(self, berlin):
        token = make_key("test", EVERY).token

        assert Caller(None).get(f"/v1/links?key={token}&authorization=Bearer%20{token}")[0] == 401

    @pytest.mark.parametrize("path", ["/", "/health/live", "/health/ready", "/v1/schema"])
    def test_what_everybody_may_know_is_open(self, path):
        assert Client(headers={"host": "localhost"}).get(path).status_code == 200


class TestScopes:
    def test_each_opens_what_it_is_for_and_nothing_else(self, berlin):
        seen = {
            scope: (
                caller(scope).post(V1)[0],
                caller(scope).get("/v1/links")[0],
                caller(scope).put("V1", "M2")[0],
            )
            for scope in EVERY
        }

        assert seen == {INGEST: (201, 403, 403), READ: (403, 200, 403), MANAGE: (403, 403, 201)}

    def test_answer_names_the_scope_that_is_needed(self):
        status, body = caller(READ).post(V1)

        assert (status, body["code"]) == (403, "scope_required")
        assert body["message"] == "This needs a key with the scope ingest"


class TestReach:
    def test_key_of_a_device_writes_for_it_alone(self):
        device = caller(INGEST, vehicle_ids=["V1"])

        assert device.post(V1)[0] == 201
        status, body = device.post(V2)
        assert (status, body["errors"][0]["code"]) == (400, "unknown_device")
        assert body["errors"][0]["message"] == "vehicleId must be the id of a registered vehicle"
        assert stored() == {"V1"}
        assert not Vehicle.objects.filter(pk="V2").exists()

    def test_one_foreign_reading_of_a_batch_is_refused_alone(self):
        status, body = caller(INGEST, vehicle_ids=["V1"]).post([V1, V2, V1])

        assert (status, body["accepted"], body["rejected"]) == (200, 2, 1)
        assert [(error["index"], error["field"]) for error in body["errors"]] == [(1, "vehicleId")]
        assert stored() == {"V1"}

    def test_nothing_of_an_atomic_batch_with_a_foreign_reading_is_stored(self):
        key = caller(INGEST, vehicle_ids=["V1"])

        assert key.post([V1, V2], "/v1/ingest?atomic=true")[0] == 400
        assert stored() == set()

    def test_meter_of_the_same_id_is_another_device(self):
        key = caller(INGEST, meter_ids=["V1"])

        assert key.post(V1)[0] == 400
        assert key.post({"meterId": "V1", "kwhConsumedAc": 1})[0] == 201

    def test_stream_is_held_to_it_line_by_line(self):
        token = make_key("test", [INGEST], vehicle_ids=["V1"]).token
        client = Client(headers={"host": "localhost", "authorization": f"Bearer {token}"})
        lines = "\n".join(json.dumps(reading) for reading in [V1, V2, V1])

        answer = client.generic("POST", "/v1/ingest", lines.encode(), "application/x-ndjson")

        assert (answer.json()["accepted"], answer.json()["rejected"]) == (2, 1)
        assert stored() == {"V1"}

    def test_key_of_a_site_reads_of_its_devices_alone(self, berlin):
        key = caller(READ, site=berlin)

        found = {
            path: key.get(path.format("1"))[0] == 200 and key.get(path.format("2"))[0] == 404
            for path in (
                "/v1/status/vehicle/V{}",
                "/v1/status/meter/M{}",
                "/v1/analytics/performance/V{}",
                "/v1/analytics/performance/V{}?window=1h",
                "/v1/analytics/performance/V{}/series",
                "/v1/analytics/performance/V{}/explain",
            )
        }

        assert all(found.values()), found
        assert [link["vehicleId"] for link in key.get("/v1/links")[1]["results"]] == ["V1"]
        assert key.get("/v1/analytics/fleet")[0] == 403

    def test_figure_in_the_cache_is_not_for_a_key_of_another_site(self, berlin):
        assert caller(READ).get("/v1/analytics/performance/V2")[0] == 200

        status, body = caller(READ, site=berlin).get("/v1/analytics/performance/V2")

        assert (status, body["message"]) == (404, "Vehicle not found")

    def test_key_of_a_site_links_its_devices_alone(self, berlin):
        key = caller(MANAGE, site=berlin)

        assert key.put("V2", "M1")[1]["message"] == "Vehicle not found"
        assert key.put("V1", "M2")[1]["message"] == "Meter not found"
        assert key.delete("/v1/links/V2")[1]["message"] == "No link in force"
        assert key.delete("/v1/links/V1")[0] == 200

    def test_device_that_comes_to_the_site_joins_within_half_a_minute(self, berlin, monkeypatch):
        monkeypatch.setattr(Keyring, "SITE_SECONDS", 0.0)
        key = caller(INGEST, site=berlin)
        assert key.post(V2)[0] == 400

        Vehicle.objects.filter(pk="V2").update(site=berlin)

        assert key.post(V2)[0] == 201


class TestLifetime:
    def test_revoked_key_opens_nothing_within_seconds(self, monkeypatch):
        made = make_key("test", [INGEST])
        device = Caller(made.token)
        assert device.post(V1)[0] == 201

        revoke(made.key)
        monkeypatch.setattr(Keyring, "LOOK_SECONDS", 0.0)

        assert device.post(V1)[0] == 401

    def test_key_is_good_until_it_expires(self, clock):
        device = caller(INGEST, expires_at=timezone.now() + timedelta(hours=1))
        assert device.post(V1)[0] == 201

        clock.shift(timedelta(hours=1))

        assert device.post(V1)[0] == 401

    def test_rotated_key_is_good_for_a_week_beside_its_successor(self, clock, monkeypatch):
        monkeypatch.setattr(Keyring, "LOOK_SECONDS", 0.0)
        old = make_key("test", [INGEST], vehicle_ids=["V1"])
        new = rotate(old.key)

        assert [Caller(key.token).post(V1)[0] for key in (old, new)] == [201, 201]
        assert Caller(new.token).post(V2)[0] == 400
        clock.shift(timedelta(days=7))
        assert [Caller(key.token).post(V1)[0] for key in (old, new)] == [401, 201]
        with pytest.raises(NotUsable):
            rotate(old.key)

    def test_known_key_costs_no_query(self, statements_sent):
        device = caller(READ)
        device.get("/v1/status/vehicle/V9")

        with statements_sent() as sent:
            device.get("/v1/status/vehicle/V9")

        assert sent == [2]  # of the status alone: its live state, its registration

    def test_its_use_is_noted_once_a_minute(self, monkeypatch):
        made = make_key("test", [INGEST])
        ring = Keyring()
        ring.look_up(made.token)
        ring._looked_at = ring._noted_at = -100.0

        ring.known(made.token)

        assert ApiKey.objects.get().last_used_at == timezone.now()

    def test_keys_that_were_seen_do_not_fill_memory(self, monkeypatch):
        monkeypatch.setattr(Keyring, "MOST", 2)
        ring = Keyring()
        for number in range(4):
            assert ring.look_up(make_key(str(number), [READ]).token)
        for number in range(100):
            assert ring.look_up(f"eie_{number}") is None

        assert len(ring._grants) == 2


class TestSecrets:
    def test_token_is_kept_nowhere(self):
        made = make_key("test", [INGEST])

        kept = ApiKey.objects.values().get()
        assert len(made.token.removeprefix(kept["prefix"] + "_")) == 43  # 256 bits
        assert made.token not in str(kept)
        assert made.token.split("_")[-1] not in str(kept)


class TestCommand:
    def run(self, *words: str) -> str:
        printed = StringIO()
        call_command("api_key", *words, stdout=printed, stderr=StringIO())
        return printed.getvalue().strip()

    def test_key_is_made_listed_rotated_and_revoked(self, berlin, monkeypatch):
        token = self.run("create", "gateway", "--scope", "ingest", "--site", "Berlin")
        prefix = "_".join(token.split("_")[:2])
        assert Caller(token).post(V1)[0] == 201
        assert f"{prefix}  gateway  ingest  site Berlin  never expires" in self.run("list")

        successor = self.run("rotate", prefix)
        assert Caller(successor).post(V1)[0] == 201
        self.run("revoke", prefix)
        monkeypatch.setattr(Keyring, "LOOK_SECONDS", 0.0)
        assert Caller(token).post(V1)[0] == 401

    def test_name_of_a_key_forges_no_line_of_the_list(self):
        make_key("good\neie_forged\x1b[2J", [READ])

        assert self.run("list").splitlines()[0].split("  ")[1] == "good?eie_forged?[2J"

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["create", "x", "--scope", "ingest", "--site", "Rome"], "No site"),
            (["create", "x", "--scope", "ingest", "--site", ""], "No site"),
            (["create", "x", "--scope", "everything"], "invalid choice"),
            (["create", "x"], "--scope"),
            (
                ["create", "x", "--scope", "ingest", "--vehicle", "a b"],
                "must be 1 to 64 characters",
            ),
            (["revoke", "eie_unknown"], "No key"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, words, message):
        with pytest.raises(CommandError, match=message):
            self.run(*words)

    def test_site_and_devices_exclude_each_other(self, berlin):
        words = ["create", "x", "--scope", "ingest", "--site", "Berlin", "--meter", "M1"]
        with pytest.raises(CommandError, match="not both"):
            self.run(*words)


def test_open_access_is_refused_but_on_loopback(settings, monkeypatch):
    settings.API_AUTH = "open"
    call_command("check", tags=["access"])

    monkeypatch.setenv("ENERGY_ENGINE_LAUNCHED_ON", "0.0.0.0")  # noqa: S104 -- that is what is refused
    with pytest.raises(CommandError, match="API_AUTH=open lets anyone"):
        call_command("check", tags=["access"])
    monkeypatch.delenv("ENERGY_ENGINE_LAUNCHED_ON")
    with pytest.raises(CommandError, match="API_AUTH=open lets anyone"):
        call_command("check", tags=["access"])
    settings.API_AUTH = "required"
    call_command("check", tags=["access"])


def test_meter_is_registered_by_a_key_for_all(db):
    assert caller(INGEST).post({"meterId": "M7", "kwhConsumedAc": 1})[0] == 201
    assert Meter.objects.filter(pk="M7").exists()


class TestKeysOverTheApi:
    def test_key_is_made_used_rotated_and_revoked(self, berlin, monkeypatch):
        monkeypatch.setattr(Keyring, "LOOK_SECONDS", 0.0)
        manager = caller(MANAGE)
        order = {"name": "gateway", "scopes": ["ingest"], "site": "Berlin"}
        status, made = manager.post(order, "/v1/keys")

        assert (status, made["reach"], made["site"]) == (201, "site", "Berlin")
        assert Caller(made["token"]).post(V1)[0] == 201
        path = f"/v1/keys/{made['prefix']}"
        assert Caller(manager.post({}, f"{path}/rotate")[1]["token"]).post(V1)[0] == 201
        assert manager.delete(path)[1]["revokedAt"] == "2026-07-15T12:00:00Z"
        assert Caller(made["token"]).post(V1)[0] == 401
        assert manager.post({}, f"{path}/rotate")[0] == 404
        listed = manager.get("/v1/keys")[1]["results"]
        assert [key["name"] for key in listed] == ["gateway", "gateway", "test"]
        assert "token" not in str(listed)

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"name": ""}, "name"),
            ({"scopes": []}, "scopes"),
            ({"scopes": ["all"]}, "scopes"),
            ({"site": "Rome"}, "site"),
            ({"site": "Berlin", "meterIds": ["M1"]}, "site"),
            ({"vehicleIds": ["V 1"]}, "vehicleIds"),
            ({"vehicleIds": []}, "meterIds"),
            ({"site": "Berlin", "meterIds": []}, "site"),
            ({"name": "two\nlines"}, "name"),
            ({"name": "line\n"}, "name"),
            ({"name": "\x1b[31mred"}, "name"),
            ({"expiresAt": "2026-07-15T12:00:00Z"}, "expiresAt"),
            ({"expiresAt": "9999-12-31T23:59:59-14:00"}, "expiresAt"),
            ({"expiresAt": "2027-01-01"}, "expiresAt"),
            ({"meterIDs": ["M1"]}, None),
        ],
    )
    def test_order_that_makes_no_sense_is_refused_by_its_field(self, berlin, wrong, field):
        order = {"name": "gateway", "scopes": ["ingest"]} | wrong
        status, body = caller(MANAGE).post(order, "/v1/keys")

        assert (status, body["errors"][0]["field"]) == (400, field)
        assert ApiKey.objects.count() == 1

    def test_nobody_makes_a_key_that_opens_more_than_his_own(self, berlin):
        order = {"name": "more", "scopes": ["manage"]}

        for key in (caller(MANAGE, site=berlin), caller(INGEST), caller(READ)):
            assert key.post(order, "/v1/keys")[0] == 403
            assert key.get("/v1/keys")[0] == 403
        assert ApiKey.objects.filter(name="more").count() == 0


class TestLimits:
    def test_request_over_the_limit_of_its_key_waits_for_the_next_minute(self, settings, clock):
        settings.LIMIT_REQUESTS_PER_KEY = 3
        device, other = caller(INGEST), caller(INGEST)
        clock.shift(timedelta(seconds=15))

        answers = [device.post(V1) for _ in range(5)]

        assert [status for status, _ in answers] == [201, 201, 201, 429, 429]
        assert (
            answers[-1][1]["message"] == "Limit of 3 requests per minute reached; see Retry-After"
        )
        assert answers[-1][1]["code"] == "throttled"
        assert other.post(V1)[0] == 201
        clock.shift(timedelta(seconds=45))
        assert device.post(V1)[0] == 201

    def test_answer_says_how_long_to_wait(self, settings, clock):
        settings.LIMIT_REQUESTS_PER_ADDRESS = 1
        clock.shift(timedelta(seconds=15))
        client = Client(headers={"host": "localhost"})

        assert client.get("/v1/links").status_code == 401
        answer = client.get("/v1/links")

        assert (answer.status_code, answer["Retry-After"]) == (429, "45")

    def test_readings_over_the_limit_are_refused_together(self, settings):
        settings.LIMIT_READINGS_PER_KEY = 5
        device = caller(INGEST)

        assert device.post([V1, V1, V1])[0] == 201
        status, body = device.post([V2, V2, V2])
        assert (status, body["message"]) == (
            429,
            "Limit of 5 readings per minute reached; see Retry-After",
        )
        assert device.post([V1, V1])[0] == 201
        assert device.post(V1)[0] == 429
        assert stored() == {"V1"}

    def test_open_api_has_no_limits(self, settings):
        settings.API_AUTH = "open"
        settings.LIMIT_READINGS_PER_KEY = settings.LIMIT_REQUESTS_PER_ADDRESS = 1

        assert [Caller(None).post([V1, V1])[0] for _ in range(3)] == [201, 201, 201]

    def test_processes_share_a_limit(self, settings):
        processes = [Budgets() for _ in range(3)]
        taken = 0
        for _ in range(200):
            for process in processes:
                with suppress(limits.LimitExceeded):
                    process.take("shared", "requests", 1_000, 2)
                    taken += 2

        # At most a hundredth of it, 10, is left with each process.
        assert 1_000 - 3 * 10 <= taken <= 1_000

    def test_requests_at_once_take_one_lease_and_leave_the_rest_to_other_processes(self):
        first, second = Budgets(), Budgets()
        barrier = Barrier(20)

        def take(_: int) -> None:
            barrier.wait()
            first.take("crowd", "requests", 1_000)

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(take, range(20)))

        # 20 taken, in leases of 10 each: all but those are left.
        second.take("crowd", "requests", 1_000, 980)

    def test_lease_of_a_minute_that_has_ended_is_not_of_the_next_one(self, clock):
        budget = Budgets()

        def count_slowly(_: str, amount: int) -> int:
            clock.shift(timedelta(minutes=1))
            budget._begin_minute()
            return amount

        with mock.patch.object(budget, "_count", count_slowly), suppress(limits.LimitExceeded):
            budget.take("late", "requests", 1_000)

        assert budget._left.get("late", 0) == 0

    def test_parallel_requests_at_the_limit_do_not_pass_it(self, settings):
        budget = Budgets()
        passed = []

        def take(_: int) -> None:
            with suppress(limits.LimitExceeded):
                budget.take("parallel", "requests", 50)
                passed.append(1)

        with ThreadPoolExecutor(20) as pool:
            list(pool.map(take, range(100)))

        assert len(passed) <= 50

    def test_each_process_counts_for_itself_while_redis_is_away(self, settings, redis_is_away):
        settings.LIMIT_REQUESTS_PER_KEY = 2
        device = caller(INGEST)

        assert [device.post(V1)[0] for _ in range(3)] == [201, 201, 429]

    def test_guessing_is_given_up_before_the_database_is_asked(self, settings, statements_sent):
        settings.LIMIT_WRONG_KEYS_PER_ADDRESS = 3
        good = caller(READ)
        good.get("/v1/links")

        wrong = [Caller(f"eie_{number}").get("/v1/links")[0] for number in range(5)]
        with statements_sent() as sent:
            Caller("eie_6").get("/v1/links")

        assert wrong == [401, 401, 401, 429, 429]
        assert sent == [0]
        assert good.get("/v1/links")[0] == 200

    @pytest.mark.parametrize(
        ("remote", "forwarded", "address"),
        [
            ("203.0.113.5", "198.51.100.1", "203.0.113.5"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "1.2.3.4, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "nonsense", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
            ("10.0.0.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1", "198.51.100.1,", "10.0.0.1"),
            ("10.0.0.1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("10.0.0.1", "[2001:db8:1:2:3::4]:4711", "2001:db8:1:2::/64"),
            ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
            ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("2001:db8:1:2:3::5", "198.51.100.1", "2001:db8:1:2::/64"),
            ("", "198.51.100.1", ""),
        ],
    )
    def test_address_is_what_trusted_proxies_say(self, settings, remote, forwarded, address):
        settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/8")]

        meta = {"REMOTE_ADDR": remote, "HTTP_X_FORWARDED_FOR": forwarded}
        assert client_address(meta) == address

    def test_forged_header_changes_nothing_without_a_proxy(self, settings):
        meta = {"REMOTE_ADDR": "203.0.113.5", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}
        assert client_address(meta) == "203.0.113.5"
