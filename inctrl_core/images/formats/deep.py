"""Images of more than 8 bits a value: their numbers as stored, until it is known which is white."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ..levels import Levels, measure_levels, to_8_bit

_BAND_PIXELS = 2**20  # Laid over white at once: all of a large image would take 600 MB more.


@dataclass(frozen=True, eq=False)
class DeepImage:
    """The values of an upright image as they are stored.

    Attributes:
        values: [H, W] or [H, W, 3], whole numbers or floating point; 0 is black.
        declared: The value that is white, where the file says so.
        opacity: uint8 [H, W], None where all is opaque.
    """

    values: np.ndarray
    declared: float | None = None
    opacity: np.ndarray | None = None

    def levels(self, name: str) -> Levels:
        """The image's own levels; see :func:`.levels.measure_levels`."""
        return measure_levels(self.values, self.declared, name)

    def turned(self, orientation: int) -> DeepImage:
        """The image turned upright, by the number that Exif gives its orientation."""
        shown = self.opacity if self.opacity is None else turned(self.opacity, orientation)
        return replace(self, values=turned(self.values, orientation), opacity=shown)

    def to_rgb(self, white: float) -> Image.Image:
        """An RGB image where ``white`` is 255, laid over white."""
        image = Image.fromarray(to_8_bit(self.values, white)).convert("RGB")
        if self.opacity is None:
            return image
        image.putalpha(Image.fromarray(self.opacity))
        return over_white(image)


def deep_array(values: np.ndarray) -> DeepImage:
    """The values of an array [H, W], [H, W, 3] or [H, W, 4]; the fourth channel is opacity."""
    if values.ndim == 2 or values.shape[2] == 3:
        return DeepImage(values)
    return DeepImage(values[..., :3], opacity=opacity_of(values[..., 3]))


def opacity_of(alpha: np.ndarray) -> np.ndarray:
    """Opacity as uint8: whole numbers are opaque where they are largest, others at 1 or 255."""
    if alpha.dtype.kind == "f":
        return to_8_bit(alpha, measure_levels(alpha, None, "The image").white)
    return to_8_bit(alpha, np.iinfo(alpha.dtype).max)


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """An array [H, W, ...] turned upright, by the number that Exif gives its orientation."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def deep_grey(image: Image.Image) -> DeepImage:
    """The values of a loaded greyscale image of mode I, I;16 or F."""
    values = np.asarray(image)
    transparent = image.info.get("transparency") if image.mode != "F" else None
    opaque = (values != transparent) * np.uint8(255) if isinstance(transparent, int) else None
    return DeepImage(values, opacity=opaque)


def is_deep(image: Image.Image) -> bool:
    """Whether an image of Pillow, not yet decoded if it comes from a file, has more than 8 bits."""
    if image.mode.startswith("I") or image.mode == "F":
        return True
    return bool(_deep_colours(image)) or maxval_of(image) > 255


def deep_values(image: Image.Image, again: Callable[[], Image.Image]) -> DeepImage:
    """The values of an image for which :func:`is_deep` holds.

    Args:
        image: An image of Pillow, not yet decoded if it comes from a file.
        again: Opens the file once more.
    """
    if maxval := maxval_of(image):
        return _netpbm(image, maxval)
    declared = _significant(image)
    if rawmode := _deep_colours(image):
        return replace(_png_colours(image, rawmode, again), declared=declared)
    if image.format == "PPM" and image.tile and image.tile[0].codec_name == "ppm_plain":
        declared = 65535  # Pillow spreads what the file declares over 16 bits.
    image.load()
    return replace(deep_grey(image), declared=declared)


def _deep_colours(image: Image.Image) -> str:
    """How Pillow unpacks the colours of a PNG image of 16 bits a value; "" for all others."""
    tiles = getattr(image, "tile", None)
    rawmode = tiles[0].args if image.format == "PNG" and tiles else ""
    return rawmode if rawmode in ("RGB;16B", "RGBA;16B", "LA;16B") else ""


def _png_colours(image: Image.Image, rawmode: str, again: Callable[[], Image.Image]) -> DeepImage:
    """Colours of 16 bits, of which Pillow keeps one byte: the file is decoded for each of the two.

    PNG stores the high byte first. Unpacked as if the low one came first, the low one is kept.
    """
    key = image.info.get("transparency")
    if rawmode == "LA;16B":
        _unpack_as(image, "RGBA")  # As many bytes a pixel, and all four are kept.
        pairs = np.asarray(image).astype(np.uint16)
        grey, alpha = (pairs[..., i] << 8 | pairs[..., i + 1] for i in (0, 2))
        return DeepImage(grey, opacity=opacity_of(alpha))
    values = np.asarray(image).astype(np.uint16)
    values <<= 8
    low = again()
    _unpack_as(low, rawmode.replace("16B", "16L"))
    values |= np.asarray(low)
    if isinstance(key, tuple):
        shown = (values != np.array(key, np.uint16)).any(axis=2)
        return DeepImage(values, opacity=shown * np.uint8(255))
    return deep_array(values)


def _unpack_as(image: Image.Image, rawmode: str) -> None:
    image.tile = [part._replace(args=rawmode) for part in image.tile]


def _significant(image: Image.Image) -> float | None:
    """The largest value of a PNG image by its sBIT chunk; None where it has none.

    By the standard such values are spread over all 16 bits. If they are, they are larger than this
    and it is not believed; if a camera's values were stored as they are, it is right.
    """
    stream = getattr(image, "fp", None)
    if image.format != "PNG" or stream is None:
        return None
    before, place, bits = stream.tell(), 8, 16
    stream.seek(place)
    while len(head := stream.read(8)) == 8 and head[4:] not in (b"IDAT", b"PLTE", b"IEND"):
        if head[4:] == b"sBIT":
            length = int.from_bytes(head[:4], "big")  # Of colours the opacity, if any, is last.
            bits = max(stream.read(3 if length > 2 else 1), default=16)
            break
        place += int.from_bytes(head[:4], "big") + 12
        stream.seek(place)
    stream.seek(before)
    return 2**bits - 1 if 8 <= bits < 16 else None


def maxval_of(image: Image.Image) -> int:
    """The white of a PGM or PPM image in binary with two bytes a value; 0 for all others."""
    tiles = getattr(image, "tile", None)
    if image.format != "PPM" or not tiles:
        return 0
    part = tiles[0]
    if part.codec_name == "raw":
        return 65535 if part.args == "I;16B" else 0
    maxval = part.args[1] if part.codec_name == "ppm" else 0
    return maxval if maxval > 255 else 0


def _netpbm(image: Image.Image, maxval: int) -> DeepImage:
    shape = image.size[::-1] + ((3,) if image.mode == "RGB" else ())
    count = int(np.prod(shape))
    image.fp.seek(image.tile[0].offset)
    data = image.fp.read(2 * count)
    values = np.frombuffer(data, ">u2", count).reshape(shape).astype(np.uint16)
    return DeepImage(values, declared=maxval if maxval < 65535 else None)


def over_white(image: Image.Image) -> Image.Image:
    """An image with transparency laid over white, as RGB."""
    result = Image.new("RGB", image.size, "white")
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        result.paste(band.convert("RGB"), (0, top), band.getchannel("A"))
    return result
