"""What a score is measured against: the normals' own range, and how it depends on them.

Nothing here runs the backbone: every figure follows from a bank and an encoded query, through the
same fusion that made the score.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .detector import Detector, EncodedImages
from .errors import PromptError
from .prompt_bank import PromptBank

# Top of the heatmap's scale where a single normal gives no range of its own: a quarter of the way
# from "same direction" (0) to "opposite" (1), half of the way to "nothing in common" (0.5).
UNCALIBRATED_HIGH = 0.25
# The scale never gets narrower than this, so that identical normals do not magnify rounding.
NARROWEST_SCALE = 0.02
# With normals that vary this far, twice their largest distance; the middle of the scale is it.
SCALE_OVER_NORMAL = 2.0


# Where a score lies, measured by the normals' own.
STANDINGS = ABOVE, BARELY_ABOVE, INSIDE, BELOW = "above", "barely above", "inside", "below"


@dataclass(frozen=True)
class NormalRange:
    """Scores of the normals, each against the other K - 1 (leave-one-out).

    Attributes:
        fused: K fused scores, in the order of the normals.
        patch_max: K largest patch residuals.
    """

    fused: tuple[float, ...]
    patch_max: tuple[float, ...]

    @property
    def lowest(self) -> float:
        """Smallest fused score of a normal."""
        return min(self.fused)

    @property
    def highest(self) -> float:
        """Largest fused score of a normal."""
        return max(self.fused)

    @property
    def threshold(self) -> float:
        """Suggested threshold: what lies above it scores higher than every normal.

        With a handful of normals this is the end of a range, never a probability.
        """
        return self.highest

    def standing(self, fused: float) -> str:
        """Where a score lies: one of ``STANDINGS``.

        It is barely above where it exceeds the range by less than one more normal might widen it:
        the K-th part of its width.
        """
        excess = fused - self.highest
        if excess > 0:
            slight = (self.highest - self.lowest) / len(self.fused)
            return BARELY_ABOVE if excess < slight else ABOVE
        return BELOW if fused < self.lowest else INSIDE


def normal_range(detector: Detector, bank: PromptBank) -> NormalRange | None:
    """Scores each normal against the others; None where K is 1.

    Each normal sees K - 1 others and a query sees K, so the range errs on the high side.
    """
    if bank.shots < 2:
        return None
    scores = [detector.score_normal(index, bank) for index in range(bank.shots)]
    return NormalRange(
        tuple(score.fused for score in scores), tuple(score.patch_max for score in scores)
    )


@dataclass(frozen=True)
class PatchScale:
    """Fixed scale of a heatmap.

    Attributes:
        low: Patch residual at the bottom of the scale.
        high: Patch residual at its top.
        normal_high: Largest residual of any patch of a normal against the other normals; None
            where there is one normal.
    """

    low: float
    high: float
    normal_high: float | None


def patch_scale(bank: PromptBank, depth: int | None = None) -> PatchScale:
    """The scale of a map from the normals alone, so that no query can stretch it.

    It runs from 0 to twice the largest residual that the normals show against each other, or to
    ``UNCALIBRATED_HIGH`` where there is a single normal.

    Args:
        bank: The normals.
        depth: Index of a depth, None for the mean over depths.
    """
    maps = bank.normal_layer_maps
    if maps is None:
        return PatchScale(0.0, UNCALIBRATED_HIGH, None)
    values = maps.mean(dim=1) if depth is None else maps[:, depth]
    normal_high = float(values.max())
    return PatchScale(0.0, max(SCALE_OVER_NORMAL * normal_high, NARROWEST_SCALE), normal_high)


@dataclass(frozen=True)
class DropOne:
    """A score without one of the normals.

    Attributes:
        index: The normal left out.
        fused: The query's fused score against the others.
        change: ``fused`` minus the score with all normals.
        threshold: The threshold that the others suggest; None where a single one is left.
    """

    index: int
    fused: float
    change: float
    threshold: float | None


def drop_one(detector: Detector, bank: PromptBank, encoded: EncodedImages) -> tuple[DropOne, ...]:
    """Leaves out each normal in turn: which of them carries the result?

    Raises:
        PromptError: There is a single normal.
    """
    if bank.shots < 2:
        raise PromptError("Add a second normal image: the only one cannot be left out.")
    fused = detector.score_encoded(encoded, bank)[0].fused
    dropped = []
    for index in range(bank.shots):
        value, threshold = _judge(detector, bank.without(index), encoded)
        dropped.append(DropOne(index, value, value - fused, threshold))
    return tuple(dropped)


@dataclass(frozen=True)
class ShotsPoint:
    """A query against random subsets of the normals.

    Attributes:
        shots: Size of the subsets.
        fused: The fused score against each.
        thresholds: The threshold that each subset suggests; None where ``shots`` is 1.
    """

    shots: int
    fused: tuple[float, ...]
    thresholds: tuple[float | None, ...]


def shots_curve(
    detector: Detector, bank: PromptBank, encoded: EncodedImages, draws: int = 8, seed: int = 0
) -> tuple[ShotsPoint, ...]:
    """How the score depends on the number of normals, K = 1 .. all of them.

    Args:
        detector: Of the bank.
        bank: The normals to draw from.
        encoded: One query.
        draws: Subsets per K; fewer where a K has fewer.
        seed: Of the draws.
    """
    generator = random.Random(seed)
    points = []
    for shots in range(1, bank.shots + 1):
        tries = [
            tuple(sorted(generator.sample(range(bank.shots), shots))) for _ in range(4 * draws)
        ]
        subsets = list(dict.fromkeys(tries))[:draws]
        fused, thresholds = zip(
            *(_judge(detector, bank.subset(subset), encoded) for subset in subsets), strict=True
        )
        points.append(ShotsPoint(shots, fused, thresholds))
    return tuple(points)


def _judge(
    detector: Detector, bank: PromptBank, encoded: EncodedImages
) -> tuple[float, float | None]:
    """A query's fused score, and the threshold to hold it against."""
    ranges = normal_range(detector, bank)
    fused = detector.score_encoded(encoded, bank)[0].fused
    return fused, None if ranges is None else ranges.threshold
