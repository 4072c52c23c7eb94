"""Pictures of a score: the heatmap over the original image, and marks on images.

Pure functions of arrays and PIL images. The colour tables come from matplotlib; the compositing is
Pillow's, fast enough to follow a slider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .preprocessing import CropBox, patch_box

# Of even lightness from end to end, so that colour-blind people and grey prints keep the order.
# The first stands out on most images: cividis passes through grey, which many photographs are.
COLOUR_MAPS = ("inferno", "viridis", "cividis")
COLOUR_NAMES = dict(
    zip(COLOUR_MAPS, ("Red to yellow", "Violet to yellow", "Blue to yellow"), strict=True)
)
# Around what is truly anomalous, or like a known defect: far in hue from all three, and lighter
# than a dark rim around it.
OUTLINE = (64, 230, 255)

_LEVELS = 256
_OUTSIDE = 0.45  # Brightness kept outside the crop, which the model never saw.
_ROUGHLY = 1.2  # How much larger than its size on a screen an image is left by whole pixels first.
_FAINTEST = 0.2  # Share of the opacity left at the bottom of the scale.
_FIRST = 0.6  # Share of the opacity just above what is clear, so that it is seen at all.
_LINE = (255, 255, 255)
_RIM = (20, 20, 20)


@dataclass(frozen=True)
class OverlayStyle:
    """How a map is drawn.

    Attributes:
        low: Value at the bottom of the colour scale.
        high: Value at its top; beyond it the colour stays the same.
        colour_map: One of ``COLOUR_MAPS``.
        opacity: Opacity of the scale's top half, in [0, 1]. Below, it falls with the value, so that
            what looks normal stays visible.
        smooth: Interpolate between patches; False draws them as squares.
        clear: Value up to which the image stays as it is; a line encloses what lies above. None:
            the whole map is drawn, without a line.
        ignored: Part of what is seen that does not count, bool [N, N], which is striped; None: all
            of it counts.
    """

    low: float
    high: float
    colour_map: str = COLOUR_MAPS[0]
    opacity: float = 0.7
    smooth: bool = True
    clear: float | None = None
    ignored: np.ndarray | None = None


@lru_cache(maxsize=len(COLOUR_MAPS))
def colour_table(name: str) -> np.ndarray:
    """uint8 [256, 3], from the bottom to the top of the scale.

    Raises:
        ValueError: ``name`` is not one of ``COLOUR_MAPS``.
    """
    if name not in COLOUR_MAPS:
        raise ValueError(f"Choose a colour map among {', '.join(COLOUR_MAPS)}.")
    from matplotlib import colormaps  # Takes a third of a second, and most callers draw nothing.

    return np.rint(colormaps[name](np.arange(_LEVELS))[:, :3] * 255).astype(np.uint8)


def overlay(
    image: Image.Image,
    patch_map: np.ndarray,
    crop_box: CropBox,
    style: OverlayStyle,
    framed: CropBox | None = None,
) -> Image.Image:
    """Lays a map over the image it belongs to, at the image's own size.

    What the model did not see is darkened, and the crop's edge drawn where it is not the image's.
    A line encloses what lies above ``style.clear``.

    Args:
        image: RGB.
        patch_map: float [G, G].
        crop_box: Place of the map, in pixels of ``image``.
        style: Scale and colours.
        framed: A box to frame, in pixels of ``image``.

    Returns:
        RGB image of the same size.
    """
    left, top, width, height = _whole_box(crop_box)
    size = width, height
    levels = _levels(patch_map, style, size)
    colours = levels.convert("P")
    colours.putpalette(colour_table(style.colour_map).tobytes())
    seen = image.crop((left, top, left + size[0], top + size[1]))
    mixed = Image.composite(colours.convert("RGB"), seen, levels.point(_alpha(style)))
    if (clear := _clear_level(style)) is not None:
        _enclose(mixed, np.asarray(levels) > clear)
    if size == image.size:
        result = mixed
    else:
        result = image.point([round(_OUTSIDE * value) for value in range(256)] * 3)
        result.paste(mixed, (left, top))
        _frame(result, (left, top, left + size[0], top + size[1]), thin=True)
    if style.ignored is not None:
        result = hatch(result, crop_box, style.ignored)
    if framed is not None:
        _frame(result, framed)
    return result


def level_map(
    patch_map: np.ndarray, crop_box: CropBox, size: tuple[int, int], low: float, high: float
) -> Image.Image:
    """A map alone, as grey levels on a fixed scale.

    Args:
        patch_map: float [G, G].
        crop_box: Place of the map, in pixels of the image it belongs to.
        size: Width and height of that image.
        low: Value of black.
        high: Value of white, and so are all above it.

    Returns:
        8-bit grey image of that size; black also where the model did not see.
    """
    return _map_alone(patch_map, crop_box, size, (low, high), np.uint8)


def value_map(patch_map: np.ndarray, crop_box: CropBox, size: tuple[int, int]) -> Image.Image:
    """A map alone, as values that mean the same for every image: 0 is 0, and 65535 is 1.

    Args:
        patch_map: float [G, G], in [0, 1].
        crop_box: Place of the map, in pixels of the image it belongs to.
        size: Width and height of that image.

    Returns:
        16-bit grey image of that size; 0 also where the model did not see.
    """
    return _map_alone(patch_map, crop_box, size, (0.0, 1.0), np.uint16)


def _map_alone(
    patch_map: np.ndarray,
    crop_box: CropBox,
    size: tuple[int, int],
    ends: tuple[float, float],
    kind: type[np.unsignedinteger],
) -> Image.Image:
    """The map interpolated between the patches' middles, from one end of ``kind`` to the other."""
    left, top, width, height = _whole_box(crop_box)
    patches = Image.fromarray(np.asarray(patch_map, dtype=np.float32))
    values = np.array(patches.resize((width, height), Image.Resampling.BILINEAR))
    # In place: of a large image each copy takes 200 MB.
    values -= ends[0]
    values *= np.iinfo(kind).max / max(ends[1] - ends[0], 1e-12)
    np.clip(np.rint(values, out=values), 0, np.iinfo(kind).max, out=values)
    result = np.zeros((size[1], size[0]), kind)
    seen = result[top : top + height, left : left + width]
    seen[:] = values[: seen.shape[0], : seen.shape[1]]
    return Image.fromarray(result)


def mark_patch(
    image: Image.Image, crop_box: CropBox, grid: int, row: int, column: int
) -> Image.Image:
    """A copy of an image with one patch framed and all else darkened.

    Args:
        image: RGB.
        crop_box: In pixels of ``image``.
        grid: G, side of the patch grid.
        row: Row of the patch.
        column: Column of the patch.
    """
    box = patch_box(crop_box, grid, row, column)
    corners = tuple(round(edge) for edge in box)
    result = image.point([round(0.6 * value) for value in range(256)] * 3)
    result.paste(image.crop(corners), corners[:2])
    _frame(result, box)
    return result


def outline(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """A copy of an image with a line around the areas of a mask, which stay uncovered.

    The line is bright with a dark rim, and of a hue that no colour map has.

    Args:
        image: RGB.
        mask: bool [H, W], of the same picture at any size.
    """
    width = max(1, round(max(image.size) / 260))
    area = Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255)
    area = area.resize(image.size, Image.Resampling.NEAREST)
    line = _grown(area, width)
    result = image.copy()
    result.paste(_RIM, mask=_grown(line, max(1, width // 2)))
    result.paste(OUTLINE, mask=line)
    result.paste(image, mask=area)
    return result


def outline_patches(
    image: Image.Image, crop_box: CropBox, places: Sequence[tuple[int, int]], grid: int
) -> Image.Image:
    """A copy of an image with a line around some patches, as :func:`outline` draws it.

    Args:
        image: RGB.
        crop_box: Place of the patches, in pixels of ``image``.
        places: Rows and columns, counted from 0.
        grid: G, side of the patch grid.
    """
    if not places:
        return image
    mask = np.zeros((image.height, image.width), dtype=bool)
    for place in places:
        left, top, right, bottom = map(round, patch_box(crop_box, grid, *place))
        mask[top:bottom, left:right] = True
    return outline(image, mask)


def hatch(image: Image.Image, crop_box: CropBox, part: np.ndarray) -> Image.Image:
    """A copy of an image with stripes over a part that does not count.

    Args:
        image: RGB.
        crop_box: What is seen of it, in its pixels.
        part: Bool [N, N], of what is seen.
    """
    left, top, width, height = _whole_box(crop_box)
    mask = np.zeros((image.height, image.width), dtype=bool)
    cells = Image.fromarray(np.asarray(part, dtype=np.uint8) * 255)
    seen = np.asarray(cells.resize((width, height), Image.Resampling.NEAREST)) > 0
    area = mask[top : top + height, left : left + width]
    area[:] = seen[: area.shape[0], : area.shape[1]]
    unit = max(2, round(max(image.size) / 160))
    rows, columns = np.ogrid[: image.height, : image.width]
    stripe = (rows + columns) % (4 * unit)
    result = image.copy()
    for colour, where in ((_RIM, stripe < 2 * unit), (_LINE, stripe < unit)):
        result.paste(colour, mask=Image.fromarray((mask & where).astype(np.uint8) * 160))
    return result


def resize_for_screen(image: Image.Image, most_pixels: int, least_side: int = 1) -> Image.Image:
    """The image at a size for a screen, its aspect ratio kept; itself where it has one.

    Args:
        image: RGB.
        most_pixels: Number of pixels of the result at most.
        least_side: Longer side that a smaller image is enlarged to, as far as ``most_pixels``
            allows.
    """
    width, height = image.size
    factor = max(1.0, least_side / max(width, height))
    factor = min(factor, (most_pixels / (width * height)) ** 0.5)
    size = max(1, int(width * factor)), max(1, int(height * factor))
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=_ROUGHLY)


def scale_box(box: CropBox, original: tuple[int, int], shown: tuple[int, int]) -> CropBox:
    """A box in pixels of an image of size ``original``, in those of its copy of size ``shown``."""
    x, y = shown[0] / original[0], shown[1] / original[1]
    return (box[0] * x, box[1] * y, box[2] * x, box[3] * y)


def _whole_box(crop_box: CropBox) -> tuple[int, int, int, int]:
    """Left, top, width and height in whole pixels, of which there is one at least."""
    left, top, right, bottom = (round(edge) for edge in crop_box)
    return left, top, max(right - left, 1), max(bottom - top, 1)


def _levels(patch_map: np.ndarray, style: OverlayStyle, size: tuple[int, int]) -> Image.Image:
    span = max(style.high - style.low, 1e-12)
    share = (np.asarray(patch_map, dtype=np.float64) - style.low) / span
    levels = np.rint(np.clip(share, 0.0, 1.0) * (_LEVELS - 1)).astype(np.uint8)
    if (clear := _clear_level(style)) is not None:
        # Rounding must not carry a patch over the bound, or back.
        above = np.asarray(patch_map) > style.clear
        levels = np.where(above, np.maximum(levels, clear + 1), np.minimum(levels, clear))
        levels = levels.astype(np.uint8)
    filter_ = Image.Resampling.BILINEAR if style.smooth else Image.Resampling.NEAREST
    return Image.fromarray(levels).resize(size, filter_)


def _clear_level(style: OverlayStyle) -> int | None:
    """The highest level that is left clear, of which one at least is not."""
    if style.clear is None:
        return None
    share = (style.clear - style.low) / max(style.high - style.low, 1e-12)
    return min(max(int(share * (_LEVELS - 1)), 0), _LEVELS - 2)


def _alpha(style: OverlayStyle) -> list[int]:
    level, clear = np.arange(_LEVELS), _clear_level(style)
    ramp = np.clip(level / (_LEVELS / 2), _FAINTEST, 1.0)
    if clear is not None:
        above = (level - clear) / (_LEVELS - 1 - clear)
        ramp = np.where(level > clear, np.clip(_FIRST + above, 0.0, 1.0), 0.0)
    return np.rint(255 * min(max(style.opacity, 0.0), 1.0) * ramp).astype(int).tolist()


def _enclose(image: Image.Image, area: np.ndarray) -> None:
    """Draws a line with a dark rim around an area, a bool [H, W], outside of it."""
    unit = max(1, round(max(image.size) / 400))
    grown = _spread(area, unit)
    for colour, line in ((_RIM, _spread(grown, unit) & ~grown), (_LINE, grown & ~area)):
        image.paste(colour, mask=Image.fromarray(line.astype(np.uint8) * 255))


def _spread(area: np.ndarray, steps: int) -> np.ndarray:
    """The area and what lies within so many pixels of it in a row or a column."""
    grown = area.copy()
    grown[steps:] |= area[:-steps]
    grown[:-steps] |= area[steps:]
    grown[:, steps:] |= area[:, :-steps]
    grown[:, :-steps] |= area[:, steps:]
    return grown


def _grown(area: Image.Image, steps: int) -> Image.Image:
    for _ in range(steps):
        area = area.filter(ImageFilter.MaxFilter(3))
    return area


def _frame(image: Image.Image, box: CropBox, thin: bool = False) -> None:
    # Dark outside, light inside: visible on any ground and in any colour map.
    unit = max(1, round(max(image.size) / (700 if thin else 350)))
    left, top, right, bottom = (round(edge) for edge in box)
    right, bottom = max(right - 1, left), max(bottom - 1, top)
    draw = ImageDraw.Draw(image)
    outer = (left - unit, top - unit, right + unit, bottom + unit)
    draw.rectangle(outer, outline=_RIM, width=unit)
    draw.rectangle((left, top, right, bottom), outline=_LINE, width=unit)
