"""The gallery of failures: every case comes out as it says, measured with the shipped model."""

from __future__ import annotations

import dataclasses
import json
import re
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from inctrl_core import Detector
from inctrl_core.analysis.changes import with_threshold
from inctrl_core.analysis.decision import LITTLE
from inctrl_core.analysis.inspection import start_session
from inctrl_core.analysis.measured_bank import build_measured_bank
from inctrl_core.analysis.session import Session
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.errors import InctrlError
from inctrl_core.images.files import open_image
from inctrl_core.images.preprocessing import patch_box
from inctrl_core.ui.common.examples import EXAMPLES, load_examples
from inctrl_core.ui.common.heatmap import strongest_patch
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.failures import views as case_views
from inctrl_core.ui.failures.cases import (
    ALARM,
    CASES_FILE,
    MISSED,
    REASONS,
    RIGHT,
    WORKS,
    Case,
    find_case,
    load_cases,
    outcome,
    read_mask,
)
from inctrl_core.ui.failures.handlers import Played
from inctrl_core.ui.failures.magnifier import cause_mask, magnify
from inctrl_core.ui.failures.tab import FailuresTab
from tests.support.sessions import tab_of

CASES = load_cases()
REMEDIED = [name for name, case in CASES.items() if case.remedy]
# One case of each kind, by what the tests need of it.
MISS, FALSE_ALARM, NO_REMEDY = "bakery", "light-plate", "blood"
# Nothing before the guess may say it.
GIVEAWAYS = re.compile(
    "anomal|defect|damag|wrong|fault|fail|miss|alarm|normal image|scratch|crack|cut|slice|speck|"
    "broken|apart|cool|bright|paint|line|dots|fibre|tomato|white cell|blue|eye|half|worn|dirt"
)

each_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def play(detector: Detector) -> Callable[..., Session]:
    """Runs a case once for all tests."""
    played: dict[tuple, Session] = {}

    def run(name: str, normals: Sequence[Path] | None = None, query: Path | None = None) -> Session:
        case = CASES[name]
        files = tuple(str(path) for path in normals or case.normals), str(query or case.query)
        if (name, files) not in played:
            played[name, files] = start_session(detector, DEFAULT_MODEL, files, case.object_name)
        return played[name, files]

    return run


def strongest_box(session: Session) -> tuple[int, int, int, int]:
    """The strongest patch, in pixels of the query."""
    row, column = strongest_patch(session)
    box = patch_box(session.encoded.crop_boxes[0], 15, row - 1, column - 1)
    return tuple(round(edge) for edge in box)


def strongest_in_cause(session: Session, case: Case) -> bool:
    left, top, right, bottom = strongest_box(session)
    return bool(cause_mask(case)[top:bottom, left:right].any())


def judge(detector: Detector, case: Case, images: Sequence[object], query: object) -> tuple:
    """Score of a query against changed normals, and their threshold."""
    measured = build_measured_bank(detector, images, case.object_name)
    return detector.score([query], measured.bank)[0].fused, measured.threshold


def mean_colour(path: Path) -> np.ndarray:
    return np.asarray(open_image(path), dtype=float).mean(axis=(0, 1))


class TestMeasured:
    @each_case
    def test_a_case_comes_out_as_it_is_explained(self, play, name):
        case, session = CASES[name], play(name)
        above = session.score.fused > session.threshold
        if case.why == WORKS:
            assert above == case.anomalous
        else:
            assert above != case.anomalous
        assert outcome(case.anomalous, session) == case.expected
        assert session.grade != LITTLE

    @pytest.mark.parametrize("name", REMEDIED)
    def test_the_advice_helps_and_its_control_is_still_told_apart(self, play, name):
        case, remedy = CASES[name], CASES[name].remedy
        helped = play(name, remedy.normals, remedy.query)
        assert outcome(case.anomalous, helped) == RIGHT
        if remedy.control is not None:
            control = play(name, remedy.normals, remedy.control)
            assert outcome(not case.anomalous, control) == RIGHT

    @pytest.mark.parametrize("name", ["white-paper", "road"])
    def test_the_strongest_patch_lies_on_the_cause(self, play, name):
        assert strongest_in_cause(play(name), CASES[name])

    @pytest.mark.parametrize("name", ["toy-figure", "grey-paper", "brown-paper"])
    def test_what_is_missed_differs_no_more_than_the_normals_do(self, play, name):
        session = play(name)
        left, top, right, bottom = np.array(session.encoded.crop_boxes[0])
        mask = Image.fromarray(cause_mask(CASES[name]).astype(np.uint8) * 255)
        mask = mask.crop((left, top, right, bottom))
        there = np.asarray(mask.resize((15, 15), Image.Resampling.BOX)) > 0
        assert there.any()
        assert session.score.patch_map[there].max() <= session.measured.scale.normal_high

    @pytest.mark.parametrize("name", ["white-paper", "grey-paper"])
    def test_what_is_small_is_smaller_than_a_patch(self, play, name):
        case = CASES[name]
        left, top, right, bottom = patch_box(play(name).encoded.crop_boxes[0], 15, 0, 0)
        rows, columns = np.nonzero(read_mask(case.mask))
        if case.cause:  # One of several.
            inside = (columns >= case.cause[0]) & (columns < case.cause[2])
            inside &= (rows >= case.cause[1]) & (rows < case.cause[3])
            rows, columns = rows[inside], columns[inside]
        assert np.ptp(columns) + 1 < right - left and np.ptp(rows) + 1 < bottom - top

    def test_the_broken_normal_lies_far_from_the_whole_ones_and_raises_the_threshold(self, play):
        case, session = CASES["bakery"], play("bakery")
        (odd,) = set(case.normals) - set(case.remedy.normals)
        place = case.normals.index(odd)
        scores = list(session.ranges.fused)
        assert scores.pop(place) > 1.5 * max(scores)
        assert play("bakery", case.remedy.normals).threshold < session.threshold

    def test_the_light_is_another_colour_in_the_one_case_and_brighter_in_the_other(self):
        cool, warm = CASES["board-screw"], CASES["workbench"]
        assert cool.normals == warm.normals
        normals = np.array([mean_colour(path) for path in cool.normals])
        bluest = (normals[:, 2] / normals[:, 0]).max()
        (red, _, blue), brighter = mean_colour(cool.query), mean_colour(warm.query)
        assert blue / red > 1.5 * bluest
        assert brighter.mean() > 1.4 * normals.mean(axis=1).max()
        assert brighter[2] / brighter[0] < 1.3 * bluest

    def test_in_the_colours_of_the_normals_the_screw_is_nearly_passed(self, play, detector):
        case, session = CASES["board-screw"], play("board-screw")
        values = [np.asarray(open_image(path), dtype=float).reshape(-1, 3) for path in case.normals]
        known, query = np.concatenate(values), np.asarray(open_image(case.query), dtype=float)
        pixels = (query - query.mean(axis=(0, 1))) / query.std(axis=(0, 1))
        matched = (pixels * known.std(axis=0) + known.mean(axis=0)).clip(0, 255).astype(np.uint8)
        fused, threshold = judge(detector, case, case.normals, Image.fromarray(matched))
        assert fused - threshold < (session.score.fused - session.threshold) / 3

    def test_without_the_line_the_road_is_passed(self, detector):
        case = CASES["road"]
        left, _, _, bottom = case.cause
        image = open_image(case.query).crop((0, bottom, left, bottom + 160))
        fused, threshold = judge(detector, case, case.normals, image)
        assert fused < 0.5 * threshold

    def test_the_dots_of_the_plate_lie_between_those_of_the_normals(self):
        def covered(path: Path) -> float:
            return (np.asarray(open_image(path).convert("L")) > 127).mean()

        case = CASES["light-plate"]
        normals, own = sorted(map(covered, case.normals)), covered(case.query)
        assert 1.3 * normals[1] < own < normals[2] / 1.3
        (added,) = set(case.remedy.normals) - set(case.normals)
        assert covered(added) == pytest.approx(own, rel=0.3)

    def test_close_ups_of_avocados_differ_less_from_each_other(self, play):
        case = CASES["shop-shelf"]
        near = play("shop-shelf", case.remedy.normals, case.remedy.query)
        assert near.threshold < play("shop-shelf").threshold - 0.04

    def test_the_cell_is_passed_in_grey_as_well(self, detector):
        case = CASES["blood"]

        def grey(path: Path) -> Image.Image:
            return open_image(path).convert("L").convert("RGB")

        fused, threshold = judge(detector, case, list(map(grey, case.normals)), grey(case.query))
        assert fused <= threshold

    def test_by_its_blue_the_cell_stands_out(self):
        def blue(path: Path) -> float:
            red, _, blue_ = np.moveaxis(np.asarray(open_image(path), dtype=int), -1, 0)
            return (blue_ - red >= 40).mean()

        case = CASES["blood"]
        assert blue(case.query) == pytest.approx(0.14, abs=0.005)
        assert max(map(blue, case.normals)) < 0.001


FAILING_SETS = {name: e for name, e in load_examples().items() if e.fails}


@pytest.mark.parametrize("name", FAILING_SETS)
def test_a_set_where_the_model_fails_opens_on_a_failure(detector, name):
    example = FAILING_SETS[name]
    measured = build_measured_bank(detector, example.normals, example.object_name)
    query = example.queries[example.cover]
    (score,) = detector.score([query.path], measured.bank)
    assert (score.fused > measured.threshold) != query.anomalous


def test_some_set_shows_where_the_model_fails():
    assert FAILING_SETS


class TestTexts:
    def test_every_kind_of_failure_is_shown(self):
        reasons = [case.why for case in CASES.values()]
        assert set(reasons) == set(REASONS) and len(reasons) == 12
        assert reasons.count(WORKS) == 2
        assert {case.expected for case in CASES.values()} == {RIGHT, MISSED, ALARM}

    @each_case
    def test_nothing_seen_before_the_guess_tells(self, name):
        case = CASES[name]
        for text in (case.id, case.title, case.before):
            assert not GIVEAWAYS.search(text.lower()), text
        shown = case_views.asked_html(case, 1) + case_views.query_html(case)
        assert case.after not in shown and str(case.query.name) not in shown

    @each_case
    def test_a_case_is_complete(self, name):
        case = CASES[name]
        assert re.fullmatch("[a-z]+(-[a-z]+)*", case.id)
        for text in (case.before, case.after, case.advice, case.made or "."):
            assert text.endswith(".")
        assert 4 <= len(case.normals) <= 8 and case.query not in case.normals
        if case.mask is not None:
            assert case.anomalous
            with Image.open(case.query) as image:
                assert read_mask(case.mask).shape == (image.height, image.width)
        assert case.remedy or case.why in (WORKS, "colour")

    @each_case
    def test_the_terms_of_the_images_are_told(self, play, name):
        case, origin = CASES[name], CASES[name].origin
        assert re.fullmatch("https://github.com/[^/]+/[^/]+/tree/[0-9a-f]{40}", origin.url)
        assert origin.author and origin.changes.endswith(".")
        assert origin.licence in ("Apache-2.0", "MIT", "CC BY 4.0", "CC BY-SA 4.0")
        assert ("BY-SA" in origin.licence) == ("BY-SA" in origin.changes)
        told = case_views.answer_html(case, play(name), RIGHT)
        assert f'href="{origin.url}"' in told and f'href="{origin.licence_url}"' in told
        used = (*case.normals, case.query, *(case.remedy.normals if case.remedy else ()))
        assert len({path.parent for path in used}) == 1  # One source, one licence.

    def test_the_texts_of_the_licences_lie_beside_the_images(self):
        entries = json.loads((EXAMPLES / CASES_FILE).read_text(encoding="utf-8"))["sources"]
        for name, entry in entries.items():
            text = entry["licence"]["text"]
            assert (text is None) == entry["licence"]["name"].startswith("CC")
            if text is not None:
                assert (EXAMPLES / text).stat().st_size > 1000
            assert f"{name}/" in (EXAMPLES / "cases/LICENSES.txt").read_text(encoding="utf-8")

    def test_the_folder_holds_only_what_a_case_uses(self):
        folder = EXAMPLES / "cases"
        used = {EXAMPLES / CASES_FILE, folder / "LICENSES.txt"}
        for case in CASES.values():
            used |= {*case.normals, case.query, case.mask}
            if case.remedy:
                used |= {*case.remedy.normals, case.remedy.query, case.remedy.control}
        found = {path for path in folder.rglob("*") if path.is_file()}
        assert found == used - {None}
        assert sum(path.stat().st_size for path in found) < 1_000_000


class TestMagnifier:
    @pytest.mark.parametrize(
        ("name", "magnified"),
        [
            ("white-paper", True),
            ("toy-figure", True),
            ("grey-paper", True),
            ("road", True),
            ("brown-paper", False),
            ("light-plate", False),
        ],
    )
    def test_only_a_small_cause_is_magnified(self, play, name, magnified):
        markup = case_views.revealed_html(CASES[name], play(name))
        assert ("ic-magnified" in markup) == magnified

    @pytest.mark.parametrize(
        ("size", "box"),
        [
            ((200, 100), (0, 0, 10, 8)),
            ((200, 100), (195, 98, 200, 100)),
            ((200, 100), (90, 40, 96, 60)),
            ((12, 9), (3, 3, 5, 5)),
        ],
    )
    def test_the_part_lies_inside_and_holds_the_cause(self, size, box):
        image = Image.new("RGB", size)
        image.paste((255, 0, 0), box)
        part, side = magnify(image, box)
        assert part.size[0] == part.size[1] and side <= min(size)
        red = (np.asarray(part)[..., 0] > 127).mean() * side**2
        area = (box[2] - box[0]) * (box[3] - box[1])
        assert red == pytest.approx(area, rel=0.25)


class TestReading:
    def write(self, folder: Path, **changes: object) -> None:
        data = json.loads((EXAMPLES / CASES_FILE).read_text(encoding="utf-8"))
        entry = {**data["cases"][0], "normals": ["a.jpg"], "query": "a.jpg", "remedy": None}
        entry |= changes
        (folder / "cases").mkdir()
        (folder / "a.jpg").touch()
        kept = {key: value for key, value in entry.items() if value != "left out"}
        (folder / CASES_FILE).write_text(json.dumps({**data, "cases": [kept]}))

    def test_a_file_that_is_not_there_is_named(self, tmp_path):
        self.write(tmp_path, query="none.jpg")
        with pytest.raises(ValueError, match=r"none\.jpg is missing"):
            load_cases(tmp_path)

    def test_a_field_that_is_not_there_is_named(self, tmp_path):
        self.write(tmp_path, advice="left out")
        with pytest.raises(ValueError, match="lacks the field 'advice'"):
            load_cases(tmp_path)

    def test_an_unknown_reason_is_refused(self, tmp_path):
        self.write(tmp_path, why="luck")
        with pytest.raises(ValueError, match="unknown reason luck"):
            load_cases(tmp_path)

    @pytest.mark.parametrize("name", ["", "<b>no</b>", None, 3, ["bakery"]])
    def test_an_unknown_name_gives_one_sentence(self, name):
        with pytest.raises(InctrlError, match="no case of that name"):
            find_case(CASES, name)


@pytest.mark.parametrize(
    ("fused", "anomalous", "expected"),
    [(0.3, True, RIGHT), (0.2, True, MISSED), (0.3, False, ALARM), (0.2, False, RIGHT)],
)
def test_above_the_threshold_is_what_counts(play, fused, anomalous, expected):
    session = play(MISS)
    score = dataclasses.replace(session.score, fused=fused)
    assert (
        outcome(anomalous, with_threshold(dataclasses.replace(session, score=score), 0.2))
        == expected
    )


class TestMarkup:
    def test_cards_mark_the_open_case_and_the_guesses(self):
        thumbnails = dict.fromkeys(CASES, "data:image/jpeg;base64,AA==")
        first, second, *_ = CASES
        markup = case_views.cards_html(CASES, thumbnails, second, {first: True, second: False})
        assert markup.count("<button") == len(CASES)
        assert re.search(f'data-case="{second}" aria-pressed="true"', markup)
        assert markup.count('aria-pressed="true"') == 1
        assert markup.count("Your guess: right") == markup.count("Your guess: wrong") == 1
        assert f"You guessed 1 of 2 right; {len(CASES) - 2} to go" in markup
        assert "You guessed" not in case_views.cards_html(CASES, thumbnails, first, {})

    def test_the_answer_tells_guess_score_truth_reason_and_advice(self, play):
        case, session = CASES[MISS], play(MISS)
        markup = case_views.answer_html(case, session, MISSED)
        assert "Your guess was right" in markup and "The model misses it" in markup
        assert "<strong>anomalous</strong>" in markup
        assert f"{session.score.fused:.3f}" in markup and "below the threshold" in markup
        assert "A bad normal among the good ones" in markup and "Take it out." in markup
        assert "Not what you guessed" in case_views.answer_html(case, session, RIGHT)

    def test_another_model_may_end_otherwise_and_that_is_said(self, play):
        session = play(MISS, CASES[MISS].remedy.normals)
        markup = case_views.answer_html(CASES[MISS], session, RIGHT)
        assert "The model gets it right" in markup and "comes out otherwise" in markup

    def test_the_picture_shows_an_outline_only_where_one_is_known(self, play):
        with_mask = case_views.revealed_html(CASES[MISS], play(MISS))
        without = case_views.revealed_html(CASES[FALSE_ALARM], play(FALSE_ALARM))
        assert "what is truly wrong" in with_mask and "what is truly wrong" not in without
        assert "never seen" not in with_mask
        session = play(MISS)
        cut = dataclasses.replace(session.query, crop_box=(0, 100, 600, 700))
        part = dataclasses.replace(session, query=cut)
        assert "never seen" in case_views.revealed_html(CASES[MISS], part)
        assert with_mask.count("alt=") == with_mask.count("<img") == 2


@pytest.fixture(scope="module")
def tab() -> FailuresTab:
    return tab_of(ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL}, "cpu"), FailuresTab)


class TestTab:
    def guess(self, tab, name: str, guess: object) -> Played:
        event = types.SimpleNamespace(_data={"guess": guess})
        return tab.handlers.guess(name, DEFAULT_MODEL, event, lambda *a, **k: None)

    def test_a_guess_runs_the_model_and_the_first_one_counts(self, tab, play):
        played = self.guess(tab, MISS, ALARM)
        assert played.session.score.fused == pytest.approx(play(MISS).score.fused)
        shown = tab.show_answer(MISS, played, {})
        guessed = shown[tab.guessed]
        assert shown[tab.look].visible and shown[tab.try_remedy].visible
        assert guessed == {MISS: False}
        played = self.guess(tab, MISS, MISSED)
        shown = tab.show_answer(MISS, played, guessed)
        assert "Your guess was right" in shown[tab.answer] and shown[tab.guessed] == guessed
        assert "You guessed 0 of 1 right" in shown[tab.cards]

    def test_a_case_without_new_normals_offers_none(self, tab):
        played = self.guess(tab, NO_REMEDY, MISSED)
        assert not tab.show_answer(NO_REMEDY, played, {})[tab.try_remedy].visible

    @pytest.mark.parametrize("sent", ["<b>", None, ["missed"]])
    def test_another_answer_gives_one_sentence_and_asks_again(self, tab, sent):
        shown = tab.show_answer(MISS, self.guess(tab, MISS, sent), {})
        assert list(shown) == [tab.answer]
        answer = shown[tab.answer]
        assert "Choose one of the three answers." in answer and "data-guess" in answer

    def test_what_ends_after_another_case_was_opened_is_not_shown(self, tab):
        played = Played(MISS, "answer", session=object())
        assert list(tab.show_answer(FALSE_ALARM, played, {}).values()) == [gr.skip()]
        assert list(tab.show_remedy(FALSE_ALARM, played).values()) == [gr.skip()]
        with pytest.raises(gr.Error, match="Guess first"):
            tab.look_closely(FALSE_ALARM, played)

    def test_the_advice_is_tried_with_its_normals_which_inspect_then_gets(self, tab):
        played = tab.handlers.remedy(MISS, DEFAULT_MODEL)
        shown = tab.show_remedy(MISS, played)
        markup = shown[tab.remedy]
        assert "Now the model gets it right" in markup and not shown[tab.try_remedy].visible
        # The normal that is left out, the image with its new map and without, and a good one.
        assert "No longer among them" in markup and "New among the normals" not in markup
        assert markup.count("<img") == 4
        opened, form = tab.look_closely(MISS, played), tab.shared.form
        normals = opened[form.normals]
        assert opened[tab.shared.session] is played.session and len(normals) == 4
        assert not any("anomaly" in name for name in normals)
        assert opened[form.query].endswith("anomaly_22.jpg") and opened[form.queries] == ""
        assert (opened[form.object_name], opened[form.model]) == ("cookie", DEFAULT_MODEL)

    def test_advice_about_the_image_itself_is_tried_with_another_image(self, tab):
        name = "toy-figure"
        played = tab.handlers.remedy(name, DEFAULT_MODEL)
        markup = tab.show_remedy(name, played)[tab.remedy]
        assert "Now the model gets it right" in markup and "The normals, as advised" in markup
        assert "To compare: a good one" in markup and markup.count("below the threshold") == 1
        opened, form = tab.look_closely(name, played), tab.shared.form
        assert Path(opened[form.query]) == CASES[name].remedy.query
        normals = [Path(path) for path in opened[form.normals]]
        assert normals == list(CASES[name].remedy.normals)

    def test_advice_without_images_cannot_be_run(self, tab):
        played = tab.handlers.remedy(NO_REMEDY, DEFAULT_MODEL)
        assert played.session is None and "not about images" in played.answer

    def test_inspect_needs_a_result(self, tab):
        with pytest.raises(gr.Error, match="Guess first"):
            tab.look_closely(MISS, None)

    def test_the_first_case_is_open_and_follows_the_last(self, tab):
        first, second, *_, last = CASES
        assert tab.case.value == first and f'data-case="{second}"' in tab.nav.value
        event = types.SimpleNamespace(_data={"case": last})
        opened = tab.choose({}, event)
        assert f'data-case="{first}"' in opened[tab.nav] and set(opened) == set(tab._view)

    def test_a_name_opens_its_case_or_says_that_there_is_none(self, tab):
        def opened(name: object) -> dict:
            return tab.choose({}, types.SimpleNamespace(_data={"case": name}))

        assert opened(FALSE_ALARM)[tab.case] == FALSE_ALARM
        for name in ("<script>", ["cookie"], None):
            unknown = opened(name)
            assert list(unknown) == [tab.notice]
            assert "no case of that name" in unknown[tab.notice]
            assert "script" not in unknown[tab.notice]
