"""Who knocks at the console, and by which ways nobody gets in."""

import csv
import re
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote as admin_quote
from django.contrib.auth.models import Group, User
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import reverse
from unfold.settings import CONFIG_DEFAULTS

from analytics.alerting.faults import acknowledge
from analytics.models import Fault, Webhook
from energy_engine import environment
from energy_engine.console import content_policy
from energy_engine.console.content_policy import HEADER
from energy_engine.models import FailedSignIn
from fleet.access.issuing import make_key
from fleet.models import Meter, Scope, Site, Vehicle
from tests.conftest import at
from tests.factories import LinkFactory, MeterFactory, SiteFactory, VehicleFactory
from tests.people import NO_DEFAULTS, member_of, person, superuser

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

SITE = {"name": "Depot", "time_zone": "UTC", "currency": "EUR", **NO_DEFAULTS}
HTTPS = {
    "SECURE_COOKIES": "true",
    "SECRET_KEY": "xS4kq-9Lw2_vT7bN1mZc8RfYg3HjUe5DaPoIiKtQsWlBnMvCx6",
    "DATABASE_URL": "postgresql://engine@localhost/engine",
}


def in_production(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program as in production: with what is needed to start, and nothing else."""
    given = {name: value for name, value in HTTPS.items() if name != "SECURE_COOKIES"}
    return subprocess.run(
        [sys.executable, *argv],
        cwd=environment.ROOT,
        env={"DJANGO_SETTINGS_MODULE": "energy_engine.settings", **given},
        capture_output=True,
        text=True,
    )


class TestHttps:
    def test_django_finds_nothing_to_warn_of_in_production(self):
        checked = in_production("manage.py", "check", "--deploy", "--fail-level", "WARNING")

        assert (checked.returncode, checked.stderr) == (0, "")
        assert "no issues" in checked.stdout

    def test_cookies_are_for_this_host_over_https_alone(self):
        shown = in_production(
            "-c",
            "from django.conf import settings as s;"
            "print(s.SESSION_COOKIE_NAME, s.SESSION_COOKIE_SECURE, s.SESSION_COOKIE_HTTPONLY,"
            "s.CSRF_COOKIE_NAME, s.CSRF_COOKIE_SECURE, s.CSRF_COOKIE_HTTPONLY,"
            "s.SESSION_COOKIE_DOMAIN, s.SESSION_COOKIE_PATH)",
        )

        assert shown.stdout.split() == [
            *("__Host-session", "True", "True"),
            *("__Host-csrf", "True", "True", "None", "/"),
        ]

    @pytest.fixture
    def https_only(self, settings):
        settings.SECURE_SSL_REDIRECT = True
        settings.SECURE_HSTS_SECONDS = 31_536_000

    @pytest.mark.usefixtures("https_only")
    def test_console_leads_from_http_to_https(self):
        answer = Client().get("/admin/login/?next=/admin/")

        assert answer.status_code == HTTPStatus.MOVED_PERMANENTLY
        assert answer["Location"] == "https://testserver/admin/login/?next=/admin/"

    @pytest.mark.usefixtures("https_only")
    def test_devices_and_probes_are_answered_where_they_ask(self):
        reading = {"meterId": "M1", "kwhConsumedAc": 1.0}
        stored = Client().post("/v1/ingest", reading, content_type="application/json")

        assert stored.status_code == HTTPStatus.CREATED
        assert Client().get("/health/live").status_code == HTTPStatus.OK
        assert Client().get("/metrics").status_code == HTTPStatus.OK

    @pytest.mark.usefixtures("https_only")
    @pytest.mark.parametrize(("is_secure", "told"), [(True, True), (False, False)])
    def test_browser_is_told_to_come_back_over_https_where_it_came_so(self, is_secure, told):
        answer = Client().get("/v1/docs", secure=is_secure)

        assert ("Strict-Transport-Security" in answer) == told

    @pytest.mark.usefixtures("https_only")
    def test_what_a_stranger_says_of_https_is_not_believed(self):
        answer = Client(headers={"x-forwarded-proto": "https"}).get("/admin/login/")

        assert answer.status_code == HTTPStatus.MOVED_PERMANENTLY


class TestContentPolicy:
    @pytest.mark.parametrize(
        ("path", "policy"),
        [
            ("/", content_policy.DATA),
            ("/v1/schema", content_policy.DATA),
            ("/health/live", content_policy.DATA),
            ("/nowhere", content_policy.DATA),
            ("/v1/docs", content_policy.API_GUIDE),
            ("/api/v1/docs", content_policy.API_GUIDE),
            ("/admin/login/", content_policy.CONSOLE),
            ("/admin/nowhere", content_policy.CONSOLE),
        ],
    )
    def test_each_answer_has_its_own(self, path, policy):
        assert Client().get(path)[HEADER] == policy

    @pytest.mark.parametrize("policy", [content_policy.CONSOLE, content_policy.API_GUIDE])
    def test_no_script_in_the_text_of_a_page_runs(self, policy):
        scripts = re.search(r"script-src ([^;]+)", policy)[1]

        assert "'unsafe-inline'" not in scripts
        assert "*" not in policy
        assert {"base-uri 'none'", "frame-ancestors 'none'"} <= set(policy.split("; "))

    @pytest.mark.parametrize(
        "path",
        ["/admin/", "/admin/fleet/vehicle/", "/admin/auth/user/", "/admin/fleet/apikey/add/"],
    )
    def test_pages_have_no_script_and_no_style_in_their_text(self, path):
        page = superuser().get(path).content.decode()
        scripts = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", page)

        assert [tag for tag in scripts if 'type="application/json"' not in tag] == []
        assert "<style" not in page
        assert re.findall(r"<[^>]+\son\w+=", page) == []

    def test_colours_of_unfold_are_all_there(self):
        sheet = Path(finders.find("console/colours.css")).read_text()
        names = {
            f"--color-{name}-{weight}"
            for name, weights in CONFIG_DEFAULTS["COLORS"].items()
            for weight in weights
        }

        assert names == set(re.findall(r"^\s+(--[\w-]+):", sheet, re.MULTILINE))


class TestFrames:
    def test_no_page_can_be_put_into_another(self):
        answer = member_of("Analyst").get("/admin/")

        assert answer["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in answer[HEADER]


class TestForgedRequests:
    ADD_SITE = "/admin/fleet/site/add/"

    @pytest.fixture
    def manager(self) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(person("Fleet manager"))
        return client

    def token(self, client: Client) -> dict[str, str]:
        page = client.get(self.ADD_SITE).content.decode()
        return {"csrfmiddlewaretoken": re.search(r'csrfmiddlewaretoken" value="(\w+)"', page)[1]}

    def test_form_without_its_token_changes_nothing(self, manager):
        refused = manager.post(self.ADD_SITE, SITE)

        assert refused.status_code == HTTPStatus.FORBIDDEN
        assert "was not sent from a page of the console" in refused.content.decode()
        assert not Site.objects.exists()

    def test_form_of_another_site_changes_nothing_even_with_a_token(self, manager):
        form = SITE | self.token(manager)
        foreign = manager.post(self.ADD_SITE, form, headers={"origin": "https://evil.example"})

        assert foreign.status_code == HTTPStatus.FORBIDDEN
        assert not Site.objects.exists()

    def test_form_of_the_console_does(self, manager):
        form = SITE | self.token(manager)
        manager.post(self.ADD_SITE, form, headers={"origin": "http://testserver"})

        assert Site.objects.get().name == "Depot"

    @pytest.mark.parametrize("path", ["login/", "logout/", "two-steps", "password_change/"])
    def test_no_door_takes_one_without_its_token(self, manager, path):
        assert manager.post(f"/admin/{path}", {}).status_code == HTTPStatus.FORBIDDEN
        assert manager.get("/admin/").status_code == HTTPStatus.OK

    def test_session_opens_nothing_of_the_api(self, settings):
        settings.API_AUTH = "required"
        client = superuser()

        assert client.get("/v1/analytics/fleet").status_code == HTTPStatus.UNAUTHORIZED
        answer = client.put("/v1/links", {"vehicleId": "V", "meterId": "M"}, "application/json")
        assert answer.status_code == HTTPStatus.UNAUTHORIZED


class TestNamesThatAreMore:
    SCRIPT = "<script>alert(1)</script>"
    FORMULA = "=cmd|'/c calc'!A1"

    @pytest.fixture
    def everything(self) -> Client:
        """A superuser, and one of each that somebody may name, with a script for its name."""
        site = SiteFactory(name=self.SCRIPT)
        link = LinkFactory()
        Vehicle.objects.update(site=site)
        Meter.objects.update(site=site)
        fault = Fault.objects.create(
            kind="silent",
            vehicle_id=link.vehicle_id,
            site=site,
            opened_at=at("10:00"),
            value=60,
            threshold=15,
        )
        acknowledge(fault.pk, None, self.SCRIPT)
        make_key(self.SCRIPT, [Scope.READ], site=site)
        Webhook.objects.create(url=f"https://example.com/?{self.SCRIPT}", secret="whsec_x")
        group = Group.objects.create(name=self.SCRIPT)
        user = User.objects.create_user(
            f"u{self.SCRIPT}", first_name=self.SCRIPT, last_name=self.SCRIPT, is_staff=True
        )
        user.groups.add(group)
        FailedSignIn.objects.create(
            username=self.SCRIPT,
            user_agent=self.SCRIPT,
            ip_address="192.0.2.1",
            failures_since_start=1,
        )
        boss = superuser(f"boss{self.SCRIPT}")
        renamed = SITE | {"name": f"2{self.SCRIPT}"}
        boss.post(reverse("admin:fleet_site_change", args=[site.pk]), renamed)
        assert LogEntry.objects.exists()
        return boss

    def test_no_page_takes_them_for_its_own(self, everything):
        pages = ["/admin/", f"/admin/search/?s={quote(self.SCRIPT)}", "/admin/two-steps"]
        for model in admin.site._registry:
            if model._meta.model_name == "procrastinatejob":
                continue
            listed = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
            pages += [listed, f"{listed}?q={quote(self.SCRIPT)}"]
            pages += [
                reverse(
                    f"admin:{model._meta.app_label}_{model._meta.model_name}_change",
                    args=[admin_quote(row.pk)],
                )
                for row in model.objects.all()[:3]
            ]

        met = 0
        for path in pages:
            answer = everything.get(path, follow=True)
            page = answer.content.decode()
            assert answer.status_code == HTTPStatus.OK, path
            assert self.SCRIPT not in page, path
            met += "&lt;script&gt;alert(1)" in page
        assert met > 20

    def test_spreadsheet_takes_none_for_a_formula(self):
        site = SiteFactory(name=self.FORMULA)
        VehicleFactory(vehicle_id="V1", site=site)
        MeterFactory(meter_id="M1", site=site)
        for kind in ("vehicle", "meter"):
            answer = superuser(kind).get(f"/admin/fleet/{kind}/csv")
            text = b"".join(answer.streaming_content).decode("utf-8-sig")
            cells = [cell for line in csv.reader(text.splitlines()) for cell in line]

            assert f"'{self.FORMULA}" in cells
            assert not [cell for cell in cells if cell[:1] in ("=", "+", "@", "\t", "\r")]
