"""Photographed classes: a window of one of the photographs that scikit-image ships.

Formulas draw what they draw; photographs bring edges, blur, grain and compression as cameras make
them. The window stays (an object before a fixture) or wanders (a material); light, focus, noise and
anomalies are those of the other classes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from .fields import SIZE, Generator, log_uniform

SCENES = (
    "astronaut.png brick.png camera.png cell.png chelsea.png clock_motion.png coffee.png coins.png "
    "color.png grass.png gravel.png horse.png hubble_deep_field.jpg ihc.png logo.png moon.png "
    "motorcycle_left.png page.png retina.jpg rocket.jpg text.png"
).split()
LARGEST = 900  # Pixels; larger photographs are made smaller once.


@dataclass(frozen=True, eq=False)
class PhotographClass:
    """One window.

    Attributes:
        scene: Index into ``SCENES``.
        centre: (x, y), shares of the photograph's sides.
        side: Side of the window, as a share of the photograph's shorter side.
        wander: Standard deviation of the centre from image to image, as a share of ``side``.
        quarters: Quarter turns.
        gain: Gain of each channel.
        gamma: Exponent of the brightness.
        grey: Whether the hue is taken away.
        negative: Whether dark and bright change places.
    """

    scene: int
    centre: tuple[float, float]
    side: float
    wander: float
    quarters: int
    gain: tuple[float, float, float]
    gamma: float
    grey: bool
    negative: bool

    def render(self, rng: Generator) -> np.ndarray:
        """One instance: float32 [S, S, 3]."""
        photograph = _photograph(self.scene)
        side = self.side * min(photograph.size)
        sizes = np.asarray(photograph.size)
        centre = np.asarray(self.centre) * sizes + rng.normal(size=2) * self.wander * side
        left, top = (np.clip(centre, side / 2, sizes - side / 2) - side / 2).tolist()
        window = photograph.resize(
            (SIZE, SIZE), Image.Resampling.BICUBIC, (left, top, left + side, top + side)
        )
        pixels = np.rot90(np.asarray(window, np.float32) / 255, self.quarters)
        if self.grey:
            pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
        if self.negative:
            pixels = 1 - pixels
        return np.ascontiguousarray(pixels**self.gamma * np.asarray(self.gain, np.float32))

    def mutate(self, rng: Generator) -> PhotographClass:
        """A related class: another place, light, scale or turn."""
        changed = rng.choice(["centre", "gamma", "side", "quarters"])
        if changed == "centre":
            return dataclasses.replace(self, centre=tuple(rng.uniform(0.2, 0.8, 2).tolist()))
        if changed == "gamma":
            factor = float(np.exp(rng.choice([-1, 1]) * rng.uniform(0.3, 0.7)))
            return dataclasses.replace(self, gamma=self.gamma * factor)
        if changed == "side":
            factor = float(np.exp(rng.choice([-1, 1]) * rng.uniform(0.25, 0.6)))
            return dataclasses.replace(self, side=float(np.clip(self.side * factor, 0.2, 1.0)))
        return dataclasses.replace(self, quarters=self.quarters + int(rng.integers(1, 4)))


def random_photograph(rng: Generator) -> PhotographClass:
    """Draws a class."""
    tint = np.exp(rng.normal(0, 0.12, 3) + rng.normal(0, 0.15))
    return PhotographClass(
        scene=int(rng.integers(len(SCENES))),
        centre=tuple(rng.uniform(0.25, 0.75, 2).tolist()),
        side=log_uniform(rng, 0.3, 1.0),
        wander=float(rng.choice([0.0, 0.0, 0.02, 0.3])),
        quarters=int(rng.integers(4)),
        gain=tuple(tint.tolist()),
        gamma=float(np.exp(rng.normal(0, 0.25))),
        grey=bool(rng.random() < 0.4),
        negative=bool(rng.random() < 0.15),
    )


def open_photograph(name: str) -> Image.Image:
    """One of the files that scikit-image ships, RGB."""
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        return image.convert("RGB")


@lru_cache(maxsize=len(SCENES))
def _photograph(index: int) -> Image.Image:
    photograph = open_photograph(SCENES[index])
    photograph.thumbnail((LARGEST, LARGEST))
    return photograph
