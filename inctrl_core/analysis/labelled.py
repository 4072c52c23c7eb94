"""Scores of images whose truth is known: figures, counts at a threshold, and the failures in order.

Nothing here computes a score, so another threshold costs no forward pass.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InctrlError
from ..images.files import ImageSource, check_listed, plain_name
from ..model.bank import PromptBank
from ..model.detector import Detector
from ..model.prompts import DEFAULT_OBJECT_NAME
from ..model.score import Score
from .batch import Batch, QueryFile
from .batch_job import score_batch
from .decision import check_threshold
from .export import batch_dict, file_names
from .metrics import image_metrics

# An image's place on either side of the threshold, the wrong ones first.
OUTCOMES = MISS, FALSE_ALARM, FOUND, PASSED = "miss", "false alarm", "found", "passed"
FAILURES = MISS, FALSE_ALARM


@dataclass(frozen=True, eq=False)
class Labelled:
    """A scored image whose truth is known.

    Attributes:
        name: Its name; any text.
        score: Its score.
        anomalous: Its label.
        index: Its place in the input, counted from 0.
        mask: Path of the image that marks its defect; empty where there is none.
    """

    name: str
    score: Score
    anomalous: bool
    index: int = 0
    mask: str = ""


@dataclass(frozen=True, eq=False)
class LabelledResult:
    """Labelled images beside a threshold.

    Attributes:
        images: Those that count, in their order.
        threshold: Images with a fused score above it are called anomalous.
        among_normals: Good images left out, as they are normals of the bank or copies of them: they
            find themselves, so that they pass says nothing. A bad image that looks the same as a
            normal counts: that is how it is missed.
    """

    images: tuple[Labelled, ...]
    threshold: float
    among_normals: tuple[Labelled, ...] = ()

    def at(self, threshold: float) -> LabelledResult:
        """The same images beside another threshold.

        Raises:
            InctrlError: It is no number in [0, 1].
        """
        return dataclasses.replace(self, threshold=check_threshold(threshold))

    def outcome(self, image: Labelled) -> str:
        """One of ``OUTCOMES``."""
        above = image.score.fused > self.threshold
        if image.anomalous:
            return FOUND if above else MISS
        return FALSE_ALARM if above else PASSED

    @property
    def counts(self) -> dict[str, int]:
        """How many images have which of ``OUTCOMES``."""
        counted = Counter(map(self.outcome, self.images))
        return {outcome: counted[outcome] for outcome in OUTCOMES}

    @property
    def metrics(self) -> dict[str, float] | None:
        """``auroc`` and ``ap``, which no threshold changes; None where all are of one kind."""
        labels = np.array([image.anomalous for image in self.images], dtype=bool)
        if labels.all() or not labels.any():
            return None
        found = image_metrics(labels, np.array([image.score.fused for image in self.images]))
        return {name: found[name] for name in ("auroc", "ap")}

    @property
    def failures(self) -> tuple[Labelled, ...]:
        """Misses, then false alarms, each the farthest from the threshold first."""
        return tuple(image for image in self.ordered if self.outcome(image) in FAILURES)

    @property
    def ordered(self) -> tuple[Labelled, ...]:
        """The failures, then what was found, then what was passed, each nearest last or first.

        Of what is right those nearest to the threshold come first: they might have failed.
        """

        def place(image: Labelled) -> tuple[int, float]:
            outcome = self.outcome(image)
            distance = abs(image.score.fused - self.threshold)
            return OUTCOMES.index(outcome), -distance if outcome in FAILURES else distance

        return tuple(sorted(self.images, key=place))

    def to_dict(self) -> dict[str, Any]:
        """Figures and counts, ready for ``json.dumps``."""
        return {
            "threshold": self.threshold,
            "metrics": self.metrics,
            "counts": {
                "misses": self.counts[MISS],
                "false_alarms": self.counts[FALSE_ALARM],
                "found": self.counts[FOUND],
                "passed": self.counts[PASSED],
            },
            "among_normals": [image.index for image in self.among_normals],
        }


def judge_labelled(images: Sequence[Labelled], threshold: float) -> LabelledResult:
    """Figures of scored images whose truth is known.

    Args:
        images: Scored images with their labels.
        threshold: Fused score above which an image is called anomalous, in [0, 1].

    Raises:
        InctrlError: There is no image, or no such threshold.
    """
    if not images:
        raise InctrlError("Add images that are known to be good or bad.")
    threshold = check_threshold(threshold)
    left_out = [one for one in images if one.score.copy_of is not None and not one.anomalous]
    counted = [one for one in images if one.score.copy_of is None or one.anomalous]
    return LabelledResult(tuple(counted), threshold, tuple(left_out))


def judge_batch(batch: Batch, threshold: float | None = None) -> LabelledResult | None:
    """Figures of the images of a batch whose truth is known.

    Args:
        batch: The results.
        threshold: See :func:`judge_labelled`; None: the batch's own, see :func:`own_threshold`.

    Returns:
        None where no image with a known truth has a score.
    """
    images = [
        Labelled(
            plain_name(batch.name(row)),
            row.score,
            row.file.anomalous,
            batch.index(row),
            row.file.mask,
        )
        for row in batch.scored
        if row.file.anomalous is not None
    ]
    if not images:
        return None
    return judge_labelled(images, own_threshold(batch) if threshold is None else threshold)


def score_labelled(
    detector: Detector,
    normals: Sequence[ImageSource] | PromptBank,
    good: Sequence[ImageSource],
    bad: Sequence[ImageSource],
    object_name: str = DEFAULT_OBJECT_NAME,
    threshold: float | None = None,
) -> LabelledResult:
    """Scores images that are known to be good or bad, and judges them by a threshold.

    Args:
        detector: The model.
        normals: As for :func:`.batch_job.score_batch`.
        good: Images that are known to be good; may be empty.
        bad: Images that are known to be bad; may be empty.
        object_name: What they show.
        threshold: Fused score above which an image is called anomalous; None: see
            :func:`own_threshold`.

    Raises:
        InctrlError: The normals, the name or the threshold cannot be used, or no image can.
    """
    for images in (good, bad):
        check_listed(images)
    labels = [False] * len(good) + [True] * len(bad)
    listed = zip((*good, *bad), file_names((*good, *bad)), labels, strict=True)
    queries = [QueryFile(image, name, anomalous) for image, name, anomalous in listed]
    batch = score_batch(detector, normals, queries, object_name)
    result = judge_batch(batch, threshold)
    if result is None:
        raise InctrlError(batch.rows[0].error)
    return result


def labelled_dict(
    batch: Batch,
    threshold: float | None = None,
    entries: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """A batch with labels, ready for ``json.dumps``.

    Args:
        batch: The results.
        threshold: See :func:`judge_batch`.
        entries: As for :func:`.export.batch_dict`.

    Returns:
        :func:`.export.batch_dict`, whose results have their ``outcome`` too, None where an image
        does not count; and ``labelled``, see :meth:`LabelledResult.to_dict`, None where none does.
    """
    result = judge_batch(batch, threshold)
    images = () if result is None else result.images
    outcomes = {image.index: result.outcome(image) for image in images}
    ranked = batch.ranked
    more = [
        {**entry, "outcome": outcomes.get(batch.index(row))}
        for row, entry in zip(ranked, entries or [{}] * len(ranked), strict=True)
    ]
    told = None if result is None else result.to_dict()
    return {"labelled": told} | batch_dict(batch, more)


def own_threshold(batch: Batch) -> float:
    """The threshold of a batch, or, where nothing tells it, the highest score of a good image.

    The latter with a model without figures of good images and a single normal: the labels
    themselves have to tell.
    """
    if batch.threshold is not None:
        return batch.threshold
    good = [row.score.fused for row in batch.scored if row.file.anomalous is False]
    return max(good, default=0.5)
