"""The forms of fusion, on numbers that a person can check."""

from __future__ import annotations

import pytest
import torch

from inctrl_core import ModelError
from inctrl_core.model.evidence import Evidence
from inctrl_core.model.heads import ReferenceHeads, TrainingFreeFusion


def evidence(queries: int = 1) -> Evidence:
    """Map 0.1 .. 0.3 over four patches and two equal depths; global embedding at right angles."""
    maps = torch.tensor([[0.1, 0.1, 0.1, 0.3]]).expand(queries, 2, 4)
    return Evidence(
        layer_maps=maps,
        embeddings=torch.tensor([[1.0, 0.0]]).expand(queries, 2),
        text_anomaly=torch.full((queries,), 0.8),
        normal_embeddings=torch.tensor([[[0.0, 1.0], [-1.0, 0.0]]]),
        normal_layer_maps=None,
    )


def test_training_free_by_hand() -> None:
    fusion = TrainingFreeFusion({"image": 0.5, "text": 0.25})(evidence())
    assert fusion.image_residual.item() == pytest.approx(0.5)  # The closer normal.
    assert fusion.holistic.item() == pytest.approx(0.5 * 0.5 + 0.25 * 0.8)
    assert fusion.fused.item() == pytest.approx((0.45 + 0.3) / 2)


def test_patch_signals_by_hand() -> None:
    fusion = TrainingFreeFusion({"patch_max": 0.5, "patch_mean": 0.5})(evidence())
    assert fusion.holistic.item() == pytest.approx(0.5 * 0.3 + 0.5 * 0.15)
    assert TrainingFreeFusion({"patch_max": 1.0})(evidence()).fused.item() == pytest.approx(0.3)


@pytest.mark.parametrize("weights", [{}, {"text": 0.0}, {"text": -1.0}, {"text": 2.0}, {"x": 0.5}])
def test_unusable_weights(weights: dict) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        TrainingFreeFusion(weights)


def test_reference_heads_treat_each_query_alone() -> None:
    torch.manual_seed(0)
    heads = ReferenceHeads(embed_dim=8, patches=4).eval()
    maps, embeddings = torch.rand(5, 3, 4), torch.randn(5, 8)
    parts = {
        "layer_maps": maps,
        "embeddings": embeddings,
        "text_anomaly": torch.rand(5),
    }
    normals = torch.randn(1, 3, 8)
    with torch.inference_mode():
        together = heads(Evidence(**parts, normal_embeddings=normals, normal_layer_maps=None))
        for i in range(5):
            one = {name: value[i : i + 1] for name, value in parts.items()}
            alone = heads(Evidence(**one, normal_embeddings=normals, normal_layer_maps=None))
            assert alone.fused.item() == pytest.approx(together.fused[i].item(), abs=1e-6)
    assert ((together.fused > 0) & (together.fused < 1)).all()
    expected = (together.holistic + maps.mean(dim=1).amax(dim=1)) / 2
    torch.testing.assert_close(together.fused, expected)
