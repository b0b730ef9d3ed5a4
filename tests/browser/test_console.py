"""A fleet manager's day in the console, and what others may not do there."""

import csv
import json
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import (
    DESKTOP,
    PHONE,
    VEHICLES,
    is_drawn,
    serious_findings,
    shell,
    sideways_px,
    sign_in,
    wait_until_shown,
    watched_page,
)

# One engine and one browser for all of them.
pytestmark = pytest.mark.xdist_group("browser")

MANAGER, ANALYST, OPERATOR = "fleet-manager", "analyst", "operator"
VEHICLE_LIST = "/admin/fleet/vehicle/"
FAULT_LIST = "/admin/analytics/fault/"
PAGES = {
    "overview": "/admin/",
    "vehicles": VEHICLE_LIST,
    "meters": "/admin/fleet/meter/",
    "sites": "/admin/fleet/site/",
    "links": "/admin/fleet/vehiclemeterlink/",
    "faults": FAULT_LIST,
    "to-check": "/admin/analytics/hint/",
    "vehicle": "/admin/fleet/vehicle/SIM-V0001/change/",
    "meter": "/admin/fleet/meter/SIM-M0001/change/",
    "thresholds": "/admin/analytics/faultthresholds/",
    "new thresholds": "/admin/analytics/faultthresholds/add/",
    "webhooks": "/admin/analytics/webhook/",
    "users": "/admin/auth/user/",
    "groups": "/admin/auth/group/",
    "keys": "/admin/fleet/apikey/",
    "new key": "/admin/fleet/apikey/add/",
    "audit log": "/admin/admin/logentry/",
    "jobs": "/admin/procrastinate/procrastinatejob/",
    "failed sign-ins": "/admin/energy_engine/failedsignin/",
    "two steps": "/admin/two-steps",
}


def page_of(vehicle_id: str) -> str:
    return f"/admin/fleet/vehicle/{vehicle_id}/change/"


def rows(page: Page) -> list[str]:
    """Return the text of each row of a list."""
    return [" ".join(text.split()) for text in page.locator("tr.data-row").all_inner_texts()]


def api(page: Page, path: str) -> dict:
    answer = page.request.get(path)
    assert answer.ok, answer.text()
    return answer.json()


def exact(page: Page, tile: str) -> float:
    """Return the number of a tile of the overview before it was rounded."""
    return float(page.locator(f"[data-tile={tile}] data").get_attribute("value"))


def test_visitor_has_to_sign_in(browser, engine):
    with watched_page(browser, engine, viewport=DESKTOP) as page:
        page.goto(VEHICLE_LIST)
        expect(page).to_have_url(re.compile("/admin/login/"))
        sign_in(page, MANAGER)
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


class TestOverview:
    def test_it_shows_what_the_api_says(self, open_as):
        page = open_as(MANAGER, "/admin/")
        totals = api(page, "/v1/analytics/fleet")

        assert exact(page, "vehicles-online") == totals["vehicles"]["online"]
        assert exact(page, "meters-online") == totals["meters"]["online"]
        assert exact(page, "ac") == totals["energyConsumedAc"]
        assert exact(page, "dc") == totals["energyDeliveredDc"]
        assert exact(page, "efficiency") == totals["efficiencyRatio"]
        assert page.locator("[data-tile=vehicles-online]").inner_text().count(f"of {VEHICLES}") == 1

    def test_its_chart_is_drawn_and_says_the_same_as_its_table(self, open_as):
        page = open_as(MANAGER, "/admin/")
        assert is_drawn(page, "energy")

        page.get_by_text("As a table").click()
        hours = page.locator(".console-chart table tbody tr")

        expect(hours).to_have_count(25)
        in_chart = json.loads(page.locator("#energy-data").inner_text())["series"][0]["values"]
        in_table = hours.locator("td:nth-of-type(1)").all_inner_texts()
        assert [float(text) for text in in_table] == [round(value, 3) for value in in_chart]

    def test_faulty_vehicles_are_the_worst_and_lead_to_their_faults(self, open_as, faulty):
        page = open_as(MANAGER, "/admin/")
        worst = page.get_by_role("region", name="Lowest efficiency").locator("tbody tr")

        listed = [row.split()[0] for row in worst.all_inner_texts()]
        assert (sorted(listed[:2]), len(listed)) == (faulty, 10)
        worst.first.get_by_role("link", name="low efficiency").click()
        expect(page).to_have_url(re.compile("/admin/analytics/fault/"))

    def test_it_renews_itself_and_says_when_it_cannot(self, browser, engine, signed_in):
        # Not watched: a request that fails is an error in the browser's console.
        context = browser.new_context(
            base_url=f"http://127.0.0.1:{engine.port}", storage_state=signed_in(MANAGER)
        )
        page = context.new_page()
        page.clock.install()
        page.goto("/admin/")
        with page.expect_response(lambda answer: "/admin/" in answer.url and answer.ok):
            page.clock.run_for(31_000)

        context.set_offline(True)
        page.clock.run_for(31_000)
        expect(page.locator("#overview-note")).to_contain_text("not responding")
        context.set_offline(False)
        page.clock.run_for(31_000)
        expect(page.locator("#overview-note")).to_be_hidden()
        context.close()


class TestVehicles:
    def test_faulty_ones_are_found_by_order_and_by_filter(self, open_as, faulty):
        page = open_as(MANAGER, VEHICLE_LIST)
        page.get_by_role("columnheader").get_by_role("link", name="Efficiency, %").click()
        page.wait_for_url("**o=8")
        assert sorted(row.split()[0] for row in rows(page)[:2]) == faulty

        page.goto(f"{VEHICLE_LIST}?health=degraded")
        degraded = {row.split()[0] for row in rows(page)}
        page.goto(f"{VEHICLE_LIST}?health=critical")
        critical = {row.split()[0] for row in rows(page)}
        assert sorted(degraded | critical) == faulty

    def test_search_finds_one(self, open_as):
        page = open_as(MANAGER, VEHICLE_LIST)
        page.locator("#searchbar").fill("v0007")
        page.keyboard.press("Enter")
        page.wait_for_url("**q=v0007**")

        assert [row.split()[0] for row in rows(page)] == ["SIM-V0007"]

    def test_csv_holds_what_is_filtered(self, open_as, faulty):
        page = open_as(MANAGER, f"{VEHICLE_LIST}?health=healthy")
        with page.expect_download() as download:
            page.get_by_role("link", name="CSV").click()
        lines = list(csv.reader(download.value.path().read_text("utf-8-sig").splitlines()))

        assert lines[0][0] == "Vehicle"
        assert len(lines) == 1 + VEHICLES - len(faulty)
        assert not {line[0] for line in lines} & set(faulty)


class TestVehicle:
    def test_figure_is_that_of_the_api_and_can_be_followed(self, open_as):
        page = open_as(MANAGER, page_of("SIM-V0001"))
        figure = api(page, "/v1/analytics/performance/SIM-V0001")
        shown = page.get_by_role("region", name="Last 24 hours")

        expect(shown).to_contain_text(f"{figure['efficiencyRatio']} %")
        expect(shown).to_contain_text(figure["health"])
        expect(shown).to_contain_text(figure["acSource"])
        page.get_by_text("How is this calculated?").click()
        expect(shown).to_contain_text("efficiencyRatio = 100 · DC / AC")

    def test_range_is_changed_without_leaving_the_page(self, open_as):
        page = open_as(MANAGER, page_of("SIM-V0001"))
        assert is_drawn(page, "energy-chart")
        assert is_drawn(page, "state-chart")
        page.evaluate("window.stayed = true")

        page.get_by_role("link", name="7 days").click()

        expect(page.get_by_role("heading", name="Last 7 days")).to_be_visible()
        expect(page).to_have_url(re.compile("range=7d"))
        assert page.evaluate("window.stayed")
        page.wait_for_function("document.querySelector('#energy-chart').width > 0")
        assert is_drawn(page, "energy-chart")

    def test_two_dates_are_compared_with_the_days_before_in_an_address_to_share(self, open_as):
        page = open_as(MANAGER, page_of("SIM-V0001"))
        page.evaluate("window.stayed = true")
        today = page.get_by_label("to", exact=True).input_value()

        page.get_by_label("From", exact=True).fill(today)
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_role("heading", name=today)).to_be_visible()
        page.get_by_role("link", name="Compare with the span before").click()

        shown = page.get_by_role("region", name=today)
        expect(shown).to_contain_text("before: ")
        expect(page).to_have_url(re.compile(f"from={today}&to={today}&compare=1"))
        assert page.evaluate("window.stayed")
        page.wait_for_function("document.querySelector('#energy-chart').width > 0")
        assert is_drawn(page, "energy-chart")
        page.goto(page.url)
        expect(shown).to_contain_text("before: ")

    def test_it_is_linked_to_another_meter_and_the_link_is_ended(self, open_as):
        page = open_as(MANAGER, page_of("SIM-V0009"))
        links = page.get_by_role("region", name="Linked meters")
        expect(links).to_contain_text("SIM-M0009")

        page.locator("#links .select2-selection").click()
        page.locator(".select2-search__field").last.fill("M0010")
        page.locator(".select2-results__option", has_text="SIM-M0010").click()
        page.get_by_role("button", name="Link", exact=True).click()
        expect(links.locator("tbody tr").first).to_contain_text("SIM-M0010")
        expect(links.locator("tbody tr").first).to_contain_text("in force", ignore_case=True)
        in_force = api(page, "/v1/links?vehicleId=SIM-V0009")["results"][0]
        assert (in_force["meterId"], in_force["validTo"]) == ("SIM-M0010", None)

        links.get_by_role("button", name="End link").click()
        page.get_by_role("dialog").get_by_role("button", name="End link").click()
        expect(links.get_by_role("button", name="End link")).to_have_count(0)
        assert api(page, "/v1/links?vehicleId=SIM-V0009")["results"][0]["validTo"]

        page.goto(PAGES["audit log"])
        expect(page.locator("body")).to_contain_text("SIM-M0010")


class TestFaults:
    def test_fault_is_acknowledged_and_closed_with_a_note(self, open_as, faulty):
        page = open_as(MANAGER, FAULT_LIST)
        page.get_by_role("row", name=re.compile(faulty[1])).get_by_role(
            "link", name="Low efficiency"
        ).click()
        number = int(re.search(r"fault/(\d+)/", page.url)[1])

        page.get_by_role("link", name="Acknowledge").click()
        page.locator("#dialog").get_by_role("button", name="Acknowledge").click()
        expect(page.get_by_role("region", name="History")).to_contain_text(MANAGER)
        assert api(page, f"/v1/faults/{number}")["state"] == "acknowledged"

        page.get_by_role("link", name="Close …").click()
        page.locator("#dialog textarea").fill("Charger <b>replaced</b>")
        page.locator("#dialog").get_by_role("button", name="Close the fault").click()
        expect(page.get_by_role("region", name="History")).to_contain_text(
            "Charger <b>replaced</b>"
        )
        fault = api(page, f"/v1/faults/{number}")
        assert fault["state"] == "closed"
        assert [change["user"] for change in fault["changes"]] == [None, MANAGER, MANAGER]

    def test_form_says_what_thresholds_would_have_done_before_they_are_saved(self, open_as):
        page = open_as(MANAGER, PAGES["new thresholds"])
        expect(page.get_by_role("region", name="Last week")).to_contain_text("Low efficiency: 2")
        page.get_by_label("Efficiency opens, %").fill("10")
        page.keyboard.press("Tab")
        expect(page.get_by_role("region", name="Last week")).to_contain_text("Low efficiency: 0")


class TestRoles:
    @pytest.mark.parametrize(
        ("role", "sees", "changes"),
        [
            (MANAGER, "vehicles meters sites links faults thresholds webhooks", "links"),
            (ANALYST, "vehicles meters sites links faults to-check", ""),
            (OPERATOR, "vehicles meters users", ""),
        ],
    )
    def test_each_sees_its_pages_and_no_control_that_leads_nowhere(
        self, open_as, role, sees, changes
    ):
        page = open_as(role, "/admin/")
        for name in sees.split():
            assert page.goto(PAGES[name]).status == 200, name
        page.goto(page_of("SIM-V0003"))
        has_form = page.get_by_role("button", name="Link", exact=True).count() > 0
        assert has_form == ("links" in changes)

    @pytest.mark.parametrize(
        ("role", "path"),
        [
            (MANAGER, "/admin/auth/user/add/"),
            (ANALYST, "/admin/fleet/vehiclemeterlink/add/"),
            (ANALYST, "/admin/analytics/faultthresholds/add/"),
            (ANALYST, "/admin/auth/user/add/"),
            (OPERATOR, "/admin/fleet/vehiclemeterlink/add/"),
            (OPERATOR, "/admin/analytics/webhook/add/"),
        ],
    )
    def test_nobody_gets_further_than_that(self, browser, engine, signed_in, role, path):
        context = browser.new_context(
            base_url=f"http://127.0.0.1:{engine.port}", storage_state=signed_in(role)
        )
        assert context.request.get(path).status == 403
        context.close()


class TestLook:
    @pytest.mark.parametrize("name", PAGES)
    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_everybody_can_use_it(self, open_as, name, theme):
        page = open_as("root", PAGES[name], theme)
        wait_until_shown(page)

        is_dark = page.evaluate("document.documentElement.classList.contains('dark')")
        assert is_dark == (theme == "dark")
        assert serious_findings(page) == []

    @pytest.mark.parametrize("name", ["vehicles", "meters"])
    def test_list_has_room_in_a_window_of_1400_pixels(self, open_as, name):
        page = open_as("root", PAGES[name], viewport={"width": 1400, "height": 900})

        hidden_px = page.evaluate(
            """() => {
                const list = document.querySelector(".result-list");
                const box = list.closest(".simplebar-content-wrapper");
                return box.scrollWidth - box.clientWidth;
            }"""
        )
        assert hidden_px <= 0

    @pytest.mark.parametrize("name", PAGES)
    def test_it_fits_a_phone(self, open_as, name):
        page = open_as("root", PAGES[name], viewport=PHONE)
        wait_until_shown(page)

        assert sideways_px(page) <= 0

    def test_id_of_64_characters_fits_too(self, engine, open_as):
        long_id = "V" + "x" * 63
        shell(
            engine,
            f"from fleet.links import link_vehicle; link_vehicle({long_id!r}, {'M' * 64!r})",
        )
        for path in (VEHICLE_LIST, page_of(long_id), "/admin/fleet/vehiclemeterlink/"):
            page = open_as("root", path, viewport=PHONE)
            assert sideways_px(page) <= 0, path
