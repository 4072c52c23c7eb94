"""The gated form: exact shares, monotone, invariances, K = 1, arithmetic by hand, options."""

import dataclasses

import numpy as np
import pytest
import torch

from inctrl_core.config import BackboneConfig, HeadsConfig
from inctrl_core.errors import ModelError
from inctrl_core.model.evidence import LOOKS_FOR, Evidence
from inctrl_core.model.gated import Gate, GatedHeads
from inctrl_core.model.heads import build_heads
from inctrl_core.model.residuals import leave_one_out
from inctrl_core.model.signals import (
    LIMIT,
    MAX_SHOTS,
    BankSignals,
    Population,
    order_statistics,
    read_signals,
)

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
        normal_text=torch.rand(1, shots, generator=g),
    )


def part(evidence, queries):
    return dataclasses.replace(
        evidence,
        layer_maps=evidence.layer_maps[queries],
        embeddings=evidence.embeddings[queries],
        text_anomaly=evidence.text_anomaly[queries],
    )


@pytest.fixture(scope="module")
def heads():
    torch.manual_seed(0)
    made = GatedHeads(DEPTHS).eval()
    banks = []
    for seed in range(8):
        for shots in (1, 2, 4):
            queries, among = read_signals(make_evidence(shots, seed=seed))
            banks.append(BankSignals(queries, None if among is None else among[0]))
    made.population.fit(banks)
    for gate in made.gates.values():
        torch.nn.init.normal_(gate.turn)  # So that no two weights agree by chance.
        torch.nn.init.normal_(gate.ends)
    made.offset.copy_(torch.tensor([1.0, 2.0, 3.0]))
    made.scale.copy_(torch.tensor([4.0, 5.0, 6.0]))
    return made.requires_grad_(False)


@pytest.mark.parametrize("shots", [1, 2, 3, 8, MAX_SHOTS])
def test_scores_are_finite_and_in_range_for_every_k(heads, shots):
    fusion = heads(make_evidence(shots))
    parts = fusion.fused, fusion.holistic, fusion.image_residual, fusion.text_anomaly
    for value in parts:
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
    turned = dataclasses.replace(
        evidence,
        normal_embeddings=evidence.normal_embeddings[:, order],
        normal_layer_maps=evidence.normal_layer_maps[:, order],
        normal_text=evidence.normal_text[:, order],
    )
    assert torch.allclose(heads(turned).fused, heads(evidence).fused, atol=1e-6)


def test_normals_of_each_query_give_what_a_shared_bank_gives(heads):
    evidence = make_evidence(4)
    own = dataclasses.replace(
        evidence,
        normal_embeddings=evidence.normal_embeddings.expand(5, -1, -1),
        normal_layer_maps=evidence.normal_layer_maps.expand(5, -1, -1, -1),
        normal_text=evidence.normal_text.expand(5, -1),
    )
    assert torch.allclose(heads(own).fused, heads(evidence).fused, atol=1e-6)


def test_order_statistics_by_hand():
    maps = torch.zeros(1, 225)
    maps[0, :3] = torch.tensor([0.3, 0.6, 0.9])
    found = order_statistics(maps, (1, 3, 12, 225)).exp()
    assert np.allclose(found[0], [0.9, 0.6, 0.15, 1.8 / 225], rtol=1e-5)


def test_order_statistics_ignore_where_patches_are():
    maps = torch.rand(2, DEPTHS, PATCHES)
    turned = maps[..., torch.randperm(PATCHES)]
    counts = (1, 3, 225)
    assert torch.allclose(
        order_statistics(maps, counts), order_statistics(turned, counts), atol=1e-6
    )


@pytest.mark.parametrize("looks_for", LOOKS_FOR)
@pytest.mark.parametrize("shots", [1, 4])
def test_shares_add_up_to_the_score(heads, shots, looks_for):
    evidence = dataclasses.replace(make_evidence(shots), looks_for=looks_for)
    account, fusion = heads.account(evidence), heads(evidence)
    assert (account.weights > 0).all()
    total = (account.weights * account.deviations).sum(dim=-1) - account.offset
    assert torch.allclose(torch.sigmoid(total), fusion.fused, atol=1e-6)
    without = torch.sigmoid(total - account.shares[:, 0])
    assert torch.allclose(without, fusion.holistic, atol=1e-6)
    index = LOOKS_FOR.index(looks_for)
    assert float(account.offset) == pytest.approx(float(heads.offset[index] / heads.scale[index]))


def test_each_kind_of_anomaly_has_a_fusion_of_its_own(heads):
    scores = [
        heads(dataclasses.replace(make_evidence(4), looks_for=looks_for)).fused
        for looks_for in LOOKS_FOR
    ]
    assert not torch.allclose(scores[0], scores[1]) and not torch.allclose(scores[1], scores[2])


@pytest.mark.parametrize("shots", [1, 2, 8])
def test_more_residual_never_lowers_a_score(heads, shots):
    evidence = make_evidence(shots)
    before = heads(evidence).fused
    g = torch.Generator().manual_seed(9)
    raised = evidence.layer_maps.clone()
    places = torch.rand(raised.shape, generator=g) < 0.02
    raised[places] += 0.2
    after = heads(dataclasses.replace(evidence, layer_maps=raised)).fused
    assert (after >= before).all() and (after > before).any()
    more_text = (evidence.text_anomaly + 0.3).clamp(max=1.0)
    assert (heads(dataclasses.replace(evidence, text_anomaly=more_text)).fused >= before).all()


def test_weights_follow_from_the_normals_and_not_from_the_query(heads):
    evidence = make_evidence(4)
    other = dataclasses.replace(evidence, layer_maps=evidence.layer_maps.flip(0) * 2)
    assert torch.equal(heads.account(evidence).weights, heads.account(other).weights)
    assert not torch.allclose(
        heads.account(evidence).weights, heads.account(make_evidence(4, seed=5)).weights
    )


def test_a_gate_falls_back_to_the_largest_patch_far_from_every_training_bank():
    torch.manual_seed(0)
    gate = Gate(inputs=4, signals=3, members=2, prototypes=2).requires_grad_(False)
    gate.prototypes.copy_(torch.tensor([[0.0, 0, 0, 0], [2, 2, 0, 0]]))
    gate.near.fill_(0.5)
    gate.strength.fill_(0.5)
    near, far = torch.tensor([[0.1, 0, 0, 0], [0, -3, 3, 3]]).split(1)
    assert gate.openness(near).item() == 1.0
    distance = (27 / 4) ** 0.5
    assert gate.openness(far).item() == pytest.approx(np.exp(-2 * (distance - 0.5)), rel=1e-4)
    full = gate.members(near).mean(dim=0)
    assert torch.allclose(gate(near)[:, 0], full[:, 0])
    assert torch.allclose(gate(near)[:, 1:], 0.5 * full[:, 1:])
    share = gate(far)[0, 1:] / gate.members(far).mean(dim=0)[0, 1:]
    assert (share < 0.02).all() and gate(far)[0, 0] > 0.5


@pytest.mark.parametrize("shots", [2, 4])
def test_normals_are_judged_by_what_all_of_them_lead_to_expect(heads, shots):
    evidence = make_evidence(shots)
    judged = heads.judge(evidence)
    assert judged.fused.shape == (shots,) and judged.text_anomaly.shape == (shots,)
    _, among = read_signals(evidence)
    own = among[0] + heads.population.bias[shots - 1]
    deviations = heads.population.deviate(own, among)
    weights = heads.account(evidence).weights
    total = (weights * deviations).sum(dim=-1) - heads.account(evidence).offset
    assert torch.allclose(torch.sigmoid(total), judged.fused, atol=1e-6)
    assert judged.at(1).fused.shape == (1,) and judged.at(1).fused[0] == judged.fused[1]


def test_copies_among_the_normals_say_nothing(heads):
    evidence = make_evidence(4)
    doubled = [0, 1, 2, 3, 0]
    copied = dataclasses.replace(
        evidence,
        normal_embeddings=evidence.normal_embeddings[:, doubled],
        normal_layer_maps=evidence.normal_layer_maps[:, doubled],
        normal_text=evidence.normal_text[:, doubled],
        distinct=(0, 1, 2, 3),
    )
    assert torch.allclose(heads(copied).fused, heads(evidence).fused, atol=1e-6)


def test_population_shrinks_a_bank_that_says_nothing_and_trusts_one_that_tells():
    g = torch.Generator().manual_seed(0)
    banks = []
    for _ in range(400):
        level = torch.randn(1, generator=g)
        # Signal 0 follows the class's level, signal 1 does not.
        follow = torch.tensor([1.0, 0.0])
        among = level * follow + 0.1 * torch.randn(4, 2, generator=g) + 0.5
        queries = level * follow + 0.1 * torch.randn(6, 2, generator=g)
        banks.append(BankSignals(queries, among))
    population = Population(2)
    population.fit(banks)
    trust, bias = population.trust[3], population.bias[3]
    assert trust[0] > 0.95 and trust[1] < 0.2
    assert torch.allclose(bias, torch.tensor([-0.5, -0.5]), atol=0.05)
    assert float(population.range[3, 0]) == pytest.approx(1.0, abs=0.1)
    # A query at the level of its bank is as expected, however far that is from the population's.
    at_level = population.deviate(torch.tensor([[2.0, 0.0]]), torch.full((1, 4, 2), 2.5))
    assert abs(at_level[0, 0]) < 1.0
    far = population.deviate(torch.tensor([[9.0, 9.0]]), torch.full((1, 4, 2), 0.5))
    assert (far == LIMIT).all()
    # With one normal only the population speaks: its level is all that is expected.
    assert torch.equal(population.deviate(population.level[:1], None), torch.zeros(1, 2))


def test_a_heavier_bank_counts_more():
    banks = [
        BankSignals(torch.full((3, 1), value), None, weight)
        for value, weight in ((0.0, 3.0), (4.0, 1.0))
    ]
    population = Population(1)
    population.fit(banks)
    assert float(population.level[0]) == pytest.approx(1.0)


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
    same = dataclasses.replace(
        evidence,
        layer_maps=torch.zeros_like(evidence.layer_maps),
        normal_embeddings=evidence.normal_embeddings[:, :1].expand(-1, 2, -1),
        normal_layer_maps=torch.zeros_like(evidence.normal_layer_maps),
    )
    assert torch.isfinite(heads(same).fused).all()


def test_configuration_builds_it_and_wrong_options_are_refused():
    made = build_heads(HeadsConfig("gated", {"members": 2, "prototypes": 3}), BACKBONE)
    assert made.gates["flaw"].turn.shape[0] == 2 and len(made.gates["flaw"].prototypes) == 3
    for options in ({"members": 0}, {"prototypes": "many"}, {"layers": 2}):
        with pytest.raises(ModelError, match="members and prototypes"):
            build_heads(HeadsConfig("gated", options), BACKBONE)


def test_weights_stay_below_a_megabyte(heads):
    size = sum(value.numel() * value.element_size() for value in heads.state_dict().values())
    assert size < 2**20
