"""The tab Stress, as a visitor meets it in a real Chromium."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NARROW
from tests.browser.test_page import files, open_example, upload
from tests.support.pictures import CLEAR, FIRST, OTHER, UPLOADED

pytestmark = pytest.mark.browser

TIMEOUT = 60_000
# Nine parts, each with its own place in the queue, on a machine that may be busy.
RUN_TIMEOUT = 180_000
DONE = "All tests are done."


@pytest.fixture
def stress(page: Page) -> Page:
    """The page at this tab."""
    page.get_by_role("tab", name="Stress").click()
    expect(page.locator("#stress-run")).to_be_visible(timeout=TIMEOUT)
    return page


def expect_done(page: Page) -> None:
    expect(page.locator("#stress-head")).to_contain_text(DONE, timeout=RUN_TIMEOUT)


def test_one_click_fills_the_form_and_runs_all_four(stress: Page):
    expect(stress.locator("#stress-notice h3")).to_have_count(4)
    expect(stress.locator("#score")).not_to_be_visible()
    stress.get_by_role("button", name="Try with an example").click()
    expect(stress.locator("#stress-curve .ic-plot")).to_be_visible(timeout=TIMEOUT)
    expect(stress.locator("#stress-notice")).not_to_be_visible()
    expect_done(stress)
    expect(stress.get_by_label("What is it?")).to_have_value(FIRST.object_name)
    expect(stress.locator("#stress-curve .ic-lead")).to_have_text(
        re.compile(r"^With two normals the score .*0\.\d{3}.*verdict")
    )
    expect(stress.locator("#stress-drop tbody tr")).to_have_count(6)
    expect(stress.locator("#stress-contamination figure img")).to_have_count(3)
    expect(stress.locator("#stress-contamination .ic-lead")).to_contain_text("to 0.000")
    expect(stress.locator("#stress-changes figure")).to_have_count(6)
    expect(stress.locator("#stress-changes .ic-lead")).to_contain_text("Normal")
    expect(stress.locator(".ic-tally strong").last).to_have_text(re.compile(r"^\d+ of 30$"))
    with stress.expect_download() as download:
        stress.get_by_role("link", name="Download all figures").click()
    assert len(json.loads(download.value.path().read_text())["changes"]) == 6
    for image in stress.locator("#stress-result img").all():
        assert image.evaluate("e => e.complete && e.naturalWidth > 0")


def test_a_term_is_explained_by_keyboard(stress: Page):
    stress.get_by_role("button", name="Try with a good image").click()
    term = stress.locator("#stress-curve .ic-term", has_text="draw").first
    expect(term).to_be_visible(timeout=TIMEOUT)
    # What arrives meanwhile must not take the focus away: the test ends first.
    expect_done(stress)
    expect(term.get_by_role("tooltip")).not_to_be_visible()
    term.focus()
    expect(term.get_by_role("tooltip")).to_be_visible()
    box = term.get_by_role("tooltip").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 1440


def test_the_images_of_inspect_are_put_to_the_test_and_inspect_keeps_its_result(page: Page):
    score = open_example(page, OTHER.name)
    page.get_by_role("tab", name="Stress").click()
    page.locator("#stress-run").click()
    expect(page.locator("#stress-head")).to_contain_text(f"Score {score:.3f}", timeout=TIMEOUT)
    expect_done(page)
    page.get_by_role("tab", name="Inspect").click()
    expect(page.locator("#verdict .ic-score")).to_have_text(f"{score:.3f}")
    page.get_by_label("Row", exact=True).fill("2")
    expect(page.locator("#provenance")).to_contain_text("row 2,", timeout=TIMEOUT)


def test_what_is_missing_is_named_beside_its_field(stress: Page):
    stress.locator("#stress-run").click()
    expect(stress.locator("#normals")).to_contain_text("at least one normal", timeout=TIMEOUT)
    expect(stress.locator("#query")).to_contain_text("Add the image to check", timeout=TIMEOUT)


def test_a_damaged_file_gives_one_sentence_and_the_next_run_clears_it(stress: Page, tmp_path: Path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    upload(stress, files(UPLOADED.name, "normals", 2), broken)
    stress.locator("#stress-run").click()
    notice = stress.locator("#stress-notice [role=alert]")
    expect(notice).to_contain_text("broken.png", timeout=TIMEOUT)
    expect(stress.locator("#stress-result")).not_to_be_visible()
    expect(stress.locator("#normals .thumbnail-item")).to_have_count(2)
    stress.get_by_role("button", name="Try with an example").click()
    expect(stress.locator("#stress-curve .ic-plot")).to_be_visible(timeout=TIMEOUT)
    expect(notice).to_have_count(0)
    expect_done(stress)


def test_one_normal_says_what_cannot_be_told(stress: Page):
    upload(stress, files(UPLOADED.name, "normals", 1), files(UPLOADED.name, "queries", 1)[0])
    stress.locator("#stress-run").click()
    expect_done(stress)
    expect(stress.locator("#stress-head")).to_contain_text("threshold")
    expect(stress.locator("#stress-drop")).to_contain_text("Add a second to compare")
    expect(stress.locator("#stress-changes .ic-plot-band")).to_have_count(0)


def test_another_visitor_gets_in_between(stress: Page, browser: Browser, address: str):
    other = browser.new_context().new_page()
    other.goto(address)
    other.locator("#examples button").first.wait_for()
    stress.get_by_role("button", name="Try with an example").click()
    expect(stress.locator("#stress-head")).to_contain_text("Step", timeout=TIMEOUT)
    other.locator(f"#examples button[data-set={CLEAR.name}]").click()
    expect(other.locator("#verdict .ic-score")).to_be_visible(timeout=TIMEOUT)
    # The other's score came while these tests were still going on.
    assert DONE not in stress.locator("#stress-head").inner_text()
    expect_done(stress)
    other.context.close()


@pytest.mark.unopened
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_narrow_page_does_not_scroll_sideways(page: Page, address: str, theme: str):
    page.set_viewport_size(NARROW)
    page.goto(f"{address}?__theme={theme}&tab=stress")
    page.get_by_role("button", name="Try with an example").click(timeout=TIMEOUT)
    expect_done(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    expect(page.locator("#stress-head")).to_be_in_viewport(timeout=TIMEOUT)
