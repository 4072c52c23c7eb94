"""Changes that happen to photographs: turned, darker, brighter, blurred, noisy, compressed.

Pure functions of a picture, a severity and a seed. Lengths and noise count in pixels and grey
levels of the picture given, so give it at about the size at which the model sees it: a blur of two
pixels is nothing to a photograph of 12 megapixels that is made smaller afterwards.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from ..errors import ImageError


@dataclass(frozen=True)
class Perturbation:
    """One kind of change, with the severities worth trying.

    Attributes:
        name: How it is asked for, see :func:`perturb`.
        severities: From weak to strong, in the unit that ``apply`` documents.
        apply: Changes an RGB image by a severity; the third argument is a seed.
    """

    name: str
    severities: tuple[float, ...]
    apply: Callable[[Image.Image, float, int], Image.Image]


def rotate(image: Image.Image, degrees: float, seed: int = 0) -> Image.Image:
    """Turns a picture counter-clockwise about its centre, its size kept.

    The corners are filled with the picture mirrored at its edges: a plain colour there would be a
    defect of its own.

    Args:
        image: RGB.
        degrees: Any angle; multiples of 90 of a square are exact.
        seed: Unused.
    """
    width, height = image.size
    # As far as a corner swings out, and a little for the interpolation.
    margin = math.ceil((math.hypot(width, height) - min(width, height)) / 2) + 3
    padded = np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    turned = Image.fromarray(padded).rotate(degrees, Image.Resampling.BICUBIC)
    return turned.crop((margin, margin, margin + width, margin + height))


def shift(image: Image.Image, right: int, down: int) -> Image.Image:
    """Moves a picture by whole pixels, its size kept; what comes in is mirrored at its edges.

    Args:
        image: RGB.
        right: Pixels to the right; negative: to the left.
        down: Pixels down; negative: up.
    """
    width, height = image.size
    margin = max(abs(right), abs(down))
    padded = np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    top, left = margin - down, margin - right
    return Image.fromarray(padded[top : top + height, left : left + width])


def tint(image: Image.Image, factors: tuple[float, float, float]) -> Image.Image:
    """Multiplies each of the three colours; what exceeds white stays white.

    Args:
        image: RGB.
        factors: Of red, green and blue; 1 leaves a colour as it is.
    """
    return _to_image(np.asarray(image, dtype=np.float64) * np.array(factors))


def brighten(image: Image.Image, percent: float, seed: int = 0) -> Image.Image:
    """Multiplies the brightness; what exceeds white stays white.

    Args:
        image: RGB.
        percent: Percent of the original's brightness; 100 leaves it as it is.
        seed: Unused.
    """
    return _to_image(np.asarray(image, dtype=np.float64) * (percent / 100.0))


def blur(image: Image.Image, radius: float, seed: int = 0) -> Image.Image:
    """Gaussian blur.

    Args:
        image: RGB.
        radius: Standard deviation, pixels.
        seed: Unused.
    """
    return image.filter(ImageFilter.GaussianBlur(radius))


def add_noise(image: Image.Image, deviation: float, seed: int = 0) -> Image.Image:
    """Adds independent Gaussian noise to every pixel and channel.

    One seed gives one pattern, which a larger ``deviation`` only makes stronger.

    Args:
        image: RGB.
        deviation: Standard deviation, grey levels of 255.
        seed: Seed of the pattern.
    """
    pixels = np.asarray(image, dtype=np.float64)
    pattern = np.random.default_rng(seed).standard_normal(pixels.shape)
    return _to_image(pixels + deviation * pattern)


def compress(image: Image.Image, quality: float, seed: int = 0) -> Image.Image:
    """Saves as JPEG, with the colours at half the resolution, and opens it again.

    Args:
        image: RGB.
        quality: 1 (worst) to 95.
        seed: Unused.
    """
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=round(quality), subsampling="4:2:0")
    return Image.open(stream).convert("RGB")


PERTURBATIONS = (
    Perturbation("rotation", (5, 10, 20, 45, 90), rotate),
    Perturbation("darker", (85, 70, 55, 40, 25), brighten),
    Perturbation("brighter", (115, 130, 150, 175, 200), brighten),
    Perturbation("blur", (0.5, 1, 1.5, 2.5, 4), blur),
    Perturbation("noise", (4, 8, 16, 32, 48), add_noise),
    Perturbation("jpeg", (75, 50, 30, 15, 5), compress),
)


def find_perturbation(name: str) -> Perturbation:
    """The kind of that name.

    Raises:
        ImageError: There is none.
    """
    for kind in PERTURBATIONS:
        if kind.name == name:
            return kind
    names = ", ".join(kind.name for kind in PERTURBATIONS)
    raise ImageError(f"There is no change '{name[:40]}'; choose among {names}.")


def perturb(image: Image.Image, name: str, severity: float, seed: int = 0) -> Image.Image:
    """A changed copy of a picture; the same arguments give the same pixels.

    Args:
        image: RGB.
        name: Name of a kind in ``PERTURBATIONS``.
        severity: In the unit that the kind's ``apply`` documents.
        seed: Seed of the random part.

    Returns:
        RGB image of the same size.

    Raises:
        ImageError: There is no such kind.
    """
    return find_perturbation(name).apply(image, severity, seed)


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))
