"""Sets meant to fool the method: harmless changes that score high, faults that score low."""

from __future__ import annotations

import numpy as np
import skimage.data
from scipy import ndimage

from .board import BLUE, DRAWN, DRAWN_LICENCE, GREEN, Board, around, shoot
from .board_layout import LEDS, RESISTORS, TRACES
from .coins import BOXES, coin_cut_out
from .lawn import COIN_TONES
from .photos import CC0, boxes, crop
from .pixels import mix, soft_step, stroke, to_image, tone
from .records import ExampleSet, Query, generator_for
from .studio import Shot

GRAVEL_TONES = ((0.10, 0.09, 0.08), (0.50, 0.47, 0.43), (0.95, 0.93, 0.89))


def cut_track(board: Board) -> np.ndarray:
    """Break one copper track over two pixels; return the gap as float [H, W]."""
    x, y = TRACES[8][0], 96
    gap = board.canvas.area("box", (x - 2.2, y, x + 2.2, y + 2.4))
    board.canvas.paint(gap, tuple(v * 0.7 for v in GREEN), 1.0, gloss=0.2)
    return gap


def fools_board() -> ExampleSet:
    """Draw the set: normals that are all alike, harmless changes, and faults hard to see."""
    rng = generator_for("fools-board")
    # Every normal lies the same way in the same light: this is what makes them unrepresentative.
    still = Shot()
    normals = [shoot(Board(rng), still)[0] for _ in range(4)]
    harmless = {
        "same_as_normals": ("For comparison: an ordinary good board.", {}, still),
        "turned_round": (
            "Rotation: a good board, only laid down the other way round.",
            {},
            Shot(angle=180),
        ),
        "evening_light": (
            "Lighting: a good board under a dim, warm lamp from the other side.",
            {},
            Shot(gain=0.5, warmth=0.22, azimuth=-0.6),
        ),
        "other_batch": (
            "Unrepresentative normals: a good board of another batch, whose lacquer is blue.",
            {"mask_colour": BLUE},
            still,
        ),
    }
    queries = [
        Query(stem, shoot(Board(rng, **options), shot)[0], "normal", note)
        for stem, (note, options, shot) in harmless.items()
    ]

    def add(stem: str, note: str, board: Board, mask: np.ndarray) -> None:
        picture, posed = shoot(board, still, mask)
        queries.append(Query(stem, picture, "anomalous", note, posed))

    board = Board(rng)
    add(
        "cut_track",
        "A tiny defect: one copper track is cut, far smaller than a patch.",
        board,
        cut_track(board),
    )
    board = Board(rng, codes={"R1": "221", "R3": "103"})
    mask = sum(around(board.canvas, *RESISTORS[name][:2], (8, 6)) for name in ("R1", "R3"))
    add(
        "swapped_resistors",
        "A logical fault: R1 and R3 are swapped; only their print tells.",
        board,
        mask,
    )
    (red, red_colour), (green, green_colour) = LEDS.values()
    board = Board(rng, leds={"D1": (red, green_colour), "D2": (green, red_colour)})
    mask = sum(around(board.canvas, *place, (9, 6)) for place in (red, green))
    add(
        "swapped_lamps",
        "A logical fault: the red and the green lamp have changed places.",
        board,
        mask,
    )
    return ExampleSet(
        name="fools-board",
        title="Board that fools it",
        object_name="printed circuit board",
        family="industrial",
        caption="The normals all lie the same way in one light, so harmless changes look alarming.",
        source=DRAWN,
        licence=DRAWN_LICENCE,
        normals=normals,
        queries=queries,
        fails=(
            "Four look-alike normals do not show that boards may be turned, lit or lacquered "
            "differently, and the real faults here are tiny or consist of familiar patches in the "
            "wrong place."
        ),
    )


def with_coin(gravel: np.ndarray, centre: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Lay a photographed coin on the gravel; return the image and the coin as float [H, W]."""
    coin, alpha = coin_cut_out(BOXES[17], 56)
    shape = gravel.shape[:2]
    layer, cover = np.zeros((*shape, 3)), np.zeros(shape)
    window = (slice(centre[1] - 28, centre[1] + 28), slice(centre[0] - 28, centre[0] + 28))
    layer[window], cover[window] = tone(coin, *COIN_TONES), alpha
    shadow = ndimage.gaussian_filter(ndimage.shift(cover, (4, 4), order=1), 2.5)
    image = mix(gravel, (0.03, 0.03, 0.03), shadow * 0.6 * (1 - cover))
    return mix(image, layer, cover), cover


def with_nail(gravel: np.ndarray, centre: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Drop a small nail of some 12 by 2 pixels; return the image and the nail as float [H, W]."""
    (x, y), shape = centre, gravel.shape[:2]
    nail = stroke(shape, [(x, y), (x + 6, y - 4), (x + 11, y - 7)], 2.2)
    head = stroke(shape, [(x - 1, y - 2), (x + 1, y + 2)], 2.2)
    whole = np.maximum(nail, head)
    shade = np.clip(ndimage.shift(whole, (1.5, 1), order=1) - whole, 0, 1)
    image = mix(gravel, (0.05, 0.05, 0.05), shade * 0.7)
    return mix(image, (0.55, 0.30, 0.18), whole * 0.9), whole


def cloned(gravel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Copy one part of the gravel over another with soft edges; return image and copied area."""
    shape = gravel.shape[:2]
    y, x = np.mgrid[: shape[0], : shape[1]]
    area = soft_step(1 - np.hypot((x - 285) / 52, (y - 140) / 46), 0.12)
    return mix(gravel, np.roll(gravel, 110, axis=1), area), area


def wetted(gravel: np.ndarray) -> np.ndarray:
    """Make stones look wet: darker, stronger in contrast, with small bright reflections."""
    grey = gravel.mean(axis=2, keepdims=True)
    dark = np.clip(gravel, 0, 1) ** 1.7 * 0.72
    return dark + 0.55 * np.clip(grey - 0.66, 0, 1)


def shaded(gravel: np.ndarray) -> np.ndarray:
    """Let the shadow of a post fall across the gravel."""
    height, width = gravel.shape[:2]
    y, x = np.mgrid[:height, :width]
    across = x - 0.45 * y - 0.42 * width
    shadow = soft_step(across + 42, 7) * (1 - soft_step(across - 42, 7))
    return gravel * (1 - shadow[..., None] * np.array([0.64, 0.62, 0.58]))


def fools_gravel() -> ExampleSet:
    """Make the set: dry gravel in one light, harmless changes, and faults hard to see."""
    rng = generator_for("fools-gravel")
    field = tone(skimage.data.gravel() / 255, *GRAVEL_TONES)
    size, width = (300, 170), 460
    normals = [crop(field, b, width) for b in boxes(size, (0, 212), (0, 80))]
    spare = [crop(field, b, width) for b in boxes(size, (0, 106, 212), (256, 340))]
    left, top = (int(v) for v in rng.integers((60, 270), (280, 400)))
    near = crop(field, (left, top, left + 120, top + 68), width)
    coin, coin_mask = with_coin(spare[1], (46, 120))
    nail, nail_mask = with_nail(spare[3], (236, 128))
    clone, clone_mask = cloned(spare[5])
    queries = [
        Query(
            "same_as_normals",
            to_image(spare[0]),
            "normal",
            "For comparison: plain dry gravel, at the end of the normals' range.",
        ),
        Query(
            "after_rain",
            to_image(wetted(spare[2])),
            "normal",
            "Lighting: the same gravel, wet and darker.",
        ),
        Query(
            "shadow",
            to_image(shaded(spare[4])),
            "normal",
            "Lighting: the shadow of a post falls across good gravel.",
        ),
        Query(
            "closer",
            to_image(near),
            "normal",
            "Unrepresentative normals: the camera is nearer than in any of them.",
        ),
        Query(
            "coin_at_edge",
            to_image(coin),
            "anomalous",
            "A coin at the left edge is found; a model that cuts out the middle is blind there.",
            coin_mask > 0.5,
        ),
        Query(
            "nail",
            to_image(nail),
            "anomalous",
            "A tiny defect: a nail, smaller than a patch, among stones of its own size. It is "
            "found all the same.",
            nail_mask > 0.5,
        ),
        Query(
            "cloned_patch",
            to_image(clone),
            "anomalous",
            "A logical fault: the same stones appear twice, 110 pixels apart.",
            clone_mask > 0.5,
        ),
    ]
    return ExampleSet(
        name="fools-gravel",
        title="Gravel that fools it",
        object_name="gravel",
        family="industrial",
        caption="A shadow or a nearer camera alarm it more than a nail does.",
        source=(
            "skimage.data.gravel (CC0Textures), tinted; coin from skimage.data.coins (Brooklyn "
            "Museum); water, shadow and nail drawn by this project's program."
        ),
        licence=f"{CC0} (gravel); coin: no known copyright restrictions; rest: the project's own.",
        normals=[to_image(a) for a in normals],
        queries=queries,
        fails=(
            "All four normals show dry gravel in one light from one distance, and one real fault "
            "is made of normal patches."
        ),
    )
