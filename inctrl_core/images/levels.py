"""Which value is white in images of more than 8 bits: one rule for a whole set.

A 16-bit file often holds the 10, 12 or 14 bits of a camera as they are, and a floating-point one
values from 0 to 1, to 255 or to 65535. Few files say which. So the largest value over the normals
decides, rounded up to a number of bits that cameras have; the queries are read by the same rule,
except where theirs is plainly another kind of data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np

from ..errors import ImageError

BITS = (8, 10, 12, 14, 16)
# Of a floating-point image from 0 to 1 some values lie above 1: resizing and sharpening overshoot.
# One from 0 to 255 with no value above this would be black.
_UNIT_PEAK = 4.0
_BYTE_PEAK = 1.1 * 255
# One value in so many may be larger than the peak: defective pixels of a sensor are.
_PER_HOT_PIXEL = 20_000
# So much better another rule must fit an image before it is used instead of its set's: an image may
# be brighter than its set, and much darker (a lamp has failed, the part is missing).
_BRIGHTER, _DARKER = 2.0, 8.0

_BAND = 256  # Rows that are converted at once: all of them would take 1 GB and more.


@dataclass(frozen=True)
class Levels:
    """The range of values of an image, or of a set of images.

    Attributes:
        white: The value that is white; 0 is black.
        peak: The largest value, a few defective pixels aside.
        mean: The mean value.
        declared: Whether the file says ``white``.
    """

    white: float
    peak: float
    mean: float
    declared: bool = False

    def white_for(self, image: Levels) -> float:
        """The value that is white in an image of which the set has these levels.

        It is the set's, so that the same light is the same grey in all images. It is the image's
        own where its file says so, or where it looks like the set only by its own rule: an image
        of another camera.

        >>> twelve_bits = Levels(4095, 3300, 1500)
        >>> twelve_bits.white_for(Levels(1023, 900, 400))  # Darker.
        4095
        >>> twelve_bits.white_for(Levels(65535, 52000, 25000))  # Of another camera.
        65535
        """
        if image.declared or image.white == self.white:
            return image.white
        if not image.peak:
            return self.white  # Black in any set.
        pairs = (image.peak, self.peak), (image.mean, self.mean)
        by_set = min(_apart(own, common) for own, common in pairs)
        by_own = max(_apart(own / image.white, common / self.white) for own, common in pairs)
        doubt = _BRIGHTER if image.white > self.white else _DARKER
        return image.white if doubt * by_own < by_set else self.white


def describe_levels(levels: Levels | None) -> str:
    """The kind of data, for people.

    >>> describe_levels(Levels(4095, 3300, 1500))
    '12-bit data'
    >>> describe_levels(Levels(1, 0.8, 0.4))
    'data from 0 to 1'
    >>> describe_levels(None)
    '8-bit data'
    """
    if levels is None:
        return "8-bit data"
    bits = (int(levels.white) + 1).bit_length() - 1
    if levels.white == 2**bits - 1 and bits >= min(BITS):
        return f"{bits}-bit data"
    return f"data from 0 to {levels.white:g}"


def describe_set(normals: str, queries: Iterable[str]) -> str:
    """The kind of data of a set, in a few words; "" where all has 8 bits.

    >>> describe_set("12-bit data", ["12-bit data"])
    'read as 12-bit data'
    >>> describe_set("8-bit data", ["12-bit data"])
    'normals read as 8-bit data, queries as 12-bit data'
    """
    others = sorted(set(queries))
    if others == [normals] or not others:
        return "" if normals == describe_levels(None) else f"read as {normals}"
    return f"normals read as {normals}, queries as {' and '.join(others)}"


def join_levels(levels: Iterable[Levels | None]) -> Levels | None:
    """The levels of a set: those of its deepest images, in the middle.

    Args:
        levels: The levels of each image, None for those of 8 bits.

    Returns:
        None where all images have 8 bits.
    """
    deep = [one for one in levels if one is not None]
    if not deep:
        return None
    white = max(one.white for one in deep)
    deepest = [one for one in deep if one.white == white]
    return Levels(
        white,
        median(one.peak for one in deepest),
        median(one.mean for one in deepest),
        all(one.declared for one in deepest),
    )


def measure_levels(values: np.ndarray, declared: float | None, name: str) -> Levels:
    """Finds the levels of one image.

    Args:
        values: [H, W] or [H, W, 3], whole numbers or floating point.
        declared: The value that is white as far as the file says it; not believed where the image
            has larger values.
        name: The image's name, for the sentence.

    Raises:
        ImageError: Values are negative, not finite or above 65535.
    """
    spare = values.size // _PER_HOT_PIXEL
    total, low, high = 0.0, np.inf, 0.0
    largest = np.empty(0, values.dtype)
    for band in _bands(values):
        total += float(band.sum(dtype=np.float64))
        low = min(low, float(band.min()))
        high = max(high, float(band.max()))
        # Once there are enough, only what is larger than all of them can change them.
        ahead = band.ravel() if largest.size <= spare else band[band > largest.min()]
        joined = np.concatenate([largest, ahead])
        keep = min(spare + 1, joined.size)
        largest = np.partition(joined, joined.size - keep)[joined.size - keep :]
    if not np.isfinite(total):
        raise ImageError(f"{name} has values that are not numbers; save it as an 8-bit image.")
    if low < 0 or high > 65535:
        raise ImageError(
            f"{name} has values from {low:g} to {high:g}; save it as an 8-bit or 16-bit image."
        )
    peak, mean = float(largest.min()), total / values.size
    if declared is not None and high <= declared:
        return Levels(declared, peak, mean, True)
    return Levels(_white_above(peak, values.dtype.kind == "f"), peak, mean)


def to_8_bit(values: np.ndarray, white: float) -> np.ndarray:
    """Brings 0..``white`` to 0..255, rounded; what is above is white.

    Args:
        values: [H, W] or [H, W, 3], not negative.
        white: The value that becomes 255.

    Returns:
        uint8, of the same shape.
    """
    scaled = np.empty(values.shape, np.uint8)
    if values.dtype == np.uint16:
        table = _grey(np.arange(2**16), white).astype(np.uint8)
        for band, place in zip(_bands(values), _bands(scaled), strict=True):
            np.take(table, band, out=place)
        return scaled
    for band, place in zip(_bands(values), _bands(scaled), strict=True):
        place[:] = _grey(band, white)
    return scaled


def _grey(values: np.ndarray, white: float) -> np.ndarray:
    return np.minimum(np.rint(values.astype(np.float64) * (255.0 / white)), 255.0)


def _white_above(peak: float, floating: bool) -> float:
    if floating and peak <= _BYTE_PEAK:
        return 1 if peak <= _UNIT_PEAK else 255
    return next(2**bits - 1 for bits in BITS if peak <= 2**bits - 1)


def _apart(one: float, other: float) -> float:
    """The factor between two numbers, at least 1."""
    small, large = sorted((one, other))
    return large / small if small else np.inf


def _bands(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), _BAND):
        yield values[start : start + _BAND]
