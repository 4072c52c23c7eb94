"""What the part of the tab Batch for labelled images does; a visitor's data come as arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from PIL import Image

from ...analysis.batch_job import BatchJob
from ...analysis.corrections import open_failure, open_normals_seen
from ...analysis.export import safe_names
from ...analysis.labelled import FAILURES, Labelled, LabelledResult, judge_batch
from ...analysis.reasons import Reasons, find_reasons
from ...errors import InctrlError
from ..common.downloads import new_file
from ..common.markup import error_html
from ..common.runner import ModelRunner
from .histogram import histogram_html
from .labelled_html import LOOKING, card_html, figures_html, nothing_html, reason_html
from .labelled_report import labelled_report
from .pictures import Pictures, draw_patch_pair, draw_pictures

# An image that is looked at: the key of its job, its index, and whether it fails.
Place = tuple[str, int, bool]

ONLY_FAILURES, EVERY = "Failures", "All images"


@dataclass(frozen=True, eq=False)
class Found:
    """The reasons that were looked for so far; they belong to one job.

    Attributes:
        key: The job's key.
        normals: What the model sees of the normals.
        reasons: By the image's index and whether it fails; a sentence where it cannot be opened.
    """

    key: str = ""
    normals: tuple[Image.Image, ...] = ()
    reasons: Mapping[tuple[int, bool], Reasons | str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Drawn:
    """The pictures of the image that is shown, so that a slider need not open it again.

    Attributes:
        key: The job's key.
        index: The image's index.
        pictures: Its pictures.
    """

    key: str
    index: int
    pictures: Pictures


@dataclass(frozen=True, eq=False)
class Look:
    """What is shown at a threshold.

    Attributes:
        line: The threshold.
        place: The image that is shown; None where none is.
        figures: Markup of counts and metrics.
        card: Markup of the image.
        reason: Markup of its reason.
        histogram: Markup of all scores.
        drawn: The pictures of the image; None where there are none.
    """

    line: float
    place: Place | None
    figures: str
    card: str
    reason: str
    histogram: str
    drawn: Drawn | None = None


class LabelledHandlers:
    """Handlers over what all visitors share.

    Args:
        run: Calls the model.
    """

    def __init__(self, run: ModelRunner) -> None:
        self.run = run

    def look(
        self,
        job: BatchJob,
        result: LabelledResult,
        which: str,
        place: Place | None = None,
        found: Found | None = None,
        by: int = 0,
        drawn: Drawn | None = None,
    ) -> Look:
        """Figures and one image: that of the place, or where it is not listed any more the first.

        Args:
            job: The visitor's.
            result: Its figures.
            which: ``ONLY_FAILURES`` or ``EVERY``.
            place: The image that was shown last.
            found: The reasons that are known.
            by: -1 for the image before, 1 for the next; around the ends.
            drawn: The pictures that were shown last.
        """
        listed = result.ordered if which == EVERY else result.failures
        about = result.threshold, None, figures_html(result, job.batch)
        histogram = histogram_html(job.batch, result.threshold)
        if not listed:
            return Look(*about, nothing_html(result), "", histogram)
        indices = [image.index for image in listed]
        at = 0
        if image_at(job, result, place) is not None and place[1] in indices:
            at = (indices.index(place[1]) + by) % len(listed)
        image = listed[at]
        here = job.key, image.index, result.outcome(image) in FAILURES
        try:
            drawn = self._draw(job, image.index, drawn)
        except InctrlError as error:
            return Look(about[0], here, about[2], error_html(str(error)), "", histogram)
        card = card_html(result, image, at, len(listed), drawn.pictures)
        reason = self.reason(job, result, here, found, drawn)
        return Look(about[0], here, about[2], card, reason, histogram, drawn)

    def find(
        self, job: BatchJob, result: LabelledResult, place: Place | None, found: Found | None
    ) -> Found | None:
        """The reasons with those of one image, unless they were found before."""
        image = image_at(job, result, place)
        if image is None:
            return found
        if found is None or found.key != job.key:
            found = Found(job.key)
        fails = result.outcome(image) in FAILURES
        if (image.index, fails) in found.reasons:
            return found
        try:
            found, reasons = self._look_for(job, image, fails, found)
        except InctrlError as error:
            reasons = str(error)
        known = {**found.reasons, (image.index, fails): reasons}
        return dataclasses.replace(found, reasons=known)

    def reason(
        self,
        job: BatchJob,
        result: LabelledResult,
        place: Place | None,
        found: Found | None,
        drawn: Drawn | None = None,
    ) -> str:
        """Markup of the reason of one image, or of that it is being looked for."""
        image = image_at(job, result, place)
        if image is None:
            return ""
        fails = result.outcome(image) in FAILURES
        known = None
        if found is not None and found.key == job.key:
            known = found.reasons.get((image.index, fails))
        if known is None:
            return LOOKING
        if isinstance(known, str):
            return error_html(known)
        row = job.batch.rows[image.index]
        try:
            pictures = self._draw(job, image.index, drawn).pictures
        except InctrlError as error:
            return error_html(str(error))
        normal = found.normals[known.nearest.normal]
        pair = draw_patch_pair(known, pictures.plain, row, normal)
        return reason_html(known, fails, result.threshold, pair)

    def _draw(self, job: BatchJob, index: int, drawn: Drawn | None) -> Drawn:
        if drawn is not None and (drawn.key, drawn.index) == (job.key, index):
            return drawn
        return Drawn(
            job.key, index, draw_pictures(job.batch, job.batch.rows[index], self.run.images)
        )

    def report(
        self,
        job: BatchJob,
        result: LabelledResult,
        found: Found | None,
        on_progress: Callable[[int, int], None],
    ) -> Path:
        """Writes one page of the figures and of all failures, to download."""
        known = {}
        if found is not None and found.key == job.key:
            told = found.reasons.items()
            known = {i: r for (i, fails), r in told if fails and isinstance(r, Reasons)}
        page = labelled_report(job, result, known, self.run.images, date.today(), on_progress)
        name = safe_names([job.batch.object_name])[0]
        with new_file(f"InCTRL {name} labelled.html") as path:
            path.write_text(page, encoding="utf-8")
        return path

    def _look_for(
        self, job: BatchJob, image: Labelled, fails: bool, found: Found
    ) -> tuple[Found, Reasons]:
        config, levels, files = self.run.sees(job.model), job.bank.levels, job.normal_files
        opener = self.run.images
        normals = found.normals or open_normals_seen(config, levels, files, opener)
        found = dataclasses.replace(found, normals=normals)
        row = job.batch.rows[image.index]
        about = row.file.path, image.anomalous, row.score.patch_map, image.mask
        opened = open_failure(config, levels, files, *about, normals, opener)
        return found, self.run(find_reasons, job.model, job.bank, opened, fails)


def labelled_result(job: BatchJob | None, line: float | None) -> LabelledResult | None:
    """The figures of a job; None where it has none.

    Args:
        job: A visitor's.
        line: The threshold; None: the batch's own.

    Raises:
        InctrlError: There is no such threshold.
    """
    if not isinstance(job, BatchJob) or not job.labelled:
        return None
    return judge_batch(job.batch, line)


def image_at(job: BatchJob, result: LabelledResult, place: Place | None) -> Labelled | None:
    """The image at a place; None where that is another job's, or there is none."""
    if not isinstance(place, tuple) or place[0] != job.key:
        return None
    return next((image for image in result.images if image.index == place[1]), None)
