"""Something missing: what the normals share and an image lacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from inctrl_core import Detector
from inctrl_core.analysis import inspect
from inctrl_core.analysis.missing import Missing, find_missing, missing_told
from inctrl_core.analysis.session import Session
from inctrl_core.ui.service.api_analysis import session_to_dict
from tests.support.pictures import grainy

CAPS = {"red": ((80, 80), (190, 40, 30)), "blue": ((220, 110), (30, 60, 180))}
CAPS |= {"green": ((130, 220), (30, 140, 60))}
SIDE = 300


def tray(seed: int, without: str = "", stain: bool = False) -> Image.Image:
    """A tray with three caps of different colours, each a little moved."""
    random = np.random.RandomState(seed)
    image = Image.new("RGB", (SIDE, SIDE), (170, 160, 140))
    draw = ImageDraw.Draw(image)
    for name, ((x, y), colour) in CAPS.items():
        dx, dy = random.randint(-4, 5, 2)
        if name != without:
            draw.ellipse((x + dx - 32, y + dy - 32, x + dx + 32, y + dy + 32), fill=colour)
            draw.rectangle((x + dx - 6, y + dy - 20, x + dx + 6, y + dy + 20), fill=(240, 240, 235))
    if stain:
        draw.ellipse((180, 190, 260, 270), fill=(60, 40, 20))
    return grainy(image, random, 6)


@pytest.fixture(scope="module")
def normals() -> list[Image.Image]:
    return [tray(seed) for seed in range(4)]


def looked(detector: Detector, normals: list[Image.Image], query: Image.Image) -> Session:
    return inspect(detector, normals, query, "tray")


def found(session: Session) -> Missing | None:
    return find_missing(session.bank, session.encoded)


@pytest.mark.parametrize("cap", list(CAPS))
def test_a_cap_that_is_gone_is_shown_at_its_place(detector, normals, cap):
    session = looked(detector, normals, tray(9, without=cap))
    missing = found(session)
    row, column = missing.place
    x, y = CAPS[cap][0]
    cell = SIDE / len(missing.loss)
    assert abs((column + 0.5) * cell - x) < 45 and abs((row + 0.5) * cell - y) < 45
    assert missing.above and missing.peak > 1.5 * max(missing.normal_peaks)
    assert "lacks" in missing_told(missing)
    assert session_to_dict(session)["missing"]["above"] is True


def test_a_good_image_lacks_nothing(detector, normals):
    missing = found(looked(detector, normals, tray(8)))
    assert missing.above is False and "Nothing" in missing_told(missing)


def test_something_more_is_nothing_missing(detector, normals):
    session = looked(detector, normals, tray(9, stain=True))
    stained, without = found(session), found(looked(detector, normals, tray(9, without="red")))
    assert session.above and stained.peak < 0.5 * without.peak


def test_what_one_normal_lacks_too_is_no_loss(detector, normals):
    session = looked(detector, [*normals, tray(20, without="red")], tray(9, without="red"))
    missing = found(session)
    x, y = CAPS["red"][0]
    row, column = (int(v / SIDE * len(missing.loss)) for v in (y, x))
    assert missing.loss[row, column] < 0.02


def test_the_normals_are_judged_like_queries(detector, normals):
    session = looked(detector, normals, tray(9))
    own = found(session).normal_peaks
    for place, peak in enumerate(own):
        others = [image for i, image in enumerate(normals) if i != place]
        assert found(looked(detector, others, normals[place])).peak == pytest.approx(peak, abs=1e-5)


def test_two_normals_tell_where_and_not_how_much(detector, normals):
    missing = found(looked(detector, normals[:2], tray(9, without="blue")))
    assert missing.above is None and missing.normal_peaks == ()
    assert "third normal" in missing_told(missing)


def test_one_normal_or_copies_of_it_tell_nothing(detector, normals):
    for given in (normals[:1], [normals[0], normals[0]]):
        assert found(looked(detector, given, tray(9))) is None
    assert "Two different normals" in missing_told(None)


def test_copies_do_not_hide_what_is_missing(detector, normals):
    query = tray(9, without="green")
    once, twice = (
        found(looked(detector, given, query)) for given in (normals, [normals[0], *normals])
    )
    assert twice.peak == pytest.approx(once.peak) and twice.normal in (0, once.normal + 1)
    torch.testing.assert_close(torch.tensor(twice.loss), torch.tensor(once.loss))
