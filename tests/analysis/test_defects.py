"""Images shown as defects: the patches that count, the scores beside them, and taking them back."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from inctrl_core import Detector, ModelError, PromptError, load_bank, load_detector, save_bank
from inctrl_core.analysis import inspect
from inctrl_core.analysis.batch import QueryFile
from inctrl_core.analysis.batch_job import score_batch
from inctrl_core.analysis.changes import with_phrases, with_query_as_normal
from inctrl_core.analysis.defects import (
    beside_defects,
    beside_kept,
    defect_places,
    show_defects,
    with_defect,
    with_defect_images,
    without_defect,
)
from inctrl_core.analysis.measured_bank import MeasuredBank, measure_bank
from inctrl_core.analysis.stress import drop_one
from inctrl_core.checkpoints.bank_file import read_normals
from inctrl_core.config import MAX_DEFECTS
from inctrl_core.model.bank import PromptBank

GOLDEN = Path(__file__).parents[1] / "golden"
NORMALS = [GOLDEN / f"prompt_{i}.png" for i in range(3)]
QUERIES = [GOLDEN / f"query_{i}.png" for i in range(3)]
FORMS = ["golden_detector", "gated_detector"]


@pytest.fixture(params=FORMS)
def detector(request) -> Detector:
    return request.getfixturevalue(request.param)


@pytest.fixture
def measured(detector: Detector) -> MeasuredBank:
    return measure_bank(detector, detector.build_bank(NORMALS, "metal nut"))


def fabric(seed: int, spot: tuple[int, int] | None = None, shade: int = 96) -> Image.Image:
    """A noisy grey square, with a faint dark spot where one is asked for."""
    noise = np.random.default_rng(seed).normal(0, 7, (240, 240))
    image = Image.fromarray((128 + noise).clip(0, 255).astype(np.uint8)).convert("RGB")
    if spot:
        x, y = spot
        ImageDraw.Draw(image).ellipse((x - 9, y - 9, x + 9, y + 9), fill=(shade,) * 3)
    return image


class TestPlaces:
    def test_those_above_the_line_the_strongest_first(self):
        patch_map = np.array([[0.1, 0.5], [0.4, 0.2]])
        assert defect_places(patch_map, 0.15) == ((0, 1), (1, 0), (1, 1))

    def test_the_strongest_where_hardly_any_is_above(self):
        patch_map = np.arange(16.0).reshape(4, 4)
        strongest = ((3, 3), (3, 2), (3, 1), (3, 0), (2, 3), (2, 2))
        assert defect_places(patch_map, 14.5) == strongest
        assert defect_places(patch_map, None) == strongest

    def test_no_more_than_twelve(self):
        assert len(defect_places(np.arange(225.0).reshape(15, 15), 10.0)) == 12

    @pytest.mark.parametrize(("picked", "count"), [((1, 1), 9), ((0, 0), 4), ((0, 1), 6)])
    def test_those_around_a_picked_one(self, picked, count):
        places = defect_places(np.zeros((4, 4)), 0.5, picked)
        assert len(places) == count and picked in places
        assert all(max(abs(y - picked[0]), abs(x - picked[1])) <= 1 for y, x in places)

    @pytest.mark.parametrize("picked", [(4, 0), (0, 4), (-1, 0)])
    def test_none_outside_the_grid(self, picked):
        with pytest.raises(PromptError, match="between 1 and 4"):
            defect_places(np.zeros((4, 4)), 0.5, picked)


class TestScores:
    def test_without_defects_nothing_changes(self, detector, measured):
        back = show_defects(detector, measured, QUERIES[:1]).bank.with_defects(())
        before, after = (detector.score(QUERIES, bank) for bank in (measured.bank, back))
        assert [s.fused for s in before] == [s.fused for s in after]
        assert all(s.defect_map is None and s.defect_shift == 0.0 for s in after)
        assert "defect_shift" not in after[0].to_dict()

    def test_the_margin_moves_the_log_odds(self, detector, measured):
        bank = show_defects(detector, measured, QUERIES[:1]).bank
        plain = detector.score(QUERIES, measured.bank)
        maps = bank.normal_layer_maps.mean(dim=1).numpy()
        expected = (maps - bank.defects.among.numpy()).max(axis=1).max()
        for before, score in zip(plain, detector.score(QUERIES, bank), strict=True):
            margin = (score.patch_map - score.defect_map).max()
            assert score.defect_shift == pytest.approx(
                4.0 * (min(margin, 0.1) - expected), abs=1e-5
            )
            odds = before.fused / (1 - before.fused) * np.exp(score.defect_shift)
            assert score.fused == pytest.approx(odds / (1 + odds), abs=1e-5)
            assert np.array_equal(score.patch_map, before.patch_map)
            assert score.to_dict()["defect_shift"] == score.defect_shift

    def test_a_defect_finds_its_own_patches_at_no_distance(self, detector, measured):
        bank = show_defects(detector, measured, QUERIES[:1]).bank
        score = detector.score(QUERIES[:1], bank)[0]
        own = bank.defects.images[0][0].shape[0]
        assert (score.defect_map < 1e-5).sum() == own and score.defect_shift > 0

    def test_alone_as_in_a_batch(self, detector, measured):
        bank = show_defects(detector, measured, QUERIES[:2]).bank
        together = detector.score(QUERIES, bank)
        alone = [detector.score([query], bank)[0] for query in QUERIES]
        for one, other in zip(together, alone, strict=True):
            assert one.defect_shift == other.defect_shift
            assert np.array_equal(one.defect_map, other.defect_map)

    def test_the_shipped_model_gives_the_same_bits_in_a_batch(self):
        detector = load_detector("inctrl-lite", device="cpu")
        normals = measure_bank(detector, detector.build_bank([fabric(0), fabric(1)]))
        images = [fabric(seed, (60, 60)) for seed in range(2, 7)]
        bank = show_defects(detector, normals, images[:2]).bank
        together = [score.fused for score in detector.score(images, bank)]
        assert together == [detector.score([image], bank)[0].fused for image in images]

    def test_the_normals_and_the_threshold_stay(self, detector, measured):
        beside = show_defects(detector, measured.with_threshold(0.4), QUERIES[:1])
        assert detector.judge_normals(beside.bank) == detector.judge_normals(measured.bank)
        assert beside.ranges is measured.ranges and beside.threshold == 0.4
        normals = measure_bank(detector, beside.bank)
        assert normals.threshold == measured.threshold

    def test_one_normal_is_enough(self, detector):
        bank = detector.build_bank(NORMALS[:1], "metal nut")
        measured = show_defects(detector, measure_bank(detector, bank), QUERIES[:1])
        assert detector.score(QUERIES[:1], measured.bank)[0].defect_shift > 0

    def test_some_of_the_normals_as_if_built_anew(self, detector, measured):
        beside = show_defects(detector, measured, QUERIES[:1]).bank
        few = detector.build_bank(NORMALS[:2], "metal nut").with_defects(beside.defects.images)
        kept = beside.subset([0, 1])
        scores = [[s.fused for s in detector.score(QUERIES, bank)] for bank in (few, kept)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)
        judged = [np.array(detector.judge_normals(bank)) for bank in (few, kept)]
        assert judged[0] == pytest.approx(judged[1], abs=1e-6)
        query = detector.encode(QUERIES[:1])
        dropped = drop_one(detector, beside, query)[2]
        assert dropped.fused == pytest.approx(scores[0][0], abs=1e-6)

    def test_what_is_like_the_defect_rises_and_the_good_stays(self):
        detector = load_detector("inctrl-lite", device="cpu")
        normals = [fabric(seed) for seed in range(4)]
        session = inspect(detector, normals, fabric(10, (60, 60)))
        shown = with_defect(detector, session)
        again, good = fabric(11, (150, 110)), fabric(12)
        before, after = (detector.score([again, good], s.bank) for s in (session, shown))
        odds = [score.fused / (1 - score.fused) for score in (before[0], after[0])]
        assert odds[1] > 1.3 * odds[0] and after[1].fused < shown.threshold
        row, column = divmod(int((after[0].patch_map - after[0].defect_map).argmax()), 15)
        assert abs(row - 110 * 15 // 240) <= 1 and abs(column - 150 * 15 // 240) <= 1


class TestSession:
    def test_shown_and_taken_back(self, detector):
        session = inspect(detector, NORMALS, QUERIES[0])
        shown = with_defect(detector, session)
        assert shown.defects[0].file == QUERIES[0] and shown.before is session.score
        assert shown.threshold == session.threshold
        assert shown.score.fused > session.score.fused
        back = without_defect(detector, shown, 0)
        assert back.defects == () and back.bank.defects is None
        assert back.score.fused == session.score.fused and back.threshold == session.threshold
        with pytest.raises(PromptError, match="forgotten already"):
            without_defect(detector, back, 0)

    def test_the_breakdown_adds_up(self, gated_detector):
        session = with_defect(gated_detector, inspect(gated_detector, NORMALS, QUERIES[0]))
        parts = session.ledger.breakdown
        total = sum(share.share for share in parts.shares) - parts.offset + parts.defects
        assert parts.log_odds == pytest.approx(total, abs=1e-5)
        assert session.score.fused == pytest.approx(1 / (1 + np.exp(-total)), abs=1e-5)
        assert parts.defects == pytest.approx(session.score.defect_shift, abs=1e-6)

    def test_each_of_several_can_be_forgotten(self, detector):
        session = inspect(detector, NORMALS, QUERIES[0])
        one = with_defect(detector, session)
        second = inspect(detector, NORMALS, QUERIES[1], previous=one)
        assert second.defects == one.defects and second.bank.defects is not None
        both = with_defect(detector, second, (7, 7))
        assert [len(d.places) for d in both.defects][1] == 9 and both.defects[1].picked == (7, 7)
        left = without_defect(detector, both, 0)
        alone = with_defect(detector, inspect(detector, NORMALS, QUERIES[1]), (7, 7))
        assert left.score.fused == alone.score.fused

    def test_the_same_image_is_shown_once(self, detector, tmp_path):
        shown = with_defect(detector, inspect(detector, NORMALS, QUERIES[0]))
        copy = tmp_path / "copy.png"
        copy.write_bytes(QUERIES[0].read_bytes())
        again = inspect(detector, NORMALS, copy, previous=shown)
        with pytest.raises(PromptError, match="as a defect already"):
            with_defect(detector, again)
        with pytest.raises(PromptError, match="forget that first"):
            with_query_as_normal(detector, again)

    def test_a_normal_is_no_defect(self, detector, measured):
        with pytest.raises(PromptError, match="is normal 2; take it out"):
            with_defect(detector, inspect(detector, NORMALS, NORMALS[1]))
        with pytest.raises(PromptError, match="Defect 2 is normal 1"):
            show_defects(detector, measured, [QUERIES[0], NORMALS[0]])

    def test_there_is_a_most(self, detector, measured):
        with pytest.raises(PromptError, match="17 images of defects; use at most 16"):
            show_defects(detector, measured, QUERIES[:1] * (MAX_DEFECTS + 1))

    def test_other_words_and_another_normal_keep_them(self, detector):
        shown = with_defect(detector, inspect(detector, NORMALS, QUERIES[0]))
        spoken = with_phrases(detector, shown, ["fine"], [])
        assert spoken.defects == shown.defects and spoken.bank.defects is shown.bank.defects
        query = inspect(detector, NORMALS, QUERIES[2], previous=shown)
        larger = with_query_as_normal(detector, query)
        assert larger.bank.shots == 4 and larger.bank.defects.among.shape[0] == 4
        assert larger.defects == shown.defects

    def test_of_images_as_of_clicks(self, detector):
        clicked = with_defect(detector, inspect(detector, NORMALS, QUERIES[0]))
        clicked = inspect(detector, NORMALS, QUERIES[1], previous=clicked)
        session = with_defect_images(detector, inspect(detector, NORMALS, QUERIES[1]), QUERIES[:1])
        assert session.score.fused == clicked.score.fused and len(session.defects) == 1
        images = clicked.bank.defects.images
        plain = inspect(detector, NORMALS, QUERIES[1])
        kept = beside_kept(detector, plain, beside_defects(plain.measured, images))
        assert len(kept.defects) == 1
        assert kept.score.fused == clicked.score.fused

    def test_it_crosses_processes(self, detector):
        shown = with_defect(detector, inspect(detector, NORMALS, QUERIES[0]))
        back = pickle.loads(pickle.dumps(shown.to("cpu")))
        assert detector.score_encoded(back.encoded, back.bank)[0].fused == shown.score.fused

    def test_a_batch_counts_them(self, detector, measured):
        beside = show_defects(detector, measured, QUERIES[:1])
        files = [QueryFile(str(query), query.name) for query in QUERIES]
        batch = score_batch(detector, beside.bank, files)
        expected = [score.fused for score in detector.score(QUERIES, beside.bank)]
        assert [row.score.fused for row in batch.rows] == expected
        assert batch.threshold == beside.threshold


class TestFile:
    @pytest.fixture
    def kept(self, detector, measured, tmp_path) -> tuple[Path, PromptBank]:
        bank = show_defects(detector, measured, QUERIES[:2]).bank
        path = tmp_path / "kept.safetensors"
        save_bank(path, bank, detector, images=[path.read_bytes() for path in NORMALS])
        return path, bank

    def test_the_scores_are_equal_bit_for_bit(self, kept, detector):
        path, bank = kept
        loaded = load_bank(path, detector).bank
        assert torch.equal(loaded.defects.among, bank.defects.among)
        scores = [[s.fused for s in detector.score(QUERIES, b)] for b in (bank, loaded)]
        assert scores[0] == scores[1]

    def test_the_page_reads_them_too(self, kept, detector):
        path, bank = kept
        saved = read_normals(path)
        assert saved.weights == detector.digest and len(saved.defects) == 2
        for own, image in zip(saved.defects, bank.defects.images, strict=True):
            assert all(torch.equal(*pair) for pair in zip(own, image, strict=True))

    @pytest.mark.parametrize("harm", ["width", "rows", "name", "nan", "missing", "many"])
    def test_a_damaged_one_is_refused(self, kept, detector, harm):
        path, _ = kept
        tensors = load_file(path)
        first = tensors["defect.0.0"]
        if harm == "width":
            tensors["defect.0.0"] = first[:, :-1].contiguous()
        elif harm == "rows":
            tensors["defect.0.0"] = first[:0]
        elif harm == "name":
            tensors["defect.x.0"] = first.clone()
        elif harm == "nan":
            tensors["defect.0.0"] = torch.full_like(first, torch.nan)
        elif harm == "missing":
            del tensors["defect.1.0"]
        else:
            layers = [key for key in tensors if key.startswith("defect.0.")]
            for number in range(2, MAX_DEFECTS + 1):
                for key in layers:
                    tensors[f"defect.{number}.{key[9:]}"] = tensors[key].clone()
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
        save_file(tensors, path, metadata=header)
        for read in (lambda: load_bank(path, detector), lambda: read_normals(path)):
            with pytest.raises(ModelError, match="is damaged; save the normals again"):
                read()
