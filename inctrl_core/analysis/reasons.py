"""Why a labelled image fails: what its score would be with one thing corrected towards the normals.

Each cause is decided by a counterfactual: a false alarm lies in the light, if the image would pass
in the normals' light. What no correction turns, none explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import join_words
from ..images.files import ImageSource
from ..model.bank import PromptBank
from ..model.detector import Detector
from .corrections import (
    CAUSES,
    LIGHT,
    NORMALS,
    POSITION,
    SMALL,
    TEXTURE,
    Correction,
    OpenedFailure,
    correct_alarm,
    correct_miss,
    open_failure,
)
from .explanations import PatchMatch, patch_matches
from .normal_range import normal_range

# A correction explains a false alarm if it takes away this share of what the image exceeds the
# middle of the normals by: just below the threshold anything would.
LEAST_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Reasons:
    """The corrections of one image, whatever the threshold.

    Attributes:
        anomalous: Its label.
        fused: Its score as it is.
        typical: Score in the middle of the normals' own; 0 where there is none.
        patch: (row, column) of the patch that differs most, counted from 0; of those that its mask
            marks, where it has one.
        matches: Its nearest normal patch, one for each layer.
        corrections: One for each cause that makes a difference.
        tried: The causes that were looked into.
        marked: How many patches its mask marks; None where it has none.
    """

    anomalous: bool
    fused: float
    typical: float
    patch: tuple[int, int]
    matches: tuple[PatchMatch, ...]
    corrections: tuple[Correction, ...]
    tried: tuple[str, ...] = ()
    marked: float | None = None

    @property
    def nearest(self) -> PatchMatch:
        """The match at the layer where the patch differs most."""
        return max(self.matches, key=lambda match: match.distance)

    def explanation(self, threshold: float) -> Correction | None:
        """The correction that turns the failure most clearly; None where none does.

        Args:
            threshold: Fused score above which an image is called anomalous.
        """
        turned = [one for one in self.helpful if _margin(self, one, threshold) > 0]
        return max(turned, key=lambda one: _margin(self, one, threshold), default=None)

    @property
    def helpful(self) -> tuple[Correction, ...]:
        """The corrections with a clear effect, whether it is enough or not."""
        least = LEAST_SHARE * max(self.fused - self.typical, 0.0)
        return tuple(
            one for one in self.corrections if self.anomalous or self.fused - one.fused >= least
        )

    @property
    def small(self) -> bool:
        """Whether what its mask marks is smaller than a patch; a miss alone is a matter of that."""
        return self.anomalous and self.marked is not None and self.marked < 1

    def cause(self, threshold: float) -> str | None:
        """One of ``CAUSES``; None where nothing explains the failure.

        Args:
            threshold: See :meth:`explanation`.
        """
        found = self.explanation(threshold)
        if found is not None:
            return found.cause
        return SMALL if self.small else None

    def told(self, threshold: float) -> str:
        """The explanation, or that there is none, in one or two sentences.

        Args:
            threshold: See :meth:`explanation`.
        """
        found = self.explanation(threshold)
        if found is not None:
            side = "above" if self.anomalous else "not above"
            line = "the threshold"
            if found.threshold is not None:
                line += f" of {found.threshold:.3f} there"
            return f"{_cause_told(found, self.anomalous)} {found.fused:.3f}, {side} {line}."
        names = [_NAMES[cause] for cause in self.tried]
        said = f"Neither {join_words(names, 'nor')} explains it" if names else "Nothing explains it"
        if self.small:
            return f"Smaller than a patch: its mask marks {self.marked:.2f} of one. {said}."
        if self.anomalous:
            return f"{said}. To this model it looks like the normals."
        part = min(self.helpful, key=lambda one: one.fused, default=None)
        if part is None:
            return f"{said}. Perhaps the normals do not show all that is good."
        return f"{said}. Most comes from {_NAMES[part.cause]}: without, it scores {part.fused:.3f}."


_NAMES = {
    LIGHT: "light",
    POSITION: "position",
    TEXTURE: "texture",
    SMALL: "size",
    NORMALS: "a single normal",
}


def _margin(reasons: Reasons, one: Correction, threshold: float) -> float:
    """How far beyond the threshold a correction brings the score; positive where it turns it."""
    line = threshold if one.threshold is None else one.threshold
    # A score at the threshold passes.
    return one.fused - line if reasons.anomalous else line - one.fused + 1e-12


def _cause_told(found: Correction, anomalous: bool) -> str:
    """A cause in words, up to the score."""
    if found.cause == LIGHT:
        what = "Of another tint"
        if abs(found.amount - 1) > 0.02:
            what = "Darker" if found.amount > 1 else "Brighter"
        hides = ", which hides it" if anomalous else ""
        return f"Unlike the normals in light. {what}{hides}: in their light it would score"
    if found.cause == POSITION:
        how = f"turned by {found.amount:g}°" if found.amount else "moved by half a patch"
        return f"Unlike the normals in position: {how}, it would score"
    if found.cause == TEXTURE:
        how = "Sharper or noisier: blurred as they are"
        if found.amount < 0:
            how = "More blurred: against normals blurred alike"
        return f"Unlike the normals in texture. {how} it would score"
    if found.cause == NORMALS:
        return f"Normal {found.amount + 1:g} looks like it: without that normal it would score"
    if anomalous:
        return "Smaller than a patch: at twice the size, beside normals as large, it would score"
    return "Unlike any normal in one patch alone: without that spot it would score"


def explain_failure(
    detector: Detector,
    normals: Sequence[ImageSource],
    query: ImageSource,
    anomalous: bool,
    bank: PromptBank,
    mask: str = "",
) -> Reasons:
    """Tries each correction on one image.

    Args:
        detector: The model that made the bank.
        normals: The images of the bank.
        query: The image.
        anomalous: Its label: a miss needs other corrections than a false alarm.
        bank: The normals' features.
        mask: Path of the image that marks its defect; empty where there is none.

    Raises:
        InctrlError: An image cannot be used.
    """
    config = detector.config.preprocess
    score = detector.score([query], bank)[0]
    opened = open_failure(config, bank.levels, normals, query, anomalous, score.patch_map, mask)
    return find_reasons(detector, bank, opened)


def find_reasons(
    detector: Detector, bank: PromptBank, opened: OpenedFailure, fails: bool = True
) -> Reasons:
    """Scores each correction of one image; nothing of the result lies on the model's device.

    Args:
        detector: The model that made the bank.
        bank: The normals.
        opened: The image, see :func:`open_failure`.
        fails: False for an image that is judged rightly: nothing is corrected.
    """
    encoded = detector.encode_for(bank, [opened.query])
    score = detector.score_encoded(encoded, bank)[0]
    ranges = normal_range(detector, bank)
    found: list[Correction] = []
    tried: tuple[str, ...] = ()
    if fails and opened.anomalous:
        found = correct_miss(detector, bank, encoded, opened)
        tried = LIGHT, *([] if opened.enlarged is None else [SMALL]), NORMALS
    elif fails:
        found, tried = correct_alarm(detector, bank, encoded, opened), CAUSES[:4]
    return Reasons(
        opened.anomalous,
        score.fused,
        0.0 if ranges is None else float(np.median(ranges.fused)),
        opened.patch,
        patch_matches(score, *opened.patch),
        tuple(found),
        tried,
        opened.marked,
    )
