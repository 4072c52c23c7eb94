"""The place of a case's cause, and a closer look at it where it is small."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .cases import Case, read_mask

Box = tuple[int, int, int, int]

SMALL = 0.05  # Share of the picture below which a cause is magnified.
SURROUNDINGS = 1.5  # Side of the part that is shown, over the longer side of the cause.
LEAST = 20  # Pixels; of fewer one sees only squares.
SIDE = 480  # Pixels of the closer look.


def cause_mask(case: Case) -> np.ndarray | None:
    """The cause as bool [H, W], from the mask or from its box; None where it is no single place."""
    if case.mask is not None:
        return read_mask(case.mask)
    if case.cause is None:
        return None
    with Image.open(case.query) as image:
        mask = np.zeros((image.height, image.width), bool)
    left, top, right, bottom = case.cause
    mask[top:bottom, left:right] = True
    return mask


def small_cause(case: Case, size: tuple[int, int]) -> Box | None:
    """The box around a cause that is worth a closer look.

    Args:
        case: The case.
        size: Width and height of its query.

    Returns:
        (left, top, right, bottom) in pixels of the query; None where the cause is no single place,
        or is not small.
    """
    box = case.cause
    if box is None and case.mask is not None:
        rows, columns = np.nonzero(read_mask(case.mask))
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    if box is None:
        return None
    left, top, right, bottom = box
    return box if (right - left) * (bottom - top) < SMALL * size[0] * size[1] else None


def magnify(image: Image.Image, box: Box) -> tuple[Image.Image, int]:
    """A closer look at a box and what surrounds it.

    Args:
        image: The picture.
        box: (left, top, right, bottom) in its pixels.

    Returns:
        A square picture, and the side of the part that it shows, in pixels of the image.
    """
    left, top, right, bottom = box
    longer = max(right - left, bottom - top)
    side = min(max(round(SURROUNDINGS * longer), LEAST), *image.size)
    x = _start((left + right) / 2, side, image.width)
    y = _start((top + bottom) / 2, side, image.height)
    part = image.crop((x, y, x + side, y + side))
    return part.resize((SIDE, SIDE), Image.Resampling.LANCZOS), side


def _start(middle: float, side: int, whole: int) -> int:
    """Where a part of that side begins, around a middle and inside the whole."""
    return min(max(round(middle - side / 2), 0), whole - side)
