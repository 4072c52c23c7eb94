"""Metrics of scored subsets: one value for each draw of normals, and their means over subsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..analysis.decision import decide
from ..analysis.metrics import image_metrics
from .metrics import pixel_metrics
from .protocol import SubsetScores

MAP_SIGNAL = "patch_map"

Metrics = dict[str, dict[str, tuple[float, ...]]]


@dataclass(frozen=True)
class ShotResult:
    """Metrics of one subset at one number of shots.

    Attributes:
        dataset: Name of the dataset.
        subset: Name of the subset.
        shots: K.
        normal: Number of normal queries.
        anomalous: Number of anomalous queries.
        metrics: Signal -> metric -> one value per seed. Images have "auroc", "ap" and "f1_max"
            under each of ``signals``, pixels "pixel_auroc" and "aupro" under ``MAP_SIGNAL``.
        false_alarms: The share of normal queries above the threshold for a rate, per seed; empty
            where the model gives no threshold.
    """

    dataset: str
    subset: str
    shots: int
    normal: int
    anomalous: int
    metrics: Metrics
    false_alarms: tuple[float, ...] = ()


def measure(scores: SubsetScores, image_size: int, rate: float | None = None) -> list[ShotResult]:
    """Metrics of every number of shots, one value per seed.

    Args:
        scores: The result of :func:`score_subset`.
        image_size: Side of the crop that the model saw, pixels.
        rate: The rate of false alarms that thresholds are chosen for; None measures none.
    """
    results = []
    for k, shots in enumerate(scores.shots):
        metrics: Metrics = {
            name: _per_seed([image_metrics(scores.anomalous, row) for row in values[k]])
            for name, values in scores.signals.items()
        }
        if scores.patch_maps is not None:
            metrics[MAP_SIGNAL] = _per_seed(
                [pixel_metrics(maps, scores.truth, image_size) for maps in scores.patch_maps[k]]
            )
        count = int(scores.anomalous.sum())
        subset = scores.subset
        normal = len(scores.anomalous) - count
        alarms = _false_alarms(scores, k, rate)
        results.append(
            ShotResult(subset.dataset, subset.name, shots, normal, count, metrics, alarms)
        )
    return results


def within_factor_two(false_alarms: Sequence[float], rate: float) -> float:
    """Share of the draws whose rate of false alarms is half to twice the one asked for.

    >>> within_factor_two((0.01, 0.03, 0.08, 0.2), 0.05)
    0.5
    """
    return sum(rate / 2 <= one <= 2 * rate for one in false_alarms) / len(false_alarms)


def _false_alarms(scores: SubsetScores, k: int, rate: float | None) -> tuple[float, ...]:
    decisions = [] if rate is None or not scores.good else [decide(g, rate) for g in scores.good[k]]
    fused = scores.signals["fused"][k][:, ~scores.anomalous]
    return tuple(
        float((row > decision.threshold).mean())
        for row, decision in zip(fused, decisions, strict=False)
        if decision is not None
    )


def overall(results: Sequence[ShotResult]) -> dict[int, Metrics]:
    """Mean over subsets, seed by seed, at every number of shots.

    A metric that only some subsets have is the mean over those.
    """
    merged: dict[int, Metrics] = {}
    for shots in sorted({result.shots for result in results}):
        found: dict[str, dict[str, list[tuple[float, ...]]]] = {}
        for result in results:
            if result.shots != shots:
                continue
            for signal, metrics in result.metrics.items():
                for metric, values in metrics.items():
                    found.setdefault(signal, {}).setdefault(metric, []).append(values)
        merged[shots] = {
            signal: {
                metric: tuple(float(v) for v in np.mean(rows, axis=0))
                for metric, rows in metrics.items()
            }
            for signal, metrics in found.items()
        }
    return merged


def _per_seed(rows: Sequence[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    return {metric: tuple(row[metric] for row in rows) for metric in rows[0]}
