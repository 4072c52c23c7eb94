"""The tab Live with Chromium's own fake camera, with a video and without either."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserType, Page, expect

from tests.browser.conftest import ARGUMENTS, NARROW, WIDE, find_chromium
from tests.support.app_server import running_app

pytestmark = pytest.mark.browser

VERDICT = re.compile("Above the threshold|Looks like the normals")
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
    expect(live.locator(".ic-live-verdict")).to_have_text(VERDICT, timeout=TIMEOUT)
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
    expect(live.locator(".ic-live-verdict")).to_have_text(VERDICT)


def test_a_file_that_is_no_video_is_told(live: Page, tmp_path: Path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    live.locator(".ic-live input[type=file]").set_input_files(broken)
    expect(live.locator(".ic-live-says")).to_contain_text("cannot play", timeout=TIMEOUT)


def test_the_example_needs_no_camera_and_fits_a_narrow_page(page: Page, address: str):
    page.set_viewport_size(NARROW)
    page.goto(f"{address}?tab=live&__theme=dark")
    expect(page.locator(".ic-live-says")).to_contain_text("No camera?", timeout=TIMEOUT)
    offered = page.get_by_role("button", name="Try with an example")
    expect(offered).to_be_in_viewport(ratio=1, timeout=TIMEOUT)
    offered.click()
    page.locator(".ic-live-stage").wait_for(timeout=TIMEOUT)
    wait_for_scores(page, 4)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(6)
    worst = page.locator(".ic-live-worst")
    expect(worst).to_contain_text(re.compile(r"Highest so far: \d\.\d{3}, at "))
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


TWO_CAMERAS = [
    "--use-fake-device-for-media-stream=device-count=2",
    "--use-fake-ui-for-media-stream",
]
NAMED = "document.querySelector('.ic-live video').srcObject?.getVideoTracks()[0].label"


@contextmanager
def opened(
    chromium: BrowserType, url: str, arguments: list[str], script: str = ""
) -> Iterator[Page]:
    """The tab in a browser of its own, after a script of the test."""
    browser = chromium.launch(executable_path=find_chromium(), args=[*ARGUMENTS, *arguments])
    page = browser.new_page(viewport=WIDE)
    if script:
        page.add_init_script(script)
    page.goto(f"{url}?tab=live")
    expect(page.get_by_role("button", name="Use the camera")).to_be_enabled(timeout=TIMEOUT)
    yield page
    browser.close()


def test_a_camera_is_chosen_and_stays_chosen(chromium: BrowserType, address: str):
    with opened(chromium, address, TWO_CAMERAS) as page:
        page.get_by_role("button", name="Use the camera").click()
        choice = page.get_by_label("Camera", exact=True)
        expect(choice).to_be_visible(timeout=TIMEOUT)
        expect(choice.locator("option")).to_have_count(2)
        first, second = choice.locator("option").all_inner_texts()
        assert page.evaluate(NAMED) == first
        choice.select_option(label=second)
        page.wait_for_function(f"name => {NAMED} === name", arg=second, timeout=TIMEOUT)
        expect(page.get_by_role("button", name="Stop")).to_be_enabled(timeout=TIMEOUT)
        page.reload()
        expect(choice.locator("option:checked")).to_have_text(second, timeout=TIMEOUT)
        page.get_by_role("button", name="Use the camera").click()
        page.wait_for_function(f"name => {NAMED} === name", arg=second, timeout=TIMEOUT)
        expect(choice.locator("option:checked")).to_have_text(second)
        # One that is gone: another, and no error.
        page.evaluate('localStorage.setItem(\'inctrl-camera\', \'{"id":"x","label":"gone"}\')')
        page.reload()
        page.get_by_role("button", name="Use the camera").click()
        expect(page.get_by_role("button", name="Stop")).to_be_enabled(timeout=TIMEOUT)
        assert page.evaluate(NAMED) in (first, second)
        # As browsers that make ids anew at every visit.
        text = json.dumps({"id": "another", "label": second})
        page.evaluate("text => localStorage.setItem('inctrl-camera', text)", text)
        page.reload()
        page.get_by_role("button", name="Use the camera").click()
        page.wait_for_function(f"name => {NAMED} === name", arg=second, timeout=TIMEOUT)


# A phone: the camera on the front comes first in the system's list.
PHONE = """
  const device = (deviceId, label) => ({kind: 'videoinput', deviceId, label, groupId: ''});
  navigator.mediaDevices.enumerateDevices = async () =>
    [device('f', 'camera2 1, facing front'), device('b', 'camera2 0, facing back')];
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  window.wishes = [];
  navigator.mediaDevices.getUserMedia = wish => { wishes.push(wish.video); return ask(wish); };
"""


def test_the_rear_camera_comes_first(chromium: BrowserType, address: str):
    with opened(chromium, address, FAKE_CAMERA, PHONE) as page:
        page.get_by_role("button", name="Use the camera").click()
        options = page.get_by_label("Camera", exact=True).locator("option")
        expect(options).to_have_text(["camera2 0, facing back", "camera2 1, facing front"])
        assert page.evaluate("wishes[0].facingMode.ideal") == "environment"


def fails_with(name: str, message: str = "") -> str:
    """A script after which the camera is refused."""
    thrown = f"throw new DOMException({message!r}, {name!r})"
    return f"navigator.mediaDevices.getUserMedia = async () => {{ {thrown}; }};"


@pytest.mark.parametrize(
    ("arguments", "script", "says"),
    [
        (FAKE_CAMERA[:1], "", "blocked for this page: allow it with the icon beside the address"),
        (FAKE_CAMERA[1:], "", "No camera was found: connect one"),
        ([], fails_with("NotAllowedError", "Permission dismissed"), "and choose Allow"),
        ([], fails_with("NotAllowedError", "Permission denied by system"), "privacy settings"),
        ([], fails_with("NotReadableError"), "another program may be using it"),
        ([], fails_with("TypeError"), "cannot be used (TypeError): open a video"),
    ],
)
def test_what_to_do_without_a_picture(
    chromium: BrowserType, address: str, arguments: list[str], script: str, says: str
):
    with opened(chromium, address, arguments, script) as page:
        page.get_by_role("button", name="Use the camera").click()
        expect(page.locator(".ic-live-says")).to_contain_text(says, timeout=TIMEOUT)
        expect(page.get_by_role("button", name="Stop")).to_be_disabled()
        page.get_by_role("button", name="Try with an example").click()
        wait_for_scores(page, 1)


def test_without_https_from_another_computer(
    chromium: BrowserType, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("INCTRL_ALLOWED_HOSTS", "page.test")
    with running_app() as url:
        there = url.replace("127.0.0.1", "page.test")
        arguments = [*FAKE_CAMERA, "--host-resolver-rules=MAP page.test 127.0.0.1"]
        with opened(chromium, there, arguments) as page:
            assert page.evaluate("isSecureContext") is False
            page.get_by_role("button", name="Use the camera").click()
            says = page.locator(".ic-live-says")
            expect(says).to_contain_text("ask whoever runs this page for an https address")
            page.get_by_role("button", name="Try with an example").click()
            wait_for_scores(page, 1)


def test_a_camera_that_is_unplugged_is_told(live: Page):
    live.get_by_role("button", name="Use the camera").click()
    expect(live.get_by_role("button", name="Stop")).to_be_enabled(timeout=TIMEOUT)
    live.evaluate("""() => {
      const track = document.querySelector('.ic-live video').srcObject.getVideoTracks()[0];
      track.dispatchEvent(new Event('ended'));
    }""")
    expect(live.locator(".ic-live-says")).to_contain_text("The camera is gone", timeout=TIMEOUT)
    expect(live.get_by_role("button", name="Stop")).to_be_disabled()
