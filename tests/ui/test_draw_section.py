"""The section of the tab Learn in which a defect is drawn: its handlers and its words."""

from __future__ import annotations

import re

import gradio as gr
import pytest

from inctrl_core import load_detector
from inctrl_core.analysis.changes import with_threshold
from inctrl_core.analysis.inspection import inspect
from inctrl_core.analysis.session import Session
from inctrl_core.images.strokes import MOST_STROKES, UNREADABLE
from inctrl_core.ui.common import models
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.learn.draw import BEFORE, Desk, DrawSection
from inctrl_core.ui.learn.draw_view import Seen, pixels_told, size_told
from inctrl_core.ui.learn.lesson import explain
from inctrl_core.ui.learn.parts import Lesson
from tests.analysis.test_drawn import plate
from tests.support.sessions import tab_of

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
def section(detector, monkeypatch) -> DrawSection:
    monkeypatch.setattr(models, "fetch_files", lambda source, on_progress: None)
    monkeypatch.setattr(models, "load_detector", lambda *a, **k: detector)
    return tab_of(ModelRegistry({MODEL: MODEL}, "cpu"), DrawSection)


def event(strokes: object) -> gr.EventData:
    return gr.EventData(None, {"strokes": strokes})


def score_of(markup: str) -> float:
    return float(re.search(r"the score is (\d\.\d{3})", markup).group(1))


def test_a_lesson_brings_a_pad(section, lesson):
    shown = section.pad_of(lesson)
    assert shown[section.section].visible and shown[section.drawn] == BEFORE
    assert shown[section.sizes] == shown[section.smallest] == ""
    pad = shown[section.pad]
    assert 'data-side="300.00"' in pad and 'data-least="0.00500"' in pad
    assert "This is normal 1, the one most like the others." in pad
    assert "It is left out: the other 3 normals judge it, by their own threshold." in pad
    empty = section.pad_of(None)
    assert not empty.pop(section.section).visible and list(empty.values()) == [""] * 4


def test_who_judges_by_which_threshold_is_told(section, detector, files):
    # The copy of a normal that is left out is left out with it.
    session = inspect(detector, [*files[:2], files[0]], plate(9), "plate")
    pad = section.pad_of(lesson_of(detector, session))[section.pad]
    others = len(session.bank.others(int(re.search(r"This is normal (\d)", pad).group(1)) - 1))
    judges = {1: "the other normal judges it", 2: "the other 2 normals judge it"}
    assert f"{judges[others]}, by their own threshold" in pad
    chosen = lesson_of(detector, with_threshold(session, 0.5))
    assert "by the threshold that you chose" in section.pad_of(chosen)[section.pad]


def test_a_single_normal_cannot_be_drawn_on(section, detector, files):
    alone = lesson_of(detector, inspect(detector, files[:1], plate(9), "plate"))
    shown = section.pad_of(alone)
    told = "Drawing needs two different normals"
    assert shown[section.section].visible and told in shown[section.pad]
    assert told in section.draw(None, alone, event(MARK))[section.drawn]


def test_a_stroke_moves_the_score_and_undo_returns_the_old_one(section, lesson):
    first = section.draw(None, lesson, event(""))
    desk, empty = first[section.desk], first[section.drawn]
    assert "<strong>Nothing drawn</strong>" in empty
    assert first[section.sizes] == first[section.smallest] == ""
    second = section.draw(desk, lesson, event(MARK))
    again, drawn = second[section.desk], second[section.drawn]
    assert again.board is desk.board  # The normals are not measured again.
    assert "<strong>Seen</strong>" in drawn and score_of(drawn) > score_of(empty)
    assert f"The score was {score_of(empty):.3f} before." in drawn
    assert "Smallest seen so far on this image" in second[section.smallest]
    back = section.draw(again, lesson, event(""))
    assert back[section.drawn] == empty and back[section.smallest] == second[section.smallest]


def test_the_smallest_mark_of_the_visit_is_kept(section, detector, lesson):
    def draw(desk: Desk | None, strokes: str, drawn_on: Lesson = lesson) -> tuple[Desk, str, str]:
        shown = section.draw(desk, drawn_on, event(strokes))
        return shown[section.desk], shown[section.smallest], shown[section.drawn]

    desk, large, _ = draw(None, "141414 0.3 0 0.5,0.5")
    desk, small, _ = draw(desk, MARK)
    desk, still, _ = draw(desk, "141414 0.3 0 0.5,0.5")
    assert large != small == still
    # What is not seen is no smallest, and another example has its own.
    desk, still, unseen = draw(desk, "b9b4aa 0.005 1 0.5,0.6")
    assert "<strong>Not seen</strong>" in unseen and still == small
    other = lesson_of(detector, with_threshold(lesson.session, 0.9999))
    moved, none, _ = draw(desk, "141414 0.05 0 0.5,0.5", other)
    assert none == "" and moved.session is other.session
    assert draw(moved, "")[1] == small


def test_sizes_are_searched_at_the_last_stroke(section, lesson):
    found = section.find_size(None, lesson, event(f"{MARK};{SPECK}"))
    desk, sizes, smallest = (found[p] for p in (section.desk, section.sizes, section.smallest))
    assert re.search(r"The smallest dot that is seen is \d\.\d pixels across", sizes)
    assert sizes.count('class="ic-plot-dot"') == 16 and "ic-plot-line" in sizes
    assert isinstance(desk, Desk) and "Smallest seen so far" in smallest
    area = re.search(r"softness: (.*?)\.</p>", sizes).group(1)
    assert f"<strong>{area}</strong>" in smallest
    # Another drawing ends what was found.
    assert section.draw(desk, lesson, event(MARK))[section.sizes] == ""


def test_where_no_size_or_every_size_is_seen_that_is_told(section, detector, lesson):
    strict = lesson_of(detector, with_threshold(lesson.session, 0.99999))
    found = section.find_size(None, strict, event(SPECK))
    assert "No dot up to 150 pixels across is seen" in found[section.sizes]
    assert found[section.smallest] == ""
    found = section.find_size(None, lesson, event("ff0000 0.05 0 0.5,0.4"))
    every = "Even the smallest dot that was tried is seen, 1.5 pixels across"
    assert every in found[section.sizes]


@pytest.mark.parametrize("odd", [None, 3, [], {}, "x", "141414 9 0 0,0", "\ud800"])
def test_odd_drawings_are_told_in_a_sentence(section, lesson, odd):
    for place, answer in (
        (section.drawn, section.draw(None, lesson, event(odd))),
        (section.sizes, section.find_size(None, lesson, event(odd))),
        (section.drawn, section.draw(None, lesson, gr.EventData(None, odd))),
    ):
        assert list(answer) == [place]
        assert 'role="alert">' in answer[place] and UNREADABLE in answer[place]


def test_what_is_missing_is_told(section, lesson):
    drawn, sizes = section.drawn, section.sizes
    assert "Choose an example first" in section.draw(None, None, event(MARK))[drawn]
    assert "Draw a stroke first" in section.find_size(None, lesson, event(""))[sizes]
    many = ";".join([MARK] * (MOST_STROKES + 1))
    assert f"at most {MOST_STROKES} strokes" in section.draw(None, lesson, event(many))[drawn]


def test_a_file_that_is_gone_is_told(section, detector, tmp_path):
    for seed in range(3):
        plate(seed).save(tmp_path / f"{seed}.png")
    paths = sorted(tmp_path.iterdir())
    gone = lesson_of(detector, inspect(detector, list(map(str, paths)), plate(9), "plate"))
    for path in paths:
        path.unlink()
    assert 'role="alert"' in section.draw(None, gone, event(MARK))[section.drawn]


def test_sizes_are_told_in_pixels_and_patches():
    assert size_told(Seen(12345.0, 30.94, 0.5)) == (
        "12,345 pixels of the image, as much as 30.9 patches"
    )
    assert pixels_told(1.26) == "1.3 pixels" and pixels_told(12.6) == "13 pixels"
