"""What a visitor does, in a real Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NARROW
from tests.browser.visit import SCORE, TIMEOUT, files, open_example, upload
from tests.support.pictures import CLEAR, FIRST, OTHER, UPLOADED

pytestmark = pytest.mark.browser


def shown_image(page: Page) -> str:
    """Address of the overlay on show; it changes with its content."""
    return page.locator("#heatmap img").get_attribute("src")


def test_one_click_on_an_example_fills_the_form_and_scores(page: Page):
    expect(page.locator("#notice")).to_contain_text("Click an example")
    score = open_example(page, OTHER.name)
    assert 0.0 < score < 1.0
    expect(page.get_by_label("What is it?")).to_have_value(OTHER.object_name)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(6)
    expect(page.locator("#verdict h2")).to_have_text(
        re.compile("(Clearly|Far) above the threshold")
    )
    expect(page.locator("#colour-bar")).to_contain_text("largest difference they show")
    expect(page.locator("#ledger tbody tr")).to_have_count(7)
    expect(page.locator("#text")).to_contain_text(OTHER.object_name)
    width, height = page.locator("#heatmap img").evaluate("e => [e.naturalWidth, e.naturalHeight]")
    with Image.open(OTHER.bad) as image:
        assert width / height == pytest.approx(image.width / image.height, rel=0.01)


def test_another_image_of_the_example_replaces_the_first(page: Page):
    open_example(page, FIRST.name)
    first = page.locator(SCORE).inner_text()
    page.locator("#queries button[data-query='0']").click()
    expect(page.locator("#queries button[data-query='0']")).to_have_attribute(
        "aria-pressed", "true", timeout=TIMEOUT
    )
    expect(page.locator(SCORE)).not_to_have_text(first, timeout=TIMEOUT)


def test_a_result_of_another_form_is_marked(page: Page):
    notice = page.locator("#notice")
    page.locator("#query input[type=file]").set_input_files(files(UPLOADED.name, "queries", 1)[0])
    expect(page.locator("#query img")).to_be_visible(timeout=TIMEOUT)
    expect(notice).to_contain_text("Click an example")  # There is no result yet.
    open_example(page, FIRST.name)
    expect(notice).to_be_hidden()
    page.get_by_label("What is it?").press_sequentially(" ring")
    expect(notice).to_have_text("The form has changed; press Score again.")
    expect(notice).to_be_visible()
    page.locator("#score").click()
    expect(page.locator("#text")).to_contain_text(f"{FIRST.object_name} ring", timeout=TIMEOUT)
    expect(notice).to_be_hidden()
    page.get_by_label("Remove Image").click()
    expect(notice).to_have_text("The form has changed; press Score again.")
    expect(notice).to_be_visible()
    expect(page.locator(SCORE)).to_be_visible()  # Nothing is lost.


def test_a_result_is_marked_while_another_tab_is_open(page: Page):
    open_example(page, FIRST.name)
    page.get_by_role("tab", name="Batch").click()
    page.get_by_label("What is it?").fill("ring")
    page.get_by_role("tab", name="Inspect").click()
    expect(page.locator("#notice")).to_have_text("The form has changed; press Score again.")


def test_of_two_examples_clicked_in_a_hurry_the_last_is_shown(page: Page):
    page.locator(f"#examples button[data-set={FIRST.name}]").click()
    name = page.get_by_label("What is it?")
    expect(name).to_have_value(FIRST.object_name, timeout=TIMEOUT)
    # While the first is being scored.
    page.locator(f"#examples button[data-set={OTHER.name}]").click()
    expect(name).to_have_value(OTHER.object_name, timeout=TIMEOUT)
    expect(page.locator("#text")).to_contain_text(OTHER.object_name, timeout=15_000)


def test_the_display_controls_redraw_without_a_new_score(page: Page):
    open_example(page, OTHER.name)
    verdict = page.locator("#verdict").inner_html()
    for change in (
        lambda: page.locator("#opacity input[type=number]").fill("0.2"),
        lambda: page.get_by_label("Deep").check(),
        lambda: page.get_by_label("Smooth").uncheck(),
    ):
        before = shown_image(page)
        change()
        expect(page.locator("#heatmap img")).not_to_have_attribute("src", before, timeout=TIMEOUT)
    assert page.locator("#verdict").inner_html() == verdict


def test_a_click_on_the_map_finds_the_patch_and_so_does_the_keyboard(page: Page):
    open_example(page, UPLOADED.name)
    box = page.locator("#heatmap img").bounding_box()
    page.locator("#heatmap img").click(
        position={"x": box["width"] * 4.5 / 15, "y": box["height"] * 11.5 / 15}
    )
    expect(page.locator("#provenance")).to_contain_text("row 12, column 5", timeout=TIMEOUT)
    expect(page.locator("#provenance figure")).to_have_count(3)
    expect(page.get_by_label("Row", exact=True)).to_have_value("12")
    page.get_by_label("Column").fill("9")
    expect(page.locator("#provenance")).to_contain_text("row 12, column 9", timeout=TIMEOUT)
    page.get_by_label("Column").fill("16")
    expect(page.locator("#provenance [role=alert]")).to_have_text(
        "Choose a row and a column between 1 and 15.", timeout=TIMEOUT
    )


def test_own_files_are_scored(page: Page):
    upload(page, files(UPLOADED.name, "normals", 3), files(UPLOADED.name, "queries", 1)[0])
    page.get_by_label("What is it?").fill("asphalt <b>&{{value}}")
    page.locator("#score").click()
    expect(page.locator(SCORE)).to_be_visible(timeout=TIMEOUT)
    # What a visitor types is text, never markup.
    expect(page.locator("#text q")).to_have_text("asphalt <b>&{{value}}")
    assert page.locator("#text b").count() == 0


def test_a_single_normal_gives_a_threshold_and_no_range(page: Page):
    upload(page, files(UPLOADED.name, "normals", 1), files(UPLOADED.name, "queries", 1)[0])
    page.locator("#score").click()
    expect(page.locator("#verdict .ic-decision")).to_contain_text("One normal", timeout=TIMEOUT)
    expect(page.locator("#verdict .ic-strip")).to_have_count(0)


def test_a_damaged_file_gives_one_sentence_and_keeps_the_uploads(page: Page, tmp_path: Path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    upload(page, files(UPLOADED.name, "normals", 2), broken)
    page.locator("#score").click()
    notice = page.locator("#notice [role=alert]")
    expect(notice).to_contain_text("broken.png", timeout=TIMEOUT)
    assert len(re.findall(r"\.(\s|$)", notice.inner_text())) == 1
    expect(page.locator("#normals .thumbnail-item")).to_have_count(2)
    expect(page.locator("#query img")).to_have_count(1)
    expect(page.locator("#result")).not_to_be_visible()


def test_missing_images_are_named_beside_their_field(page: Page):
    page.locator("#score").click()
    expect(page.locator("#normals")).to_contain_text("at least one normal", timeout=TIMEOUT)
    expect(page.locator("#query")).to_contain_text("Add the image to check", timeout=TIMEOUT)


def test_own_phrases_and_a_query_as_normal_change_the_score(page: Page):
    open_example(page, OTHER.name)
    page.get_by_text("Add phrases of your own").click()
    field = page.get_by_label("Describe it when damaged")
    phrases = "a cookie in two\ncrumbs on a tray"
    field.fill(phrases)
    page.locator("#score").click()
    expect(page.locator("#verdict h2")).to_be_visible(timeout=TIMEOUT)
    page.wait_for_timeout(1500)  # What arrives late must not take away what was typed.
    expect(field).to_have_value(phrases)
    page.locator("#apply-phrases").click()
    changed = page.locator("#verdict .ic-changed")
    expect(changed).to_contain_text(
        re.compile(r"With 2 of your own phrases: text signal \d+% → \d+%"), timeout=TIMEOUT
    )
    page.locator("#add-normal").click()
    expect(changed).to_contain_text("Now normal number 7", timeout=TIMEOUT)
    expect(page.locator("#verdict h2")).to_have_text("One of the normals")
    expect(page.locator("#normals .thumbnail-item")).to_have_count(7)
    expect(field).to_have_value(phrases)
    page.get_by_role("button", name="Take this image out of the normals again").click()
    expect(changed).to_contain_text("No longer among the normals", timeout=TIMEOUT)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(6)
    expect(page.locator("#add-normal")).to_contain_text("False alarm?")
    open_example(page, FIRST.name)
    expect(field).to_have_value("")  # They spoke of the cookies, and are out of use.


def test_back_and_forward_lead_from_tab_to_tab(page: Page):
    def opened(tab: str, address: str) -> None:
        expect(page.locator(f"#{tab}-button")).to_have_attribute(
            "aria-selected", "true", timeout=TIMEOUT
        )
        expect(page).to_have_url(re.compile(address))

    page.wait_for_function("document.body.dataset.linkRead", timeout=TIMEOUT)
    page.locator("#stress-button").click()
    opened("stress", r"\?tab=stress$")
    page.locator("#failures-button").click()
    opened("failures", r"\?tab=failures$")
    case = page.locator("#case-cards [data-case]").first.get_attribute("data-case")
    page.locator(f"#case-cards [data-case={case}]").click()
    opened("failures", rf"\?tab=failures&case={case}$")
    page.locator("#learn-button").click()
    opened("learn", r"\?tab=learn$")
    page.go_back()
    opened("failures", rf"\?tab=failures&case={case}$")
    page.go_back()
    opened("stress", r"\?tab=stress$")
    page.go_back()
    opened("inspect", r"^[^?]*$")
    page.go_forward()
    opened("stress", r"\?tab=stress$")


@pytest.mark.parametrize(
    ("link", "tab"),
    [
        ("", "inspect"),
        ("?tab=batch", "batch"),
        ("?tab=%3Cscript%3E", "inspect"),
        ("?tab=inspect&case=cookie", "inspect"),
    ],
)
def test_a_link_opens_its_tab_and_asks_the_server_for_nothing(
    browser: Browser, address: str, link: str, tab: str
):
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/queue/" in r.url else None)
    page.goto(f"{address}{link}")
    page.wait_for_function("document.body.dataset.linkRead", timeout=TIMEOUT)
    expect(page.locator(f"#{tab}-button")).to_have_attribute(
        "aria-selected", "true", timeout=TIMEOUT
    )
    page.wait_for_timeout(500)  # A tab that selects itself late would change the address.
    assert page.url.removeprefix(address) == ("" if "script" in link else link)
    assert not asked
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_result_is_saved_as_a_page_of_its_own(
    page: Page, browser: Browser, tmp_path: Path, theme: str
):
    score = open_example(page, FIRST.name)
    with page.expect_download(timeout=TIMEOUT) as download:
        page.get_by_role("button", name="Save this result").click()
    assert download.value.suggested_filename == f"InCTRL {FIRST.object_name} {score:.3f}.html"
    download.value.save_as(tmp_path / "report.html")
    reader = browser.new_context(color_scheme=theme, viewport=NARROW, offline=True).new_page()
    complaints: list[str] = []
    reader.on("console", lambda message: complaints.append(message.text))
    reader.goto(f"file://{tmp_path}/report.html")
    expect(reader.get_by_role("heading", name=f"InCTRL: one {FIRST.object_name}")).to_be_visible()
    expect(reader.locator(".ic-score")).to_have_text(f"{score:.3f}")
    assert reader.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert reader.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    colours = reader.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light, dark = "rgb(255, 255, 255)", "rgb(244, 244, 245)"
    assert (colours[1] == light) if theme == "light" else (colours[0] == dark)
    assert complaints == []
    reader.context.close()


def test_two_visitors_do_not_meet(page: Page, browser: Browser, address: str):
    other = browser.new_context().new_page()
    other.goto(address)
    mine = open_example(page, FIRST.name)
    theirs = open_example(other, OTHER.name)
    assert mine != theirs
    page.get_by_label("Row", exact=True).fill("1")
    expect(page.locator("#provenance")).to_contain_text("row 1,", timeout=TIMEOUT)
    expect(page.locator("#text")).to_contain_text(FIRST.object_name)
    expect(other.locator("#text")).to_contain_text(OTHER.object_name)
    other.context.close()


@pytest.mark.unopened
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_narrow_page_does_not_scroll_sideways(page: Page, address: str, theme: str):
    page.set_viewport_size(NARROW)
    page.goto(f"{address}?__theme={theme}")
    page.locator("#examples button").first.wait_for()
    open_example(page, CLEAR.name)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    expect(page.locator("#result")).to_be_in_viewport(timeout=TIMEOUT)


def test_on_a_narrow_page_an_error_comes_into_view(page: Page, tmp_path: Path):
    page.set_viewport_size(NARROW)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    upload(page, files(UPLOADED.name, "normals", 2), broken)
    # Not by Playwright's own click, which would scroll to the button.
    page.evaluate("window.scrollTo(0, 0); document.querySelector('#score').click()")
    expect(page.locator("#notice [role=alert]")).to_be_in_viewport(ratio=1, timeout=TIMEOUT)


def test_what_is_said_of_an_example_goes_when_an_own_image_comes(page: Page):
    open_example(page, FIRST.name)
    expect(page.locator("#queries")).to_contain_text("Actually: anomalous")
    page.get_by_label("Remove Image").click()
    expect(page.locator("#queries")).not_to_contain_text("Actually")
    page.locator("#query input[type=file]").set_input_files(files(UPLOADED.name, "queries", 1)[0])
    expect(page.locator("#query img")).to_have_count(1, timeout=TIMEOUT)
    expect(page.locator("#queries")).not_to_contain_text("Actually")


def test_a_phrase_that_cannot_be_used_is_told_beside_its_button(page: Page):
    open_example(page, FIRST.name)
    page.get_by_role("button", name="Add phrases of your own").click()
    page.get_by_label("Describe it when damaged").fill("x" * 400)
    page.get_by_role("button", name="Use these phrases").click()
    told = page.locator("#phrase-notice [role=alert]")
    expect(told).to_contain_text("use at most 200", timeout=TIMEOUT)
    expect(told).to_be_in_viewport()


def test_an_error_leaves_the_last_result_in_place(page: Page, tmp_path: Path):
    score = open_example(page, FIRST.name)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    page.get_by_label("Remove Image").click()
    page.locator("#query input[type=file]").set_input_files(broken)
    expect(page.locator("#query img")).to_have_count(1, timeout=TIMEOUT)
    page.locator("#score").click()
    expect(page.locator("#notice [role=alert]")).to_contain_text("not an image", timeout=TIMEOUT)
    expect(page.locator(SCORE)).to_have_text(f"{score:.3f}")


def test_enter_in_the_name_scores_where_the_button_is_and_nowhere_else(page: Page):
    open_example(page, FIRST.name)
    name = page.locator("#object-name").get_by_role("textbox")
    page.get_by_role("tab", name="Batch").click()
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.url) if "queue/join" in r.url else None)
    name.fill("ring")
    name.press("Enter")
    page.wait_for_timeout(700)
    assert not sent
    page.get_by_role("tab", name="Inspect").click()
    name.press("Enter")
    expect(page.locator("#text")).to_contain_text("ring", timeout=TIMEOUT)


def test_a_click_on_score_goes_to_the_server_once(page: Page):
    open_example(page, FIRST.name)
    page.wait_for_timeout(700)
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.url) if "queue/join" in r.url else None)
    page.locator("#object-name").get_by_role("textbox").fill("ring")
    page.locator("#score").click()
    expect(page.locator("#text")).to_contain_text("ring", timeout=TIMEOUT)
    expect(page.locator("#heatmap img")).to_be_visible(timeout=TIMEOUT)
    page.wait_for_timeout(700)
    assert len(sent) == 1


def test_the_heatmap_keeps_its_words_through_the_display_controls(page: Page):
    open_example(page, FIRST.name)
    for _ in range(2):
        page.get_by_label("Compare with original").click()
        page.wait_for_timeout(500)
    expect(page.locator("#heatmap img")).to_have_attribute(
        "alt", re.compile("Heatmap over"), timeout=TIMEOUT
    )


def test_the_threshold_moves_the_verdict(page: Page) -> None:
    score = open_example(page, CLEAR.name)
    heading, line = page.locator("#verdict h2"), page.locator("#verdict .ic-decision")
    expect(heading).to_have_text("Far above the threshold")
    expect(line).to_contain_text("about 1 in 20 good images", timeout=TIMEOUT)
    field = page.locator("#threshold input[type=number]")
    field.fill(f"{score + 0.01:.3f}")
    field.press("Enter")
    expect(line).to_contain_text(f"Your threshold: {score + 0.01:.3f}", timeout=TIMEOUT)
    expect(heading).to_have_text("Looks like the normals")
    expect(page.locator("#code")).to_contain_text(f"print(result.score.fused, {score + 0.01:.3f})")
    expect(page.locator("#code [data-address]")).to_have_text(page.url.split("?")[0].rstrip("/"))
    expect(page.locator(SCORE)).to_have_text(f"{score:.3f}")


@pytest.mark.unopened
def test_a_link_opens_an_example_at_a_threshold(page: Page, address: str) -> None:
    query = next(i for i, q in enumerate(CLEAR.example.queries) if not q.anomalous)
    page.goto(f"{address}?example={CLEAR.name}&query={query + 1}&threshold=0.012")
    line = page.locator("#verdict .ic-decision")
    expect(line).to_contain_text("Your threshold: 0.012", timeout=TIMEOUT)
    pressed = page.locator("#queries [aria-pressed=true]")
    expect(pressed).to_have_attribute("data-query", str(query))
    expect(page.locator("#threshold input[type=number]")).to_have_value("0.012")
    # The address follows what is open, and ends where the visitor's own images begin.
    before = page.locator(SCORE).inner_text()
    other = (query + 1) % 3
    page.locator(f'#queries button[data-query="{other}"]').click()
    expect(page).to_have_url(re.compile(rf"query={other + 1}&threshold=0.012$"), timeout=TIMEOUT)
    expect(page.locator(SCORE)).not_to_have_text(before, timeout=TIMEOUT)
    expect(line).to_contain_text("Your threshold: 0.012", timeout=TIMEOUT)
    field = page.locator("#threshold input[type=number]")
    field.fill("0.020")
    field.press("Enter")
    expect(page).to_have_url(re.compile(r"threshold=0\.02"), timeout=TIMEOUT)
    page.locator("#query input[type=file]").set_input_files(CLEAR.good)
    expect(page).not_to_have_url(re.compile("example="), timeout=TIMEOUT)


@pytest.mark.unopened
def test_a_link_to_no_example_says_so(page: Page, address: str) -> None:
    page.goto(f"{address}?example=nothing&query=x&threshold=y")
    expect(page.locator("#notice [role=alert]")).to_have_text(
        "There is no example of that name. Choose one of those above.", timeout=TIMEOUT
    )
    open_example(page, FIRST.name)
    expect(page.locator("#notice")).to_be_hidden()


@pytest.mark.unopened
def test_normals_are_saved_and_opened_again(page: Page, address: str, tmp_path: Path) -> None:
    page.goto(address)
    score = open_example(page, CLEAR.name)
    line, field = (
        page.locator("#verdict .ic-decision"),
        page.locator("#threshold input[type=number]"),
    )
    field.fill(f"{score - 0.01:.3f}")
    field.press("Enter")
    expect(line).to_contain_text("Your threshold", timeout=TIMEOUT)
    with page.expect_download(timeout=TIMEOUT) as waiting:
        page.locator("#save-normals").click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    page.goto(address)
    page.locator("input[type=file][accept*=safetensors]").set_input_files(path)
    count = len(CLEAR.normals)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(count, timeout=TIMEOUT)
    expect(page.get_by_label("What is it?")).to_have_value(CLEAR.object_name)
    page.locator("#query input[type=file]").set_input_files(CLEAR.bad)
    expect(page.locator("#query img")).to_be_visible(timeout=TIMEOUT)
    page.locator("#score").click()
    expect(page.locator(SCORE)).to_have_text(f"{score:.3f}", timeout=TIMEOUT)
    expect(line).to_contain_text(f"Your threshold: {score - 0.01:.3f}")


def test_the_bars_of_the_words_are_as_long_as_their_figures(page: Page):
    open_example(page, FIRST.name)
    rows = page.locator("#text .ic-text > .ic-row")
    expect(rows).to_have_count(2)
    for row in rows.all():
        share = float(row.locator("em").inner_text().rstrip("%")) / 100
        line, fill = (row.locator(part).bounding_box() for part in (".ic-line", ".ic-line i"))
        assert line["width"] > 300 and fill["height"] >= 5
        assert fill["width"] / line["width"] == pytest.approx(share, abs=0.006)
