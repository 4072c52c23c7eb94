"""Head-slice phantoms: drawings in the style of a magnetic resonance image. No patient is shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from .board import DRAWN_LICENCE
from .pixels import blob, fractal_noise, smooth_noise, soft_step, to_image
from .records import ExampleSet, Query, generator_for

WIDTH, HEIGHT = 256, 304
FLUID, GREY, WHITE, SCALP = 0.15, 0.43, 0.64, 0.78


@dataclass(frozen=True)
class Lesion:
    """One focal finding.

    Attributes:
        x: Place across the head, -1 (left edge of the brain) to 1.
        y: Place along the head, -1 (front) to 1 (back).
        radius: Size, as a part of the brain's half width.
        level: Brightness it is drawn with, 0 to 1.
        swelling: How far it pushes the tissue around it, as a part of its radius.
        rim: Whether it has a bright rim round a dark middle.
    """

    x: float
    y: float
    radius: float
    level: float
    swelling: float = 0.0
    rim: bool = False


def head_slice(
    rng: np.random.Generator, lesion: Lesion | None = None, left_ventricle: float = 1.0
) -> tuple[Image.Image, np.ndarray | None]:
    """Draw one slice.

    Args:
        rng: Source of the differences between subjects.
        lesion: A focal finding, or None.
        left_ventricle: Size of the left ventricle relative to the right one.

    Returns:
        The greyscale image, and the lesion's mask as bool [H, W] (None without a lesion).
    """
    shape = (HEIGHT, WIDTH)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    tilt = np.radians(rng.normal(0, 2.0))
    cx, cy = WIDTH / 2 + rng.normal(0, 2), HEIGHT / 2 + rng.normal(0, 2)
    dx, dy = x - cx, y - cy
    half = 92 * (1 + rng.normal(0, 0.02)), 117 * (1 + rng.normal(0, 0.02))
    u = (dx * np.cos(tilt) + dy * np.sin(tilt)) / half[0]
    v = (-dx * np.sin(tilt) + dy * np.cos(tilt)) / half[1]
    u, v = u + 0.012 * smooth_noise(rng, shape, 22), v + 0.012 * smooth_noise(rng, shape, 22)
    mask = None
    if lesion is not None:
        inside = _lesion_shape(rng, u, v, lesion)
        mask = inside > 0
        u, v = _push(u, v, lesion)
    image = _tissue(rng, u, v, left_ventricle)
    if lesion is not None:
        image = _draw_lesion(rng, image, inside, lesion)
    image = ndimage.gaussian_filter(image, 0.9)
    bias = 1 + 0.07 * smooth_noise(rng, shape, 70) + 0.05 * rng.normal() * u
    image = image * np.clip(bias, 0.7, 1.3)
    # Magnitude images carry Rician noise: the length of a complex number with Gaussian noise.
    noise = ndimage.gaussian_filter(rng.standard_normal((2, *shape)), (0, 0.6, 0.6)) * 0.032
    return to_image(np.hypot(image + noise[0], noise[1])), mask


def _tissue(
    rng: np.random.Generator, u: np.ndarray, v: np.ndarray, left_ventricle: float
) -> np.ndarray:
    """Return the brightness of a healthy slice in head coordinates, float [H, W]."""
    shape = u.shape
    # A real head is narrower in front: widen the back a little.
    radius = np.hypot(u / (1 + 0.10 * v), v)
    edge = 0.035
    image = 0.02 + (SCALP - 0.02) * soft_step(1.10 - radius, edge)
    image += (0.06 - image) * soft_step(1.045 - radius, edge)
    image += (0.30 - image) * soft_step(0.985 - radius, edge) * 0.4
    image += (FLUID - image) * soft_step(0.965 - radius, edge)
    folds = smooth_noise(rng, shape, 4.2)
    midline = np.abs(u + 0.01 * smooth_noise(rng, shape, 30))
    fissure = soft_step(0.022 - midline, 0.03) * soft_step(np.abs(v) - 0.42, 0.2)
    brain = soft_step(0.955 - radius, 0.03)
    sulci = soft_step(folds - 1.1, 0.5) * soft_step(radius - 0.70, 0.25)
    cortex = brain * (1 - 0.85 * sulci) * (1 - 0.8 * fissure)
    image += (GREY - image) * cortex
    depth = 0.80 - radius + 0.075 * smooth_noise(rng, shape, 5) - 0.05 * (midline < 0.06)
    core = soft_step(depth, 0.07) * (1 - soft_step(0.035 - midline, 0.03))
    white = WHITE * (1 + 0.035 * fractal_noise(rng, shape, 8))
    image += (white - image) * core
    for side in (-1, 1):
        size = (left_ventricle if side < 0 else 1.0) * (1 + rng.normal(0, 0.05))
        image = _deep_nuclei(rng, image, u * side, v)
        image = _ventricle(rng, image, u * side, v, size)
    return image


def _deep_nuclei(
    rng: np.random.Generator, image: np.ndarray, u: np.ndarray, v: np.ndarray
) -> np.ndarray:
    """Draw one side's basal ganglia and thalamus, grey in the white matter."""
    warp = 0.10 * smooth_noise(rng, u.shape, 8)
    nuclei = ((0.34, -0.06, 0.09, 0.17, 0.35), (0.16, 0.14, 0.10, 0.13, -0.3))
    for cu, cv, ru, rv, slant in nuclei:
        a, b = u - cu, v - cv
        signed = 1 - np.hypot((a - slant * b) / ru, b / rv) + warp
        image = image + (GREY * 1.1 - image) * soft_step(signed, 0.45) * 0.85
    return image


def _ventricle(
    rng: np.random.Generator, image: np.ndarray, u: np.ndarray, v: np.ndarray, size: float
) -> np.ndarray:
    """Draw one side's lateral ventricle: a front and a back horn, filled with dark fluid."""
    warp = 0.08 * smooth_noise(rng, u.shape, 7)
    horns = ((0.085, -0.20, 0.06, 0.17, -0.32), (0.15, 0.36, 0.065, 0.17, 0.42))
    for cu, cv, ru, rv, slant in horns:
        a, b = u - cu * (0.6 + 0.4 * size), v - cv
        signed = 1 - np.hypot((a - slant * b) / (ru * size), b / (rv * size**0.5)) + warp
        image = image + (FLUID * 0.8 - image) * soft_step(signed, 0.3)
    return image


def _lesion_shape(
    rng: np.random.Generator, u: np.ndarray, v: np.ndarray, lesion: Lesion
) -> np.ndarray:
    """Return the lesion's signed outline, positive inside, float [H, W]."""
    radius = np.hypot(u - lesion.x, (v - lesion.y) * 1.2) / lesion.radius
    centre = np.unravel_index(np.argmin(radius), radius.shape)
    size = lesion.radius * 92
    ragged = blob(rng, u.shape, (centre[1], centre[0]), (size, size * 1.05), 0.22)
    return ragged


def _push(u: np.ndarray, v: np.ndarray, lesion: Lesion) -> tuple[np.ndarray, np.ndarray]:
    """Move the tissue away from a swelling lesion."""
    away_u, away_v = u - lesion.x, v - lesion.y
    distance = np.hypot(away_u, away_v) + 1e-6
    push = lesion.swelling * lesion.radius * np.exp(-((distance / (2.4 * lesion.radius)) ** 2))
    return u - push * away_u / distance, v - push * away_v / distance


def _draw_lesion(
    rng: np.random.Generator, image: np.ndarray, inside: np.ndarray, lesion: Lesion
) -> np.ndarray:
    """Blend the lesion into the slice, with a halo of swollen tissue where it pushes."""
    if lesion.swelling:
        halo = soft_step(inside + 0.45, 0.7) * 0.6
        image = image + (GREY * 0.75 - image) * halo
    texture = 1 + 0.08 * fractal_noise(rng, image.shape, 6)
    body = soft_step(inside - 0.05, 0.3)
    image = image + (lesion.level * texture - image) * body
    if lesion.rim:
        image = image + (0.24 * texture - image) * soft_step(inside - 0.42, 0.25)
    return image


def brain_phantom() -> ExampleSet:
    """Draw the set: healthy slices of different subjects, and slices with a finding."""
    rng = generator_for("brain-phantom")
    normals = [head_slice(rng)[0] for _ in range(8)]
    queries = [
        Query(f"healthy_{i}", head_slice(rng)[0], "normal", "Another subject without a finding.")
        for i in (1, 2, 3)
    ]
    findings = {
        "bright_lesion": (
            "A bright lesion deep in the left half.",
            Lesion(-0.42, 0.18, 0.17, 0.95),
        ),
        "rim_mass": (
            "A mass with a bright rim that pushes the midline aside.",
            Lesion(0.44, -0.22, 0.27, 0.92, swelling=0.5, rim=True),
        ),
        "dark_cyst": ("A dark cyst near the back.", Lesion(0.45, 0.45, 0.19, 0.06)),
        "swollen_mass": (
            "A grey mass: no brighter than grey matter, but the two halves differ.",
            Lesion(-0.40, -0.35, 0.26, 0.52, swelling=0.6),
        ),
    }
    for stem, (note, lesion) in findings.items():
        picture, mask = head_slice(rng, lesion)
        queries.append(Query(stem, picture, "anomalous", note, mask))
    picture, _ = head_slice(rng, left_ventricle=1.6)
    note = "The left ventricle is much larger than the right one."
    queries.append(Query("wide_ventricle", picture, "anomalous", note))
    return ExampleSet(
        name="brain-phantom",
        title="Head slices (drawn)",
        object_name="brain",
        family="medical",
        caption="Drawn head slices in the style of a brain scan; these are phantoms, not patients.",
        source="Drawn by this project's own program. A phantom: no patient's image is used.",
        licence=DRAWN_LICENCE,
        normals=normals,
        queries=queries,
    )
