"""The lesson for teachers: its links lead somewhere, and its answers are those of the model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inctrl_core import Detector
from inctrl_core.analysis import inspect, score_labelled
from inctrl_core.analysis.drawn import find_smallest, open_board
from inctrl_core.analysis.labelled import LabelledResult
from inctrl_core.images.strokes import Stroke
from inctrl_core.ui.batch.tab import LABELLED_EXAMPLE
from inctrl_core.ui.common.examples import load_examples
from inctrl_core.ui.failures.cases import load_cases
from tests.support.pictures import FIRST

LESSON = Path(__file__).resolve().parents[2] / "docs" / "teaching.md"
TABS = {"inspect", "batch", "learn"}


def test_its_links_name_tabs_and_cases():
    text = LESSON.read_text(encoding="utf-8")
    cases = set(re.findall(r"\?case=([\w-]+)", text))
    assert cases == {"board-screw", "grey-paper", "bakery"} and cases <= set(load_cases())
    assert set(re.findall(r"\?tab=(\w+)", text)) == TABS


@pytest.fixture(scope="module")
def result(detector: Detector) -> LabelledResult:
    example = load_examples()[LABELLED_EXAMPLE]
    known = {
        anomalous: [str(q.path) for q in example.queries if q.anomalous is anomalous]
        for anomalous in (False, True)
    }
    normals = [str(path) for path in example.normals]
    return score_labelled(detector, normals, known[False], known[True], example.object_name)


def test_the_labelled_example_has_one_miss_and_one_false_alarm(result):
    assert result.counts["miss"] == result.counts["false alarm"] == 1
    assert result.counts["found"] == 5 and result.counts["passed"] == 3


def test_no_threshold_parts_the_labelled_example(result):
    scores = {
        anomalous: sorted(i.score.fused for i in result.images if i.anomalous is anomalous)
        for anomalous in (False, True)
    }
    assert scores[True][0] < scores[False][0]  # Without a miss all are called anomalous.
    assert scores[False][-1] > scores[True][1]


def test_a_dot_must_be_larger_on_the_screw_than_on_the_wood(detector):
    normals = [str(path) for path in FIRST.example.normals]
    board = open_board(detector, inspect(detector, normals, str(FIRST.bad), FIRST.object_name))

    def smallest(x: float, y: float) -> float:
        dot = Stroke(((x, y),), 0.05, (20, 20, 20), 0.2)
        return board.pixels(find_smallest(detector, board, dot).smallest)

    wood = [smallest(0.2, 0.2), smallest(0.8, 0.2)]
    screw = [smallest(0.42, 0.7), smallest(0.58, 0.7)]
    assert all(5 <= diameter <= 7 for diameter in wood)
    assert all(3 * 6 <= diameter <= 5 * 6 for diameter in screw)
