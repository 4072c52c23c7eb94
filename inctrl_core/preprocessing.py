"""Any image file -> upright RGB image -> [3, S, S] tensor, and the crop box that maps back.

Bit for bit torchvision's ``Resize(S, bicubic)`` and ``CenterCrop(S)`` on a PIL image, except for
images so wide or tall that the resized strip itself would be a danger; or, for a model that is to
see whole images, its ``Resize((S, S), bicubic)``.
"""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH

from .config import SHORTEST, SQUASH, PreprocessConfig
from .errors import ImageError

MAX_BYTES = 40 * 2**20
MAX_PIXELS = 50_000_000
# Small files can be slow to decode: each scan of a JPEG is a pass over all its pixels (cameras and
# programs write 1 to 20), and Pillow reads a few rare kinds of PPM and BMP in plain Python.
MAX_SCANS = 64
MAX_SLOW_PIXELS = 2_000_000
MAX_ASPECT = 32  # Longer over shorter side, up to which the whole strip is resized.

# Width over height may differ by this factor before it is worth saying.
PROPORTIONS_APART = 1.15

_LONG = 64  # Times the model's size, from which a side is reduced roughly before it is resized.
_MOST_SHOWN = 4  # Longer over shorter side of what is changed and scored; turning needs its square.
_BAND = 256  # Rows that are scaled at once.

# Raster formats only: Pillow hands some of the others (EPS, for one) to external programs.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")
# How their files are named, for those who look for images in a folder.
IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .webp .tif .tiff .bmp .gif .ppm .pgm .avif".split())

# Of a JPEG: a marker (not what is stuffed into or restarts coded data), and three kinds of it.
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_JPEG_BARE, _JPEG_END, _JPEG_SCAN = 0x01, 0xD9, 0xDA

ImageSource = str | os.PathLike | bytes | BinaryIO | Image.Image
CropBox = tuple[float, float, float, float]


def open_image(source: ImageSource) -> Image.Image:
    """Opens an image as people have them, as an upright RGB image.

    EXIF orientation is applied; transparency is laid over white; of an animation the first frame
    is taken; 16-bit greyscale is scaled from 0..65535, floating point from 0..1 (or 0..255 where
    a value exceeds 1).

    Args:
        source: Path, bytes, binary file object or PIL image.

    Returns:
        PIL image of mode RGB; a new object unless ``source`` is an upright RGB image already.

    Raises:
        ImageError: The file is missing, empty, damaged, of an unsupported format, larger than
            ``MAX_BYTES``, or has more than ``MAX_PIXELS`` pixels.
    """
    name = _display_name(source)
    try:
        image = source if isinstance(source, Image.Image) else _open_checked(source, name)
        _check_pixels(*image.size, name)
        return _to_rgb(ImageOps.exif_transpose(image), name)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            f"{name} has far too many pixels; use at most {MAX_PIXELS // 10**6} megapixels."
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not an image this program reads; use PNG, JPEG, WebP, TIFF, BMP or GIF."
        ) from None
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist; check the path.") from None
    except IsADirectoryError:
        raise ImageError(f"{name} is a folder; name an image file.") from None
    except Exception:  # On damaged data Pillow's decoders raise many kinds, even SyntaxError.
        raise ImageError(f"{name} is damaged or incomplete; save it again and retry.") from None


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
        resize_mode: One of :data:`inctrl_core.config.RESIZE_MODES`.

    Returns:
        The crop, and its (left, top, right, bottom) in pixels of ``image``, fractional.
    """
    width, height = image.size
    if resize_mode == SQUASH:
        whole = (0.0, 0.0, float(width), float(height))
        return _squash(image, (size, size), size), whole
    if width <= height:
        resized = size, int(size * height / width)
    else:
        resized = int(size * width / height), size
    left = round((resized[0] - size) / 2.0)
    top = round((resized[1] - size) / 2.0)
    scale_x, scale_y = width / resized[0], height / resized[1]
    box = (
        left * scale_x,
        top * scale_y,
        min((left + size) * scale_x, float(width)),  # Rounding must not leave the image.
        min((top + size) * scale_y, float(height)),
    )
    bicubic = Image.Resampling.BICUBIC
    if max(resized) > MAX_ASPECT * size:
        # The whole resized strip would be far larger than the image; the box alone differs from it
        # by one grey level in one pixel of a thousand.
        return image.resize((size, size), bicubic, box=box), box
    return image.resize(resized, bicubic).crop((left, top, left + size, top + size)), box


def _squash(image: Image.Image, sides: tuple[int, ...], size: int) -> Image.Image:
    # The filter's weights take 30 bytes for every pixel of a side: 1.5 GB for the longest.
    gap = 3.0 if max(image.size) > _LONG * size else None
    return image.resize(sides, Image.Resampling.BICUBIC, reducing_gap=gap)


def seen_image(image: Image.Image, config: PreprocessConfig) -> Image.Image:
    """What the model sees of an image, in the image's own proportions.

    For what is to be changed or shown first and scored then. Its shorter side has the model's size,
    the longer one at most four times that: what is longer is squeezed to it.
    """
    size = config.image_size
    if config.resize_mode != SQUASH:
        return crop_image(image, size)[0]
    scale = size / min(image.size)
    sides = tuple(min(round(side * scale), _MOST_SHOWN * size) for side in image.size)
    return _squash(image, sides, size)


def to_tensor(crop: Image.Image, config: PreprocessConfig) -> torch.Tensor:
    """Normalises an RGB crop: float32 [3, S, S]."""
    pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1).float().div(255.0)
    mean = torch.tensor(config.mean).view(3, 1, 1)
    std = torch.tensor(config.std).view(3, 1, 1)
    return (pixels - mean) / std


def preprocess(image: Image.Image, config: PreprocessConfig) -> tuple[torch.Tensor, CropBox]:
    """From an RGB image to the model's input.

    Returns:
        float32 [3, S, S], and the crop box in pixels of ``image``.
    """
    crop, box = crop_image(image, config.image_size, config.resize_mode)
    return to_tensor(crop, config), box


def other_proportions(crop_box: CropBox, normals: Sequence[CropBox]) -> tuple[float, float] | None:
    """Tells where a query becomes a square in another way than every normal.

    What is squeezed by another amount has another shape for the model, however sound it is. Squares
    that are cut out are all alike.

    >>> other_proportions((0, 0, 200, 100), [(0, 0, 100, 100), (0, 0, 150, 100)])
    (2.0, 1.5)

    Args:
        crop_box: Of the query.
        normals: Of the normals, at least one.

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


def _display_name(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike):
        name = Path(source).name[:80]
        return f"'{''.join(c if c.isprintable() else '?' for c in name)}'"
    return "The image"


def _open_checked(source: str | os.PathLike | bytes | BinaryIO, name: str) -> Image.Image:
    if isinstance(source, bytes):
        size, stream = len(source), io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        size, stream = path.stat().st_size, path
        if path.is_dir():
            raise IsADirectoryError
    else:
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        stream = source
    if size == 0:
        raise ImageError(f"{name} is empty; choose another file.")
    if size > MAX_BYTES:
        raise ImageError(f"{name} has {size / 2**20:.0f} MB; use at most {MAX_BYTES >> 20} MB.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pixel counts are checked below, more strictly.
        image = Image.open(stream, formats=FORMATS)
    _check_cost(image, name)
    return image


def _check_pixels(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width} x {height} pixels; use at most {MAX_PIXELS // 10**6} megapixels."
        )


def _check_cost(image: ImageFile.ImageFile, name: str) -> None:
    """Raises ImageError where decoding would take far more memory or time than the size says."""
    _check_pixels(*image.size, name)
    if image.format == "TIFF":
        # A tile is decoded whole, even where the image ends inside it.
        tags = image.tag_v2
        _check_pixels(int(tags.get(TILEWIDTH, 0)), int(tags.get(TILELENGTH, 0)), name)
    slow = any(part.codec_name in Image.DECODERS for part in image.tile)
    if slow and image.width * image.height > MAX_SLOW_PIXELS:
        raise ImageError(f"{name} is stored in a way that is slow to read; save it as PNG.")
    if image.format in ("JPEG", "MPO") and _jpeg_scans(image.fp) > MAX_SCANS:
        raise ImageError(f"{name} has more than {MAX_SCANS} scans; save it again as PNG or JPEG.")


def _jpeg_scans(stream: BinaryIO) -> int:
    """Number of scans of a JPEG stream's first image; leaves the stream where it was."""
    before = stream.tell()
    stream.seek(0)
    data = stream.read()
    stream.seek(before)
    scans, place = 0, 2
    while marker := _JPEG_MARKER.search(data, place):
        place = marker.end()
        kind = data[place - 1]
        if kind == _JPEG_END:
            break
        scans += kind == _JPEG_SCAN
        if kind != _JPEG_BARE:
            # Skipped, for what lies in a segment, as a thumbnail does, is not decoded.
            place += int.from_bytes(data[place : place + 2], "big")
    return scans


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _scale_to_8_bit(image, name).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _scale_to_8_bit(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())  # Not a number where any value is none.
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageError(f"{name} has values that are not numbers; save it as an 8-bit image.")
    limit = 65535.0 if image.mode != "F" else (1.0 if high <= 1.0 else 255.0)
    if low < 0 or high > limit:
        raise ImageError(
            f"{name} has values from {low:g} to {high:g}; save it as an 8-bit or 16-bit image."
        )
    scaled = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _BAND):  # All rows at once would take 1 GB and more.
        band = values[start : start + _BAND]
        scaled[start : start + _BAND] = np.rint(band.astype(np.float64) * (255.0 / limit))
    return Image.fromarray(scaled)
