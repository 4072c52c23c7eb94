"""Score: all that one query got, in plain floats and numpy, detached from any device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Score:
    """What the detector says of one query. Higher always means more anomalous.

    Attributes:
        fused: The image-level anomaly score, in [0, 1].
        holistic: Output of the fusion head over the whole map, in [0, 1].
        patch_max: Largest value of ``patch_map``, in [0, 1].
        image_residual: Image-level residual signal, in [0, 1].
        text_anomaly: Softmax share of the anomaly prompts, in [0, 1].
        patch_map: float32 [G, G], mean over depths of ``layer_maps``; row, column of what was seen.
        layer_maps: float32 [D, G, G], half the cosine distance to the closest normal patch.
        nearest: int64 [D, G, G, 3], that patch: index of the normal, row, column.
        crop_box: (left, top, right, bottom) of the part that was seen, in the query's own
            (EXIF-upright) pixels; fractional where the resize is.
        fusion: "trained" or "training-free".
        data: The kind of data that the query was read as, such as "12-bit data".
    """

    fused: float
    holistic: float
    patch_max: float
    image_residual: float
    text_anomaly: float
    patch_map: np.ndarray
    layer_maps: np.ndarray
    nearest: np.ndarray
    crop_box: tuple[float, float, float, float]
    fusion: str
    data: str = "8-bit data"

    def to_dict(self) -> dict[str, Any]:
        """The score without the per-depth arrays, ready for ``json.dumps``."""
        return {
            "fusion": self.fusion,
            "fused": self.fused,
            "holistic": self.holistic,
            "patch_max": self.patch_max,
            "image_residual": self.image_residual,
            "text_anomaly": self.text_anomaly,
            "patch_map": [[float(value) for value in row] for row in self.patch_map],
            "crop_box": list(self.crop_box),
            "data": self.data,
        }
