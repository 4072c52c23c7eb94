"""The threshold of a result on the page: what it says follows from the figures."""

from __future__ import annotations

import dataclasses

import pytest

from inctrl_core import load_detector
from inctrl_core.analysis import inspect
from inctrl_core.analysis.decision import BELOW, CLEARLY, FAR, LITTLE
from inctrl_core.analysis.inspection import Session, start_session, with_threshold
from inctrl_core.errors import InctrlError
from inctrl_core.ui.common.examples import load_examples
from inctrl_core.ui.inspect.threshold import GRADES, decision_html, say_share
from inctrl_core.ui.inspect.verdict import verdict_html

EXAMPLE = load_examples()["washer"]
NORMALS = [str(path) for path in EXAMPLE.normals[:4]]
QUERY = str(EXAMPLE.queries[EXAMPLE.cover].path)


@pytest.fixture(scope="module")
def detector():
    return load_detector("inctrl-lite", "cpu")


@pytest.fixture(scope="module")
def session(detector) -> Session:
    return inspect(detector, NORMALS, QUERY, "metal washer")


def test_a_defect_lies_above_the_bank_s_own_threshold(session):
    decision = session.decision
    assert session.score.fused > decision.threshold and decision.expected == 0.05
    assert f"Threshold {decision.threshold:.3f}:" in decision_html(session)
    assert "about 1 in 20 good images" in decision_html(session)
    assert "ic-threshold" in verdict_html(session)


def test_the_normals_above_a_chosen_threshold_are_counted(session):
    scores = sorted(session.ranges.fused)
    for count in range(len(scores) + 1):
        line = scores[-1 - count] if count < len(scores) else scores[0] / 2
        told = decision_html(dataclasses.replace(session, threshold=line))
        assert "(yours)" in told
        says = {0: "none lies above", 1: "1 of them lies above"}.get(count, f"{count} of them lie")
        assert says in told


def test_a_higher_threshold_lets_fewer_good_images_pass_for_bad(session):
    good = session.measured.good
    lines = [good.threshold(rate) for rate in (0.2, 0.1, 0.05, 0.02, 0.01)]
    assert lines == sorted(lines)
    shares = [dataclasses.replace(session, threshold=t).decision.expected for t in lines]
    assert shares == pytest.approx([0.2, 0.1, 0.05, 0.02, 0.01], rel=0.02)


def test_the_grade_rises_with_the_score(session):
    good, line = session.measured.good, session.decision.threshold
    scores = [line * share for share in (0.5, 1.0)] + [good.threshold(0.02), good.threshold(0.01)]
    scores += [0.5 * (good.threshold(0.01) + 1), 1.0]
    grades = [good.grade(score, line) for score in scores]
    assert grades[:3] == [BELOW, BELOW, LITTLE] and grades[-1] == FAR
    order = [BELOW, LITTLE, CLEARLY, FAR]
    assert [order.index(grade) for grade in grades] == sorted(map(order.index, grades))
    assert set(GRADES) == set(order)


def test_one_normal_has_a_threshold_too(detector):
    alone = inspect(detector, NORMALS[:1], QUERY, "metal washer")
    assert alone.ranges is None and alone.decision is not None
    told = decision_html(alone)
    assert "one normal tells" in told and "Of your" not in told


def test_a_model_without_figures_says_nothing(session):
    measured = dataclasses.replace(session.measured, good=None)
    without = dataclasses.replace(session, measured=measured)
    assert decision_html(without) == "" and "ic-threshold" not in verdict_html(without)


def test_a_copy_of_a_normal_has_no_grade(detector):
    assert decision_html(inspect(detector, NORMALS, NORMALS[0], "metal washer")) == ""


def test_the_choice_holds_for_the_next_image_and_not_for_other_normals(detector, session):
    chosen = dataclasses.replace(session, threshold=0.3)
    good = str(EXAMPLE.normals[-1])
    following = start_session(detector, session.model, (NORMALS, good), "metal washer", chosen)
    assert following.threshold == 0.3
    others = start_session(detector, session.model, (NORMALS[:3], good), "metal washer", chosen)
    assert others.threshold is None


@pytest.mark.parametrize(
    ("share", "says"),
    [(0.05, "about 1 in 20"), (0.001, "fewer than 1 in 200"), (0.25, "about 1 in 4")],
)
def test_shares_in_words(session, share, says):
    assert say_share(share, session.measured.good) == says


@pytest.mark.parametrize("odd", [None, -0.1, 1.5, float("nan"), "0.2", [0.2]])
def test_an_odd_threshold_is_refused(session, odd):
    with pytest.raises(InctrlError, match="between 0 and 1"):
        with_threshold(session, odd)


def test_a_threshold_moves_the_verdict_and_computes_nothing(session):
    chosen = with_threshold(session, 0.99)
    assert chosen.score is session.score
    assert GRADES[BELOW] in verdict_html(chosen) and GRADES[BELOW] not in verdict_html(session)
