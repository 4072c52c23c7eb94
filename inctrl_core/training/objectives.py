"""The losses of training: the paper's focal losses, and the ranking within a bank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..model.calibrated import CalibratedHeads, fuse_logits
from ..model.evidence import Fusion
from .pools import Pool, bank_episode, draw_batch

RANKING_WEIGHT = 4.0  # Beside the paper's loss, for the calibrated form.
BANK_DRAWS = 2  # Banks of each size that are drawn from a pool for the calibrated form.

Objective = Callable[[np.random.Generator], Tensor]


def focal_loss(probability: Tensor, label: Tensor, gamma: float = 2.0) -> Tensor:
    """Binary focal loss of Lin et al. (2017), without class weights, as the paper trains with.

    Args:
        probability: [B], of being anomalous.
        label: [B], 1 for anomalous.
        gamma: How much easy examples are discounted.

    Returns:
        [B].
    """
    right = torch.where(label > 0.5, probability, 1.0 - probability).clamp(1e-6, 1.0)
    return -((1.0 - right) ** gamma) * right.log()


def fusion_loss(fusion: Fusion, label: Tensor) -> Tensor:
    """The paper's loss of each query: focal on the fused score plus focal on the image residual.

    Returns:
        [B]; the loss of a batch is its mean.
    """
    return focal_loss(fusion.fused, label) + focal_loss(fusion.image_residual, label)


def ranking_loss(good: Tensor, bad: Tensor) -> Tensor:
    """Logistic loss of pairs: small where the anomalous query's logit is clearly the larger.

    Args:
        good: [N], logits of good queries.
        bad: [N], of anomalous queries against the same bank.

    Returns:
        [N].
    """
    return torch.nn.functional.softplus(good - bad)


def build_objective(
    heads: nn.Module, pools: Sequence[Pool], shots: Sequence[int], batch: int, seed: int
) -> Objective:
    """The loss of the form that ``heads`` are of.

    Args:
        heads: To be trained.
        pools: To draw batches from.
        shots: Every K that episodes are drawn with.
        batch: Queries in a batch, even.
        seed: Decides which banks the calibrated form is trained on.

    Returns:
        A function that draws a balanced batch and gives its loss, a scalar.
    """
    if isinstance(heads, CalibratedHeads):
        return CalibratedObjective(heads, pools, shots, batch, seed)

    def loss(rng: np.random.Generator) -> Tensor:
        drawn = int(rng.choice(shots))
        usable = [pool for pool in pools if pool.references > drawn]
        evidence, labels = draw_batch(usable, batch, drawn, rng)
        return fusion_loss(heads(evidence), labels).mean()

    return loss


class CalibratedObjective:
    """Loss of the calibrated form, whose descriptors do not change while it is trained.

    Every class has the same share, and every bank within a class. A batch is made of pairs, a
    good and an anomalous query of one bank each; beside the paper's loss of all of them, the
    holistic logit is to rank the two of a pair. That teaches what tells queries of one bank apart,
    and not which classes are difficult.

    Args:
        heads: To be trained; their population is fitted already.
        pools: To draw from.
        shots: Every K.
        batch: Queries in a batch, even.
        seed: Seed of the banks' draws.
    """

    def __init__(
        self,
        heads: CalibratedHeads,
        pools: Sequence[Pool],
        shots: Sequence[int],
        batch: int,
        seed: int,
    ) -> None:
        self._heads, self._pairs = heads, batch // 2
        groups: dict[tuple[str, str], list[tuple[Tensor, Tensor]]] = {}
        with torch.no_grad():
            for number, pool in enumerate(pools):
                banks = groups.setdefault((pool.source, pool.name), [])
                for k in shots:
                    for draw in range(BANK_DRAWS if k < pool.references else 0):
                        rng = np.random.default_rng((seed, 2, number, k, draw))
                        evidence, labels = bank_episode(pool, k, rng)
                        rows = heads.describe(evidence)
                        banks.append((rows[labels < 0.5], rows[labels > 0.5]))
        self._banks = [banks for _, banks in sorted(groups.items()) if banks]

    def __call__(self, rng: np.random.Generator) -> Tensor:
        """The loss of one batch, a scalar."""
        good, bad = [], []
        for chosen in rng.integers(len(self._banks), size=self._pairs):
            banks = self._banks[chosen]
            normals, anomalies = banks[int(rng.integers(len(banks)))]
            good.append(normals[int(rng.integers(len(normals)))])
            bad.append(anomalies[int(rng.integers(len(anomalies)))])
        logits = self._heads.logits(torch.stack(good + bad))
        labels = torch.arange(2 * self._pairs) >= self._pairs
        loss = fusion_loss(fuse_logits(logits), labels.float()).mean()
        holistic = logits.members.mean(dim=0)
        return loss + RANKING_WEIGHT * ranking_loss(holistic[~labels], holistic[labels]).mean()
