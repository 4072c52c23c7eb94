"""A part of the picture that does not count, in all images of a set: a background, a date stamp.

It is painted over before the model sees an image, normals and queries alike, so nothing of it can
differ; patches that lie in it have no residual at all. One part holds for a whole set, in the
coordinates of the square that the model sees.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..config import PreprocessConfig
from ..errors import PromptError
from .files import ImageSource, open_values
from .preprocessing import seen_box

CELLS = 60  # A side; a part is told as so many squares.
PAINT = (124, 116, 104)  # Mean colour of photographs, close to nothing for the model.
LEAST_LEFT = 0.05  # Share of the patches that must be left to count.
_BINARY = CELLS * CELLS
_DIGITS = _BINARY // 4


def part_from_text(text: str) -> np.ndarray:
    """The part of 900 hexadecimal digits, four squares each, row by row: bool [CELLS, CELLS].

    Raises:
        PromptError: It is anything else.
    """
    try:
        if len(text) != _DIGITS:
            raise ValueError(text)
        bits = f"{int(text, 16):0{_BINARY}b}"
    except (TypeError, ValueError):
        raise PromptError("The part to ignore cannot be read; mark it again.") from None
    return np.array([bit == "1" for bit in bits]).reshape(CELLS, CELLS)


def part_to_text(part: np.ndarray) -> str:
    """The other way round.

    >>> part_to_text(np.zeros((60, 60), bool)) == 900 * "0"
    True
    """
    bits = "".join("1" if cell else "0" for cell in part.ravel())
    return f"{int(bits, 2):0{_DIGITS}x}"


def part_of_image(marks: ImageSource, config: PreprocessConfig) -> np.ndarray:
    """The part that an image marks by what is neither black nor transparent: bool [CELLS, CELLS].

    Args:
        marks: As :func:`.open_values` takes it, of the proportions of a normal, at any size.
        config: How the model sees images.

    Raises:
        ImageError: The image cannot be used.
        PromptError: It marks nothing, or nearly everything.
    """
    marked = Image.fromarray((open_values(marks) > 0).astype(np.uint8) * 255)
    box = seen_box(marked.size, config.image_size, config.resize_mode)
    shares = marked.resize((CELLS, CELLS), Image.Resampling.BOX, box=box)
    return check_part(np.asarray(shares) > 127)


def text_of_image(marks: ImageSource, config: PreprocessConfig) -> str:
    """The result of :func:`part_of_image` as :func:`part_to_text` writes it.

    For processes that decode images, whose answers are no arrays.
    """
    return part_to_text(part_of_image(marks, config))


def check_part(part: np.ndarray) -> np.ndarray:
    """The part itself, if something of the picture is in it and enough is left.

    Raises:
        PromptError: It is not so.
    """
    if not part.any():
        raise PromptError("Nothing is marked; mark the part to ignore.")
    if 1.0 - part.mean() < LEAST_LEFT:
        raise PromptError("Hardly anything is left to count; mark less of the picture.")
    return part


def paint_over(crop: Image.Image, part: np.ndarray) -> Image.Image:
    """A copy of what the model sees of an image, with the part in one colour.

    Args:
        crop: RGB, S x S.
        part: bool [CELLS, CELLS].
    """
    mask = Image.fromarray(part.astype(np.uint8) * 255).resize(crop.size, Image.Resampling.NEAREST)
    painted = crop.copy()
    painted.paste(PAINT, mask=mask)
    return painted


def ignored_patches(part: np.ndarray, grid: int) -> np.ndarray:
    """Bool [grid * grid], the patches of which more than half is in the part, row by row."""
    shares = Image.fromarray(part.astype(np.uint8) * 255).resize((grid, grid), Image.Resampling.BOX)
    return (np.asarray(shares) > 128).ravel()
