"""Every tab on a ZeroGPU Space: it works on GPUs that are lent, and says where none is."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import WIDE
from tests.browser.visit import SCORE, open_example
from tests.support.lending_service import LendingService, lend, refuse, running_service
from tests.support.pictures import FIRST
from tests.support.zero_gpu import Space, needs_cuda_build, running_space

pytestmark = [pytest.mark.browser, pytest.mark.slow, needs_cuda_build]

TIMEOUT = 120_000
NO_GPU = "There is no GPU to lend at the moment; try again in a minute, or reload the page."
# Where each tab says what went wrong.
PLACES = {
    "inspect": "#notice",
    "batch": "#batch-notice",
    "stress": "#stress-notice",
    "failures": "#case-answer",
    "learn": "#learn-notice",
    # Last: frames on their way when the page closes still ask, and would count for the next tab.
    "live": ".ic-live-says",
}


@pytest.fixture(scope="module")
def service() -> Iterator[LendingService]:
    with running_service() as running:
        yield running


@pytest.fixture(scope="module")
def space(service: LendingService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    with running_space(tmp_path_factory.mktemp("space"), service.url) as running:
        yield running


@pytest.fixture
def visitor(browser: Browser, space: Space, service: LendingService) -> Iterator[Page]:
    service.requests.clear()
    page = browser.new_context(viewport=WIDE).new_page()
    yield page
    page.context.close()


def begin(page: Page, space: Space, tab: str) -> None:
    """Does the first thing that needs a model in a tab."""
    # Gradio's page reloads itself when it loses its server, which would end a slow navigation.
    page.goto("about:blank")
    page.goto(f"{space.url}?tab={tab}")
    expect(page.locator(f"#{tab}-button")).to_have_attribute(
        "aria-selected", "true", timeout=TIMEOUT
    )
    if tab == "inspect":
        page.locator(f"#examples button[data-set={FIRST.name}]").click()
    elif tab == "batch":
        page.locator(f"#batch-examples button[data-set={FIRST.name}]").click()
    elif tab == "live":
        page.get_by_role("button", name="Try with an example").click()
    elif tab == "stress":
        page.locator("#stress-examples").get_by_role("button", name="Try with an example").click()
    elif tab == "failures":
        page.locator("#case-answer [data-guess=alarm]").click()


@pytest.mark.parametrize("tab", PLACES)
def test_a_tab_without_a_gpu_says_so(tab, visitor, space, service):
    service.answer = refuse(503)
    begin(visitor, space, tab)
    expect(visitor.locator(PLACES[tab])).to_contain_text(NO_GPU, timeout=TIMEOUT)
    asked = len(service.asked("/schedule"))
    assert asked == 1 or (tab == "live" and asked)  # The camera goes on asking.


def test_a_result_stays_where_the_next_step_gets_none(visitor, space, service):
    service.answer = lend(idle=True)
    visitor.goto(space.url)
    open_example(visitor, FIRST.name)
    score = visitor.locator(SCORE).inner_text()
    visitor.locator("#add-normal").click()
    expect(visitor.locator("#add-normal")).to_contain_text("out of the normals", timeout=TIMEOUT)
    expect(visitor.locator(SCORE)).to_have_text("0.000", timeout=TIMEOUT)
    service.answer = refuse(503)
    visitor.locator("#add-normal").click()
    expect(visitor.locator("#notice")).to_contain_text(NO_GPU, timeout=TIMEOUT)
    expect(visitor.locator(SCORE)).to_have_text("0.000")
    service.answer = lend(idle=True)
    visitor.locator("#add-normal").click()
    expect(visitor.locator(SCORE)).to_have_text(score, timeout=TIMEOUT)
    visitor.get_by_role("button", name="Add phrases of your own").click()
    visitor.get_by_label("Describe it when damaged, one phrase a line").fill("bent screw")
    visitor.locator("#apply-phrases").click()
    expect(visitor.locator("#verdict")).to_contain_text("1 of your own phrases", timeout=TIMEOUT)


def test_every_tab_works_where_one_is_lent(visitor, space, service):
    service.answer = lend(idle=True)
    begin(visitor, space, "batch")
    rows = visitor.locator("#batch-table tbody tr")
    expect(rows.first).to_be_visible(timeout=TIMEOUT)
    expect(rows.first).to_contain_text(re.compile(r"\d\.\d{3}"))
    begin(visitor, space, "live")
    expect(visitor.locator(".ic-live .ic-score")).to_have_text(
        re.compile(r"^\d\.\d{3}$"), timeout=TIMEOUT
    )
    begin(visitor, space, "stress")
    expect(visitor.locator("#stress-head")).to_contain_text("All tests are done.", timeout=TIMEOUT)
    begin(visitor, space, "failures")
    expect(visitor.locator("#case-answer .ic-outcome h2")).to_be_visible(timeout=TIMEOUT)
    visitor.locator("#try-remedy").click()
    remedy = visitor.locator("#case-remedy")
    expect(remedy).to_contain_text(re.compile(r"\d\.\d{3}"), timeout=TIMEOUT)
    begin(visitor, space, "learn")
    expect(visitor.locator("#learn .ic-step")).to_have_count(8, timeout=TIMEOUT)
    assert len(service.asked("/schedule")) == len(service.asked("/release"))
    assert "Low-level CUDA" not in space.says()
