"""What a browser refuses to do on the pages of the console and of the API guide."""

import base64
import re
import time

import pytest
from django_otp.oath import TOTP
from playwright.sync_api import Page, expect

from tests.browser.conftest import (
    DESKTOP,
    PASSWORD,
    PHONE,
    serious_findings,
    shell,
    sideways_px,
    watched_page,
)
from tests.browser.test_console import MANAGER

pytestmark = pytest.mark.xdist_group("browser")

INJECTED = "<script>window.ran = true</script><img src=x onerror='window.ran = true'>"


class TestContentPolicy:
    @pytest.mark.parametrize("path", ["/admin/", "/admin/fleet/vehicle/", "/v1/docs"])
    def test_script_that_got_into_a_page_does_not_run(self, browser, engine, signed_in, path):
        # Not watched: a refused script is an error in the browser's console.
        context = browser.new_context(
            base_url=f"http://127.0.0.1:{engine.port}", storage_state=signed_in(MANAGER)
        )
        page = context.new_page()
        page.route(
            f"**{path}",
            lambda route: (
                lambda answer: route.fulfill(
                    response=answer, body=answer.text().replace("</body>", f"{INJECTED}</body>")
                )
            )(route.fetch()),
        )
        refused = []
        page.on("console", lambda message: refused.append(message.text))
        page.goto(path)
        page.wait_for_load_state("networkidle")

        assert page.locator("img[src=x]").count() == 1
        assert page.evaluate("window.ran") is None
        assert sum("Content Security Policy" in text for text in refused) >= 2
        context.close()

    def test_api_guide_works_under_its_own(self, browser, engine):
        with watched_page(browser, engine) as page:
            page.goto("/v1/docs")
            page.get_by_text("/v1/analytics/fleet").first.click()
            page.get_by_role("button", name="Try it out").click()
            page.get_by_role("button", name="Execute").click()
            page.get_by_text("energyConsumedAc").first.wait_for()


def looks_well(page: Page) -> None:
    """Assert that everybody can use the page: in light, in dark and on a phone."""
    for is_dark in (False, True):
        # By hand: what is shown once would be gone with loading the page again.
        page.evaluate("dark => document.documentElement.classList.toggle('dark', dark)", is_dark)
        assert serious_findings(page) == [], f"dark: {is_dark}"
    page.set_viewport_size(PHONE)
    assert sideways_px(page) <= 0
    page.set_viewport_size(DESKTOP)


class TestSigningIn:
    @pytest.fixture
    def visitor(self, engine):
        """The name of somebody with a password of their own."""
        name = "visitor"
        shell(
            engine,
            "from django.contrib.auth.models import User;"
            f"User.objects.filter(username={name!r}).delete();"
            f"User.objects.create_superuser({name!r}, password={PASSWORD!r})",
        )
        return name

    def enter(self, page: Page, name: str, password: str = PASSWORD) -> None:
        page.goto("/admin/login/?next=/admin/two-steps")
        page.fill("input[name=username]", name)
        page.fill("input[name=password]", password)
        page.get_by_role("button", name="Log in").click()

    def code(self, secret: str, steps: int) -> str:
        totp = TOTP(base64.b32decode(secret))
        totp.time = time.time() + 30 * steps
        return f"{totp.token():06}"

    def test_second_step_is_set_up_and_asked_for_from_then_on(self, browser, engine, visitor):
        with watched_page(browser, engine, viewport=DESKTOP) as page:
            self.enter(page, visitor)
            page.get_by_role("button", name="Set it up").click()
            expect(page.get_by_role("img", name="QR code")).to_be_visible()
            looks_well(page)
            secret = page.locator("#secret").inner_text()
            # The code of the step before: that of now is left for signing in.
            page.get_by_role("textbox", name="Code").fill(self.code(secret, -1))
            page.get_by_role("button", name="Switch on").click()
            codes = page.locator("#recovery-codes li")
            expect(codes).to_have_count(10)
            looks_well(page)
            recovery = codes.first.inner_text()

        with watched_page(browser, engine, viewport=DESKTOP) as page:
            self.enter(page, visitor)
            expect(page).to_have_url(re.compile("/admin/login/code"))
            looks_well(page)
            page.get_by_role("textbox", name="Code").fill(recovery)
            page.get_by_role("button", name="Sign in").click()
            expect(page.locator("#content")).to_contain_text("9 recovery codes left")

    def test_who_guesses_is_told_how_long_to_wait(self, browser, engine):
        # Not watched: a refused sign-in is an error in the browser's console.
        context = browser.new_context(base_url=f"http://127.0.0.1:{engine.port}")
        page = context.new_page()
        for number in range(5):
            self.enter(page, "guessed-at", f"wrong {number}")
            page.wait_for_load_state()
        expect(page.get_by_role("alert")).to_contain_text("Try again in 15 minutes")
        looks_well(page)
        context.close()

    def test_first_login_is_given_a_password_of_its_owner_before_anything_else(
        self, browser, engine
    ):
        file = engine.data_dir / "first_login"
        made = file.read_text().split()[-1]
        with watched_page(browser, engine, viewport=DESKTOP) as page:
            self.enter(page, "admin", made)
            expect(page.locator("#why")).to_contain_text("Choose your own password to continue")
            looks_well(page)
            page.fill("input[name=old_password]", made)
            page.fill("input[name=new_password1]", PASSWORD)
            page.fill("input[name=new_password2]", PASSWORD)
            page.get_by_role("button", name="Change password").click()
            expect(page).to_have_url(re.compile("/admin/password_change/done/"))
            page.goto("/admin/auth/group/")
            expect(page).to_have_url(re.compile("/admin/auth/group/"))

        assert not file.exists()
