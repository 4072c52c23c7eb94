"""Metrics of scored subsets: one value for each draw of normals, and their means over subsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .metrics import image_metrics, pixel_metrics
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
            under each of ``SIGNALS``, pixels "pixel_auroc" and "aupro" under ``MAP_SIGNAL``.
    """

    dataset: str
    subset: str
    shots: int
    normal: int
    anomalous: int
    metrics: Metrics


def measure(scores: SubsetScores, image_size: int) -> list[ShotResult]:
    """Metrics of every number of shots, one value per seed.

    Args:
        scores: The result of :func:`score_subset`.
        image_size: Side of the crop that the model saw, pixels.
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
        results.append(ShotResult(subset.dataset, subset.name, shots, normal, count, metrics))
    return results


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
