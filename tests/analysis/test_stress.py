"""The stress test: by hand on features of two numbers, then with the embedded model; no browser."""

from __future__ import annotations

import base64
import dataclasses
import json
import pickle
import re
from html.parser import HTMLParser

import gradio as gr
import numpy as np
import pytest

from inctrl_core import Detector
from inctrl_core.analysis import stress
from inctrl_core.analysis.changes import with_threshold
from inctrl_core.analysis.inspection import start_session
from inctrl_core.analysis.normal_range import NormalRange
from inctrl_core.analysis.session import Session
from inctrl_core.analysis.stress import DropOne, SeverityCurve, ShotsPoint
from inctrl_core.analysis.stress_run import PARTS, StressRun, compute_part, start_run, with_result
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.config import BackboneConfig, HeadsConfig, ModelConfig
from inctrl_core.errors import InctrlError
from inctrl_core.images.perturbations import perturb
from inctrl_core.model.heads import TrainingFreeFusion
from inctrl_core.ui.common.examples import load_examples
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.common.plots import Yardstick
from inctrl_core.ui.stress import charts as stress_charts
from inctrl_core.ui.stress import sections as stress_sections
from inctrl_core.ui.stress import words as stress_words
from inctrl_core.ui.stress.tab import StressTab, examples_html
from tests.analysis.test_diagnostics import StubBackbone, bank, distance, encoded
from tests.support.pictures import OTHER
from tests.support.sessions import tab_of

NORMALS = sorted((OTHER.folder / "normals").iterdir())[:4]
QUERY = OTHER.bad
SECTIONS = (
    stress_sections.head_html,
    stress_sections.curve_html,
    stress_sections.drop_html,
    stress_sections.contamination_html,
    stress_sections.changes_html,
)


@pytest.fixture
def by_hand() -> Detector:
    """Its fused is (image distance + patch_max) / 2, and both say the same here."""
    config = ModelConfig(
        name="by hand",
        backbone=BackboneConfig(architecture={"embed_dim": 2}, depths=(0,), grid=1),
        heads=HeadsConfig("training-free"),
    )
    return Detector(config, StubBackbone(), TrainingFreeFusion({"image": 1.0}))


def session_of(detector: Detector, count: int, name: str = OTHER.object_name) -> Session:
    files = [str(path) for path in NORMALS[:count]], str(QUERY)
    return start_session(detector, DEFAULT_MODEL, files, name)


def finish(detector: Detector, run: StressRun) -> StressRun:
    while run.next_part is not None:
        result = compute_part(detector, run.session, run.next_part, run.query, run.normal)
        run = with_result(run, result)
    return run


@pytest.fixture(scope="module")
def finished(detector) -> StressRun:
    return finish(detector, start_run(session_of(detector, 4), str(QUERY)))


@pytest.fixture(scope="module")
def tab() -> StressTab:
    return tab_of(ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL}, device="cpu"), StressTab)


class TestByHand:
    def test_a_draw_and_a_dropped_normal_have_thresholds_of_their_own(self, by_hand):
        normals, query = bank(0, 10, 40), encoded(100)
        one, two, three = stress.shots_curve(by_hand, normals, query, draws=20)
        assert one.thresholds == (None,) * 3
        assert sorted(two.thresholds) == pytest.approx([distance(d) for d in (10, 30, 40)])
        assert three.thresholds == pytest.approx([distance(30)])
        dropped = stress.drop_one(by_hand, normals, query)
        assert [d.threshold for d in dropped] == pytest.approx(
            [distance(30), distance(40), distance(10)]
        )
        assert stress.drop_one(by_hand, bank(0, 10), query)[0].threshold is None

    def test_a_contaminated_bank_knows_the_query_and_raises_the_threshold(self, by_hand):
        contaminated = stress.contaminate(by_hand, bank(0, 10, 40), encoded(100), encoded(100))
        assert contaminated.before.fused == pytest.approx(distance(60), abs=1e-6)
        assert contaminated.after.fused == pytest.approx(0, abs=1e-6)
        assert contaminated.threshold_before == pytest.approx(distance(30), abs=1e-6)
        assert contaminated.threshold_after == pytest.approx(distance(60), abs=1e-6)
        assert contaminated.replaced is None
        single = stress.contaminate(by_hand, bank(0), encoded(100), encoded(100))
        assert single.threshold_before is None

    def test_a_likeness_among_the_normals_leaves_its_distance(self, by_hand):
        contaminated = stress.contaminate(by_hand, bank(0, 10, 40), encoded(100), encoded(80))
        assert contaminated.after.fused == pytest.approx(distance(20), abs=1e-6)
        assert contaminated.threshold_after == pytest.approx(distance(40), abs=1e-6)

    def test_in_a_full_bank_the_copy_takes_the_last_place(self, by_hand):
        contaminated = stress.contaminate(by_hand, bank(*range(16)), encoded(100), encoded(100))
        assert contaminated.replaced == 15
        assert contaminated.before.fused == pytest.approx(distance(85), abs=1e-6)
        # Without the normal at 15 degrees, the copy's own score is that to the one at 14.
        assert contaminated.threshold_after == pytest.approx(distance(86), abs=1e-6)

    def test_the_typical_normal_lies_in_the_middle(self):
        assert stress.typical_normal(NormalRange((0.3, 0.1, 0.2), (0.0,) * 3)) == 2
        assert stress.typical_normal(NormalRange((0.3, 0.1, 0.2, 0.4), (0.0,) * 4)) == 2
        assert stress.typical_normal(NormalRange((0.2, 0.1), (0.0,) * 2)) == 1

    @pytest.mark.parametrize(
        ("draws", "settled"),
        [
            ([(0.3, 0.2), (0.109, 0.1), (0.101,), (0.1,)], 2),
            ([(0.3, 0.2), (0.12, 0.1), (0.105,), (0.1,)], 3),
            ([(0.1,), (0.1, 0.3), (0.1,), (0.1,)], 3),
            ([(0.1,), (0.1,), (0.12,), (0.1,)], None),
            ([(0.1,)], None),
            # Near zero a tenth would be less than what three decimals show.
            ([(0.005,), (0.001,)], 1),
        ],
    )
    def test_a_score_settles_where_no_draw_strays_from_there_on(self, draws, settled):
        curve = [ShotsPoint(i + 1, fused, ()) for i, fused in enumerate(draws)]
        assert stress.settled_from(curve) == settled

    def test_verdicts_are_counted_by_each_draw_s_own_threshold(self):
        point = ShotsPoint(2, (0.3, 0.2, 0.1), (0.2, 0.2, 0.05))
        assert (stress.agreement(point, True), stress.agreement(point, False)) == (2, 1)
        assert stress.turned_at((0.1, 0.2, 0.3), 0.2, above=False) == (2,)
        assert stress.turned_at((0.1, 0.2, 0.3), 0.2, above=True) == (0, 1)


class TestStrengthCurve:
    def test_it_scores_what_a_visitor_would_get_with_the_changed_picture(self, detector, finished):
        run = finished
        curve = next(curve for curve in run.changed if curve.name == "brighter")
        pictures = [perturb(run.query, "brighter", severity) for severity in curve.severities]
        expected = [score.fused for score in detector.score(pictures, run.session.bank)]
        assert curve.query == pytest.approx(expected, abs=1e-6)
        index, square = run.normal
        pictures = [perturb(square, "brighter", severity) for severity in curve.severities]
        others = run.session.bank.without(index)
        expected = [score.fused for score in detector.score(pictures, others)]
        assert curve.normal == pytest.approx(expected, abs=1e-6)

    def test_what_is_changed_scores_like_the_files_it_comes_from(self, detector, finished):
        # Its longer side is resized twice, to the proportions of the file and to the square.
        run = finished
        score = detector.score([run.query], run.session.bank)[0]
        assert score.patch_max == pytest.approx(run.session.score.patch_max, abs=0.005)
        index, picture = run.normal
        score = detector.score([picture], run.session.bank.without(index))[0]
        assert score.patch_max == pytest.approx(run.session.ranges.patch_max[index], abs=0.005)
        assert min(run.query.size) == min(picture.size) == 288 < max(run.query.size)


class TestRun:
    def test_the_parts_come_in_order_and_cross_processes(self, detector):
        session = session_of(detector, 2)
        run = start_run(session, str(QUERY))
        seen = []
        while run.next_part is not None:
            seen.append(run.next_part)
            if run.changed:  # One kind of change is like the other.
                result = run.changed[0]
            else:
                given = pickle.loads(pickle.dumps((session, seen[-1], run.query, run.normal)))
                result = pickle.loads(pickle.dumps(compute_part(detector, *given)))
            run = with_result(run, result)
        assert tuple(seen) == PARTS
        assert [point.shots for point in run.curve] == [1, 2]
        assert len(run.dropped) == 2 and len(run.changed) == 6
        assert run.curve[-1].fused[0] == pytest.approx(session.score.fused, abs=1e-6)
        assert run.contaminated[0].after.patch_max == pytest.approx(0, abs=1e-5)
        assert 0.01 < run.contaminated[1].after.patch_max < session.score.patch_max

    def test_one_normal_still_gets_what_can_be_said(self, detector):
        run = start_run(session_of(detector, 1), str(QUERY))
        for _ in range(4):
            result = compute_part(detector, run.session, run.next_part, run.query, run.normal)
            run = with_result(run, result)
        run = dataclasses.replace(run, changed=run.changed * 6, done=len(PARTS))
        assert run.normal is None and run.session.ranges is None
        assert run.threshold == run.session.threshold == run.session.decision.threshold
        text = plain("".join(section(run) for section in SECTIONS))
        assert "There is one normal, so nothing to draw from." in text
        assert "it carries everything" in text
        assert f"{run.threshold:.3f}" in plain(stress_sections.head_html(run))
        assert "A second normal would tell" in text
        assert "changed likewise" not in text

    def test_the_sections_come_one_by_one(self, detector, finished):
        run = start_run(finished.session, str(QUERY))
        assert [bool(section(run)) for section in SECTIONS] == [True] + [False] * 4
        assert "Step 1 of 9: drawing fewer normals" in stress_sections.head_html(run)
        run = with_result(run, finished.curve)
        assert [bool(section(run)) for section in SECTIONS] == [True, True] + [False] * 3
        run = with_result(with_result(run, finished.dropped), finished.contaminated)
        run = with_result(run, finished.changed[0])
        assert stress_sections.changes_html(run).count("ic-waiting") == 5
        assert "All tests are done." in stress_sections.head_html(finished)

    def test_all_figures_can_be_taken_away(self, finished):
        link = re.search(
            r'href="data:application/json;base64,([^"]+)"', stress_sections.head_html(finished)
        )
        figures = json.loads(base64.b64decode(link.group(1)))
        assert figures["score"] == finished.session.score.fused
        assert figures["normal_scores"] == list(finished.session.ranges.fused)
        assert [point["shots"] for point in figures["fewer_normals"]] == [1, 2, 3, 4]
        assert figures["fewer_normals"][-1]["fused"] == [finished.curve[-1].fused[0]]
        assert [drop["normal"] for drop in figures["left_out"]] == [1, 2, 3, 4]
        assert 0 <= figures["among_normals"]["copy"]["score"] < 0.001
        assert figures["changed_normal"] == finished.normal[0] + 1
        assert [change["name"] for change in figures["changes"]] == list(PARTS[3:])
        assert len(figures["changes"][0]["normal"]) == 5


class TestWords:
    def curve(self, name: str, query: tuple[float, ...], normal=(0.0,) * 5) -> SeverityCurve:
        return SeverityCurve(name, (5, 10, 20, 45, 90), query, normal)

    @pytest.mark.parametrize(
        ("name", "places", "says"),
        [
            ("rotation", (2, 3, 4), "at 20° and more"),
            ("rotation", (4,), "at 90°"),
            ("darker", (0, 2), "at 5% and 20% brightness"),
            ("jpeg", (0, 1, 3), "at quality 5, 10 and 45"),
            ("noise", (3, 4), "at 45 grey levels and more"),
        ],
    )
    def test_strengths_are_told_as_a_range_only_where_they_are_one(self, name, places, says):
        assert stress_words.severities_at(self.curve(name, (0.0,) * 5), places) == says

    @pytest.mark.parametrize(
        ("query", "above", "says"),
        [
            ((0.1, 0.1, 0.3, 0.3, 0.3), False, "An alarm at 20° and more."),
            ((0.1,) * 5, False, "Never an alarm."),
            ((0.3, 0.3, 0.1, 0.3, 0.1), True, "Below the threshold at 20° and 90°."),
            ((0.3,) * 5, True, "Above the threshold at every severity."),
        ],
    )
    def test_a_change_is_told_by_where_the_verdict_turns(self, query, above, says):
        curve = self.curve("rotation", query, (0.1, 0.1, 0.1, 0.1, 0.3))
        told = stress_words.say_change(curve, query[0], 0.2, above)
        assert told == (says, "A normal, changed likewise: an alarm at 90°.")

    def test_all_changes_are_counted(self):
        curves = [
            self.curve("rotation", (0.1, 0.1, 0.3, 0.3, 0.3)),
            self.curve("blur", (0.1,) * 5, (0.1, 0.1, 0.1, 0.3, 0.3)),
        ]
        assert stress_words.say_changes(curves, 0.2, False, 3) == (
            "The image stays below the threshold under 7 of 10 changes; it becomes an alarm when "
            "turned. Normal 4, changed likewise, becomes an alarm under 2 of 10: there the score "
            "shows the change, not a defect."
        )
        calm = [self.curve("blur", (0.3,) * 5)]
        assert stress_words.say_changes(calm, 0.2, True, 0) == (
            "The image stays above the threshold under all 5 changes. Normal 1, changed likewise, "
            "never becomes an alarm."
        )

    @pytest.mark.parametrize(
        ("fused", "query", "normal", "says", "bad"),
        [
            (0.5, (0.5,) * 5, (0.1,) * 5, "Stable: nothing .* lies 0.300 above", False),
            (0.21, (0.3,) * 5, (0.1,) * 5, "Stable: .* lies only 0.010 above", True),
            (0.5, (0.5, 0.5, 0.1, 0.5, 0.5), (0.1,) * 5, "Not stable: .* 0.300 above", True),
            (0.1, (0.1,) * 5, (0.1,) * 5, "Stable: .* lies 0.100 below", False),
            (0.5, (0.5,) * 5, (0.1, 0.3, 0.3, 0.3, 0.3), "Stable: .* mildly blurred", True),
            (0.5, (0.5,) * 5, (0.1, 0.1, 0.1, 0.1, 0.3), "0.300 above the threshold.$", False),
        ],
    )
    def test_a_finished_run_has_a_conclusion(self, finished, fused, query, normal, says, bad):
        score = dataclasses.replace(finished.session.score, fused=fused)
        session = with_threshold(dataclasses.replace(finished.session, score=score), 0.2)
        curves = (self.curve("blur", query, normal),)
        run = dataclasses.replace(finished, session=session, curve=(), dropped=(), changed=curves)
        told, is_bad = stress_words.say_conclusion(run)
        assert re.search(says, told) and is_bad is bad
        assert ("ic-bad" in stress_sections.head_html(run)) is bad

    def test_the_curve_is_told_with_its_numbers(self):
        curve = [
            ShotsPoint(1, (0.4, 0.2), (None, None)),
            ShotsPoint(2, (0.31, 0.12), (0.2, 0.2)),
            ShotsPoint(3, (0.11, 0.1), (0.05, 0.05)),
            ShotsPoint(4, (0.1,), (0.05,)),
        ]
        assert stress_words.say_curve(curve, True) == (
            "With two normals the score varies between 0.120 and 0.310, depending on which they "
            "are; from three on it hardly moves (0.100 with all). With two normals, 1 of 2 draws "
            "comes to the verdict of all four; with three normals or more every draw does."
        )
        doubtful = [*curve[:2], ShotsPoint(3, (0.15, 0.1), (0.2, 0.05)), curve[3]]
        told = stress_words.say_curve(doubtful, True)
        assert "has not settled" in told and "even with three normals not every draw does" in told
        assert "whichever it is; more" in stress_words.say_curve(
            [ShotsPoint(1, (0.1, 0.1), (None, None)), ShotsPoint(2, (0.1,), (0.05,))], True
        )

    def test_dropped_normals_are_told_by_number(self):
        dropped = [
            DropOne(0, 0.31, 0.01, 0.2),
            DropOne(1, 0.26, -0.04, 0.35),
            DropOne(2, 0.3, 0.0, 0.2),
        ]
        assert stress_words.say_drop(dropped, 0.2, True) == (
            "Normal 2 carries most: without it the score is 0.260 instead of 0.300 (-0.040). "
            "Without normal 2 the threshold would be 0.350 instead of 0.200. The verdict "
            "turns when normal 2 is left out."
        )
        same = [DropOne(i, 0.3, 0.0, 0.2) for i in range(3)]
        assert stress_words.say_drop(same, 0.2, True) == (
            "No single normal carries the score: it stays the same whichever is left out. The "
            "verdict stays the same whichever is left out."
        )

    def test_contamination_is_told_with_what_it_does_to_the_line(self, finished):
        copy, mirrored = finished.contaminated
        told = stress_words.say_contamination(copy, mirrored, True)
        score, line = finished.session.score.fused, finished.threshold
        assert f"goes from {score:.3f} to 0.000" in told
        assert f"brings it to {mirrored.after.fused:.3f}." in told
        assert f"The threshold rises from {line:.3f} to" in told
        told = stress_words.say_contamination(
            dataclasses.replace(copy, replaced=15, threshold_after=0.0), mirrored, False
        )
        assert told.startswith("With one copy of this image as normal 16, its score")
        assert "threshold" not in told and "pass" not in told

    @pytest.mark.parametrize(
        ("lines", "says"),
        [
            ((1.0, 1.0), "Either way it would pass"),
            ((1.0, 0.0), "with the mirrored one not"),
            ((-1.0, 1.0), "With the mirrored copy it would pass"),
            ((-1.0, 0.0), "It still counts as anomalous"),
        ],
    )
    def test_who_passes_is_told_by_the_line_of_the_mixed_normals(self, finished, lines, says):
        contaminations = [
            dataclasses.replace(contaminated, threshold_after=line)
            for contaminated, line in zip(finished.contaminated, lines, strict=True)
        ]
        assert says in stress_words.say_contamination(*contaminations, True)


class TestMarkup:
    def test_every_section_is_well_formed_and_says_its_sentence(self, finished):
        for section in SECTIONS:
            check_nesting(section(finished))
        text = plain(stress_sections.curve_html(finished))
        assert stress_words.say_curve(finished.curve, finished.above) in text
        assert not re.search(r"\bnan\b|None", "".join(plain(s(finished)) for s in SECTIONS))

    def test_dots_and_band_lie_where_the_numbers_say(self):
        curve = [ShotsPoint(1, (0.05,), (None,)), ShotsPoint(2, (0.1,), (0.02,))]
        chart = stress_charts.curve_chart(curve, Yardstick((0.03, 0.06), 0.075))
        # The axis ends at 0.15; two steps have their middles at a quarter and three quarters.
        assert 'left:25.00%;top:66.67%" title="1 of 2 normals: 0.050"' in chart
        assert 'left:75.00%;top:33.33%" title="2 of 2 normals: 0.100"' in chart
        assert 'class="ic-plot-band" style="top:60.00%;height:20.00%"' in chart
        assert 'class="ic-plot-line" style="top:50.00%"' in chart
        assert 'points="25.00,66.67 75.00,33.33"' in chart

    def test_the_table_is_sorted_by_change_and_marks_turned_verdicts(self):
        dropped = [
            DropOne(0, 0.26, -0.04, 0.35),
            DropOne(1, 0.31, 0.01, 0.2),
            DropOne(2, 0.3, 0.0, None),
        ]
        table = stress_charts.drop_table(dropped, True, ["a", "b", "c"])
        assert re.findall(r"Normal (\d)", table) == ["2", "3", "1"]
        assert "left:0.0%;width:50.0%" in table and "left:50.0%;width:12.5%" in table
        assert table.count("turns: no alarm") == 1
        assert "<td>–</td><td>none</td>" in table

    def test_the_heatmaps_share_the_scale_of_the_normals(self, finished):
        markup = stress_sections.contamination_html(finished)
        high = finished.session.scales[0].high
        assert markup.count("<img") == 3 and f"{high:.3f} or more" in markup

    def test_what_a_visitor_types_is_escaped(self, detector):
        session = session_of(detector, 2, "<img src=x onerror=alert(1)>")
        assert "<img src=x" not in stress_sections.head_html(start_run(session, str(QUERY)))


class TestTab:
    def begin(self, tab: StressTab, query: str, session: Session | None = None) -> dict:
        gallery = [{"image": {"path": str(path)}} for path in NORMALS[:2]]
        return tab.begin(gallery, {"path": query}, "cookie", DEFAULT_MODEL, session)

    def test_each_step_shows_one_section_and_more_steps_do_nothing(self, tab):
        shown = self.begin(tab, str(QUERY))
        begun, run, written = shown[tab.begun], None, []
        assert shown[tab.notice] == "" and shown[tab.result].visible
        for _ in range(4):  # The other kinds of change are like the first.
            shown = tab.advance(begun, run)
            run = shown[tab.state]
            (place,) = [place for place in tab._parts if shown.get(place)]
            written.append(place)
        assert written == tab._parts
        done = dataclasses.replace(run, done=len(PARTS))
        for nothing in (tab.advance(begun, done), tab.advance(None, None), tab.advance(None, run)):
            assert nothing == {tab.state: gr.skip()}

    def test_a_part_of_an_earlier_run_that_ends_late_does_not_replace_the_last(self, tab):
        first = self.begin(tab, str(QUERY))[tab.begun]
        second = self.begin(tab, str(OTHER.queries[-1]))[tab.begun]
        late = tab.advance(first, None)[tab.state]
        shown = tab.advance(second, late)
        run = shown[tab.state]
        assert run.session is second.session and run.done == 1
        assert [bool(shown[place]) for place in tab._parts] == [True, False, False, False]

    def test_a_part_that_fails_gives_one_sentence_and_ends_the_run(self, tab, monkeypatch):
        begun = self.begin(tab, str(QUERY))[tab.begun]

        def refuse(*_: object) -> None:
            raise InctrlError("Too little memory.")

        monkeypatch.setattr(tab, "run", refuse)
        shown = tab.advance(begun, None)
        assert set(shown) == {tab.state, tab.notice} and "Too little memory." in shown[tab.notice]
        assert tab.advance(begun, shown[tab.state]) == {tab.state: gr.skip()}

    def test_the_visitor_s_bank_serves_and_the_session_stays(self, tab, detector):
        session = session_of(detector, 2, "cookie")
        run = self.begin(tab, str(OTHER.queries[-1]), session)[tab.begun]
        assert run.session.bank is session.bank and run.session is not session
        np.testing.assert_array_equal(
            session.score.patch_map, session_of(detector, 2).score.patch_map
        )

    def test_a_bad_file_gives_one_sentence_and_no_run(self, tab, tmp_path):
        broken = tmp_path / "broken.png"
        broken.write_bytes(bytes(50))
        shown = self.begin(tab, str(broken))
        assert shown[tab.begun] is None and "broken.png" in shown[tab.notice]
        assert 'role="alert"' in shown[tab.notice] and not shown[tab.result].visible

    def test_the_example_buttons_offer_a_bad_and_a_good_image(self):
        examples = load_examples()
        found = re.findall(r'data-set="([^"]+)" data-query="(\d+)"', examples_html(examples))
        queries = [examples[name].queries[int(index)] for name, index in found]
        assert [query.anomalous for query in queries] == [True, False]
        assert examples_html({}) == ""


def plain(markup: str) -> str:
    """The text of markup."""
    return re.sub(r"<[^>]+>", "", markup)


def check_nesting(markup: str) -> None:
    """Fails on an element that is not closed, or closed in the wrong order."""
    stack: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "img":
                stack.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert stack.pop() == tag

    Parser().feed(markup)
    assert stack == []
