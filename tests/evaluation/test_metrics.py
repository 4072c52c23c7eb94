"""Metrics against numbers computed by hand and against the plain computation."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from inctrl_core.analysis import metrics as of_images
from inctrl_core.analysis.metrics import image_metrics
from inctrl_core.evaluation import metrics
from inctrl_core.evaluation.metrics import (
    NO_DEFECT,
    defect_pixels,
    pixel_metrics,
    upsample_maps,
)


def test_examples_in_the_documentation() -> None:
    result = doctest.testmod(of_images)
    assert result.attempted > 0 and result.failed == 0


def test_image_metrics_by_hand() -> None:
    # Of 2 x 3 pairs five are in order; precision at the two positives is 1/1 and 2/3.
    labels = np.array([True, False, True, False, False])
    found = image_metrics(labels, np.array([0.9, 0.8, 0.7, 0.2, 0.1]))
    assert found["auroc"] == pytest.approx(5 / 6)
    assert found["ap"] == pytest.approx((1 + 2 / 3) / 2)


def test_ties_count_half() -> None:
    found = image_metrics(np.array([True, False]), np.array([0.5, 0.5]))
    # Both or neither lie above a threshold: precision 1/2, recall 1.
    assert found == {"auroc": 0.5, "ap": 0.5, "f1_max": pytest.approx(2 / 3)}


@pytest.mark.parametrize("seed", range(20))
def test_image_metrics_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(60) < 0.3
    labels[:2] = True, False
    scores = rng.integers(0, 9, 60) / 9.0 if seed % 2 else rng.random(60)  # With ties, without.
    found = image_metrics(labels, scores)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert found["ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_f1_max_by_hand() -> None:
    labels = np.array([True, False, True, False, False])
    # Above .7 lie two of two anomalous images and one good one.
    found = image_metrics(labels, np.array([0.9, 0.8, 0.7, 0.2, 0.1]))
    assert found["f1_max"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    reversed_ = image_metrics(labels, -np.array([0.9, 0.8, 0.7, 0.2, 0.1]))
    assert reversed_["f1_max"] == pytest.approx(2 * 2 / (2 * 2 + 3))  # All are called anomalous.
    assert image_metrics(labels, labels.astype(float))["f1_max"] == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_f1_max_is_that_of_the_best_of_all_thresholds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(40) < 0.3
    labels[:2] = True, False
    scores = rng.integers(0, 8, 40) / 8.0 if seed % 2 else rng.random(40)  # With ties, without.
    best = 0.0
    for threshold in scores:
        called = scores >= threshold
        hits, false = (called & labels).sum(), (called & ~labels).sum()
        best = max(best, 2 * hits / (2 * hits + false + (~called & labels).sum()))
    assert image_metrics(labels, scores)["f1_max"] == pytest.approx(best, abs=1e-12)


def test_regions_weigh_the_same() -> None:
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = True
    mask[3:5, 3:5] = True
    mask[2, 2] = True  # Touches the square by its corner.
    found = defect_pixels(mask)
    assert found.regions == 2
    assert found.weight.sum() == pytest.approx(2)
    assert dict(zip(found.index.tolist(), found.weight.tolist(), strict=True)) == {
        0: 1.0,
        14: 0.2,
        21: 0.2,
        22: 0.2,
        27: 0.2,
        28: 0.2,
    }


def test_perfect_and_reversed_maps() -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:4] = True
    maps = mask[None].astype(np.float32)
    truth = [defect_pixels(mask)]
    assert pixel_metrics(maps, truth, 8) == {"pixel_auroc": 1.0, "aupro": 1.0}
    assert pixel_metrics(1 - maps, truth, 8) == {"pixel_auroc": 0.0, "aupro": 0.0}


def test_constant_map_is_chance() -> None:
    mask = np.eye(8, dtype=bool)
    found = pixel_metrics(np.full((1, 8, 8), 0.3, np.float32), [defect_pixels(mask)], 8)
    assert found["pixel_auroc"] == pytest.approx(0.5)
    assert found["aupro"] == pytest.approx(0.15)  # Half of limit squared, over the limit.


def test_aupro_by_hand() -> None:
    # Two defects of one pixel each: one above all normal pixels, one below 14 of the 142, so the
    # share found is 1/2 up to the rate of 14 / 142, and 1 from there.
    scores = np.zeros((1, 12, 12), np.float32)
    mask = np.zeros((12, 12), bool)
    mask[0, 0] = mask[6, 6] = True
    scores[0, 0, 0], scores[0, 6, 6] = 1.0, 0.8
    flat = scores[0].ravel()
    normal = np.flatnonzero(~mask.ravel())
    flat[normal[:14]] = 0.9
    found = pixel_metrics(scores, [defect_pixels(mask)], 12)
    rate = 14 / 142
    assert found["aupro"] == pytest.approx((0.5 * rate + (0.3 - rate)) / 0.3, abs=1e-9)
    assert found["pixel_auroc"] == pytest.approx((142 + 128) / (2 * 142), abs=1e-9)


def test_aupro_ends_at_the_foot_of_a_step() -> None:
    # 3 of 10 normal pixels lie above the one region, and the curve rises there.
    negative, positive = np.array([0.0, 7.0, 0.0, 3.0]), np.array([0.0, 0.0, 1.0, 0.0])
    assert metrics._weighted_partial_area(negative, positive, 0.3) == 0.0
    assert metrics._weighted_partial_area(negative, positive, 0.6) == pytest.approx(0.5)


def test_binned_equals_plain_computation() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((70, 5, 5), dtype=np.float32) * 0.2 + 0.05
    masks = rng.random((70, 40, 40)) < 0.02
    masks[::2] = False
    truth = [defect_pixels(mask) if mask.any() else NO_DEFECT for mask in masks]
    found = pixel_metrics(maps, truth, 40)
    plain = upsample_maps(maps, 40)
    expected = roc_auc_score(masks.ravel(), plain.ravel())
    assert found["pixel_auroc"] == pytest.approx(expected, abs=1e-5)
    assert found["aupro"] == pytest.approx(slow_aupro(plain, masks), abs=2e-3)


def slow_aupro(maps: np.ndarray, masks: np.ndarray) -> float:
    """Share of each region above a threshold, averaged, at 301 false-positive rates."""
    regions = []
    for values, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [values[labels == i] for i in range(1, count + 1)]
    normal = np.sort(maps[~masks])[::-1]
    rates = np.linspace(0, 0.3, 301)
    thresholds = normal[(rates * len(normal)).astype(int)]
    shares = [np.mean([(region > t).mean() for region in regions]) for t in thresholds]
    return float(np.trapezoid(shares, rates) / 0.3)


def test_upsampling_keeps_mean_and_place() -> None:
    grid = np.zeros((1, 15, 15), np.float32)
    grid[0, 4, 10] = 1.0
    found = upsample_maps(grid, 240)[0]
    assert found.shape == (240, 240)
    row, column = np.unravel_index(found.argmax(), found.shape)
    assert (row // 16, column // 16) == (4, 10)
    assert found.sum() == pytest.approx(256, rel=1e-5)
