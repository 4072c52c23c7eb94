"""Something missing: patches of the normals that find nothing like them in the query.

The residual turned round (paper, section 3.2, with the roles exchanged): it asks of each patch of a
normal how far the closest patch of the query lies. What one normal lacks too is no loss: of a patch
only that part of its residual counts by which it exceeds its residual against every other normal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.bank import PromptBank
from ..model.detector import EncodedImages
from ..model.residuals import residuals_per_normal
from .patch_scale import PatchScale, scale_over

FEWEST = 2  # Of fewer normals nothing tells what they share.


@dataclass(frozen=True, eq=False)
class Missing:
    """What the normals have in common and a query lacks.

    Attributes:
        normal: Index of the normal that is shown: the one of which the query lacks least.
        loss: float32 [G, G] in [0, 1]; how much further that normal's patches lie from the query
            than from any other normal, 0 where no further.
        normal_peaks: Largest loss of each distinct normal, looked at likewise as a query; none
            where fewer than three are distinct.
    """

    normal: int
    loss: np.ndarray
    normal_peaks: tuple[float, ...]

    @property
    def peak(self) -> float:
        """Largest loss."""
        return float(self.loss.max())

    @property
    def place(self) -> tuple[int, int]:
        """Row and column of the largest loss, counted from 0."""
        return divmod(int(self.loss.argmax()), self.loss.shape[1])

    @property
    def above(self) -> bool | None:
        """Whether the query lacks more than any normal; None where nothing tells."""
        return self.peak > max(self.normal_peaks) if self.normal_peaks else None

    @property
    def scale(self) -> PatchScale:
        """Heatmap scale of the loss."""
        return scale_over(max(self.normal_peaks) if self.normal_peaks else None)

    def to_dict(self) -> dict[str, Any]:
        """Ready for ``json.dumps``: the normal counted from 0, the place from 1, as elsewhere."""
        row, column = self.place
        return {
            "normal": self.normal,
            "row": row + 1,
            "column": column + 1,
            "peak": self.peak,
            "normal_peaks": list(self.normal_peaks),
            "above": self.above,
            "loss": self.loss.tolist(),
        }


@torch.inference_mode()
def find_missing(bank: PromptBank, encoded: EncodedImages) -> Missing | None:
    """Finds what the normals share and a query lacks; nothing is encoded.

    Args:
        bank: The normals.
        encoded: One image.

    Returns:
        None where fewer than two normals are distinct.
    """
    places = list(bank.distinct)
    if len(places) < FEWEST:
        return None
    patches = [depth[places] for depth in bank.features.patches]
    queries = [depth.to(patches[0].device) for depth in encoded.features.patches]
    against = residuals_per_normal(patches, queries).mean(dim=2)[:, 0]
    between = bank.pairwise[places][:, places].mean(dim=2)
    loss = _loss(against, between)
    shown = int(loss.amax(dim=1).argmin())
    grid = round(loss.shape[1] ** 0.5)
    peaks = tuple(_peak_of(i, between) for i in range(len(places))) if len(places) > 2 else ()
    shares = loss[shown].view(grid, grid).cpu().numpy().copy()
    return Missing(places[shown], shares, peaks)


def missing_told(missing: Missing | None) -> str:
    """What is missing, in a sentence or two."""
    if missing is None:
        return "Two different normals are needed, to know what they share."
    row, column = missing.place
    part = f"the patch in row {row + 1}, column {column + 1} of normal {missing.normal + 1}"
    if missing.above is None:
        return (
            f"What this image lacks most is like {part} ({missing.peak:.3f}). A third normal would "
            "tell how much good images lack."
        )
    highest = max(missing.normal_peaks)
    if not missing.above:
        return (
            f"Nothing that the normals share is missing: the largest loss is {missing.peak:.3f}, "
            f"and the normals come to {highest:.3f} among themselves."
        )
    return (
        f"This image lacks something that all normals have: nothing in it is like {part}. The loss "
        f"is {missing.peak:.3f}; the normals come to no more than {highest:.3f} among themselves."
    )


def _loss(against: Tensor, between: Tensor) -> Tensor:
    """[K, P]: by how much residuals [K, P] exceed those [K, K, P] against each other normal."""
    itself = torch.eye(len(between), dtype=torch.bool, device=between.device)
    return (against - between.masked_fill(itself[..., None], 0.0).amax(dim=1)).clamp(min=0.0)


def _peak_of(normal: int, between: Tensor) -> float:
    """The largest loss of a normal, looked at as a query against the others."""
    kept = [i for i in range(len(between)) if i != normal]
    loss = _loss(between[kept, normal], between[kept][:, kept])
    return float(loss.amax(dim=1).min())
