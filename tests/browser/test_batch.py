"""Many images at once, as a visitor sees it in a real Chromium."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from inctrl_core.ui.common.examples import EXAMPLES
from tests.browser.conftest import NARROW
from tests.browser.visit import open_example
from tests.support.pictures import FAILING, FIRST, OTHER, UPLOADED

pytestmark = [pytest.mark.browser, pytest.mark.unopened]

TIMEOUT = 60_000
ROWS = "#batch-table tbody tr"


def open_tab(page: Page, address: str, theme: str = "light") -> None:
    page.goto(f"{address}?tab=batch&__theme={theme}")
    expect(page.locator("#batch-run")).to_be_visible(timeout=TIMEOUT)


def run_example(page: Page, name: str, count: int) -> None:
    page.locator(f"#batch-examples button[data-set={name}]").click()
    expect(page.locator(ROWS)).to_have_count(count, timeout=TIMEOUT)


def give(page: Page, normals: list[Path], queries: list[Path]) -> None:
    page.locator("#normals input[type=file]").set_input_files(normals)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(len(normals), timeout=TIMEOUT)
    page.locator("#batch-files input[type=file]").set_input_files(queries)
    expect(page.locator("#batch-files .file")).to_have_count(len(queries), timeout=TIMEOUT)


def files(name: str, folder: str) -> list[Path]:
    return sorted((EXAMPLES / name / folder).iterdir())


def column(page: Page, key: str) -> list[float]:
    return [float(v) for v in page.locator(ROWS).evaluate_all(f"r => r.map(x => x.dataset.{key})")]


def names(page: Page) -> list[str]:
    return page.locator(ROWS).evaluate_all("r => r.map(x => x.dataset.name)")


def saved(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download(timeout=TIMEOUT) as waiting:
        page.locator(button).click()
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_one_click_ranks_an_example_and_gives_its_truth(page: Page, address: str):
    open_tab(page, address)
    expect(page.locator("#batch-notice")).to_contain_text("try an example")
    run_example(page, FIRST.name, len(FIRST.queries))
    scores = column(page, "score")
    assert scores == sorted(scores, reverse=True) and len(set(scores)) > 1
    expect(page.locator("#batch-summary")).to_contain_text(
        f"5 of the {len(FIRST.queries)} images are actually anomalous"
    )
    expect(page.locator("#batch-summary")).to_contain_text(re.compile(r"\d+% \(AUROC\)"))
    expect(page.locator("#batch-histogram svg .ic-normal-range")).to_have_count(1)
    expect(page.locator(f"{ROWS} img")).to_have_count(len(FIRST.queries))
    expect(page.locator("#batch-run")).to_be_enabled()
    expect(page.locator("#batch-stop")).not_to_be_visible()
    expect(page.locator("#batch-notice .ic-working")).to_have_count(0)


def test_results_of_another_form_are_marked(page: Page, address: str):
    open_tab(page, address)
    notice = page.locator("#batch-notice")
    page.get_by_label("What is it?").fill("disc")
    expect(notice).to_contain_text("try an example")  # There are no results yet.
    run_example(page, FIRST.name, len(FIRST.queries))
    expect(notice.locator(".ic-old")).to_have_count(0)
    page.get_by_label("What is it?").fill("disc")
    expect(notice).to_have_text("The form has changed; press Score all again.")
    expect(page.locator(ROWS)).to_have_count(len(FIRST.queries))  # Nothing is lost.
    page.locator("#batch-run").click()
    expect(notice.locator(".ic-old")).to_have_count(0, timeout=TIMEOUT)


def test_headings_sort_by_click_and_by_keyboard(page: Page, address: str):
    open_tab(page, address)
    run_example(page, FIRST.name, len(FIRST.queries))
    score = page.locator("#batch-table th:has([data-sort=score])")
    expect(score).to_have_attribute("aria-sort", "descending")
    score.locator("button").click()
    expect(score).to_have_attribute("aria-sort", "ascending")
    assert column(page, "score") == sorted(column(page, "score"))
    page.locator("#batch-table [data-sort=name]").focus()
    page.keyboard.press("Enter")
    expect(score).not_to_have_attribute("aria-sort", re.compile("."))
    name = page.locator("#batch-table th:has([data-sort=name])")
    expect(name).to_have_attribute("aria-sort", "ascending")
    assert names(page) == sorted(names(page))
    page.keyboard.press("Space")
    expect(name).to_have_attribute("aria-sort", "descending")
    assert names(page) == sorted(names(page), reverse=True)


def test_an_image_that_is_good_joins_the_normals(page: Page, address: str, tmp_path: Path):
    open_tab(page, address)
    queries = [tmp_path / f"mine {index}.png" for index in range(4)]
    for path, original in zip(queries, UPLOADED.queries, strict=False):
        Image.open(original).save(path)
    give(page, UPLOADED.normals[:2], queries)
    page.locator("#batch-run").click()
    expect(page.locator(ROWS)).to_have_count(4, timeout=TIMEOUT)
    name = names(page)[0]
    page.locator(ROWS).first.get_by_role("button", name="This one is good").click()
    expect(page.locator("#normals .thumbnail-item")).to_have_count(3, timeout=TIMEOUT)
    expect(page.locator("#batch-summary")).to_contain_text("One more normal", timeout=TIMEOUT)
    row = page.locator(f'{ROWS}[data-name="{name}"]')
    expect(row).to_contain_text("is normal 3")
    expect(row.locator("[data-good]")).to_have_count(0)


def test_the_threshold_of_inspect_holds_here(page: Page, address: str):
    page.goto(address)
    score = open_example(page, OTHER.name)
    line, picture = page.locator("#verdict .ic-decision"), page.locator("#heatmap img")
    before = picture.get_attribute("src")
    chosen = f"{score + 0.01:.3f}"
    page.locator("#threshold input[type=number]").fill(chosen)
    page.locator("#threshold input[type=number]").press("Enter")
    expect(line).to_contain_text(f"Your threshold: {chosen}", timeout=TIMEOUT)
    bar = page.locator("#colour-bar")
    expect(bar).to_contain_text("moves with your threshold", timeout=TIMEOUT)
    expect(picture).not_to_have_attribute("src", before, timeout=TIMEOUT)
    page.locator("#batch-button").click()
    page.locator("#batch-files input[type=file]").set_input_files(OTHER.bad)
    expect(page.locator("#batch-files .file")).to_have_count(1, timeout=TIMEOUT)
    page.locator("#batch-run").click()
    expect(page.locator("#batch-summary")).to_contain_text(
        f"your threshold, from Inspect, is {chosen}", timeout=TIMEOUT
    )
    assert column(page, "above") == [pytest.approx(-0.01, abs=1e-3)]


def test_a_row_opens_in_inspect_with_the_same_score(page: Page, address: str):
    open_tab(page, address)
    run_example(page, OTHER.name, len(OTHER.queries))
    row = page.locator(ROWS).nth(1)
    shown, name = row.locator("strong").inner_text(), names(page)[1]
    row.locator("button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#inspect-button")).to_have_attribute(
        "aria-selected", "true", timeout=TIMEOUT
    )
    expect(page.locator("#verdict .ic-score")).to_have_text(shown, timeout=TIMEOUT)
    expect(page.locator("#heatmap img")).to_be_visible(timeout=TIMEOUT)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(6)
    expect(page.locator("#query img")).to_have_attribute("src", re.compile(re.escape(name)))
    expect(page.locator("#queries [aria-pressed=true]")).to_have_count(1)
    page.locator("#batch-button").click()
    expect(page.locator(ROWS)).to_have_count(len(OTHER.queries))


def test_own_files_with_an_unreadable_one_among_them(page: Page, address: str, tmp_path: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(files(UPLOADED.name, "queries")[2].read_bytes()[:4000])
    strange = tmp_path / "=1+1 <img src=x onerror=alert(1)>.jpg"
    strange.write_bytes(files(UPLOADED.name, "queries")[0].read_bytes() + b"\0")
    open_tab(page, address)
    give(
        page,
        files(UPLOADED.name, "normals")[:3],
        [broken, strange, UPLOADED.good],
    )
    page.get_by_label("What is it?").fill(UPLOADED.object_name)
    page.locator("#batch-run").click()
    expect(page.locator(ROWS)).to_have_count(3, timeout=TIMEOUT)
    last = page.locator(ROWS).last
    expect(last).to_contain_text("broken.jpg' is damaged or incomplete")
    expect(page.locator("#batch-summary")).to_contain_text("1 file could not be read")
    expect(page.locator("#batch-summary")).not_to_contain_text("AUROC")
    # What a visitor calls a file is text, never markup.
    expect(page.locator("#batch-table tbody img")).to_have_count(2)
    page.locator("#batch-table [data-sort=score]").click()
    assert names(page)[2] == "broken.jpg"
    page.locator("#batch-table [data-sort=name]").click()
    good = UPLOADED.good.name
    assert names(page).index("broken.jpg") < names(page).index(good)
    last.click()
    expect(page.locator("#batch-button")).to_have_attribute("aria-selected", "true")


def test_downloads_hold_what_the_table_shows(page: Page, address: str, tmp_path: Path):
    open_tab(page, address)
    run_example(page, OTHER.name, len(OTHER.queries))
    scores = column(page, "score")
    with saved(page, "#batch-csv", tmp_path).open(encoding="utf-8-sig", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [float(line["score"]) for line in table] == pytest.approx(scores, abs=1e-6)
    told = json.loads(saved(page, "#batch-json", tmp_path).read_text(encoding="utf-8"))
    assert [entry["file"] for entry in told["results"]] == names(page)
    with zipfile.ZipFile(saved(page, "#batch-zip", tmp_path)) as archive:
        entries = json.loads(archive.read("results.json"))["results"]
        assert len(entries) == len(OTHER.queries)
        for entry in entries:
            original = OTHER.folder / "queries" / entry["file"]
            with archive.open(entry["overlay"]) as stream, Image.open(original) as image:
                assert Image.open(stream).size == image.size
            with archive.open(entry["map"]) as stream:
                np.testing.assert_allclose(np.load(stream), entry["patch_map"], atol=1e-6)


def test_what_is_missing_is_said_beside_its_field(page: Page, address: str):
    open_tab(page, address)
    page.locator("#batch-run").click()
    expect(page.locator("#normals")).to_contain_text("at least one normal", timeout=TIMEOUT)
    expect(page.locator("#batch-files")).to_contain_text("Add the images to check")
    expect(page.locator("#batch-notice")).not_to_contain_text("went wrong")
    expect(page.locator("#batch-run")).to_be_enabled()


@pytest.mark.slow
def test_another_visitor_gets_a_score_in_between_and_a_long_batch_stops(
    page: Page, browser: Browser, address: str, tmp_path: Path
):
    texture = np.random.default_rng(0).integers(0, 255, (150, 700, 700, 3), dtype=np.uint8)
    queries = []
    for index, pixels in enumerate(texture):
        queries.append(tmp_path / f"{index}.png")
        Image.fromarray(pixels).save(queries[-1], compress_level=0)
    other = browser.new_context().new_page()
    other.goto(address)
    open_tab(page, address)
    give(page, files(UPLOADED.name, "normals")[:2], queries)
    page.locator("#batch-run").click()
    expect(page.locator("#batch-notice progress")).to_be_visible(timeout=TIMEOUT)
    other.locator(f"#examples button[data-set={FIRST.name}]").click()
    expect(other.locator("#verdict .ic-score")).to_be_visible(timeout=TIMEOUT)
    working = page.locator("#batch-notice .ic-working")
    expect(working).to_contain_text(re.compile(r"Scored \d+ of 150 images"))
    other.context.close()
    page.locator("#batch-stop").click()
    said = page.locator("#batch-summary")
    expect(said).to_contain_text(re.compile(r"Stopped after \d+ of 150 images"), timeout=TIMEOUT)
    done = int(re.search(r"after (\d+) of", said.inner_text()).group(1))
    assert 0 < done < 150 and page.locator(ROWS).count() == done
    expect(page.locator("#batch-run")).to_be_enabled()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_narrow_page_does_not_scroll_sideways(page: Page, address: str, theme: str):
    page.set_viewport_size(NARROW)
    open_tab(page, address, theme)
    run_example(page, FAILING.name, len(FAILING.queries))
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    overflow = "e => e.scrollWidth - e.clientWidth"
    assert page.locator("#batch-table .ic-scored").evaluate(overflow) <= 0
    heading = page.locator("#batch-summary h2")
    page.wait_for_function(
        "e => Math.abs(e.getBoundingClientRect().top) < 100", arg=heading.element_handle()
    )
    page.wait_for_timeout(1000)  # It stays there.
    assert abs(heading.bounding_box()["y"]) < 100


def test_an_example_fills_the_whole_form(page: Page, address: str):
    page.goto(address)
    open_example(page, FIRST.name)
    page.get_by_role("tab", name="Batch").click()
    run_example(page, OTHER.name, len(OTHER.queries))
    page.get_by_role("tab", name="Inspect").click()
    expect(page.locator("#queries")).to_contain_text(OTHER.example.title, timeout=TIMEOUT)
    page.locator("#score").click()
    expect(page.locator("#text")).to_contain_text(OTHER.object_name, timeout=TIMEOUT)
