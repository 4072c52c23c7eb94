"""The yardstick of a score: the normals' own range.

Nothing here runs the backbone: every figure follows from a bank and an encoded query, through the
same fusion that made the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..model.bank import PromptBank
from ..model.detector import Detector

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
