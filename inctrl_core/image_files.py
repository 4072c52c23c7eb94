"""An image file as people have them -> an upright RGB image, within limits set before decoding."""

from __future__ import annotations

import filecmp
import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH

from .deep_images import DeepImage, deep_array, deep_grey, is_deep, over_white
from .errors import ImageError
from .image_structure import check_structure
from .levels import Levels, join_levels
from .tiff_directory import ORIENTATION, read_orientation

MAX_BYTES = 40 * 2**20
MAX_PIXELS = 50_000_000
# Small files can be slow to decode: Pillow reads a few rare kinds of PPM and BMP in plain Python.
MAX_SLOW_VALUES = 1_200_000

# Raster formats only: Pillow hands some of the others (EPS, for one) to external programs.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")
# How their files are named, for those who look for images in a folder.
IMAGE_SUFFIXES = frozenset(
    ".png .jpg .jpeg .jfif .webp .tif .tiff .bmp .gif .ppm .pgm .avif".split()
)

_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')

# How files begin that never have more than 8 bits a value.
_EIGHT_BIT = (b"\xff\xd8", b"GIF8", b"BM", b"RIFF")
_PNG_START, _PNG_BITS = b"\x89PNG", 24

_LEVELS = "levels"  # Where an opened image keeps them, among what Pillow knows of it.

ImageSource = str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray


def open_image(source: ImageSource, levels: Levels | None = None) -> Image.Image:
    """Opens an image as people have them, as an upright RGB image.

    EXIF orientation is applied; transparency is laid over white; of an animation the first frame
    is taken. More than 8 bits a value are brought to 8 by the levels of the image's set.

    Args:
        source: Path, bytes, binary file object, PIL image, or numpy array [H, W], [H, W, 1],
            [H, W, 3] (RGB) or [H, W, 4] (RGBA). OpenCV's frames are BGR: turn them round with
            ``frame[..., ::-1]``.
        levels: The levels of the set that the image is compared with, as a bank keeps them; None:
            the image's own.

    Returns:
        PIL image of mode RGB, whose pixels are its own.

    Raises:
        ImageError: The file is missing, empty, damaged, of an unsupported format, larger than
            ``MAX_BYTES``, or has more than ``MAX_PIXELS`` pixels.
    """
    name = _display_name(source)
    with _in_a_sentence(name):
        image = _read(source, name)
        if isinstance(image, DeepImage):
            own = image.levels(name)
            used = replace(own, white=levels.white_for(own)) if levels else own
            rgb = image.to_rgb(used.white)
            rgb.info[_LEVELS] = used
            return rgb
        return _to_rgb(image)


def levels_used(image: Image.Image) -> Levels | None:
    """The levels by which :func:`open_image` read an image; None where it had 8 bits."""
    used = image.info.get(_LEVELS)
    return used if isinstance(used, Levels) else None  # A file may bring any text.


def image_levels(source: ImageSource) -> Levels | None:
    """The levels of one image; None where it has 8 bits, which its file's beginning mostly tells.

    Raises:
        ImageError: See :func:`open_image`; of a file of 8 bits damage is not seen.
    """
    name = _display_name(source)
    with _in_a_sentence(name):
        if _has_8_bits(source):
            return None
        image = _read(source, name, deep_only=True)
        return image.levels(name) if isinstance(image, DeepImage) else None


def set_levels(sources: Iterable[ImageSource]) -> Levels | None:
    """The levels of a set of images, one of which lies in memory at a time.

    Raises:
        ImageError: See :func:`open_image`.
    """
    return join_levels(map(image_levels, sources))


def open_values(source: str | os.PathLike | bytes) -> np.ndarray:
    """The values of an image as they are stored, upright: what they mean is the caller's to know.

    Of colours the largest channel is taken, of palettes the colours; what is wholly transparent is
    0.

    Returns:
        [H, W], of the file's own type.

    Raises:
        ImageError: See :func:`open_image`.
    """
    name = _display_name(source)
    with _in_a_sentence(name):
        image = ImageOps.exif_transpose(_open_checked(source, name))
        if image.has_transparency_data or image.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV"):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        values = np.asarray(image)
        if image.mode == "RGBA":
            return values[..., :3].max(axis=2) * (values[..., 3] > 0)
        return values.max(axis=2) if values.ndim == 3 else values


def upright_size(source: str | os.PathLike | bytes) -> tuple[int, int]:
    """Width and height that :func:`open_image` would give, from the file's beginning alone.

    Raises:
        ImageError: See :func:`open_image`; damage further on is not seen.
    """
    name = _display_name(source)
    with _in_a_sentence(name), _open_checked(source, name) as image:
        width, height = image.size
        # Of a TIFF Pillow gives the size of the upright image, though it has not turned it yet.
        turned = image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


def why_unreadable(source: ImageSource) -> str:
    """What :func:`open_image` says against an image; empty where it can be opened."""
    try:
        open_image(source)
    except ImageError as error:
        return str(error)
    return ""


def same_content(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Whether two files are the same byte for byte; False where one of them cannot be read."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


@contextmanager
def _in_a_sentence(name: str) -> Iterator[None]:
    """Turns what Pillow raises into an ImageError."""
    try:
        yield
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
    except PermissionError:
        raise ImageError(f"{name} may not be read by this user; change its permissions.") from None
    except Exception:  # On damaged data Pillow's decoders raise many kinds, even SyntaxError.
        raise ImageError(f"{name} is damaged or incomplete; save it again and retry.") from None


def check_listed(images: object) -> None:
    """Raises ImageError where a single image stands for a list: a path is a row of letters too."""
    one_array = isinstance(images, np.ndarray) and images.ndim < 4
    if one_array or isinstance(images, str | bytes | os.PathLike | Image.Image | io.IOBase):
        raise ImageError("Give a list of images, also where there is only one.")


def images_in(folder: Path) -> list[Path]:
    """The image files directly inside a folder, by name; not what is hidden, as macOS's copies.

    Raises:
        ImageError: The folder cannot be read.
    """
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        raise ImageError(f"{folder} cannot be read ({error.strerror}); check it.") from None
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


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
    elif not hasattr(source, "seek"):
        raise ImageError(
            f"A {type(source).__name__} is not an image; give a path, bytes, an open binary file, "
            "a PIL image or a numpy array."
        )
    else:
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        stream = source
    if size == 0:
        raise ImageError(f"{name} is empty; choose another file.")
    if size > MAX_BYTES:
        raise ImageError(f"{name} has {size / 2**20:.0f} MB; use at most {MAX_BYTES >> 20} MB.")
    with open(stream, "rb") if isinstance(stream, Path) else nullcontext(stream) as file:
        check_structure(file, size, name)
        file.seek(0)
    # Pillow may warn of many pixels, which are refused below. Its warnings are let through, because
    # catch_warnings changes the whole process, and threads that do so undo each other's changes.
    image = Image.open(stream, formats=FORMATS)
    _check_cost(image, name)
    # All that Pillow then knows of Exif: it would copy every tag's data, and decode that of some.
    image._exif = Image.Exif()
    image._exif._loaded = True
    image._exif[ORIENTATION] = _orientation(image)
    return image


def _orientation(image: ImageFile.ImageFile) -> int:
    """How an image is to be turned, by Exif's number; 1 for as it is."""
    found = None
    if "exif" in image.info:
        found = read_orientation(image.info["exif"])
    elif "Raw profile type exif" in image.info:
        lines = image.info["Raw profile type exif"].split("\n")[3:]
        with suppress(ValueError):
            found = read_orientation(bytes.fromhex("".join(lines)))
    elif image.format == "TIFF":
        found = image.tag_v2.get(ORIENTATION)
    if found is None:
        described = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
        if isinstance(described, str):
            described = described.encode("utf-8", "replace")
        if isinstance(described, bytes) and (match := _XMP_ORIENTATION.search(described)):
            found = int(match[1])
    return found if found in range(1, 9) else 1


def _check_pixels(width: int, height: int, name: str) -> None:
    if min(width, height) < 1:
        raise ImageError(f"{name} has no pixels; choose another one.")
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
        _check_pixels(int(tags.get(TILEWIDTH, 1)), int(tags.get(TILELENGTH, 1)), name)
    slow = any(part.codec_name in Image.DECODERS for part in image.tile)
    if slow and image.width * image.height * len(image.getbands()) > MAX_SLOW_VALUES:
        raise ImageError(f"{name} is stored in a way that is slow to read; save it as PNG.")


def _read(
    source: ImageSource, name: str, deep_only: bool = False
) -> Image.Image | DeepImage | None:
    """Decodes an image, upright; with ``deep_only`` None, undecoded, where it has 8 bits."""
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    if isinstance(source, Image.Image):
        _check_pixels(*source.size, name)
        upright = ImageOps.exif_transpose(source)  # A copy, whichever way up it was.
    else:
        upright = _open_checked(source, name)
        if deep_only and not is_deep(upright):
            return None
        ImageOps.exif_transpose(upright, in_place=True)
    upright.load()
    return deep_grey(upright) if is_deep(upright) else upright


def _from_array(array: np.ndarray, name: str) -> Image.Image | DeepImage:
    """An image of an array; its memory stays the caller's."""
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
        raise ImageError(
            f"An array of shape {array.shape} is not an image; give height x width, or height x "
            "width x 1, 3 (RGB) or 4 (RGBA)."
        )
    if array.dtype.kind not in "buif":
        raise ImageError(
            f"An array of {array.dtype} is not an image; give uint8, uint16 or floating point."
        )
    _check_pixels(shape[1], shape[0], name)
    values = array.reshape(shape)
    if values.dtype == bool:
        values = values * np.uint8(255)
    if values.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(values)).copy()
    return deep_array(values)


def _has_8_bits(source: ImageSource) -> bool:
    """Whether an image has at most 8 bits a value, as far as its first bytes tell."""
    if isinstance(source, Image.Image):
        return not is_deep(source)
    if isinstance(source, np.ndarray):
        return source.dtype in (np.uint8, bool)
    if isinstance(source, bytes):
        start = source[: _PNG_BITS + 1]
    elif isinstance(source, str | os.PathLike):
        with open(source, "rb") as stream:
            start = stream.read(_PNG_BITS + 1)
    elif hasattr(source, "seek"):
        source.seek(0)
        start = source.read(_PNG_BITS + 1)
    else:
        return False
    if start.startswith(_PNG_START):
        return start[_PNG_BITS:] != b"\x10"
    return start.startswith(_EIGHT_BIT)


def _to_rgb(image: Image.Image) -> Image.Image:
    # A PNG without an alpha channel may name one colour that is transparent.
    if image.mode == "RGB" and not isinstance(image.info.get("transparency"), tuple):
        # Of several frames the file would stay open for the others.
        return image.copy() if getattr(image, "is_animated", False) else image
    return over_white(image) if image.has_transparency_data else image.convert("RGB")
