"""An upright RGB image -> [3, S, S] tensor, and the crop box that maps back.

Bit for bit torchvision's ``Resize(S, bicubic)`` and ``CenterCrop(S)`` on a PIL image, except for
images so wide or tall that the resized strip itself would be a danger. Or, for a model that is to
see whole images, its ``Resize((S, S), bicubic)``: on a tensor, which is five times as fast, or on a
PIL image where it is a large one. Those two differ in fewer than one value of 100, by one grey
level and rarely by two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..config import SHORTEST, SQUASH, PreprocessConfig

if TYPE_CHECKING:  # Imported where it computes: processes that decode images do without it.
    import torch

MAX_ASPECT = 32  # Longer over shorter side, up to which the whole strip is resized.

# Width over height may differ by this factor before it is worth saying.
PROPORTIONS_APART = 1.15

# Up to this side torch resizes faster than Pillow; copying more pixels to it takes what that saves.
FAST_SIDE = 2048
_LONG = 64  # Times the model's size, from which a side is reduced roughly before it is resized.
_MOST_SHOWN = 4  # Longer over shorter side of what is changed and scored; turning needs its square.

CropBox = tuple[float, float, float, float]


def crop_image(
    image: Image.Image, size: int, resize_mode: str = SHORTEST
) -> tuple[Image.Image, CropBox]:
    """The square that the model sees of an image, ``size`` x ``size``.

    "shortest" resizes the shorter side to ``size`` and cuts out the centre. The longer side is
    rounded down, as torchvision computes it, so both axes may scale by slightly different factors;
    the box is exact for each. "squash" resizes both sides, and cuts nothing.

    Args:
        image: RGB image of any size.
        size: Side of the crop, pixels of the model's input.
        resize_mode: See :class:`inctrl_core.config.PreprocessConfig`.

    Returns:
        The crop, and its (left, top, right, bottom) in pixels of ``image``, fractional.
    """
    box = seen_box(image.size, size, resize_mode)
    if resize_mode == SQUASH:
        return _squash(image, (size, size), size), box
    resized, (left, top) = _centre(image.size, size)
    bicubic = Image.Resampling.BICUBIC
    if max(resized) > MAX_ASPECT * size:
        # The whole resized strip would be far larger than the image; the box alone differs from it
        # by one grey level in one pixel of a thousand.
        return image.resize((size, size), bicubic, box=box), box
    return image.resize(resized, bicubic).crop((left, top, left + size, top + size)), box


def seen_box(sides: tuple[int, int], size: int, resize_mode: str = SHORTEST) -> CropBox:
    """Where :func:`crop_image` cuts an image of ``sides`` (width, height): its second result."""
    width, height = sides
    if resize_mode == SQUASH:
        return 0.0, 0.0, float(width), float(height)
    resized, (left, top) = _centre(sides, size)
    scale_x, scale_y = width / resized[0], height / resized[1]
    return (
        left * scale_x,
        top * scale_y,
        min((left + size) * scale_x, float(width)),  # Rounding must not leave the image.
        min((top + size) * scale_y, float(height)),
    )


def _centre(sides: tuple[int, int], size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height after the shorter is brought to ``size``; left and top of the centre."""
    width, height = sides
    if width <= height:
        resized = size, int(size * height / width)
    else:
        resized = int(size * width / height), size
    return resized, (round((resized[0] - size) / 2.0), round((resized[1] - size) / 2.0))


def _squash(image: Image.Image, sides: tuple[int, ...], size: int) -> Image.Image:
    if max(image.size) <= FAST_SIDE:
        import torch
        import torch.nn.functional as F

        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        resized = F.interpolate(pixels, sides[::-1], mode="bicubic", antialias=True)
        return Image.fromarray(resized[0].permute(1, 2, 0).contiguous().numpy())
    # The filter's weights take 30 bytes for every pixel of a side: 1.5 GB for the longest.
    gap = 3.0 if max(image.size) > _LONG * size else None
    return image.resize(sides, Image.Resampling.BICUBIC, reducing_gap=gap)


def seen_image(image: Image.Image, config: PreprocessConfig) -> Image.Image:
    """The model's view of an image, in the image's own proportions.

    For what is to be changed or shown first and scored then. Its shorter side has the model's size,
    the longer one at most four times that: what is longer is squeezed to it.
    """
    size = config.image_size
    if config.resize_mode != SQUASH:
        return crop_image(image, size)[0]
    scale = size / min(image.size)
    sides = tuple(min(round(side * scale), _MOST_SHOWN * size) for side in image.size)
    return _squash(image, sides, size)


def cut_parts(image: Image.Image, config: PreprocessConfig, parts: int) -> tuple[Image.Image, ...]:
    """The square that the model sees of an image, cut into equal parts; each is a crop of its own.

    By Pillow alone, whatever the image's size: processes that decode images have no torch.

    Args:
        image: RGB.
        config: How the model sees images.
        parts: N; there are N x N parts.

    Returns:
        N * N RGB images, S x S, row by row.
    """
    size = config.image_size
    left, top, right, bottom = seen_box(image.size, size, config.resize_mode)
    columns, rows = _cuts(left, right, image.width, parts), _cuts(top, bottom, image.height, parts)
    gap = 3.0 if max(image.size) > _LONG * size else None
    cut = (image.crop((x0, y0, x1, y1)) for y0, y1 in rows for x0, x1 in columns)
    bicubic = Image.Resampling.BICUBIC
    return tuple(part.resize((size, size), bicubic, reducing_gap=gap) for part in cut)


def _cuts(start: float, end: float, side: int, parts: int) -> list[tuple[int, int]]:
    """Where each part begins and ends, in whole pixels; none is empty."""
    edges = [round(start + (end - start) * i / parts) for i in range(parts + 1)]
    begins = [min(edge, side - 1) for edge in edges[:-1]]
    return [(a, max(a + 1, b)) for a, b in zip(begins, edges[1:], strict=True)]


def to_tensor(crop: Image.Image, config: PreprocessConfig) -> torch.Tensor:
    """Normalises an RGB crop: float32 [3, S, S]."""
    import torch

    # Colour by colour from the first, which the resizing and the pass read sooner.
    pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1).contiguous().float().div_(255.0)
    mean = torch.tensor(config.mean).view(3, 1, 1)
    std = torch.tensor(config.std).view(3, 1, 1)
    return pixels.sub_(mean).div_(std)


def preprocess(image: Image.Image, config: PreprocessConfig) -> tuple[torch.Tensor, CropBox]:
    """From an RGB image to the model's input.

    Returns:
        float32 [3, S, S], and the crop box in pixels of ``image``.
    """
    crop, box = crop_image(image, config.image_size, config.resize_mode)
    return to_tensor(crop, config), box


def aspect_mismatch(crop_box: CropBox, normals: Sequence[CropBox]) -> tuple[float, float] | None:
    """Tells where a query becomes a square in another way than every normal.

    What is squeezed by another amount has another shape for the model, however sound it is. Squares
    that are cut out are all alike.

    >>> aspect_mismatch((0, 0, 200, 100), [(0, 0, 100, 100), (0, 0, 150, 100)])
    (2.0, 1.5)

    Args:
        crop_box: The query's crop box.
        normals: Crop boxes of the normals, at least one.

    Returns:
        Width over height of the query and of the normal that comes closest, where they differ by a
        factor above ``PROPORTIONS_APART``; else None.
    """
    own, *others = (
        (right - left) / (bottom - top) for left, top, right, bottom in (crop_box, *normals)
    )
    closest = min(others, key=lambda ratio: max(ratio / own, own / ratio))
    return (own, closest) if max(closest / own, own / closest) > PROPORTIONS_APART else None


def patch_box(crop_box: CropBox, grid: int, row: int, column: int) -> CropBox:
    """The part of the original image under one patch of a ``grid`` x ``grid`` map."""
    left, top, right, bottom = crop_box
    step_x, step_y = (right - left) / grid, (bottom - top) / grid
    x, y = left + column * step_x, top + row * step_y
    return (x, y, x + step_x, y + step_y)


def patch_at(crop_box: CropBox, grid: int, x: float, y: float) -> tuple[int, int] | None:
    """(row, column) of the patch under a pixel of the original, None outside the crop."""
    left, top, right, bottom = crop_box
    if not (left <= x < right and top <= y < bottom):
        return None
    row = int((y - top) / (bottom - top) * grid)
    column = int((x - left) / (right - left) * grid)
    return min(row, grid - 1), min(column, grid - 1)
