"""A path, bytes, stream, PIL image or array -> pixels, once size and structure are checked.

What has 8 bits a value comes as an image of Pillow, what has more as the values themselves.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps
from pillow_heif import HeifImage, open_heif

from ...errors import ImageError
from ..limits import check_pixels
from .deep import DeepImage, deep_array, deep_grey, deep_values, is_deep, maxval_of
from .structure import check_structure
from .tiff_directory import ORIENTATION, read_orientation
from .tiff_values import needs_reading, read_tiff, tiff_sizes

# Small files can be slow to decode: Pillow reads a few rare kinds of PPM and BMP in plain Python.
MAX_SLOW_VALUES = 1_200_000
# Raster formats only: Pillow hands some of the others (EPS, for one) to external programs.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")

_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
# How files begin that never have more than 8 bits a value.
_EIGHT_BIT = (b"\xff\xd8", b"GIF8", b"BM", b"RIFF")
_PNG_START, _PNG_BITS = b"\x89PNG", 24
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*")
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_DICOM, _DICOM_PLACE = b"DICM", 128
_START = 256  # Bytes that tell a file's kind.

ImageSource = str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray


def decode(
    source: ImageSource, name: str, deep_only: bool = False
) -> Image.Image | DeepImage | None:
    """Decodes an image, upright.

    Args:
        source: As :func:`.image_files.open_image` takes it.
        name: What to call it in messages.
        deep_only: Give None, undecoded, where an image has 8 bits.

    Raises:
        ImageError: It is too large, or of a kind that is not read; Pillow raises many others.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    if isinstance(source, Image.Image):
        check_pixels(*source.size, name)
        upright = ImageOps.exif_transpose(source)  # A copy, whichever way up it was.
        upright.load()
        return deep_values(upright, lambda: upright) if is_deep(upright) else upright
    with _stream(source) as (stream, size):
        start = _checked_start(stream, size, name)
        if start.startswith(_TIFF_STARTS):
            for sides in tiff_sizes(stream, size):
                check_pixels(*sides, name)
            if needs_reading(stream, size):
                return read_tiff(stream, size, name)
        if _is_heif(start):
            return _read_heif(stream, name, deep_only)
        image = open_lazily(stream, name)
        if not is_deep(image):
            if deep_only:
                return None
            ImageOps.exif_transpose(image, in_place=True)
            image.load()
            # The file would stay open for the others of several frames.
            return image.copy() if getattr(image, "is_animated", False) else image
        values = deep_values(image, lambda: open_lazily(stream, name))
        return values.turned(orientation_of(image))


def upright_sides(source: str | os.PathLike | bytes | BinaryIO, name: str) -> tuple[int, int]:
    """Width and height of an upright image, from the file's beginning alone.

    Raises:
        ImageError: It is too large, or of a kind that is not read; Pillow raises many others.
    """
    with _stream(source) as (stream, size):
        start = _checked_start(stream, size, name)
        if start.startswith(_TIFF_STARTS):
            sides, *tiles = tiff_sizes(stream, size)
            for part in (sides, *tiles):
                check_pixels(*part, name)
            return sides
        if _is_heif(start):
            return _open_heif(stream, name).size
        with open_lazily(stream, name) as image:
            turned = orientation_of(image) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size


def has_8_bits(source: ImageSource) -> bool:
    """Whether an image has at most 8 bits a value, as far as its first bytes tell."""
    if isinstance(source, Image.Image):
        return not is_deep(source)
    if isinstance(source, np.ndarray):
        return source.dtype in (np.uint8, bool)
    with _stream(source) as (stream, _):
        start = stream.read(_PNG_BITS + 1)
    if start.startswith(_PNG_START):
        return start[_PNG_BITS:] != b"\x10"
    return start.startswith(_EIGHT_BIT)


@contextmanager
def _stream(source: str | os.PathLike | bytes | BinaryIO) -> Iterator[tuple[BinaryIO, int]]:
    """A stream at its beginning, closed afterwards where it was opened here, and its bytes."""
    if isinstance(source, bytes):
        yield io.BytesIO(source), len(source)
    elif isinstance(source, str | os.PathLike):
        kind = os.stat(source).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError
        if not stat.S_ISREG(kind):  # Reading it may never end, nor may opening it.
            raise OSError(errno.EINVAL, "it is a pipe or a device")
        with open(source, "rb") as stream:
            yield stream, os.fstat(stream.fileno()).st_size
    elif hasattr(source, "seek"):
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        yield source, size
    else:
        raise ImageError(
            f"A {type(source).__name__} is not an image; give a path, bytes, an open binary file, "
            "a PIL image or a numpy array."
        )


def _checked_start(stream: BinaryIO, size: int, name: str) -> bytes:
    """The first bytes of a file whose structure has been checked; at the beginning again."""
    if size == 0:
        raise ImageError(f"{name} is empty; choose another file.")
    check_structure(stream, size, name)
    stream.seek(0)
    start = stream.read(_START)
    stream.seek(0)
    if start[_DICOM_PLACE:].startswith(_DICOM):
        raise ImageError(
            f"{name} is a DICOM file; export the image as you look at it, with its window, as PNG."
        )
    return start


def open_lazily(stream: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Opens a file with Pillow, from its beginning; its pixels are not decoded yet."""
    stream.seek(0)
    # Pillow may warn of many pixels, which are refused below. Its warnings are let through, because
    # catch_warnings changes the whole process, and threads that do so undo each other's changes.
    image = Image.open(stream, formats=FORMATS)
    check_pixels(*image.size, name)
    slow = any(part.codec_name in Image.DECODERS for part in image.tile) and not maxval_of(image)
    if slow and image.width * image.height * len(image.getbands()) > MAX_SLOW_VALUES:
        raise ImageError(f"{name} is stored in a way that is slow to read; save it as PNG.")
    # All that Pillow then knows of Exif: it would copy every tag's data, and decode that of some.
    image._exif = Image.Exif()
    image._exif._loaded = True
    image._exif[ORIENTATION] = orientation_of(image)
    return image


def orientation_of(image: ImageFile.ImageFile) -> int:
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
    check_pixels(shape[1], shape[0], name)
    values = array.reshape(shape)
    if values.dtype == bool:
        values = values * np.uint8(255)
    if values.dtype == np.uint8:
        return Image.fromarray(np.ascontiguousarray(values)).copy()
    return deep_array(values)


def _is_heif(start: bytes) -> bool:
    """Whether a file is HEIF coded as phones do it; AVIF has the same boxes and is Pillow's."""
    if start[4:8] != b"ftyp":
        return False
    brands = start[8 : min(int.from_bytes(start[:4], "big"), len(start))]
    return any(brands[i : i + 4] in _HEIF_BRANDS for i in range(0, len(brands), 4))


def _open_heif(stream: BinaryIO, name: str) -> HeifImage:
    """The first image of a HEIF file, not decoded yet; what its boxes say of turning is done."""
    stream.seek(0)
    file = open_heif(stream, hdr_to_16bit=True)
    image = file[file.primary_index]
    check_pixels(*image.size, name)
    return image


def _read_heif(stream: BinaryIO, name: str, deep_only: bool) -> Image.Image | DeepImage | None:
    coded = _open_heif(stream, name)
    if deep_only and not coded.mode.startswith("I"):
        return None
    image = coded.to_pillow()
    return replace(deep_grey(image), declared=65535) if is_deep(image) else image
