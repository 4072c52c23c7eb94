"""A closer look at an image in parts, in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.analysis.test_closer import sheet
from tests.browser.visit import SCORE, TIMEOUT, upload

pytestmark = pytest.mark.browser


def test_a_small_hole_shows_once_the_image_is_looked_at_in_parts(page: Page, tmp_path: Path):
    paths = [tmp_path / f"{name}.png" for name in ("one", "two", "three", "hole")]
    for seed, path in enumerate(paths):
        sheet(seed, hole=path.stem == "hole").save(path)
    upload(page, paths[:3], paths[3])
    page.locator("#score").click()
    heatmap = page.locator("#heatmap img")
    expect(heatmap).to_be_visible(timeout=TIMEOUT)
    score, whole = page.locator(SCORE).inner_text(), heatmap.get_attribute("src")

    asked = []
    page.on("request", lambda request: asked.append("queue/join" in request.url))
    page.locator("#parts").get_by_label("2 × 2").check()
    told = page.locator("#colour-bar .ic-closer")
    expect(told).to_contain_text("In 2 × 2 parts, compared with the 3 normals", timeout=TIMEOUT)
    expect(heatmap).not_to_have_attribute("src", whole, timeout=TIMEOUT)
    expect(page.locator(SCORE)).to_have_text(score, timeout=TIMEOUT)
    expect(page.locator("#code")).to_contain_text("with_closer_look(detector, result, 2)")
    assert sum(asked) == 1  # All is computed once.
    page.get_by_label("Shallow").check()
    expect(told).to_contain_text("All layers", timeout=TIMEOUT)

    # Another image is seen as a whole at first.
    page.locator("#query input[type=file]").set_input_files(paths[0])
    page.locator("#score").click()
    expect(told).to_have_count(0, timeout=TIMEOUT)
    expect(page.locator("#parts").get_by_label("Whole")).to_be_checked(timeout=TIMEOUT)
