"""What a browser refuses to do on the pages of the console and of the API guide."""

import pytest

from tests.browser.conftest import watched_page
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
