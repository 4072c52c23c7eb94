"""Training of the patch adapter: anomalous queries are to lie further from their normals."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from ..model.patch_adapter import PatchAdapter
from ..model.residuals import layer_residuals
from ..model.signals import FLOOR
from .heads import describe_run, hold_out
from .loop import Figures, TrainingRun
from .objectives import ranking_loss
from .patch_pools import PatchPool

LEARNING_RATE = 1e-3
WARM_UP = 50  # Steps.
VALIDATION_POOLS = 80  # Of the held-out ones; more take longer than the training.


@dataclass(frozen=True)
class AdapterOptions:
    """The settings of a run, besides the data.

    Attributes:
        shots: Every K that episodes are drawn with.
        epochs: Passes of ``steps`` batches each; the learning rate falls to nothing by the last.
        steps: Batches in an epoch.
        episodes: In a batch.
        queries: Largest number of queries of either kind in an episode.
        temperature: Temperature of the score's logarithm in the ranking loss.
        restraint: Weight of the adapter's departure from the identity in the loss.
        largest: Patches whose mean residual is the score that is trained; more than the one that
            the model's score reads, so that more of them learn.
        seed: Decides the split and every draw.
    """

    shots: tuple[int, ...] = (1, 2, 4, 6)
    epochs: int = 8
    steps: int = 200
    episodes: int = 4
    queries: int = 4
    temperature: float = 0.2
    restraint: float = 3e-3
    largest: int = 3
    seed: int = 0


@dataclass(frozen=True, eq=False)
class AdapterResult:
    """The adapter of the best epoch.

    Attributes:
        adapter: In evaluation mode.
        widths: C_d, for the model's configuration.
        record: Options, data, curves and validation figures, ready for JSON.
    """

    adapter: PatchAdapter
    widths: tuple[int, ...]
    record: dict[str, Any]


def train_adapter(
    pools: Sequence[PatchPool],
    options: AdapterOptions,
    folder: Path | None = None,
    report: Callable[[Figures], None] | None = None,
) -> AdapterResult:
    """Trains a patch adapter on pools; see :meth:`TrainingRun.run` for folder and report.

    Args:
        pools: Pools of all classes; some are held out for validation.
        options: See there.
        folder: Where a checkpoint is kept.
        report: Called with each epoch's figures.

    Raises:
        DataError: The pools do not suffice.
        InctrlError: The checkpoint in ``folder`` is of another run.
    """
    training, validation = hold_out(pools, options.shots, options.seed)
    # The pool with the most normals first, which is never left out: it has enough for every K.
    ordered = sorted(validation, key=lambda pool: pool.references, reverse=True)
    judged = ordered[:: math.ceil(len(ordered) / VALIDATION_POOLS)]
    widths = tuple(depth.shape[-1] for depth in pools[0].patches)
    adapter = PatchAdapter(widths)
    plain = validate(PatchAdapter(widths), judged, options)["auroc"]
    total = options.epochs * options.steps

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / WARM_UP)
        return LEARNING_RATE * warm * 0.5 * (1 + math.cos(math.pi * step / total))

    sources: dict[str, dict[str, list[PatchPool]]] = {}
    for pool in sorted(training, key=lambda pool: pool.source):
        sources.setdefault(pool.source, {}).setdefault(pool.name, []).append(pool)
    classes = [list(names.values()) for names in sources.values()]
    run = TrainingRun(
        adapter,
        lambda rng: batch_loss(adapter, classes, options, rng),
        lambda: validate(adapter, judged, options) | {"patch_max_auroc": plain},
        torch.optim.Adam(adapter.parameters(), lr=LEARNING_RATE),
        seed=options.seed,
        steps=options.steps,
        rate=rate,
    )
    best = run.run(options.epochs, _fingerprint(pools, options), folder, report)
    facts = dataclasses.asdict(options) | {"learning_rate": LEARNING_RATE}
    record = describe_run(pools, validation, facts, run.history, best)
    return AdapterResult(adapter, widths, record)


def batch_loss(
    adapter: PatchAdapter,
    sources: Sequence[Sequence[Sequence[PatchPool]]],
    options: AdapterOptions,
    rng: np.random.Generator,
) -> Tensor:
    """The loss of one batch of episodes, a scalar.

    Args:
        adapter: To be trained.
        sources: Pools by source and class; every source has the same share of a batch, and in it
            every class.
        options: See there.
        rng: Decides which.
    """
    losses = []
    for _ in range(options.episodes):
        classes = sources[int(rng.integers(len(sources)))]
        shots = int(rng.choice(options.shots))
        pools = classes[int(rng.integers(len(classes)))]
        # Nothing is drawn where there is no choice: so the shipped trainings can be repeated.
        pool = pools[int(rng.integers(len(pools)))] if len(pools) > 1 else pools[0]
        shots = min(shots, pool.references - 1)
        episode = pool.draw(shots, options.queries, rng)
        losses.append(pair_loss(*adapted_maps(adapter, *episode), options))
    return torch.stack(losses).mean() + options.restraint * adapter.departure()


def adapted_maps(
    adapter: PatchAdapter, prompts: list[Tensor], queries: list[Tensor], anomalous: Tensor
) -> tuple[Tensor, Tensor]:
    """Residual maps of an episode of :meth:`PatchPool.draw` under an adapter, and its labels.

    Returns:
        [B, P], the mean over depths, and bool [B].
    """
    layer_maps, _ = layer_residuals(adapter(queries), adapter(prompts))
    return layer_maps.mean(dim=1), anomalous


def pair_loss(patch_map: Tensor, anomalous: Tensor, options: AdapterOptions) -> Tensor:
    """Ranking loss of every pair of a good and an anomalous query of one bank, a scalar.

    What is ranked is the logarithm of the mean of the largest patch residuals: classes differ in
    how far apart their good images lie, and a ratio means the same in all.

    Args:
        patch_map: [B, P].
        anomalous: bool [B].
        options: See there.
    """
    largest = min(options.largest, patch_map.shape[1])
    score = patch_map.topk(largest, dim=1).values.mean(dim=1).clamp_min(FLOOR).log()
    score = score / options.temperature
    return ranking_loss(score[~anomalous][:, None], score[anomalous][None]).mean()


def validate(adapter: PatchAdapter, pools: Sequence[PatchPool], options: AdapterOptions) -> Figures:
    """Scores held-out pools by their largest patch residual, each as a bank of its own at every K.

    Returns:
        ``loss`` and ``auroc``, means over banks, and ``auroc_by_shots``.
    """
    losses: list[float] = []
    by_shots: dict[int, list[float]] = {}
    with torch.inference_mode():
        for number, pool in enumerate(pools):
            for shots in options.shots:
                if shots >= pool.references:
                    continue
                rng = np.random.default_rng((options.seed, number, shots))
                episode = pool.draw(shots, len(pool.anomalous), rng)
                patch_map, anomalous = adapted_maps(adapter, *episode)
                losses.append(float(pair_loss(patch_map, anomalous, options)))
                auroc = roc_auc_score(anomalous, patch_map.amax(dim=1))
                by_shots.setdefault(shots, []).append(float(auroc))
    return {
        "loss": float(np.mean(losses)),
        "auroc": float(np.mean([value for values in by_shots.values() for value in values])),
        "auroc_by_shots": {str(k): float(np.mean(v)) for k, v in sorted(by_shots.items())},
    }


def _fingerprint(pools: Sequence[PatchPool], options: AdapterOptions) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(dataclasses.asdict(options), sort_keys=True).encode())
    for pool in pools:
        digest.update(
            f"{pool.source}/{pool.name}/{[tuple(d.shape) for d in pool.patches]}".encode()
        )
        digest.update(pool.patches[0][:, :1].contiguous().view(torch.uint8).numpy().tobytes())
        digest.update(pool.anomalous.numpy())
    return digest.hexdigest()
