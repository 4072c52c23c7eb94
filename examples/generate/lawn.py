"""A photographed lawn with something on it that does not belong."""

from __future__ import annotations

import numpy as np
import skimage.data
from scipy import ndimage

from .coins import BOXES, coin_cut_out
from .photos import CC0, GRASS_TONES, boxes, crop
from .pixels import blob, mix, smooth_noise, soft_step, to_image, tone
from .records import ExampleSet, Query, generator_for

SOIL_TONES = ((0.07, 0.05, 0.03), (0.36, 0.26, 0.17), (0.72, 0.62, 0.48))
COIN_TONES = ((0.10, 0.07, 0.03), (0.62, 0.52, 0.33), (0.98, 0.92, 0.76))


def bare_patch(rng: np.random.Generator, lawn: np.ndarray, centre: tuple) -> tuple:
    """Wear the lawn down to stony soil, with texture taken from the photographed gravel."""
    shape = lawn.shape[:2]
    soil = tone(skimage.data.gravel()[: shape[0], : shape[1]] / 255 * 0.9, *SOIL_TONES)
    signed = blob(rng, shape, centre, (70, 52), 0.4)
    # Bright blades at the edge stay in front of the soil.
    blades = smooth_noise(rng, shape, 1.2) * 0.05 + (lawn.mean(axis=2) - lawn.mean()) * 0.5
    body = soft_step(signed - np.clip(blades, -0.2, 0.2), 0.12)
    return mix(lawn, soil * 0.85, body), soft_step(signed, 0.05)


def lost_coin(lawn: np.ndarray, centre: tuple[int, int]) -> tuple:
    """Drop a photographed coin on the lawn, with its shadow; some blades lie over it."""
    coin, alpha = coin_cut_out(BOXES[5], 62)
    shape = lawn.shape[:2]
    layer, cover = np.zeros((*shape, 3)), np.zeros(shape)
    rows = slice(centre[1] - 31, centre[1] + 31)
    columns = slice(centre[0] - 31, centre[0] + 31)
    layer[rows, columns] = tone(coin, *COIN_TONES)
    cover[rows, columns] = alpha
    shadow = ndimage.gaussian_filter(ndimage.shift(cover, (5, 5), order=1), 3)
    over = soft_step(lawn.mean(axis=2) - 0.62, 0.15) * soft_step(
        ndimage.gaussian_filter(1 - cover, 5) - 0.2, 0.2
    )
    visible = cover * (1 - over)
    image = mix(lawn, (0.02, 0.03, 0.01), shadow * 0.65 * (1 - cover))
    return mix(image, layer, visible), cover


def paper_slip(rng: np.random.Generator, lawn: np.ndarray, centre: tuple) -> tuple:
    """Leave a crumpled slip of paper on the lawn, with its shadow."""
    shape = lawn.shape[:2]
    y, x = np.mgrid[: shape[0], : shape[1]]
    angle = 0.45
    u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
    v = -(x - centre[0]) * np.sin(angle) + (y - centre[1]) * np.cos(angle)
    ragged = 1.5 * smooth_noise(rng, shape, 4)
    cover = soft_step(44 - np.abs(u) + ragged, 2) * soft_step(25 - np.abs(v) + ragged, 2)
    folds = ndimage.gaussian_filter(np.abs(smooth_noise(rng, shape, 14)), 1)
    slope = ndimage.sobel(folds, axis=0) + ndimage.sobel(folds, axis=1)
    shade = 0.88 - 0.05 * slope / slope.std()
    print_lines = soft_step(0.35 - np.abs((v % 9) - 4.5) / 4.5, 0.3) * (np.abs(u) < 36)
    print_lines *= soft_step(smooth_noise(rng, shape, 2.2), 0.6) * (np.abs(v) < 20)
    paper = np.asarray((1.0, 0.99, 0.95)) * (shade - 0.42 * print_lines)[..., None]
    shadow = ndimage.gaussian_filter(ndimage.shift(cover, (5, 4), order=1), 3)
    image = mix(lawn, (0.02, 0.03, 0.01), shadow * 0.6 * (1 - cover))
    return mix(image, paper, cover), cover


def dry_spot(rng: np.random.Generator, lawn: np.ndarray, centre: tuple) -> tuple:
    """Dry a patch of the lawn out: the same blades, straw-coloured."""
    signed = blob(rng, lawn.shape[:2], centre, (78, 58), 0.45)
    body = soft_step(signed, 0.5)
    grey = lawn.mean(axis=2)
    straw = tone(grey * 1.15, (0.16, 0.11, 0.05), (0.72, 0.60, 0.34), (0.98, 0.93, 0.74))
    return mix(lawn, straw, body), soft_step(signed, 0.05)


def lawn() -> ExampleSet:
    """Make the set: crops of a lawn, and crops with something on it that does not belong."""
    rng = generator_for("lawn")
    field = tone(skimage.data.grass() / 255, *GRASS_TONES)
    normals = [crop(field, b, 340) for b in boxes((250, 200), (0, 131, 262), (0, 84))]
    spare = [crop(field, b, 340) for b in boxes((250, 200), (0, 66, 131, 196, 262), (290, 312))]
    finds = {
        "coin": ("A lost coin.", lost_coin(spare[1], (150, 120))),
        "bare_soil": (
            "The grass is worn down to stony soil.",
            bare_patch(rng, spare[3], (175, 140)),
        ),
        "paper": ("A slip of paper was left behind.", paper_slip(rng, spare[5], (165, 125))),
        "dry_spot": (
            "A dry spot: the shapes are right, only the colour is not.",
            dry_spot(rng, spare[8], (170, 135)),
        ),
    }
    queries = [
        Query(f"good_{i}", to_image(spare[at]), "normal", "Another part of the same lawn.")
        for i, at in enumerate((0, 4, 7), start=1)
    ]
    for stem, (note, (picture, mask)) in finds.items():
        queries.append(Query(stem, to_image(picture), "anomalous", note, mask > 0.4))
    return ExampleSet(
        name="lawn",
        title="Lawn",
        object_name="grass lawn",
        family="industrial",
        caption="Crops of one photographed lawn; something lies on it, or the grass is gone.",
        source=(
            "skimage.data.grass (DeviantArt user linolafett), tinted; soil from "
            "skimage.data.gravel (CC0Textures) and the coin from skimage.data.coins (Brooklyn "
            "Museum); paper and dry spot drawn by this project's program."
        ),
        licence=(
            f"{CC0} (grass, gravel); coin: no known copyright restrictions; rest: the project's "
            "own."
        ),
        normals=[to_image(a) for a in normals],
        queries=queries,
    )
