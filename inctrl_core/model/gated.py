"""The gated form of fusion: the normals decide which signals of a query count, and how much.

Every signal enters as its deviation from what these normals lead to expect (see ``signals``), times
a weight that is never negative, and the sum is squashed into the score. So more residual never
lowers a score, and each signal's share in it is exact. The weights do not depend on the query: they
follow from the normals alone, from their level, the shape of their maps, how far they lie apart and
how many they are. Photographs of one kind of thing differ all over, scans
and cells in places, printed digits hardly anywhere; which signal tells a good image from an
anomalous one is as different.

There are three such fusions of the same signals: one for flaws in a thing, one for another kind of
thing, and one for all, which a bank that says nothing of it gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError
from .evidence import LOOKS_FOR, Evidence, Fusion
from .signals import IMAGE, TEXT, Population, list_signals, read_signals, shots_row

GATE_LIMIT = 3.0  # What a gate reads is clipped to this many standard deviations.
# The weights that training starts at, before softplus: of the largest patch, and of all others.
START = 0.55, -3.0
FALL = 2.0  # How fast a gate falls back to the largest patch, per standard deviation.
NOWHERE = 1e6  # A distance that no bank has.


class Gate(nn.Module):
    """Non-negative weights of the signals from a description of the normals.

    Each of a few members holds two sets of weights, and the normals decide where between them a
    bank lies. Of the mean over members, all weights but that of the largest patch are then
    multiplied by a fixed strength, and by less the farther the normals lie from those of every
    class of the training: of what no training spoke, only the largest patch is believed.

    Args:
        inputs: G.
        signals: F.
        members: M.
        prototypes: Descriptions of training banks that are kept.
    """

    def __init__(self, inputs: int, signals: int, members: int, prototypes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.register_buffer("prototypes", torch.zeros(prototypes, inputs))
        self.register_buffer("strength", torch.ones(()))
        self.register_buffer("near", torch.tensor(NOWHERE))
        self.turn = nn.Parameter(0.1 * torch.randn(members, inputs, 1) / inputs**0.5)
        self.turn_bias = nn.Parameter(torch.full((members, 1, 1), -1.0))
        start = torch.full((members, 2, signals), START[1])
        start[..., 0] = START[0]
        start[:, 1] = start[:, 1] / 2 - 0.5
        self.ends = nn.Parameter(start)

    def standardise(self, normals: Tensor) -> Tensor:
        """What the gate reads in standard deviations of the training banks, clipped."""
        return ((normals - self.mean) / self.spread).clamp(-GATE_LIMIT, GATE_LIMIT)

    def members(self, normals: Tensor) -> Tensor:
        """The weights of each member at full strength: [M, B, F] from [B, G]."""
        place = torch.sigmoid(self.standardise(normals) @ self.turn + self.turn_bias)
        ends = F.softplus(self.ends)
        return (1 - place) * ends[:, :1] + place * ends[:, 1:]

    def openness(self, normals: Tensor) -> Tensor:
        """[B] from [B, G], 1 near training banks and falling to 0 away from them."""
        apart = self.standardise(normals)[:, None] - self.prototypes
        distance = apart.square().mean(dim=-1).amin(dim=-1).sqrt()
        return torch.exp(-FALL * (distance - self.near).clamp_min(0.0))

    def forward(self, normals: Tensor) -> Tensor:
        """[B, F] from [B, G]."""
        weights = self.members(normals).mean(dim=0)
        part = (self.strength * self.openness(normals))[:, None]
        return torch.cat([weights[:, :1], part * weights[:, 1:]], dim=1)


@dataclass(frozen=True, eq=False)
class Shares:
    """How scores come about.

    Attributes:
        values: [B, F], the signals: logarithms of residuals and distances, log-odds of the text.
        deviations: [B, F], from what the normals lead to expect, in standard deviations.
        weights: [B or 1, F], none negative.
        offset: What is taken away from their sum.
    """

    values: Tensor
    deviations: Tensor
    weights: Tensor
    offset: Tensor

    @property
    def shares(self) -> Tensor:
        """[B, F], each signal's share; their sum less ``offset`` is the score's log-odds."""
        return self.weights * self.deviations

    @property
    def log_odds(self) -> Tensor:
        """[B]; the scores are their sigmoids."""
        return _added(self.shares) - self.offset


class GatedHeads(nn.Module):
    """The gated form; see the module.

    ``fused`` is the sigmoid of ``(sum of shares - offset) / scale``, ``holistic`` the same without
    the share of the largest patch, ``image_residual`` and ``text_anomaly`` the sigmoids of the mean
    deviation of the global distances and of the text's: 0.5 where a query is as far from the
    normals as good images are.

    Args:
        layers: D.
        members: Members of a gate.
        prototypes: Descriptions of training banks that each gate keeps.
    """

    def __init__(self, layers: int, members: int = 4, prototypes: int = 1) -> None:
        super().__init__()
        self.signals = list_signals(layers)
        count = len(self.signals)
        self.population = Population(count)
        inputs = gate_inputs(layers)
        self.gates = nn.ModuleDict(
            {looks_for: Gate(inputs, count, members, prototypes) for looks_for in LOOKS_FOR}
        )
        # One for each of LOOKS_FOR.
        self.register_buffer("offset", torch.zeros(len(LOOKS_FOR)))
        self.register_buffer("scale", torch.ones(len(LOOKS_FOR)))

    def describe_normals(self, among: Tensor | None) -> Tensor:
        """What a gate reads: [B or 1, G], from the normals' own signals [B or 1, K, F].

        Their level relative to the population's, shrunk, for each signal that one layer or the
        image as a whole has; the standard deviations of the largest patch and of the closest normal
        over the normals; 1 / K. With one normal all but the last are 0.
        """
        _, level = self.population.expect(among)
        shots = shots_row(among) + 1
        apart = level.new_zeros(len(level), len(SPREADS))
        if among is not None:
            apart = among[..., list(SPREADS)].std(dim=1) * (1 - 1 / shots)
        count = level.new_full((len(level), 1), 1.0 / shots)
        return torch.cat([level, apart, count], dim=-1)

    def account(self, evidence: Evidence) -> Shares:
        """How the scores of B queries come about."""
        values, among = read_signals(evidence)
        deviations = self.population.deviate(values, among)
        return self._weigh(values, deviations, among, evidence.looks_for)

    def _weigh(
        self, values: Tensor, deviations: Tensor, among: Tensor | None, looks_for: str
    ) -> Shares:
        index = LOOKS_FOR.index(looks_for)
        weights = self.gates[looks_for](self.describe_normals(among)) / self.scale[index]
        return Shares(values, deviations, weights, self.offset[index] / self.scale[index])

    def forward(self, evidence: Evidence) -> Fusion:
        """See the class."""
        return self._fuse(self.account(evidence))

    def judge(self, evidence: Evidence) -> Fusion:
        """The distinct normals of a bank as if each were a good query; N >= 2 scores.

        Each is compared with the others, corrected for their being one fewer, and held against what
        all of them lead to expect, as queries are.

        Args:
            evidence: About any queries of one bank.
        """
        _, among = read_signals(evidence)
        row = shots_row(among)
        values = among[0] + self.population.bias[row]
        deviations = self.population.deviate(values, among)
        return self._fuse(self._weigh(values, deviations, among, evidence.looks_for))

    def _fuse(self, account: Shares) -> Fusion:
        total = account.log_odds
        return Fusion(
            fused=_squashed(total),
            holistic=_squashed(total - account.shares[:, 0]),
            image_residual=_squashed(self._mean(account.deviations, IMAGE)),
            text_anomaly=_squashed(self._mean(account.deviations, TEXT)),
        )

    def _mean(self, deviations: Tensor, group: str) -> Tensor:
        chosen = [i for i, signal in enumerate(self.signals) if signal.group == group]
        return _added(deviations[:, chosen]) / len(chosen)


def _added(rows: Tensor) -> Tensor:
    """[B] from [B, F], term by term: the same bits for every B."""
    first, *others = rows.unbind(dim=-1)
    return sum(others, first)


def _squashed(log_odds: Tensor) -> Tensor:
    """[B] -> sigmoids [B], each alone: the same bits for every B."""
    return torch.cat([torch.sigmoid(one) for one in log_odds.split(1)])


# Signals whose spread over the normals a gate reads: the largest patch, and the closest normal.
SPREADS = (0,)


def gate_inputs(layers: int) -> int:
    """G, the length of what a gate reads."""
    return len(list_signals(layers)) + len(SPREADS) + 1


def build_gated(options: Mapping[str, Any], layers: int) -> GatedHeads:
    """The gated form with random weights.

    Args:
        options: ``members`` and ``prototypes``, see :class:`GatedHeads`.
        layers: D.

    Raises:
        ModelError: The options are wrong.
    """
    unknown = set(options) - {"members", "prototypes"}
    sizes = [options.get("members", 4), options.get("prototypes", 1)]
    if unknown or not all(type(size) is int and 1 <= size <= 4096 for size in sizes):
        raise ModelError(
            "The gated form has the options members and prototypes, each from 1 to 4096; "
            "correct config.json."
        )
    return GatedHeads(layers, *sizes)
