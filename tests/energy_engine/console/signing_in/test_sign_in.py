"""Signing in: who guesses has to wait, and the second step."""

import subprocess
import sys
import time
from http import HTTPStatus
from ipaddress import ip_network

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from energy_engine import environment
from energy_engine.console.signing_in import one_time_codes
from energy_engine.console.words.changes import steps_of
from energy_engine.models import FailedSignIn
from fleet.access.limits import budgets
from tests.people import member_of, person, shown, signed_in, superuser, told

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock", "fast_hashes")]

LOGIN, CODE, TWO_STEPS = "/admin/login/", "/admin/login/code", "/admin/two-steps"
LOCK_OUTS = "/admin/energy_engine/failedsignin/"
RIGHT = "correct-horse-battery"


@pytest.fixture
def fast_hashes(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _fresh_budgets():
    budgets.__init__()


@pytest.fixture
def anna():
    user = person("Analyst", "anna")
    user.set_password(RIGHT)
    user.save()
    return user


@pytest.fixture
def app(anna):
    """Anna's app, for which she was asked already."""
    device = TOTPDevice.objects.create(user=anna, name="app")
    one_time_codes.new_recovery_codes(anna)
    return device


def sign_in(password: str, name: str = "anna", address: str = "203.0.113.5", **headers: str):
    return Client(REMOTE_ADDR=address, headers=headers).post(
        f"{LOGIN}?next=/admin/", {"username": name, "password": password}
    )


def code_of(device: TOTPDevice, steps: int = 0) -> str:
    totp = TOTP(device.bin_key)
    totp.time = time.time() + 30 * steps
    return f"{totp.token():06}"


def is_signed_in(client: Client) -> bool:
    return client.get("/admin/").status_code == HTTPStatus.OK


def fail(times: int, **how: str) -> list[int]:
    return [sign_in("wrong", **how).status_code for _ in range(times)]


def metrics() -> str:
    return Client(headers={"host": "localhost"}).get("/metrics").content.decode()


class TestGuessing:
    def test_fifth_wrong_password_shuts_the_door_for_a_quarter_of_an_hour(self, anna, clock):
        assert fail(5) == [*[HTTPStatus.OK] * 4, HTTPStatus.TOO_MANY_REQUESTS]

        refused = sign_in(RIGHT)
        assert refused.status_code == HTTPStatus.TOO_MANY_REQUESTS
        assert refused["Retry-After"] == "900"
        assert "Try again in 15 minutes" in " ".join(refused.content.decode().split())

        clock.shift(899)
        assert sign_in(RIGHT).status_code == HTTPStatus.TOO_MANY_REQUESTS
        clock.shift(2)
        assert sign_in(RIGHT).status_code == HTTPStatus.FOUND

    def test_trying_on_makes_it_no_longer(self, anna, clock):
        fail(5)
        clock.shift(600)
        fail(3)
        clock.shift(301)

        assert sign_in(RIGHT).status_code == HTTPStatus.FOUND

    def test_right_password_before_that_forgets_the_wrong_ones(self, anna):
        fail(4)
        assert sign_in(RIGHT).status_code == HTTPStatus.FOUND

        assert fail(4) == [HTTPStatus.OK] * 4

    def test_name_that_nobody_has_is_treated_alike(self):
        assert fail(5, name="nobody")[-1] == HTTPStatus.TOO_MANY_REQUESTS

    def test_others_and_elsewhere_are_not_locked_out_with_it(self, anna):
        fail(5)

        assert sign_in(RIGHT, address="203.0.113.6").status_code == HTTPStatus.FOUND
        assert fail(1, name="bert") == [HTTPStatus.OK]

    def test_forged_address_is_no_other_address(self, anna):
        for number in range(5):
            fail(1, **{"x-forwarded-for": f"198.51.100.{number}"})

        refused = sign_in(RIGHT, **{"x-forwarded-for": "198.51.100.77"})
        assert refused.status_code == HTTPStatus.TOO_MANY_REQUESTS

    def test_address_behind_a_trusted_proxy_is_its_own(self, anna, settings):
        settings.TRUSTED_PROXIES = [ip_network("203.0.113.5")]
        for _ in range(5):
            fail(1, **{"x-forwarded-for": "1.2.3.4, 198.51.100.1"})

        behind = {"x-forwarded-for": "1.2.3.4, 198.51.100.2"}
        assert sign_in(RIGHT, **behind).status_code == HTTPStatus.FOUND

    @pytest.mark.parametrize("address", ["", "unix", "198.51.100.1, evil"])
    def test_address_that_is_none_locks_out_too(self, anna, address):
        assert fail(5, address=address)[-1] == HTTPStatus.TOO_MANY_REQUESTS

    def test_failures_are_shown_to_prometheus_while_they_count(self, anna, clock):
        fail(3)
        fail(1, name="bert")
        assert "\nengine_failed_sign_ins 4.0\n" in metrics()
        clock.shift(settings.AXES_COOLOFF_TIME)
        assert "\nengine_failed_sign_ins 0.0\n" in metrics()

    def test_network_of_ipv6_is_one_address_and_not_every_one(self, anna):
        fail(3, address="2001:db8:0:1::5")
        assert fail(2, address="2001:db8:0:1::6")[-1] == HTTPStatus.TOO_MANY_REQUESTS
        assert sign_in(RIGHT, address="2001:db8:0:2::5").status_code == HTTPStatus.FOUND

    def test_many_addresses_at_one_name_lock_it_out_everywhere(self, anna, clock):
        for number in range(50):
            fail(1, address=f"198.51.100.{number}")
            clock.shift(6)  # below the limit of a minute

        assert sign_in(RIGHT, address="192.0.2.1").status_code == HTTPStatus.TOO_MANY_REQUESTS
        assert sign_in("wrong", name="bert", address="192.0.2.1").status_code == HTTPStatus.OK

    def test_many_names_from_one_address_lock_it_out(self, anna, clock):
        for number in range(50):
            fail(1, name=f"person-{number}")
            clock.shift(6)

        assert sign_in(RIGHT).status_code == HTTPStatus.TOO_MANY_REQUESTS
        assert sign_in(RIGHT, address="192.0.2.1").status_code == HTTPStatus.FOUND

    def test_flood_is_stopped_before_a_password_is_looked_at(self, anna, monkeypatch):
        looked_at = []
        monkeypatch.setattr(User, "check_password", lambda self, raw: looked_at.append(raw))
        # As if all were on their way before the first had failed.
        monkeypatch.setattr(
            "energy_engine.console.signing_in.lock_outs.Failures.get_failures", lambda *_: 0
        )
        answers = fail(30)

        assert len(looked_at) == 20
        assert answers[20:] == [HTTPStatus.TOO_MANY_REQUESTS] * 10

    @pytest.mark.usefixtures("redis_is_away")
    def test_door_is_the_same_with_redis_away(self, anna):
        assert sign_in(RIGHT).status_code == HTTPStatus.FOUND
        assert fail(5)[-1] == HTTPStatus.TOO_MANY_REQUESTS
        assert sign_in(RIGHT).status_code == HTTPStatus.TOO_MANY_REQUESTS

    def test_nothing_of_a_password_is_kept(self, anna):
        fail(1, name="anna")
        kept = FailedSignIn.objects.get()

        assert "wrong" not in kept.post_data + kept.get_data
        assert (kept.username, kept.ip_address) == ("anna", "203.0.113.5")

    def test_requests_of_devices_know_nothing_of_it(self, api, statements_sent):
        reading = {"meterId": "M1", "kwhConsumedAc": 1.0}
        api.post("/v1/ingest", reading)
        with statements_sent() as sent:
            api.post("/v1/ingest", reading)

        assert sent[0] == 1  # what writes it


class TestDevicesMeanwhile:
    def test_others_have_their_turn_while_a_password_is_reckoned_with(self):
        """In a process of its own: gevent has to come before all else, as in a worker."""
        turns = subprocess.run(
            [
                *(sys.executable, "-c"),
                "from gevent import monkey; monkey.patch_all()\n"
                "import gevent\n"
                "from energy_engine.console.signing_in.passwords import Hasher\n"
                "turns = []\n"
                "def others():\n"
                "    while True:\n"
                "        turns.append(gevent.sleep(0.001))\n"
                "gevent.spawn(others)\n"
                "encoded = Hasher().encode('password', 'salt')\n"
                "print(len(turns), encoded.split('$')[:3])\n",
            ],
            cwd=environment.ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split(maxsplit=1)

        assert int(turns[0]) > 1
        assert turns[1].startswith("['pbkdf2_sha256', '1000000', 'salt']")


class TestLockOuts:
    def test_list_says_who_is_locked_out_and_how(self, anna, clock):
        fail(5)
        fail(2, name="bert", address="192.0.2.1")
        page = shown(superuser(), LOCK_OUTS)

        assert page.count("locked out") == 1
        assert "this name from this address" in page
        assert "2 of 5" in page
        clock.shift(901)
        assert "anna" not in shown(superuser("root"), LOCK_OUTS)

    def test_operator_frees_a_name_and_the_audit_log_knows(self, anna):
        fail(5)
        row = FailedSignIn.objects.get()
        operator = member_of("Operator")
        answer = operator.post(
            LOCK_OUTS, {"action": "free", "_selected_action": row.pk}, follow=True
        )

        assert "1 user name unlocked: anna." in told(answer)[0]
        assert sign_in(RIGHT).status_code == HTTPStatus.FOUND
        entry = LogEntry.objects.get()
        assert entry.object_repr == "anna from 203.0.113.5"
        assert steps_of(entry.change_message) == ["Unlocked: failed sign-ins cleared"]

    def test_analyst_sees_it_and_frees_nobody(self, anna):
        fail(5)
        analyst = member_of("Analyst")
        analyst.post(
            LOCK_OUTS, {"action": "free", "_selected_action": FailedSignIn.objects.get().pk}
        )

        assert "locked out" in shown(analyst, LOCK_OUTS)
        assert FailedSignIn.objects.count() == 1


class TestSecondStep:
    def enter(self, password: str = RIGHT, **how: str) -> Client:
        client = Client(**how)
        answer = client.post(
            f"{LOGIN}?next=/admin/fleet/meter/", {"username": "anna", "password": password}
        )
        assert answer["Location"] == f"{CODE}?next=%2Fadmin%2Ffleet%2Fmeter%2F"
        return client

    def test_password_alone_opens_nothing(self, app):
        client = self.enter()

        assert not is_signed_in(client)
        assert client.get(TWO_STEPS).status_code == HTTPStatus.FOUND

    @pytest.mark.parametrize("steps", [-1, 0, 1])
    def test_code_of_now_or_beside_it_opens_the_page_that_was_asked_for(self, app, steps):
        client = self.enter()
        answer = client.post(f"{CODE}?next=/admin/fleet/meter/", {"code": code_of(app, steps)})

        assert answer["Location"] == "/admin/fleet/meter/"
        assert is_signed_in(client)

    @pytest.mark.parametrize("steps", [-2, 2])
    def test_code_further_away_does_not(self, app, steps):
        client = self.enter()
        answer = client.post(CODE, {"code": code_of(app, steps)})

        assert "Wrong, expired or already used code" in answer.content.decode()
        assert not is_signed_in(client)

    def test_code_is_good_once(self, app):
        code = code_of(app)
        assert self.enter().post(CODE, {"code": code}).status_code == HTTPStatus.FOUND

        again = self.enter()
        again.post(CODE, {"code": code})
        assert not is_signed_in(again)

    def test_after_a_wrong_code_the_next_has_to_wait(self, app, clock):
        client = self.enter()
        client.post(CODE, {"code": "000000"})
        answer = client.post(CODE, {"code": code_of(app)})
        assert "Wrong code. Try again in 1 second" in answer.content.decode()

        clock.shift(1)
        assert client.post(CODE, {"code": code_of(app)}).status_code == HTTPStatus.FOUND

    def test_wrong_codes_lock_out_like_wrong_passwords(self, app, clock):
        client = self.enter(REMOTE_ADDR="203.0.113.5")
        for _ in range(4):
            assert client.post(CODE, {"code": "000000"}).status_code == HTTPStatus.OK
            clock.shift(20)

        answer = client.post(CODE, {"code": "000000"})
        assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
        assert sign_in(RIGHT).status_code == HTTPStatus.TOO_MANY_REQUESTS
        # What the password had opened is shut as well.
        assert client.post(CODE, {"code": code_of(app)})["Location"] == LOGIN

    def test_code_without_the_first_step_or_long_after_it_is_not_looked_at(self, app, clock):
        assert Client().post(CODE, {"code": code_of(app)})["Location"] == LOGIN
        client = self.enter()
        clock.shift(301)

        assert client.post(CODE, {"code": code_of(app)})["Location"] == LOGIN

    def test_new_password_ends_a_first_step_with_the_old_one(self, app, anna):
        client = self.enter()
        anna.set_password("another-horse")
        anna.save()

        assert client.post(CODE, {"code": code_of(app)})["Location"] == LOGIN

    def test_recovery_code_is_good_once_and_kept_as_a_digest(self, app, anna):
        code = one_time_codes.new_recovery_codes(anna)[3]
        assert self.enter().post(CODE, {"code": code}).status_code == HTTPStatus.FOUND

        assert one_time_codes.recovery_codes_left(anna) == 9
        again = self.enter()
        again.post(CODE, {"code": code})
        assert not is_signed_in(again)
        kept = StaticToken.objects.values_list("token", flat=True)
        assert code.replace("-", "") not in kept


class TestSettingUp:
    def set_up(self, client: Client, user: User) -> str:
        page = client.post(TWO_STEPS, {"step": "begin"}).content.decode()
        begun = TOTPDevice.objects.get(user=user)
        assert "<svg" in page
        assert begun.config_url.partition("secret=")[2].partition("&")[0] in page
        assert not begun.confirmed
        return client.post(TWO_STEPS, {"step": "confirm", "code": code_of(begun)}).content.decode()

    def test_it_counts_once_a_code_was_shown_and_then_its_secret_never_is(self, anna):
        client = signed_in(anna)
        client.post(TWO_STEPS, {"step": "begin"})
        assert sign_in(RIGHT)["Location"] == "/admin/"

        page = self.set_up(client, anna)
        assert page.count("<li>") - page.count("<li><") >= one_time_codes.RECOVERY_CODES
        assert sign_in(RIGHT)["Location"].startswith(CODE)
        assert "<svg" not in client.post(TWO_STEPS, {"step": "begin"}).content.decode()
        assert is_signed_in(client)

    def test_wrong_code_switches_nothing_on(self, anna):
        client = signed_in(anna)
        client.post(TWO_STEPS, {"step": "begin"})
        answer = client.post(TWO_STEPS, {"step": "confirm", "code": "000000"})

        assert "start over" in answer.content.decode()
        assert one_time_codes.app_of(anna) is None

    def test_sessions_that_a_password_alone_has_opened_end(self, anna):
        elsewhere, here = signed_in(anna), signed_in(anna)
        self.set_up(here, anna)

        assert is_signed_in(here)
        assert not is_signed_in(elsewhere)

    def test_switching_off_and_new_codes_take_a_code(self, anna, app, clock):
        client = signed_in(anna)
        for step in ("off", "codes"):
            clock.shift(60)
            client.post(TWO_STEPS, {"step": step, "code": "000000"})
        assert one_time_codes.app_of(anna) is not None
        assert one_time_codes.recovery_codes_left(anna) == 10

        clock.shift(60)
        client.post(TWO_STEPS, {"step": "off", "code": code_of(app)})
        assert one_time_codes.app_of(anna) is None
        entry = LogEntry.objects.get()
        assert steps_of(entry.change_message) == ["Two-factor authentication: on → off"]

    def test_required_leads_everybody_to_it_first(self, anna, settings):
        settings.CONSOLE_TOTP = "required"
        client = signed_in(anna)
        for path in ("", "fleet/vehicle/", "overview", "fleet/vehicle/csv"):
            assert client.get(f"/admin/{path}")["Location"] == TWO_STEPS, path

        assert "Two-factor authentication is required here" in shown(client, TWO_STEPS)
        self.set_up(client, anna)
        assert is_signed_in(client)

    def test_where_it_is_required_nobody_switches_it_off(self, anna, app, settings):
        settings.CONSOLE_TOTP = "required"
        client = signed_in(anna)
        client.post(TWO_STEPS, {"step": "off", "code": code_of(app)})

        assert one_time_codes.app_of(anna) is not None


class TestReset:
    def reset(self, client: Client, user: User):
        return client.post(f"/admin/auth/user/{user.pk}/reset-two-steps", follow=True)

    def path(self, user: User) -> str:
        return f"/admin/auth/user/{user.pk}/change/"

    def test_operator_resets_an_analyst_who_is_signed_out(self, anna, app):
        annas = signed_in(anna)
        operator = member_of("Operator")
        [link] = {
            part.split('"')[0]
            for part in shown(operator, self.path(anna)).split('href="')[1:]
            if "reset" in part.split('"')[0]
        }
        assert "signed out everywhere" in shown(operator, link)
        operator.post(link)

        assert one_time_codes.app_of(anna) is None
        assert one_time_codes.recovery_codes_left(anna) == 0
        assert not is_signed_in(annas)
        entry = LogEntry.objects.get()
        assert (entry.object_repr, entry.user.username) == ("anna", "operator")
        assert steps_of(entry.change_message) == ["Two-factor authentication: on → off"]

    @pytest.mark.parametrize("role", ["Analyst", "Fleet manager"])
    def test_others_reset_nobody(self, anna, app, role):
        client = signed_in(person(role, "other"))
        link = f"/admin/auth/user/{anna.pk}/reset-two-steps"
        client.post(link)

        assert "reset" not in shown(client, self.path(anna))
        assert one_time_codes.app_of(anna) is not None

    def test_nobody_resets_who_may_do_more_and_nobody_himself(self, settings):
        boss = User.objects.create_superuser("boss")
        TOTPDevice.objects.create(user=boss, name="app")
        operator = member_of("Operator")

        assert "reset" not in shown(operator, self.path(boss))
        assert "reset" not in shown(signed_in(boss), self.path(boss))

    def test_command_helps_the_only_superuser(self, anna, app, capsys):
        call_command("reset_two_steps", "anna")

        assert capsys.readouterr().out == "Two-factor authentication is off for anna\n"
        assert one_time_codes.app_of(anna) is None
        with pytest.raises(CommandError, match="not set up two-factor authentication"):
            call_command("reset_two_steps", "anna")
        with pytest.raises(CommandError, match="no user nobody"):
            call_command("reset_two_steps", "nobody")

    def test_no_page_shows_a_secret(self, anna, app):
        boss = superuser()
        for path in ("otp_totp/totpdevice/", "otp_static/staticdevice/"):
            assert boss.get(f"/admin/{path}").status_code == HTTPStatus.NOT_FOUND
        assert app.key not in shown(boss, self.path(anna))


class TestSessions:
    def test_session_from_before_a_sign_in_is_not_the_one_after(self, anna):
        client = Client()
        client.cookies["sessionid"] = "given-by-somebody-else-0123456789"
        client.post(LOGIN, {"username": "anna", "password": RIGHT})

        assert client.cookies["sessionid"].value != "given-by-somebody-else-0123456789"
        assert is_signed_in(client)
        attacker = Client()
        attacker.cookies["sessionid"] = "given-by-somebody-else-0123456789"
        assert not is_signed_in(attacker)

    def test_each_of_two_steps_begins_a_session_of_its_own(self, anna, app):
        client, names = Client(), []
        client.post(LOGIN, {"username": "anna", "password": RIGHT})
        names.append(client.cookies["sessionid"].value)
        client.post(CODE, {"code": code_of(app)})
        names.append(client.cookies["sessionid"].value)

        assert names[0] != names[1]
        assert not Session.objects.filter(session_key=names[0]).exists()

    def test_new_password_ends_sessions_elsewhere(self, anna):
        here, elsewhere = signed_in(anna), signed_in(anna)
        here.post(
            "/admin/password_change/",
            {"old_password": RIGHT, "new_password1": "new-horse-9", "new_password2": "new-horse-9"},
        )

        assert is_signed_in(here)
        assert not is_signed_in(elsewhere)

    def test_login_ends_after_so_many_hours(self, anna, settings, clock):
        client = signed_in(anna)
        clock.shift(settings.SESSION_COOKIE_AGE - 1)
        assert is_signed_in(client)

        clock.shift(2)
        assert not is_signed_in(client)

    @pytest.mark.parametrize(
        "next_page",
        [
            "https://evil.example/",
            "//evil.example/",
            "/\\evil.example",
            "javascript:alert(1)",
            "https:evil.example",
        ],
    )
    def test_sign_in_leads_to_no_other_host(self, anna, app, next_page):
        client = Client()
        answer = client.post(f"{LOGIN}?next={next_page}", {"username": "anna", "password": RIGHT})
        answer = client.post(answer["Location"], {"code": code_of(app)})

        assert answer["Location"] == "/admin/"
