"""The section of the tab Learn in which a defect is drawn: its handlers and its words."""

from __future__ import annotations

import re

import gradio as gr
import pytest

from inctrl_core import load_detector
from inctrl_core.analysis.changes import with_threshold
from inctrl_core.analysis.inspection import Session, inspect
from inctrl_core.images.strokes import MOST_STROKES, UNREADABLE
from inctrl_core.ui.common import models
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.common.runner import ModelRunner
from inctrl_core.ui.learn.draw import BEFORE, Desk, DrawHandlers
from inctrl_core.ui.learn.draw_view import Seen, pixels_told, size_told
from inctrl_core.ui.learn.lesson import explain
from inctrl_core.ui.learn.parts import Lesson
from tests.analysis.test_drawn import plate

MODEL = "inctrl-lite"
MARK = "141414 0.1 0 0.5,0.25 0.6,0.25"
SPECK = "b4aaa5 0.03 0 0.5,0.4"  # Little darker than the plate.


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("plates")
    for seed in range(4):
        plate(seed).save(folder / f"{seed}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def detector():
    return load_detector(MODEL, "cpu")


@pytest.fixture(scope="module")
def lesson(detector, files) -> Lesson:
    return lesson_of(detector, inspect(detector, files, plate(9), "plate"))


def lesson_of(detector, session: Session) -> Lesson:
    return Lesson(session, explain(detector, session))


@pytest.fixture
def handlers(detector, monkeypatch) -> DrawHandlers:
    monkeypatch.setattr(models, "fetch_files", lambda source, on_progress: None)
    monkeypatch.setattr(models, "load_detector", lambda *a, **k: detector)
    return DrawHandlers(ModelRunner(ModelRegistry({MODEL: MODEL}, "cpu")))


def event(strokes: object) -> gr.EventData:
    return gr.EventData(None, {"strokes": strokes})


def score_of(markup: str) -> float:
    return float(re.search(r"the score is (\d\.\d{3})", markup).group(1))


def test_a_lesson_brings_a_pad(handlers, lesson):
    section, pad, drawn, sizes, smallest = handlers.show_pad(lesson)
    assert section.visible and (drawn, sizes, smallest) == (BEFORE, "", "")
    assert 'data-side="300.00"' in pad and 'data-least="0.00500"' in pad
    assert "This is normal 1, the one most like the others." in pad
    assert "It is left out: the other 3 normals judge it, by their own threshold." in pad
    hidden, *empty = handlers.show_pad(None)
    assert not hidden.visible and empty == [""] * 4


def test_who_judges_by_which_threshold_is_told(handlers, detector, files):
    # The copy of a normal that is left out is left out with it.
    session = inspect(detector, [*files[:2], files[0]], plate(9), "plate")
    pad = handlers.show_pad(lesson_of(detector, session))[1]
    others = len(session.bank.others(int(re.search(r"This is normal (\d)", pad).group(1)) - 1))
    judges = {1: "the other normal judges it", 2: "the other 2 normals judge it"}
    assert f"{judges[others]}, by their own threshold" in pad
    chosen = lesson_of(detector, with_threshold(session, 0.5))
    assert "by the threshold that you chose" in handlers.show_pad(chosen)[1]


def test_a_single_normal_cannot_be_drawn_on(handlers, detector, files):
    alone = lesson_of(detector, inspect(detector, files[:1], plate(9), "plate"))
    section, pad, *_ = handlers.show_pad(alone)
    assert section.visible and "Drawing needs two different normals" in pad
    assert "Drawing needs two different normals" in handlers.draw(None, alone, event(MARK))[1]


def test_a_stroke_moves_the_score_and_undo_returns_the_old_one(handlers, lesson):
    desk, empty, sizes, smallest = handlers.draw(None, lesson, event(""))
    assert "<strong>Nothing drawn</strong>" in empty and (sizes, smallest) == ("", "")
    again, drawn, _, smallest = handlers.draw(desk, lesson, event(MARK))
    assert again.board is desk.board  # The normals are not measured again.
    assert "<strong>Seen</strong>" in drawn and score_of(drawn) > score_of(empty)
    assert f"The score was {score_of(empty):.3f} before." in drawn
    assert "Smallest seen so far on this image" in smallest
    back = handlers.draw(again, lesson, event(""))
    assert back[1] == empty and back[3] == smallest


def test_the_smallest_mark_of_the_visit_is_kept(handlers, detector, lesson):
    desk, _, _, large = handlers.draw(None, lesson, event("141414 0.3 0 0.5,0.5"))
    desk, _, _, small = handlers.draw(desk, lesson, event(MARK))
    desk, _, _, still = handlers.draw(desk, lesson, event("141414 0.3 0 0.5,0.5"))
    assert large != small == still
    # What is not seen is no smallest, and another example has its own.
    desk, unseen, _, still = handlers.draw(desk, lesson, event("b9b4aa 0.005 1 0.5,0.6"))
    assert "<strong>Not seen</strong>" in unseen and still == small
    other = lesson_of(detector, with_threshold(lesson.session, 0.9999))
    moved, _, _, none = handlers.draw(desk, other, event("141414 0.05 0 0.5,0.5"))
    assert none == "" and moved.session is other.session
    assert handlers.draw(moved, lesson, event(""))[3] == small


def test_sizes_are_searched_at_the_last_stroke(handlers, lesson):
    desk, sizes, smallest = handlers.find_size(None, lesson, event(f"{MARK};{SPECK}"))
    assert re.search(r"The smallest dot that is seen is \d\.\d pixels across", sizes)
    assert sizes.count('class="ic-plot-dot"') == 16 and "ic-plot-line" in sizes
    assert isinstance(desk, Desk) and "Smallest seen so far" in smallest
    area = re.search(r"softness: (.*?)\.</p>", sizes).group(1)
    assert f"<strong>{area}</strong>" in smallest
    # Another drawing ends what was found.
    assert handlers.draw(desk, lesson, event(MARK))[2] == ""


def test_where_no_size_or_every_size_is_seen_that_is_told(handlers, detector, lesson):
    strict = lesson_of(detector, with_threshold(lesson.session, 0.99999))
    _, sizes, smallest = handlers.find_size(None, strict, event(SPECK))
    assert "No dot up to 150 pixels across is seen" in sizes and smallest == ""
    _, sizes, _ = handlers.find_size(None, lesson, event("ff0000 0.05 0 0.5,0.4"))
    assert "Even the smallest dot that was tried is seen, 1.5 pixels across" in sizes


@pytest.mark.parametrize("odd", [None, 3, [], {}, "x", "141414 9 0 0,0", "\ud800"])
def test_odd_drawings_are_told_in_a_sentence(handlers, lesson, odd):
    for answer in (
        handlers.draw(None, lesson, event(odd)),
        handlers.find_size(None, lesson, event(odd)),
        handlers.draw(None, lesson, gr.EventData(None, odd)),
    ):
        assert answer[0] == gr.skip()
        assert 'role="alert">' in answer[1] and UNREADABLE in answer[1]


def test_what_is_missing_is_told(handlers, lesson):
    assert "Choose an example first" in handlers.draw(None, None, event(MARK))[1]
    assert "Draw a stroke first" in handlers.find_size(None, lesson, event(""))[1]
    many = ";".join([MARK] * (MOST_STROKES + 1))
    assert f"at most {MOST_STROKES} strokes" in handlers.draw(None, lesson, event(many))[1]


def test_a_file_that_is_gone_is_told(handlers, detector, tmp_path):
    for seed in range(3):
        plate(seed).save(tmp_path / f"{seed}.png")
    paths = sorted(tmp_path.iterdir())
    gone = lesson_of(detector, inspect(detector, list(map(str, paths)), plate(9), "plate"))
    for path in paths:
        path.unlink()
    assert 'role="alert"' in handlers.draw(None, gone, event(MARK))[1]


def test_sizes_are_told_in_pixels_and_patches():
    assert size_told(Seen(12345.0, 30.94, 0.5)) == (
        "12,345 pixels of the image, as much as 30.9 patches"
    )
    assert pixels_told(1.26) == "1.3 pixels" and pixels_told(12.6) == "13 pixels"
