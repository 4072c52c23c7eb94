"""A running application and a real Chromium for the tests of this folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CANDIDATES = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 390, "height": 844}


def find_chromium() -> str | None:
    """A Chromium of the system; None leaves the choice to Playwright's own."""
    named = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    found = [path for path in (*CANDIDATES, *named) if path and os.access(path, os.X_OK)]
    return found[0] if found else None


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with sync_playwright() as playwright:
        executable = find_chromium()
        if executable is None and not Path(playwright.chromium.executable_path).exists():
            pytest.fail(
                "There is no Chromium: install one (apt install chromium, or playwright install "
                "chromium) and run the browser tests again."
            )
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A fresh visitor on the page; fails the test on a request that leaves this machine.

    A test that is marked as ``unopened`` opens the page itself.
    """
    context = browser.new_context(viewport=WIDE)
    page = context.new_page()
    outside: list[str] = []
    allowed = (address, "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(allowed) else outside.append(r.url))
    if request.node.get_closest_marker("unopened") is None:
        page.goto(address)
        page.locator("#examples button").first.wait_for()
    yield page
    context.close()
    assert not outside, f"the page asked for {outside[0]}"
