"""A bank with its yardstick: range of the normals, scales of the heatmaps, threshold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..images.files import ImageSource
from ..images.seen import SeenSet
from ..model.bank import PromptBank
from ..model.detector import Detector
from ..model.evidence import DECIDE
from . import decision
from .decision import Decision, GoodScores, check_threshold, decide, expect_good, odds
from .normal_range import ABOVE, NormalRange, normal_range
from .patch_scale import PatchScale, patch_scale


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
