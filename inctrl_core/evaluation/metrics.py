"""How well maps separate defective from normal pixels; by image see :mod:`.analysis.metrics`.

scikit-learn computes the curves and areas. Pixels, of which a test set has tens of millions, are
counted in fine bins first and handed over as weights, so memory does not grow with the images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from sklearn.metrics import roc_auc_score, roc_curve

AUPRO_LIMIT = 0.3  # False-positive rate up to which AUPRO integrates, as in MVTec AD's evaluation.
BINS = 2**16
MAP_BATCH = 32


@dataclass(frozen=True, eq=False)
class DefectPixels:
    """Where the defects of one image are, within the crop that the model saw.

    Attributes:
        index: int64 [M], positions of the defective pixels in the flattened S x S crop.
        weight: float64 [M], one over the size of the connected region that each belongs to.
    """

    index: np.ndarray
    weight: np.ndarray

    @property
    def regions(self) -> int:
        """Number of connected regions."""
        return round(float(self.weight.sum()))


NO_DEFECT = DefectPixels(np.zeros(0, np.int64), np.zeros(0))


def defect_pixels(mask: np.ndarray) -> DefectPixels:
    """Finds the connected regions (diagonals connect) of a mask, bool [S, S]."""
    regions, count = ndimage.label(mask, structure=np.ones((3, 3)))
    index = np.flatnonzero(mask)
    region = regions.ravel()[index]
    size = np.bincount(region, minlength=count + 1)
    return DefectPixels(index, 1.0 / size[region])


def upsample_maps(maps: np.ndarray, size: int) -> np.ndarray:
    """Maps [N, G, G] to the pixels of the crop, bilinear: float32 [N, S, S]."""
    tensor = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[:, None]
    return F.interpolate(tensor, (size, size), mode="bilinear", align_corners=False)[:, 0].numpy()


def pixel_metrics(maps: np.ndarray, truth: Sequence[DefectPixels], size: int) -> dict[str, float]:
    """Pixel AUROC, and AUPRO up to a false-positive rate of ``AUPRO_LIMIT``.

    AUPRO averages, over connected defect regions, the share of the region above a threshold, and
    integrates that over the false-positive rate of the normal pixels, divided by the limit.

    Args:
        maps: float [N, G, G], higher is more anomalous.
        truth: N entries.
        size: S, side of the crop that the maps are upsampled to.
    """
    low, high = float(maps.min()), float(maps.max())
    step = (BINS - 1) / (high - low) if high > low else 0.0
    normal = np.zeros(BINS)
    defect, region_share = np.zeros(BINS), np.zeros(BINS)
    for start in range(0, len(maps), MAP_BATCH):
        part = upsample_maps(maps[start : start + MAP_BATCH], size)
        binned = ((part.astype(np.float64) - low) * step).round().clip(0, BINS - 1).astype(np.int64)
        normal += np.bincount(binned.ravel(), minlength=BINS)
        for values, pixels in zip(binned, truth[start : start + MAP_BATCH], strict=True):
            inside = values.ravel()[pixels.index]
            defect += np.bincount(inside, minlength=BINS)
            region_share += np.bincount(inside, pixels.weight, minlength=BINS)
    normal -= defect
    return {
        "pixel_auroc": _weighted_auroc(normal, defect),
        "aupro": _weighted_partial_area(normal, region_share, AUPRO_LIMIT),
    }


def _weighted_auroc(negative: np.ndarray, positive: np.ndarray) -> float:
    labels, values, weights = _columns(negative, positive)
    return float(roc_auc_score(labels, values, sample_weight=weights))


def _weighted_partial_area(negative: np.ndarray, positive: np.ndarray, limit: float) -> float:
    """Area under the curve of weighted shares up to ``limit``, divided by it: in [0, 1]."""
    labels, values, weights = _columns(negative, positive)
    x, y, _ = roc_curve(labels, values, sample_weight=weights, drop_intermediate=False)
    inside = x <= limit
    end = np.interp(limit, x, y)
    x, y = x[inside], y[inside]
    if x[-1] < limit:
        x, y = np.append(x, limit), np.append(y, end)
    return float(np.trapezoid(y, x) / limit)


def _columns(
    negative: np.ndarray, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Histograms of both labels as labels, scores and weights, empty bins left out."""
    values = np.arange(len(negative))
    labels = np.repeat([False, True], len(values))
    weights = np.concatenate([negative, positive])
    kept = weights > 0
    return labels[kept], np.tile(values, 2)[kept], weights[kept]
