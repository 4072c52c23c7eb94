"""Random fields, colours and warps: the material of the procedural classes.

Fields are float32 [S, S], images float32 [S, S, 3] in [0, 1]. Every function is deterministic in
its generator.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

Generator = np.random.Generator

SIZE = 240  # Side of every rendered image, pixels: the first of inctrl-lite's.


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """One draw, uniform in the logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def smooth_noise(rng: Generator, cells_y: float, cells_x: float, size: int = SIZE) -> np.ndarray:
    """A field in about [-1, 1] with the given number of bumps along each axis."""
    rows, columns = max(2, round(cells_y)) + 1, max(2, round(cells_x)) + 1
    coarse = rng.uniform(-1.0, 1.0, (rows, columns)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def fractal_noise(
    rng: Generator, cells: tuple[float, float], octaves: int, persistence: float
) -> np.ndarray:
    """Octaves of smooth noise, each twice as fine and ``persistence`` times as strong."""
    field = np.zeros((SIZE, SIZE), np.float32)
    strength, total = 1.0, 0.0
    for octave in range(octaves):
        finer = 2**octave
        field += strength * smooth_noise(
            rng, min(cells[0] * finer, SIZE), min(cells[1] * finer, SIZE)
        )
        total += strength
        strength *= persistence
    return field / total


def grid_coordinates() -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (y, x) of every pixel, each [S, S] in [-1, 1]."""
    axis = np.linspace(-1.0, 1.0, SIZE, dtype=np.float32)
    return np.broadcast_to(axis[:, None], (SIZE, SIZE)), np.broadcast_to(axis, (SIZE, SIZE))


def random_color(rng: Generator, grey: bool) -> np.ndarray:
    """An RGB colour in [0, 1], float32 [3]; ``grey`` takes the hue away."""
    value = rng.uniform(0.05, 0.95)
    if grey:
        return np.full(3, value, np.float32)
    color = value + rng.normal(0.0, log_uniform(rng, 0.02, 0.3), 3)
    return np.clip(color, 0.02, 0.98).astype(np.float32)


def blend(below: np.ndarray, above: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """``above`` over ``below`` where ``mask`` ([S, S] in [0, 1]) says so."""
    return below + mask[..., None] * (above - below)


def colorize(field: np.ndarray, dark: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """Maps a field in [0, 1] to the colours between ``dark`` and ``bright`` ([3] each)."""
    return dark + np.clip(field, 0.0, 1.0)[..., None] * (bright - dark)


def to_image(pixels: np.ndarray) -> Image.Image:
    """From float [S, S, 3] in [0, 1] -> RGB image."""
    return Image.fromarray(np.rint(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8))


def to_pixels(image: Image.Image) -> np.ndarray:
    """RGB image -> float32 [S, S, 3] in [0, 1]."""
    return np.asarray(image, dtype=np.float32) / 255.0


def mesh_warp(pixels: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Moves pixels by a coarse displacement field.

    Args:
        pixels: [S, S, 3].
        shift: [N + 1, N + 1, 2], (y, x) displacement in pixels of the source at the corners of an
            N x N mesh over the image.
    """
    cells = len(shift) - 1
    at = np.linspace(0, SIZE, cells + 1)
    source_y, source_x = at[:, None] + shift[..., 0], at[None] + shift[..., 1]
    edges = np.rint(at).astype(int)
    mesh = []
    for row in range(cells):
        for column in range(cells):
            box = edges[column], edges[row], edges[column + 1], edges[row + 1]
            corners = ((0, 0), (1, 0), (1, 1), (0, 1))  # PIL's order: counter-clockwise from above.
            quad = [
                float(axis[row + down, column + right])
                for down, right in corners
                for axis in (source_x, source_y)
            ]
            mesh.append((box, quad))
    padded = _reflect(to_image(pixels), shift)
    margin = (padded.width - SIZE) // 2
    mesh = [(box, [value + margin for value in quad]) for box, quad in mesh]
    warped = padded.transform((SIZE, SIZE), Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    return to_pixels(warped)


def rigid(pixels: np.ndarray, angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """Turns (degrees), scales and shifts (y, x in pixels) about the centre; edges are reflected."""
    margin = SIZE // 3
    padded = Image.fromarray(
        np.pad(np.asarray(to_image(pixels)), ((margin,) * 2, (margin,) * 2, (0, 0)), "reflect")
    )
    cosine, sine = np.cos(np.radians(angle)) / scale, np.sin(np.radians(angle)) / scale
    centre = SIZE / 2.0
    x0 = centre + margin - shift[1] - cosine * centre - sine * centre
    y0 = centre + margin - shift[0] + sine * centre - cosine * centre
    turned = padded.transform(
        (SIZE, SIZE),
        Image.Transform.AFFINE,
        (cosine, sine, x0, -sine, cosine, y0),
        Image.Resampling.BILINEAR,
    )
    return to_pixels(turned)


def _reflect(image: Image.Image, shift: np.ndarray) -> Image.Image:
    margin = min(SIZE - 1, int(np.abs(shift).max()) + 2)
    array = np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), "reflect")
    return Image.fromarray(array)
