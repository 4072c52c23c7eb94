"""The guided tour: by mouse and by keyboard, wide and narrow, from a link, and to its end."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from inctrl_core.ui.tour.tour import STEPS
from tests.browser.conftest import NARROW, WIDE
from tests.browser.test_access import serious_faults
from tests.browser.visit import SCORE, TIMEOUT, open_example
from tests.support.pictures import OTHER

pytestmark = pytest.mark.browser

IN_VIEW = """place => {
  const top = place.getBoundingClientRect().top;
  return top >= 0 && top < document.querySelector('#tour').getBoundingClientRect().top;
}"""


def expect_step(page: Page, number: int) -> None:
    step = STEPS[number - 1]
    heading = page.locator("#tour h2:visible")
    expect(heading).to_have_text(step.title, timeout=TIMEOUT)
    expect(heading).to_be_focused()
    place = page.locator(step.place)
    expect(place).to_have_class(re.compile("ic-toured"), timeout=TIMEOUT)
    expect(page.locator(".ic-toured")).to_have_count(1)
    page.wait_for_function(IN_VIEW, arg=place.element_handle(), timeout=TIMEOUT)
    assert f"tour={number}" in page.url


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_whole_tour_by_keyboard(page: Page, size: dict) -> None:
    page.set_viewport_size(size)
    expect(page.locator("#tour")).to_be_hidden()
    begin = page.get_by_role("button", name="Take the tour")
    begin.focus()
    page.keyboard.press("Enter")
    for number in range(1, len(STEPS) + 1):
        expect_step(page, number)
        assert serious_faults(page) == []
        last = number == len(STEPS)
        page.get_by_role("button", name="Finish" if last else "Next", exact=True).focus()
        page.keyboard.press("Enter")
    expect(page.locator("#tour")).to_be_hidden()
    expect(page.locator(".ic-toured")).to_have_count(0)
    expect(begin).to_be_focused()
    assert "tour=" not in page.url


@pytest.mark.unopened
def test_a_link_leads_to_its_step_and_back_to_the_one_before(page: Page, address: str) -> None:
    page.goto(f"{address}?tour=3")
    expect_step(page, 3)
    expect(page.locator(SCORE)).to_be_visible()
    page.get_by_role("button", name="Back").click()
    expect_step(page, 2)
    page.keyboard.press("Escape")
    expect(page.locator("#tour")).to_be_hidden()


@pytest.mark.unopened
@pytest.mark.parametrize(("named", "number"), [("", 1), ("x", 1), ("0", 1), ("99", 5)])
def test_any_number_leads_somewhere(page: Page, address: str, named: str, number: int) -> None:
    page.goto(f"{address}?tour={named}")
    expect_step(page, number)


def test_a_visitors_own_result_is_left_as_it_is(page: Page) -> None:
    score = open_example(page, OTHER.name)
    page.get_by_role("button", name="Take the tour").click()
    expect_step(page, 1)
    assert float(page.locator(SCORE).inner_text()) == score
    expect(page.get_by_label("What is it?")).to_have_value(OTHER.object_name)
    page.get_by_role("button", name="End the tour").click()
    expect(page.locator("#tour")).to_be_hidden()
