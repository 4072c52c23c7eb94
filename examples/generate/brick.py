"""A photographed brick wall, cut into crops and damaged with care."""

from __future__ import annotations

import numpy as np
import skimage.data
from scipy import ndimage

from .photos import CC0, GRASS_TONES, boxes, crop
from .pixels import (
    blob,
    fractal_noise,
    mix,
    smooth_noise,
    soft_step,
    stroke,
    to_array,
    to_image,
    tone,
    wandering_line,
)
from .records import ExampleSet, Query, generator_for

BRICK_TONES = ((0.13, 0.07, 0.06), (0.60, 0.37, 0.29), (0.93, 0.88, 0.82))


def jagged(
    rng: np.random.Generator, start: tuple[float, float], heading: float, length: float
) -> list[tuple[float, float]]:
    """Return a wandering line with the sharp corners of something that broke."""
    points = wandering_line(rng, start, heading, length, 0.16)
    return [points[0], *((x + rng.normal(0, 1.7), y + rng.normal(0, 1.7)) for x, y in points[1:])]


def crack(rng: np.random.Generator, image: np.ndarray, start: tuple, heading: float) -> tuple:
    """Draw a branching crack; return the image and the crack as float [H, W]."""
    shape = image.shape[:2]
    trunk = jagged(rng, start, heading, 215)
    line = stroke(shape, trunk, 3.8, 0.6)
    for at, turn in ((0.3, 0.75), (0.6, -0.8)):
        twig = jagged(rng, trunk[int(len(trunk) * at)], heading + turn, 70)
        line = np.maximum(line, stroke(shape, twig, 2.4, 0.7))
    ragged = np.clip(line * (0.85 + 0.25 * smooth_noise(rng, shape, 1.5)), 0, 1)
    lip = np.clip(ndimage.shift(line, (1.6, 1.6), order=1) - line, 0, 1)
    image = mix(image, (0.95, 0.85, 0.78), lip * 0.35)
    return mix(image, (0.05, 0.035, 0.03), ragged * 0.92), line


def stain(rng: np.random.Generator, image: np.ndarray, centre: tuple, colour: tuple) -> tuple:
    """Let a liquid soak in: darker with a darker rim; return the image and the stain."""
    signed = blob(rng, image.shape[:2], centre, (62, 50), 0.35)
    body, rim = soft_step(signed, 0.25), soft_step(0.16 - np.abs(signed - 0.08), 0.18)
    strength = np.clip(body * (0.62 + 0.08 * smooth_noise(rng, signed.shape, 9)) + 0.22 * rim, 0, 1)
    stained = image * np.asarray(colour)
    return mix(image, stained, strength), body


def spall(rng: np.random.Generator, image: np.ndarray, centre: tuple) -> tuple:
    """Knock the fired face off a brick: a pale rough hollow with a shadowed edge."""
    shape = image.shape[:2]
    signed = blob(rng, shape, centre, (46, 33), 0.4)
    body = soft_step(signed, 0.10)
    relief = ndimage.gaussian_filter(fractal_noise(rng, shape, 7), 0.7)
    slope = ndimage.sobel(relief, axis=0) + ndimage.sobel(relief, axis=1)
    rough = 1 + 0.10 * relief + 0.10 * slope / slope.std()
    inside = np.asarray((0.66, 0.45, 0.35)) * rough[..., None]
    image = mix(image, inside, body)
    edge = np.clip(body - ndimage.shift(body, (4, 4), order=1, mode="nearest"), 0, 1)
    light = np.clip(body - ndimage.shift(body, (-3, -3), order=1, mode="nearest"), 0, 1)
    image = mix(image, (0.10, 0.05, 0.04), ndimage.gaussian_filter(edge, 0.8) * 0.8)
    return mix(image, (0.95, 0.85, 0.78), ndimage.gaussian_filter(light, 0.8) * 0.4), body


def moss(rng: np.random.Generator, image: np.ndarray, centre: tuple) -> tuple:
    """Grow moss, thicker in the joints, with texture taken from the photographed grass."""
    shape = image.shape[:2]
    signed = blob(rng, shape, centre, (70, 46), 0.55)
    # Shrunk to half, blades of grass pass for the leaves of moss.
    grass = to_image(tone(skimage.data.grass() / 255, *GRASS_TONES)).reduce(2)
    tile = np.tile(to_array(grass), (2, 2, 1))[: shape[0], : shape[1]]
    tufts = signed + 0.25 * fractal_noise(rng, shape, 7)
    body = soft_step(tufts, 0.35)
    return mix(image, tile * (0.75, 0.72, 0.6), body * 0.93), soft_step(tufts, 0.05)


def brick() -> ExampleSet:
    """Make the set: crops of a brick wall, and crops with damage blended in."""
    rng = generator_for("brick")
    # Turned, so that the courses lie level as in a wall.
    wall = tone(np.rot90(skimage.data.brick()) / 255 * 1.12, *BRICK_TONES)
    normals = [crop(wall, b, 340) for b in boxes((250, 200), (0, 131, 262), (0, 84))]
    spare = [crop(wall, b, 340) for b in boxes((250, 200), (0, 66, 131, 196, 262), (290, 312))]
    damage = {
        "crack": ("A crack runs through bricks and joints.", crack(rng, spare[1], (75, 55), 0.75)),
        "spalled": ("The face of a brick has broken off.", spall(rng, spare[3], (165, 130))),
        "stain": (
            "A dark, rust-coloured stain has soaked in.",
            stain(rng, spare[6], (170, 140), (0.50, 0.33, 0.22)),
        ),
        "moss": ("Moss has grown over the joints.", moss(rng, spare[8], (180, 140))),
    }
    queries = [
        Query(f"good_{i}", to_image(spare[at]), "normal", "Another part of the same wall.")
        for i, at in enumerate((0, 4, 7), start=1)
    ]
    for stem, (note, (picture, mask)) in damage.items():
        queries.append(Query(stem, to_image(picture), "anomalous", note, mask > 0.4))
    return ExampleSet(
        name="brick",
        title="Brick wall",
        object_name="brick wall",
        family="industrial",
        caption="Crops of one photographed wall; the damage is painted in, the bricks are real.",
        source=(
            "skimage.data.brick (from CC0Textures), tinted; the moss uses skimage.data.grass "
            "(DeviantArt user linolafett); damage drawn by this project's program."
        ),
        licence=f"{CC0} (photographs); damage: the project's own work.",
        normals=[to_image(a) for a in normals],
        queries=queries,
    )
