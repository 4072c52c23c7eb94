"""The threshold of a result on the page: what it says follows from the figures."""

from __future__ import annotations

import dataclasses
import json

import pytest

from inctrl_core.analysis import inspect
from inctrl_core.analysis.batch import QueryFile, score_chunk
from inctrl_core.analysis.batch_job import start_job
from inctrl_core.analysis.changes import (
    with_phrases,
    with_query_as_normal,
    with_threshold,
    without_odd_normal,
    without_query_as_normal,
)
from inctrl_core.analysis.decision import BELOW, CLEARLY, FAR, GRADES, LITTLE
from inctrl_core.analysis.export import batch_json
from inctrl_core.analysis.inspection import start_session
from inctrl_core.analysis.session import Session
from inctrl_core.analysis.stress_run import DROP, compute_part
from inctrl_core.errors import InctrlError
from inctrl_core.ui.common.examples import load_examples
from inctrl_core.ui.common.heatmap import Display, heatmap
from inctrl_core.ui.inspect.threshold import say_share, threshold_html
from inctrl_core.ui.inspect.verdict import VERDICTS, verdict_html
from tests.support.pictures import SMALL_MARKS

EXAMPLE = SMALL_MARKS.example
NORMALS = [str(path) for path in EXAMPLE.normals[:4]]
QUERY = str(EXAMPLE.queries[EXAMPLE.cover].path)


@pytest.fixture(scope="module")
def session(detector) -> Session:
    return inspect(detector, NORMALS, QUERY, SMALL_MARKS.object_name)


def test_a_defect_lies_above_the_bank_s_own_threshold(session):
    decision = session.decision
    assert session.score.fused > decision.threshold and decision.expected == 0.05
    assert session.above and session.threshold == decision.threshold
    assert f"Threshold: {decision.threshold:.3f}" in threshold_html(session)
    assert "about 1 in 20 good images" in threshold_html(session)
    assert "ic-threshold" in verdict_html(session)


def test_the_normals_above_a_chosen_threshold_are_counted(session):
    scores = sorted(session.ranges.fused)
    for count in range(len(scores) + 1):
        line = scores[-1 - count] if count < len(scores) else scores[0] / 2
        told = threshold_html(with_threshold(session, line))
        assert f"Your threshold: {line:.3f}" in told
        assert f"{count or 'none'} of your {len(scores)} normals" in told


def test_a_higher_threshold_lets_fewer_good_images_pass_for_bad(session):
    good = session.measured.good
    lines = [good.threshold(rate) for rate in (0.2, 0.1, 0.05, 0.02, 0.01)]
    assert lines == sorted(lines)
    shares = [with_threshold(session, t).decision.expected for t in lines]
    assert shares == pytest.approx([0.2, 0.1, 0.05, 0.02, 0.01], rel=0.02)


def test_the_grade_rises_with_the_score(session):
    good, line = session.measured.good, session.decision.threshold
    scores = [line * share for share in (0.5, 1.0)] + [good.threshold(0.02), good.threshold(0.01)]
    scores += [0.5 * (good.threshold(0.01) + 1), 1.0]
    grades = [good.grade(score, line) for score in scores]
    assert grades[:3] == [BELOW, BELOW, LITTLE] and grades[-1] == FAR
    assert GRADES == (BELOW, LITTLE, CLEARLY, FAR) == tuple(VERDICTS)
    assert [GRADES.index(grade) for grade in grades] == sorted(map(GRADES.index, grades))


def test_one_normal_has_a_threshold_too(detector):
    alone = inspect(detector, NORMALS[:1], QUERY, SMALL_MARKS.object_name)
    assert alone.ranges is None and alone.decision is not None
    told = threshold_html(alone)
    assert "One normal tells" in told and "of your" not in told
    assert VERDICTS[alone.grade] in verdict_html(alone)


def test_without_figures_of_good_images_the_highest_normal_is_the_threshold(session):
    measured = dataclasses.replace(session.measured, good=None)
    without = dataclasses.replace(session, measured=measured)
    highest = session.ranges.highest
    assert without.decision is None and without.threshold == highest and without.above
    assert without.grade == CLEARLY
    slight = (highest - session.ranges.lowest) / len(session.ranges.fused)
    for excess, expected in ((-0.001, BELOW), (0.5 * slight, LITTLE), (2 * slight, CLEARLY)):
        score = dataclasses.replace(session.score, fused=highest + excess)
        assert dataclasses.replace(without, score=score).grade == expected
    told = threshold_html(without)
    assert f"Threshold: {highest:.3f}" in told and "good images" not in told
    assert "none of your" in told


def test_a_single_normal_of_such_a_model_has_no_threshold(detector):
    alone = inspect(detector, NORMALS[:1], QUERY, SMALL_MARKS.object_name)
    measured = dataclasses.replace(alone.measured, good=None)
    without = dataclasses.replace(alone, measured=measured)
    assert (without.threshold, without.grade, without.above) == (None, None, None)
    assert threshold_html(without) == "" and "no range" in verdict_html(without)


def test_a_copy_of_a_normal_has_no_grade(detector):
    assert threshold_html(inspect(detector, NORMALS, NORMALS[0], SMALL_MARKS.object_name)) == ""


def test_the_choice_holds_for_the_next_image_and_not_for_other_normals(detector, session):
    chosen = with_threshold(session, 0.3)
    good = str(EXAMPLE.normals[-1])
    following = start_session(
        detector, session.model, (NORMALS, good), SMALL_MARKS.object_name, chosen
    )
    assert following.threshold == following.chosen == 0.3
    others = start_session(
        detector, session.model, (NORMALS[:3], good), SMALL_MARKS.object_name, chosen
    )
    assert others.chosen is None


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
    assert VERDICTS[BELOW] in verdict_html(chosen)
    assert VERDICTS[BELOW] not in verdict_html(session)


def test_the_line_round_what_differs_moves_as_the_odds_do(session):
    own = session.threshold
    odds = own / (1 - own)
    higher = with_threshold(session, 2 * odds / (1 + 2 * odds))
    for before, after in zip(session.scales, higher.scales, strict=True):
        assert after.line == pytest.approx(2 * before.line, rel=1e-6)
        assert (after.low, after.high, after.normal_high) == (
            before.low,
            before.high,
            before.normal_high,
        )
    shares = [
        with_threshold(session, t).scales[0].share_above(session.score.patch_map)
        for t in (0.0, own / 2, own, 2 * own, 1.0)
    ]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (1.0, 0.0) and 0.0 < shares[2] < shares[1]
    assert with_threshold(with_threshold(session, 0.9), own).scales[0].line == pytest.approx(
        session.scales[0].line
    )


def test_the_map_follows_the_threshold(session):
    own, bar = heatmap(session, Display())
    moved, moved_bar = heatmap(with_threshold(session, 0.9), Display())
    assert own.tobytes() != moved.tobytes() and bar != moved_bar
    assert "moves with your threshold" in moved_bar and "moves with" not in bar
    # Where nothing lies above, the picture stays as it is.
    assert (
        heatmap(with_threshold(session, 1.0), Display(row=0))[0].tobytes()
        == session.query.image.tobytes()
    )


def test_a_batch_of_the_same_normals_takes_it_over(detector, session):
    chosen = with_threshold(session, 0.9)
    files = (QueryFile(QUERY, "defect.jpg"),)
    about = detector, "key", session.model, tuple(NORMALS), files, SMALL_MARKS.object_name
    for previous, threshold in ((chosen, 0.9), (session, session.threshold)):
        job = start_job(*about, previous)
        assert job.batch.threshold == threshold
        rows = score_chunk(detector, job.bank, job.waiting)
        batch = job.with_rows(rows, 1.0).batch
        assert batch.above(batch.rows[0]) is (threshold < 0.9)
        assert batch.scale == previous.scales[0]
        told = json.loads(batch_json(batch))
        assert told["threshold"] == threshold
        assert told["decision"]["expected_share_above"] == previous.decision.expected


def test_a_threshold_that_was_chosen_stays_whichever_normal_is_left_out(detector, session):
    chosen = with_threshold(session, 0.9)
    dropped = compute_part(detector, chosen, DROP, None, None)
    assert {drop.threshold for drop in dropped} == {0.9}
    assert chosen.odd == session.odd


MIXED = (*NORMALS, str(EXAMPLE.queries[5].path))


@pytest.fixture(scope="module")
def found(detector) -> Session:
    """With a damaged image among the normals."""
    return inspect(detector, MIXED, QUERY, SMALL_MARKS.object_name)


class TestOddNormal:
    """A damaged image among the normals is named, and can be left out."""

    def test_it_is_the_damaged_one(self, found, session):
        assert EXAMPLE.queries[5].anomalous
        assert found.odd.index == 4 and session.odd is None
        assert f"normal {5} (" in verdict_html(found).lower()

    def test_what_is_said_of_it_is_what_comes_of_leaving_it_out(self, detector, found, session):
        left = without_odd_normal(detector, found)
        assert left.bank.shots == 4 and left.odd is None
        assert left.score.fused == pytest.approx(found.odd.fused, abs=1e-6)
        assert left.score.fused == pytest.approx(session.score.fused, abs=1e-6)
        assert left.threshold == pytest.approx(found.odd.threshold, abs=1e-9)
        assert found.score.fused + found.odd.change == pytest.approx(left.score.fused, abs=1e-6)
        assert left.normal_files == MIXED[:4] and len(left.normals) == 4
        with pytest.raises(InctrlError):
            without_odd_normal(detector, left)

    def test_of_two_normals_neither_is_odd(self, detector):
        assert inspect(detector, [NORMALS[0], MIXED[-1]], QUERY, "paper").odd is None

    def test_good_normals_of_the_examples_are_not_called_odd(self, detector):
        for example in load_examples().values():
            normals = [str(path) for path in example.normals]
            found = inspect(detector, normals, str(example.queries[0].path), example.object_name)
            assert found.odd is None, example.name


def test_another_normal_has_its_price_told(detector, session):
    larger = with_query_as_normal(detector, session)
    assert larger.threshold > session.threshold == larger.threshold_before
    told = verdict_html(larger)
    assert f"rises from {session.threshold:.3f} to {larger.threshold:.3f}" in told
    back = without_query_as_normal(detector, larger)
    assert f"falls from {larger.threshold:.3f} to {session.threshold:.3f}" in verdict_html(back)
    spoken = with_phrases(detector, larger, ["whole"], ["bent"])
    assert spoken.threshold_before is None and "rises" not in verdict_html(spoken)
