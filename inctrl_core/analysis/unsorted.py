"""Images of which nobody has said which are normal: the ordinary ones among them, as normals.

Every image is compared with every other by the residuals of the paper (section 3.2), with each of
them in place of the normals. What most images have, some others have too: an image's patch counts
by its mean distance to the third of the images that come closest, and an image by its largest patch
(mutual scoring, as in Li et al., "MuSc", ICLR 2024). The normals are chosen among the more ordinary
half, so that together they show what that half shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import MAX_SHOTS, PreprocessConfig
from ..errors import ImageError, InctrlError
from ..images.files import ImageSource, image_levels
from ..images.levels import join_levels
from ..images.seen import Opener, SeenImage, open_here, see_thumbnail
from ..model.detector import Detector
from ..model.residuals import residuals_both_ways
from .steps import Progress, Step, steps_of, untold

# Features of so many take 90 MB, and comparing them 6 s of two quiet cores.
MOST_COMPARED = 100
FEWEST = 4
SHOTS = 8
CLOSEST = 0.3  # Share of the other images that a patch is held against.
ORDINARY = 0.5  # Share of the images among which normals are chosen.
CHUNK = 8  # Images that are encoded, or compared with all others, in one turn at the model.
_SMALL = (1, 1)  # Nobody looks at their pictures.


@dataclass(frozen=True, eq=False)
class Unsorted:
    """Images compared with each other.

    Attributes:
        indices: Places of the N images that were compared, in the order given.
        scores: Their mutual scores, in [0, 1]; higher is less like the others.
        normals: Places of those to be taken as normals, the most telling first.
        unread: Places of the images that cannot be read, and why.
    """

    indices: tuple[int, ...]
    scores: tuple[float, ...]
    normals: tuple[int, ...]
    unread: tuple[tuple[int, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Ready for ``json.dumps``."""
        compared = sorted(zip(self.indices, self.scores, strict=True), key=lambda pair: -pair[1])
        return {
            "normals": list(self.normals),
            "scores": [{"index": index, "score": score} for index, score in compared],
            "unread": [{"index": index, "why": why} for index, why in self.unread],
        }


def find_normals(
    detector: Detector,
    images: Sequence[ImageSource],
    shots: int = SHOTS,
    on_step: Progress = untold,
) -> Unsorted:
    """Chooses normals among images, of which most should be normal.

    Args:
        detector: The model.
        images: At least ``FEWEST``; of more than ``MOST_COMPARED`` as many are compared, evenly.
        shots: Normals to choose; at most half of the images that were compared.
        on_step: Told how many steps are done, of how many.

    Raises:
        InctrlError: There are too few images that can be read, or ``shots`` is not 1 to 16.
    """
    config = detector.config.preprocess
    return compute_normals(steps_of(detector), config, images, open_here, on_step, shots)


def compute_normals(
    step: Step,
    config: PreprocessConfig,
    images: Sequence[ImageSource],
    opener: Opener,
    on_step: Progress,
    shots: int = SHOTS,
) -> Unsorted:
    """:func:`find_normals`, wherever its steps are computed and its images opened."""
    if not 1 <= shots <= MAX_SHOTS:
        raise InctrlError(f"Choose 1 to {MAX_SHOTS} normals, not {shots}.")
    if len(images) < FEWEST:
        raise InctrlError(f"Add at least {FEWEST} images, so that they can be compared.")
    chosen = _spread(len(images), MOST_COMPARED)
    seen, unread = _open({place: images[place] for place in chosen}, config, opener)
    if len(seen) < FEWEST:
        raise ImageError(unread[0][1])
    places, pictures = list(seen), list(seen.values())
    starts = range(0, len(places), CHUNK)
    encoded: list[tuple[Tensor, ...]] = []
    for start in starts:
        on_step(len(encoded) // CHUNK, 2 * len(starts))
        encoded += step(_encode, pictures[start : start + CHUNK])
    patches = tuple(map(torch.stack, zip(*encoded, strict=True)))
    table = np.zeros((len(places), len(places), patches[0].shape[1]), np.float32)
    for done, start in enumerate(starts):
        on_step(len(starts) + done, 2 * len(starts))
        _fill(table, start, step(_compare, patches, start))
    scores = mutual_scores(table)
    normals = choose_normals(table, scores, min(shots, len(places) // 2))
    picked = tuple(places[i] for i in normals)
    return Unsorted(tuple(places), tuple(map(float, scores)), picked, tuple(unread))


def mutual_scores(table: np.ndarray) -> np.ndarray:
    """Scores of images that were compared with each other.

    Args:
        table: [N, N, P]; row i, column j: the residuals of image i's patches against image j.

    Returns:
        float [N].
    """
    count = len(table)
    closest = max(1, int(CLOSEST * (count - 1)))
    others = (np.delete(table[i], i, axis=0) for i in range(count))
    return np.array([np.sort(rows, axis=0)[:closest].mean(axis=0).max() for rows in others])


def choose_normals(table: np.ndarray, scores: np.ndarray, shots: int) -> list[int]:
    """Chooses normals one by one, each such that the ordinary images have the least residuals.

    Args:
        table: As for :func:`mutual_scores`.
        scores: Their result.
        shots: Normals to choose.

    Returns:
        Places of the normals.
    """
    ordinary = np.argsort(scores, kind="stable")[: max(shots, int(ORDINARY * len(scores)))]
    inside = table[np.ix_(ordinary, ordinary)]
    best, chosen = np.full(inside.shape[::2], 1.0, np.float32), []
    for _ in range(shots):
        left = np.minimum(best[:, None], inside)  # Row, candidate, patch.
        costs = left.max(axis=2).mean(axis=0) + left.mean(axis=(0, 2))
        costs[chosen] = np.inf
        chosen.append(int(costs.argmin()))
        best = left[:, chosen[-1]]
    return [int(ordinary[place]) for place in chosen]


def _spread(count: int, most: int) -> list[int]:
    """At most so many places, evenly from first to last."""
    kept = min(count, most)
    return [i * count // kept for i in range(kept)]


def _open(
    images: dict[int, ImageSource], config: PreprocessConfig, opener: Opener
) -> tuple[dict[int, SeenImage], list[tuple[int, str]]]:
    """What the model sees of each image that can be read, and why others cannot."""
    levels, seen, unread = {}, {}, []
    for place, source in images.items():
        try:
            levels[place] = opener.run(image_levels, source)
        except ImageError as error:
            unread.append((place, str(error)))
    joined = join_levels(list(levels.values())) if levels else None
    for place in levels:
        try:
            seen[place] = opener(see_thumbnail, images[place], config, _SMALL, levels=joined)
        except ImageError as error:
            unread.append((place, str(error)))
    return seen, unread


def _encode(detector: Detector, images: Sequence[SeenImage]) -> list[tuple[Tensor, ...]]:
    """For each image D tensors [P, C_d], on the CPU."""
    patches = detector.encode_opened(images).features.patches
    return [tuple(depth[i].cpu() for depth in patches) for i in range(len(images))]


@torch.inference_mode()
def _compare(
    detector: Detector, patches: Sequence[Tensor], start: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """:func:`.residuals_both_ways` of the images of a chunk and each that comes after them."""
    device = detector.backbone.device
    moved = [depth.to(device) for depth in patches]
    rows = range(start, min(start + CHUNK, len(moved[0]) - 1))
    pairs = [([d[row] for d in moved], [d[row + 1 :] for d in moved]) for row in rows]
    found = detector.backbone.map(residuals_both_ways, *zip(*pairs, strict=True)) if pairs else ()
    return [(own.cpu().numpy(), theirs.cpu().numpy()) for own, theirs in found]


def _fill(table: np.ndarray, start: int, found: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    for row, (own, theirs) in enumerate(found, start):
        table[row, row + 1 :], table[row + 1 :, row] = own, theirs
