"""An image file as people have them -> an upright RGB image, within limits set before decoding."""

from __future__ import annotations

import filecmp
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import ImageError
from .formats.decoders import ImageSource, decode, has_8_bits, upright_sides
from .formats.deep import DeepImage, over_white
from .levels import Levels, join_levels
from .limits import most_pixels

# How their files are named, for those who look for images in a folder.
IMAGE_SUFFIXES = frozenset(
    ".png .jpg .jpeg .jfif .webp .tif .tiff .bmp .gif .ppm .pgm .pnm .avif .heic .heif .hif".split()
)

_LEVELS = "levels"  # Where an opened image keeps them, among what Pillow knows of it.


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
        ImageError: The file is missing, empty, damaged, of an unsupported format, or has too
            many pixels; see :func:`.image_limits.most_pixels`.
    """
    name = display_name(source)
    with _in_a_sentence(name):
        image = decode(source, name)
        if isinstance(image, DeepImage):
            own = image.levels(name)
            used = replace(own, white=levels.white_for(own)) if levels else own
            rgb = image.to_rgb(used.white)
            rgb.info[_LEVELS] = used
            return rgb
        return _to_rgb(image, name)


def levels_used(image: Image.Image) -> Levels | None:
    """The levels by which :func:`open_image` read an image; None where it had 8 bits."""
    used = image.info.get(_LEVELS)
    return used if isinstance(used, Levels) else None  # A file may bring any text.


def with_levels(image: Image.Image, levels: Levels | None) -> Image.Image:
    """The image itself, which says from now on by which levels it was read."""
    image.info[_LEVELS] = levels
    return image


def image_levels(source: ImageSource) -> Levels | None:
    """The levels of one image; None where it has 8 bits, which its file's beginning mostly tells.

    Raises:
        ImageError: See :func:`open_image`; of a file of 8 bits damage is not seen.
    """
    name = display_name(source)
    with _in_a_sentence(name):
        if has_8_bits(source):
            return None
        image = decode(source, name, deep_only=True)
        return image.levels(name) if isinstance(image, DeepImage) else None


def set_levels(sources: Iterable[ImageSource]) -> Levels | None:
    """The levels of a set of images, one of which lies in memory at a time.

    Raises:
        ImageError: See :func:`open_image`.
    """
    return join_levels(map(image_levels, sources))


def open_values(source: ImageSource) -> np.ndarray:
    """The values of an image as they are stored, upright: what they mean is the caller's to know.

    Of colours the largest channel is taken, of palettes the colours; what is wholly transparent is
    0.

    Returns:
        [H, W], of the file's own type.

    Raises:
        ImageError: See :func:`open_image`.
    """
    name = display_name(source)
    with _in_a_sentence(name):
        image = decode(source, name)
        if isinstance(image, DeepImage):
            values, shown = image.values, image.opacity
            values = values.max(axis=2) if values.ndim == 3 else values
            return values if shown is None else values * (shown > 0)
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
    name = display_name(source)
    with _in_a_sentence(name):
        return upright_sides(source, name)


def why_unreadable(source: ImageSource) -> str:
    """The reason why :func:`open_image` refuses an image; empty where it does not."""
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
            f"{name} has far too many pixels; use at most {most_pixels() / 10**6:g} megapixels."
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not an image this program reads; use PNG, JPEG, WebP, HEIC, TIFF or BMP."
        ) from None
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist; check the path.") from None
    except IsADirectoryError:
        raise ImageError(f"{name} is a folder; name an image file.") from None
    except PermissionError:
        raise ImageError(f"{name} may not be read by this user; change its permissions.") from None
    except MemoryError:
        raise ImageError(f"{name} takes more memory than there is; make it smaller.") from None
    except OSError as error:
        if error.strerror is None:  # Pillow's own, of data that end early.
            raise _damaged(name) from None
        raise ImageError(
            f"{name} cannot be read ({error.strerror}); check it, or name another file."
        ) from None
    except Exception:  # On damaged data Pillow's decoders raise many kinds, even SyntaxError.
        raise _damaged(name) from None


def _damaged(name: str) -> ImageError:
    return ImageError(f"{name} is damaged or incomplete; save it again and retry.")


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


def display_name(source: ImageSource) -> str:
    """An image's name for messages: its file's, cut and without control characters."""
    if isinstance(source, str | os.PathLike):
        name = Path(source).name[:80]
        return f"'{''.join(c if c.isprintable() else '?' for c in name)}'"
    return "The image"


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "LAB":
        raise ImageError(f"{name} has colours in L*a*b*; save it as RGB.")
    # A PNG without an alpha channel may name one colour that is transparent.
    if image.mode == "RGB" and not isinstance(image.info.get("transparency"), tuple):
        return image
    return over_white(image) if image.has_transparency_data else image.convert("RGB")


def plain_name(name: str) -> str:
    """The last part of a path of any system, in one line."""
    return one_line(re.split(r"[\\/]", name)[-1]).strip()


def one_line(text: str) -> str:
    """A text without line breaks and other characters that nobody sees; each becomes a space."""
    return "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text)
