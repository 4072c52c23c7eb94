"""The recorded figures of the reference implementation, through the public API."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inctrl_core import Detector

GOLDEN = Path(__file__).parents[1] / "golden"
SCALARS = {
    "final": "fused",
    "holistic": "holistic",
    "image_residual": "image_residual",
    "text_anomaly": "text_anomaly",
    "patch_max": "patch_max",
}


def prompts(count: int) -> list[Path]:
    return [GOLDEN / f"prompt_{i}.png" for i in range(count)]


def queries() -> list[Path]:
    return [GOLDEN / f"query_{i}.png" for i in range(3)]


def test_every_recorded_figure(golden: dict, golden_detector: Detector) -> None:
    assert len(golden["cases"]) == 27
    banks = {}
    for case in golden["cases"]:
        key = case["object_name"], case["shots"]
        if key not in banks:
            banks[key] = golden_detector.build_bank(prompts(case["shots"]), case["object_name"])
        score = golden_detector.score([GOLDEN / f"query_{case['query']}.png"], banks[key])[0]
        for recorded, ours in SCALARS.items():
            assert getattr(score, ours) == pytest.approx(case[recorded], abs=1e-5), (key, recorded)
        np.testing.assert_allclose(score.patch_map.ravel(), case["patch_map"], rtol=0, atol=1e-5)


def test_batch_order_and_permutation_change_nothing(golden_detector: Detector) -> None:
    bank = golden_detector.build_bank(prompts(4), "brick")
    permuted = golden_detector.build_bank([prompts(4)[i] for i in (2, 0, 3, 1)], "brick")
    alone = [golden_detector.score([query], bank)[0] for query in queries()]
    together = golden_detector.score(queries(), bank)
    reversed_ = golden_detector.score(queries()[::-1], permuted)[::-1]
    for one, batch, other in zip(alone, together, reversed_, strict=True):
        for score in (batch, other):
            for name in SCALARS.values():
                assert getattr(score, name) == pytest.approx(getattr(one, name), abs=1e-6)
            np.testing.assert_allclose(score.layer_maps, one.layer_maps, rtol=0, atol=1e-6)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(order[reversed_[0].nearest[..., 0]], alone[0].nearest[..., 0])
    np.testing.assert_array_equal(reversed_[0].nearest[..., 1:], alone[0].nearest[..., 1:])


def test_scores_are_the_same_every_time(golden_detector: Detector) -> None:
    first, second = (
        golden_detector.score(queries(), golden_detector.build_bank(prompts(2), "brick"))
        for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        assert a.to_dict() == b.to_dict()


def test_a_query_among_the_normals_has_no_residual(golden_detector: Detector) -> None:
    bank = golden_detector.build_bank([queries()[0], *prompts(2)], "brick")
    score = golden_detector.score([queries()[0]], bank)[0]
    assert score.patch_max < 1e-6
    assert (score.nearest[..., 0] == 0).all()
    rows, columns = np.mgrid[:15, :15]
    assert (score.nearest[..., 1] == rows).all() and (score.nearest[..., 2] == columns).all()


def test_normal_scored_from_the_bank_equals_scoring_its_file(golden_detector: Detector) -> None:
    bank = golden_detector.build_bank(prompts(3), "brick")
    inside = golden_detector.score_normal(1, bank)
    outside = golden_detector.score([prompts(3)[1]], bank.without(1))[0]
    assert inside.fused == pytest.approx(outside.fused, abs=1e-6)
    np.testing.assert_allclose(inside.layer_maps, outside.layer_maps, rtol=0, atol=1e-6)
    assert (inside.nearest == -1).all()


def test_without_trained_heads_the_score_is_the_mean_of_patch_maximum_and_text(
    golden_detector: Detector,
) -> None:
    bare = golden_detector.training_free()
    bank = bare.build_bank(prompts(2), "brick")
    score = bare.score(queries()[:1], bank)[0]
    trained = golden_detector.score(queries()[:1], bank)[0]
    assert (score.fusion, trained.fusion) == ("training-free", "trained")
    assert score.holistic == pytest.approx(score.text_anomaly, abs=1e-7)
    assert score.fused == pytest.approx((score.text_anomaly + score.patch_max) / 2, abs=1e-6)
    np.testing.assert_array_equal(score.layer_maps, trained.layer_maps)
