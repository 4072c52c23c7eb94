"""The steps of a score one by one: each number is that of the score, or leads to it by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from inctrl_core import Detector
from inctrl_core.analysis.explanations import text_evidence
from inctrl_core.analysis.walkthrough import (
    GatedAccount,
    ReferenceAccount,
    TrainingFreeAccount,
    compare_patch,
    fusion_account,
    normal_patch,
)
from inctrl_core.errors import ModelError, PromptError
from inctrl_core.model.backbone import ImageFeatures
from inctrl_core.model.bank import PromptBank, build_prompt_bank
from inctrl_core.model.detector import EncodedImages
from inctrl_core.model.score import Score

GOLDEN = Path(__file__).parents[1] / "golden"
NORMALS = [GOLDEN / f"prompt_{i}.png" for i in range(3)]
QUERY = GOLDEN / "query_1.png"
SPOTS = [(0, 0), (0, 14), (7, 3), (14, 14)]


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


@pytest.fixture(scope="module")
def bank(golden_detector: Detector) -> PromptBank:
    return golden_detector.build_bank(NORMALS, "brick")


@pytest.fixture(scope="module")
def encoded(golden_detector: Detector) -> EncodedImages:
    return golden_detector.encode([QUERY])


@pytest.fixture(scope="module")
def score(golden_detector: Detector, bank: PromptBank, encoded: EncodedImages) -> Score:
    return golden_detector.score_encoded(encoded, bank)[0]


def unit(*rows: tuple[float, float]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(rows), dim=-1)[None]


def test_similarities_by_hand(bank: PromptBank) -> None:
    # A grid of 2 x 2 at one layer: the query's second patch points along (0, 1).
    query = unit((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (1.0, 1.0))
    normal = unit((1.0, 0.0), (3.0, 4.0), (0.0, -1.0), (-1.0, 0.0))
    box = ((0.0, 0.0, 2.0, 2.0),)
    tiny = build_prompt_bank("x", ImageFeatures(torch.eye(2)[:1], (normal,)), bank.text, box)
    encoded = EncodedImages(ImageFeatures(torch.eye(2)[:1], (query,)), box)
    comparison = compare_patch(tiny, encoded, 0, 1)
    np.testing.assert_allclose(comparison.similarities, [[[[0.0, 0.8], [-1.0, 0.0]]]], atol=1e-7)
    assert comparison.best(0) == (0, 0, 1)
    np.testing.assert_array_equal(comparison.features[0], [0.0, 1.0])
    np.testing.assert_allclose(normal_patch(tiny, 0, 0, 0, 1), [0.6, 0.8], atol=1e-7)


@pytest.mark.parametrize(("row", "column"), SPOTS)
def test_the_largest_similarity_is_the_patch_residual(
    bank: PromptBank, encoded: EncodedImages, score: Score, row: int, column: int
) -> None:
    comparison = compare_patch(bank, encoded, row, column)
    assert comparison.similarities.shape == (len(score.layer_maps), 3, 15, 15)
    for layer, values in enumerate(score.layer_maps):
        best = comparison.similarities[layer].max()
        assert best == pytest.approx(1 - 2 * values[row, column], abs=1e-6)
        assert comparison.best(layer) == tuple(score.nearest[layer, row, column])


def test_every_similarity_is_the_product_of_both_patches(
    bank: PromptBank, encoded: EncodedImages
) -> None:
    comparison = compare_patch(bank, encoded, 7, 3)
    for layer, features in enumerate(comparison.features):
        assert np.linalg.norm(features) == pytest.approx(1, abs=1e-5)
        for normal, (row, column) in enumerate(SPOTS[:3]):
            product = features @ normal_patch(bank, layer, normal, row, column)
            shown = comparison.similarities[layer, normal, row, column]
            assert product == pytest.approx(shown, abs=1e-6)


@pytest.mark.parametrize(("row", "column"), [(-1, 0), (0, 15), (15, 0)])
def test_a_patch_outside_the_grid_is_refused(
    bank: PromptBank, encoded: EncodedImages, row: int, column: int
) -> None:
    with pytest.raises(PromptError, match="between 1 and 15"):
        compare_patch(bank, encoded, row, column)
    with pytest.raises(PromptError, match="between 1 and 15"):
        normal_patch(bank, 0, 0, row, column)


def test_the_reference_form_adds_up_to_its_score(
    golden_detector: Detector, bank: PromptBank, encoded: EncodedImages, score: Score
) -> None:
    account = fusion_account(golden_detector, bank, encoded, score)
    assert isinstance(account, ReferenceAccount)
    shift = score.image_residual + score.text_anomaly
    np.testing.assert_allclose(account.shifted_map - score.patch_map, shift, atol=1e-6)
    heads = golden_detector.heads
    with torch.inference_mode():
        read = heads.map_head(torch.from_numpy(account.shifted_map).reshape(1, -1))
        image = heads.image_head(torch.from_numpy(account.residual)[None])
    assert float(read) == pytest.approx(score.holistic, abs=1e-5)
    assert float(image) == pytest.approx(score.image_residual, abs=1e-5)
    assert account.map_layers == (225, 128, 64, 1)
    assert account.image_layers == (len(account.residual), 128, 64, 1)


def test_the_training_free_form_adds_up_to_its_score(
    golden_detector: Detector, bank: PromptBank, encoded: EncodedImages
) -> None:
    bare = golden_detector.training_free()
    score = bare.score_encoded(encoded, bank)[0]
    account = fusion_account(bare, bank, encoded, score)
    assert isinstance(account, TrainingFreeAccount)
    assert len(account.distances) == 3
    assert min(account.distances) == pytest.approx(score.image_residual, abs=1e-6)
    assert [(term.signal, term.weight) for term in account.terms] == [("text", 1.0)]
    total = sum(term.weight * term.value for term in account.terms)
    assert total == pytest.approx(score.holistic, abs=1e-6)
    assert (total + score.patch_max) / 2 == pytest.approx(score.fused, abs=1e-6)


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize("looks_for", ["decide", "flaw", "kind"])
def test_the_gated_form_adds_up_to_its_score(
    gated_detector: Detector,
    bank: PromptBank,
    encoded: EncodedImages,
    shots: int,
    looks_for: str,
) -> None:
    some = bank.subset(range(shots)).with_looks_for(looks_for)
    score = gated_detector.score_encoded(encoded, some)[0]
    account = fusion_account(gated_detector, some, encoded, score)
    assert isinstance(account, GatedAccount)
    parts = account.breakdown
    assert parts.looks_for == looks_for
    assert parts.shares[0].value == pytest.approx(score.patch_max, abs=1e-6)
    assert parts.shares[2].value == pytest.approx(score.patch_map.mean(), abs=1e-6)
    for share in parts.shares:
        assert share.share == pytest.approx(share.weight * share.deviation, abs=1e-5)
    total = sum(share.share for share in parts.shares) - parts.offset
    assert total == pytest.approx(parts.log_odds, abs=1e-4)
    assert sigmoid(parts.log_odds) == pytest.approx(score.fused, abs=1e-6)
    assert sum(map(parts.of, ("patches", "image", "text"))) == pytest.approx(total + parts.offset)
    assert sigmoid(account.image_deviation) == pytest.approx(score.image_residual, abs=1e-5)
    assert sigmoid(account.text_deviation) == pytest.approx(score.text_anomaly, abs=1e-5)
    text = parts.shares[-1].value
    assert text == pytest.approx(text_evidence(some, encoded).share, abs=1e-6)


def test_the_deviations_are_those_of_the_population(
    gated_detector: Detector, bank: PromptBank, encoded: EncodedImages
) -> None:
    """With one normal nothing but the population's level is expected."""
    alone = bank.subset([0])
    score = gated_detector.score_encoded(encoded, alone)[0]
    account = fusion_account(gated_detector, alone, encoded, score)
    population = gated_detector.heads.population
    by_hand = {0: math.log(score.patch_max), -3: math.log(account.distances[0])}
    for index, value in by_hand.items():
        level, spread = (float(t[0, index]) for t in (population.level, population.spread))
        expected = np.clip((value - level) / spread, -12, 12)
        assert account.breakdown.shares[index].deviation == pytest.approx(expected, abs=1e-3)


def test_an_unknown_form_is_named(
    golden_detector: Detector, bank: PromptBank, encoded: EncodedImages, score: Score
) -> None:
    other = Detector(golden_detector.config, golden_detector.backbone, torch.nn.Identity())
    with pytest.raises(ModelError, match="step by step"):
        fusion_account(other, bank, encoded, score)
