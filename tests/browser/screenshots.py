"""Takes the README's pictures of the page: ``python -m tests.browser.screenshots``."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.app_server import running_app
from tests.browser.conftest import ARGUMENTS, find_chromium

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "screenshots"
SHOTS = {
    "page-light.png": ({"width": 1440, "height": 1100}, "light"),
    "page-narrow-dark.png": ({"width": 390, "height": 1700}, "dark"),
}


def take(browser: Browser, address: str, name: str) -> None:
    """Clicks an example and keeps what the window shows, in 256 colours."""
    viewport, theme = SHOTS[name]
    page = browser.new_page(viewport=viewport)
    page.goto(f"{address.rstrip('/')}/?__theme={theme}")
    page.locator("#examples button[data-set=circuit-board]").click()
    page.locator("#heatmap img").wait_for()
    page.wait_for_timeout(3000)  # The page keeps a stream open, so it never falls idle.
    page.screenshot(path=FOLDER / name)
    page.close()
    with Image.open(FOLDER / name) as picture:
        small = picture.convert("RGB").quantize(256)
    small.save(FOLDER / name, optimize=True)


def main() -> None:
    """Takes all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with running_app() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        for name in SHOTS:
            take(browser, address, name)
        browser.close()


if __name__ == "__main__":
    main()
