"""A part of the picture that does not count: in residuals, ranges, files, the API and the pad."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image, ImageDraw

from inctrl_core import InctrlError, PromptError, load_bank, save_bank
from inctrl_core.__main__ import main
from inctrl_core.analysis import inspect, score_batch
from inctrl_core.analysis.background import propose_background
from inctrl_core.analysis.batch import QueryFile
from inctrl_core.analysis.batch_job import score_batch as score_files
from inctrl_core.analysis.changes import (
    with_closer_look,
    with_ignored,
    with_phrases,
    with_query_as_normal,
)
from inctrl_core.analysis.defects import with_defect
from inctrl_core.analysis.measured_bank import measure_bank
from inctrl_core.analysis.session import Session
from inctrl_core.analysis.stress import drop_one
from inctrl_core.checkpoints.bank_file import read_normals
from inctrl_core.config import PreprocessConfig
from inctrl_core.images.ignored import (
    CELLS,
    check_part,
    ignored_patches,
    paint_over,
    part_from_text,
    part_of_image,
    part_to_text,
)
from inctrl_core.images.overlay import OverlayStyle, overlay
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.inspect.handlers import InspectHandlers
from inctrl_core.ui.inspect.ignore import pad_html

CORNER = np.zeros((CELLS, CELLS), bool)
CORNER[:20, 40:] = True


def stamped(seed: int, day: str, spot: bool = False) -> Image.Image:
    """A noisy square with a date in a corner, and a dark spot where one is asked for."""
    noise = np.random.default_rng(seed).normal(0, 7, (240, 240))
    image = Image.fromarray((128 + noise).clip(0, 255).astype(np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(image)
    if day:
        draw.rectangle((180, 20, 232, 56), fill=(250, 250, 250))
        draw.text((186, 28), day, fill=(200, 0, 0), font_size=20)
    if spot:
        draw.ellipse((60, 120, 84, 144), fill=(96, 96, 96))
    return image


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("stamped")
    images = {f"normal_{i}": stamped(i, "") for i in range(4)}
    images |= {"good": stamped(9, "31.12"), "bad": stamped(10, "31.12", spot=True)}
    mask = Image.new("L", (240, 240))
    mask.paste(255, (160, 0, 240, 80))
    images["mask"] = mask
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    return {name: str(folder / f"{name}.png") for name in images}


@pytest.fixture(scope="module")
def normals(files) -> list[str]:
    return [files[f"normal_{i}"] for i in range(4)]


class TestPart:
    def test_as_text_and_back(self):
        part = np.random.default_rng(0).random((CELLS, CELLS)) < 0.3
        text = part_to_text(part)
        assert len(text) == 900 and np.array_equal(part_from_text(text), part)

    @pytest.mark.parametrize("text", ["", "0" * 899, "0" * 901, "g" * 900, None, 5, ["0"] * 900])
    def test_anything_else_is_told(self, text):
        with pytest.raises(PromptError, match="mark it again"):
            part_from_text(text)

    def test_nothing_and_everything_are_refused(self):
        with pytest.raises(PromptError, match="Nothing is marked"):
            check_part(np.zeros((CELLS, CELLS), bool))
        with pytest.raises(PromptError, match="Hardly anything"):
            check_part(np.ones((CELLS, CELLS), bool))

    @pytest.mark.parametrize("mode", ["squash", "shortest"])
    def test_of_an_image_in_what_is_seen(self, mode):
        marks = Image.new("RGB", (400, 200))
        marks.paste((9, 9, 9), (200, 0, 400, 100))
        part = part_of_image(marks, PreprocessConfig(240, resize_mode=mode))
        # The right half of the whole, or of the middle square; the upper half of both.
        assert part[:30, 30:].all() and part.sum() == 900

    def test_what_is_transparent_marks_nothing(self):
        for paper in ((255, 255, 255, 0), (0, 0, 0, 0), (0, 0, 0, 255)):
            marks = Image.new("RGBA", (240, 240), paper)
            marks.paste((200, 0, 0, 255), (160, 0, 240, 80))
            part = part_of_image(marks, PreprocessConfig(240))
            assert np.array_equal(part, CORNER)

    def test_patches_of_which_more_than_half_is_in_it(self):
        part = np.zeros((CELLS, CELLS), bool)
        part[:4, :4] = part[4:6, :4] = True
        part[8:11, :4] = True
        patches = ignored_patches(part, 15).reshape(15, 15)
        assert patches[0, 0] and not patches[1, 0] and patches[2, 0] and patches.sum() == 2

    def test_it_is_painted_over_and_nothing_else(self):
        image = stamped(0, "1.1")
        painted = np.asarray(paint_over(image, CORNER))
        assert (painted[:80, 160:] == painted[0, 239]).all()
        assert np.array_equal(painted[80:], np.asarray(image)[80:])

    def test_the_overlay_has_stripes_there_alone(self):
        image, box = Image.new("RGB", (120, 120), (90, 90, 90)), (0.0, 0.0, 120.0, 120.0)
        drawn = np.asarray(
            overlay(image, np.zeros((15, 15)), box, OverlayStyle(0, 1, clear=0.5, ignored=CORNER))
        )
        changed = (drawn != 90).any(axis=-1)
        assert changed[:40, 80:].any() and not changed[40:].any() and not changed[:, :80].any()


class TestScores:
    def test_a_date_stamp_no_longer_counts_and_a_defect_does(self, detector, files, normals):
        good, bad = (inspect(detector, normals, files[name]) for name in ("good", "bad"))
        assert good.above and good.score.patch_map.argmax() in range(225)
        without = with_ignored(detector, good, CORNER)
        assert without.above is False and good.score.fused - without.score.fused > 0.2
        next_one = inspect(detector, normals, files["bad"], previous=without)
        assert next_one.bank.ignored is without.bank.ignored and next_one.above
        row, column = divmod(int(next_one.score.patch_map.argmax()), 15)
        assert (row, column) == (132 * 15 // 240, 72 * 15 // 240) and bad.above

    def test_no_residual_is_left_there(self, detector, files, normals):
        bank = detector.build_bank(normals, ignored=CORNER)
        score = detector.score([files["bad"]], bank)[0]
        patches = ignored_patches(CORNER, 15).reshape(15, 15)
        assert (score.patch_map[patches] == 0).all() and (score.layer_maps[:, patches] == 0).all()
        assert (bank.normal_layer_maps[..., patches.ravel()] == 0).all()
        assert score.patch_map.max() == score.patch_max > 0

    def test_back_to_the_whole_picture_bit_for_bit(self, detector, files, normals):
        first = with_phrases(detector, inspect(detector, normals, files["good"]), ["fine"], [])
        back = with_ignored(detector, with_ignored(detector, first, CORNER), None)
        assert back.score.fused == first.score.fused and back.threshold == first.threshold
        assert back.bank.ignored is None and back.phrases == first.phrases
        assert back.bank.text.prompts == first.bank.text.prompts

    def test_alone_as_in_a_batch(self, detector, files, normals):
        bank = detector.build_bank(normals, ignored=CORNER)
        queries = [files["good"], files["bad"], stamped(20, "1.1.")]
        together = [score.fused for score in detector.score(queries, bank)]
        assert together == [detector.score([query], bank)[0].fused for query in queries]

    def test_what_builds_on_a_bank_keeps_it(self, detector, files, normals):
        session = with_ignored(detector, inspect(detector, normals, files["good"]), CORNER)
        larger = with_query_as_normal(detector, session)
        assert np.array_equal(larger.bank.ignored, CORNER)
        anew = detector.build_bank([*normals, files["good"]], ignored=CORNER)
        assert [fused for fused, _ in detector.judge_normals(larger.bank)] == pytest.approx(
            [fused for fused, _ in detector.judge_normals(anew)], abs=1e-6
        )
        fewer = detector.build_bank(normals[1:], ignored=CORNER)
        dropped = drop_one(detector, session.bank, session.encoded)[0]
        expected = detector.score([files["good"]], fewer)[0].fused
        assert dropped.fused == pytest.approx(expected, abs=1e-6)
        moved = pickle.loads(pickle.dumps(session.to("cpu")))
        assert detector.score_encoded(moved.encoded, moved.bank)[0].fused == session.score.fused

    def test_a_batch_counts_without_it(self, detector, files, normals):
        bank = detector.build_bank(normals, ignored=CORNER)
        batch = score_files(detector, bank, [QueryFile(files["good"], "good")])
        assert batch.rows[0].score.fused == detector.score([files["good"]], bank)[0].fused
        assert batch.above(batch.rows[0]) is False and batch.scale.ignored is bank.ignored
        whole = score_batch(detector, normals, [files["good"]])
        assert whole.above(whole.rows[0]) and whole.scale.ignored is None

    def test_defects_are_found_anew(self, detector, files, normals):
        first = with_ignored(detector, inspect(detector, normals, files["bad"]), CORNER)
        late = with_ignored(
            detector, with_defect(detector, inspect(detector, normals, files["bad"])), CORNER
        )
        early = with_defect(detector, first)
        assert late.score.fused == early.score.fused
        assert late.defects[0].places == early.defects[0].places

    def test_looking_closer_is_refused(self, detector, files, normals):
        session = with_ignored(detector, inspect(detector, normals, files["bad"]), CORNER)
        with pytest.raises(InctrlError, match="count everything again first"):
            with_closer_look(detector, session, 2)

    def test_a_bank_refuses_a_part_that_leaves_nothing(self, detector, normals):
        with pytest.raises(PromptError, match="Hardly anything"):
            detector.build_bank(normals, ignored=np.ones((CELLS, CELLS), bool))


def thing(seed: int) -> Image.Image:
    """A disc with spokes on noise, a little off the middle."""
    rng = np.random.default_rng(seed)
    image = stamped(seed, "")
    x, y = 120 + rng.integers(-6, 7), 120 + rng.integers(-6, 7)
    draw = ImageDraw.Draw(image)
    draw.ellipse(
        (x - 60, y - 60, x + 60, y + 60), fill=(200, 80, 30), outline=(20, 20, 20), width=6
    )
    for turn in range(6):
        dx, dy = 54 * np.cos(turn * np.pi / 3), 54 * np.sin(turn * np.pi / 3)
        draw.line((x, y, x + dx, y + dy), fill=(20, 20, 20), width=5)
    return image


class TestBackground:
    def test_what_lies_round_a_thing_is_proposed_and_the_thing_is_not(self, detector):
        part = propose_background(detector.build_bank([thing(seed) for seed in range(4)]))
        rows, columns = np.mgrid[:CELLS, :CELLS]
        far = np.hypot(rows + 0.5 - 30, columns + 0.5 - 30)
        assert not part[far < 17].any()  # 60 pixels and 6 to and fro are 16.5 squares.
        assert part[far > 27].all() and 0.2 < part.mean() < 0.8

    def test_one_normal_is_enough(self, detector):
        assert propose_background(detector.build_bank([thing(0)])) is not None

    @pytest.mark.parametrize("shots", [1, 4])
    def test_a_texture_has_none(self, detector, shots):
        normals = [stamped(seed, "") for seed in range(shots)]
        assert propose_background(detector.build_bank(normals)) is None

    def test_not_where_a_part_is_ignored_already(self, detector, normals):
        with pytest.raises(PromptError, match="count everything again first"):
            propose_background(detector.build_bank(normals, ignored=CORNER))

    def test_another_background_changes_nothing_once_it_is_ignored(self, detector):
        normals = [thing(seed) for seed in range(4)]
        plain = measure_bank(detector, detector.build_bank(normals))
        part = propose_background(plain.bank)
        query = np.array(thing(9))
        query[np.kron(part, np.ones((4, 4))) > 0] = (30, 90, 160)
        pair = [thing(9), Image.fromarray(query)]
        before = detector.score(pair, plain.bank)[1]
        same, other = detector.score(pair, detector.build_bank(normals, ignored=part))
        assert before.fused > plain.threshold
        # The edge of what is painted over falls between pixels.
        assert abs(same.fused - other.fused) < 0.02 < before.fused - other.fused - 0.2


class TestFile:
    def test_the_scores_are_equal_bit_for_bit(self, detector, files, normals, tmp_path):
        bank = detector.build_bank(normals, ignored=CORNER)
        path = tmp_path / "kept.safetensors"
        save_bank(path, bank, detector, images=[Path(file).read_bytes() for file in normals])
        loaded = load_bank(path, detector).bank
        queries = [files["good"], files["bad"]]
        scores = [[s.fused for s in detector.score(queries, b)] for b in (bank, loaded)]
        assert scores[0] == scores[1] and np.array_equal(loaded.ignored, CORNER)
        assert measure_bank(detector, loaded).threshold == measure_bank(detector, bank).threshold
        assert read_normals(path).ignored == part_to_text(CORNER)


class TestPage:
    @pytest.fixture(scope="class")
    @classmethod
    def handlers(cls) -> InspectHandlers:
        return InspectHandlers(ModelRegistry({"inctrl-lite": "inctrl-lite"}, device="cpu"), {})

    def press(self, handlers: InspectHandlers, session: Session, part: object) -> Session:
        return handlers.ignore(session, gr.EventData(None, {"part": part}))

    def test_a_mark_is_applied_and_taken_back(self, handlers, detector, files, normals):
        session = inspect(detector, normals, files["good"])
        changed = self.press(handlers, session, part_to_text(CORNER))
        assert changed.above is False
        assert "Ignored: 11%" in pad_html(changed) and part_to_text(CORNER) in pad_html(changed)
        back = self.press(handlers, changed, None)
        assert back.score.fused == session.score.fused and "Ignored" not in pad_html(back)

    @pytest.mark.parametrize("part", ["", "0" * 900, "f" * 900, "<b>", 7, [1], {"a": 1}])
    def test_anything_else_is_a_sentence(self, handlers, detector, files, normals, part):
        session = inspect(detector, normals, files["good"])
        with pytest.raises(InctrlError, match="mark"):
            self.press(handlers, session, part)

    def test_a_background_is_marked_and_not_ignored_yet(self, handlers, detector, tmp_path):
        paths = [str(tmp_path / f"{seed}.png") for seed in range(4)]
        for seed, path in enumerate(paths):
            thing(seed).save(path)
        session = inspect(detector, paths[:3], paths[3])
        part = handlers.propose_background(session)
        marked = pad_html(session, part)
        assert part_to_text(part) in marked and "Ignored:" not in marked

    def test_where_there_is_no_background_that_is_said(self, handlers, detector, files, normals):
        with pytest.raises(InctrlError, match="agree on no background"):
            handlers.propose_background(inspect(detector, normals, files["good"]))

    def test_saved_normals_are_opened_with_it(self, handlers, detector, files, normals):
        session = with_ignored(detector, inspect(detector, normals, files["good"]), CORNER)
        choices = handlers.open_normals({"path": handlers.save_normals(session)})[0]
        form = [{"image": {"path": path}} for path in choices.files], {"path": files["good"]}, ""
        again = handlers.score_form(*form, "inctrl-lite", None, lambda *_, **__: None, choices)
        assert again.score.fused == session.score.fused and again.change == ""


class TestApi:
    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, detector, files, normals) -> float:
        bank = detector.build_bank(normals, ignored=CORNER)
        return detector.score([files["good"]], bank)[0].fused

    def ask(self, client: Client, endpoint: str, normals: list[str], mask: str, **given: object):
        return client.predict(
            normals=[handle_file(path) for path in normals],
            ignored=handle_file(mask),
            api_name=f"/{endpoint}",
            **given,
        )

    def test_it_counts_nowhere(self, client, expected, files, normals):
        about = client, normals, files["mask"]

        def ask(endpoint: str, **given: object) -> object:
            return self.ask(about[0], endpoint, *about[1:], **given)

        query = handle_file(files["good"])
        found = {
            "score": ask("score", query=query)[0]["fused"],
            "explain": ask("explain", query=query)["score"]["fused"],
            "batch": ask("score_batch", queries=[query])["results"][0]["fused"],
            "labelled": ask("score_labelled", good=[query], bad=[])["results"][0]["fused"],
        }
        assert found == {name: pytest.approx(expected, abs=1e-6) for name in found}

    def test_a_mask_as_large_as_a_photograph(self, client, expected, files, normals, tmp_path):
        Image.open(files["mask"]).resize((3000, 3000)).save(tmp_path / "large.png")
        about = client, "score", normals, str(tmp_path / "large.png")
        found = self.ask(*about, query=handle_file(files["good"]))[0]
        assert found["fused"] == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("endpoint", ["score", "explain"])
    def test_a_mask_that_is_none_is_told(self, client, files, normals, endpoint, tmp_path):
        query = handle_file(files["good"])
        Image.new("L", (50, 50)).save(tmp_path / "black.png")
        told = (tmp_path / "black.png", "Nothing is marked"), (__file__, "not an image")
        for mask, says in told:
            with pytest.raises(AppError, match=says):
                self.ask(client, endpoint, normals, str(mask), query=query)


def test_the_command_line_takes_a_mask(detector, files, normals, tmp_path, capsys):
    given = ["score", "--device", "cpu", "--normal", *normals, "--query", files["good"], "--json"]
    kept = tmp_path / "kept.safetensors"
    assert main([*given, "--ignore", files["mask"], "--save-normals", str(kept)]) == 0
    told = json.loads(capsys.readouterr().out)["scores"][0]["fused"]
    bank = detector.build_bank(normals, ignored=CORNER)
    assert told == detector.score([files["good"]], bank)[0].fused
    again = ["score", "--normals-file", str(kept), "--query", files["good"], "--json"]
    assert main(again) == 0
    assert json.loads(capsys.readouterr().out)["scores"][0]["fused"] == told
    assert main([*again, "--ignore", files["mask"]]) == 1
    assert "--ignore needs the images" in capsys.readouterr().err
    assert main([*given, "--ignore", files["mask"], "--parts", "2"]) == 1
    assert "leave out --ignore or --parts" in capsys.readouterr().err
    assert main([*given, "--ignore", files["normal_0"]]) == 1
    assert "Hardly anything is left" in capsys.readouterr().err


def test_the_command_line_finds_the_background(detector, tmp_path, capsys, files, normals):
    things = [str(tmp_path / f"{seed}.png") for seed in range(4)]
    for seed, path in enumerate(things):
        thing(seed).save(path)
    given = ["score", "--device", "cpu", "--json", "--ignore-background"]
    assert main([*given, "--normal", *things[:3], "--query", things[3]]) == 0
    told = json.loads(capsys.readouterr().out)["scores"][0]["fused"]
    part = propose_background(detector.build_bank(things[:3]))
    bank = detector.build_bank(things[:3], ignored=part)
    assert told == detector.score([things[3]], bank)[0].fused
    assert main([*given, "--normal", *normals, "--query", files["good"]]) == 1
    assert "leave out --ignore-background" in capsys.readouterr().err
    both = [*given, "--ignore", files["mask"], "--normal", *things[:3], "--query", things[3]]
    assert main(both) == 1 and "one of --ignore and" in capsys.readouterr().err
