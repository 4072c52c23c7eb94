"""Images of more than 8 bits a value: their numbers as stored, until it is known which is white."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .levels import Levels, measure_levels, to_8_bit


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
    alpha = values[..., 3]
    if alpha.dtype.kind == "f":
        full = measure_levels(alpha, None, "The image").white
    else:
        full = np.iinfo(alpha.dtype).max
    return DeepImage(values[..., :3], opacity=to_8_bit(alpha, full))


def deep_grey(image: Image.Image) -> DeepImage:
    """The values of a loaded greyscale image of mode I, I;16 or F."""
    values = np.asarray(image)
    transparent = image.info.get("transparency") if image.mode != "F" else None
    opaque = (values != transparent) * np.uint8(255) if isinstance(transparent, int) else None
    return DeepImage(values, opacity=opaque)


def is_deep(image: Image.Image) -> bool:
    """Whether an image of Pillow has more than 8 bits a value."""
    return image.mode.startswith("I") or image.mode == "F"


def over_white(image: Image.Image) -> Image.Image:
    """An image with transparency laid over white, as RGB."""
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
