"""Patches that a person says are defects, beside the normals: a second set of references.

A patch of a query is compared with both. Its margin is its distance to the closest normal patch
less that to the closest defect patch: above 0 it is more like the defect. The largest margin of an
image, less the largest that a normal has against the others, moves its score in log-odds. The
normals' own scores stay, and with them the threshold. Nothing is trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .evidence import Fusion
from .residuals import layer_residuals

# Log-odds for each unit of margin, and the margin beyond which more changes nothing. Chosen on
# auxiliary data, see docs/lab-notebook.md.
WEIGHT = 4.0
MOST_MARGIN = 0.1
_NEAREST_ODDS = 1e-6  # A score this close to 0 or 1 has no log-odds that are worth moving.


@dataclass(frozen=True, eq=False)
class Defects:
    """Patches of images with a defect, and how far those of the normals lie from them.

    Attributes:
        images: For each image D tensors [R, C_d] of its R patches, rows of unit length.
        among: [K, P], the distance of each normal's patches to the closest of all, in [0, 1].
    """

    images: tuple[tuple[Tensor, ...], ...]
    among: Tensor

    @property
    def nbytes(self) -> int:
        """Memory of the tensors, in bytes."""
        layers = [layer for image in self.images for layer in image]
        return sum(tensor.nbytes for tensor in (*layers, self.among))

    def to(self, device: torch.device | str) -> Defects:
        """The same patches on another device."""
        images = tuple(tuple(layer.to(device) for layer in image) for image in self.images)
        return Defects(images, self.among.to(device))

    def subset(self, indices: Sequence[int]) -> Defects:
        """The same patches beside some of the normals."""
        return dataclasses.replace(self, among=self.among[list(indices)])

    def distances(self, patches: Sequence[Tensor]) -> Tensor:
        """Distance of each patch to the closest defect patch, the mean over depths.

        Args:
            patches: D tensors [B, P, C_d], rows of unit length.

        Returns:
            [B, P], in [0, 1].
        """
        return distances_to(self.images, patches)


def build_defects(images: Sequence[Sequence[Tensor]], normals: Sequence[Tensor]) -> Defects | None:
    """Defect patches beside normals; None where there are none.

    Args:
        images: For each image D tensors [R, C_d], R >= 1, rows of unit length.
        normals: D tensors [K, P, C_d], rows of unit length.
    """
    if not images:
        return None
    kept = tuple(tuple(image) for image in images)
    with torch.inference_mode():
        return Defects(kept, distances_to(kept, normals))


def distances_to(images: Sequence[Sequence[Tensor]], patches: Sequence[Tensor]) -> Tensor:
    """See :meth:`Defects.distances`."""
    joined = [torch.cat(layers)[None] for layers in zip(*images, strict=True)]
    return layer_residuals(patches, joined)[0].mean(dim=1)


def shifted(fusion: Fusion, shift: Tensor) -> Fusion:
    """A fusion whose scores are moved in log-odds.

    >>> half = torch.full((1,), 0.5)
    >>> shifted(Fusion(half, half, half), torch.zeros(1)).fused.item()
    0.5

    Args:
        fusion: The outputs for B queries.
        shift: [B], added to the log-odds of ``fused``.
    """
    # Each alone: the same bits for every B.
    moved = [
        torch.sigmoid(fused.logit(_NEAREST_ODDS) + by)
        for fused, by in zip(fusion.fused.split(1), shift.split(1), strict=True)
    ]
    return dataclasses.replace(fusion, fused=torch.cat(moved))
