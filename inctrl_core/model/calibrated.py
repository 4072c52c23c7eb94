"""The calibrated form of fusion: a query is judged relative to how the normals judge each other.

A patch residual of 0.2 means little by itself: on one object every good image has such a patch, on
another none comes close. The normals tell, because each can be scored against the others. This
form describes a query by order statistics of its residual maps and by its global distance, puts
each number in relation to the same number of the normals, and lets a small network decide, from
many auxiliary classes, which of the numbers to trust when.

The relation is an empirical-Bayes one. For the logarithm x of every statistic, good images of one
class are taken to scatter around the class's own level m, and the levels of classes around a
population's. The auxiliary data give the population's constants, for every K; the K leave-one-out
values of the bank then give an estimate of m that is shrunk towards the population's level by as
much as banks of that size are wrong. With a single normal there are none, and m is the population's
level: K = 1 is the end of the same rule, and a flag tells the network.

How it fares, and where it does not, is in the README.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..config import MAX_SHOTS
from ..errors import ModelError
from .evidence import Evidence, Fusion
from .residuals import global_distance

# Patches averaged, largest first; the last is the whole map of the 15 x 15 grid.
TOP_COUNTS = (1, 3, 6, 12, 25, 50, 112, 225)
FLOOR = 1e-4  # Residuals below this are noise of the arithmetic.
LIMIT = 8.0  # Deviations are clipped to this many standard deviations.
GLOBAL_STATISTICS = 2  # Distance to the closest normal, and the mean distance.


def count_statistics(depths: int) -> int:
    """F, the number of statistics of a query: see :func:`query_statistics`."""
    return (depths + 1) * len(TOP_COUNTS) + GLOBAL_STATISTICS


def top_counts(patches: int) -> list[int]:
    """``TOP_COUNTS`` for a map of any size: the same shares of it as of 225 patches."""
    return [max(1, round(count / TOP_COUNTS[-1] * patches)) for count in TOP_COUNTS]


def order_statistics(maps: Tensor) -> Tensor:
    """Logarithm of the mean of the largest values of each map and of the mean map.

    Args:
        maps: [..., D, P], non-negative.

    Returns:
        [..., (D + 1) * len(TOP_COUNTS)], the mean map's first.
    """
    maps = torch.cat([maps.mean(dim=-2, keepdim=True), maps], dim=-2)
    means = maps.sort(dim=-1, descending=True).values.cumsum(dim=-1)
    counts = top_counts(maps.shape[-1])
    chosen = torch.stack([means[..., count - 1] / count for count in counts], dim=-1)
    return chosen.clamp_min(FLOOR).log().flatten(-2)


def query_statistics(evidence: Evidence) -> tuple[Tensor, Tensor | None]:
    """The statistics of the queries, and those of the normals scored against each other.

    They are the order statistics of the maps, and the logarithms of the smallest and of the mean
    global distance.

    Returns:
        [B, F] and [B or 1, K, F]; the second is None where K is 1.
    """
    maps, normal_maps = evidence.layer_maps, evidence.normal_layer_maps
    distances = global_distance(evidence.embeddings, evidence.normal_embeddings)
    queries = torch.cat([order_statistics(maps), _distance_statistics(distances)], dim=-1)
    if normal_maps is None:
        return queries, None
    among = torch.stack([_distances_among(own) for own in evidence.normal_embeddings])
    return queries, torch.cat([order_statistics(normal_maps), among], dim=-1)


def _distance_statistics(distances: Tensor) -> Tensor:
    # [..., K] -> [..., 2]
    both = torch.stack([distances.amin(dim=-1), distances.mean(dim=-1)], dim=-1)
    return both.clamp_min(FLOOR).log()


def _distances_among(embeddings: Tensor) -> Tensor:
    # [K, E] -> [K, 2], each normal against the others.
    shots = len(embeddings)
    table = global_distance(embeddings, embeddings)
    others = table[~torch.eye(shots, dtype=torch.bool, device=table.device)]
    return _distance_statistics(others.view(shots, shots - 1))


@dataclass(frozen=True, eq=False)
class BankStatistics:
    """One bank's contribution to the population's statistics.

    Attributes:
        queries: [N, F] of N >= 1 good images that are not in the bank.
        among: [K, F] of the bank's normals; None where K is 1.
    """

    queries: Tensor
    among: Tensor | None


class Population(nn.Module):
    """The constants of the auxiliary classes, for every statistic and every K up to ``MAX_SHOTS``.

    ``level``: mean of good queries. ``bias``: what a good query exceeds the normals' leave-one-out
    mean by, on average (against K - 1 others instead of K a normal looks worse). ``trust``:
    how far a bank's own level is to be believed against the population's, 0 to 1, the slope of the
    regression of the one on the other. ``spread``: standard deviation of good queries around the
    level expected of them. Each is [MAX_SHOTS, F], row K - 1.

    Args:
        statistics: F.
    """

    def __init__(self, statistics: int) -> None:
        super().__init__()
        shape = MAX_SHOTS, statistics
        for name, value in (("level", 0.0), ("bias", 0.0), ("trust", 0.0), ("spread", 1.0)):
            self.register_buffer(name, torch.full(shape, value))

    def fit(self, banks: Sequence[BankStatistics]) -> None:
        """Estimates the constants; a K without banks takes those of its neighbours.

        Raises:
            ValueError: There are no banks.
        """
        by_shots: dict[int, list[BankStatistics]] = {}
        for bank in banks:
            shots = 1 if bank.among is None else len(bank.among)
            by_shots.setdefault(shots, []).append(bank)
        if not by_shots:
            raise ValueError("the population needs at least one bank")
        rows = {shots: _fit_shots(group) for shots, group in by_shots.items()}
        known = sorted(rows)
        for shots in range(1, MAX_SHOTS + 1):
            below = max((k for k in known if k <= shots), default=known[0])
            above = min((k for k in known if k >= shots), default=known[-1])
            share = 0.0 if above == below else (shots - below) / (above - below)
            for name, low, high in zip(
                ("level", "bias", "trust", "spread"), rows[below], rows[above], strict=True
            ):
                getattr(self, name)[shots - 1] = torch.lerp(low, high, share)

    def calibrate(self, queries: Tensor, among: Tensor | None) -> Tensor:
        """Deviation of queries from what is expected of good ones, in units of ``spread``.

        Args:
            queries: [B, F].
            among: [B or 1, K, F], or None where K is 1.

        Returns:
            [B, F], clipped to ``LIMIT``.
        """
        row = (1 if among is None else min(among.shape[1], MAX_SHOTS)) - 1
        expected = self.level[row]
        if among is not None:
            own = among.mean(dim=1) + self.bias[row]
            expected = expected + self.trust[row] * (own - expected)
        return ((queries - expected) / self.spread[row]).clamp(-LIMIT, LIMIT)


def _fit_shots(banks: Sequence[BankStatistics]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    means = torch.stack([bank.queries.mean(dim=0) for bank in banks])
    level = means.mean(dim=0)
    if banks[0].among is None:
        bias = trust = torch.zeros_like(level)
        expected = level.expand_as(means)
    else:
        own = torch.stack([bank.among.mean(dim=0) for bank in banks if bank.among is not None])
        bias = (means - own).mean(dim=0)
        centred = own + bias - level
        trust = ((means - level) * centred).sum(dim=0) / (centred**2).sum(dim=0).clamp_min(1e-6)
        trust = trust.clamp(0.0, 1.0)
        expected = level + trust * centred
    deviations = torch.cat([bank.queries - e for bank, e in zip(banks, expected, strict=True)])
    spread = deviations.square().mean(dim=0).sqrt().clamp_min(0.02)
    return level, bias, trust, spread


class CalibratedHeads(nn.Module):
    """The calibrated form; see the module.

    ``image_residual`` is a logistic function of the global distances' deviations, 1 / K and whether
    K is 1. ``holistic`` is the sigmoid of the mean logit of an ensemble of small networks over all
    deviations and the same two numbers. ``fused = (holistic + surprise) / 2``, where ``surprise``
    squashes the deviation of ``patch_max``: as in the paper, half of the score is the one number
    that the heatmap shows.

    Args:
        depths: D.
        members: Networks in the ensemble.
        hidden: Width of each network's hidden layer.
    """

    def __init__(self, depths: int, members: int = 8, hidden: int = 24) -> None:
        super().__init__()
        statistics = count_statistics(depths)
        width = statistics + 2
        self.population = Population(statistics)
        self.first = nn.Parameter(torch.randn(members, width, hidden) / width**0.5)
        self.first_bias = nn.Parameter(torch.zeros(members, 1, hidden))
        self.second = nn.Parameter(torch.randn(members, hidden, 1) / hidden**0.5)
        self.second_bias = nn.Parameter(torch.zeros(members, 1, 1))
        self.image_head = nn.Linear(GLOBAL_STATISTICS + 2, 1)
        self.surprise_head = nn.Linear(1, 1)

    def describe(self, evidence: Evidence) -> Tensor:
        """All that the networks read: F deviations, 1 / K, and whether K is 1; [B, F + 2]."""
        deviations = self.population.calibrate(*query_statistics(evidence))
        shots = evidence.normal_embeddings.shape[1]
        setting = deviations.new_tensor([1.0 / shots, float(shots == 1)])
        return torch.cat([deviations, setting.expand(len(deviations), 2)], dim=-1)

    def decide(self, descriptors: Tensor) -> Fusion:
        """From the descriptors of B queries ([B, F + 2]) to the score."""
        return fuse_logits(self.logits(descriptors))

    def forward(self, evidence: Evidence) -> Fusion:
        """See the class."""
        return self.decide(self.describe(evidence))

    def logits(self, descriptors: Tensor) -> CalibratedLogits:
        """The networks' outputs before any squashing."""
        hidden = torch.relu(torch.einsum("bw,mwh->mbh", descriptors, self.first) + self.first_bias)
        members = torch.einsum("mbh,mho->mbo", hidden, self.second) + self.second_bias
        return CalibratedLogits(
            members=members.squeeze(-1),
            image=self.image_head(descriptors[:, -GLOBAL_STATISTICS - 2 :]).squeeze(-1),
            surprise=self.surprise_head(descriptors[:, :1]).squeeze(-1),
        )


@dataclass(frozen=True, eq=False)
class CalibratedLogits:
    """Outputs of the calibrated form's networks.

    Attributes:
        members: [M, B], one row for each network of the ensemble.
        image: [B].
        surprise: [B].
    """

    members: Tensor
    image: Tensor
    surprise: Tensor


def fuse_logits(logits: CalibratedLogits) -> Fusion:
    """The score from the networks' outputs."""
    holistic = torch.sigmoid(logits.members.mean(dim=0))
    fused = (holistic + torch.sigmoid(logits.surprise)) / 2
    return Fusion(fused, holistic, torch.sigmoid(logits.image))


def build_calibrated(options: Mapping[str, Any], depths: int) -> CalibratedHeads:
    """The calibrated form with random weights.

    Args:
        options: ``members`` and ``hidden``, see :class:`CalibratedHeads`.
        depths: D.

    Raises:
        ModelError: The options are wrong.
    """
    unknown = set(options) - {"members", "hidden"}
    sizes = [options.get("members", 8), options.get("hidden", 24)]
    if unknown or not all(isinstance(size, int) and 1 <= size <= 256 for size in sizes):
        raise ModelError(
            "The calibrated form has the options members and hidden, each from 1 to 256; "
            "correct config.json."
        )
    return CalibratedHeads(depths, *sizes)
