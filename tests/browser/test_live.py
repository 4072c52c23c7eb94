"""The tab Live with Chromium's own fake camera, with a video and without either."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserType, Page, expect

from tests.browser.conftest import ARGUMENTS, NARROW, WIDE, find_chromium

pytestmark = pytest.mark.browser

TIMEOUT = 60_000
FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
# A second of a moving square, recorded by the browser itself.
RECORD = """async () => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 320, height: 240});
  const context = canvas.getContext('2d'), parts = [];
  const recorder = new MediaRecorder(canvas.captureStream(25), {mimeType: 'video/webm'});
  recorder.ondataavailable = event => parts.push(event.data);
  const done = new Promise(resolve => { recorder.onstop = resolve; });
  recorder.start();
  for (let i = 0; i < 25; i++) {
    context.fillStyle = '#446'; context.fillRect(0, 0, 320, 240);
    context.fillStyle = '#fc8'; context.fillRect(60 + 4 * i, 80, 60, 60);
    await new Promise(resolve => setTimeout(resolve, 40));
  }
  recorder.stop(); await done;
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
}"""


@pytest.fixture(scope="module")
def chromium(browser: Browser) -> BrowserType:
    """What starts a second browser, with other arguments."""
    return browser.browser_type


@pytest.fixture
def live(chromium: BrowserType, address: str) -> Iterator[Page]:
    """The tab, in a browser with a fake camera."""
    browser = chromium.launch(executable_path=find_chromium(), args=[*ARGUMENTS, *FAKE_CAMERA])
    page = browser.new_page(viewport=WIDE)
    page.goto(f"{address}?tab=live")
    page.locator(".ic-live").wait_for(timeout=TIMEOUT)
    yield page
    browser.close()


def scored(page: Page) -> int:
    return int(page.locator(".ic-live-stage").get_attribute("data-scored") or 0)


def wait_for_scores(page: Page, more: int) -> None:
    target = scored(page) + more
    page.wait_for_function(
        "target => Number(document.querySelector('.ic-live-stage').dataset.scored) >= target",
        arg=target,
        timeout=TIMEOUT,
    )


def test_the_camera_gives_normals_and_then_scores(live: Page):
    live.get_by_role("button", name="Use the camera").click()
    says = live.locator(".ic-live-says")
    expect(says).to_contain_text("Take this frame as a normal", timeout=TIMEOUT)
    assert scored(live) == 0
    for count in (1, 2, 3):
        live.get_by_role("button", name="Take this frame").click()
        expect(live.locator("#normals .thumbnail-item")).to_have_count(count, timeout=TIMEOUT)
    wait_for_scores(live, 5)
    expect(live.locator(".ic-live .ic-score")).to_have_text(re.compile(r"^\d\.\d{3}$"))
    expect(live.locator(".ic-live-verdict")).to_have_text(
        re.compile("Above every normal|Looks like the normals"), timeout=TIMEOUT
    )
    expect(live.locator(".ic-live-pace")).to_contain_text("frames a second")
    live.get_by_role("button", name="Stop").click()
    live.wait_for_timeout(500)
    before = scored(live)
    live.wait_for_timeout(700)
    assert scored(live) == before


def test_a_video_is_scored_like_a_camera(live: Page, tmp_path: Path):
    video = tmp_path / "square.webm"
    video.write_bytes(base64.b64decode(live.evaluate(RECORD)))
    live.locator(".ic-live input[type=file]").set_input_files(video)
    expect(live.get_by_role("button", name="Take this frame")).to_be_enabled(timeout=TIMEOUT)
    live.get_by_role("button", name="Take this frame").click()
    expect(live.locator("#normals .thumbnail-item")).to_have_count(1, timeout=TIMEOUT)
    wait_for_scores(live, 3)
    expect(live.locator(".ic-live-verdict")).to_contain_text("One normal gives no range")


def test_a_file_that_is_no_video_is_told(live: Page, tmp_path: Path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    live.locator(".ic-live input[type=file]").set_input_files(broken)
    expect(live.locator(".ic-live-says")).to_contain_text("cannot play", timeout=TIMEOUT)


def test_the_example_needs_no_camera_and_fits_a_narrow_page(page: Page, address: str):
    page.set_viewport_size(NARROW)
    page.goto(f"{address}?tab=live&__theme=dark")
    page.get_by_role("button", name="Try with an example").click()
    page.locator(".ic-live-stage").wait_for(timeout=TIMEOUT)
    wait_for_scores(page, 4)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_another_tab_stops_the_asking(page: Page):
    page.get_by_role("tab", name="Live").click()
    page.get_by_role("button", name="Try with an example").click()
    wait_for_scores(page, 2)
    page.get_by_role("tab", name="Inspect").click()
    page.wait_for_timeout(800)
    # Gradio may take a hidden panel's elements away; what counts is that nothing is sent.
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.url) if "queue/join" in r.url else None)
    page.wait_for_timeout(1200)
    assert not sent


def test_two_wishes_for_the_camera_leave_none_on(live: Page):
    live.evaluate("""() => {
      window.tracks = [];
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async wish => {
        const stream = await ask(wish);
        tracks.push(...stream.getTracks());
        return stream;
      };
    }""")
    live.get_by_role("button", name="Use the camera").dblclick()
    expect(live.locator(".ic-live-says")).to_contain_text("Take this frame", timeout=TIMEOUT)
    assert sorted(live.evaluate("tracks.map(track => track.readyState)")) == ["ended", "live"]
    live.get_by_role("button", name="Stop").click()
    assert live.evaluate("tracks.map(track => track.readyState)") == ["ended", "ended"]


def test_two_quick_presses_take_no_frame_twice_over(live: Page):
    live.get_by_role("button", name="Use the camera").click()
    expect(live.locator(".ic-live-says")).to_contain_text("Take this frame", timeout=TIMEOUT)
    take = live.locator(".ic-live [data-do=normal]")
    live.evaluate("document.querySelector('.ic-live [data-do=normal]').click()")
    expect(take).to_be_disabled()
    expect(live.locator("#normals .thumbnail-item")).to_have_count(1, timeout=TIMEOUT)
    expect(take).to_be_enabled(timeout=TIMEOUT)
    take.click()
    expect(live.locator("#normals .thumbnail-item")).to_have_count(2, timeout=TIMEOUT)
