"""Takes the README's pictures of every tab: ``python -m tests.browser.screenshots``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.conftest import ARGUMENTS, find_chromium
from tests.support.app_server import running_app

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "screenshots"
WIDE = ({"width": 1440, "height": 1100}, "light")
NARROW = ({"width": 390, "height": 1500}, "dark")
TIMEOUT = 120_000
# The page keeps a stream open, so it never falls idle.
SETTLE = 2500


def inspect(page: Page) -> None:
    """One click on an example."""
    page.locator("#examples button[data-set]").first.click()
    page.locator("#heatmap img").wait_for(timeout=TIMEOUT)


def batch(page: Page) -> None:
    """All images of an example, ranked."""
    page.locator("#batch-examples button[data-set]").first.click()
    expect(page.locator("#batch-table tbody tr")).not_to_have_count(0, timeout=TIMEOUT)


def live(page: Page) -> None:
    """The example, until its line has some length."""
    page.get_by_role("button", name="Try with an example").click()
    page.wait_for_function(
        "() => Number(document.querySelector('.ic-live-stage').dataset.scored) > 60",
        timeout=TIMEOUT,
    )


def stress(page: Page) -> None:
    """The example, until all tests are done."""
    page.locator("#stress-examples button").first.click()
    expect(page.locator("#stress-head")).to_contain_text("All tests are done", timeout=TIMEOUT)


def failures(page: Page) -> None:
    """The case that the tab opens with, guessed and revealed."""
    page.locator("#case-answer button").first.click()
    expect(page.locator("#case-answer")).to_contain_text("Actually", timeout=TIMEOUT)


def learn(page: Page) -> None:
    """The lesson on its first example."""
    expect(page.locator("#learn-last")).to_contain_text("Score", timeout=TIMEOUT)


TABS: dict[str, Callable[[Page], None]] = {
    "inspect": inspect,
    "batch": batch,
    "live": live,
    "stress": stress,
    "failures": failures,
    "learn": learn,
}


def take(browser: Browser, address: str, tab: str, kind: str) -> None:
    """Opens a tab, uses it, and keeps what the window shows."""
    viewport, theme = WIDE if kind == "wide" else NARROW
    page = browser.new_page(viewport=viewport)
    page.goto(f"{address.rstrip('/')}/?__theme={theme}&tab={tab}")
    page.locator(f"#{tab}-button[aria-selected=true]").wait_for(timeout=TIMEOUT)
    TABS[tab](page)
    page.wait_for_timeout(SETTLE)
    picture = FOLDER / f"{tab}-{kind}.png"
    page.screenshot(path=picture)
    page.close()
    with Image.open(picture) as image:
        image.convert("RGB").save(picture.with_suffix(".webp"), quality=72, method=6)
    picture.unlink()


def main() -> None:
    """Takes all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with running_app() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        for tab in TABS:
            for kind in ("wide", "narrow"):
                take(browser, address, tab, kind)
        browser.close()


if __name__ == "__main__":
    main()
