"""Marking what does not count, in a real Chromium: by mouse, by finger's width, by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visit import SCORE, TIMEOUT, open_example
from tests.support.pictures import CLEAR

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("width", [1440, 390])
def test_a_brush_marks_what_does_not_count(page: Page, width: int):
    page.set_viewport_size({"width": width, "height": 844})
    before = open_example(page, CLEAR.name)
    pad, bar = page.locator("#ignore"), page.locator("#colour-bar")
    pad.locator("summary").click()
    canvas = pad.locator("canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 12, box["y"] + 12)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + 12, steps=5)
    page.mouse.up()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    pad.get_by_role("button", name="Ignore what is marked").click()
    expect(bar).to_contain_text("Striped: ignored in all images", timeout=TIMEOUT)
    expect(pad).to_contain_text(re.compile(r"Ignored: \d+% of what is seen"))
    expect(page.locator("#verdict")).to_contain_text("Without the ignored part")

    # It holds for the next image, and all of it counts again at a click.
    other = next(i for i in range(len(CLEAR.example.queries)) if i != CLEAR.example.cover)
    page.locator("#queries button").nth(other).click()
    expect(page.locator("#verdict")).not_to_contain_text("Without the ign", timeout=TIMEOUT)
    expect(bar).to_contain_text("Striped")
    pad.get_by_role("button", name="Count everything again").click()
    expect(bar).not_to_contain_text("Striped", timeout=TIMEOUT)
    page.locator("#queries button").nth(CLEAR.example.cover).click()
    expect(page.locator(SCORE)).to_have_text(f"{before:.3f}", timeout=TIMEOUT)


def test_the_keyboard_marks_too_and_nothing_marked_is_told(page: Page):
    open_example(page, CLEAR.name)
    pad = page.locator("#ignore")
    pad.locator("summary").click()
    pad.get_by_role("button", name="Ignore what is marked").click()
    expect(page.locator("#notice")).to_contain_text("Nothing is marked", timeout=TIMEOUT)
    pad.locator("canvas").focus()
    for key in ("ArrowUp", "ArrowLeft", " ", "ArrowDown", " "):
        page.keyboard.press(key)
    pad.get_by_role("button", name="Ignore what is marked").click()
    expect(page.locator("#colour-bar")).to_contain_text("Striped", timeout=TIMEOUT)
    expect(pad).to_contain_text("Ignored: 2%")


def test_a_background_is_proposed_before_it_is_ignored(page: Page):
    open_example(page, "cookies")
    pad, bar = page.locator("#ignore"), page.locator("#colour-bar")
    pad.locator("summary").click()
    pad.get_by_role("button", name="Mark the background").click()
    expect(pad.locator(".ic-pad[data-part*=ffff]")).to_be_visible(timeout=TIMEOUT)
    expect(bar).not_to_contain_text("Striped")
    pad.get_by_role("button", name="Ignore what is marked").click()
    expect(bar).to_contain_text("Striped", timeout=TIMEOUT)
