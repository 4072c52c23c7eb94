"""Texture classes: a recipe drawn once per class, an instance (phase, place) drawn per image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial import cKDTree

from .fields import (
    SIZE,
    Generator,
    colorize,
    fractal_noise,
    grid_coordinates,
    log_uniform,
    random_color,
    smooth_noise,
)
from .photographs import open_photograph

# Photographs that scikit-image ships, with the regions of them that are one material.
PHOTOS = ("brick.png", "grass.png", "gravel.png", "moon.png", "ihc.png", "coins.png", "text.png")


@dataclass(frozen=True, eq=False)
class TextureClass:
    """One material.

    Attributes:
        family: Key of ``FAMILIES``.
        scale: Structures across the image.
        angle: Degrees.
        shape: Four numbers in [0, 1] that each family reads in its own way.
        colors: float32 [2, 3].
        contrast: Contrast of the main structure, in (0, 1].
        detail: Strength of fine noise.
        loose: How much instances differ in low frequencies, 0 to 1.
        photo: Index into ``PHOTOS``, for the family of that name.
    """

    family: str
    scale: float
    angle: float
    shape: tuple[float, float, float, float]
    colors: np.ndarray
    contrast: float
    detail: float
    loose: float
    photo: int

    def render(self, rng: Generator) -> np.ndarray:
        """One instance: float32 [S, S, 3]."""
        field = 0.5 + self.contrast * (FAMILIES[self.family](self, rng) - 0.5)
        if self.detail > 0.01:
            fine = rng.standard_normal((SIZE, SIZE), np.float32)
            field = field + self.detail * 0.12 * fine
        if self.loose > 0.05:
            field = field + self.loose * 0.2 * smooth_noise(rng, 3, 3)
        return colorize(field.astype(np.float32), self.colors[0], self.colors[1])

    def mutate(self, rng: Generator) -> TextureClass:
        """A related material: one property of the recipe changed clearly."""
        changed = rng.choice(["scale", "angle", "shape", "colors", "contrast", "family"])
        if changed == "scale":
            factor = log_uniform(rng, 1.35, 2.5) ** rng.choice([-1, 1])
            return dataclasses.replace(self, scale=self.scale * factor)
        if changed == "angle":
            return dataclasses.replace(self, angle=self.angle + rng.uniform(25, 155))
        if changed == "shape":
            return dataclasses.replace(self, shape=tuple(rng.uniform(0, 1, 4)))
        if changed == "colors":
            return dataclasses.replace(self, colors=_colors(rng, rng.random() < 0.4))
        if changed == "contrast":
            contrast = self.contrast * (0.4 if self.contrast > 0.5 else 2.0)
            return dataclasses.replace(self, contrast=contrast)
        other = random_texture(rng)
        return dataclasses.replace(other, colors=self.colors)


def random_texture(rng: Generator) -> TextureClass:
    """Draws a class."""
    family = str(rng.choice(list(FAMILIES)))
    return TextureClass(
        family=family,
        scale=log_uniform(rng, 4, 40),
        angle=float(rng.choice([0, 90, rng.uniform(0, 180)])),
        shape=tuple(float(value) for value in rng.uniform(0, 1, 4)),
        colors=_colors(rng, rng.random() < 0.45),
        contrast=float(rng.uniform(0.25, 1.0)),
        detail=float(rng.choice([0.0, rng.uniform(0, 1)])),
        loose=float(rng.choice([0.0, rng.uniform(0, 1)])),
        photo=int(rng.integers(len(PHOTOS))),
    )


def _colors(rng: Generator, grey: bool) -> np.ndarray:
    return np.stack([random_color(rng, grey), random_color(rng, grey)])


def _turned(texture: TextureClass, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    # Coordinates along and across the recipe's angle, shifted by a random phase.
    y, x = grid_coordinates()
    angle = np.radians(texture.angle)
    u = x * np.cos(angle) + y * np.sin(angle) + rng.uniform(0, 2)
    v = y * np.cos(angle) - x * np.sin(angle) + rng.uniform(0, 2)
    bend = texture.shape[3]
    if bend > 0.6:  # The rest of the classes are strictly regular.
        u = u + (bend - 0.6) * 0.3 * smooth_noise(rng, 3, 3)
        v = v + (bend - 0.6) * 0.3 * smooth_noise(rng, 3, 3)
    return u, v


def _fractal(texture: TextureClass, rng: Generator) -> np.ndarray:
    stretch = 1.0 if texture.shape[0] < 0.5 else 1.0 + 10.0 * (texture.shape[0] - 0.5)
    cells = texture.scale * stretch, texture.scale / stretch
    octaves = 1 + int(4 * texture.shape[1])
    field = fractal_noise(rng, cells if texture.angle < 90 else cells[::-1], octaves, 0.6)
    if texture.shape[2] < 0.3:
        field = 1.0 - 2.5 * np.abs(field)  # Ridges.
    elif texture.shape[2] > 0.7:
        field = np.tanh(6.0 * field)  # Patches with sharp borders.
    return 0.5 + 0.5 * field


def _waves(texture: TextureClass, rng: Generator) -> np.ndarray:
    u, v = _turned(texture, rng)
    wave = np.sin(np.pi * texture.scale * u)
    if texture.shape[0] > 0.4:
        wave = wave * np.sin(np.pi * texture.scale * (0.3 + texture.shape[1]) * v)
    sharp = 0.5 + 6.0 * texture.shape[2] ** 2
    return 0.5 + 0.5 * np.tanh(sharp * wave) / np.tanh(sharp)


def _weave(texture: TextureClass, rng: Generator) -> np.ndarray:
    u, v = _turned(texture, rng)
    across, along = u * texture.scale, v * texture.scale * (0.5 + texture.shape[0])
    over = (np.floor(across) + np.floor(along) * (1 + int(2 * texture.shape[1]))) % (
        2 + int(2 * texture.shape[2])
    ) < 1
    thread = np.where(over, across % 1.0, along % 1.0)
    return np.sin(np.pi * thread) * np.where(over, 1.0, 0.55)


def _tiles(texture: TextureClass, rng: Generator) -> np.ndarray:
    u, v = _turned(texture, rng)
    rows = v * texture.scale * 0.4
    offset = np.floor(rows) * (0.5 if texture.shape[0] > 0.5 else 0.0)
    columns = u * texture.scale * (0.15 + 0.3 * texture.shape[1]) + offset
    joint = 0.03 + 0.12 * texture.shape[2]
    inside = (rows % 1.0 > joint) & (columns % 1.0 > joint * 0.6)
    table = rng.uniform(0.65, 1.0, (64, 64)).astype(np.float32)
    tone = table[np.floor(rows).astype(int) % 64, np.floor(columns).astype(int) % 64]
    return np.where(inside, tone if texture.shape[3] < 0.5 else 0.85, 0.1)


def _cells(texture: TextureClass, rng: Generator) -> np.ndarray:
    size, count = SIZE // 2, int(np.clip(texture.scale**2 * 0.6, 8, 900))
    points = rng.uniform(-0.1, 1.1, (count, 2))
    axis = (np.arange(size) + 0.5) / size
    pixels = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    distance, index = cKDTree(points).query(pixels, k=2)
    gap = (distance[:, 1] - distance[:, 0]) * np.sqrt(count)
    if texture.shape[0] < 0.4:
        field = np.clip(gap / (0.1 + 0.5 * texture.shape[1]), 0, 1)
    elif texture.shape[0] < 0.75:
        field = rng.uniform(0, 1, count)[index[:, 0]] * np.clip(gap / 0.15, 0.2, 1)
    else:
        field = 1.0 - np.clip(distance[:, 0] * np.sqrt(count) / (0.4 + texture.shape[1]), 0, 1)
    coarse = Image.fromarray(field.reshape(size, size).astype(np.float32))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def _dots(texture: TextureClass, rng: Generator) -> np.ndarray:
    canvas = Image.new("L", (SIZE * 2, SIZE * 2), 0)
    draw = ImageDraw.Draw(canvas)
    step = 2 * SIZE / np.clip(texture.scale, 4, 22)
    radius = step * (0.15 + 0.3 * texture.shape[0])
    jitter = step * 0.5 * max(0.0, texture.shape[1] - 0.4)
    y0, x0 = rng.uniform(0, step, 2)
    for row in range(-1, int(2 * SIZE / step) + 2):
        for column in range(-1, int(2 * SIZE / step) + 2):
            shift = rng.normal(0, 1, 2) * jitter
            y = y0 + row * step + shift[0]
            x = x0 + (column + (0.5 * (row % 2) if texture.shape[2] > 0.5 else 0)) * step + shift[1]
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(canvas.reduce(2), np.float32) / 255.0


def _grain(texture: TextureClass, rng: Generator) -> np.ndarray:
    u, v = _turned(texture, rng)
    bend = smooth_noise(rng, 3, 2) * (0.1 + 0.4 * texture.shape[0])
    rings = (u * texture.scale * 0.5 + bend * texture.scale * 0.3) % 1.0
    fibres = smooth_noise(rng, 120, 6) if texture.angle > 45 else smooth_noise(rng, 6, 120)
    return 0.5 * np.abs(2 * rings - 1) + 0.35 + 0.3 * texture.shape[1] * fibres


def _photo(texture: TextureClass, rng: Generator) -> np.ndarray:
    pixels = _load_photo(PHOTOS[texture.photo])
    share = 0.35 + 0.5 * texture.shape[0]
    side = int(share * min(pixels.shape))
    top = int(rng.integers(pixels.shape[0] - side + 1))
    left = int(rng.integers(pixels.shape[1] - side + 1))
    part = Image.fromarray(pixels[top : top + side, left : left + side])
    if texture.shape[1] > 0.5:
        part = part.transpose(Image.Transpose.ROTATE_90)
    return np.asarray(part.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


@lru_cache(maxsize=len(PHOTOS))
def _load_photo(name: str) -> np.ndarray:
    return np.asarray(open_photograph(name).convert("L"), np.float32) / 255.0


FAMILIES: dict[str, Callable[[TextureClass, Generator], np.ndarray]] = {
    "fractal": _fractal,
    "waves": _waves,
    "weave": _weave,
    "tiles": _tiles,
    "cells": _cells,
    "dots": _dots,
    "grain": _grain,
    "photo": _photo,
}
