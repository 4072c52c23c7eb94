"""Frames of a camera against the normals of the form."""

from __future__ import annotations

import base64
import io
import json
from types import SimpleNamespace

import pytest
from PIL import Image

from inctrl_core.analysis.changes import with_threshold
from inctrl_core.analysis.inspection import start_session
from inctrl_core.analysis.measured_bank import build_measured_bank
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.errors import ImageError
from inctrl_core.ui.common.choices import Choices
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.live.frames import (
    MAX_FRAME_CHARACTERS,
    open_frame,
    score_frame,
)
from inctrl_core.ui.live.tab import LiveTab
from tests.support.pictures import FIRST, OTHER
from tests.support.sessions import tab_of


def jpeg(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def sent(number: int, image: Image.Image | str) -> SimpleNamespace:
    data = image if isinstance(image, str) else jpeg(image)
    return SimpleNamespace(_data={"id": number, "image": data})


def uploaded(paths) -> list[dict]:
    return [{"image": {"path": str(path)}, "caption": None} for path in paths]


def answered(tab: LiveTab, shown: dict) -> dict:
    """The answer that the page draws."""
    return json.loads(shown[tab.stage])


CUP = "cookie", DEFAULT_MODEL  # Object name and model.


@pytest.fixture(scope="module")
def registry() -> ModelRegistry:
    return ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL}, device="cpu")


@pytest.fixture(scope="module")
def tab(registry) -> LiveTab:
    return tab_of(registry, LiveTab)


@pytest.fixture(scope="module")
def upright():
    return OTHER.example


@pytest.fixture
def frame() -> Image.Image:
    return Image.open(OTHER.bad).convert("RGB").crop((0, 50, 300, 350))


def test_a_frame_scores_as_any_image_does(registry, upright, frame):
    detector = registry.get(DEFAULT_MODEL)
    paths = [str(path) for path in upright.normals]
    live = build_measured_bank(detector, paths, OTHER.object_name)
    answer = score_frame(detector, live, frame)
    score = detector.score([frame], detector.build_bank(paths, OTHER.object_name))[0]
    assert answer["fused"] == pytest.approx(score.fused, abs=6e-5)
    assert answer["low"] < answer["high"] < answer["fused"]
    # The scale ends at twice what the normals show among themselves.
    top = 2 * max(live.ranges.patch_max)
    assert max(map(max, answer["map"])) == pytest.approx(min(1, score.patch_max / top), abs=1e-3)
    assert json.loads(json.dumps(answer)) == answer


def test_a_frame_of_other_proportions_is_told(registry, upright, frame):
    detector = registry.get(DEFAULT_MODEL)
    live = build_measured_bank(detector, [str(upright.normals[0])], "cookie")
    whole = Image.open(upright.queries[upright.cover].path)
    assert whole.size == (300, 400) and frame.size == (300, 300)
    assert score_frame(detector, live, whole)["alike"]
    answer = score_frame(detector, live, frame)
    assert not answer["alike"] and answer["box"] == [0, 0, 1, 1]


def test_the_box_is_where_a_model_that_cuts_has_looked(golden_detector, upright):
    paths = [str(path) for path in upright.normals[:2]]
    live = build_measured_bank(golden_detector, paths, "cookie")
    answer = score_frame(golden_detector, live, Image.open(upright.queries[0].path))
    left, top, right, bottom = answer["box"]  # The middle 300 of 400 rows, all 300 columns.
    assert (top, bottom) == pytest.approx((50 / 400, 350 / 400), abs=0.01)
    assert (left, right) == (0, 1) and answer["alike"]


def test_a_single_normal_gives_no_range(registry, upright, frame):
    detector = registry.get(DEFAULT_MODEL)
    live = build_measured_bank(detector, [str(upright.normals[0])], "cookie")
    answer = score_frame(detector, live, frame)
    assert answer["low"] is None and answer["high"] is None and answer["shots"] == 1
    assert answer["threshold"] == pytest.approx(live.threshold, abs=6e-5)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "not a JPEG"),
        ({"a": 1}, "not a JPEG"),
        ("data:image/png;base64,AAAA", "not a JPEG"),
        ("data:image/jpeg;base64,", "empty"),
        ("data:image/jpeg;base64,###", "damaged"),
        ("data:image/jpeg;base64," + "A" * 400, "not an image"),
        ("data:image/jpeg;base64," + "A" * MAX_FRAME_CHARACTERS, "too large"),
    ],
)
def test_what_is_no_frame_is_refused(data, says):
    with pytest.raises(ImageError, match=says):
        open_frame(data)


def test_without_normals_the_page_waits(tab, frame):
    shown = tab.score_frame([], *CUP, None, None, None, sent(3, frame))
    assert shown[tab.bank] is None
    assert answered(tab, shown) == {"id": 3, "waiting": True}


def test_the_bank_is_built_again_only_when_the_form_changes(tab, upright, frame):
    normals = uploaded(upright.normals[:2])
    first = tab.score_frame(normals, *CUP, None, None, None, sent(1, frame))
    live = first[tab.bank]
    second = tab.score_frame(normals, *CUP, live, None, None, sent(2, frame))
    assert answered(tab, first)["fused"] == answered(tab, second)["fused"]
    assert tab.bank not in second  # Left as it is.
    more = uploaded(upright.normals[:3])
    third = tab.score_frame(more, *CUP, live, None, None, sent(3, frame))
    assert third[tab.bank].measured.bank.shots == answered(tab, third)["shots"] == 3


def test_the_threshold_of_inspect_holds_here(tab, registry, upright, frame):
    normals = uploaded(upright.normals[:2])
    files = tuple(str(path) for path in upright.normals[:2])
    scored = start_session(registry.get(DEFAULT_MODEL), DEFAULT_MODEL, (files, files[0]), CUP[0])
    given = [(scored, None), (with_threshold(scored, 0.9), None), (None, Choices(files, 0.9))]
    answers = [
        answered(tab, tab.score_frame(normals, *CUP, None, *chosen, sent(1, frame)))
        for chosen in given
    ]
    assert [a["threshold"] for a in answers] == [round(scored.threshold, 4), 0.9, 0.9]
    assert answers[0]["clear"] < answers[1]["clear"] == answers[2]["clear"]


def test_an_unreadable_normal_is_told_and_the_bank_stays(tab, tmp_path, frame):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    shown = tab.score_frame(
        uploaded([broken]), "x", DEFAULT_MODEL, None, None, None, sent(4, frame)
    )
    assert tab.bank not in shown
    assert "broken.png" in answered(tab, shown)["error"]


def test_a_frame_becomes_a_normal_until_there_is_no_room(tab, upright, frame):
    shown = tab.take_normal(uploaded(upright.normals[:2]), sent(0, frame))
    normals = shown[tab.form.normals]
    assert len(normals) == answered(tab, shown)["taken"] == 3
    assert normals[2].size == frame.size
    full = uploaded([upright.normals[0]] * 16)
    shown = tab.take_normal(full, sent(0, frame))
    assert tab.form.normals not in shown
    assert "remove one" in answered(tab, shown)["error"]


def test_the_example_shows_all_its_queries(tab):
    filled = tab.open_example(SimpleNamespace(_data={}))
    normals, query, name, shown = (filled[part] for part in tab.form.filled)
    assert len(normals) == len(FIRST.normals) and name == FIRST.object_name
    # The tab Inspect finds one of the same images, and what is true of it.
    assert (
        query == str(FIRST.example.queries[FIRST.example.cover].path)
        and FIRST.example.title in shown
    )
    assert len(answered(tab, filled)["example"]) == len(FIRST.example.queries)
