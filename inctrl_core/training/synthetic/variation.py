"""Harmless variation: the effects of a camera and a fixture on a good part, which stays normal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from .fields import SIZE, Generator, log_uniform, mesh_warp, rigid, smooth_noise


@dataclass(frozen=True)
class Variation:
    """How much images of one class vary; each is the spread of one effect, 0 for none.

    Attributes:
        shift: Pixels.
        turn: Degrees.
        zoom: Spread of the logarithm of the scale.
        light: Spread of the logarithm of the brightness.
        gradient: Brightness change across the image.
        noise: Sensor noise, in [0, 1] units.
        focus: Largest blur, pixels.
        tint: Spread of each channel's gain.
        bend: Elastic displacement, pixels.
        flips: Whether images may be mirrored and turned by half.
    """

    shift: float
    turn: float
    zoom: float
    light: float
    gradient: float
    noise: float
    focus: float
    tint: float
    bend: float
    flips: bool


def random_variation(rng: Generator) -> Variation:
    """Draws a class's own habits: about half of the effects are absent from each class."""

    def spread(low: float, high: float, chance: float = 0.6) -> float:
        return log_uniform(rng, low, high) if rng.random() < chance else 0.0

    return Variation(
        shift=spread(1, 12),
        turn=spread(0.5, 12),
        zoom=spread(0.01, 0.08),
        light=spread(0.02, 0.25),
        gradient=spread(0.02, 0.25),
        noise=spread(0.005, 0.06, 0.8),
        focus=spread(0.3, 1.5, 0.4),
        tint=spread(0.005, 0.05, 0.4),
        bend=spread(1, 6, 0.3),
        flips=bool(rng.random() < 0.15),
    )


def vary(pixels: np.ndarray, variation: Variation, rng: Generator) -> np.ndarray:
    """Applies one draw of a class's variation: [S, S, 3] -> [S, S, 3] in [0, 1]."""
    if variation.flips:
        pixels = pixels[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    if variation.bend:
        shift = np.stack([smooth_noise(rng, 3, 3, 9) for _ in range(2)], -1) * variation.bend
        pixels = mesh_warp(pixels, shift)
    if variation.shift or variation.turn or variation.zoom:
        pixels = rigid(
            pixels,
            float(rng.normal(0, 1)) * variation.turn,
            float(np.exp(rng.normal(0, 1) * variation.zoom)),
            tuple(rng.normal(0, 1, 2) * variation.shift),
        )
    if variation.focus and rng.random() < 0.7:
        sigma = rng.uniform(0, variation.focus)
        pixels = gaussian_filter(pixels, (sigma, sigma, 0), truncate=2.5)
    gain = np.exp(rng.normal(0, 1) * variation.light) * (1 + rng.normal(0, 1, 3) * variation.tint)
    pixels = pixels * gain.astype(np.float32)
    if variation.gradient:
        ramp = np.linspace(-1, 1, SIZE, dtype=np.float32)
        slope = rng.normal(0, 1, 2).astype(np.float32) * variation.gradient * 0.5
        pixels = pixels * (1 + slope[0] * ramp[:, None] + slope[1] * ramp)[..., None]
    if variation.noise:
        noise = rng.standard_normal((SIZE, SIZE, 1), np.float32)
        pixels = pixels + variation.noise * noise
    return np.clip(pixels, 0.0, 1.0)
