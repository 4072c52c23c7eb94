"""How the photographed textures of scikit-image are cut into crops.

A photograph is cut in two: the normals come from one part and the queries from the other, so that
no query shares a pixel with a normal.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .pixels import to_array, to_image

CC0 = "CC0 1.0"
GRASS_TONES = ((0.04, 0.08, 0.02), (0.36, 0.46, 0.17), (0.90, 0.93, 0.66))


def crop(photo: np.ndarray, box: tuple[int, int, int, int], width: int) -> np.ndarray:
    """Cut a box (left, top, right, bottom) out of a photo [H, W, 3] and enlarge it to a width."""
    cut = to_image(photo).crop(box)
    height = round(width * cut.height / cut.width)
    return to_array(cut.resize((width, height), Image.Resampling.LANCZOS))


def boxes(size: tuple[int, int], lefts: tuple[int, ...], tops: tuple[int, ...]) -> list[tuple]:
    """Return the boxes of one size at every combination of left and top."""
    return [(x, y, x + size[0], y + size[1]) for y in tops for x in lefts]
