"""Times a visitor's clicks in Chromium: ``python -m tests.browser.clicks``.

Each example set is opened on a fresh page, then its other images one after the other. No set has
been opened before, so a first click pays for the normals as well; those of other images do not.
"""

from __future__ import annotations

import os
import statistics
import sys

from playwright.sync_api import Page, sync_playwright

from inctrl_core.ui.common.examples import load_examples
from tests.browser.conftest import ARGUMENTS, WIDE, find_chromium
from tests.support.app_server import running_app

NEXT = 3  # Images of a set after its first.
READY = "document.body.dataset.linkRead"
# From the click to the first frame after the verdict is on the page, and after the map is decoded.
CLICK = """async selector => {
  const find = place => document.querySelector(place);
  const words = () => find('#verdict .ic-verdict')?.textContent;
  const picture = () => find('#heatmap img')?.src;
  const before = words(), map = picture();
  const until = async done => {
    while (!done()) await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    return performance.now();
  };
  const start = performance.now();
  find(selector).click();
  const told = await until(() => (words() ?? before) !== before);
  await until(() => (picture() ?? map) !== map);
  await find('#heatmap img').decode();
  return [told - start, await until(() => true) - start];
}"""
# The next image of the set after the one that is shown.
OTHER = """() => {
  const images = [...document.querySelectorAll('#queries [data-query]')];
  const shown = images.findIndex(image => image.ariaPressed === 'true');
  return images[(shown + 1) % images.length].dataset.query;
}"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def row(name: str, times: list[float]) -> str:
    """A line of the table: the median and the slowest, in milliseconds."""
    return f"{name}: {statistics.median(times):.0f} ms, slowest {max(times):.0f} of {len(times)}"


def visit(page: Page, name: str, count: int) -> list[list[float]]:
    """Opens a set, then others of its images; for each click the times of verdict and map."""
    page.wait_for_function(READY)
    times = [page.evaluate(CLICK, f'#examples button[data-set="{name}"]')]
    for _ in range(min(NEXT, count - 1)):
        other = page.evaluate(OTHER)
        times.append(page.evaluate(CLICK, f'#queries [data-query="{other}"]'))
    return times


def main() -> None:
    """Times all example sets, and prints a table."""
    painted, first, following = [], [], []
    with running_app() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        for example in load_examples().values():
            page = browser.new_page(viewport=WIDE)
            page.goto(address)
            page.locator("#examples button").first.wait_for()
            painted.append(page.evaluate(PAINT))
            opened, *others = visit(page, example.name, len(example.queries))
            first.append(opened)
            following += others
            page.close()
        browser.close()
    lines = [row("first paint", painted)]
    for name, clicks in (("a new example", first), ("its next image", following)):
        verdicts, maps = (list(times) for times in zip(*clicks, strict=True))
        lines += [row(f"{name}, click to verdict", verdicts), row(f"{name}, to map", maps)]
    lines.append(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
