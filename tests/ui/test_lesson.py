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
from inctrl_core.ui.common.examples import load_examples
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.learn.lesson import explain, patch_html, score_html, start_html
from inctrl_core.ui.learn.parts import Lesson, number, operand
from inctrl_core.ui.learn.score import score_step, score_told
from inctrl_core.ui.learn.tab import OWN, LearnHandlers, LearnTab
from tests.support.pictures import FIRST, OTHER
from tests.support.sessions import remeasured

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
    def handlers(self, golden_detector: Detector, monkeypatch: pytest.MonkeyPatch) -> LearnHandlers:
        monkeypatch.setattr(models, "fetch_files", lambda source, on_progress: None)
        monkeypatch.setattr(models, "load_detector", lambda *a, **k: golden_detector)
        return LearnHandlers(ModelRegistry({"golden": "golden"}, "cpu"), load_examples())

    def test_a_newcomer_gets_an_example(self, handlers: LearnHandlers) -> None:
        source, image, wanted = handlers.open(None, None, None, None, "golden")
        assert source.value == wanted[0] == handlers.first
        assert image.value == wanted[1] == handlers.examples[handlers.first].cover
        lesson, notice, row, column = handlers.begin(wanted, "golden", None)
        assert notice == "" and lesson.session.bank.object_name == FIRST.object_name
        assert lesson.session.score.patch_map[row - 1, column - 1] == lesson.session.score.patch_max
        mistake, start, chosen, choice, following, last = handlers.show(lesson, row, column)
        assert mistake == "" and choice.visible
        titles = ("What goes in", "grid of patches", "most similar patch", "One score")
        for title, part in zip(titles, (start, chosen, following, last), strict=True):
            assert title in part

    def test_opening_again_works_nothing_out_anew(
        self, handlers: LearnHandlers, own: Lesson
    ) -> None:
        kept = handlers.open(None, own, OTHER.name, (OTHER.name, 2, 5), "golden")
        assert kept[0].value == OTHER.name and kept[1:] == (gr.skip(), gr.skip())
        assert handlers.open(own.session, own, OWN, (OWN, 0, 1), "golden")[2] == gr.skip()

    def test_the_visitors_own_images_come_first(self, handlers: LearnHandlers, own: Lesson) -> None:
        source, image, wanted = handlers.open(own.session, None, None, None, "golden")
        assert source.choices[0][1] == source.value == OWN
        assert not image.visible and wanted == (OWN, 0, 0)
        lesson, notice, _, _ = handlers.begin(wanted, "golden", own.session)
        assert notice == "" and lesson.session is own.session

    def test_the_result_of_inspect_is_followed_at_a_click(
        self, handlers: LearnHandlers, own: Lesson
    ) -> None:
        tabs, source = handlers.follow_own(own.session)
        assert tabs.selected == LearnTab.id and source.value == OWN
        wanted = handlers.open(own.session, own, source.value, (OTHER.name, 2, 5), "golden")[2]
        assert wanted == (OWN, 0, 6)
        assert handlers.follow_own(None)[1].value is None

    def test_another_result_in_inspect_is_taken_up(
        self, handlers: LearnHandlers, own: Lesson
    ) -> None:
        newer = dataclasses.replace(own.session)
        assert handlers.open(newer, own, OWN, (OWN, 0, 3), "golden")[2] == (OWN, 0, 4)

    def test_another_model_works_the_same_image_out_anew(
        self, handlers: LearnHandlers, own: Lesson
    ) -> None:
        wanted = handlers.open(None, own, OTHER.name, (OTHER.name, 2, 5), "other")[2]
        assert wanted == (OTHER.name, 2, 6)

    def test_a_session_that_is_gone(self, handlers: LearnHandlers, own: Lesson) -> None:
        assert handlers.open(None, own, OWN, (OWN, 0, 0), "golden")[0].value == handlers.first
        lesson, notice, _, _ = handlers.begin((OWN, 0, 0), "golden", None)
        assert lesson is None and "Score an image in Inspect first" in notice

    @pytest.mark.parametrize("wanted", [("nothing", 0, 0), (OTHER.name, 99, 0)])
    def test_an_example_that_is_not_there(self, handlers: LearnHandlers, wanted: tuple) -> None:
        lesson, notice, *_ = handlers.begin(wanted, "golden", None)
        assert lesson is None and "does not exist" in notice
        assert handlers.show(lesson, 1, 1)[1] == ""
        assert handlers.follow(lesson, 1, 1) == (gr.skip(),) * 4

    def test_a_wrong_row_keeps_what_is_shown(self, handlers: LearnHandlers, own: Lesson) -> None:
        mistake, *kept = handlers.follow(own, 16, 1)
        assert "between 1 and 15" in mistake and kept == [gr.skip()] * 3

    def test_only_what_a_patch_changes_is_drawn_anew(
        self, handlers: LearnHandlers, own: Lesson, lesson_of: Callable[[str], Lesson]
    ) -> None:
        first, second = (handlers.follow(own, 8, column) for column in (4, 5))
        assert first[0] == second[0] == ""
        assert all(one != other for one, other in zip(first[1:], second[1:], strict=True))
        assert handlers.follow(lesson_of("training-free"), 8, 4)[3] == gr.skip()

    @pytest.mark.parametrize("data", [{}, {"row": "x", "column": 1}, {"row": None, "column": 2}])
    def test_a_click_that_is_none(self, handlers: LearnHandlers, data: dict) -> None:
        assert handlers.pick(gr.EventData(None, data)) == (gr.skip(), gr.skip())
        assert handlers.pick(gr.EventData(None, {"row": 3, "column": 4})) == (3, 4)
