"""The losses of training: the paper's focal losses, and the ranking within a bank."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..model.evidence import Fusion
from .pools import Pool, draw_batch

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
    heads: nn.Module, pools: Sequence[Pool], shots: Sequence[int], batch: int
) -> Objective:
    """The paper's loss.

    Args:
        heads: To be trained.
        pools: To draw batches from.
        shots: Every K that episodes are drawn with.
        batch: Queries in a batch, even.

    Returns:
        A function that draws a balanced batch and gives its loss, a scalar.
    """

    def loss(rng: np.random.Generator) -> Tensor:
        drawn = int(rng.choice(shots))
        usable = [pool for pool in pools if pool.references > drawn]
        evidence, labels = draw_batch(usable, batch, drawn, rng)
        return fusion_loss(heads(evidence), labels).mean()

    return loss
