"""The console in a real browser, as each kind of person sees it, with a simulated fleet.

No test may leave an error in the browser's console, or send a request to another host.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from energy_engine import environment
from tests import system_packages
from tests.engine.conftest import Engine, passable_folder

VEHICLES = 20
PASSWORD = "correct-horse-battery"
ROLES = ("Fleet manager", "Analyst", "Operator")
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
# Findings of these weights are what nobody can work around.
SERIOUS = ("serious", "critical")

_FLEET = f"""
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from analytics.alerting import faults
from analytics.figures import snapshot
from analytics.rollups import cadence, hourly
from fleet.models import Meter, Site, Vehicle
from fleet.tariffs.models import Tariff
call_command("simulate", vehicles={VEHICLES}, meters={VEHICLES}, hours=30.0, leaking=0.0)
berlin = Site.objects.create(name="Berlin", time_zone="Europe/Berlin")
Tariff.objects.create(site=berlin, price_per_kwh="0.30")
Vehicle.objects.update(site=berlin)
Meter.objects.update(site=berlin)
hourly.roll_up()
cadence.learn_cadences()
snapshot.refresh()
snapshot.refresh_trend()
faults.watch()
for role in {ROLES!r}:
    user = User.objects.create_user(role.lower().replace(" ", "-"), password={PASSWORD!r})
    user.is_staff = True
    user.save()
    user.groups.add(Group.objects.get(name=role))
User.objects.create_superuser("root", password={PASSWORD!r})
"""

_faulty = re.compile(r"^\s+(SIM-V\d+)\s+SIM-M\d+\s+[\d.]+%$", re.MULTILINE)


def shell(engine: Engine, code: str) -> str:
    """Run `code` in a process of the engine's own, and return what it prints."""
    return subprocess.run(
        [sys.executable, "manage.py", "shell", "--verbosity=0", "--command", code],
        cwd=environment.ROOT,
        env=engine._environment(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout


@contextmanager
def filled_engine(data_dir: Path) -> Iterator[tuple[Engine, list[str]]]:
    """An engine with a fleet and a user for each role; and the vehicles on faulty chargers."""
    engine = Engine(data_dir).start()
    try:
        yield engine, sorted(_faulty.findall(shell(engine, _FLEET)))
    finally:
        engine.stop()


@pytest.fixture(scope="package")
def filled() -> Iterator[tuple[Engine, list[str]]]:
    with passable_folder() as folder, filled_engine(folder / "data") as filled:
        yield filled


@pytest.fixture(scope="package")
def engine(filled) -> Engine:
    return filled[0]


@pytest.fixture(scope="package")
def faulty(filled) -> list[str]:
    """The vehicles whose chargers the simulation made faulty, as it printed them."""
    return filled[1]


def chromium(playwright: Playwright) -> Browser:
    """Start the distribution's browser, or the one that CHROMIUM names."""
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    return playwright.chromium.launch(
        executable_path=system_packages.find("chromium"), args=options
    )


@pytest.fixture(scope="package")  # no longer: while Playwright runs, Django refuses to query
def browser() -> Iterator[Browser]:
    system_packages.need("chromium", "libatomic.so.1")
    with sync_playwright() as playwright:
        yield chromium(playwright)


@contextmanager
def watched_page(browser: Browser, engine: Engine, **options: object) -> Iterator[Page]:
    """A page of a new visitor; complains at the end of what should not have happened in it."""
    context = browser.new_context(
        base_url=f"http://127.0.0.1:{engine.port}", accept_downloads=True, **options
    )
    page = context.new_page()
    page.set_default_timeout(30_000)  # on a busy machine, a page with charts takes its time
    complaints: list[str] = []

    def look_at(request: object) -> None:
        if urlsplit(request.url).hostname not in (None, "127.0.0.1", ""):
            complaints.append(f"went to {request.url}")

    page.on("request", look_at)
    page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
    page.on(
        "console",
        lambda message: (
            complaints.append(f"console: {message.text}") if message.type == "error" else None
        ),
    )
    try:
        yield page
        assert complaints == []
    finally:
        context.close()


def sign_in(page: Page, username: str) -> None:
    page.goto("/admin/login/?next=/admin/")
    page.fill("input[name=username]", username)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url("**/admin/")


@pytest.fixture(scope="package")
def signed_in(browser, engine) -> Callable[[str], dict[str, object]]:
    """Return a function that returns what a browser keeps of a user who has signed in."""
    kept: dict[str, dict[str, object]] = {}

    def state_of(username: str) -> dict[str, object]:
        if username not in kept:
            with watched_page(browser, engine) as page:
                sign_in(page, username)
                kept[username] = page.context.storage_state()
        return kept[username]

    return state_of


@pytest.fixture
def open_as(browser, engine, signed_in) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page of the console as a user; watched until the test ends."""
    opened = []

    def open_page(
        username: str, path: str, theme: str | None = None, viewport: dict[str, int] = DESKTOP
    ) -> Page:
        state = signed_in(username)
        if theme:
            chosen = [{"name": "adminTheme", "value": f'"{theme}"'}]
            origin = {"origin": f"http://127.0.0.1:{engine.port}", "localStorage": chosen}
            state = state | {"origins": [origin]}
        watch = watched_page(browser, engine, storage_state=state, viewport=viewport)
        page = watch.__enter__()
        opened.append(watch)
        page.goto(path)
        return page

    yield open_page
    for watch in opened:
        watch.__exit__(None, None, None)


def wait_until_shown(page: Page) -> None:
    """Wait until a page has all that it loads, and has loaded nothing more for half a second."""
    page.wait_for_function(
        """() => document.readyState === "complete"
            && document.fonts.status === "loaded"
            && !document.querySelector(".htmx-request")
            && !document.body.innerText.includes("Calculating …")
            && performance.now() > 500 + Math.max(
                ...performance.getEntries().map((entry) => entry.responseEnd ?? 0)
            )"""
    )


def serious_findings(page: Page) -> list[str]:
    """Return what axe-core finds that keeps somebody from using the page."""
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{finding['id']}: {finding['help']}: {node['html'][:160]}"
        for finding in found
        if finding["impact"] in SERIOUS
        for node in finding["nodes"]
    ]


def is_drawn(page: Page, canvas_id: str) -> bool:
    """Return whether a canvas shows anything: whether two of its points differ."""
    return page.evaluate(
        """id => {
            const canvas = document.getElementById(id);
            const { data } = canvas.getContext("2d")
                .getImageData(0, 0, canvas.width, canvas.height);
            return data.some((value) => value !== data[0]);
        }""",
        canvas_id,
    )


def sideways_px(page: Page) -> int:
    """Return by how much the page is wider than its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
