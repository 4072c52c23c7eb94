"""Drawing a defect in a real Chromium: by mouse, by keyboard, undone, searched for."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import NARROW
from tests.browser.test_access import in_every_look
from tests.browser.visit import TIMEOUT
from tests.support.pictures import FIRST, OTHER

pytestmark = pytest.mark.browser


def open_pad(page: Page) -> Locator:
    page.locator("#learn-button").click()
    expect(page.locator("#learn-last .ic-step").last).to_be_visible(timeout=TIMEOUT)
    page.get_by_role("button", name="draw a defect").click()
    canvas = page.locator("#learn-pad canvas")
    expect(canvas).to_be_visible(timeout=TIMEOUT)
    canvas.scroll_into_view_if_needed()
    expect(page.locator("#learn-drawn")).to_contain_text("appears here", timeout=TIMEOUT)
    return canvas


def drag(page: Page, canvas: Locator, start: tuple[float, float], end: tuple[float, float]) -> None:
    """A stroke by mouse; places are shares of the canvas."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    (x, y), (to_x, to_y) = (
        (box["x"] + place[0] * box["width"], box["y"] + place[1] * box["height"])
        for place in (start, end)
    )
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(to_x, to_y, steps=5)
    page.mouse.up()


def verdict(page: Page, says: str) -> float:
    """The score, once the verdict begins with these words."""
    line = page.locator("#learn-drawn .ic-verdict-line")
    expect(line).to_contain_text(re.compile(f"^{says}"), timeout=TIMEOUT)
    return float(re.search(r"the score is (\d\.\d{3})", line.inner_text()).group(1))


@pytest.mark.parametrize("size", [{"width": 1440, "height": 900}, NARROW], ids=["wide", "narrow"])
def test_a_mark_by_mouse_is_seen_and_undo_returns_the_score(page: Page, size: dict):
    page.set_viewport_size(size)
    canvas = open_pad(page)
    drag(page, canvas, (0.2, 0.2), (0.35, 0.3))
    marked = verdict(page, "Seen")
    drawn = page.locator("#learn-drawn")
    expect(drawn.get_by_alt_text("Map over the drawing")).to_be_visible()
    expect(drawn).to_contain_text(re.compile(r"Drawn: [\d,]+ pixels of the image, as much as \d"))
    expect(page.locator("#learn-smallest")).to_contain_text("Smallest seen so far")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    page.locator("#learn-pad").get_by_role("button", name="Undo").click()
    plain = verdict(page, "Nothing drawn")
    assert plain < marked
    drag(page, canvas, (0.2, 0.2), (0.35, 0.3))
    assert verdict(page, "Seen") == marked
    drag(page, canvas, (0.7, 0.7), (0.8, 0.7))
    expect(drawn).not_to_contain_text(f"{marked:.3f}", timeout=TIMEOUT)
    page.locator("#learn-pad").get_by_role("button", name="Clear").click()
    assert verdict(page, "Nothing drawn") == plain


def test_the_keyboard_puts_dots_and_chooses_the_brush(page: Page):
    canvas = open_pad(page)
    pad = page.locator("#learn-pad")
    told = pad.locator("output")
    before = told.inner_text()
    pad.get_by_label("Size").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    expect(told).not_to_have_text(before)
    pad.get_by_label("Light").check()
    canvas.focus()
    for key in ("ArrowUp", "ArrowLeft", "ArrowUp", " "):
        page.keyboard.press(key)
    first = verdict(page, "Seen")
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    expect(page.locator("#learn-drawn")).not_to_contain_text(f"{first:.3f}", timeout=TIMEOUT)
    pad.get_by_role("button", name="Undo").click()
    expect(page.locator("#learn-drawn")).to_contain_text(f"{first:.3f}", timeout=TIMEOUT)


def test_the_brush_takes_the_colour_below_it(page: Page):
    canvas = open_pad(page)
    pad = page.locator("#learn-pad")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    for label in ("Dark", "Under the brush", "This one:"):
        pad.get_by_label(label).check()
        drag(page, canvas, (0.1, 0.1), (0.12, 0.1))
        expect(page.locator("#learn-drawn")).to_contain_text("Drawn", timeout=TIMEOUT)
    found = [re.findall(r"([0-9a-f]{6}) 0\.", body) for body in sent if '"strokes"' in body]
    colours = max(found, key=len)
    assert colours[0] == "141414" and colours[2] == "b02020"
    red, green, blue = bytes.fromhex(colours[1])
    assert red > green > blue > 20  # Wood.


def test_the_smallest_that_is_seen_is_searched(page: Page):
    canvas = open_pad(page)
    find = page.locator("#learn-pad").get_by_role("button", name="Find the smallest that is seen")
    sizes = page.locator("#learn-sizes")
    find.click()
    expect(sizes.get_by_role("alert")).to_contain_text("Draw a stroke first", timeout=TIMEOUT)
    drag(page, canvas, (0.2, 0.2), (0.3, 0.2))
    verdict(page, "Seen")
    find.click()
    expect(sizes).to_contain_text(
        re.compile(r"The smallest dot that is seen is [\d.]+ pixels across"), timeout=TIMEOUT
    )
    expect(sizes.get_by_role("img")).to_have_attribute("aria-label", re.compile("The threshold is"))


def test_another_example_brings_another_pad(page: Page):
    canvas = open_pad(page)
    drag(page, canvas, (0.2, 0.2), (0.3, 0.2))
    verdict(page, "Seen")
    picture = page.locator("#learn-pad img")
    before = picture.get_attribute("src")
    page.locator("#learn").get_by_label("Example").click()
    page.get_by_role("option", name=OTHER.example.title).click()
    expect(page.locator("#learn-start")).to_contain_text(OTHER.object_name, timeout=TIMEOUT)
    expect(picture).not_to_have_attribute("src", before, timeout=TIMEOUT)
    expect(page.locator("#learn-drawn")).to_contain_text("appears here", timeout=TIMEOUT)
    assert OTHER.object_name != FIRST.object_name
    drag(page, page.locator("#learn-pad canvas"), (0.4, 0.4), (0.6, 0.6))
    verdict(page, "(Seen|Not seen)")


@pytest.mark.slow
def test_no_serious_fault_is_found_around_a_drawing(page: Page):
    canvas = open_pad(page)
    drag(page, canvas, (0.2, 0.2), (0.3, 0.2))
    verdict(page, "Seen")
    page.locator("#learn-pad").get_by_role("button", name="Find the smallest").click()
    expect(page.locator("#learn-sizes .ic-plot")).to_be_visible(timeout=TIMEOUT)
    assert in_every_look(page, "drawing") == {}
