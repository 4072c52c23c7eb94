"""A closer look: images in parts, each read as an image of its own, so that small things show.

The model sees a whole image at no more than its own size, where a defect of a few pixels may leave
no trace. In N x N parts it sees each N times as large, and the map has N times as many patches a
side. A part of the query is compared with all parts of all normals, by the same residuals as whole
images are (paper, section 3.2). The fused score stays that of the whole image.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import PreprocessConfig
from ..errors import InctrlError
from ..images.files import ImageSource
from ..images.levels import Levels
from ..images.preprocessing import CropBox, cut_parts
from ..images.seen import Opener, SeenImage, open_here
from ..model.detector import Detector
from ..model.residuals import layer_residuals
from .patch_scale import PatchScale, scale_over
from .steps import Progress, Step, untold

PARTS = (1, 2, 3, 4)
# Parts of all normals together: their features take 0.9 MB each, and comparing the normals with
# each other 6 s of two cores.
MOST_PICTURES = 64

Open = Callable[[ImageSource], tuple[Image.Image, ...]]


@dataclass(frozen=True, eq=False)
class CloserNormals:
    """The normals in parts, and what they say of each other.

    Attributes:
        parts: N.
        patches: For each of the K normals D tensors [N * N, P, C_d], rows of unit length.
        peaks: Largest residual of each normal against the others, of as many as were judged; none
            where there is one normal.
    """

    parts: int
    patches: tuple[tuple[Tensor, ...], ...] = ()
    peaks: tuple[float, ...] = ()

    @property
    def scale(self) -> PatchScale:
        """Heatmap scale of a closer look."""
        return scale_over(max(self.peaks) if self.peaks else None)


@dataclass(frozen=True, eq=False)
class CloserLook:
    """A query in parts against normals in parts.

    Attributes:
        parts: N.
        patch_map: float32 [N * G, N * G] in [0, 1], mean of the layers' residuals.
        crop_box: The part of the original that the map covers, in its pixels.
        normal_peaks: Largest residual of each normal against the others; none where there is one.
        shots: Number of normals that it was compared with.
        scale: Heatmap scale of the map.
    """

    parts: int
    patch_map: np.ndarray
    crop_box: CropBox
    normal_peaks: tuple[float, ...]
    shots: int
    scale: PatchScale

    @property
    def peak(self) -> float:
        """Largest residual of the query."""
        return float(self.patch_map.max())

    @property
    def above(self) -> bool | None:
        """Whether it is above all normals' own; None where there is one normal."""
        return self.peak > max(self.normal_peaks) if self.normal_peaks else None

    def to_dict(self) -> dict[str, Any]:
        """Ready for ``json.dumps``; ``patch_map`` as rows of numbers."""
        return {
            "parts": self.parts,
            "shots": self.shots,
            "peak": self.peak,
            "normal_peaks": list(self.normal_peaks),
            "above": self.above,
            "crop_box": list(self.crop_box),
            "patch_map": self.patch_map.tolist(),
        }


def check_parts(parts: int) -> int:
    """``parts``, where an image can be cut into so many.

    Raises:
        InctrlError: It is none of ``PARTS``.
    """
    if isinstance(parts, bool) or parts not in PARTS:
        raise InctrlError(f"Cut images into 1 to {PARTS[-1]} parts a side, not {parts}.")
    return int(parts)


def parts_opener(
    config: PreprocessConfig, levels: Levels | None, parts: int, opener: Opener = open_here
) -> Open:
    """A function that opens an image and cuts it into N x N parts.

    Args:
        config: How the model sees images.
        levels: The levels of the bank.
        parts: N.
        opener: Opens an image.
    """
    return lambda source: opener(cut_parts, source, config, parts, levels=levels)


def closer_normals(
    step: Step,
    open_parts: Open,
    normals: Sequence[ImageSource],
    parts: int,
    on_step: Progress = untold,
) -> CloserNormals:
    """Encodes normals in parts, and holds them against each other; an image at a time.

    As many of them as have at most ``MOST_PICTURES`` parts together, the first.

    Args:
        step: Computes a step with a detector.
        open_parts: A result of :func:`parts_opener`.
        normals: At least one image, no copies among them.
        parts: N, as for ``open_parts``.
        on_step: Told of each step before it begins.

    Raises:
        InctrlError: An image can no longer be read.
    """
    chosen = normals[: MOST_PICTURES // parts**2]
    judged = len(chosen) if len(chosen) > 1 else 0
    closer = CloserNormals(parts)
    for done, normal in enumerate(chosen):
        on_step(done, len(chosen) + judged)
        closer = step(_add_normal, closer, open_parts(normal))
    for done in range(judged):
        on_step(len(chosen) + done, len(chosen) + judged)
        closer = step(_judge_next, closer)
    return closer


def look_closer(
    step: Step, open_parts: Open, closer: CloserNormals, query: ImageSource, crop_box: CropBox
) -> CloserLook:
    """Compares a query with normals in parts.

    Args:
        step: Computes a step with the detector that ``closer`` was made by.
        open_parts: A result of :func:`parts_opener`.
        closer: The normals in parts.
        query: The image.
        crop_box: The part of it that the model sees, in its pixels.

    Raises:
        InctrlError: The image can no longer be read.
    """
    patch_map = step(_compare, closer, open_parts(query))
    shots = len(closer.patches)
    return CloserLook(closer.parts, patch_map, crop_box, closer.peaks, shots, closer.scale)


def closer_told(look: CloserLook, shots: int) -> str:
    """What a closer look finds, in a sentence or two.

    Args:
        look: The look.
        shots: Number of all normals.
    """
    normals = "the normal" if look.shots == 1 else f"the {look.shots} normals"
    if look.shots < shots:
        normals = f"the first {look.shots} of {shots} normals"
    told = f"In {look.parts} × {look.parts} parts, compared with {normals}: the strongest patch "
    told += f"differs by {look.peak:.3f}"
    if look.above is None:
        return f"{told}. Add a second normal to see how far normals differ in parts."
    highest = max(look.normal_peaks)
    place = "above" if look.above else "no more than"
    return f"{told}, {place} the {highest:.3f} that the normals reach among themselves."


def _add_normal(
    detector: Detector, closer: CloserNormals, pictures: Sequence[Image.Image]
) -> CloserNormals:
    """The same with another normal, from its parts."""
    patches = tuple(depth.cpu() for depth in _encode(detector, pictures))
    return dataclasses.replace(closer, patches=(*closer.patches, patches))


def _judge_next(detector: Detector, closer: CloserNormals) -> CloserNormals:
    """The same with the next normal held against the others."""
    place = len(closer.peaks)
    others = closer.patches[:place] + closer.patches[place + 1 :]
    peak = float(_residuals(detector, closer.patches[place], others).max())
    return dataclasses.replace(closer, peaks=(*closer.peaks, peak))


def _compare(
    detector: Detector, closer: CloserNormals, pictures: Sequence[Image.Image]
) -> np.ndarray:
    """The residuals of a query's parts, put together: float32 [N * G, N * G]."""
    found = _residuals(detector, _encode(detector, pictures), closer.patches)
    parts, grid = closer.parts, math.isqrt(found.shape[1])
    side = parts * grid
    whole = found.view(parts, parts, grid, grid).transpose(1, 2).reshape(side, side)
    return whole.cpu().numpy().copy()


def _encode(detector: Detector, pictures: Sequence[Image.Image]) -> tuple[Tensor, ...]:
    whole = [(0.0, 0.0, *map(float, picture.size)) for picture in pictures]
    seen = [SeenImage(p.size, p, box, p) for p, box in zip(pictures, whole, strict=True)]
    return detector.encode_opened(seen).features.patches


@torch.inference_mode()
def _residuals(
    detector: Detector, own: Sequence[Tensor], normals: Sequence[Sequence[Tensor]]
) -> Tensor:
    """[N * N, P], the mean over depths, of parts against all parts of normals."""
    device, each = detector.backbone.device, detector.backbone.map
    joined = [torch.cat(depths).to(device) for depths in zip(*normals, strict=True)]
    distances, _ = layer_residuals([depth.to(device) for depth in own], joined, each)
    return distances.mean(dim=1)
