"""Kinds of anomaly: each changes one good image into a bad one.

A kind is a function of (pixels, other, rng): the image, an image of another class as a source of
foreign material, and a generator. It returns the changed image, [S, S, 3]. Kinds that change the
object itself (missing, moved or swapped parts, another recipe) are in :mod:`.classes`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from .fields import SIZE, Generator, blend, log_uniform, mesh_warp, random_color, smooth_noise


def cut_paste(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """A rectangle of the image itself, turned, in the wrong place."""
    return _paste(pixels, pixels, rng)


def foreign_patch(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """A rectangle of another class's image."""
    return _paste(pixels, other, rng)


def foreign_blob(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """An irregular region of another class's material, more or less transparent."""
    return blend(pixels, other, _blob(rng) * rng.uniform(0.35, 1.0))


def stain(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """An irregular region in another colour."""
    color = random_color(rng, rng.random() < 0.4)
    return blend(pixels, color, _blob(rng) * rng.uniform(0.25, 0.9))


def scar(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """A few straight scratches."""
    lines = []
    for _ in range(int(rng.integers(1, 4))):
        start, angle = rng.uniform(0.1, 0.9, 2) * SIZE, rng.uniform(0, 2 * np.pi)
        reach = log_uniform(rng, 15, 150)
        end = start + reach * np.array([np.sin(angle), np.cos(angle)])
        lines.append(np.stack([start, end]))
    return _stroke(pixels, lines, log_uniform(rng, 1, 8), rng)


def crack(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """A random walk with branches, dark or bright."""
    lines = [_walk(rng.uniform(0.15, 0.85, 2) * SIZE, rng.uniform(0, 6.3), rng)]
    for _ in range(int(rng.integers(0, 4))):
        trunk = lines[int(rng.integers(len(lines)))]
        lines.append(_walk(trunk[rng.integers(len(trunk))], rng.uniform(0, 6.3), rng))
    return _stroke(pixels, lines, log_uniform(rng, 1, 4), rng)


def lesion(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """A soft round spot, brighter or darker, sometimes with a rim."""
    distance = _ellipse_distance(rng, log_uniform(rng, 8, 45))
    core = np.clip((1.0 - distance) * log_uniform(rng, 1, 6), 0, 1)
    if rng.random() < 0.4:
        core = core - rng.uniform(0.3, 1.2) * np.clip((0.6 - distance) * 4, 0, 1)
    change = rng.uniform(0.15, 0.6) * rng.choice([-1, 1])
    rough = 1 + rng.uniform(0, 0.5) * smooth_noise(rng, 20, 20)
    return pixels + (change * core * rough)[..., None].astype(np.float32)


def specks(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """Scattered small dots."""
    mask = Image.new("L", (SIZE, SIZE), 0)
    draw = ImageDraw.Draw(mask)
    spread, centre = log_uniform(rng, 8, 100), rng.uniform(0.2, 0.8, 2) * SIZE
    for _ in range(int(log_uniform(rng, 2, 60))):
        y, x = centre + rng.normal(0, spread, 2)
        radius = log_uniform(rng, 0.8, 5)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    color = random_color(rng, rng.random() < 0.6)
    return blend(pixels, color, np.asarray(mask, np.float32) / 255 * rng.uniform(0.4, 1))


def dark_region(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """A part with straight borders goes dark (or bright)."""
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.6, 0.6)
    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    side = axis[:, None] * np.sin(angle) + axis * np.cos(angle) - offset
    mask = np.clip(side * log_uniform(rng, 4, 100), 0, 1)
    if rng.random() < 0.6:
        across = axis[:, None] * np.cos(angle) - axis * np.sin(angle)
        mask = mask * (np.abs(across - rng.uniform(-0.7, 0.7)) < log_uniform(rng, 0.06, 0.6))
    gain = rng.choice([rng.uniform(0.05, 0.7), rng.uniform(1.3, 2)], p=[0.8, 0.2])
    return blend(pixels, pixels * np.float32(gain), mask)


def bite(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """A chip: the border's colour eats into the object."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return blend(pixels, np.median(border, 0), _blob(rng))


def blur_region(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """A smeared region."""
    sigma = log_uniform(rng, 2, 8)
    smeared = gaussian_filter(pixels, (sigma, sigma * rng.uniform(0.1, 1), 0), truncate=2)
    return blend(pixels, smeared, _blob(rng))


def noise_region(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """A rough region."""
    cells = log_uniform(rng, 20, 200)
    field = smooth_noise(rng, cells, cells) * rng.uniform(0.15, 0.5)
    return pixels + (_blob(rng) * field)[..., None]


def bulge(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """A dent: pixels are drawn to, pushed from or swirled about a point."""
    cells = 16
    at = np.linspace(0, SIZE, cells + 1)
    centre, reach = rng.uniform(0.25, 0.75, 2) * SIZE, log_uniform(rng, 25, 70)
    dy, dx = np.meshgrid(at - centre[0], at - centre[1], indexing="ij")
    weight = np.exp(-(dy**2 + dx**2) / (2 * (reach / 1.7) ** 2))
    pull, swirl = rng.uniform(-0.6, 0.6), rng.uniform(-0.9, 0.9)
    shift = np.stack([dy * pull + dx * swirl, dx * pull - dy * swirl], -1) * weight[..., None]
    return mesh_warp(pixels, shift)


def shuffle(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """Two quarters or strips change places."""
    half, result = SIZE // 2, pixels.copy()
    if rng.random() < 0.5:
        result[:half, :half], result[half:, half:] = pixels[half:, half:], pixels[:half, :half]
        return result
    return np.roll(pixels, (int(rng.integers(40, 200)), 0), (0, 1))


def turn(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """The whole image lies on its side, or a central disc of it is turned."""
    turned = np.rot90(pixels, int(rng.choice([1, 3])))
    if rng.random() < 0.5:
        return turned.copy()
    distance = _ellipse_distance(rng, log_uniform(rng, 30, 80))
    return blend(pixels, turned, (distance < 1).astype(np.float32))


def global_tone(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """The whole image in other colours or far lighter or darker than light may vary."""
    if rng.random() < 0.3:
        return pixels[..., rng.permutation([2, 0, 1])] * 0.9
    if rng.random() < 0.5:
        return 0.5 + (pixels - 0.5) * np.float32(rng.choice([0.3, -0.8]))
    tint = rng.uniform(0.35, 1.7, 3)
    return pixels * tint.astype(np.float32)


def global_blur(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """Far out of focus."""
    sigma = rng.uniform(3, 7)
    return gaussian_filter(pixels, (sigma, sigma, 0), truncate=2)


def global_veil(pixels: np.ndarray, other: np.ndarray, rng: Generator) -> np.ndarray:
    """Another image shines through, or coarse noise lies over everything."""
    if rng.random() < 0.5:
        return pixels + rng.uniform(0.25, 0.5) * (other - pixels)
    cells = log_uniform(rng, 10, 120)
    return pixels + rng.uniform(0.15, 0.35) * smooth_noise(rng, cells, cells)[..., None]


KINDS: dict[str, Callable[[np.ndarray, np.ndarray, Generator], np.ndarray]] = {
    kind.__name__: kind
    for kind in (
        cut_paste,
        foreign_patch,
        foreign_blob,
        stain,
        scar,
        crack,
        lesion,
        specks,
        dark_region,
        bite,
        blur_region,
        noise_region,
        bulge,
        shuffle,
        turn,
        global_tone,
        global_blur,
        global_veil,
    )
}


def _blob(rng: Generator) -> np.ndarray:
    # An irregular region near the middle: noise cut at a level inside a soft disc.
    distance = _ellipse_distance(rng, log_uniform(rng, 10, 75))
    field = 1.0 - distance + 0.6 * smooth_noise(rng, 9, 9)
    return np.clip(field * log_uniform(rng, 2, 30), 0, 1).astype(np.float32)


def _ellipse_distance(rng: Generator, radius: float) -> np.ndarray:
    # 0 at a random centre, 1 at the border of an ellipse of that mean radius in pixels.
    at, angle, flat = rng.uniform(0.2, 0.8, 2) * SIZE, rng.uniform(0, np.pi), rng.uniform(0.6, 1)
    y, x = np.ogrid[:SIZE, :SIZE]
    dy, dx = (y - at[0]).astype(np.float32), (x - at[1]).astype(np.float32)
    along = (dy * np.sin(angle) + dx * np.cos(angle)) / radius * flat
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / radius / flat
    return np.sqrt(along**2 + across**2)


def _paste(pixels: np.ndarray, source: np.ndarray, rng: Generator) -> np.ndarray:
    area, ratio = log_uniform(rng, 12, 90), log_uniform(rng, 0.3, 3.3)
    height = int(np.clip(area * np.sqrt(ratio), 6, SIZE - 1))
    width = int(np.clip(area / np.sqrt(ratio), 6, SIZE - 1))
    top, left = (int(rng.integers(SIZE - side + 1)) for side in (height, width))
    patch = Image.fromarray(
        np.rint(np.clip(source[top : top + height, left : left + width], 0, 1) * 255).astype(
            np.uint8
        )
    )
    opacity = Image.new("L", patch.size, 255)
    angle = float(rng.choice([0, 90, rng.uniform(-180, 180)]))
    patch = patch.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    opacity = opacity.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    image = Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    corner = tuple(int(v) for v in rng.uniform(0.15, 0.85, 2) * SIZE - np.array(patch.size) / 2)
    image.paste(patch, corner, opacity)
    return np.asarray(image, np.float32) / 255.0


def _walk(start: np.ndarray, heading: float, rng: Generator) -> np.ndarray:
    steps = int(rng.integers(6, 26))
    headings = heading + np.cumsum(rng.normal(0, 0.45, steps))
    move = np.stack([np.sin(headings), np.cos(headings)], 1) * rng.uniform(2, 9, (steps, 1))
    return np.concatenate([start[None], start + np.cumsum(move, 0)])


def _stroke(
    pixels: np.ndarray, lines: list[np.ndarray], width: float, rng: Generator
) -> np.ndarray:
    mask = Image.new("L", (SIZE * 2, SIZE * 2), 0)
    draw = ImageDraw.Draw(mask)
    for line in lines:
        points = [tuple(float(v) * 2 for v in point[::-1]) for point in line]
        draw.line(points, fill=255, width=max(1, round(width * 2)), joint="curve")
    strength = np.asarray(mask.reduce(2), np.float32) / 255.0 * rng.uniform(0.35, 1.0)
    if rng.random() < 0.7:
        color = np.full(3, rng.choice([rng.uniform(0, 0.2), rng.uniform(0.8, 1)]), np.float32)
    else:
        color = random_color(rng, False)
    return blend(pixels, color, strength)
