"""What is said about a score, on features small enough to work out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from inctrl_core.analysis import explanations, stress
from inctrl_core.analysis.normal_range import normal_range
from inctrl_core.analysis.patch_scale import NARROWEST_SCALE, UNCALIBRATED_HIGH, patch_scale
from inctrl_core.config import BackboneConfig, HeadsConfig, ModelConfig
from inctrl_core.errors import PromptError
from inctrl_core.model.backbone import ImageFeatures
from inctrl_core.model.bank import PromptBank, build_prompt_bank, build_text_features
from inctrl_core.model.detector import Detector, EncodedImages
from inctrl_core.model.heads import TrainingFreeFusion
from inctrl_core.model.prompts import PromptSet

GOLDEN = Path(__file__).parents[1] / "golden"
BOX = (0.0, 0.0, 1.0, 1.0)
# Image, patch and text directions in the plane: half the cosine distance between two of them is
# (1 - cos(difference)) / 2.
TEXT = build_text_features(
    PromptSet(("good",), ("bad",)), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
)


class StubBackbone:
    """Diagnostics must never run the backbone: this one has no passes to run."""

    device = torch.device("cpu")
    map = staticmethod(map)


def at(*degrees: float) -> torch.Tensor:
    angles = torch.tensor([math.radians(d) for d in degrees], dtype=torch.float64)
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


def distance(degrees: float) -> float:
    return (1 - math.cos(math.radians(degrees))) / 2


def encoded(*degrees: float) -> EncodedImages:
    """Images of one patch; embedding and patch point the same way."""
    directions = at(*degrees)
    features = ImageFeatures(directions, (directions[:, None],))
    return EncodedImages(features, (BOX,) * len(degrees))


def bank(*degrees: float) -> PromptBank:
    images = encoded(*degrees)
    return build_prompt_bank("thing", images.features, TEXT, images.crop_boxes)


@pytest.fixture
def detector() -> Detector:
    """Its fused is (image distance + patch_max) / 2, so each part is seen in it."""
    config = ModelConfig(
        name="by hand",
        backbone=BackboneConfig(architecture={"embed_dim": 2}, depths=(0,), grid=1),
        heads=HeadsConfig("training-free"),
    )
    return Detector(config, StubBackbone(), TrainingFreeFusion({"image": 1.0}))


def test_normal_range_scores_each_normal_against_the_others(detector):
    ranges = normal_range(detector, bank(0, 10, 40))
    # The closest other normal is 10, 10 and 30 degrees away; image and patch say the same.
    assert ranges.fused == pytest.approx([distance(10), distance(10), distance(30)], abs=1e-6)
    assert ranges.patch_max == pytest.approx(ranges.fused, abs=1e-6)
    assert ranges.lowest == pytest.approx(distance(10), abs=1e-6)
    assert ranges.highest == pytest.approx(distance(30), abs=1e-6)


def test_one_normal_has_no_range(detector):
    assert normal_range(detector, bank(0)) is None
    scale = patch_scale(bank(0))
    assert (scale.low, scale.high, scale.normal_high) == (0.0, UNCALIBRATED_HIGH, None)


def test_the_scale_is_twice_the_largest_difference_among_the_normals():
    scale = patch_scale(bank(0, 10, 40))
    assert scale.normal_high == pytest.approx(distance(30), abs=1e-6)
    assert scale.high == pytest.approx(2 * distance(30), abs=1e-6)
    assert patch_scale(bank(0, 10, 40), layer=0) == scale


def test_normals_alike_do_not_shrink_the_scale_to_nothing():
    assert patch_scale(bank(5, 7)).high == NARROWEST_SCALE
    # Copies of one image say nothing of how far apart normals lie.
    assert patch_scale(bank(5, 5)).high == UNCALIBRATED_HIGH


def test_the_ledger_puts_the_closest_normal_in_the_query_s_place(detector):
    normals, query = bank(0, 10, 40), encoded(100)
    score = detector.score_encoded(query, normals)[0]
    ledger = explanations.fusion_ledger(detector, normals, query, score)
    patches, image, text = ledger.entries
    assert ledger.closest == 2
    assert ledger.fused == pytest.approx(distance(60), abs=1e-6)
    # Without its patches: the third normal's own distance to the others, 30 degrees.
    assert patches.signal == "patches"
    assert patches.value == pytest.approx(distance(60), abs=1e-6)
    assert patches.neutral == pytest.approx(distance(30), abs=1e-6)
    assert patches.fused_without == pytest.approx((distance(60) + distance(30)) / 2, abs=1e-6)
    assert patches.change == pytest.approx(ledger.fused - patches.fused_without, abs=1e-6)
    # Without the image: the same 30 degrees, the closest normal's embedding against the others'.
    assert (image.signal, image.neutral) == ("image", pytest.approx(distance(30), abs=1e-6))
    assert image.fused_without == pytest.approx((distance(60) + distance(30)) / 2, abs=1e-6)
    # This fusion does not read the text.
    assert (text.signal, text.change) == ("text", 0.0)
    assert text.value > text.neutral


def test_the_ledger_of_the_text(detector):
    detector.heads = TrainingFreeFusion({"text": 1.0})
    normals, query = bank(10), encoded(45)
    score = detector.score_encoded(query, normals)[0]
    ledger = explanations.fusion_ledger(detector, normals, query, score)
    patches, image, text = ledger.entries
    normal_share = 1 / (
        1 + math.exp(100 * (math.cos(math.radians(10)) - math.sin(math.radians(10))))
    )
    assert text.value == pytest.approx(0.5, abs=1e-4)
    assert text.neutral == pytest.approx(normal_share, abs=1e-6)
    assert text.change == pytest.approx((0.5 - normal_share) / 2, abs=1e-4)
    assert image.change == pytest.approx(0.0, abs=1e-6)
    # A single normal has no others to differ from: it is at no distance.
    assert patches.neutral == 0.0
    assert image.neutral == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["golden_detector", "gated_detector"])
@pytest.mark.parametrize("shots", [1, 2, 4])
def test_the_ledger_of_every_form_knows_the_closest_normal(name, shots, request):
    detector = request.getfixturevalue(name)
    normals = detector.build_bank([GOLDEN / f"prompt_{i}.png" for i in range(shots)], "brick")
    query = detector.encode([GOLDEN / "query_0.png"])
    score = detector.score_encoded(query, normals)[0]
    ledger = explanations.fusion_ledger(detector, normals, query, score)
    patches, image, _ = ledger.entries
    assert (patches.value, image.value) == (score.patch_max, score.image_residual)
    if shots > 1:
        alone = detector.score_normal(ledger.closest, normals)
        assert patches.neutral == alone.patch_max
        assert image.neutral == pytest.approx(alone.image_residual, abs=1e-6)


def test_text_evidence_ranks_the_phrases():
    text = build_text_features(PromptSet(("a", "b", "c"), ("d",)), at(80, 30, 50), at(90))
    evidence = explanations.text_evidence(bank(0).with_text("thing", text), encoded(45), top=2)
    assert [match.phrase for match in evidence.normal] == ["c", "b"]
    assert evidence.normal[0].cosine == pytest.approx(math.cos(math.radians(5)), abs=1e-6)
    assert [match.phrase for match in evidence.anomaly] == ["d"]
    # The closest of all is 5 degrees away, and the next of its group 15.
    gap = math.cos(math.radians(5)) - math.cos(math.radians(15))
    assert [match.weight for match in evidence.normal] == pytest.approx(
        [1.0, math.exp(-100 * gap)], rel=1e-3
    )
    assert evidence.anomaly_cosine == pytest.approx(math.cos(math.radians(45)), abs=1e-6)


def test_text_evidence_gives_the_share_of_query_and_normals():
    evidence = explanations.text_evidence(bank(45, 46), encoded(44))

    def share(degrees: float) -> float:
        angle = math.radians(degrees)
        return 1 / (1 + math.exp(100 * (math.cos(angle) - math.sin(angle))))

    assert evidence.share == pytest.approx(share(44), abs=1e-5)
    assert evidence.normal_shares == pytest.approx((share(45), share(46)), abs=1e-5)


def test_patch_matches_name_the_closest_normal(detector):
    score = detector.score_encoded(encoded(35), bank(0, 10, 40))[0]
    (match,) = explanations.patch_matches(score, 0, 0)
    assert (match.layer, match.normal, match.row, match.column) == (0, 2, 0, 0)
    assert match.distance == pytest.approx(distance(5), abs=1e-6)
    with pytest.raises(PromptError, match="between 1 and 1"):
        explanations.patch_matches(score, 0, 1)


def test_drop_one_finds_the_normal_that_carries_the_result(detector):
    dropped = stress.drop_one(detector, bank(0, 10, 40), encoded(40))
    assert [d.index for d in dropped] == [0, 1, 2]
    assert [d.change for d in dropped] == pytest.approx([0, 0, distance(30)], abs=1e-6)
    with pytest.raises(PromptError, match="second normal"):
        stress.drop_one(detector, bank(0), encoded(40))


def test_the_curve_over_shots_ends_at_the_full_score_and_never_rises_on_average(detector):
    normals = bank(0, 10, 20, 40)
    query = encoded(70)
    curve = stress.shots_curve(detector, normals, query, draws=20)
    assert [point.shots for point in curve] == [1, 2, 3, 4]
    full = detector.score_encoded(query, normals)[0].fused
    assert curve[-1].fused == (full,)
    assert sorted(curve[0].fused) == pytest.approx(
        [distance(d) for d in (30, 50, 60, 70)], abs=1e-6
    )
    means = [sum(point.fused) / len(point.fused) for point in curve]
    assert means == sorted(means, reverse=True)
    again = stress.shots_curve(detector, normals, query, draws=20)
    assert again == curve
