"""The pictures of one labelled image: as it is, under its map, beside its nearest normal patch."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...analysis.batch import Batch, BatchRow
from ...analysis.reasons import Reasons
from ...datasets.masks import mask_picture
from ...errors import ImageError
from ...images.overlay import mark_patch, outline, overlay, scale_box
from ...images.seen import Opener, shrink

PIXELS = 360_000
_MASK_SIDE = 700


@dataclass(frozen=True, eq=False)
class Pictures:
    """One image for the screen.

    Attributes:
        plain: The image, with an outline of its defect where a mask is given.
        mapped: The same under its map.
        masked: Whether there is an outline.
        problem: Why there is none although a mask was given; empty where that is not so.
    """

    plain: Image.Image
    mapped: Image.Image
    masked: bool = False
    problem: str = ""


def draw_pictures(batch: Batch, row: BatchRow, opener: Opener, pixels: int = PIXELS) -> Pictures:
    """Opens an image again and draws its map, as everywhere on the scale of the normals.

    Args:
        batch: The results.
        row: One of its rows, with a score.
        opener: Opens an image.
        pixels: Of the pictures, at most.

    Raises:
        ImageError: The image is gone or cannot be read again.
    """
    image = opener(shrink, row.file.path, pixels, levels=batch.levels)
    box = scale_box(row.score.crop_box, row.size, image.size)
    mapped = overlay(image, row.score.patch_map, box, batch.scale.style())
    if not row.file.mask:
        return Pictures(image, mapped)
    try:
        mask = np.asarray(opener.run(mask_picture, row.file.mask, _MASK_SIDE))[..., 0] > 127
    except ImageError as error:
        return Pictures(image, mapped, problem=str(error))
    return Pictures(outline(image, mask), outline(mapped, mask), masked=True)


def draw_thumbnail(batch: Batch, row: BatchRow) -> Image.Image:
    """The small picture of a row with a score, under its map."""
    with Image.open(io.BytesIO(row.thumbnail), formats=["JPEG"]) as image:
        image.load()
    box = scale_box(row.score.crop_box, row.size, image.size)
    return overlay(image, row.score.patch_map, box, batch.scale.style())


def draw_patch_pair(
    reasons: Reasons, plain: Image.Image, row: BatchRow, normal: Image.Image
) -> tuple[Image.Image, Image.Image]:
    """The patch that differs most, framed in its image, and its nearest in that normal.

    Args:
        reasons: The image's.
        plain: The image for the screen.
        row: Its row.
        normal: What the model sees of the normal that holds the nearest patch.
    """
    grid = row.score.patch_map.shape[0]
    box = scale_box(row.score.crop_box, row.size, plain.size)
    near = reasons.nearest
    whole = (0.0, 0.0, float(normal.width), float(normal.height))
    return (
        mark_patch(plain, box, grid, *reasons.patch),
        mark_patch(normal, whole, grid, near.row, near.column),
    )
