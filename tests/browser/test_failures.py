"""The tab Failures in a real Chromium: guess, reveal, advice, links."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from inctrl_core.ui.common.examples import load_examples
from tests.browser.conftest import NARROW, WIDE
from tests.browser.visit import open_example

pytestmark = pytest.mark.browser

TIMEOUT = 60_000
FAILING = [name for name, example in load_examples().items() if example.fails]
OUTCOME = "#case-answer .ic-outcome h2"


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator:
    """Opens the page at a query as a fresh visitor."""
    contexts = []

    def open_page(query: str, **options: object) -> Page:
        contexts.append(browser.new_context(**({"viewport": WIDE} | options)))
        page = contexts[-1].new_page()
        page.goto(f"{address.rstrip('/')}/{query}")
        page.locator("#case-answer").wait_for(timeout=TIMEOUT)
        return page

    yield open_page
    for context in contexts:
        context.close()


def guess(page: Page, answer: str, expected: str) -> None:
    page.locator(f"#case-answer [data-guess={answer}]").click()
    expect(page.locator(OUTCOME)).to_have_text(expected, timeout=TIMEOUT)


def opened(page: Page, name: str) -> None:
    expect(page.locator(f"#case-nav [data-copy={name}]")).to_be_visible(timeout=TIMEOUT)
    expect(page.locator(f"#case-cards [data-case={name}]")).to_have_attribute(
        "aria-pressed", "true", timeout=TIMEOUT
    )


def no_sideways_scroll(page: Page) -> None:
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= page.viewport_size["width"]


def test_one_guess_gives_a_result_and_another_case_starts_anew(visit):
    page = visit("?tab=failures")
    expect(page.locator("#form")).not_to_be_visible()
    expect(page.locator("#case-picture .ic-map")).to_have_count(0)
    guess(page, "alarm", "The model raises a false alarm")
    expect(page.locator("#case-answer")).to_contain_text("Your guess was right")
    expect(page.locator("#case-answer .ic-strip")).to_be_visible()
    expect(page.locator("#case-picture .ic-map")).to_be_visible()
    expect(page.locator("#case-cards")).to_contain_text("You guessed 1 of 1 right")
    page.get_by_label("Hide the map").check()
    expect(page.locator("#case-picture .ic-map")).not_to_be_visible()
    expect(page.locator("#case-picture .ic-plain")).to_be_visible()
    page.locator("#case-nav").get_by_text("Next case").click()
    opened(page, "toy-figure")
    expect(page.locator("#case-answer .ic-question")).to_be_visible()
    expect(page.locator("#case-picture .ic-map")).to_have_count(0)
    expect(page.locator("#look-closely")).not_to_be_visible()
    guess(page, "right", "The model misses it")
    expect(page.locator("#case-cards")).to_contain_text("You guessed 1 of 2 right")
    marks = page.locator("#case-cards .ic-guess-mark")
    expect(marks).to_have_text(["Your guess: right", "Your guess: wrong"])


def test_the_advice_can_be_tried_and_the_case_looked_at_closely(visit):
    page = visit("?case=bakery")
    opened(page, "bakery")
    guess(page, "missed", "The model misses it")
    page.locator("#try-remedy").click()
    expect(page.locator("#case-remedy h3")).to_have_text(
        "Now the model gets it right", timeout=TIMEOUT
    )
    expect(page.locator("#try-remedy")).not_to_be_visible()
    page.locator("#look-closely").click()
    expect(page.locator("#verdict h2")).to_contain_text("above the threshold", timeout=TIMEOUT)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(4, timeout=TIMEOUT)
    expect(page.get_by_label("What is it?")).to_have_value("cookie")
    expect(page).to_have_url(re.compile("^[^?]*/?$"))


def test_a_case_looked_at_closely_goes_into_the_normals_and_out_again(visit):
    page = visit("?tab=failures")
    guess(page, "alarm", "The model raises a false alarm")
    page.locator("#look-closely").click()
    expect(page.locator("#heatmap img")).to_have_attribute(
        "alt", re.compile("Heatmap over"), timeout=TIMEOUT
    )
    shown = page.locator("#normals .thumbnail-item")
    count = shown.count()
    score = page.locator("#verdict .ic-score").inner_text()
    page.locator("#add-normal").click()
    expect(shown).to_have_count(count + 1, timeout=TIMEOUT)
    expect(page.locator("#add-normal")).to_contain_text("Take this image out", timeout=TIMEOUT)
    page.locator("#add-normal").click()
    expect(shown).to_have_count(count, timeout=TIMEOUT)
    expect(page.locator("#verdict .ic-score")).to_have_text(score, timeout=TIMEOUT)


def test_a_link_opens_its_case_and_choosing_changes_the_address(visit):
    page = visit("?__theme=light&case=blood")
    opened(page, "blood")
    expect(page.locator("#case-asked h2")).to_contain_text("drop of blood")
    page.locator("#case-cards [data-case=cookie]").press("Enter")
    opened(page, "cookie")
    expect(page.locator("#case-asked h2")).to_be_focused()
    expect(page).to_have_url(re.compile(r"\?__theme=light&case=cookie$"))
    page.reload()
    opened(page, "cookie")


def test_the_link_of_the_open_case_is_copied(visit):
    page = visit("?case=cookie", permissions=["clipboard-read", "clipboard-write"])
    opened(page, "cookie")
    page.locator("[data-copy]").click()
    expect(page.locator("[data-copy]")).to_have_text("Link copied")
    assert page.evaluate("navigator.clipboard.readText()").endswith("/?case=cookie")


def test_an_unknown_case_gives_one_sentence_beside_the_gallery(visit):
    page = visit("?case=%3Cimg%20src%3Dx%3E")
    expect(page.locator("#case-notice [role=alert]")).to_have_text(
        "There is no case of that name. Choose one of those below.", timeout=TIMEOUT
    )
    page.locator("#case-cards [data-case=cookie]").click()
    opened(page, "cookie")
    expect(page.locator("#case-notice")).not_to_be_visible()


def test_by_keyboard_from_the_heading_to_the_answers_and_to_the_result(visit):
    page = visit("?case=blood")
    opened(page, "blood")
    page.locator("#case-cards [data-case=cookie]").press("Enter")
    expect(page.locator("#case-asked h2")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.locator("[data-guess=alarm]")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(OUTCOME)).to_be_focused(timeout=TIMEOUT)


def test_a_case_that_is_left_at_once_does_not_come_back(visit):
    page = visit("?case=cookie")
    opened(page, "cookie")
    page.locator("#case-answer [data-guess=alarm]").click()
    page.locator("#case-cards [data-case=blood]").click()
    opened(page, "blood")
    page.wait_for_timeout(4000)  # Longer than the model takes.
    expect(page.locator("#case-answer .ic-question")).to_be_visible()
    expect(page.locator("#case-picture .ic-map")).to_have_count(0)
    assert "case=blood" in page.url
    guess(page, "missed", "The model misses it")


@pytest.mark.parametrize("name", FAILING)
def test_an_example_of_where_it_fails_opens_on_a_failure(page: Page, name: str):
    open_example(page, name)
    shown = page.locator("#queries .ic-query[aria-pressed=true] .ic-truth")
    verdict = page.locator("#verdict h2")
    if shown.inner_text() == "anomalous":
        expect(verdict).to_have_text("Looks like the normals", timeout=TIMEOUT)
    else:
        expect(verdict).to_contain_text("above the threshold", timeout=TIMEOUT)


def test_two_visitors_keep_their_own_guesses(visit):
    first, second = visit("?case=cookie"), visit("?case=cookie")
    opened(first, "cookie")
    opened(second, "cookie")
    guess(first, "alarm", "The model raises a false alarm")
    guess(second, "missed", "The model raises a false alarm")
    expect(first.locator("#case-cards")).to_contain_text("You guessed 1 of 1 right")
    expect(second.locator("#case-cards")).to_contain_text("You guessed 0 of 1 right")


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_small_cause_is_magnified_and_advice_about_the_image_is_tried(visit, viewport):
    page = visit("?case=toy-figure", viewport=viewport)
    opened(page, "toy-figure")
    expect(page.locator(".ic-magnified")).to_have_count(0)
    guess(page, "missed", "The model misses it")
    closer = page.locator("#case-picture .ic-magnified img")
    expect(closer).to_be_visible()
    shown, whole = closer.bounding_box(), page.locator("#case-picture .ic-map").bounding_box()
    # 87 of 400 pixels across.
    assert shown["width"] / 87 > 2 * whole["width"] / 400
    page.locator("#try-remedy").click()
    expect(page.locator("#case-remedy h3")).to_have_text(
        "Now the model gets it right", timeout=TIMEOUT
    )
    expect(page.locator("#case-remedy .ic-control img")).to_be_visible()
    no_sideways_scroll(page)


def test_narrow_and_dark(visit):
    page = visit("?__theme=dark&case=light-plate", viewport=NARROW)
    opened(page, "light-plate")
    no_sideways_scroll(page)
    expect(page.locator("#case-cards [data-case=light-plate]")).to_be_in_viewport()
    guess(page, "missed", "The model raises a false alarm")
    expect(page.locator("#case-picture .ic-map")).to_be_in_viewport(timeout=TIMEOUT)
    no_sideways_scroll(page)
    # Both at once: the page still scrolls.
    end, beginning = page.evaluate(
        "[document.querySelector('#case-picture').getBoundingClientRect().bottom,"
        " document.querySelector('#case-answer').getBoundingClientRect().top]"
    )
    assert end <= beginning
    assert page.evaluate("document.body.classList.contains('dark')")
