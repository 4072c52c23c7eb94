"""Pictures of things intact and damaged, to learn what damage looks like in general.

Bases are photographs that ship with scikit-image and surfaces and simple objects drawn from a seed;
each is shown several times under other crops, light and flips, half of them with a drawn defect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

SIDE = 240
CANVAS = 320
VIEWS = 4  # Intact and as many damaged views of each base.
PHOTOS = (
    "astronaut brick camera cell chelsea coffee coins grass gravel hubble_deep_field horse "
    "immunohistochemistry moon page retina rocket text"
).split()

Array = np.ndarray


@dataclass(frozen=True)
class Picture:
    """One view.

    Attributes:
        image: RGB, 240 x 240.
        base: Number of the thing shown; views of one thing share it.
        group: Number of the photograph, or of the thing where it is drawn: never split in a
            cross-validation.
        damaged: Whether a defect was drawn.
    """

    image: Image.Image
    base: int
    group: int
    damaged: bool


def damaged_pictures(bases: int, rng: np.random.Generator) -> Iterator[Picture]:
    """Yields ``2 * VIEWS`` pictures of each of ``bases`` things; two in five are photographs."""
    photos = [_photo(name) for name in PHOTOS]
    for base in range(bases):
        photographed = base % 5 < 2
        number = (base // 5 * 2 + base % 5) % len(photos)
        if photographed:
            scene, least = photos[number], 0.45
        else:
            scene = _surface(rng) if rng.random() < 0.6 else _object(rng)
            least = 0.6
        group = number if photographed else len(photos) + base
        for view in range(2 * VIEWS):
            image = _light(_crop(scene, least, rng), rng)
            damaged = view >= VIEWS
            yield Picture(_damage(image, rng) if damaged else image, base, group, damaged)


def _photo(name: str) -> Image.Image:
    pixels = np.asarray(getattr(skimage.data, name)())
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    return Image.fromarray(pixels).convert("RGB")


def _cloud(rng: np.random.Generator, side: int, slope: float) -> Array:
    """Noise with a spectrum of ``frequency ** -slope``, 0 to 1, [side, side]."""
    f = np.fft.fftfreq(side)
    radius = np.hypot(f[:, None], f[None])
    radius[0, 0] = 1.0
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(side, side))) * radius**-slope).real
    noise -= noise.min()
    return noise / noise.max()


def _surface(rng: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[:CANVAS, :CANVAS] / CANVAS
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(5, 40)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    wave_u, wave_v = np.sin(2 * np.pi * pitch * u), np.sin(2 * np.pi * pitch * v)
    dots = (rng.random((CANVAS, CANVAS)) > 0.97).astype(float)
    patterns: tuple[Callable[[], Array], ...] = (
        lambda: _cloud(rng, CANVAS, rng.uniform(0.5, 2)),
        lambda: 0.5 + 0.5 * np.sin(2 * np.pi * pitch * u + 6 * _cloud(rng, CANVAS, 1.5)),
        lambda: 0.5 + 0.25 * wave_u + 0.25 * wave_v,
        lambda: (np.floor(u * pitch / 2) + np.floor(v * pitch / 2)) % 2,
        lambda: 0.5 * _cloud(rng, CANVAS, 0.9) + 0.5 * np.abs(wave_u) ** rng.uniform(0.2, 4),
        lambda: 20 * ndimage.gaussian_filter(dots, rng.uniform(1, 4)),
    )
    shade = np.clip(patterns[rng.integers(len(patterns))](), 0, 1)
    shade = 0.8 * shade + 0.2 * _cloud(rng, CANVAS, rng.uniform(0, 1))
    low, high = rng.uniform(0, 255, (2, 3))
    if rng.random() < 0.4:
        low[:], high[:] = low.mean(), high.mean()
    return _image(low + (high - low) * shade[..., None])


def _object(rng: np.random.Generator) -> Image.Image:
    """A disc, a plate or a block before a plain or patterned background."""
    flat = Image.new("RGB", (CANVAS, CANVAS), tuple(int(c) for c in rng.integers(0, 256, 3)))
    scene = _surface(rng) if rng.random() < 0.4 else flat
    mask = Image.new("L", (CANVAS, CANVAS))
    left, top = CANVAS * rng.uniform(0.12, 0.25), CANVAS * rng.uniform(0.12, 0.3)
    box = (left, top, CANVAS - left, CANVAS - top)
    shape = rng.integers(3)
    if shape == 0:
        ImageDraw.Draw(mask).ellipse(box, fill=255)
    else:
        ImageDraw.Draw(mask).rounded_rectangle(box, 0.08 * CANVAS * (shape == 1), fill=255)
    mask = mask.rotate(rng.uniform(0, 180)).filter(ImageFilter.GaussianBlur(1))
    scene.paste(_surface(rng), (0, 0), mask)
    return scene


def _crop(image: Image.Image, least: float, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    side = min(width, height) * rng.uniform(least, 1.0)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    return image.resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side)
    )


def _light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image).astype(float)
    image = _image((pixels - 128) * rng.uniform(0.8, 1.2) + 128 + rng.uniform(-20, 20))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # Blur alone must not tell the damaged ones, so that the intact ones have some of it too.
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    return image


def _damage(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image).astype(float)
    return _image(DEFECTS[rng.integers(len(DEFECTS))](pixels, rng))


def _image(pixels: Array) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _paint(pixels: Array, mask: Array, colour: Array | float) -> Array:
    return pixels * (1 - mask[..., None]) + colour * mask[..., None]


def _path(
    rng: np.random.Generator, start: tuple[float, float], steps: int, turn: float
) -> list[tuple[float, float]]:
    """A random walk of 4-pixel steps whose heading changes by ``turn`` radians each."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, turn, steps))
    x = start[0] + 4 * np.cumsum(np.cos(heading))
    y = start[1] + 4 * np.cumsum(np.sin(heading))
    return [start, *zip(x.tolist(), y.tolist(), strict=True)]


def _lines(rng: np.random.Generator, count: int, turn: float, branched: bool) -> Array:
    """Antialiased lines as a mask, 0 to 1."""
    mask = Image.new("L", (2 * SIDE, 2 * SIDE))
    draw = ImageDraw.Draw(mask)
    for _ in range(count):
        start = tuple(rng.uniform(30, SIDE - 30, 2).tolist())
        path = _path(rng, start, int(rng.integers(12, 45)), turn)
        draw.line([(2 * x, 2 * y) for x, y in path], fill=255, width=int(rng.integers(2, 8)))
        if branched:
            branch = _path(rng, path[len(path) // 2], int(rng.integers(4, 15)), turn)
            draw.line([(2 * x, 2 * y) for x, y in branch], fill=255, width=2)
    return np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) / 255.0


def _crack(pixels: Array, rng: np.random.Generator) -> Array:
    mask = _lines(rng, int(rng.integers(1, 4)), 0.5, branched=True)
    return _paint(pixels, mask * rng.uniform(0.6, 1), rng.uniform(0, 60, 3))


def _scratch(pixels: Array, rng: np.random.Generator) -> Array:
    mask = _lines(rng, int(rng.integers(1, 6)), 0.03, branched=False)
    dark = rng.random() < 0.4
    colour = rng.uniform(0, 60, 3) if dark else rng.uniform(180, 255, 3)
    return _paint(pixels, mask * rng.uniform(0.6, 1), colour)


def _blob(rng: np.random.Generator, radius: float) -> Array:
    """A ragged spot of about ``radius`` pixels as a mask, 0 to 1."""
    y, x = np.mgrid[:SIDE, :SIDE]
    cy, cx = rng.uniform(40, SIDE - 40, 2)
    height = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2))
    height = height + 0.6 * _cloud(rng, SIDE, 1.6)
    level = np.partition(height.ravel(), -int(3 * radius**2))[-int(3 * radius**2)]
    return ndimage.gaussian_filter((height > level).astype(float), rng.uniform(0.5, 1.5))


def _stain(pixels: Array, rng: np.random.Generator) -> Array:
    mask = _blob(rng, rng.uniform(12, 40)) * rng.uniform(0.35, 0.9)
    return _paint(pixels, mask, rng.uniform(0, 255, 3))


def _hole(pixels: Array, rng: np.random.Generator) -> Array:
    return _paint(pixels, _blob(rng, rng.uniform(6, 25)), rng.uniform(0, 30))


def _smear(pixels: Array, rng: np.random.Generator) -> Array:
    sigma = rng.uniform(2, 6)
    blurred = ndimage.gaussian_filter(pixels, (sigma, sigma, 0))
    return _paint(pixels, _blob(rng, rng.uniform(20, 50)), blurred)


def _window(rng: np.random.Generator, size: Array) -> tuple[slice, slice]:
    top, left = rng.integers(0, SIDE - size)
    return slice(top, top + size[0]), slice(left, left + size[1])


def _misplaced(pixels: Array, rng: np.random.Generator) -> Array:
    size = rng.integers(20, 80, 2)
    patch = pixels[_window(rng, size)].copy()
    patch = (patch[::-1] if rng.random() < 0.5 else patch) + rng.uniform(-40, 40, 3)
    pixels[_window(rng, size)] = patch
    return pixels


def _missing(pixels: Array, rng: np.random.Generator) -> Array:
    corner = pixels[:6, :6].mean((0, 1))
    pixels[_window(rng, rng.integers(20, 80, 2))] = (
        corner if rng.random() < 0.5 else rng.uniform(0, 255)
    )
    return pixels


def _dent(pixels: Array, rng: np.random.Generator) -> Array:
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    (cy, cx), radius = rng.uniform(50, SIDE - 50, 2), rng.uniform(15, 40)
    depth, twist = rng.uniform(0.5, 1) * rng.choice([-1, 1]), rng.uniform(-1, 1)
    weight = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2))
    rows = y + weight * (depth * (y - cy) + twist * (x - cx))
    columns = x + weight * (depth * (x - cx) - twist * (y - cy))
    warped = [
        ndimage.map_coordinates(pixels[..., channel], [rows, columns], order=1, mode="reflect")
        for channel in range(3)
    ]
    return np.stack(warped, axis=-1) * (1 + 0.3 * depth * weight[..., None])


def _specks(pixels: Array, rng: np.random.Generator) -> Array:
    mask = np.zeros((SIDE, SIDE))
    rows, columns = rng.integers(5, SIDE - 5, (2, rng.integers(3, 25)))
    mask[rows, columns] = 1.0
    sigma = rng.uniform(1.2, 4)
    mask = (ndimage.gaussian_filter(mask, sigma) * 2 * np.pi * sigma**2).clip(0, 1)
    return _paint(pixels, mask, rng.uniform(0, 50) if rng.random() < 0.6 else 240.0)


DEFECTS: tuple[Callable[[Array, np.random.Generator], Array], ...] = (
    _crack,
    _scratch,
    _stain,
    _hole,
    _smear,
    _misplaced,
    _missing,
    _dent,
    _specks,
)
