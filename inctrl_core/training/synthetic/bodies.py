"""Soft bodies: nested outlines with inner structures, as organs and cross-sections have."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .fields import SIZE, Generator, blend, log_uniform, random_color, smooth_noise


@dataclass(frozen=True, eq=False)
class BodyClass:
    """Nested soft outlines, mirror-symmetric: organs, shells, cross-sections.

    Attributes:
        outline: float [layers, harmonics, 2], amplitudes of each layer's radius over the angle.
        radius: Mean radius of each layer, [-1, 1] units.
        tones: float32 [layers + 1, 3], background first.
        inner: Centre (y, x), radii (y, x) and tone change of mirrored inner structures.
        blur: Blur of the borders, in pixels of the half-size raster.
        loose: How much outlines differ between instances.
        grain: Strength and fineness of inner texture.
        slice_range: How much an instance's inner structures may shrink or fade: bodies are seen
            in slices.
    """

    outline: np.ndarray
    radius: np.ndarray
    tones: np.ndarray
    inner: tuple[tuple[float, float, float, float, float], ...]
    blur: float
    loose: float
    grain: tuple[float, float]
    slice_range: float

    def render(self, rng: Generator) -> np.ndarray:
        """One instance: float32 [S, S, 3]."""
        y, x = _half_grid()
        angle = np.arctan2(y, np.abs(x) + 1e-6)
        bend = self.loose * (0.4 * y * rng.normal() + 0.25 * x * rng.normal())
        distance = np.hypot(y * (1 + 0.1 * self.loose * rng.normal()), x * 1.15) * (1 + bend)
        harmonics = np.arange(1, self.outline.shape[1] + 1)
        waves = np.cos(harmonics[:, None, None] * angle)
        pixels = np.broadcast_to(self.tones[0], (*y.shape, 3)).astype(np.float32)
        for layer, radius in enumerate(self.radius):
            wobble = self.outline[layer] + self.loose * 0.03 * rng.normal(
                size=self.outline.shape[1:]
            )
            limit = radius * (1 + 0.5 * np.tensordot(wobble[:, 0], waves, 1))
            inside = np.clip((limit - distance) * SIZE / (2 * self.blur), 0, 1)
            pixels = blend(pixels, self.tones[layer + 1], inside.astype(np.float32))
        pixels = self._add_inner(pixels, rng, y, x)
        inside = np.clip((self.radius[-1] - distance) * 12, 0, 1)[..., None]
        noise = smooth_noise(rng, self.grain[1], self.grain[1], len(y))[..., None]
        pixels = pixels + self.grain[0] * noise * inside
        return _enlarge(pixels)

    def mutate(self, rng: Generator) -> BodyClass:
        """The class with its inner structures changed, a layer retoned, or its outline bent."""
        change = rng.choice(["inner", "tone", "outline"])
        if change == "tone":
            tones = self.tones.copy()
            tones[rng.integers(1, len(tones))] = random_color(rng, True)
            return dataclasses.replace(self, tones=tones)
        if change == "outline":
            outline = self.outline + rng.normal(0, 0.12, self.outline.shape)
            return dataclasses.replace(self, outline=outline)
        return dataclasses.replace(self, inner=_random_inner(rng))

    def _add_inner(
        self, pixels: np.ndarray, rng: Generator, y: np.ndarray, x: np.ndarray
    ) -> np.ndarray:
        height = 1.0 - self.slice_range * rng.random()
        for centre_y, centre_x, radius_y, radius_x, tone in self.inner:
            fade = height + 0.1 * self.loose * rng.normal()
            for side in (-1.0, 1.0):
                jitter = 1 + 0.25 * self.loose * rng.normal(size=2)
                square = ((y - centre_y * jitter[0]) / (radius_y * height)) ** 2
                square = square + ((x - side * centre_x * jitter[1]) / (radius_x * height)) ** 2
                mask = np.clip(2.0 - square * (1.0 + 2.0 / self.blur), 0, 1) * fade
                pixels = pixels + tone * mask[..., None].astype(np.float32)
        return pixels


def random_body(rng: Generator) -> BodyClass:
    """Draws a soft body class."""
    layers = int(rng.integers(2, 5))
    grey = rng.random() < 0.7
    radius = np.cumprod(np.r_[rng.uniform(0.65, 0.95), rng.uniform(0.75, 0.94, layers - 1)])
    tones = np.stack([random_color(rng, grey) for _ in range(layers + 1)])
    tones[0] *= rng.choice([0.1, 1.0])
    return BodyClass(
        outline=rng.normal(0, 0.07, (layers, int(rng.integers(2, 6)), 2)),
        radius=radius,
        tones=tones,
        inner=_random_inner(rng),
        blur=log_uniform(rng, 1.0, 8.0),
        loose=log_uniform(rng, 0.05, 1.0),
        grain=(log_uniform(rng, 0.02, 0.25), log_uniform(rng, 5, 40)),
        slice_range=float(rng.choice([0.0, rng.uniform(0, 0.8)])),
    )


def _random_inner(rng: Generator) -> tuple[tuple[float, float, float, float, float], ...]:
    return tuple(
        (
            float(rng.uniform(-0.35, 0.35)),
            float(rng.uniform(0.0, 0.35)),
            log_uniform(rng, 0.04, 0.3),
            log_uniform(rng, 0.04, 0.2),
            float(rng.uniform(-0.4, 0.4)),
        )
        for _ in range(int(rng.integers(1, 6)))
    )


def _half_grid() -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(-1.0, 1.0, SIZE // 2, dtype=np.float32)
    return np.meshgrid(axis, axis, indexing="ij")[0], np.meshgrid(axis, axis, indexing="ij")[1]


def _enlarge(pixels: np.ndarray) -> np.ndarray:
    channels = [
        Image.fromarray(pixels[..., c].astype(np.float32)).resize(
            (SIZE, SIZE), Image.Resampling.BICUBIC
        )
        for c in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], -1)
