"""Something missing, in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.analysis.test_missing import tray
from tests.browser.visit import SCORE, TIMEOUT, upload

pytestmark = pytest.mark.browser


def test_one_click_shows_the_part_that_an_image_lacks(page: Page, tmp_path: Path):
    paths = [tmp_path / f"{seed}.png" for seed in range(5)]
    for seed, path in enumerate(paths):
        tray(seed, without="red" if seed == 4 else "").save(path)
    upload(page, paths[:4], paths[4])
    page.locator("#score").click()
    expect(page.locator(SCORE)).to_be_visible(timeout=TIMEOUT)
    page.locator("#find-missing").click()
    missing = page.locator("#missing")
    expect(missing).to_contain_text("lacks something that all normals have", timeout=TIMEOUT)
    expect(missing.locator("img")).to_be_visible(timeout=TIMEOUT)

    # It is this image's, and goes with it.
    page.locator("#query input[type=file]").set_input_files(paths[0])
    page.locator("#score").click()
    expect(missing).to_have_text("", timeout=TIMEOUT)
