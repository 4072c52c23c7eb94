"""Score: all that one query got, in plain floats and numpy, detached from any device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Score:
    """The detector's result for one query. Higher always means more anomalous.

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
        fusion: "trained" where anything that the score depends on was learnt from auxiliary data:
            heads, a patch adapter, or both. "training-free" where nothing was: features of the
            bare backbone under a fixed formula. These two words mean this everywhere; that a
            formula is fixed, beside a trained adapter or not, is said in other words.
        data: The kind of data that the query was read as, such as "12-bit data".
        copy_of: Index of the normal that the query is a copy of, see
            :func:`inctrl_core.model.copies.same_images`; None where it is none. A query that finds
            itself scores close to 0 whatever it shows.
        defect_shift: Log-odds that known defects added to ``fused``; 0 without any.
        defect_map: float32 [G, G], mean over depths of half the cosine distance to the closest
            patch of a known defect; None without any.
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
    copy_of: int | None = None
    defect_shift: float = 0.0
    defect_map: np.ndarray | None = None

    def to_dict(self, normal_names: Sequence[str] = ()) -> dict[str, Any]:
        """The score without the per-depth arrays, ready for ``json.dumps``.

        Args:
            normal_names: Names of the normals; without them ``copy_of`` gives none.

        Returns:
            The fields by name; ``defect_shift`` where defects are known. ``copy_of`` is None or has
            ``index``, counted from 0, and ``name``.
        """
        names = dict(enumerate(normal_names))
        known = {} if self.defect_map is None else {"defect_shift": self.defect_shift}
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
            "copy_of": None
            if self.copy_of is None
            else {"index": self.copy_of, "name": names.get(self.copy_of)},
            **known,
        }
