"""Which images are copies of one another: the same file, or one saved anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .backbone import ImageFeatures
from .residuals import compare_places, distances_in_place

# Bounds of what counts as a copy, see same_images.
SAME_PART = 0.5
SAME_PEAK = 8.0
SAME_LEAST = 0.008
SAME_PLACES = 0.95
SAME_ROUNDING = 1e-4
SAME_MOST = 0.1  # Saves time: places of one image hardly lie twice that apart, on average.


def same_images(queries: ImageFeatures, normals: ImageFeatures) -> Tensor:
    """Which images are copies of normals: the same file, or one saved anew.

    A copy differs a little everywhere, and every patch is far more like the one at its own place
    than like any elsewhere. A defect differs at one place; other pictures of the same thing, alike
    as they may be, differ at some place as much as neighbouring places do. So three bounds must
    hold for the largest distance of patches at the same place, unless it is tiny: it is at most
    half of how far the nearest patch elsewhere lies, on average, and at most eight times the mean
    distance at the same place; and nearly all patches find their own place.

    Chosen on auxiliary data, with the embedded model. Of 442,000 pairs of different images of 98
    classes none is taken for a copy (drawn boards come closest, then tiles photographed twice, at
    1.24 and 1.35 times the first bound). Of 76 images of 76 classes saved anew these are found:
    JPEG of quality 85, 75 and 60 in 52, 39 and 21 cases, WebP of 90 in 53, turned by Exif at
    quality 92 in 74, resized to .9 or .95 and back in 69 and 70; of 12 images all as PNG, TIFF and
    BMP, resized by .9 to 2, and as JPEG from 90 on. An image of less than 150 pixels a side is
    enlarged with all that compression did to it, and hardly ever found.

    Args:
        queries: Features of B images.
        normals: Features of K images, from the same backbone.

    Returns:
        bool [B, K], on the CPU.
    """
    with torch.inference_mode():
        distances = distances_in_place(queries.patches, normals.patches)
        mean, largest = distances.mean(dim=-1), distances.amax(dim=-1)
        same = (largest <= SAME_ROUNDING).cpu()
        near = largest <= (SAME_PEAK * mean).clamp(SAME_LEAST, SAME_MOST)
        for query, normal in torch.nonzero(near.cpu() & ~same).tolist():
            one = [depth[query] for depth in queries.patches]
            other = [depth[normal] for depth in normals.patches]
            same[query, normal] = _are_copies(one, other, float(largest[query, normal]))
    return same


def _are_copies(one: Sequence[Tensor], other: Sequence[Tensor], largest: float) -> bool:
    """Whether two images are, that differ by at most ``largest`` at the same place."""
    # The patch next to it is no nearer than the nearest one elsewhere, and costs a tenth to compare
    # with; it is enough to tell nearly all different images apart.
    beside = distances_in_place(
        [patches[None] for patches in one], [patches.roll(1, dims=0)[None] for patches in other]
    )
    if largest > max(SAME_LEAST, SAME_PART * float(beside.mean())):
        return False
    share, elsewhere = compare_places(one, other)
    return share >= SAME_PLACES and largest <= max(SAME_LEAST, SAME_PART * elsewhere)
