"""The parts of a decoded image that the page needs: the model's crop, and a picture.

Made where the image is decoded, which may be in another process; nothing here needs torch but for
images of at most ``FAST_SIDE`` pixels a side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from ..config import PreprocessConfig
from .files import ImageSource, levels_used, open_image
from .levels import Levels, join_levels
from .overlay import resize_for_screen
from .preprocessing import CropBox, crop_image, seen_image

# A heatmap is drawn over so many pixels at most: it takes 20 bytes for each.
MOST_DRAWN = 8_000_000


class Opener(Protocol):
    """Opens images, here or elsewhere; functions given to it are those of modules."""

    def __call__(
        self, reduce: Callable[..., Any], source: Any, *arguments: Any, **options: Any
    ) -> Any:
        """The result of ``reduce(image, *arguments)``; options are those of ``open_image``."""

    def run(self, function: Callable[..., Any], source: Any, *arguments: Any) -> Any:
        """The result of ``function(source, *arguments)``."""


@dataclass(frozen=True, eq=False)
class SeenImage:
    """An image that was decoded and let go; what is left of it takes a few megabytes at most.

    Attributes:
        size: Width and height of the upright original, in pixels.
        crop: What the model sees, RGB, S x S.
        crop_box: The part of the original that this is, in pixels of the original.
        shown: RGB picture for the screen.
        levels: The levels by which it was read; None where it had 8 bits.
    """

    size: tuple[int, int]
    crop: Image.Image
    crop_box: CropBox
    shown: Image.Image
    levels: Levels | None = None


@dataclass(frozen=True, eq=False)
class SeenSet:
    """Normals that were decoded and let go.

    Attributes:
        images: What is left of each.
        levels: The levels of the set; None where all have 8 bits.
    """

    images: tuple[SeenImage, ...]
    levels: Levels | None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __iter__(self) -> Iterator[SeenImage]:
        """The images."""
        return iter(self.images)


def see_image(
    image: Image.Image, config: PreprocessConfig, most_pixels: int, least_side: int = 1
) -> SeenImage:
    """Reduces an opened image.

    Args:
        image: RGB.
        config: How the model sees images.
        most_pixels: Pixels of the picture at most.
        least_side: Longer side that the picture of a smaller image has.
    """
    crop, box = crop_image(image, config.image_size, config.resize_mode)
    shown = resize_for_screen(image, most_pixels, least_side)
    return SeenImage(image.size, crop, box, shown, levels_used(image))


def see_thumbnail(
    image: Image.Image, config: PreprocessConfig, sides: tuple[int, int]
) -> SeenImage:
    """As :func:`see_image`, with a picture that is no larger than ``sides``."""
    crop, box = crop_image(image, config.image_size, config.resize_mode)
    width, height = sides
    small = (
        image.copy()
        if max(image.size) <= 2 * max(sides)
        else image.reduce(max(1, min(image.width // (2 * width), image.height // (2 * height))))
    )
    small.thumbnail(sides, Image.Resampling.LANCZOS)
    return SeenImage(image.size, crop, box, small, levels_used(image))


def shrink(image: Image.Image, most_pixels: int) -> Image.Image:
    """The image, smaller where it has more than so many pixels."""
    return resize_for_screen(image, most_pixels)


def enlarge(
    image: Image.Image, config: PreprocessConfig, centre: tuple[float, float], factor: float
) -> Image.Image:
    """The model's view of a part of an image alone, as :func:`.preprocessing.seen_image` gives it.

    Args:
        image: RGB.
        config: How the model sees images.
        centre: Across and down, as shares of the image; the part is moved to lie in it.
        factor: How much smaller than the image the part is, at least 1.
    """
    sides = [max(1, round(side / factor)) for side in image.size]
    starts = [
        min(max(round(share * side - part / 2), 0), side - part)
        for share, side, part in zip(centre, image.size, sides, strict=True)
    ]
    box = (*starts, starts[0] + sides[0], starts[1] + sides[1])
    return seen_image(image.crop(box), config)


class _OpenHere:
    """The opener that decodes in this process."""

    def __call__(
        self, reduce: Callable[..., Any], source: ImageSource, *arguments: Any, **options: Any
    ) -> Any:
        return reduce(open_image(source, **options), *arguments)

    def run(self, function: Callable[..., Any], source: ImageSource, *arguments: Any) -> Any:
        return function(source, *arguments)


open_here = _OpenHere()


def see_set(
    paths: Sequence[str], config: PreprocessConfig, most_pixels: int, opener: Opener = open_here
) -> SeenSet:
    """Opens normals one after the other: sixteen of the largest at once would take 3 GB.

    Args:
        paths: Their files.
        config: How the model sees images.
        most_pixels: Pixels of each picture at most.
        opener: Opens an image.

    Raises:
        ImageError: One of them cannot be used.
    """
    images = [opener(see_image, path, config, most_pixels) for path in paths]
    levels = join_levels([image.levels for image in images])
    for place, (path, image) in enumerate(zip(paths, images, strict=True)):
        # Most sets are of one kind, and decoding a large image of 16 bits takes a second.
        if levels and image.levels and levels.white_for(image.levels) != image.levels.white:
            images[place] = opener(see_image, path, config, most_pixels, levels=levels)
    return SeenSet(tuple(images), levels)
