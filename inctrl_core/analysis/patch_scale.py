"""The scale of a heatmap, from the normals alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..images.overlay import OverlayStyle
from ..model.bank import PromptBank

# Top of the heatmap's scale where a single normal gives no range of its own: a quarter of the way
# from "same direction" (0) to "opposite" (1), half of the way to "nothing in common" (0.5).
UNCALIBRATED_HIGH = 0.25
# The scale never gets narrower than this, so that identical normals do not magnify rounding.
NARROWEST_SCALE = 0.02
# With normals that vary this far, twice their largest distance; the middle of the scale is it.
SCALE_OVER_NORMAL = 2.0


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
