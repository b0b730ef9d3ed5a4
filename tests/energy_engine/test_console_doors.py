"""Who knocks at the console, and by which ways nobody gets in."""

import re
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from unfold.settings import CONFIG_DEFAULTS

from energy_engine import content_policy, environment
from energy_engine.content_policy import HEADER
from tests.people import member_of, superuser

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

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
