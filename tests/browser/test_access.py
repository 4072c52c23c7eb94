"""The page for those who do not see it, or do not point at it: names, order, contrast, keyboard."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE
from tests.browser.screenshots import TABS
from tests.browser.visit import SCORE, TIMEOUT, files, open_example
from tests.support.pictures import FIRST, UPLOADED

pytestmark = pytest.mark.browser

LEVELS = """[...document.querySelectorAll('h1, h2, h3, h4, h5, h6')]
  .filter(heading => heading.getClientRects().length).map(heading => Number(heading.tagName[1]))"""
# What can be used now. Of a group of radio buttons the keyboard stops at one, arrows do the rest.
CONTROLS = """[...document.querySelectorAll(
    'a[href], button, input, select, textarea, summary, [tabindex="0"]')].filter(control =>
  control.checkVisibility({visibilityProperty: true}) && !control.disabled
  && !control.closest('[inert]') && control.type !== 'file' && control.tabIndex >= 0
  && !(control.type === 'radio' && !control.checked))"""
UNFOLD = """
document.querySelectorAll('details').forEach(part => part.open = true);
document.querySelectorAll('#main button.label-wrap:not(.open)').forEach(
  button => button.checkVisibility() && button.click())"""
# Colours fade over, messages fade in, and what is being computed is half seen; what turns for ever
# does not count.
AT_REST = """!document.querySelector('.pending') && document.getAnimations().every(
  one => one.playState !== 'running' || one.effect.getComputedTiming().endTime === Infinity)"""
ASKED = """performance.getEntriesByType('resource').filter(
  one => one.name.includes('/queue/join')).length"""
SCRIPT_LOADED = "document.querySelector('#main > .tab-wrapper')"
# Gradio's own markup where nothing from outside can mend it: (rule, part of its markup).
KNOWN: set[tuple[str, str]] = set()


def open_tab(page: Page, address: str, tab: str) -> None:
    page.goto(f"{address}?tab={tab}")
    page.wait_for_function(SCRIPT_LOADED, timeout=TIMEOUT)
    expect(page.locator(f"#{tab}-button")).to_have_attribute(
        "aria-selected", "true", timeout=TIMEOUT
    )


def serious_faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical, each with its place and what would mend it.

    Where something is computed meanwhile the page is read again.
    """
    rested = False
    while not rested:
        page.wait_for_function(AT_REST, timeout=TIMEOUT)
        asked = page.evaluate(ASKED)
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        rested = page.evaluate(AT_REST) and page.evaluate(ASKED) == asked
    return [
        f"{fault['id']} at {node['target']}: {node['failureSummary']}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
        if not any(fault["id"] == rule and part in node["html"] for rule, part in KNOWN)
    ]


def in_every_look(page: Page, tab: str) -> dict[str, list[str]]:
    """The faults of what is shown, wide and narrow, light and dark; folded parts opened."""
    page.evaluate(UNFOLD)
    faults = {}
    for width, size in (("wide", WIDE), ("narrow", NARROW)):
        page.set_viewport_size(size)
        for theme in ("light", "dark"):
            page.evaluate(f"document.body.classList.toggle('dark', {str(theme == 'dark').lower()})")
            faults[f"{tab} {width} {theme}"] = serious_faults(page)
    return {look: found for look, found in faults.items() if found}


def assert_headings_descend(page: Page) -> None:
    levels = page.evaluate(LEVELS)
    assert levels.count(1) == 1 and levels[0] == 1
    assert len(levels) > 1
    for before, after in zip(levels, levels[1:], strict=False):
        assert after <= before + 1, levels


@pytest.mark.unopened
@pytest.mark.slow
@pytest.mark.parametrize("tab", TABS)
def test_no_serious_fault_is_found_before_and_after_a_result(
    page: Page, address: str, tab: str
) -> None:
    open_tab(page, address, tab)
    assert_headings_descend(page)
    assert serious_faults(page) == []
    TABS[tab](page)
    assert_headings_descend(page)
    if tab == "live":
        page.get_by_role("button", name="Stop").click()  # Else it draws while it is read.
    assert in_every_look(page, tab) == {}


@pytest.mark.unopened
@pytest.mark.slow
def test_no_serious_fault_is_found_in_labelled_results_and_errors(page: Page, address: str) -> None:
    open_tab(page, address, "batch")
    page.get_by_role("button", name="My images are labelled").click()
    page.locator("#batch-try-labelled").click()
    expect(page.locator("#labelled-card h3")).to_be_visible(timeout=TIMEOUT)
    assert_headings_descend(page)
    assert in_every_look(page, "labelled") == {}
    open_tab(page, address, "inspect")
    page.locator("#score").click()
    expect(page.locator("#normals [role=alert]")).to_contain_text(
        "at least one normal", timeout=TIMEOUT
    )
    assert serious_faults(page) == []


@pytest.mark.unopened
@pytest.mark.slow
@pytest.mark.parametrize("tab", TABS)
def test_every_control_is_reached_by_keyboard(page: Page, address: str, tab: str) -> None:
    open_tab(page, address, tab)
    TABS[tab](page)
    page.wait_for_timeout(1000)
    count = page.evaluate(f"(window.wanted = new Set({CONTROLS})).size")
    assert count > 8
    page.evaluate(
        "document.addEventListener('focusin', event => window.wanted.delete(event.target), true);"
        "document.activeElement.blur(); window.scrollTo(0, 0)"
    )
    for _ in range(2 * count):
        page.keyboard.press("Tab")
    left = page.evaluate(
        "[...window.wanted].filter(control => control.isConnected).map(c => c.outerHTML)"
    )
    assert left == []


def test_every_field_of_images_has_a_name_of_its_own(page: Page) -> None:
    names = "[...document.querySelectorAll('{}')].map(button => button.ariaLabel)"
    areas = names.format("#form button.upload-container")
    page.wait_for_function(f"{areas}.every(name => name.includes(': '))", timeout=TIMEOUT)
    normals, query = page.evaluate(areas)
    assert normals.startswith("Normal images: ")
    assert query.startswith("To check: ")
    open_example(page, FIRST.name)
    buttons = names.format("#form .block button[aria-label]:not([inert], .disable_click)")
    page.wait_for_function(f"{buttons}.every(name => name.includes(': '))", timeout=TIMEOUT)
    named = page.evaluate(buttons)
    assert len(named) > 2 * len(FIRST.example.normals)
    assert len(set(named)) == len(named)


def test_more_normals_can_be_added_to_those_there_by_keyboard(page: Page) -> None:
    page.on("filechooser", lambda _: None)  # Else the browser may tell of the first one too late.
    open_example(page, FIRST.name)
    count = page.locator("#normals .thumbnail-item").count()
    add = page.get_by_role("button", name="Normal images: Click to Upload", exact=True)
    for press in (add.click, lambda: add.press("Enter")):
        with page.expect_file_chooser() as chosen:
            press()
        chosen.value.set_files(files(UPLOADED.name, "normals", 1))
        count += 1
        expect(page.locator("#normals .thumbnail-item")).to_have_count(count, timeout=TIMEOUT)


def test_what_is_read_first_is_used_first(page: Page) -> None:
    page.wait_for_function(SCRIPT_LOADED, timeout=TIMEOUT)
    places = ("#inspect-button", "#examples button", "#normals", "#object-name", "#query", "#score")
    for first, second in zip(places, [*places[1:], "#notice"], strict=True):
        follows = page.evaluate(
            "([a, b]) => document.querySelector(a).compareDocumentPosition("
            "document.querySelector(b)) & Node.DOCUMENT_POSITION_FOLLOWING",
            [first, second],
        )
        assert follows, (first, second)


def test_score_is_on_the_first_screen_whatever_the_form_holds(page: Page) -> None:
    button = page.locator("#score")
    expect(button).to_be_in_viewport(ratio=1)
    open_example(page, FIRST.name)
    page.evaluate("window.scrollTo(0, 0)")
    expect(button).to_be_in_viewport(ratio=1)
    page.locator("#object-name").get_by_role("textbox").fill("ring")
    box = button.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#text")).to_contain_text("ring", timeout=TIMEOUT)


def press_until(page: Page, selector: str) -> None:
    """Presses Tab until the keyboard is there."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
    raise AssertionError(f"{selector} is not reached")


def test_from_the_top_of_the_page_to_a_verdict_by_keyboard(page: Page) -> None:
    page.wait_for_function(SCRIPT_LOADED, timeout=TIMEOUT)
    press_until(page, f"#examples button[data-set={FIRST.name}]")
    page.keyboard.press("Enter")
    expect(page.locator(SCORE)).to_be_visible(timeout=TIMEOUT)
    expect(page.locator("#verdict h2")).to_be_visible()


def test_own_images_are_scored_by_keyboard(page: Page) -> None:
    page.on("filechooser", lambda _: None)  # Else the browser may tell of the first one too late.
    page.wait_for_function(SCRIPT_LOADED, timeout=TIMEOUT)
    for field, chosen in (
        ("#normals", files(UPLOADED.name, "normals", 3)),
        ("#query", files(UPLOADED.name, "queries", 1)),
    ):
        press_until(page, f"{field} button.upload-container")
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(chosen if field == "#normals" else chosen[0])
        images = page.locator(f"{field} img")
        expect(images).to_have_count(len(chosen), timeout=TIMEOUT)
    press_until(page, "#score")
    page.keyboard.press("Enter")
    expect(page.locator(SCORE)).to_be_visible(timeout=TIMEOUT)
