"""Files that browsers cannot show are shown all the same, and scored as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.visit import TIMEOUT

SHOWN = "image => image.complete && image.naturalWidth > 0 ? image.naturalWidth : 0"


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """Normals and a query that hold the same picture in five formats, most of them deep."""
    rows, columns = np.mgrid[:180, :240]
    paths = []
    for number, name in enumerate(["a.tif", "b.png", "c.heic", "d.pgm", "query.tif"]):
        grey = (110 + 60 * np.sin(rows / 5 + number) + 50 * np.sin(columns / 5)).clip(0, 255)
        deep = np.rint(grey * (4095 / 255)).astype(np.uint16)
        path = tmp_path / name
        if path.suffix == ".heic":
            pillow_heif.from_pillow(Image.fromarray(grey.astype(np.uint8))).save(path)
        elif path.suffix == ".pgm":
            path.write_bytes(b"P5\n240 180\n4095\n" + deep.astype(">u2").tobytes())
        else:
            Image.fromarray(deep).save(path)
        paths.append(path)
    return paths


def test_every_image_of_the_form_is_shown(page: Page, photographs: list[Path]) -> None:
    page.locator("#normals input[type=file]").set_input_files(photographs[:4])
    page.locator("#query input[type=file]").set_input_files(photographs[4])
    normals = page.locator("#normals button img")
    expect(normals).to_have_count(4, timeout=TIMEOUT)
    for image in [*normals.all(), page.locator("#query img").first]:
        image.wait_for()
        page.wait_for_function(SHOWN, arg=image.element_handle(), timeout=TIMEOUT)
        grey = image.evaluate(
            "image => { const canvas = document.createElement('canvas');"
            "canvas.width = canvas.height = 9; const pen = canvas.getContext('2d');"
            "pen.drawImage(image, 0, 0, 9, 9); return pen.getImageData(4, 4, 1, 1).data[1]; }"
        )
        assert 20 < grey < 235  # 12 bits of 16 would be black.
    page.locator("#score").click()
    expect(page.locator("#verdict")).to_contain_text("12-bit data", timeout=TIMEOUT)
