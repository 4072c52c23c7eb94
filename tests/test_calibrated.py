"""The calibrated form: invariances, K = 1, its arithmetic by hand, and its options."""

import numpy as np
import pytest
import torch

from inctrl_core.config import BackboneConfig, HeadsConfig
from inctrl_core.errors import ModelError
from inctrl_core.model.calibrated import (
    LIMIT,
    MAX_SHOTS,
    BankStatistics,
    CalibratedHeads,
    Population,
    count_statistics,
    order_statistics,
    query_statistics,
)
from inctrl_core.model.evidence import Evidence
from inctrl_core.model.heads import build_heads
from inctrl_core.model.residuals import leave_one_out

DEPTHS, PATCHES, WIDTH = 3, 225, 16
BACKBONE = BackboneConfig({"embed_dim": WIDTH, "vision_cfg": {}, "text_cfg": {}}, (2, 3, 4))


def make_evidence(shots, queries=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    pairwise = 0.05 + 0.3 * torch.rand(shots, shots, DEPTHS, PATCHES, generator=g)
    return Evidence(
        layer_maps=0.02 + 0.3 * torch.rand(queries, DEPTHS, PATCHES, generator=g),
        embeddings=torch.randn(queries, WIDTH, generator=g),
        text_anomaly=torch.rand(queries, generator=g),
        normal_embeddings=torch.randn(1, shots, WIDTH, generator=g),
        normal_layer_maps=leave_one_out(pairwise)[None] if shots > 1 else None,
    )


def part(evidence, queries):
    return Evidence(
        evidence.layer_maps[queries],
        evidence.embeddings[queries],
        evidence.text_anomaly[queries],
        evidence.normal_embeddings,
        evidence.normal_layer_maps,
    )


@pytest.fixture(scope="module")
def heads():
    torch.manual_seed(0)
    made = CalibratedHeads(DEPTHS).eval()
    banks = []
    for seed in range(8):
        for shots in (1, 2, 4):
            queries, among = query_statistics(make_evidence(shots, seed=seed))
            banks.append(BankStatistics(queries, None if among is None else among[0]))
    made.population.fit(banks)
    return made.requires_grad_(False)


@pytest.mark.parametrize("shots", [1, 2, 3, 8, MAX_SHOTS])
def test_scores_are_finite_and_in_range_for_every_k(heads, shots):
    fusion = heads(make_evidence(shots))
    for value in (fusion.fused, fusion.holistic, fusion.image_residual):
        assert value.shape == (5,)
        assert torch.isfinite(value).all() and value.min() >= 0 and value.max() <= 1
    assert fusion.fused.std() > 0


@pytest.mark.parametrize("shots", [1, 4])
def test_batch_does_not_matter(heads, shots):
    evidence = make_evidence(shots)
    whole = heads(evidence)
    for i in range(5):
        one = heads(part(evidence, [i]))
        assert torch.allclose(one.fused, whole.fused[i : i + 1], atol=1e-6)
        assert torch.allclose(one.image_residual, whole.image_residual[i : i + 1], atol=1e-6)


def test_order_of_the_normals_does_not_matter(heads):
    evidence = make_evidence(4)
    order = [2, 0, 3, 1]
    turned = Evidence(
        evidence.layer_maps,
        evidence.embeddings,
        evidence.text_anomaly,
        evidence.normal_embeddings[:, order],
        evidence.normal_layer_maps[:, order],
    )
    assert torch.allclose(heads(turned).fused, heads(evidence).fused, atol=1e-6)


def test_normals_of_each_query_give_what_a_shared_bank_gives(heads):
    evidence = make_evidence(4)
    own = Evidence(
        evidence.layer_maps,
        evidence.embeddings,
        evidence.text_anomaly,
        evidence.normal_embeddings.expand(5, -1, -1),
        evidence.normal_layer_maps.expand(5, -1, -1, -1),
    )
    assert torch.allclose(heads(own).fused, heads(evidence).fused, atol=1e-6)


def test_order_statistics_by_hand():
    maps = torch.zeros(1, 1, 225)
    maps[0, 0, :3] = torch.tensor([0.3, 0.6, 0.9])
    expected = [0.9, 0.6, 0.3, 0.15, 1.8 / 25, 1.8 / 50, 1.8 / 112, 1.8 / 225]
    found = order_statistics(maps).exp()
    # One depth: the mean map and the depth are the same.
    assert np.allclose(found[0], expected * 2, rtol=1e-5)


def test_order_statistics_ignore_where_patches_are():
    maps = torch.rand(2, DEPTHS, PATCHES)
    order = torch.randperm(PATCHES)
    assert torch.allclose(order_statistics(maps), order_statistics(maps[..., order]), atol=1e-6)


def test_population_shrinks_a_bank_that_says_nothing_and_trusts_one_that_tells():
    g = torch.Generator().manual_seed(0)
    banks = []
    for _ in range(400):
        level = torch.randn(1, generator=g)
        # Statistic 0 follows the class's level, statistic 1 does not.
        follow = torch.tensor([1.0, 0.0])
        among = level * follow + 0.1 * torch.randn(4, 2, generator=g) + 0.5
        queries = level * follow + 0.1 * torch.randn(6, 2, generator=g)
        banks.append(BankStatistics(queries, among))
    population = Population(2)
    population.fit(banks)
    trust, bias = population.trust[3], population.bias[3]
    assert trust[0] > 0.95 and trust[1] < 0.2
    assert torch.allclose(bias, torch.tensor([-0.5, -0.5]), atol=0.05)
    # A query at the level of its bank is as expected, however far that is from the population's.
    at_level = population.calibrate(torch.tensor([[2.0, 0.0]]), torch.full((1, 4, 2), 2.5))
    assert abs(at_level[0, 0]) < 1.0
    far = population.calibrate(torch.tensor([[9.0, 9.0]]), torch.full((1, 4, 2), 0.5))
    assert (far == LIMIT).all()
    # With one normal only the population speaks: its level is all that is expected.
    assert torch.equal(population.calibrate(population.level[:1], None), torch.zeros(1, 2))


def test_k_between_measured_ones_is_interpolated(heads):
    population = heads.population
    middle = (population.level[1] + population.level[3]) / 2
    assert torch.allclose(population.level[2], middle, atol=1e-6)
    assert torch.equal(population.spread[MAX_SHOTS - 1], population.spread[3])


def test_population_needs_a_bank():
    with pytest.raises(ValueError, match="at least one bank"):
        Population(4).fit([])


def test_a_bank_of_one_image_twice_stays_finite(heads):
    evidence = make_evidence(2)
    same = Evidence(
        torch.zeros_like(evidence.layer_maps),
        evidence.embeddings,
        evidence.text_anomaly,
        evidence.normal_embeddings[:, :1].expand(-1, 2, -1),
        torch.zeros_like(evidence.normal_layer_maps),
    )
    assert torch.isfinite(heads(same).fused).all()


def test_configuration_builds_it_and_wrong_options_are_refused():
    made = build_heads(HeadsConfig("calibrated", {"members": 2, "hidden": 3}), BACKBONE)
    assert made.first.shape == (2, count_statistics(DEPTHS) + 2, 3)
    for options in ({"members": 0}, {"hidden": "many"}, {"layers": 2}):
        with pytest.raises(ModelError, match="members and hidden"):
            build_heads(HeadsConfig("calibrated", options), BACKBONE)


def test_holistic_and_surprise_share_the_fused_score(heads):
    evidence = make_evidence(4)
    fusion = heads(evidence)
    deviation = heads.population.calibrate(*query_statistics(evidence))[:, :1]
    surprise = torch.sigmoid(heads.surprise_head(deviation)).squeeze(1)
    assert torch.allclose(fusion.fused, (fusion.holistic + surprise) / 2, atol=1e-6)


def test_weights_stay_below_a_megabyte(heads):
    size = sum(value.numel() * value.element_size() for value in heads.state_dict().values())
    assert size < 2**20
