"""Antique coins against other things: single-object crops of scikit-image's photographs."""

from __future__ import annotations

import numpy as np
import skimage.data
from PIL import Image

from .pixels import soft_step, to_array
from .records import ExampleSet, Query

# Middle x, y and radius of the coins used, in pixels of skimage.data.coins.
BOXES = [
    (44, 53, 23),
    (100, 56, 20),
    (155, 50, 23),
    (215, 51, 23),
    (276, 53, 21),
    (334, 44, 29),
    (45, 122, 21),
    (103, 123, 19),
    (153, 125, 20),
    (205, 122, 20),
    (270, 118, 25),
    (336, 122, 19),
    (44, 196, 19),
    (102, 194, 22),
    (152, 196, 20),
    (212, 193, 24),
    (273, 195, 23),
    (346, 186, 31),
    (46, 258, 28),
    (113, 265, 21),
    (172, 258, 29),
]
SMALL = 72
MARGIN = 40
SIZE = (300, 270)


def enlarge(grey: np.ndarray, box: tuple[float, float, float, float]) -> Image.Image:
    """Cut a box out of a greyscale photo, at the coins' sharpness, and enlarge it smoothly.

    All objects go through the same few pixels: else the others would differ from the coins by their
    sharpness alone.
    """
    # A coin near the photo's edge gets its background continued by reflection.
    wide = Image.fromarray(np.pad(grey, MARGIN, mode="reflect"))
    moved = tuple(value + MARGIN for value in box)
    small = wide.resize(
        (SMALL, round(SMALL * SIZE[1] / SIZE[0])), Image.Resampling.LANCZOS, box=moved
    )
    return small.resize(SIZE, Image.Resampling.BICUBIC)


def around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    """Return the box about a round object, with a margin, at the set's proportions."""
    half = radius * 1.22
    wide = half * SIZE[0] / SIZE[1]
    return (x - wide, y - half, x + wide, y + half)


def coin_cut_out(place: tuple[int, int, int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut one coin from its background.

    Args:
        place: Middle x, y and radius in skimage.data.coins.
        size: Width and height of the result, in pixels.

    Returns:
        The coin, float [size, size], and its opacity, float [size, size].
    """
    x, y, radius = place
    photo = Image.fromarray(skimage.data.coins())
    box = (x - radius, y - radius, x + radius, y + radius)
    coin = to_array(photo.resize((size, size), Image.Resampling.LANCZOS, box=box))
    yy, xx = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    return coin, soft_step(0.95 - np.hypot(xx, yy), 0.06)


def coins() -> ExampleSet:
    """Make the set: single coins are normal; a cup, an eye, a face or a rocket is not."""
    photo = skimage.data.coins()
    cut = [enlarge(photo, around(*place)) for place in BOXES]
    normals = [cut[i] for i in (0, 2, 3, 7, 10, 13, 15, 18)]
    queries = [
        Query(f"coin_{i}", cut[at], "normal", "Another coin of the same collection.")
        for i, at in enumerate((4, 9, 16, 20), start=1)
    ]

    def grey(name: str) -> np.ndarray:
        return np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("L"))

    others = {
        "espresso": ("An espresso cup from above: round like a coin.", "coffee", (285, 160, 120)),
        "cat_eye": (
            "The eye of a cat: round, with a rim, and still no coin.",
            "chelsea",
            (172, 118, 42),
        ),
        "cat_face": ("A cat's face.", "chelsea", (245, 150, 120)),
        "rocket": ("A rocket on its pad.", "rocket", (321, 225, 150)),
        "spoon": ("The bowl of a coffee spoon.", "coffee", (362, 275, 50)),
    }
    for stem, (note, name, place) in others.items():
        queries.append(Query(stem, enlarge(grey(name), around(*place)), "anomalous", note))
    return ExampleSet(
        name="coins",
        title="Antique coins",
        object_name="coin",
        family="semantic",
        caption="Photographs of single coins are normal; a photograph of anything else is not.",
        source=(
            "skimage.data.coins (Greek coins from Pompeii, Brooklyn Museum), coffee (Rachel "
            "Michetti), chelsea (Stefan van der Walt) and rocket (SpaceX), cut and made grey."
        ),
        licence=(
            "Coins: no known copyright restrictions; coffee and chelsea: CC0 1.0; rocket: public "
            "domain."
        ),
        normals=normals,
        queries=queries,
    )
