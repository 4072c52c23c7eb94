"""Images that a visitor has labelled, looked through in a real Chromium."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from inctrl_core.analysis import score_labelled
from inctrl_core.analysis.labelled import LabelledResult
from inctrl_core.images.files import open_image
from inctrl_core.images.perturbations import brighten
from tests.browser.conftest import NARROW
from tests.support.pictures import LABELLED, SMALL_MARKS

pytestmark = [pytest.mark.browser, pytest.mark.unopened]

TIMEOUT = 60_000
CARD, WHY = "#labelled-card .ic-failure", "#labelled-reason .ic-why"


def open_fields(page: Page, address: str, theme: str = "light") -> None:
    page.goto(f"{address}?tab=batch&__theme={theme}")
    expect(page.locator("#batch-run")).to_be_visible(timeout=TIMEOUT)
    expect(page.locator("#batch-good")).not_to_be_visible()  # Folded until it is used.
    page.locator("#batch-labelled > button").click()
    expect(page.locator("#batch-good")).to_be_visible()


def give(page: Page, field: str, files: list[Path]) -> None:
    page.locator(f"{field} input[type=file]").set_input_files(files)


def counts(page: Page) -> list[int]:
    """Misses, false alarms, found, passed."""
    return [int(text) for text in page.locator("#labelled-figures dd strong").all_inner_texts()]


def expected(result: LabelledResult) -> list[int]:
    return list(result.counts.values())


def name(page: Page) -> str:
    return page.locator(CARD).get_attribute("data-name")


@pytest.fixture(scope="module")
def example(detector) -> LabelledResult:
    """What the page's own labelled example comes to."""
    plates = LABELLED.example
    good, bad = ([q.path for q in plates.queries if q.anomalous is kind] for kind in (False, True))
    return score_labelled(detector, plates.normals, good, bad, plates.object_name)


def test_one_click_shows_figures_and_failures(page: Page, address: str, example: LabelledResult):
    open_fields(page, address)
    page.locator("#batch-try-labelled").click()
    expect(page.locator(CARD)).to_be_visible(timeout=TIMEOUT)
    assert counts(page) == expected(example) and len(example.failures) == 2
    expect(page.locator(".ic-auroc")).to_have_text(f"{example.metrics['auroc']:.3f}")
    expect(page.locator(".ic-ap")).to_have_text(f"{example.metrics['ap']:.3f}")
    first, second = (image.name for image in example.failures)
    assert name(page) == first
    expect(page.locator(WHY)).to_have_attribute("data-cause", "size", timeout=TIMEOUT)
    # By keys and by buttons, around the ends.
    page.locator("#labelled-figures h2").click()
    page.keyboard.press("ArrowRight")
    expect(page.locator(CARD)).to_have_attribute("data-name", second, timeout=TIMEOUT)
    page.get_by_role("button", name="Next image").click()
    expect(page.locator(CARD)).to_have_attribute("data-name", first, timeout=TIMEOUT)
    page.keyboard.press("ArrowLeft")
    expect(page.locator(CARD)).to_have_attribute("data-name", second, timeout=TIMEOUT)
    expect(page.locator(WHY)).to_be_visible(timeout=TIMEOUT)


def test_counts_and_failures_follow_the_threshold(
    page: Page, address: str, example: LabelledResult
):
    open_fields(page, address)
    page.locator("#batch-try-labelled").click()
    expect(page.locator(CARD)).to_be_visible(timeout=TIMEOUT)
    before = example.metrics
    for line in (0.9, 0.01):  # Each leaves another number of failures.
        moved = example.at(line)
        field = page.locator("#labelled-threshold input[type=number]")
        field.fill(str(line))
        field.press("Enter")
        expect(page.locator(f"{CARD} .ic-label")).to_contain_text(
            f"of {len(moved.failures)}", timeout=TIMEOUT
        )
        assert counts(page) == expected(moved)
        expect(page.locator(".ic-auroc")).to_have_text(f"{before['auroc']:.3f}")
    page.get_by_label("All images").check()
    expect(page.locator(f"{CARD} .ic-label")).to_contain_text(f"of {len(example.images)}")


def test_a_zip_of_ones_own_gives_a_report_that_works_alone(
    page: Page, address: str, browser: Browser, tmp_path: Path
):
    dark = tmp_path / "dark.png"
    brighten(open_image(SMALL_MARKS.good), 40).save(dark)
    archive = tmp_path / "mine.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(dark, "mine/OK/dark.png")
        made.write(SMALL_MARKS.query("good_2"), "mine/OK/fine.jpg")
        for kind in ("fibre", "one_speck"):
            made.write(SMALL_MARKS.query(kind), f"mine/NG/{kind}.jpg")
            made.write(SMALL_MARKS.folder / "masks" / f"{kind}_mask.png", f"mine/MASK/{kind}.png")
    open_fields(page, address)
    give(page, "#normals", SMALL_MARKS.normals)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(6, timeout=TIMEOUT)
    give(page, "#batch-zip-file", [archive])
    expect(page.locator("#batch-zip-file .file")).to_have_count(1, timeout=TIMEOUT)
    page.locator("#batch-run").click()
    expect(page.locator(CARD)).to_be_visible(timeout=TIMEOUT)
    assert counts(page) == [0, 1, 2, 1]
    assert name(page) == "OK: dark.png"
    expect(page.locator(WHY)).to_have_attribute("data-cause", "light", timeout=TIMEOUT)
    with page.expect_download(timeout=TIMEOUT) as waiting:
        page.locator("#labelled-save").click()
    report = tmp_path / "report.html"
    waiting.value.save_as(report)
    context = browser.new_context(java_script_enabled=False, offline=True)
    alone = context.new_page()
    asked: list[str] = []
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto(report.as_uri())
    expect(alone.locator("h2").first).to_have_text("1 false alarm among 4 labelled images")
    expect(alone.locator(".ic-failure")).to_have_count(1)
    expect(alone.locator(".ic-failure")).to_contain_text("light")
    expect(alone.locator(".ic-failure img")).to_have_count(2)
    context.close()
    assert all(url.startswith(("file:", "data:")) for url in asked)
    context = browser.new_context(offline=True)
    alone = context.new_page()
    alone.goto(report.as_uri())
    widths = alone.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
    context.close()
    assert widths and min(widths) > 100


def test_a_bad_zip_gets_a_sentence_and_takes_nothing_away(page: Page, address: str, tmp_path: Path):
    open_fields(page, address)
    page.locator("#batch-try-labelled").click()
    expect(page.locator(CARD)).to_be_visible(timeout=TIMEOUT)
    shown = name(page)
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"no archive")
    give(page, "#batch-zip-file", [broken])
    expect(page.locator("#batch-zip-file .file")).to_have_count(1, timeout=TIMEOUT)
    page.locator("#batch-run").click()
    expect(page.locator("#batch-notice .ic-error")).to_contain_text("broken.zip", timeout=TIMEOUT)
    assert name(page) == shown
    count = len(LABELLED.example.normals)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(count)


def test_on_a_phone_nothing_is_cut(browser: Browser, address: str, example: LabelledResult):
    context = browser.new_context(viewport=NARROW, has_touch=True)
    page = context.new_page()
    open_fields(page, address, "dark")
    page.locator("#batch-try-labelled").click()
    expect(page.locator(WHY)).to_be_visible(timeout=TIMEOUT)
    following = example.failures[1].name
    page.get_by_role("button", name="Next image").tap()
    expect(page.locator(CARD)).to_have_attribute("data-name", following, timeout=TIMEOUT)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    box = page.get_by_role("button", name="Next image").bounding_box()
    assert box["height"] >= 40 and box["width"] >= 44
    assert re.match(r"False alarm · 2 of 2", page.locator(f"{CARD} .ic-label").inner_text())
    context.close()
