"""How far a result can be trusted: fewer normals, a bad one among them, a changed photograph.

Nothing but :func:`severity_curve` runs the backbone.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from ..config import MAX_SHOTS
from ..errors import PromptError
from ..images.perturbations import find_perturbation, perturb
from ..model.bank import PromptBank, count_patches
from ..model.detector import Detector, EncodedImages
from ..model.residuals import residuals_per_normal
from ..model.score import Score
from .decision import CLEARLY, FAR
from .measured_bank import MeasuredBank, judge_bank, threshold_of
from .normal_range import NormalRange

# A score has settled where no draw of normals takes it further than this share of itself from what
# all normals give, and a difference that no reader of three decimals would call one is none.
SETTLED_SHARE = 0.1
SETTLED_LEAST = 0.005


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

    def judged_by(self, threshold: float) -> DropOne:
        """The same beside a threshold that somebody chose."""
        return dataclasses.replace(self, threshold=threshold)


def drop_one(detector: Detector, bank: PromptBank, encoded: EncodedImages) -> tuple[DropOne, ...]:
    """Leaves out each distinct normal in turn, its copies with it: which carries the result?

    Raises:
        PromptError: There is a single normal, or copies of a single one.
    """
    if len(bank.distinct) < 2:
        raise PromptError("Add a second normal image: the only one cannot be left out.")
    judge = _Judge(detector, bank, encoded)
    fused, _ = judge(range(bank.shots))
    dropped = []
    for index in bank.distinct:
        value, threshold = judge(bank.others(index))
        dropped.append(DropOne(index, value, value - fused, threshold))
    return tuple(dropped)


def odd_normal(
    detector: Detector, measured: MeasuredBank, encoded: EncodedImages
) -> DropOne | None:
    """The normal that differs from the others by more than a good image should; the score without.

    Where several do, the one that differs most. None where the model cannot tell what good images
    score, and of fewer than three distinct normals: of two, neither is the odd one.

    Args:
        detector: The model that made the bank.
        measured: The normals.
        encoded: One query.
    """
    ranges, good, bank = measured.ranges, measured.good, measured.bank
    if ranges is None or good is None or len(bank.distinct) < 3:
        return None
    if good.grade(ranges.highest, measured.own_threshold) not in (CLEARLY, FAR):
        return None
    odd = max(ranges.normals, key=ranges.fused_of)
    judge = _Judge(detector, bank, encoded)
    fused, threshold = judge(bank.others(odd))
    return DropOne(odd, fused, fused - judge(range(bank.shots))[0], threshold)


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
    """How the score depends on the number of distinct normals, from 1 to all of them.

    Copies come in with the last point alone, which is the score with all normals.

    Args:
        detector: The model that made the bank.
        bank: The normals to draw from.
        encoded: One query.
        draws: Subsets per K; fewer where a K has fewer.
        seed: Seed of the draws.
    """
    generator, judge = random.Random(seed), _Judge(detector, bank, encoded)
    points = []
    for shots in range(1, len(bank.distinct) + 1):
        tries = [tuple(sorted(generator.sample(bank.distinct, shots))) for _ in range(4 * draws)]
        subsets = list(dict.fromkeys(tries))[:draws]
        if shots == len(bank.distinct):
            subsets = [tuple(range(bank.shots))]
        fused, thresholds = zip(*map(judge, subsets), strict=True)
        points.append(ShotsPoint(shots, fused, thresholds))
    return tuple(points)


class _Judge:
    """Scores one query against any of the normals: all products are made once, for all of them.

    Args:
        detector: The model that made the bank.
        bank: The normals.
        encoded: One query.
    """

    def __init__(self, detector: Detector, bank: PromptBank, encoded: EncodedImages) -> None:
        bank = bank.to(detector.backbone.device)
        self._detector, self._encoded = detector, encoded
        self._bank = bank.without_patches()
        # [K, D, P]: the smallest over some of the normals is the query's map against those.
        maps = residuals_per_normal(encoded.features.patches, bank.features.patches)[0]
        self._maps = count_patches(maps, bank.ignored)
        known = bank.defects
        self._near = None if known is None else known.distances(encoded.features.patches)

    def __call__(self, normals: Sequence[int]) -> tuple[float, float | None]:
        """The query's fused score against some of the normals, and their threshold."""
        bank, images = self._bank.subset(normals), self._encoded
        with torch.inference_mode():
            maps = self._maps[list(normals)].amin(dim=0, keepdim=True)
            evidence = self._detector.evidence(maps, images.features.embeddings, bank, self._near)
            fused = float(self._detector.fusion_of(evidence).fused)
        return fused, threshold_of(*judge_bank(self._detector, bank))


def settled_from(curve: Sequence[ShotsPoint]) -> int | None:
    """From how many normals on the score hardly depends on which they are.

    Draws of nearly all normals share most of them and agree for that reason alone, so the last
    point, which is a single draw, proves nothing.

    Args:
        curve: The result of :func:`shots_curve`.

    Returns:
        The smallest K below all of them from which every draw lies within a tenth of the score
        with all normals; None where there is none.
    """
    final = curve[-1].fused[0]
    tolerance = max(SETTLED_SHARE * abs(final), SETTLED_LEAST)
    settled = None
    for point in reversed(curve[:-1]):
        if max(abs(value - final) for value in point.fused) > tolerance:
            break
        settled = point.shots
    return settled


def agreement(point: ShotsPoint, above: bool) -> int:
    """How many of the draws come to a verdict, each by the threshold of its own normals.

    Args:
        point: A point of two or more normals.
        above: The verdict: above the threshold, or not.
    """
    pairs = zip(point.fused, point.thresholds, strict=True)
    return sum((fused > threshold) is above for fused, threshold in pairs)


@dataclass(frozen=True, eq=False)
class Contamination:
    """A query before and after an image that is none came to be among its normals.

    Attributes:
        before: Its score against the normals.
        after: Its score against the normals and the contaminant.
        threshold_before: Suggested by the normals; None where there is one.
        threshold_after: Suggested by the normals and the contaminant; None where all are copies of
            one image.
        replaced: Index of the normal whose place the contaminant took; None where there was room.
    """

    before: Score
    after: Score
    threshold_before: float | None
    threshold_after: float | None
    replaced: int | None


def contaminate(
    detector: Detector, bank: PromptBank, encoded: EncodedImages, contaminant: EncodedImages
) -> Contamination:
    """Puts an image among the normals, in place of the last where the bank is full.

    Args:
        detector: The model that made the bank.
        bank: The normals.
        encoded: One query.
        contaminant: The one image that slips in; the query itself, for one.
    """
    full = bank.shots == MAX_SHOTS
    kept = bank.without(bank.shots - 1) if full else bank
    mixed = kept.with_normals(contaminant.features, contaminant.crop_boxes)
    return Contamination(
        before=detector.score_encoded(encoded, bank)[0],
        after=detector.score_encoded(encoded, mixed)[0],
        threshold_before=threshold_of(*judge_bank(detector, bank)),
        threshold_after=threshold_of(*judge_bank(detector, mixed)),
        replaced=bank.shots - 1 if full else None,
    )


def typical_normal(ranges: NormalRange) -> int:
    """Index of the normal in the middle of the normals' own scores (the lower of two)."""
    order = sorted(ranges.normals, key=ranges.fused_of)
    return order[(len(order) - 1) // 2]


@dataclass(frozen=True)
class SeverityCurve:
    """Scores under one kind of change.

    Attributes:
        name: Name of the kind, see :mod:`inctrl_core.images.perturbations`.
        severities: From weak to strong.
        query: Fused score of the changed query at each severity.
        normal: The same of a normal, against the other normals; None where there are no others.
    """

    name: str
    severities: tuple[float, ...]
    query: tuple[float, ...]
    normal: tuple[float, ...] | None


def severity_curve(
    detector: Detector,
    bank: PromptBank,
    name: str,
    query: Image.Image,
    normal: tuple[int, Image.Image] | None = None,
    seed: int = 0,
) -> SeverityCurve:
    """Scores a query, changed in one way at every severity of its list.

    The same change to a normal image tells what it does by itself: where that normal crosses the
    threshold, the change is what the model sees, and not a defect.

    Args:
        detector: The model that made the bank.
        bank: The normals.
        name: The kind of change.
        query: What the model sees of the query, see
            :func:`inctrl_core.images.preprocessing.seen_image`.
        normal: Index of a normal, and the same of it; scored against the others, without copies
            of it. None where there are no others.
        seed: Seed of the change's random part.

    Raises:
        ImageError: There is no such kind.
    """
    severities = find_perturbation(name).severities
    pictures = [query] if normal is None else [query, normal[1]]
    changed = [
        perturb(picture, name, severity, seed) for picture in pictures for severity in severities
    ]
    encoded = detector.encode_for(bank, changed)
    count = len(severities)

    def scores(start: int, against: PromptBank) -> tuple[float, ...]:
        part = slice(start, start + count)
        images = EncodedImages(encoded.features[part], encoded.crop_boxes[part])
        return tuple(score.fused for score in detector.score_encoded(images, against))

    return SeverityCurve(
        name=name,
        severities=severities,
        query=scores(0, bank),
        normal=None if normal is None else scores(count, bank.subset(bank.others(normal[0]))),
    )


def turned_at(scores: Sequence[float], threshold: float, above: bool) -> tuple[int, ...]:
    """Where a verdict does not hold.

    Args:
        scores: Fused scores.
        threshold: What lies above it counts as anomalous.
        above: The verdict that should hold: above, or not.

    Returns:
        Indices of the scores on the other side.
    """
    return tuple(i for i, score in enumerate(scores) if (score > threshold) is not above)
