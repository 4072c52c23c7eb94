"""The page as hosts serve it: under a path behind a proxy, and rendered on the server first."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import WIDE
from tests.browser.visit import SCORE, TIMEOUT, files, open_example, upload
from tests.support.app_server import running_app
from tests.support.pictures import FIRST, UPLOADED
from tests.support.proxy import running_proxy

pytestmark = pytest.mark.browser

PREFIX = "/tools/inctrl"
NODE_MAJOR = 24  # Gradio renders on the server with this version or a later one.


def node_is_new_enough() -> bool:
    node = shutil.which("node")
    if node is None:
        return False
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.match(r"v(\d+)", version)[1]) >= NODE_MAJOR


@pytest.fixture
def opened(browser: Browser) -> Iterator[Page]:
    """A fresh visitor, not on the page yet; no answer may be a server error."""
    page = browser.new_context(viewport=WIDE).new_page()
    broken: list[str] = []
    page.on("response", lambda r: broken.append(r.url) if r.status >= 400 else None)
    yield page
    page.context.close()
    assert not broken, broken


def use(page: Page, address: str) -> None:
    """Scores files of one's own, then an example, and opens another tab by a link."""
    page.goto(address)
    page.locator("#examples button").first.wait_for(timeout=TIMEOUT)
    upload(page, files(UPLOADED.name, "normals", 2), files(UPLOADED.name, "queries", 1)[0])
    page.locator("#score").click()
    expect(page.locator(SCORE)).to_be_visible(timeout=TIMEOUT)
    open_example(page, FIRST.name)
    page.goto(f"{address}?tab=learn")
    expect(page.get_by_role("tab", name="Learn")).to_have_attribute(
        "aria-selected", "true", timeout=TIMEOUT
    )


@pytest.mark.slow
def test_under_a_path_behind_a_proxy(opened: Page):
    with running_app(root_path=PREFIX) as target, running_proxy(PREFIX, target) as address:
        outside: list[str] = []
        opened.on(
            "request",
            lambda r: (
                None if r.url.startswith((address, "data:", "blob:")) else outside.append(r.url)
            ),
        )
        use(opened, address)
        assert not outside, f"asked past the proxy's path: {outside[0]}"


@pytest.mark.skipif(not node_is_new_enough(), reason=f"needs Node {NODE_MAJOR} or later")
def test_rendered_on_the_server(opened: Page):
    with running_app(ssr_mode=True) as address:
        assert "__sveltekit" in httpx.get(address, timeout=60).text  # Node has answered.
        use(opened, address)
