"""The tensor functions, against numbers a person can check."""

from __future__ import annotations

import doctest

import pytest
import torch
import torch.nn.functional as F

from inctrl_core.model import residuals
from inctrl_core.model.residuals import (
    average_by_products,
    global_distance,
    layer_residuals,
    leave_one_out,
    nearest_patches,
    pairwise_residuals,
    resample_to_grid,
    text_anomaly,
    text_prototype,
)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


def test_examples_in_the_docstrings() -> None:
    failures, tried = doctest.testmod(residuals)
    assert tried >= 5 and failures == 0


def test_nearest_patch_and_its_index() -> None:
    right, up, left = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]
    query = torch.tensor([[right, up, [0.6, 0.8]]])
    normals = torch.tensor([[up, left], [right, left]])
    distances, indices = nearest_patches(query, normals)
    assert distances[0].tolist() == pytest.approx([0.0, 0.0, 0.1])
    assert indices.tolist() == [[2, 0, 0]]


def test_opposite_of_everything_is_one() -> None:
    query = torch.tensor([[[0.0, -1.0]]])
    assert nearest_patches(query, -query)[0].item() == 1.0


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    query, normals = unit(3, 20, 8), unit(2, 20, 8, seed=1)
    whole = nearest_patches(query, normals)
    monkeypatch.setattr(residuals, "_CHUNK_ELEMENTS", 100)
    parts = nearest_patches(query, normals)
    torch.testing.assert_close(whole[0], parts[0], rtol=0, atol=1e-6)
    assert torch.equal(whole[1], parts[1])


def test_a_batch_gives_each_query_its_own_bits() -> None:
    query, normals = unit(5, 30, 16), unit(4, 30, 16, seed=1)
    together = nearest_patches(query, normals)[0]
    for i in range(5):
        assert torch.equal(together[i : i + 1], nearest_patches(query[i : i + 1], normals)[0])


def test_more_normals_never_raise_the_distance() -> None:
    query, normals = unit(1, 30, 8), unit(6, 30, 8, seed=1)
    previous = torch.ones(1, 30)
    for shots in range(1, 7):
        distances = nearest_patches(query, normals[:shots])[0]
        assert (distances <= previous + 1e-7).all()
        previous = distances


def test_layers_are_stacked_in_order() -> None:
    query, normals = [unit(2, 9, 4), unit(2, 9, 6)], [unit(3, 9, 4, seed=1), unit(3, 9, 6, seed=2)]
    maps, indices = layer_residuals(query, normals)
    assert maps.shape == indices.shape == (2, 2, 9)
    assert torch.equal(maps[:, 1], nearest_patches(query[1], normals[1])[0])


def test_leave_one_out_equals_leaving_one_out() -> None:
    normals = [unit(4, 9, 5), unit(4, 9, 7, seed=1)]
    maps = leave_one_out(pairwise_residuals(normals))
    assert maps.shape == (4, 2, 9)
    for i in range(4):
        others = [torch.cat([depth[:i], depth[i + 1 :]]) for depth in normals]
        direct, _ = layer_residuals([depth[i : i + 1] for depth in normals], others)
        torch.testing.assert_close(maps[i : i + 1], direct, rtol=0, atol=1e-6)


def test_leave_one_out_needs_two() -> None:
    with pytest.raises(ValueError, match="two normals"):
        leave_one_out(torch.zeros(1, 1, 3, 9))


def test_resampling_averages_down_and_interpolates_up() -> None:
    fine = torch.arange(16.0).view(1, 1, 4, 4)
    assert resample_to_grid(fine, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    coarse = torch.tensor([[[[0.0, 4.0]]]]).expand(1, 1, 2, 2)
    assert resample_to_grid(coarse, 4)[0, :4, 0].tolist() == [0.0, 1.0, 3.0, 4.0]
    same = torch.randn(2, 3, 5, 5)
    assert torch.equal(resample_to_grid(same, 5), same.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("sides", [(36, 36), (18, 30), (9, 17), (15, 16)])
def test_averages_by_products_are_those_of_adaptive_pooling(sides: tuple[int, int]) -> None:
    features = unit(2, 4, *sides)
    for grid in (1, 2, 15):
        expected = F.adaptive_avg_pool2d(features, grid)
        assert torch.allclose(average_by_products(features, grid), expected, rtol=0, atol=1e-6)


def test_prototype_is_the_mean_direction() -> None:
    prototype = text_prototype(torch.tensor([[10.0, 0.0], [0.0, 0.1]]))
    assert prototype.tolist() == pytest.approx([0.5**0.5, 0.5**0.5])


def test_text_anomaly_by_hand() -> None:
    normal, anomaly = torch.eye(2)
    image = torch.tensor([[0.6, 0.8], [8.0, 6.0]])
    result = text_anomaly(image, normal, anomaly, scale=10.0)
    expected = 1 / (1 + torch.exp(torch.tensor([-2.0, 2.0])))  # Cosines differ by 0.2.
    torch.testing.assert_close(result, expected)


def test_global_distance_by_hand() -> None:
    distance = global_distance(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 5.0]]))
    assert distance.tolist() == [[0.0, 0.5]]


def test_global_distance_to_normals_of_ones_own() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    own = torch.tensor([[[1.0, 0.0]], [[0.0, -1.0]]])
    assert global_distance(queries, own).tolist() == [[0.0], [1.0]]
    assert torch.equal(global_distance(queries, own[:1]), global_distance(queries, own[0]))
