"""A batch without normals, in a real Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.analysis.test_unsorted import BAD, COUNT, plate
from tests.browser.visit import TIMEOUT

pytestmark = pytest.mark.browser


def test_one_click_finds_normals_and_ranks_the_images(page: Page, tmp_path: Path):
    paths = [tmp_path / f"plate_{seed:02}.png" for seed in range(COUNT)]
    for seed, path in enumerate(paths):
        plate(seed, seed in BAD).save(path)
    page.get_by_role("tab", name="Batch").click()
    page.locator("#batch-files input[type=file]").set_input_files(paths)
    expect(page.locator("#batch-files")).to_contain_text("plate_11", timeout=TIMEOUT)
    page.locator("#batch-find").click()
    rows = page.locator("#batch-table tbody tr")
    expect(rows).to_have_count(COUNT, timeout=TIMEOUT)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(6, timeout=TIMEOUT)
    names = rows.evaluate_all("rows => rows.slice(0, 3).map(row => row.dataset.name)")
    assert {int(name[6:8]) for name in names} == set(BAD)
    expect(page.locator("#batch-summary")).to_contain_text("are all among these images")


def test_too_few_images_are_told(page: Page, tmp_path: Path):
    page.get_by_role("tab", name="Batch").click()
    plate(1).save(tmp_path / "one.png")
    page.locator("#batch-files input[type=file]").set_input_files(tmp_path / "one.png")
    expect(page.locator("#batch-files")).to_contain_text("one", timeout=TIMEOUT)
    page.locator("#batch-find").click()
    expect(page.locator(".toast-body")).to_contain_text("at least 4 images", timeout=TIMEOUT)
