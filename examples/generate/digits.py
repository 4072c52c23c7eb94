"""Handwritten digits of scikit-learn on paper: one digit is normal, every other is not."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

from .pixels import fractal_noise, mix, smooth_noise, soft_step, to_image
from .records import ExampleSet, Query, generator_for

WIDTH, HEIGHT, DIGIT = 288, 256, 200
NORMAL = 0
INK, PAPER = (0.10, 0.14, 0.34), (0.93, 0.91, 0.86)


def on_paper(rng: np.random.Generator, pixels: np.ndarray) -> Image.Image:
    """Draw one 8 x 8 digit as ink on paper.

    Args:
        rng: Source of the paper's and the ink's texture.
        pixels: float [8, 8], 0 (paper) to 16 (ink).

    Returns:
        An RGB image of 288 x 256 pixels.
    """
    padded = np.pad(pixels / 16, 1)
    large = ndimage.zoom(padded, DIGIT / 8, order=3, mode="grid-constant", grid_mode=True)
    whole = np.zeros((HEIGHT, WIDTH))
    top, left = (HEIGHT - large.shape[0]) // 2, (WIDTH - large.shape[1]) // 2
    whole[top : top + large.shape[0], left : left + large.shape[1]] = large
    whole = ndimage.gaussian_filter(whole, 5)
    # The 8 x 8 counts are a blurred drawing, so one of their contours is the stroke's edge; this
    # level keeps thin strokes closed without filling small loops.
    edge = whole - 0.34 + 0.006 * smooth_noise(rng, whole.shape, 2.0)
    alpha = soft_step(edge, 0.07) * (0.90 + 0.05 * smooth_noise(rng, whole.shape, 9))
    paper = np.asarray(PAPER) * (1 + 0.012 * fractal_noise(rng, whole.shape, 3))[..., None]
    paper = paper * (1 + 0.015 * smooth_noise(rng, whole.shape, 60))[..., None]
    return to_image(mix(paper, INK, np.clip(alpha, 0, 1)))


def digits() -> ExampleSet:
    """Make the set: zeros are normal; a query may be any digit."""
    rng = generator_for("digits")
    data = load_digits()

    def draw(digit: int, count: int) -> list[Image.Image]:
        chosen = rng.choice(np.flatnonzero(data.target == digit), count, replace=False)
        return [on_paper(rng, data.images[i]) for i in chosen]

    zeros = draw(NORMAL, 11)
    queries = [
        Query(f"zero_{i}", image, "normal", "A zero in another hand.")
        for i, image in enumerate(zeros[8:], start=1)
    ]
    notes = {
        1: "A one.",
        4: "A four.",
        5: "A five.",
        6: "A six: it shares the round belly of a zero, so this is the hard one.",
        7: "A seven.",
    }
    for digit, note in notes.items():
        queries.append(Query(f"digit_{digit}", draw(digit, 1)[0], "anomalous", note))
    return ExampleSet(
        name="digits",
        title="Handwritten zeros",
        object_name="handwritten digit zero",
        family="semantic",
        caption="Nothing is damaged here: a zero is normal, and any other digit is the anomaly.",
        source=(
            "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak, 1998, UCI Machine "
            "Learning Repository), the 8 x 8 copy in scikit-learn, enlarged, on drawn paper."
        ),
        licence="CC BY 4.0 (the UCI repository's terms); the paper is the project's own work.",
        normals=zeros[:8],
        queries=queries,
    )
