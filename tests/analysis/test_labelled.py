"""Labelled images beside a threshold: figures and order by hand, and the reasons of failures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from inctrl_core import InctrlError
from inctrl_core.analysis.batch import Batch, BatchRow, QueryFile
from inctrl_core.analysis.corrections import LIGHT, NORMALS, POSITION, SMALL, TEXTURE, Correction
from inctrl_core.analysis.decision import decide
from inctrl_core.analysis.labelled import (
    FALSE_ALARM,
    FOUND,
    MISS,
    PASSED,
    Labelled,
    judge_batch,
    judge_labelled,
    own_threshold,
)
from inctrl_core.analysis.measured_bank import measure_bank
from inctrl_core.analysis.normal_range import NormalRange
from inctrl_core.analysis.patch_scale import PatchScale
from inctrl_core.analysis.reasons import Reasons, explain_failure
from inctrl_core.images.files import open_image
from inctrl_core.images.perturbations import blur, brighten, shift, tint
from inctrl_core.model.score import Score
from tests.support.pictures import ALIKE, CLEAR, FIRST, UPLOADED

BOX = (0.0, 0.0, 80.0, 60.0)
# Of four bad and four good images; the pairs in order are 4 + 4 + 3 + 1 of 16.
BAD, GOOD = (0.9, 0.8, 0.35, 0.15), (0.5, 0.3, 0.2, 0.1)


def score(fused: float, copy_of: int | None = None) -> Score:
    flat, none = np.full((15, 15), fused, np.float32), np.zeros((0, 15, 15))
    return Score(
        fused, fused, fused, 0.0, 0.0, flat, none, none, BOX, "training-free", copy_of=copy_of
    )


def images(bad: tuple[float, ...] = BAD, good: tuple[float, ...] = GOOD) -> list[Labelled]:
    labelled = [(value, True) for value in bad] + [(value, False) for value in good]
    return [
        Labelled(f"{i}.png", score(value), anomalous, i)
        for i, (value, anomalous) in enumerate(labelled)
    ]


def batch(rows: list[tuple[float | None, bool | None]], **changes: object) -> Batch:
    made = tuple(
        BatchRow(QueryFile("", f"{i}.png", label), None if value is None else score(value))
        for i, (value, label) in enumerate(rows)
    )
    ranges = NormalRange((0.1, 0.25), (0.1, 0.25))
    return dataclasses.replace(
        Batch("model", "thing", 2, ranges, PatchScale(0.0, 0.4, 0.2), made), **changes
    )


def names(listed: tuple[Labelled, ...]) -> list[int]:
    return [image.index for image in listed]


class TestFigures:
    def test_by_hand(self):
        result = judge_labelled(images(), 0.32)
        assert result.metrics["auroc"] == pytest.approx(12 / 16)
        # The bad ones are first, second, fourth and seventh of all.
        assert result.metrics["ap"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 7) / 4)
        assert result.counts == {MISS: 1, FALSE_ALARM: 1, FOUND: 3, PASSED: 3}

    def test_the_threshold_moves_counts_and_no_metric(self):
        result = judge_labelled(images(), 0.32)
        moved = result.at(0.55)
        assert moved.counts == {MISS: 2, FALSE_ALARM: 0, FOUND: 2, PASSED: 4}
        assert moved.metrics == result.metrics
        # A score at the threshold is not above it.
        assert result.at(0.5).counts[FALSE_ALARM] == 0 and result.at(0.499).counts[FALSE_ALARM] == 1
        assert result.at(0).counts == {MISS: 0, FALSE_ALARM: 4, FOUND: 4, PASSED: 0}

    def test_misses_come_first_and_the_worst_of_them_before_the_others(self):
        result = judge_labelled(images(), 0.4)
        assert names(result.failures) == [3, 2, 4]
        # Then what is right, nearest to the threshold first.
        assert names(result.ordered) == [3, 2, 4, 1, 0, 5, 6, 7]
        assert names(judge_labelled(images(), 0.05).failures) == [4, 5, 6, 7]

    def test_one_kind_has_no_metrics(self):
        assert judge_labelled(images(good=()), 0.3).metrics is None
        assert judge_labelled(images(bad=()), 0.3).metrics is None

    def test_a_good_image_among_the_normals_does_not_count(self):
        copy = Labelled("normal.png", score(0.0, copy_of=1), False, 8)
        result = judge_labelled([*images(), copy], 0.32)
        assert names(result.among_normals) == [8]
        assert sum(result.counts.values()) == 8 and result.metrics["auroc"] == pytest.approx(0.75)
        assert judge_labelled([copy], 0.3).metrics is None

    def test_a_bad_image_that_is_one_of_the_normals_is_a_miss(self):
        slipped = Labelled("slipped.png", score(0.0, copy_of=0), True, 9)
        result = judge_labelled([*images(), slipped], 0.32)
        assert not result.among_normals and result.counts[MISS] == 2
        assert names(result.failures)[0] == 9

    @pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), None, "0.5", True])
    def test_a_threshold_is_a_number_from_0_to_1(self, wrong):
        with pytest.raises(InctrlError, match="between 0 and 1"):
            judge_labelled(images(), wrong)

    def test_no_image_is_told(self):
        with pytest.raises(InctrlError, match="good or bad"):
            judge_labelled([], 0.5)


class TestBatch:
    def test_only_rows_with_a_label_and_a_score_count(self):
        result = judge_batch(batch([(0.9, True), (0.3, None), (None, True), (0.2, False)]))
        assert names(result.images) == [0, 3]
        assert judge_batch(batch([(0.9, None)])) is None and judge_batch(batch([])) is None

    def test_the_threshold_falls_back_to_the_range_and_then_to_the_good_images(self, detector):
        rows = [(0.9, True), (0.31, False), (0.2, False)]
        assert own_threshold(batch(rows)) == 0.25
        assert own_threshold(batch(rows, ranges=None)) == 0.31
        assert own_threshold(batch([(0.9, True)], ranges=None)) == 0.5
        normals = FIRST.normals
        good = measure_bank(detector, detector.build_bank(normals)).good
        assert own_threshold(batch(rows, good=good)) == decide(good).threshold

    def test_equal_names_are_told_apart(self):
        rows = batch([(0.9, True), (0.3, False)])
        same = [dataclasses.replace(row, file=QueryFile("", "a.png", True)) for row in rows.rows]
        found = judge_batch(dataclasses.replace(rows, rows=tuple(same)))
        assert [image.name for image in found.images] == ["a.png (file 1)", "a.png (file 2)"]


def reasons(anomalous: bool, *corrections: Correction, fused: float = 0.6) -> Reasons:
    return Reasons(anomalous, fused, 0.2, (0, 0), (), corrections)


class TestChoice:
    def test_the_clearest_correction_explains(self):
        light, position = Correction(LIGHT, 0.3, 2.0), Correction(POSITION, 0.25, 10.0)
        found = reasons(False, light, position)
        assert found.explanation(0.4) is position
        assert found.explanation(0.27) is position and found.explanation(0.2) is None
        assert "0.250" in found.told(0.4) and "explains it" in found.told(0.2)

    def test_a_small_change_just_below_the_threshold_explains_nothing(self):
        # It takes away .05 of the .4 that the image exceeds the normals by.
        found = reasons(False, Correction(SMALL, 0.55, 0.0))
        assert found.explanation(0.58) is None and found.helpful == ()
        assert reasons(False, Correction(SMALL, 0.49, 0.0)).explanation(0.58) is not None

    def test_a_miss_must_come_above_the_threshold(self):
        found = reasons(True, Correction(LIGHT, 0.5, 2.0), fused=0.3)
        assert found.explanation(0.5) is None and found.explanation(0.49).cause == LIGHT

    def test_changed_normals_have_a_threshold_of_their_own(self):
        found = reasons(True, Correction(SMALL, 0.5, 2.0, threshold=0.6), fused=0.3)
        assert found.explanation(0.4) is None
        found = reasons(True, Correction(SMALL, 0.65, 2.0, threshold=0.6), fused=0.3)
        assert found.explanation(0.7).cause == SMALL and "0.600" in found.told(0.7)

    @pytest.mark.parametrize("cause", [LIGHT, POSITION, TEXTURE, SMALL, NORMALS])
    @pytest.mark.parametrize("amount", [-1.0, 0.0, 0.5, 2.0])
    @pytest.mark.parametrize("anomalous", [True, False])
    def test_every_cause_has_words_with_its_score(self, cause, amount, anomalous):
        fused = 0.9 if anomalous else 0.1
        assert f"{fused:.3f}" in reasons(anomalous, Correction(cause, fused, amount)).told(0.5)

    def test_what_a_small_mask_marks_is_smaller_than_a_patch(self):
        tiny = dataclasses.replace(reasons(True, fused=0.2), marked=0.18)
        assert tiny.cause(0.5) == SMALL and "0.18" in tiny.told(0.5)
        assert dataclasses.replace(tiny, marked=1.2).cause(0.5) is None
        # A false alarm has no such reason.
        assert dataclasses.replace(tiny, anomalous=False).cause(0.1) is None

    def test_without_a_correction_that_is_said(self):
        assert "explains it" in reasons(True).told(0.7)


class TestReasons:
    """Causes that were made: what was done to a good image is what is found."""

    def explained(self, detector, query, anomalous=False, pictures=ALIKE, threshold=None):
        normals = pictures.normals
        bank = detector.build_bank(normals, pictures.object_name)
        line = decide(measure_bank(detector, bank).good).threshold
        found = explain_failure(detector, normals, query, anomalous, bank)
        return found, found.explanation(threshold or line), threshold or line

    def good(self, pictures=ALIKE):
        return open_image(pictures.good)

    def test_another_light(self, detector):
        yellow = tint(self.good(UPLOADED), (1, 1, 0.5))
        found, why, line = self.explained(detector, yellow, pictures=UPLOADED)
        assert found.fused > line and why.cause == LIGHT and why.fused < line

    def test_darkness(self, detector):
        found, why, _ = self.explained(detector, brighten(self.good(), 45))
        assert why.cause == LIGHT and why.amount > 1.5

    def test_another_position(self, detector):
        turned = self.good().transpose(Image.Transpose.ROTATE_90)
        found, why, line = self.explained(detector, turned)
        assert found.fused > line and why.cause == POSITION and why.amount == 270

    def test_a_blur(self, detector):
        found, why, line = self.explained(detector, blur(self.good(), 4))
        assert found.fused > line and why.cause == TEXTURE and why.amount < 0

    def test_true_damage_under_a_wrong_label_is_explained_by_nothing(self, detector):
        found, why, line = self.explained(detector, ALIKE.bad)
        assert found.fused > line and why is None

    def test_a_single_normal_that_looks_like_the_miss(self, detector, tmp_path):
        bad = open_image(ALIKE.query("paint"))
        slipped = tmp_path / "slipped.png"
        shift(bad, 3, 2).save(slipped)
        normals = [*ALIKE.normals[:4], slipped]
        bank = detector.build_bank(normals, ALIKE.object_name)
        found = explain_failure(detector, normals, ALIKE.query("paint"), True, bank)
        why = found.explanation(0.7)
        assert found.fused < 0.7 and why.cause == NORMALS and why.amount == 4

    def test_damage_smaller_than_a_patch(self, detector):
        rng = np.random.default_rng(0)
        normals = [
            Image.fromarray(np.clip(rng.normal(150, 3, (960, 960, 3)), 0, 255).astype(np.uint8))
            for _ in range(4)
        ]
        pixels = np.array(normals[0])
        pixels = np.clip(pixels + rng.normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)
        pixels[470:482, 470:482] = 60
        bank = detector.build_bank(normals, "plate")
        found = explain_failure(detector, normals, Image.fromarray(pixels), True, bank)
        small = next(one for one in found.corrections if one.cause == SMALL)
        assert small.threshold is not None and small.fused > found.fused
        assert found.explanation(0.99).cause == SMALL

    def test_a_mask_says_where_to_look_and_how_much_it_marks(self, detector):
        normals = CLEAR.normals
        bank = detector.build_bank(normals, CLEAR.object_name)
        query, mask = CLEAR.query("thin_hair"), CLEAR.folder / "masks" / "thin_hair_mask.png"
        found = explain_failure(detector, normals, query, True, bank, str(mask))
        marked = np.asarray(Image.open(mask).convert("L")) > 127
        assert found.marked == pytest.approx(225 * marked.mean(), rel=0.1)
        row, column = found.patch
        height, width = marked.shape
        rows = slice(row * height // 15, -(-(row + 1) * height // 15))
        columns = slice(column * width // 15, -(-(column + 1) * width // 15))
        assert marked[rows, columns].any()

    def test_the_nearest_patch_is_that_of_the_score(self, detector):
        query, normals = FIRST.bad, FIRST.normals
        bank = detector.build_bank(normals, FIRST.object_name)
        found = explain_failure(detector, normals, query, True, bank)
        scored = detector.score([query], bank)[0]
        row, column = found.patch
        assert scored.patch_map[row, column] == scored.patch_map.max()
        near = found.nearest
        assert near.distance == pytest.approx(scored.layer_maps[:, row, column].max())
        place = scored.nearest[near.layer, row, column].tolist()
        assert [near.normal, near.row, near.column] == place
