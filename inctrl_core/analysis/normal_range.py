"""The yardstick of a score: the normals' own range.

Nothing here runs the backbone: every figure follows from a bank and an encoded query, through the
same fusion that made the score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..errors import join_words, name_some
from ..images.files import ImageSource
from ..images.overlay import OverlayStyle
from ..images.seen import SeenSet
from ..model.bank import PromptBank
from ..model.detector import Detector
from ..model.evidence import DECIDE
from . import decision
from .decision import Decision, GoodScores, check_threshold, decide, expect_good, odds

# Top of the heatmap's scale where a single normal gives no range of its own: a quarter of the way
# from "same direction" (0) to "opposite" (1), half of the way to "nothing in common" (0.5).
UNCALIBRATED_HIGH = 0.25
# The scale never gets narrower than this, so that identical normals do not magnify rounding.
NARROWEST_SCALE = 0.02
# With normals that vary this far, twice their largest distance; the middle of the scale is it.
SCALE_OVER_NORMAL = 2.0


# Where a score lies, measured by the normals' own.
STANDINGS = ABOVE, BARELY_ABOVE, INSIDE, BELOW = "above", "barely above", "inside", "below"
# Said in place of a standing where the image is one of the normals.
ITSELF = "one of the normals"


@dataclass(frozen=True)
class NormalRange:
    """Scores of the normals, each against the others (leave-one-out).

    Copies among the normals are left out, see :attr:`PromptBank.copy_of`: of K normals N <= K are
    distinct.

    Attributes:
        fused: N fused scores, in the order of the normals.
        patch_max: N largest patch residuals.
        normals: Indices of these normals in the bank; by default the first N.
    """

    fused: tuple[float, ...]
    patch_max: tuple[float, ...]
    normals: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Fills in the default of ``normals``."""
        if not self.normals:
            object.__setattr__(self, "normals", tuple(range(len(self.fused))))

    def fused_of(self, normal: int) -> float:
        """The fused score of a normal, by its index in the bank."""
        return self.fused[self.normals.index(normal)]

    def to_dict(self) -> dict[str, Any]:
        """The range, ready for ``json.dumps``: its ends, and ``fused``."""
        return {"lowest": self.lowest, "highest": self.highest, "fused": list(self.fused)}

    @property
    def lowest(self) -> float:
        """Smallest fused score of a normal."""
        return min(self.fused)

    @property
    def highest(self) -> float:
        """Largest fused score of a normal."""
        return max(self.fused)

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
    """Scores each normal against the others; None where fewer than two are distinct.

    Each normal sees fewer others than a query does, so the range errs on the high side.
    """
    if len(bank.distinct) < 2:
        return None
    return NormalRange(*zip(*detector.judge_normals(bank), strict=True), bank.distinct)


def copies_told(copy_of: Sequence[int | None], names: Sequence[str] = ()) -> str:
    """Says which normals are copies of others, and what that means; "" where none is.

    >>> copies_told((None, 0, None), ("a.png", "a (1).png", "b.png"))
    'Normal 2 (a (1).png) is a copy of normal 1 (a.png): it serves as a normal, but is left out of \
the range of the normals.'

    Args:
        copy_of: See :attr:`PromptBank.copy_of`.
        names: Names of the normals; their numbers alone where there are none.
    """
    groups: dict[int, list[int]] = {}
    for index, original in enumerate(copy_of):
        if original is not None:
            groups.setdefault(original, []).append(index)
    if not groups:
        return ""
    if len(copy_of) - sum(map(len, groups.values())) == 1:
        listed = f" ({name_some(names)})" if names else ""
        return (
            f"All {len(copy_of)} normals{listed} are copies of one image, so they give no range; "
            "add a different one."
        )
    told = []
    for original, copies in groups.items():
        noun, verb = ("Normal", "is a copy") if len(copies) == 1 else ("Normals", "are copies")
        listed = join_words([called(index, names) for index in copies])
        told.append(f"{noun} {listed} {verb} of normal {called(original, names)}")
    one = sum(map(len, groups.values())) == 1
    effect = (
        "it serves as a normal, but is left out of the range of the normals"
        if one
        else "they serve as normals, but are left out of the range of the normals"
    )
    return f"{'; '.join([told[0], *(t[0].lower() + t[1:] for t in told[1:])])}: {effect}."


def query_told(copy_of: int | None, names: Sequence[str] = ()) -> str:
    """Says that a query is one of the normals; "" where it is none.

    >>> query_told(1, ("a.png", "b.png"))
    'This image is normal 2 (b.png) or a copy of it. It finds itself among the normals, so its \
score says nothing.'

    Args:
        copy_of: See :attr:`Score.copy_of`.
        names: As in :func:`copies_told`.
    """
    if copy_of is None:
        return ""
    return (
        f"This image is normal {called(copy_of, names)} or a copy of it. It finds itself among the "
        "normals, so its score says nothing."
    )


def count_normals(shots: int, copy_of: Sequence[int | None]) -> str:
    """How many normals a range is of: "4 normals", or "3 different normals" where some are copies.

    Args:
        shots: K, the number of all normals, copies too.
        copy_of: See :attr:`PromptBank.copy_of`.
    """
    copies = sum(original is not None for original in copy_of)
    return f"{shots - copies} different normals" if copies else f"{shots} normals"


def called(normal: int, names: Sequence[str] = ()) -> str:
    """A normal's number, counted from 1, and its name where there is one."""
    return f"{normal + 1} ({names[normal]})" if normal < len(names) else str(normal + 1)


def normals_to_dict(
    names: Sequence[str], copy_of: Sequence[int | None], ranges: NormalRange | None
) -> dict[str, Any]:
    """The normals and their range, ready for ``json.dumps``.

    Args:
        names: Names of the normals, in their order; some may be equal.
        copy_of: See :attr:`PromptBank.copy_of`.
        ranges: See :func:`normal_range`.

    Returns:
        ``normals``: for each its ``index``, counted from 0, its ``name``, and ``copy_of``, the
        index of the normal that it is a copy of, or None. ``normal_range``: None, or ``lowest``,
        ``highest`` and ``fused``, the scores of those that are no copies, in their order.
    """
    entries = [
        {"index": index, "name": name, "copy_of": original}
        for index, (name, original) in enumerate(zip(names, copy_of, strict=True))
    ]
    return {"normals": entries, "normal_range": None if ranges is None else ranges.to_dict()}


@dataclass(frozen=True)
class PatchScale:
    """Fixed scale of a heatmap.

    Attributes:
        low: Patch residual at the bottom of the scale.
        high: Patch residual at its top.
        normal_high: Largest residual of any patch of a normal against the other normals; None
            where there is one normal.
        moved: The line lies at so many times ``normal_high``.
        ignored: See :attr:`.PromptBank.ignored`; it is striped.
    """

    low: float
    high: float
    normal_high: float | None
    moved: float = 1.0
    ignored: np.ndarray | None = field(default=None, compare=False)

    @property
    def line(self) -> float | None:
        """Residual up to which a heatmap is clear; None where all of it is drawn."""
        return None if self.normal_high is None else self.moved * self.normal_high

    def style(self, **choices: Any) -> OverlayStyle:
        """A heatmap on this scale, clear up to the line.

        Args:
            **choices: Other fields of :class:`.OverlayStyle`.
        """
        about = {"clear": self.line, "ignored": self.ignored}
        return OverlayStyle(self.low, self.high, **about, **choices)

    def share_above(self, patch_map: np.ndarray) -> float:
        """Share of the patches above the line, in [0, 1]; 0 where there is no line.

        Args:
            patch_map: float [G, G].
        """
        return 0.0 if self.line is None else float((patch_map > self.line).mean())


def patch_scale(bank: PromptBank, layer: int | None = None) -> PatchScale:
    """The scale of a map from the normals alone, so that no query can stretch it.

    It runs from 0 to twice the largest residual that the normals show against each other, or to
    ``UNCALIBRATED_HIGH`` where there is a single normal, or copies of a single one.

    Args:
        bank: The normals.
        layer: Index of a layer, None for the mean over layers.
    """
    maps = bank.normal_layer_maps
    if maps is None:
        return scale_over(None)
    maps = maps[list(bank.distinct)]
    values = maps.mean(dim=1) if layer is None else maps[:, layer]
    return scale_over(float(values.max()))


def scale_over(normal_high: float | None) -> PatchScale:
    """The scale over the largest residual of a normal against the others, if there is one."""
    if normal_high is None:
        return PatchScale(0.0, UNCALIBRATED_HIGH, None)
    return PatchScale(0.0, max(SCALE_OVER_NORMAL * normal_high, NARROWEST_SCALE), normal_high)


@dataclass(frozen=True, eq=False)
class MeasuredBank:
    """A bank with all that its normals say of each other: the yardstick of every query.

    Attributes:
        bank: The normals and the prompts.
        ranges: The normals against each other; None where fewer than two are distinct.
        scales: Heatmap scale of the mean map, then of each layer.
        good: The scores to expect of good images; None where the model cannot tell.
        chosen: The threshold that somebody chose for these normals; None: their own.
    """

    bank: PromptBank
    ranges: NormalRange | None
    scales: tuple[PatchScale, ...]
    good: GoodScores | None = None
    chosen: float | None = None

    @property
    def scale(self) -> PatchScale:
        """Heatmap scale of the mean map."""
        return self.scales[0]

    @property
    def own_threshold(self) -> float | None:
        """See :func:`threshold_of`."""
        return threshold_of(self.ranges, self.good)

    @property
    def threshold(self) -> float | None:
        """The score above which an image counts as anomalous; None where nothing tells."""
        return self.own_threshold if self.chosen is None else self.chosen

    @property
    def decision(self) -> Decision | None:
        """The threshold, and what to expect of it; None where the model cannot tell."""
        return decide(self.good, threshold=self.chosen)

    def with_threshold(self, threshold: float | None) -> MeasuredBank:
        """The same normals with another threshold, which the lines of heatmaps follow.

        The line starts at the largest residual of the normals, and moves as the odds of the
        threshold do: to twice the odds, twice the residual.

        Args:
            threshold: A score in [0, 1]; None: the normals' own.

        Raises:
            InctrlError: It is neither.
        """
        chosen = None if threshold is None else check_threshold(threshold)
        own = self.own_threshold
        moved = 1.0 if chosen is None or own is None else odds(chosen) / odds(own)
        scales = tuple(dataclasses.replace(scale, moved=moved) for scale in self.scales)
        return dataclasses.replace(self, chosen=chosen, scales=scales)

    def to(self, device: torch.device | str) -> MeasuredBank:
        """The same with the bank's tensors on another device."""
        bank = self.bank.to(device)
        return self if bank is self.bank else dataclasses.replace(self, bank=bank)


def measure_bank(detector: Detector, bank: PromptBank) -> MeasuredBank:
    """Holds the normals of a bank against each other, once for all queries to come."""
    layers = [None, *range(len(bank.features.patches))]
    scales = (patch_scale(bank, layer) for layer in layers)
    scales = tuple(dataclasses.replace(scale, ignored=bank.ignored) for scale in scales)
    ranges, good = judge_bank(detector, bank)
    return MeasuredBank(bank, ranges, scales, good)


def judge_bank(
    detector: Detector, bank: PromptBank
) -> tuple[NormalRange | None, GoodScores | None]:
    """The range of a bank's normals, and the scores to expect of good images beside them."""
    ranges = normal_range(detector, bank)
    own = () if ranges is None else ranges.fused
    return ranges, expect_good(detector.config.heads, bank, own)


def threshold_of(ranges: NormalRange | None, good: GoodScores | None) -> float | None:
    """The fused score above which an image counts as anomalous, where nobody chose another.

    That for a share of ``decision.RATE`` of false alarms where the model can tell, else the highest
    score of a normal; None where there is neither.

    Args:
        ranges: See :func:`normal_range`.
        good: See :func:`.decision.expect_good`.
    """
    if good is not None:
        return decide(good).threshold
    return None if ranges is None else ranges.highest


def grade(
    fused: float,
    threshold: float | None,
    ranges: NormalRange | None,
    good: GoodScores | None,
) -> str | None:
    """How far above a threshold a score lies: one of ``decision.GRADES``.

    Where the model cannot tell what good images score, it is a little where one more normal might
    widen the range as far, see :meth:`NormalRange.standing`.

    Args:
        fused: The score.
        threshold: See :func:`threshold_of`; None gives None.
        ranges: See :func:`normal_range`.
        good: See :func:`.decision.expect_good`.
    """
    if threshold is None:
        return None
    if good is not None:
        return good.grade(fused, threshold)
    if fused <= threshold:
        return decision.BELOW
    barely = ranges is not None and ranges.standing(fused) != ABOVE
    return decision.LITTLE if barely else decision.CLEARLY


def build_measured_bank(
    detector: Detector,
    normals: Sequence[ImageSource] | SeenSet,
    object_name: str,
    looks_for: str = DECIDE,
    ignored: np.ndarray | None = None,
) -> MeasuredBank:
    """Encodes normals and measures them.

    Args:
        detector: The model.
        normals: 1 to 16 images, as :meth:`.Detector.build_bank` takes them.
        object_name: What they show.
        looks_for: See :meth:`.Detector.build_bank`.
        ignored: Likewise.

    Raises:
        InctrlError: The normals, the name or the part to ignore cannot be used.
    """
    bank = detector.build_bank(normals, object_name, looks_for=looks_for, ignored=ignored)
    return measure_bank(detector, bank)
