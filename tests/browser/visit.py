"""What visitors do on every tab's way."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from inctrl_core.ui.common.examples import EXAMPLES

SCORE = "#verdict .ic-score"
TIMEOUT = 60_000


def open_example(page: Page, name: str) -> float:
    """Clicks an example, waits for its result, returns the score."""
    page.locator(f"#examples button[data-set={name}]").click()
    expect(page.locator(SCORE)).to_have_text(re.compile(r"^\d\.\d{3}$"), timeout=TIMEOUT)
    expect(page.locator("#heatmap img")).to_be_visible(timeout=TIMEOUT)
    return float(page.locator(SCORE).inner_text())


def upload(page: Page, normals: list[Path], query: Path) -> None:
    """Fills the form with files, as a visitor would."""
    page.locator("#normals input[type=file]").set_input_files(normals)
    expect(page.locator("#normals .thumbnail-item")).to_have_count(len(normals), timeout=TIMEOUT)
    page.locator("#query input[type=file]").set_input_files(query)
    expect(page.locator("#query img")).to_have_count(1, timeout=TIMEOUT)


def files(name: str, folder: str, count: int) -> list[Path]:
    return sorted((EXAMPLES / name / folder).iterdir())[:count]
