"""Training of the heads: frozen features, balanced episodes, focal loss, the best epoch kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from ..calibrated import BankStatistics, CalibratedHeads, fuse_logits, query_statistics
from ..config import BackboneConfig, HeadsConfig
from ..errors import InctrlError
from ..evidence import Fusion
from ..heads import build_heads
from .datasets import DataError
from .episodes import Pool, bank_episode, draw_batch

VALIDATION_SHARE = 0.15
FALSE_ALARMS = 0.05
LEARNING_RATE = 1e-3
RANKING_WEIGHT = 4.0  # Beside the paper's loss, for the calibrated form.
BANK_DRAWS = 2  # Banks of each size that are drawn from a pool for the calibrated form.
CHECKPOINT_FILE = "checkpoint.pt"


@dataclass(frozen=True)
class TrainingOptions:
    """What decides a run, besides the data.

    Attributes:
        form: "reference" or "calibrated".
        shots: Every K that episodes are drawn with.
        epochs: Passes of ``steps`` batches each.
        steps: Batches in an epoch.
        batch: Queries in a batch, even.
        weight_decay: Of AdamW.
        seed: Decides the split, the initial weights and every draw.
    """

    form: str = "calibrated"
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


def split_classes(pools: Sequence[Pool], seed: int) -> tuple[list[Pool], list[Pool]]:
    """Training and validation pools without a class in common.

    A share of the classes of every source that has four or more is held out. Where no source has,
    the classes of all sources are one heap, and a single class is split by its pools.

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


def check_pools(pools: Sequence[Pool], shots: Iterable[int]) -> None:
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
        pools: Of all classes; some are held out for validation.
        backbone: What the pools' features are of.
        options: See there.
        folder: Where a checkpoint is kept after every epoch, and taken up again where it is of the
            same data and options; None keeps none.
        report: Called with each epoch's figures.

    Raises:
        DataError: The pools do not suffice.
        InctrlError: The checkpoint in ``folder`` is of another run.
    """
    training, validation = split_classes(pools, options.seed)
    check_pools(training, options.shots)
    check_pools(validation, options.shots)
    torch.manual_seed(options.seed)
    config = HeadsConfig(options.form, _form_options(options.form))
    heads = build_heads(config, backbone)
    if isinstance(heads, CalibratedHeads):
        heads.population.fit(population_banks(training, options))
    run = _Run(heads, _objective(heads, training, options), validation, options)
    place = None if folder is None else folder / CHECKPOINT_FILE
    mark = _fingerprint(pools, backbone, options)
    if place is not None and place.is_file():
        run.restore(place, mark)
    while run.epoch < options.epochs:
        figures = run.advance()
        if place is not None:
            run.store(place, mark)
        if report is not None:
            report(figures)
    heads.load_state_dict(run.best)
    heads.eval().requires_grad_(False)
    best = max(run.history, key=_merit)
    return TrainingResult(heads, config, _record(pools, validation, options, run.history, best))


def population_banks(pools: Sequence[Pool], options: TrainingOptions) -> list[BankStatistics]:
    """Good queries against banks of every K, to estimate the calibrated form's population from."""
    banks = []
    for number, pool in enumerate(pools):
        for k in range(1, min(max(options.shots), pool.references - 1) + 1):
            rng = np.random.default_rng((options.seed, 1, number, k))
            evidence, labels = bank_episode(pool, k, rng)
            queries, among = query_statistics(evidence)
            good = queries[labels < 0.5]
            banks.append(BankStatistics(good, None if among is None else among[0]))
    return banks


Objective = Callable[[np.random.Generator], Tensor]


def _objective(heads: nn.Module, pools: Sequence[Pool], options: TrainingOptions) -> Objective:
    # Draws a balanced batch and gives its loss, a scalar.
    if isinstance(heads, CalibratedHeads):
        return _CalibratedObjective(heads, pools, options)

    def loss(rng: np.random.Generator) -> Tensor:
        shots = int(rng.choice(options.shots))
        usable = [pool for pool in pools if pool.references > shots]
        evidence, labels = draw_batch(usable, options.batch, shots, rng)
        return fusion_loss(heads(evidence), labels).mean()

    return loss


class _CalibratedObjective:
    """Loss of the calibrated form, whose descriptors do not change while it is trained.

    Every class has the same share, and every bank within a class. A batch is made of pairs, a
    good and an anomalous query of one bank each; beside the paper's loss of all of them, the
    holistic logit is to rank the two of a pair. That teaches what tells queries of one bank apart,
    and not which classes are difficult.
    """

    def __init__(
        self, heads: CalibratedHeads, pools: Sequence[Pool], options: TrainingOptions
    ) -> None:
        self._heads, self._pairs = heads, options.batch // 2
        groups: dict[tuple[str, str], list[tuple[Tensor, Tensor]]] = {}
        with torch.no_grad():
            for number, pool in enumerate(pools):
                banks = groups.setdefault((pool.source, pool.name), [])
                for k in options.shots:
                    for draw in range(BANK_DRAWS if k < pool.references else 0):
                        rng = np.random.default_rng((options.seed, 2, number, k, draw))
                        evidence, labels = bank_episode(pool, k, rng)
                        rows = heads.describe(evidence)
                        banks.append((rows[labels < 0.5], rows[labels > 0.5]))
        self._banks = [banks for _, banks in sorted(groups.items()) if banks]

    def __call__(self, rng: np.random.Generator) -> Tensor:
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


class _Run:
    """The state of a run between epochs."""

    def __init__(
        self,
        heads: nn.Module,
        objective: Objective,
        validation: Sequence[Pool],
        options: TrainingOptions,
    ) -> None:
        self.heads, self.options = heads, options
        self.history: list[dict[str, Any]] = []
        self.best = _copy(heads)
        self._objective, self._validation = objective, validation
        self._optimizer = torch.optim.AdamW(
            heads.parameters(), lr=LEARNING_RATE, weight_decay=options.weight_decay
        )

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def advance(self) -> dict[str, Any]:
        """One epoch, and its figures."""
        # A generator of its own for every epoch, so that a resumed run draws what another would.
        rng = np.random.default_rng((self.options.seed, 3, self.epoch))
        self.heads.train()
        losses = []
        for _ in range(self.options.steps):
            loss = self._objective(rng)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            losses.append(float(loss.detach()))
        self.heads.eval()
        options = self.options
        figures = validate(self.heads, self._validation, options.shots, options.seed)
        figures |= {"epoch": self.epoch + 1, "training_loss": float(np.mean(losses))}
        if not self.history or _merit(figures) > max(map(_merit, self.history)):
            self.best = _copy(self.heads)
        self.history.append(figures)
        return figures

    def store(self, place: Path, mark: str) -> None:
        """Writes a checkpoint; the old one stays until the new one is whole."""
        place.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "mark": mark,
            "heads": self.heads.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": self.best,
            "history": self.history,
        }
        partial = place.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(place)

    def restore(self, place: Path, mark: str) -> None:
        """Goes on where a checkpoint left off."""
        state = torch.load(place, weights_only=True)
        if state["mark"] != mark:
            raise InctrlError(
                f"{place} is of a run with other data or options; name another --out, or start "
                "again without --resume."
            )
        self.heads.load_state_dict(state["heads"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.best, self.history = state["best"], state["history"]


def _merit(figures: dict[str, Any]) -> float:
    return figures["auroc"]


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def _form_options(form: str) -> dict[str, Any]:
    return {"members": 8, "hidden": 24} if form == "calibrated" else {}


def _fingerprint(pools: Sequence[Pool], backbone: BackboneConfig, options: TrainingOptions) -> str:
    # More epochs of the same run are the same run.
    digest = hashlib.blake2b(digest_size=16)
    facts = dataclasses.asdict(dataclasses.replace(options, epochs=0))
    digest.update(json.dumps([facts, backbone.depths, backbone.grid], sort_keys=True).encode())
    for pool in pools:
        digest.update(f"{pool.source}/{pool.name}/{tuple(pool.table.shape)}".encode())
        digest.update(pool.embeddings.numpy().tobytes())
    return digest.hexdigest()


def _record(
    pools: Sequence[Pool],
    validation: Sequence[Pool],
    options: TrainingOptions,
    history: list[dict[str, Any]],
    best: dict[str, Any],
) -> dict[str, Any]:
    sources = sorted({pool.source for pool in pools})
    return {
        "options": dataclasses.asdict(options) | {"learning_rate": LEARNING_RATE},
        "data": {
            source: {
                "classes": len({p.name for p in pools if p.source == source}),
                "held_out_classes": len({p.name for p in validation if p.source == source}),
                "pools": sum(p.source == source for p in pools),
                "images": sum(len(p.anomalous) for p in pools if p.source == source),
            }
            for source in sources
        },
        "threshold": best["threshold"],
        "threshold_false_alarms": FALSE_ALARMS,
        "best_epoch": best["epoch"],
        "validation": best,
        "curves": history,
    }
