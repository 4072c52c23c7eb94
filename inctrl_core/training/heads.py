"""Training of the paper's heads: frozen features, balanced episodes, focal loss."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from ..config import BackboneConfig, HeadsConfig
from ..datasets.subsets import DataError
from ..model.heads import build_heads
from .loop import Figures, TrainingRun
from .objectives import build_objective, fusion_loss
from .patch_pools import PatchPool
from .pools import Pool, bank_episode

AnyPool = TypeVar("AnyPool", Pool, PatchPool)

VALIDATION_SHARE = 0.15
FALSE_ALARMS = 0.05
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class TrainingOptions:
    """The settings of a run, besides the data.

    Attributes:
        shots: Every K that episodes are drawn with.
        epochs: Passes of ``steps`` batches each.
        steps: Batches in an epoch.
        batch: Queries in a batch, even.
        weight_decay: Weight decay of AdamW.
        seed: Decides the split, the initial weights and every draw.
    """

    shots: tuple[int, ...] = (1, 2, 4, 8)
    epochs: int = 20
    steps: int = 150
    batch: int = 128
    weight_decay: float = 1e-2
    seed: int = 0


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """The heads of the best epoch.

    Attributes:
        heads: In evaluation mode.
        config: Names them in a model's configuration.
        record: Options, data, curves and validation figures, ready for JSON.
    """

    heads: nn.Module
    config: HeadsConfig
    record: dict[str, Any]


def split_classes(pools: Sequence[AnyPool], seed: int) -> tuple[list[AnyPool], list[AnyPool]]:
    """Training and validation pools without a class in common.

    A share of the classes of every source that has four or more is held out. Where no source has,
    the classes of all sources are one heap, and a single class is split by its pools.

    Classes of "photographs" are windows of few photographs, and the two of textile have the same
    normals: their held-out classes resemble those of the training more than another object would.

    Raises:
        DataError: There is nothing to split: one class with a single pool.
    """
    rng = np.random.default_rng(seed)
    groups: dict[str, set[tuple[str, str]]] = {}
    for pool in pools:
        groups.setdefault(pool.source, set()).add((pool.source, pool.name))
    large = [names for _, names in sorted(groups.items()) if len(names) >= 4]
    heaps = large or [set().union(*groups.values())]
    held: set[tuple[str, str]] = set()
    for heap in heaps:
        names = sorted(heap)
        if len(names) > 1:
            count = max(1, round(VALIDATION_SHARE * len(names)))
            held |= {names[i] for i in rng.permutation(len(names))[:count]}
    if held:
        kept = [pool for pool in pools if (pool.source, pool.name) not in held]
        return kept, [pool for pool in pools if (pool.source, pool.name) in held]
    if len(pools) < 2:
        raise DataError(
            "There are too few anomalous images to hold any out for validation; "
            "add images, another class, or --procedural 200."
        )
    count = max(1, round(VALIDATION_SHARE * len(pools)))
    order = rng.permutation(len(pools))
    return [pools[i] for i in order[count:]], [pools[i] for i in order[:count]]


def hold_out(
    pools: Sequence[AnyPool], shots: Sequence[int], seed: int
) -> tuple[list[AnyPool], list[AnyPool]]:
    """:func:`split_classes`, with :func:`check_pools` on both sides.

    Raises:
        DataError: As those.
    """
    training, validation = split_classes(pools, seed)
    check_pools(training, shots)
    check_pools(validation, shots)
    return training, validation


def check_pools(pools: Sequence[Pool | PatchPool], shots: Iterable[int]) -> None:
    """Makes sure that some pool has enough normals for each K.

    Raises:
        DataError: None has more than K normals, or ``shots`` is empty.
    """
    wanted = list(shots)
    most = max((pool.references for pool in pools), default=0)
    if not wanted or min(wanted) < 1 or max(wanted) >= most:
        raise DataError(
            f"Training with {max(wanted, default=0)} shots needs a class with more normals than "
            f"that, and there are at most {most}; choose --shots between 1 and {most - 1}."
        )


def validate(
    heads: nn.Module, pools: Sequence[Pool], shots: Sequence[int], seed: int
) -> dict[str, Any]:
    """Scores held-out pools, each as a bank of its own at every K.

    Returns:
        ``loss`` (mean over queries), ``auroc`` and ``patch_max_auroc`` (mean over banks), the same
        two by K, and ``threshold``, which 5% of the good queries exceed.
    """
    losses, good = [], []
    by_shots: dict[int, list[tuple[float, float]]] = {}
    with torch.inference_mode():
        for number, pool in enumerate(pools):
            for k in shots:
                if k >= pool.references:
                    continue
                rng = np.random.default_rng((seed, number, k))
                evidence, labels = bank_episode(pool, k, rng)
                fusion = heads(evidence)
                losses += fusion_loss(fusion, labels).tolist()
                good += fusion.fused[labels < 0.5].tolist()
                patch_max = evidence.patch_map.amax(dim=1)
                pair = roc_auc_score(labels, fusion.fused), roc_auc_score(labels, patch_max)
                by_shots.setdefault(k, []).append(pair)
    means = {k: np.mean(pairs, axis=0) for k, pairs in sorted(by_shots.items())}
    every = np.mean([pair for pairs in by_shots.values() for pair in pairs], axis=0)
    return {
        "loss": float(np.mean(losses)),
        "auroc": float(every[0]),
        "patch_max_auroc": float(every[1]),
        "auroc_by_shots": {str(k): float(mean[0]) for k, mean in means.items()},
        "patch_max_auroc_by_shots": {str(k): float(mean[1]) for k, mean in means.items()},
        "threshold": float(np.quantile(good, 1.0 - FALSE_ALARMS)),
    }


def train_heads(
    pools: Sequence[Pool],
    backbone: BackboneConfig,
    options: TrainingOptions,
    folder: Path | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> TrainingResult:
    """Trains heads on pools.

    Args:
        pools: Pools of all classes; some are held out for validation.
        backbone: What the pools' features are of.
        options: See there.
        folder: Where a checkpoint is kept after every epoch, and taken up again where it is of the
            same data and options; None keeps none.
        report: Called with each epoch's figures.

    Raises:
        DataError: The pools do not suffice.
        InctrlError: The checkpoint in ``folder`` is of another run.
    """
    training, validation = hold_out(pools, options.shots, options.seed)
    torch.manual_seed(options.seed)
    config = HeadsConfig("reference")
    heads = build_heads(config, backbone)
    objective = build_objective(heads, training, options.shots, options.batch)
    run = TrainingRun(
        heads,
        objective,
        lambda: validate(heads, validation, options.shots, options.seed),
        torch.optim.AdamW(heads.parameters(), lr=LEARNING_RATE, weight_decay=options.weight_decay),
        seed=options.seed,
        steps=options.steps,
    )
    best = run.run(options.epochs, _fingerprint(pools, backbone, options), folder, report)
    facts = dataclasses.asdict(options) | {"learning_rate": LEARNING_RATE}
    record = describe_run(pools, validation, facts, run.history, best)
    record |= {"threshold": best["threshold"], "threshold_false_alarms": FALSE_ALARMS}
    return TrainingResult(heads, config, record)


def _fingerprint(pools: Sequence[Pool], backbone: BackboneConfig, options: TrainingOptions) -> str:
    # More epochs of the same run are the same run.
    digest = hashlib.blake2b(digest_size=16)
    facts = dataclasses.asdict(dataclasses.replace(options, epochs=0))
    digest.update(json.dumps([facts, backbone.depths, backbone.grid], sort_keys=True).encode())
    for pool in pools:
        digest.update(f"{pool.source}/{pool.name}/{tuple(pool.table.shape)}".encode())
        for part in (pool.table, pool.embeddings, pool.text_anomaly, pool.anomalous):
            digest.update(part.contiguous().numpy())
    return digest.hexdigest()


def describe_run(
    pools: Sequence[Pool | PatchPool],
    validation: Sequence[Pool | PatchPool],
    options: Mapping[str, Any],
    history: Sequence[Figures],
    best: Figures,
) -> dict[str, Any]:
    """The record of a run in the configuration of the model that came from it.

    A class of whose pools some are trained on is not held out.
    """
    sources = sorted({pool.source for pool in pools})
    judged = {id(pool) for pool in validation}
    known = {(p.source, p.name) for p in pools if id(p) not in judged}
    held_out = {(p.source, p.name) for p in validation} - known
    return {
        "options": dict(options),
        "data": {
            source: {
                "classes": len({p.name for p in pools if p.source == source}),
                "held_out_classes": sum(of == source for of, _ in held_out),
                "pools": sum(p.source == source for p in pools),
                "images": sum(len(p.anomalous) for p in pools if p.source == source),
            }
            for source in sources
        },
        "best_epoch": best["epoch"],
        "validation": dict(best),
        "curves": list(history),
    }
