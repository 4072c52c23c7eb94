"""Small array tools that every set shares: noise, blobs, curves and blending.

Images are float arrays [H, W] or [H, W, 3] with values 0 to 1; masks are float [H, W], 0 to 1.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage


def to_image(array: np.ndarray) -> Image.Image:
    """Turn a float array with values about 0 to 1 into an 8-bit image."""
    return Image.fromarray(np.round(np.clip(array, 0, 1) * 255).astype(np.uint8))


def to_array(image: Image.Image) -> np.ndarray:
    """Turn an 8-bit image into a float array with values 0 to 1."""
    return np.asarray(image, dtype=np.float64) / 255


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Return Gaussian noise of mean 0 and standard deviation 1, smooth over `scale` pixels.

    Args:
        rng: Source of randomness.
        shape: Height and width of the result.
        scale: Standard deviation of the smoothing, in pixels.
    """
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), scale, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def fractal_noise(rng: np.random.Generator, shape: tuple[int, int], coarse: float) -> np.ndarray:
    """Return noise of standard deviation 1 with detail at all scales from `coarse` pixels down."""
    scales = coarse / 2.0 ** np.arange(5)
    total = sum(smooth_noise(rng, shape, max(s, 0.6)) * s**0.7 for s in scales)
    return total / total.std()


def blob(
    rng: np.random.Generator,
    shape: tuple[int, int],
    centre: tuple[float, float],
    radii: tuple[float, float],
    roughness: float = 0.25,
) -> np.ndarray:
    """Return an irregular filled patch.

    Args:
        rng: Source of randomness.
        shape: Height and width of the result.
        centre: x and y of the middle, in pixels.
        radii: Half width and half height, in pixels.
        roughness: How far the outline strays from an ellipse, as a part of the radius.

    Returns:
        float [H, W]: distance inside the outline as a part of the radius; positive inside.
    """
    y, x = np.mgrid[: shape[0], : shape[1]]
    radius = np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])
    return 1 - radius + roughness * fractal_noise(rng, shape, max(radii) / 2) * 0.7


def soft_step(signed: np.ndarray, width: float) -> np.ndarray:
    """Map a signed distance to 0 outside and 1 inside, with a smooth edge of the given width."""
    t = np.clip(signed / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def wandering_line(
    rng: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    length: float,
    wobble: float = 0.25,
) -> list[tuple[float, float]]:
    """Return the points of a line that turns a little at every step.

    Args:
        rng: Source of randomness.
        start: x and y of the first point, in pixels.
        heading: First direction, in radians.
        length: Length of the line, in pixels.
        wobble: Standard deviation of the turn at each step of 4 pixels, in radians.
    """
    points, (x, y), drift = [start], start, heading
    for _ in range(max(2, int(length / 4))):
        # The pull back to the first heading keeps the line from curling into a ball.
        drift += rng.normal(0, wobble) + 0.15 * (heading - drift)
        x, y = x + 4 * np.cos(drift), y + 4 * np.sin(drift)
        points.append((x, y))
    return points


def stroke(
    shape: tuple[int, int], points: list[tuple[float, float]], width: float, taper: float = 0.0
) -> np.ndarray:
    """Draw an anti-aliased line.

    Args:
        shape: Height and width of the result.
        points: x and y of each point, in pixels.
        width: Line width in pixels, at its start.
        taper: Part of the width that is lost by the end, 0 to 1.

    Returns:
        float [H, W], 0 to 1.
    """
    fine = 4
    canvas = Image.new("L", (shape[1] * fine, shape[0] * fine))
    draw = ImageDraw.Draw(canvas)
    scaled = [(x * fine, y * fine) for x, y in points]
    for i, (a, b) in enumerate(zip(scaled, scaled[1:], strict=False)):
        here = width * fine * (1 - taper * i / max(1, len(points) - 2))
        draw.line([a, b], fill=255, width=max(1, round(here)))
        r = here / 2
        draw.ellipse([b[0] - r, b[1] - r, b[0] + r, b[1] + r], fill=255)
    return to_array(canvas.resize((shape[1], shape[0]), Image.Resampling.BOX))


def mix(base: np.ndarray, over: np.ndarray | tuple, alpha: np.ndarray) -> np.ndarray:
    """Lay `over` (an image or one colour) on `base` [H, W, 3] with opacity `alpha` [H, W]."""
    return base + (np.asarray(over, dtype=np.float64) - base) * alpha[..., None]


def tone(grey: np.ndarray, dark: tuple, middle: tuple, light: tuple) -> np.ndarray:
    """Colour a greyscale image by its brightness.

    Args:
        grey: float [H, W], 0 to 1.
        dark: RGB colour of black.
        middle: RGB colour of middle grey.
        light: RGB colour of white.

    Returns:
        float [H, W, 3].
    """
    stops = np.array([dark, middle, light], dtype=np.float64)
    return np.stack([np.interp(grey, [0, 0.5, 1], stops[:, c]) for c in range(3)], axis=-1)
