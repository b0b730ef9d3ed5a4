"""`make screenshots`: the pictures of `docs/images`, of an engine with a simulated fleet."""

import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from energy_engine import environment
from tests.browser.conftest import PHONE, chromium, filled_engine, sign_in, watched_page
from tests.engine.conftest import Engine

IMAGES = environment.ROOT / "docs" / "images"
PAGES = {
    "overview": "/admin/",
    "vehicles": "/admin/fleet/vehicle/?o=9",
    "vehicle": "/admin/fleet/vehicle/{faulty}/change/",
    "faults": "/admin/analytics/fault/",
}
DESK = {"width": 1440, "height": 1100}
LOOKS = {
    "light": {"viewport": DESK, "color_scheme": "light"},
    "dark": {"viewport": DESK, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light", "device_scale_factor": 2},
}


def take_all(browser: Browser, engine: Engine, faulty: str) -> None:
    """Take the first screen of each page in each look."""
    IMAGES.mkdir(exist_ok=True)
    for look, options in LOOKS.items():
        with watched_page(browser, engine, **options) as page:
            sign_in(page, "root")
            for name, path in PAGES.items():
                page.goto(path.format(faulty=faulty))
                page.wait_for_load_state("networkidle")
                page.screenshot(path=IMAGES / f"{name}-{look}.png")


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        filled_engine(Path(folder) / "data") as (engine, faulty),
        sync_playwright() as playwright,
    ):
        take_all(chromium(playwright), engine, faulty[0])


if __name__ == "__main__":
    main()
