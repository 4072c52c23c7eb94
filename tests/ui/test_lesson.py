"""The lesson: every sum on it comes out, every number is the score's, for every form of fusion."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import pickle
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import gradio as gr
import pytest

from inctrl_core import Detector, InctrlError
from inctrl_core.analysis.inspection import start_session
from inctrl_core.ui.common import models
from inctrl_core.ui.common.charts import signal_words
from inctrl_core.ui.common.examples import first_example
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.learn.lesson import explain, patch_html, score_html, start_html
from inctrl_core.ui.learn.parts import Lesson, number, operand
from inctrl_core.ui.learn.score import score_step, score_told
from inctrl_core.ui.learn.tab import OWN, LearnTab
from tests.support.pictures import FIRST, OTHER
from tests.support.sessions import remeasured, tab_of

GOLDEN = Path(__file__).parents[1] / "golden"
NORMALS = tuple(str(GOLDEN / f"prompt_{i}.png") for i in range(3))
QUERY = str(GOLDEN / "query_1.png")
SUM = re.compile(r'class="ic-sum"><span>([^<]*)</span><b><i>(.*?)</i> = <strong>([^<]*)</strong>')
STEP = re.compile(
    r'<h3 id="ic-step-(\d)"><span>\1</span> (.*?)(?:<span class="ic-badge">(.*?)</span>)?</h3>'
)
SYMBOLS = {"−": "-", "·": "*", "×": "*", "÷": "/", "½": "0.5", "<sup>": "**(", "</sup>": ")"}


def make_lesson(detector: Detector, shots: int) -> Lesson:
    session = start_session(detector, "golden", (NORMALS[:shots], QUERY), "brick")
    return Lesson(session, explain(detector, session))


def page(lesson: Lesson, row: int = 8, column: int = 4) -> str:
    middle = patch_html(lesson, row, column)
    return start_html(lesson) + "".join(middle) + score_html(lesson, row, column)


def sums(markup: str) -> dict[str, tuple[str, str]]:
    return {label: (expression, result) for label, expression, result in SUM.findall(markup)}


def work_out(expression: str) -> float:
    for symbol, meaning in SYMBOLS.items():
        expression = expression.replace(symbol, meaning)
    assert re.fullmatch(r"[-+*/(). e\d]*", expression), expression
    return eval(expression, {"__builtins__": {}, "e": math.e})  # noqa: S307, digits and signs only.


@pytest.fixture(scope="module")
def lesson_of(golden_detector: Detector, gated_detector: Detector) -> Callable[[str, int], Lesson]:
    """The lesson of a form of fusion with so many normals; made once."""
    detectors = {
        "reference": golden_detector,
        "training-free": golden_detector.training_free(),
        "gated": gated_detector,
    }
    return functools.cache(lambda form, shots=3: make_lesson(detectors[form], shots))


@pytest.fixture(
    params=[(form, shots) for form in ("reference", "training-free", "gated") for shots in (1, 3)],
    ids=lambda pair: f"{pair[0]}-{pair[1]}",
)
def lesson(request: pytest.FixtureRequest, lesson_of: Callable[[str, int], Lesson]) -> Lesson:
    return lesson_of(*request.param)


@pytest.fixture
def own(lesson_of: Callable[[str], Lesson]) -> Lesson:
    return lesson_of("reference")


@pytest.mark.parametrize("place", [(1, 1), (8, 4), (15, 15)])
def test_every_sum_comes_out(lesson: Lesson, place: tuple[int, int]) -> None:
    found = SUM.findall(page(lesson, *place))
    assert len(found) >= 11
    for label, expression, result in found:
        digits = len(result.partition(".")[2])
        value = work_out(expression)
        # Half of the last digit, and what rounding the inputs may add.
        assert value == pytest.approx(float(result.replace("−", "-")), abs=0.56 * 10**-digits), (
            label
        )


def test_the_numbers_are_those_of_the_score(lesson: Lesson) -> None:
    score, found = lesson.session.score, sums(page(lesson))
    for layer, name in enumerate(("Shallow", "Middle", "Deep")):
        assert found[name][1] == number(float(score.layer_maps[layer, 7, 3]))
    assert found["This patch"][1] in (
        number(float(score.patch_map[7, 3])),
        number(float(score.patch_map[7, 3]) + score.image_residual + score.text_anomaly),
    )
    relative = "Relative text" if "Relative text" in found else "Text signal"
    assert found[relative][1] == number(score.text_anomaly)
    holistic = r"<span>Holistic</span><b>.*?<strong>([\d.]+)</strong>"
    assert re.search(holistic, page(lesson)).group(1) == number(score.holistic)
    assert found["Score"][1] == number(score.fused)
    shots = lesson.session.bank.shots
    assert found["Comparisons at each layer"] == (f"{shots} × 225", str(225 * shots))


def test_seven_steps_each_with_pictures_a_formula_and_what_to_look_for(lesson: Lesson) -> None:
    markup = page(lesson)
    assert [index for index, *_ in STEP.findall(markup)] == list("1234567")
    for step in markup.split("<section")[1:-1]:
        assert step.count('class="ic-lead"') == step.count("What to look for.") == 1
        assert "ic-formula" in step
        assert "<img" in step or "ic-text" in step or 'id="ic-step-7"' in step
    assert "What is not seen" in markup.split("<section")[-1]


def test_what_counts_is_said_for_every_form(lesson_of: Callable[[str], Lesson]) -> None:
    def badges(form: str) -> list[bool]:
        steps = STEP.findall(page(lesson_of(form)))
        return [badge.startswith("counts") for _, _, badge in steps if badge]

    assert badges("reference") == [True, True]
    # The default weights: text alone.
    assert badges("training-free") == [False, True]
    assert badges("gated") == [True, True]


def test_step_seven_is_that_of_the_form(lesson_of: Callable[[str], Lesson]) -> None:
    reference = page(lesson_of("reference"))
    assert "M⁺: " in reference and "225 → 128 → 64 → 1" in reference
    bare = page(lesson_of("training-free"))
    assert "no trained heads" in bare and "M⁺: " not in bare
    assert "holistic = 1 · text signal" in bare
    gated = page(lesson_of("gated"))
    assert gated.count('<th scope="row">') == len(lesson_of("gated").account.breakdown.shares) == 7


def test_step_seven_says_first_what_the_score_is(lesson: Lesson) -> None:
    step = page(lesson).split('id="ic-step-7"')[1]
    lead = re.search(r'<p class="ic-lead">(.*?)</p>', step, re.DOTALL).group(1)
    assert step.index(lead) < step.index("ic-formula")
    assert lead.startswith("The score of this model is")
    assert f"<strong>{number(lesson.session.score.fused)}</strong>" in lead


def test_the_score_that_is_told_follows_the_weights(lesson_of: Callable[[str], Lesson]) -> None:
    bare = lesson_of("training-free")
    (term,) = bare.account.terms

    def told(*signals: str) -> str:
        terms = tuple(dataclasses.replace(term, signal=name, weight=0.5) for name in signals)
        account = dataclasses.replace(bare.account, terms=terms)
        return score_told(Lesson(bare.session, account))

    largest, words, whole = "largest difference", "words say", "image as a whole"
    assert words in told("text") and whole not in told("text")
    assert words not in told("patch_max") and "two numbers" not in told("patch_max")
    assert all(part in told("image", "text") for part in (largest, words, whole))
    gated = lesson_of("gated")
    most = max(gated.account.breakdown.shares, key=lambda share: share.share)
    assert "7 signals" in score_told(gated) and signal_words(most) in score_told(gated)


def test_details_fold_away(lesson_of: Callable[[str], Lesson]) -> None:
    for form, steps in (("reference", "125"), ("training-free", "12"), ("gated", "12567")):
        parts = page(lesson_of(form)).split('id="ic-step-')[1:]
        folding = {part[0] for part in parts if "<details" in part}
        # The picture of the golden cases is cut, not squeezed: nothing to fold in the first step.
        assert folding == set(steps) - {"1"}


def test_pictures_have_texts_and_tags_close(lesson: Lesson) -> None:
    class Checker(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: list) -> None:
            if tag == "img":
                assert dict(attrs)["alt"]
            if tag in ("div", "p", "figure", "section", "ul", "table"):
                assert "p" not in self.open, f"{tag} inside a paragraph"
            if tag not in ("img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(page(lesson))
    assert not checker.open


def test_the_code_that_is_named_exists(lesson: Lesson) -> None:
    named = set(re.findall(r"<code>(.*?)</code>", page(lesson)))
    assert len(named) >= 7
    for name in named:
        module, *attributes = name.split(".")
        found = importlib.import_module(f"inctrl_core.{module}")
        for attribute in attributes:
            found = getattr(found, attribute)


def test_the_marked_patch_is_the_nearest(own: Lesson) -> None:
    markup = patch_html(own, 8, 4)[1]
    rows = markup.split('class="ic-layer"')[1:]
    for layer, row in enumerate(rows):
        normal, *place = own.session.score.nearest[layer, 7, 3]
        tiles = row.split("<figure")[1:]
        marked = [i for i, tile in enumerate(tiles) if "ic-mark" in tile]
        assert marked[:1] == [normal]
        top, left = re.search(r"top:([\d.]+)%;left:([\d.]+)%", tiles[normal]).groups()
        assert [round(float(edge) / 100 * 15) for edge in (top, left)] == place


def test_what_a_visitor_typed_is_text(own: Lesson) -> None:
    bank = dataclasses.replace(own.session.bank, object_name="<b>nut</b>")
    markup = page(Lesson(remeasured(own.session, bank=bank), own.account))
    assert "<b>nut" not in markup and "&lt;b&gt;nut" in markup


def test_natural_things_are_not_damaged_but_absent(own: Lesson) -> None:
    session = own.session
    bank = dataclasses.replace(session.bank, object_name="bird")
    assert "damaged one" in page(own)
    shown = page(Lesson(remeasured(session, bank=bank), own.account))
    assert "for one without" in shown and "damaged one" not in shown


@pytest.mark.parametrize("place", [(0, 1), (1, 16), (None, 1)])
def test_a_patch_outside_is_refused(own: Lesson, place: tuple) -> None:
    with pytest.raises(InctrlError, match="between 1 and 15"):
        patch_html(own, *place)
    with pytest.raises(InctrlError, match="between 1 and 15"):
        score_html(own, *place)


def test_accounts_cross_processes(lesson: Lesson) -> None:
    again = pickle.loads(pickle.dumps(lesson.account))
    assert score_step(Lesson(lesson.session, again), (7, 3)) == score_step(lesson, (7, 3))


def test_numbers_are_written_plainly() -> None:
    assert [number(-0.0001), number(-1.5, 1), number(0.12345)] == ["0.000", "−1.5", "0.123"]
    assert [operand(0.5), operand(-0.25)] == ["0.50000", "(−0.25000)"]


class TestHandlers:
    @pytest.fixture
    def tab(self, golden_detector: Detector, monkeypatch: pytest.MonkeyPatch) -> LearnTab:
        monkeypatch.setattr(models, "fetch_files", lambda source, on_progress: None)
        monkeypatch.setattr(models, "load_detector", lambda *a, **k: golden_detector)
        return tab_of(ModelRegistry({"golden": "golden"}, "cpu"), LearnTab)

    def test_a_newcomer_gets_an_example(self, tab: LearnTab) -> None:
        opened = tab.open(None, None, None, None, "golden")
        first, wanted = first_example(tab.examples), opened[tab.wanted]
        assert opened[tab.source].value == wanted[0] == first.name
        assert opened[tab.image].value == wanted[1] == first.cover
        begun = tab.begin(wanted, "golden", None)
        lesson, row, column = (begun[part] for part in (tab.lesson, tab.row, tab.column))
        assert begun[tab.notice] == "" and lesson.session.bank.object_name == FIRST.object_name
        assert lesson.session.score.patch_map[row - 1, column - 1] == lesson.session.score.patch_max
        shown = tab.show(lesson, row, column)
        assert shown[tab.mistake] == "" and shown[tab.choice].visible
        titles = ("What goes in", "grid of patches", "most similar patch", "One score")
        parts = (tab.start, tab.chosen, tab.following, tab.last)
        for title, part in zip(titles, parts, strict=True):
            assert title in shown[part]

    def test_opening_again_works_nothing_out_anew(self, tab: LearnTab, own: Lesson) -> None:
        kept = tab.open(None, own, OTHER.name, (OTHER.name, 2, 5), "golden")
        assert kept[tab.source].value == OTHER.name and len(kept) == 1
        assert tab.wanted not in tab.open(own.session, own, OWN, (OWN, 0, 1), "golden")

    def test_the_visitors_own_images_come_first(self, tab: LearnTab, own: Lesson) -> None:
        opened = tab.open(own.session, None, None, None, "golden")
        source = opened[tab.source]
        assert source.choices[0][1] == source.value == OWN
        assert not opened[tab.image].visible and opened[tab.wanted] == (OWN, 0, 0)
        begun = tab.begin(opened[tab.wanted], "golden", own.session)
        assert begun[tab.notice] == "" and begun[tab.lesson].session is own.session

    def test_the_result_of_inspect_is_followed_at_a_click(self, tab: LearnTab, own: Lesson) -> None:
        followed = tab.follow_own(own.session)
        source = followed[tab.source].value
        assert followed[tab.shared.tabs].selected == LearnTab.id and source == OWN
        opened = tab.open(own.session, own, source, (OTHER.name, 2, 5), "golden")
        assert opened[tab.wanted] == (OWN, 0, 6)
        assert tab.follow_own(None)[tab.source].value is None

    def test_another_result_in_inspect_is_taken_up(self, tab: LearnTab, own: Lesson) -> None:
        newer = dataclasses.replace(own.session)
        opened = tab.open(newer, own, OWN, (OWN, 0, 3), "golden")
        assert opened[tab.wanted] == (OWN, 0, 4)

    def test_another_model_works_the_same_image_out_anew(self, tab: LearnTab, own: Lesson) -> None:
        opened = tab.open(None, own, OTHER.name, (OTHER.name, 2, 5), "other")
        assert opened[tab.wanted] == (OTHER.name, 2, 6)

    def test_a_session_that_is_gone(self, tab: LearnTab, own: Lesson) -> None:
        opened = tab.open(None, own, OWN, (OWN, 0, 0), "golden")
        assert opened[tab.source].value == first_example(tab.examples).name
        begun = tab.begin((OWN, 0, 0), "golden", None)
        assert begun[tab.lesson] is None
        assert "Score an image in Inspect first" in begun[tab.notice]

    @pytest.mark.parametrize("wanted", [("nothing", 0, 0), (OTHER.name, 99, 0)])
    def test_an_example_that_is_not_there(self, tab: LearnTab, wanted: tuple) -> None:
        begun = tab.begin(wanted, "golden", None)
        assert begun[tab.lesson] is None and "does not exist" in begun[tab.notice]
        assert tab.show(None, 1, 1)[tab.start] == ""
        assert tab.follow_patch(None, 1, 1) == {tab.mistake: gr.skip()}

    def test_a_wrong_row_keeps_what_is_shown(self, tab: LearnTab, own: Lesson) -> None:
        followed = tab.follow_patch(own, 16, 1)
        assert "between 1 and 15" in followed.pop(tab.mistake) and not followed

    def test_only_what_a_patch_changes_is_drawn_anew(
        self, tab: LearnTab, own: Lesson, lesson_of: Callable[[str], Lesson]
    ) -> None:
        first, second = (tab.follow_patch(own, 8, column) for column in (4, 5))
        assert first.pop(tab.mistake) == second.pop(tab.mistake) == ""
        assert set(first) == {tab.chosen, tab.following, tab.last}
        assert all(first[part] != second[part] for part in first)
        assert tab.last not in tab.follow_patch(lesson_of("training-free"), 8, 4)

    @pytest.mark.parametrize("data", [{}, {"row": "x", "column": 1}, {"row": None, "column": 2}])
    def test_a_click_that_is_none(self, tab: LearnTab, own: Lesson, data: dict) -> None:
        assert tab.pick(own, gr.EventData(None, data)) == {tab.mistake: gr.skip()}
        picked = tab.pick(own, gr.EventData(None, {"row": 3, "column": 4}))
        assert (picked[tab.row], picked[tab.column]) == (3, 4)
        assert picked[tab.chosen] == patch_html(own, 3, 4)[0]
