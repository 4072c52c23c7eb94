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
from PIL import Image, ImageFilter, ImageOps

from inctrl_core import Detector, load_detector
from inctrl_core.analysis.decision import LITTLE
from inctrl_core.analysis.inspection import Session, start_session
from inctrl_core.analysis.normal_range import build_measured_bank
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.errors import InctrlError
from inctrl_core.images.files import open_image
from inctrl_core.images.preprocessing import patch_box
from inctrl_core.ui.common.examples import EXAMPLES
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
from inctrl_core.ui.failures.handlers import FailuresHandlers, Played

CASES = load_cases()
REMEDIED = [name for name, case in CASES.items() if case.remedy_normals]
# Nothing before the guess may say it.
GIVEAWAYS = re.compile(
    "anomal|defect|damag|wrong|fault|fail|miss|alarm|normal image|scratch|crack|cut|scorch|burn|"
    "shadow|rotat|turn|upside|revers|ground|jpeg|squeez|oil|dim|dark|ventricle|empty|broken"
)

each_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector(DEFAULT_MODEL, device="cpu")


@pytest.fixture(scope="module")
def play(detector: Detector) -> Callable[..., Session]:
    """Runs a case once for all tests."""
    played: dict[tuple, Session] = {}

    def run(name: str, normals: Sequence[Path] | None = None) -> Session:
        case = CASES[name]
        files = tuple(str(path) for path in normals or case.normals), str(case.query)
        if (name, files) not in played:
            played[name, files] = start_session(detector, DEFAULT_MODEL, files, case.object_name)
        return played[name, files]

    return run


def strongest_in_mask(session: Session, case: Case) -> bool:
    row, column = strongest_patch(session)
    box = patch_box(session.encoded.crop_boxes[0], 15, row - 1, column - 1)
    left, top, right, bottom = (round(edge) for edge in box)
    return bool(read_mask(case.mask)[top:bottom, left:right].any())


class TestMeasured:
    @each_case
    def test_a_case_comes_out_as_it_is_explained(self, play, name):
        case, session = CASES[name], play(name)
        above = session.score.fused > session.threshold
        if case.why == WORKS:
            assert above == case.anomalous
        else:
            assert above != case.anomalous
        assert outcome(case, session) == case.expected
        assert session.grade != LITTLE

    @pytest.mark.parametrize("name", REMEDIED)
    def test_the_normals_of_the_advice_help(self, play, name):
        assert outcome(CASES[name], play(name, CASES[name].remedy_normals)) == RIGHT

    @pytest.mark.parametrize(
        ("name", "control"),
        [
            ("board-bench", "fools-board/queries/same_as_normals.jpg"),
            ("gravel-path", "fools-gravel/queries/same_as_normals.jpg"),
            ("lawn", "lawn/queries/good_1.jpg"),
            ("washer-tray", "washer/queries/good_1.jpg"),
        ],
    )
    def test_a_false_alarm_is_due_to_what_is_told(self, play, detector, name, control):
        session = play(name)
        plain = detector.score([EXAMPLES / control], session.bank)[0]
        assert plain.fused <= session.threshold < session.score.fused

    @pytest.mark.parametrize("name", ["washer-line", "blister-line"])
    def test_the_strongest_square_lies_on_the_defect(self, play, name):
        assert strongest_in_mask(play(name), CASES[name])

    @pytest.mark.parametrize("name", ["board-packed", "board-lamp"])
    def test_what_is_missed_is_missed_by_the_map_as_well(self, play, name):
        assert not strongest_in_mask(play(name), CASES[name])

    def test_the_whole_of_every_picture_is_seen(self, play):
        session = play("blister-belt")
        for picture in (session.query, *session.normals):
            assert picture.crop_box == (0, 0, *picture.image.size)
        proportions = {p.image.width / p.image.height for p in session.normals}
        assert session.query.image.width == session.query.image.height
        assert min(proportions) > 1.5

    def test_the_small_case_is_smaller_than_a_patch(self, play):
        left, top, right, bottom = patch_box(play("board-lamp").encoded.crop_boxes[0], 15, 0, 0)
        rows, columns = np.nonzero(read_mask(CASES["board-lamp"].mask))
        assert np.ptp(columns) + 1 < (right - left) / 4 and np.ptp(rows) + 1 < (bottom - top) / 4

    def test_the_damaged_normals_of_the_washers_lie_far_from_the_good_ones(self, play):
        scores = play("washer-line").ranges.fused
        assert min(scores[1::2]) > 1.5 * max(scores[::2])


class TestAdvice:
    """What is advised beside other normals: measured as well."""

    def score(self, detector: Detector, case: Case, change: Callable, query: Path) -> tuple:
        normals = [change(path) for path in case.normals]
        measured = build_measured_bank(detector, normals, case.object_name)
        return detector.score([change(query)], measured.bank)[0].fused, measured.threshold

    def test_cropped_to_the_chip_the_print_is_found(self, detector):
        case = CASES["board-packed"]

        def crop(path: Path) -> Image.Image:
            return open_image(path).crop((140, 80, 260, 200))

        fused, threshold = self.score(detector, case, crop, case.query)
        good, _ = self.score(detector, case, crop, EXAMPLES / "circuit-board/queries/good_1.jpg")
        assert good <= threshold < fused

    def test_in_a_part_of_the_picture_the_cut_track_is_found(self, detector):
        case = CASES["board-lamp"]

        def crop(path: Path) -> Image.Image:
            return open_image(path).crop((259, 57, 339, 137))

        fused, threshold = self.score(detector, case, crop, case.query)
        good, _ = self.score(
            detector, case, crop, EXAMPLES / "fools-board/queries/same_as_normals.jpg"
        )
        assert good <= threshold < fused

    def test_cut_to_the_proportions_of_the_normals_the_blister_is_passed(self, detector):
        case = CASES["blister-belt"]

        def cut(path: Path) -> Image.Image:
            image = open_image(path)
            return ImageOps.fit(image, (image.width, round(image.width * 0.65)))

        fused, threshold = self.score(detector, case, cut, case.query)
        assert fused <= threshold

    def test_against_its_mirror_image_the_head_slice_stands_out(self):
        def unlike_its_mirror(path: Path) -> float:
            blurred = open_image(path).convert("L").filter(ImageFilter.GaussianBlur(6))
            pixels = np.asarray(blurred, dtype=float)
            return np.abs(pixels - pixels[:, ::-1]).max()

        case = CASES["head-slice"]
        normals = [*case.normals, *(EXAMPLES / "brain-phantom/queries").glob("healthy_*.jpg")]
        assert len(normals) == 11
        assert unlike_its_mirror(case.query) > 1.2 * max(map(unlike_its_mirror, normals))

    def test_by_the_mean_of_the_map_the_fabric_stands_out(self, play, detector):
        session = play("fabric")
        count = session.bank.shots
        means = [detector.score_normal(i, session.bank).patch_map.mean() for i in range(count)]
        assert session.score.patch_map.mean() > max(means)


class TestTexts:
    def test_every_kind_of_failure_is_shown(self):
        reasons = [case.why for case in CASES.values()]
        assert set(reasons) == set(REASONS)
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
        for text in (case.before, case.after, case.advice, case.source, case.licence):
            assert text.endswith(".") or text == "CC0 1.0"
        assert 4 <= len(case.normals) <= 8 and case.query not in case.normals
        assert (case.query.parent.name == "cases") == (case.made is not None)
        if case.mask is not None:
            assert case.anomalous
            with Image.open(case.query) as image:
                assert read_mask(case.mask).shape == (image.height, image.width)

    def test_copied_images_keep_their_terms(self):
        for case in CASES.values():
            if "textile" in case.query.parts:
                assert "MIT" in case.licence and "conformal-clip-data" in case.source

    def test_the_folder_holds_only_what_a_case_uses(self):
        used = {CASES_FILE.split("/")[1]}
        for case in CASES.values():
            used |= {
                path.name
                for path in (*case.normals, case.query, case.mask, *(case.remedy_normals or ()))
                if path and path.parent.name == "cases"
            }
        assert {path.name for path in (EXAMPLES / "cases").iterdir()} == used


class TestReading:
    def write(self, folder: Path, **changes: object) -> None:
        entries = json.loads((EXAMPLES / CASES_FILE).read_text())
        entry = {**entries[0], "normals": ["a.jpg"], "query": "a.jpg", "remedy_normals": None}
        entry |= changes
        (folder / "cases").mkdir()
        (folder / "a.jpg").touch()
        kept = {key: value for key, value in entry.items() if value != "left out"}
        (folder / CASES_FILE).write_text(json.dumps([kept]))

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

    @pytest.mark.parametrize("name", ["", "<b>no</b>", None, 3, ["lawn"]])
    def test_an_unknown_name_gives_one_sentence(self, name):
        with pytest.raises(InctrlError, match="no case of that name"):
            find_case(CASES, name)


@pytest.mark.parametrize(
    ("fused", "anomalous", "expected"),
    [(0.3, True, RIGHT), (0.2, True, MISSED), (0.3, False, ALARM), (0.2, False, RIGHT)],
)
def test_above_the_threshold_is_what_counts(play, fused, anomalous, expected):
    session = play("lawn")
    score = dataclasses.replace(session.score, fused=fused)
    case = types.SimpleNamespace(anomalous=anomalous)
    assert outcome(case, dataclasses.replace(session, score=score, chosen=0.2)) == expected


class TestMarkup:
    def test_cards_mark_the_open_case_and_the_guesses(self):
        thumbnails = dict.fromkeys(CASES, "data:image/jpeg;base64,AA==")
        first, second, *_ = CASES
        markup = case_views.cards_html(CASES, thumbnails, second, {first: True, second: False})
        assert markup.count("<button") == len(CASES)
        assert re.search(f'data-case="{second}" aria-pressed="true"', markup)
        assert markup.count('aria-pressed="true"') == 1
        assert "✓ right" in markup and "– wrong" in markup
        assert f"You guessed 1 of 2 right; {len(CASES) - 2} to go" in markup
        assert "You guessed" not in case_views.cards_html(CASES, thumbnails, first, {})

    def test_the_answer_tells_guess_score_truth_reason_and_advice(self, play):
        case, session = CASES["washer-line"], play("washer-line")
        markup = case_views.answer_html(case, session, MISSED)
        assert "Your guess was right" in markup and "The model misses it" in markup
        assert "<strong>anomalous</strong>" in markup
        assert f"{session.score.fused:.3f}" in markup and "below the threshold" in markup
        assert "Unrepresentative normals" in markup and "Take them out." in markup
        assert "Not what you guessed" in case_views.answer_html(case, session, RIGHT)

    def test_another_model_may_end_otherwise_and_that_is_said(self, play):
        session = play("washer-line", CASES["washer-line"].remedy_normals)
        markup = case_views.answer_html(CASES["washer-line"], session, RIGHT)
        assert "The model gets it right" in markup and "comes out otherwise" in markup

    def test_the_picture_shows_an_outline_only_where_one_is_known(self, play):
        with_mask = case_views.revealed_html(CASES["washer-line"], play("washer-line"))
        without = case_views.revealed_html(CASES["fabric"], play("fabric"))
        assert "what is truly wrong" in with_mask and "what is truly wrong" not in without
        assert "never seen" not in with_mask
        session = play("washer-line")
        cut = dataclasses.replace(session.query, crop_box=(30, 0, 310, 280))
        part = dataclasses.replace(session, query=cut)
        assert "never seen" in case_views.revealed_html(CASES["washer-line"], part)
        assert with_mask.count("alt=") == with_mask.count("<img") == 2


@pytest.fixture(scope="module")
def handlers() -> FailuresHandlers:
    return FailuresHandlers(ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL}, "cpu"), CASES)


class TestHandlers:
    def guess(self, handlers, name: str, guess: object) -> Played:
        event = types.SimpleNamespace(_data={"guess": guess})
        return handlers.guess(name, DEFAULT_MODEL, event, lambda *a, **k: None)

    def test_a_guess_runs_the_model_and_the_first_one_counts(self, handlers, play):
        played = self.guess(handlers, "washer-line", ALARM)
        assert played.session.score.fused == pytest.approx(play("washer-line").score.fused)
        *_, look, remedy, guessed = handlers.show_answer("washer-line", played, {})
        assert look.visible and remedy.visible and guessed == {"washer-line": False}
        played = self.guess(handlers, "washer-line", MISSED)
        cards, _, answer, *_, again = handlers.show_answer("washer-line", played, guessed)
        assert "Your guess was right" in answer and again == guessed
        assert "You guessed 0 of 1 right" in cards

    def test_a_case_without_new_normals_offers_none(self, handlers):
        played = self.guess(handlers, "board-lamp", MISSED)
        assert not handlers.show_answer("board-lamp", played, {})[4].visible

    @pytest.mark.parametrize("sent", ["<b>", None, ["missed"]])
    def test_another_answer_gives_one_sentence_and_asks_again(self, handlers, sent):
        played = self.guess(handlers, "washer-line", sent)
        cards, _, answer, *_, guessed = handlers.show_answer("washer-line", played, {})
        assert "Choose one of the three answers." in answer and "data-guess" in answer
        assert cards == guessed == gr.skip()

    def test_what_ends_after_another_case_was_opened_is_not_shown(self, handlers):
        played = Played("lawn", "answer", session=object())
        assert handlers.show_answer("fabric", played, {}) == gr.skip()
        assert handlers.show_remedy("fabric", played) == gr.skip()
        with pytest.raises(gr.Error, match="Guess first"):
            handlers.look_closely("fabric", played)

    def test_the_advice_is_tried_with_its_normals_which_inspect_then_gets(self, handlers):
        played = handlers.remedy("washer-line", DEFAULT_MODEL)
        markup, button = handlers.show_remedy("washer-line", played)
        assert "Now the model gets it right" in markup and not button.visible
        # Three normals fewer, shown, and the image with its new map and without.
        assert "No longer among them" in markup and "New among the normals" not in markup
        assert markup.count("<img") == 5
        session, normals, query, *rest = handlers.look_closely("washer-line", played)
        assert session is played.session and len(normals) == 3
        assert not any(odd in str(normals) for odd in ("rust", "dent", "broken_rim"))
        assert query.endswith("scratch.jpg") and rest == ["metal washer", DEFAULT_MODEL, ""]

    def test_inspect_needs_a_result(self, handlers):
        with pytest.raises(gr.Error, match="Guess first"):
            handlers.look_closely("lawn", None)

    def test_the_last_case_is_followed_by_the_first(self, handlers):
        first, *_, last = CASES
        event = types.SimpleNamespace(_data={"case": last})
        assert f'data-case="{first}"' in handlers.choose({}, event)[6]

    def test_a_link_opens_its_case_or_says_that_there_is_none(self, handlers):
        def opened(**query: str) -> object:
            return handlers.open_link({}, types.SimpleNamespace(query_params=query))

        assert opened(case="fabric")[1] == "fabric"
        notice, *rest = opened(case="<script>")
        assert "no case of that name" in notice and "script" not in notice
        assert rest == [gr.skip()] * 10 and opened() == gr.skip()
