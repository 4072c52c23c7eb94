"""The tab Learn in a real Chromium: opened, followed to another patch, to other images."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import NARROW
from tests.support.pictures import CLEAR, FIRST, LABELLED, OTHER

pytestmark = pytest.mark.browser

TIMEOUT = 60_000


def open_learn(page: Page) -> None:
    page.locator("#learn-button").click()
    expect(page.locator("#learn-last .ic-step").last).to_be_visible(timeout=TIMEOUT)


def result(page: Page, label: str) -> Locator:
    """The result of the sum of that name."""
    line = page.locator("#learn .ic-sum").filter(has_text=re.compile(f"^{label}"))
    return line.last.locator("strong")


def choose(page: Page, label: str, option: str) -> None:
    page.locator("#learn").get_by_label(label).click()
    page.get_by_role("option", name=option).click()


def test_opening_the_tab_walks_through_an_example(page: Page) -> None:
    # Before the tab is opened nothing is worked out.
    assert page.locator("#learn-last .ic-step").count() == 0
    open_learn(page)
    expect(page.locator("#learn .ic-step")).to_have_count(8)
    expect(page.locator("#form")).to_be_hidden()
    assert page.locator("#learn").bounding_box()["width"] > 1300
    shown = {name: float(result(page, name).inner_text()) for name in ("Shallow", "Middle", "Deep")}
    mean = float(result(page, "This patch").inner_text())
    assert mean == pytest.approx(sum(shown.values()) / 3, abs=0.0011)
    expect(result(page, "Largest of 225 patches")).to_have_text(f"{mean:.3f}")
    expect(page.locator("#learn-start")).to_contain_text(FIRST.object_name)


def test_a_link_opens_the_lesson(page: Page, address: str) -> None:
    page.goto(f"{address}?tab=learn")
    expect(page.locator("#learn .ic-step")).to_have_count(8, timeout=TIMEOUT)


def test_every_step_is_one_click_away(page: Page) -> None:
    open_learn(page)
    buttons = page.locator("#learn .ic-way button")
    expect(buttons).to_have_count(7)
    for number in (7, 3):
        buttons.nth(number - 1).click()
        expect(page.locator(f"#ic-step-{number}")).to_be_in_viewport()
        expect(page.locator(f"#ic-step-{10 - number}")).not_to_be_in_viewport()
    expect(page.locator("#learn .ic-step")).to_have_count(8)  # The lesson is still there.


def test_another_patch_by_click_and_by_keyboard(page: Page) -> None:
    open_learn(page)
    before = page.locator("#learn-last").inner_html()
    picture = page.locator("#learn-chosen .ic-crop[data-grid]")
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] * 2.5 / 15, "y": box["height"] * 10.5 / 15})
    expect(page.locator("#learn-chosen")).to_contain_text("row 11, column 3", timeout=TIMEOUT)
    expect(page.get_by_label("Patch row")).to_have_value("11")
    first = result(page, "This patch").inner_text()
    page.get_by_label("Patch column").focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#learn-chosen")).to_contain_text("row 11, column 4", timeout=TIMEOUT)
    expect(result(page, "This patch")).not_to_have_text(first, timeout=TIMEOUT)
    # The score does not hang on the patch that is looked at.
    assert page.locator("#learn-last").inner_html() == before
    page.get_by_label("Patch column").fill("16")
    expect(page.locator("#learn-mistake [role=alert]")).to_have_text(
        "Choose a row and a column between 1 and 15.", timeout=TIMEOUT
    )
    expect(page.locator("#learn-chosen")).to_contain_text("row 11, column 4")
    page.get_by_label("Patch column").fill("5")
    expect(page.locator("#learn-mistake [role=alert]")).to_have_count(0, timeout=TIMEOUT)
    page.locator("#learn-following .ic-maps .ic-crop").last.click(position={"x": 3, "y": 3})
    expect(page.locator("#learn-chosen")).to_contain_text("row 1, column 1", timeout=TIMEOUT)


def test_another_example_and_another_image_of_it(page: Page) -> None:
    open_learn(page)
    choose(page, "Example", OTHER.example.title)
    expect(page.locator("#learn-start")).to_contain_text(OTHER.object_name, timeout=TIMEOUT)
    note = OTHER.example.queries[OTHER.example.cover].note
    expect(page.get_by_label("Image to check")).to_have_value(re.compile(re.escape(note)))
    score = result(page, "Score").inner_text()
    choose(page, "Image to check", "1. ")
    expect(result(page, "Score")).not_to_have_text(score, timeout=TIMEOUT)


def test_own_images_from_inspect(page: Page) -> None:
    page.locator(f"#examples button[data-set={LABELLED.name}]").click()
    expect(page.locator("#verdict .ic-score")).to_be_visible(timeout=TIMEOUT)
    score = page.locator("#verdict .ic-score").inner_text()
    open_learn(page)
    expect(page.locator("#learn").get_by_label("Example")).to_have_value("Your images from Inspect")
    expect(page.locator("#learn-start")).to_contain_text(LABELLED.object_name)
    expect(result(page, "Score")).to_have_text(score)
    # Another result in Inspect is taken up when the tab is opened again.
    page.locator("#inspect-button").click()
    page.locator("#queries button[data-query='0']").click()
    expect(page.locator("#verdict .ic-score")).not_to_have_text(score, timeout=TIMEOUT)
    newer = page.locator("#verdict .ic-score").inner_text()
    page.locator("#learn-button").click()
    expect(result(page, "Score")).to_have_text(newer, timeout=TIMEOUT)
    # What was walked through stays when nothing has changed.
    choose(page, "Example", CLEAR.example.title)
    expect(page.locator("#learn-start")).to_contain_text(f"of {CLEAR.object_name}", timeout=TIMEOUT)
    page.locator("#inspect-button").click()
    page.locator("#learn-button").click()
    expect(page.locator("#learn-start")).to_contain_text(f"of {CLEAR.object_name}")


def test_a_result_of_inspect_is_followed_at_a_click(page: Page) -> None:
    open_learn(page)  # With an example, which the visitor's own result takes the place of.
    page.locator("#inspect-button").click()
    page.locator(f"#examples button[data-set={LABELLED.name}]").click()
    expect(page.locator("#verdict .ic-score")).to_be_visible(timeout=TIMEOUT)
    score = page.locator("#verdict .ic-score").inner_text()
    page.locator("#follow-result").click()
    expect(page.locator("#learn-button")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#learn-start")).to_contain_text(LABELLED.object_name, timeout=TIMEOUT)
    expect(page.locator("#learn").get_by_label("Example")).to_have_value("Your images from Inspect")
    expect(result(page, "Score")).to_have_text(score)


def test_details_that_are_open_stay_open_at_another_patch(page: Page) -> None:
    open_learn(page)
    details = page.locator("#learn-chosen details")
    expect(details).not_to_have_attribute("open", "")
    details.locator("summary").click()
    for column in ("4", "5"):
        page.get_by_label("Patch column").fill(column)
        expect(page.locator("#learn-chosen")).to_contain_text(f"column {column}", timeout=TIMEOUT)
        expect(details).to_have_attribute("open", "")
    details.locator("summary").click()
    page.get_by_label("Patch column").fill("6")
    expect(page.locator("#learn-chosen")).to_contain_text("column 6", timeout=TIMEOUT)
    expect(details).not_to_have_attribute("open", "")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_narrow_page_stacks_and_does_not_scroll_sideways(
    page: Page, address: str, theme: str
) -> None:
    page.set_viewport_size(NARROW)
    page.goto(f"{address}?tab=learn&__theme={theme}")
    expect(page.locator("#learn .ic-step")).to_have_count(8, timeout=TIMEOUT)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    pictures, words = page.locator("#learn-chosen .ic-step-body > div").all()
    assert words.bounding_box()["y"] >= pictures.bounding_box()["y"]
    assert words.bounding_box()["x"] == pictures.bounding_box()["x"]
