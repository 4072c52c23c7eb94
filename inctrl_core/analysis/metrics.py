"""How well scores separate anomalous from normal images.

In numpy alone, so that the page can tell it without scikit-learn, whose figures these are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def image_metrics(anomalous: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Area under the ROC curve, average precision and F1-max, anomalous being positive.

    F1-max is the largest harmonic mean of precision and recall over all thresholds: that of the
    best one, which only who knows the labels can choose.

    >>> image_metrics(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8]))
    {'auroc': 0.75, 'ap': 0.8333333333333333, 'f1_max': 0.8}

    Args:
        anomalous: bool [N], with both values.
        scores: float [N], higher is more anomalous.
    """
    anomalous, scores = np.asarray(anomalous, dtype=bool), np.asarray(scores, dtype=np.float64)
    falling = np.argsort(-scores, kind="stable")
    # Images of the same score lie on the same side of every threshold.
    last = np.append(np.flatnonzero(np.diff(scores[falling])), len(scores) - 1)
    called, found = last + 1, np.cumsum(anomalous[falling])[last]
    precision, recall = found / called, found / found[-1]
    return {
        "auroc": _auroc(scores[anomalous], scores[~anomalous]),
        "ap": float(np.sum(np.diff(recall, prepend=0.0) * precision)),
        "f1_max": float(np.max(2 * found / (called + found[-1]))),
    }


def auroc(truths: Sequence[tuple[bool, float]]) -> float | None:
    """Share of the pairs of an anomalous and a normal image in which the former scores higher.

    A tie counts half. This is the area under the ROC curve, by ranks instead of by the curve.

    Args:
        truths: (anomalous, score) of each image.

    Returns:
        In [0, 1]; None where all are of one kind.
    """
    anomalous = np.array([score for truth, score in truths if truth])
    normal = np.array([score for truth, score in truths if not truth])
    if not len(anomalous) or not len(normal):
        return None
    return _auroc(anomalous, normal)


def _auroc(anomalous: np.ndarray, normal: np.ndarray) -> float:
    ordered = np.sort(normal)
    below, not_above = (np.searchsorted(ordered, anomalous, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(normal)))
