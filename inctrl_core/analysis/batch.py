"""Many queries against one bank: rows of results that hold no image, and what they say together.

A batch may be two hundred photographs. Each is decoded once, alone, and let go; what stays is its
score, a thumbnail of a few kilobytes, and the path to open it again.
"""

from __future__ import annotations

import dataclasses
import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from ..config import PreprocessConfig
from ..errors import ImageError
from ..images.levels import Levels
from ..images.preprocessing import CropBox, aspect_mismatch
from ..images.seen import Opener, SeenImage, open_here, see_thumbnail
from ..model.bank import PromptBank
from ..model.detector import Detector
from ..model.evidence import DECIDE
from ..model.score import Score
from .decision import BELOW, RATE, Decision, GoodScores, decide
from .measured_bank import MeasuredBank, grade, threshold_of
from .normal_range import ITSELF, NormalRange
from .patch_scale import PatchScale

# What one call scores at most, so that nobody waits long for a turn at the model: so many images,
# or as many as could be opened in so many seconds.
CHUNK = 8
CHUNK_SECONDS = 1.0
THUMBNAIL = (112, 84)


@dataclass(frozen=True)
class QueryFile:
    """An image to check.

    Attributes:
        path: Where it lies.
        name: What its owner calls it; any text at all.
        anomalous: What it truly is, None where nobody knows.
        mask: Path of the image that marks its defect; empty where there is none.
    """

    path: str
    name: str
    anomalous: bool | None = None
    mask: str = ""


@dataclass(frozen=True, eq=False)
class BatchRow:
    """The result of one file of a batch.

    Attributes:
        file: The file.
        score: Without its ``layer_maps`` and ``nearest``, of which no layer is left; None where
            the file cannot be read.
        thumbnail: A JPEG no larger than ``THUMBNAIL``; empty where the file cannot be read.
        error: Why it cannot be read, in one sentence; empty where it can.
        size: Width and height of the upright original, in pixels; zeros where it cannot be read.
    """

    file: QueryFile
    score: Score | None
    thumbnail: bytes = b""
    error: str = ""
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class Batch:
    """Results of many queries against the same normals.

    Attributes:
        model: Name of the model.
        object_name: What the images show, as it went into the prompts.
        shots: Number of normals.
        ranges: The normals against each other; None where there is one.
        scale: The scale of every heatmap.
        rows: In the order of the files.
        normal_boxes: What was seen of each normal, in pixels of its original.
        levels: The levels by which the bank's images are read; None where its normals have 8 bits.
        normal_names: Names of the normals, as their owner calls them.
        copy_of: Which normals are copies of others, see :attr:`PromptBank.copy_of`.
        looks_for: What the bank looks for, see :meth:`Detector.build_bank`.
        good: The scores to expect of good images; None where the model cannot tell.
        rate: Rate of false alarms that the threshold is for.
        chosen: The threshold that somebody chose in its place; None: nobody did.
    """

    model: str
    object_name: str
    shots: int
    ranges: NormalRange | None
    scale: PatchScale
    rows: tuple[BatchRow, ...] = ()
    normal_boxes: tuple[CropBox, ...] = ()
    levels: Levels | None = None
    normal_names: tuple[str, ...] = ()
    copy_of: tuple[int | None, ...] = ()
    looks_for: str = DECIDE
    good: GoodScores | None = None
    rate: float = RATE
    chosen: float | None = None

    @property
    def decision(self) -> Decision | None:
        """The threshold, and what to expect of it; None where the model cannot tell."""
        return decide(self.good, self.rate, self.chosen)

    @property
    def threshold(self) -> float | None:
        """The score above which an image counts as anomalous; None where nothing tells."""
        if self.chosen is not None:
            return self.chosen
        decision = self.decision
        return threshold_of(self.ranges, None) if decision is None else decision.threshold

    @property
    def ranked(self) -> tuple[BatchRow, ...]:
        """The rows, highest score first, those without one last."""
        return tuple(sorted(self.rows, key=lambda row: -row.score.fused if row.score else np.inf))

    @property
    def scored(self) -> tuple[BatchRow, ...]:
        """The rows that have a score, in the order of the files."""
        return tuple(row for row in self.rows if row.score is not None)

    def index(self, row: BatchRow) -> int:
        """Place of a row's file in the order in which the files were given, counted from 0."""
        return self._places[id(row)]

    def name(self, row: BatchRow) -> str:
        """A row's name; with its file's number, counted from 1, where others have that name too."""
        name = row.file.name
        return f"{name} (file {self.index(row) + 1})" if self._names[name] > 1 else name

    @cached_property
    def _names(self) -> Counter[str]:
        return Counter(row.file.name for row in self.rows)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {id(row): place for place, row in enumerate(self.rows)}

    def aspect_mismatch(self, row: BatchRow) -> bool:
        """Whether a row's image has none of the normals' proportions, so is squeezed otherwise."""
        if row.score is None or not self.normal_boxes:
            return False
        return aspect_mismatch(row.score.crop_box, self.normal_boxes) is not None

    def standing(self, row: BatchRow) -> str:
        """Where a row's score lies among the normals' own; "" where there is no range or score.

        ``ITSELF`` where the image is one of the normals: its score says nothing.
        """
        if row.score is not None and row.score.copy_of is not None:
            return ITSELF
        if self.ranges is None or row.score is None:
            return ""
        return self.ranges.standing(row.score.fused)

    def grade(self, row: BatchRow) -> str | None:
        """How far above the threshold a row lies: one of ``decision.GRADES``, or None."""
        if row.score is None or row.score.copy_of is not None:
            return None
        return grade(row.score.fused, self.threshold, self.ranges, self.good)

    def above(self, row: BatchRow) -> bool | None:
        """Whether a row counts as anomalous; None where nothing says."""
        found = self.grade(row)
        return None if found is None else found != BELOW

    @property
    def truths(self) -> tuple[tuple[bool, float], ...]:
        """(anomalous, fused) of each row with a score, or nothing unless all are known."""
        known = tuple((row.file.anomalous, row.score.fused) for row in self.scored)
        return () if any(anomalous is None for anomalous, _ in known) else known


def start_batch(measured: MeasuredBank, model: str, normal_names: Sequence[str]) -> Batch:
    """A batch without rows yet: what the normals say before any query is seen.

    Args:
        measured: The normals.
        model: The model's name, as it is to be shown.
        normal_names: Names of the normals, as they are to be shown.
    """
    bank = measured.bank
    return Batch(
        model=model,
        object_name=bank.object_name,
        shots=bank.shots,
        ranges=measured.ranges,
        scale=measured.scale,
        normal_boxes=bank.crop_boxes,
        levels=bank.levels,
        normal_names=tuple(normal_names),
        copy_of=bank.copy_of,
        looks_for=bank.looks_for,
        good=measured.good,
        chosen=measured.chosen,
    )


def open_chunk(
    config: PreprocessConfig,
    files: Sequence[QueryFile],
    levels: Levels | None = None,
    opener: Opener = open_here,
) -> tuple[SeenImage | str, ...]:
    """Opens the first of ``files``: at most ``CHUNK``, fewer where they take long.

    Args:
        config: How the model sees images.
        files: At least one.
        levels: The levels of the bank.
        opener: Opens an image.

    Returns:
        For each what is left of it, or why it cannot be read; at least one.
    """
    deadline = time.monotonic() + CHUNK_SECONDS
    images: list[SeenImage | str] = []
    for file in files[:CHUNK]:
        try:
            images.append(opener(see_thumbnail, file.path, config, THUMBNAIL, levels=levels))
        except ImageError as error:
            images.append(str(error))
        if time.monotonic() > deadline:
            break
    return tuple(images)


def score_chunk(
    detector: Detector,
    bank: PromptBank,
    files: Sequence[QueryFile],
    images: Sequence[SeenImage | str] | None = None,
) -> tuple[BatchRow, ...]:
    """Scores the first of ``files``; what a row says does not depend on its neighbours.

    Args:
        detector: The model that made the bank.
        bank: The normals.
        files: At least one.
        images: What :func:`open_chunk` has opened of them; None: it is called here.

    Returns:
        Rows of the files that were opened.
    """
    if images is None:
        levels = None if bank is None else bank.levels
        images = open_chunk(detector.config.preprocess, files, levels)
    seen = [image for image in images if isinstance(image, SeenImage)]
    scores = iter(_scores(detector, bank, seen))
    return tuple(
        BatchRow(file, None, error=image)
        if isinstance(image, str)
        else BatchRow(file, next(scores), _jpeg(image.shown), size=image.size)
        for file, image in zip(files, images, strict=False)
    )


def _scores(
    detector: Detector,
    bank: PromptBank,
    images: Sequence[SeenImage],
) -> list[Score]:
    if not images:
        return []
    scores = detector.score_encoded(detector.encode_for(bank, images), bank)
    return [
        # Copies: a view of one image's map would keep those of all its neighbours in memory.
        dataclasses.replace(
            score,
            patch_map=score.patch_map.copy(),
            layer_maps=score.layer_maps[:0].copy(),
            nearest=score.nearest[:0].copy(),
        )
        for score in scores
    ]


def _jpeg(small: Image.Image) -> bytes:
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return stream.getvalue()
