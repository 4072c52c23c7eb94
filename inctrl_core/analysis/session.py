"""One visitor's result: a bank, an encoded query and all that follows from them.

A :class:`Session` is never changed; each step returns a new one, and nothing of it is kept anywhere
else.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from PIL import Image

from ..config import ModelConfig
from ..images.preprocessing import CropBox
from ..model.bank import PromptBank
from ..model.detector import EncodedImages
from ..model.score import Score
from .closer import CloserLook
from .decision import Decision
from .explanations import Ledger, TextEvidence
from .export import file_names
from .measured_bank import MeasuredBank, grade
from .normal_range import NormalRange
from .patch_scale import PatchScale
from .stress import DropOne

# How long an idle visitor's images and results are kept.
SESSION_SECONDS = 3600

Phrases = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Picture:
    """An image for the screen.

    Attributes:
        image: RGB, no larger than a screen needs.
        crop_box: The part that was seen, in pixels of ``image``.
    """

    image: Image.Image
    crop_box: CropBox

    @property
    def seen_share(self) -> float:
        """Share of the area that was seen, in [0, 1]."""
        left, top, right, bottom = self.crop_box
        return (right - left) * (bottom - top) / (self.image.width * self.image.height)

    @property
    def seen_whole(self) -> bool:
        """Whether all of it was seen, but for the pixels that rounding may take."""
        return self.seen_share > 0.995


@dataclass(frozen=True, eq=False)
class ShownDefect:
    """An image that the visitor showed as a defect; its patches are in the bank.

    Attributes:
        file: Path that it came from; empty where only its patches were kept.
        shown: The image for the screen; None likewise.
        places: Rows and columns of the patches that count, counted from 0; empty likewise.
        picked: Row and column of the patch that the visitor picked; None: found in the map.
    """

    file: str = ""
    shown: Picture | None = None
    places: tuple[tuple[int, int], ...] = ()
    picked: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Session:
    """One visitor's normals, query and result.

    Attributes:
        model: Name of the model in the list.
        config: Its description.
        normal_files: Paths the normals came from, to know when they are the same again.
        measured: The features of the normals, their range and the scales of heatmaps.
        normals: The normals for the screen.
        query_file: Path that the query came from; the form may hold another by now.
        encoded: The query.
        query: The query for the screen.
        score: Its score.
        ledger: Its counterfactuals.
        text: What the prompts say of it.
        phrases: The visitor's own normal and anomaly phrases.
        before: The score before the last change to the bank, None after a plain scoring.
        change: What that change was, as a sentence.
        threshold_before: The threshold before a change to the normals.
        anomalous: Whether the query is, where that is known: of the page's own examples.
        given_names: Names that the first normals were given by their owner; those of the files
            stand for the rest.
        odd: A normal that differs too much from the others, and the score without it.
        closer: The query in parts, where it was looked at so.
        defects: The images that the visitor showed as defects, in the bank's order.
    """

    model: str
    config: ModelConfig
    normal_files: tuple[str, ...]
    measured: MeasuredBank
    normals: tuple[Picture, ...]
    query_file: str
    encoded: EncodedImages
    query: Picture
    score: Score
    ledger: Ledger
    text: TextEvidence
    phrases: Phrases = ((), ())
    before: Score | None = None
    change: str = ""
    threshold_before: float | None = None
    anomalous: bool | None = None
    given_names: tuple[str, ...] = ()
    odd: DropOne | None = None
    closer: CloserLook | None = None
    defects: tuple[ShownDefect, ...] = ()

    @property
    def bank(self) -> PromptBank:
        """The features of the normals."""
        return self.measured.bank

    @property
    def ranges(self) -> NormalRange | None:
        """The normals against each other; None where there is one."""
        return self.measured.ranges

    @property
    def decision(self) -> Decision | None:
        """The threshold, and what to expect of it; None where the model cannot tell."""
        return self.measured.decision

    @property
    def chosen(self) -> float | None:
        """The threshold that the visitor chose; None: the normals' own."""
        return self.measured.chosen

    @property
    def threshold(self) -> float | None:
        """The score above which an image counts as anomalous; None where nothing tells."""
        return self.measured.threshold

    @property
    def grade(self) -> str | None:
        """How far above the threshold the query lies: one of ``decision.GRADES``."""
        measured = self.measured
        return grade(self.score.fused, self.threshold, measured.ranges, measured.good)

    @property
    def above(self) -> bool | None:
        """Whether the query counts as anomalous; None where there is no threshold."""
        return None if self.threshold is None else self.score.fused > self.threshold

    @property
    def scales(self) -> tuple[PatchScale, ...]:
        """Heatmap scale of the mean map, then of each layer."""
        return self.measured.scales

    @property
    def normal_names(self) -> tuple[str, ...]:
        """Names of the K normals; some may be equal."""
        return self.given_names + file_names(self.normal_files)[len(self.given_names) :]

    def to(self, device: torch.device | str) -> Session:
        """The same session with its tensors on another device."""
        moved = self.measured.to(device), self.encoded.to(device)
        return dataclasses.replace(self, measured=moved[0], encoded=moved[1])
