"""Showing a defect, in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from inctrl_core.ui.inspect.defects import SHOW
from tests.browser.visit import SCORE, TIMEOUT, open_example
from tests.support.pictures import CLEAR

pytestmark = pytest.mark.browser

ANOMALOUS = [i for i, query in enumerate(CLEAR.example.queries) if query.anomalous]


def check(page: Page, query: int) -> float:
    """Scores an image of the example that is no defect; the score."""
    page.locator("#queries button").nth(query).click()
    expect(page.locator("#show-defect")).to_have_text(SHOW, timeout=TIMEOUT)
    expect(page.locator("#verdict")).not_to_contain_text("defects now", timeout=TIMEOUT)
    return float(page.locator(SCORE).inner_text())


@pytest.mark.parametrize("width", [1440, 390])
def test_it_is_shown_listed_counted_and_forgotten(page: Page, width: int):
    page.set_viewport_size({"width": width, "height": 844})
    first = open_example(page, CLEAR.name)
    button, listed = page.locator("#show-defect"), page.locator("#defects li")
    expect(button).to_have_text(SHOW)
    button.click()
    expect(listed).to_have_count(1, timeout=TIMEOUT)
    expect(button).to_have_text("This is no defect after all", timeout=TIMEOUT)
    expect(listed.locator("img")).to_have_attribute("alt", re.compile(r"Defect 1, \d+ patches"))
    expect(page.locator("#verdict")).to_contain_text("Its patches are among your defects now")
    expect(page.locator("#colour-bar")).to_contain_text("more like your defects than like any")
    assert float(page.locator(SCORE).inner_text()) >= first
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    # It counts for the next image, and a second joins it at the patch that is looked at.
    check(page, next(i for i in ANOMALOUS if i != CLEAR.example.cover))
    expect(listed).to_have_count(1)
    page.locator("#defect-here").click()
    expect(listed).to_have_count(2, timeout=TIMEOUT)
    expect(page.locator("#ledger")).to_contain_text("Your defects")
    for left in (1, 0):
        page.locator("#defects button").first.click()
        expect(listed).to_have_count(left, timeout=TIMEOUT)
    expect(page.locator("#defects")).to_have_text("")
    expect(page.locator("#colour-bar")).not_to_contain_text("your defects", timeout=TIMEOUT)
    page.locator("#queries button").nth(CLEAR.example.cover).click()
    expect(page.locator(SCORE)).to_have_text(f"{first:.3f}", timeout=TIMEOUT)


def test_a_normal_is_no_defect(page: Page):
    open_example(page, CLEAR.name)
    page.locator("#add-normal").click()
    expect(page.locator("#add-normal")).to_contain_text("Take this image out", timeout=TIMEOUT)
    page.locator("#show-defect").click()
    expect(page.locator("#notice")).to_contain_text("take it out of the normals", timeout=TIMEOUT)
    expect(page.locator("#defects li")).to_have_count(0)
