"""Object classes: parts on a background."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .fields import SIZE, Generator, log_uniform, random_color
from .textures import TextureClass, random_texture

SHAPES = ("ellipse", "box", "polygon", "star", "ring", "wavy", "bar")
LAYOUTS = ("stack", "ring", "grid", "free")


@dataclass(frozen=True, eq=False)
class Part:
    """One part of an object.

    Attributes:
        shape: One of ``SHAPES``.
        at: (y, x) of its centre, in [-1, 1].
        radius: (y, x) half extents, same unit.
        angle: Degrees.
        corners: Number of corners of polygons, stars and waves.
        color: float32 [3].
        shade: Brightness change across the part, -0.5 to 0.5.
        texture: Laid over the colour, or None.
    """

    shape: str
    at: tuple[float, float]
    radius: tuple[float, float]
    angle: float
    corners: int
    color: np.ndarray
    shade: float
    texture: TextureClass | None


@dataclass(frozen=True, eq=False)
class ObjectClass:
    """Parts over a background; instances move them a little.

    Attributes:
        background: A colour ([3]) or a texture.
        parts: Drawn in this order.
        play: Standard deviation of each part's own place, in [-1, 1] units.
        tone: Standard deviation of each part's brightness.
    """

    background: np.ndarray | TextureClass
    parts: tuple[Part, ...]
    play: float
    tone: float

    def render(self, rng: Generator) -> np.ndarray:
        """One instance: float32 [S, S, 3]."""
        if isinstance(self.background, TextureClass):
            pixels = self.background.render(rng)
        else:
            pixels = np.broadcast_to(self.background, (SIZE, SIZE, 3)).astype(np.float32)
        materials = {  # Parts of one material share its instance; rendering it takes the most time.
            id(texture): texture.render(rng)
            for texture in {id(p.texture): p.texture for p in self.parts if p.texture}.values()
        }
        for part in self.parts:
            at = np.asarray(part.at) + rng.normal(0, self.play, 2)
            moved = dataclasses.replace(part, at=(float(at[0]), float(at[1])))
            material = materials.get(id(part.texture))
            _draw_part(pixels, moved, material, float(rng.normal(0, self.tone)))
        return pixels

    def mutate(self, rng: Generator) -> ObjectClass:
        """The class with a part missing, doubled, moved, turned, resized, recoloured or swapped."""
        parts = list(self.parts)
        index = int(rng.integers(len(parts)))
        part = parts[index]
        change = str(
            rng.choice(["missing", "extra", "move", "turn", "size", "color", "swap", "texture"])
        )
        if change == "missing" and len(parts) > 1:
            del parts[index]
        elif change == "extra":
            at = tuple(float(value) for value in rng.uniform(-0.6, 0.6, 2))
            parts.append(dataclasses.replace(part, at=at))
        elif change == "swap" and len(parts) > 1:
            parts[index] = dataclasses.replace(_random_part(rng, 0.3), at=part.at)
        elif change == "turn" and part.shape not in ("ellipse", "ring"):
            parts[index] = dataclasses.replace(part, angle=part.angle + rng.uniform(25, 90))
        elif change == "size":
            factor = log_uniform(rng, 1.3, 1.9) ** rng.choice([-1, 1])
            radius = part.radius[0] * factor, part.radius[1] * factor
            parts[index] = dataclasses.replace(part, radius=radius)
        elif change == "texture":
            parts[index] = dataclasses.replace(part, texture=random_texture(rng))
        elif change == "move":
            step = rng.normal(0, 1, 2)
            step *= rng.uniform(0.15, 0.5) / np.linalg.norm(step)
            at = float(part.at[0] + step[0]), float(part.at[1] + step[1])
            parts[index] = dataclasses.replace(part, at=at)
        else:
            color = random_color(rng, rng.random() < 0.3)
            parts[index] = dataclasses.replace(part, color=color)
        return dataclasses.replace(self, parts=tuple(parts))


def random_object(rng: Generator) -> ObjectClass:
    """Draws an object class."""
    grey = rng.random() < 0.35
    background: np.ndarray | TextureClass = random_color(rng, grey)
    if rng.random() < 0.4:
        background = random_texture(rng)
    layout = str(rng.choice(LAYOUTS))
    parts = {"stack": _stack, "ring": _ring, "grid": _grid, "free": _free}[layout](rng)
    if grey:
        parts = [dataclasses.replace(p, color=np.full(3, p.color.mean())) for p in parts]
    return ObjectClass(
        background=background,
        parts=tuple(parts),
        play=float(rng.choice([0.0, log_uniform(rng, 0.003, 0.06)])),
        tone=float(rng.choice([0.0, log_uniform(rng, 0.01, 0.1)])),
    )


def _random_part(rng: Generator, size: float) -> Part:
    radius = size * rng.uniform(0.7, 1.3), size * rng.uniform(0.7, 1.3)
    shape = str(rng.choice(SHAPES))
    if shape == "bar":
        radius = radius[0] * 0.25, radius[1] * 1.5
    return Part(
        shape=shape,
        at=(0.0, 0.0),
        radius=radius,
        angle=float(rng.choice([0, 90, rng.uniform(0, 180)])),
        corners=int(rng.integers(3, 9)),
        color=random_color(rng, rng.random() < 0.3),
        shade=float(rng.choice([0.0, rng.uniform(-0.4, 0.4)])),
        texture=random_texture(rng) if rng.random() < 0.25 else None,
    )


def _stack(rng: Generator) -> list[Part]:
    sizes = np.cumprod(np.r_[rng.uniform(0.55, 0.85), rng.uniform(0.45, 0.85, rng.integers(1, 4))])
    return [_random_part(rng, float(size)) for size in sizes]


def _ring(rng: Generator) -> list[Part]:
    parts = [_random_part(rng, rng.uniform(0.55, 0.85))]
    prototype, count = _random_part(rng, rng.uniform(0.06, 0.2)), int(rng.integers(3, 10))
    away = rng.uniform(0.3, 0.55)
    for angle in np.arange(count) * 2 * np.pi / count + rng.uniform(0, np.pi):
        at = float(away * np.sin(angle)), float(away * np.cos(angle))
        turned = prototype.angle + float(np.degrees(angle))
        parts.append(dataclasses.replace(prototype, at=at, angle=turned))
    if rng.random() < 0.6:
        parts.append(_random_part(rng, rng.uniform(0.1, 0.25)))
    return parts


def _grid(rng: Generator) -> list[Part]:
    rows, columns = (int(value) for value in rng.integers(1, 5, 2))
    kinds = [_random_part(rng, 0.7 / max(rows, columns)) for _ in range(int(rng.integers(1, 4)))]
    parts = [_random_part(rng, 0.95)] if rng.random() < 0.4 else []
    for row in range(rows):
        for column in range(columns):
            at = (row + 0.5) / rows * 1.7 - 0.85, (column + 0.5) / columns * 1.7 - 0.85
            parts.append(dataclasses.replace(kinds[(row + column) % len(kinds)], at=at))
    return parts


def _free(rng: Generator) -> list[Part]:
    parts = [_random_part(rng, rng.uniform(0.5, 0.9))] if rng.random() < 0.5 else []
    for _ in range(int(rng.integers(3, 12))):
        at = tuple(float(value) for value in rng.uniform(-0.75, 0.75, 2))
        part = _random_part(rng, log_uniform(rng, 0.05, 0.35))
        parts.append(dataclasses.replace(part, at=at))
    return parts


def _outline(part: Part) -> np.ndarray:
    # Corner points [N, 2] of (y, x) around the origin, before turning.
    if part.shape in ("box", "bar"):
        points = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]], float)
    else:
        count = part.corners if part.shape == "polygon" else 48
        count = 2 * part.corners if part.shape == "star" else count
        angles = np.arange(count) * 2 * np.pi / count
        reach = np.ones(count)
        if part.shape == "star":
            reach[1::2] = 0.55
        elif part.shape == "wavy":
            reach = 0.85 + 0.15 * np.cos(part.corners * angles)
        points = np.stack([np.sin(angles), np.cos(angles)], 1) * reach[:, None]
    return points * np.asarray(part.radius)


def _draw_part(pixels: np.ndarray, part: Part, material: np.ndarray | None, tone: float) -> None:
    angle = np.radians(part.angle)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = (_outline(part) @ turn + np.asarray(part.at) + 1.0) * SIZE / 2.0
    low = np.clip(np.floor(points.min(0)).astype(int) - 1, 0, SIZE)
    high = np.clip(np.ceil(points.max(0)).astype(int) + 2, 0, SIZE)
    if (high - low).min() < 2:
        return
    mask = Image.new("L", tuple(int(v) for v in (high - low)[::-1] * 2), 0)
    draw = ImageDraw.Draw(mask)
    draw.polygon([tuple(p) for p in ((points - low) * 2)[:, ::-1]], fill=255)
    if part.shape == "ring":
        hole = (points - points.mean(0)) * 0.55 + points.mean(0)
        draw.polygon([tuple(p) for p in ((hole - low) * 2)[:, ::-1]], fill=0)
    inside = np.asarray(mask.reduce(2), np.float32)[..., None] / 255.0
    rows, columns = slice(low[0], high[0]), slice(low[1], high[1])
    height, width = high - low
    slope = np.linspace(-1, 1, height)[:, None] + np.linspace(-1, 1, width)
    color = part.color + tone + part.shade * 0.5 * slope[..., None]
    if material is not None:
        color = 0.5 * color + 0.5 * material[rows, columns]
    pixels[rows, columns] += inside * (color.astype(np.float32) - pixels[rows, columns])
