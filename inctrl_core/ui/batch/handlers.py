"""The handlers of the tab Batch; all that belongs to a visitor comes in as an argument."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Mapping
from typing import Any

import gradio as gr

from ...analysis.batch import BatchRow, open_chunk, score_chunk
from ...analysis.batch_job import BatchJob, check_files, files_problem, new_job
from ...analysis.export import batch_csv, batch_json, write_zip
from ...analysis.inspection import has_bank_of, same_files
from ...analysis.session import Session
from ...checkpoints.hub import Progress
from ...errors import InctrlError
from ...model.bank import check_shots
from ...model.prompts import DEFAULT_OBJECT_NAME
from ..common.choices import Choices, judged_by
from ..common.downloads import new_file
from ..common.events import sent
from ..common.examples import ExampleSet, match_example, queries_html
from ..common.form import (
    UploadedFile,
    UploadedFiles,
    UploadedGallery,
    check_normals,
    file_path,
    gallery_names,
    gallery_paths,
    query_files,
)
from ..common.markup import error_html
from ..common.models import ModelRegistry
from ..common.runner import ModelRunner, download_progress
from .given import collect, let_go

GONE = "These results are no longer here; score the images again."


class BatchHandlers:
    """Handlers over what all visitors share.

    Args:
        registry: The models.
        examples: The example sets.
    """

    def __init__(self, registry: ModelRegistry, examples: Mapping[str, ExampleSet]) -> None:
        self.run = ModelRunner(registry)
        self.examples = examples

    def take_normals(
        self,
        files: UploadedFiles,
        model: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> list[str]:
        """Paths of the images to be taken as normals, chosen among those to check."""

        def show(done: int, steps: int) -> None:
            progress((done, steps), desc="Comparing the images with each other")

        given = query_files(files)
        paths = [file.path for file in given]
        try:
            check_files(given)
            found = self.run.find_normals(model, paths, show, download_progress(progress))
        except InctrlError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return [paths[place] for place in found.normals]

    def start(
        self,
        normals: UploadedGallery,
        files: UploadedFiles,
        object_name: str | None,
        model: str,
        session: Session | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
        good: UploadedFiles = None,
        bad: UploadedFiles = None,
        archive: UploadedFile = None,
        previous: BatchJob | None = None,
        choices: Choices | None = None,
    ) -> BatchJob:
        """Makes the bank and the job; the rows come in the turns that follow.

        Args:
            normals: The form's.
            files: Images to check.
            object_name: What they show.
            model: Name of the model.
            session: The visitor's.
            progress: The page's.
            good: Images known to be good.
            bad: Images known to be bad.
            archive: A ZIP of labelled folders.
            previous: The visitor's last job, which ends with this one.
            choices: Choices for normals that are not scored yet.

        Raises:
            InctrlError: Something of it cannot be used.
        """
        fields = files, good, bad, archive
        progress(0.1, desc="Looking at the normals")
        about = model, object_name or "", session, download_progress(progress)
        job = self._make_job(normals, fields, *about, previous, choices)
        if previous is not None:
            let_go(previous.unpacked)
        return job

    def _make_job(
        self,
        normals: UploadedGallery,
        fields: tuple[UploadedFiles, UploadedFiles, UploadedFiles, UploadedFile],
        model: str,
        object_name: str,
        session: Session | None,
        on_progress: Progress,
        previous: BatchJob | None,
        choices: Choices | None,
    ) -> BatchJob:
        paths, names = gallery_paths(normals), gallery_names(normals)
        if not file_path(fields[-1]):
            check_shots(len(paths))
        given = collect(*fields, self.examples, self.run.images, needs_normals=not paths)
        try:
            if given.normals:
                paths, names = given.normals, ()
            check_shots(len(paths))
            known = choices is None or has_bank_of(session, model, paths)
            chosen = None if known or not choices.hold_for(paths) else choices
            wanted = (None, None) if chosen is None else (chosen.looks_for, chosen.part)
            about = model, paths, object_name, session, on_progress
            measured = self.run.measure(*about, *wanted)
            if chosen is not None:
                measured = judged_by(measured, paths, choices, self.run.digest(model))
            about = secrets.token_hex(8), model, paths, given.queries, session, names
            job = new_job(measured, *about)
        except BaseException:
            let_go(given.unpacked)
            raise
        return dataclasses.replace(
            job,
            example=given.example,
            fails=(self.examples[given.example].fails or "") if given.example else "",
            labelled=given.labelled,
            notes=(*given.notes, *_price(job, previous)),
            unpacked=given.unpacked,
            started=time.monotonic(),
        )

    def advance(self, job: BatchJob) -> BatchJob:
        """Scores the next few files of a job that is not finished.

        Raises:
            InctrlError: The model cannot be used.
        """
        config = self.run.sees(job.model)
        images = open_chunk(config, job.waiting, job.bank.levels, self.run.images)
        waiting = job.waiting[: len(images)]
        rows = self.run(score_chunk, job.model, job.bank, waiting, images)
        return job.with_rows(rows, time.monotonic())

    def open_row(
        self, job: BatchJob | None, session: Session | None, event: gr.EventData
    ) -> tuple[Any, ...]:
        """Scores the image of a row for Inspect, against the normals of the batch.

        Returns:
            The session, then the form: normals, query, name, model, and the example's queries.
        """
        try:
            row = _row(job, sent(event))
            files = job.normal_files, row.file.path
            opened = self.run.start_session(job.model, files, job.batch.object_name, session)
        except InctrlError as error:
            # The place of the result is in another tab, which is not to open.
            raise gr.Error(str(error), print_exception=False) from None
        queries = ""
        if job.example:
            example = self.examples[job.example]
            _, places = match_example([row.file.path], {job.example: example})
            queries = queries_html(example, places[0]) if places else ""
            opened = dataclasses.replace(opened, anomalous=row.file.anomalous)
        # The field stays empty where nothing was typed.
        typed = job.batch.object_name
        name = "" if typed == DEFAULT_OBJECT_NAME else typed
        return opened, list(job.normal_files), row.file.path, name, job.model, queries

    def take_good(self, job: BatchJob | None, event: gr.EventData) -> list[str]:
        """The batch's normals and the image of a row, which is good."""
        try:
            row = _row(job, sent(event))
            check_shots(len(job.normal_files) + 1)
        except InctrlError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return [*job.normal_files, row.file.path]

    def export_csv(self, job: BatchJob | None) -> tuple[str | None, str]:
        """Writes the table."""
        if job is None:
            return None, error_html(GONE)
        with new_file("inctrl-batch.csv") as path:
            path.write_text(batch_csv(job.batch), encoding="utf-8-sig", newline="")
        return str(path), ""

    def export_json(self, job: BatchJob | None) -> tuple[str | None, str]:
        """Writes everything but the pictures."""
        if job is None:
            return None, error_html(GONE)
        with new_file("inctrl-batch.json") as path:
            path.write_text(batch_json(job.batch), encoding="utf-8")
        return str(path), ""

    def export_zip(
        self,
        job: BatchJob | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> tuple[str | None, str]:
        """Writes the archive of overlays and raw maps."""
        if job is None:
            return None, error_html(GONE)

        def show(done: int, total: int) -> None:
            progress((done, total), desc="Drawing", unit="images")

        with new_file("inctrl-batch.zip") as path:
            left_out = write_zip(path, job.batch, show, self.run.images)
        if not left_out:
            return str(path), ""
        return str(path), (
            f'<p class="ic-small">The ZIP has no room for the overlays of {left_out} large images '
            "with lower scores; their raw maps are in it.</p>"
        )


def check_batch(
    normals: UploadedGallery,
    files: UploadedFiles,
    object_name: str | None,
    model: str,
    session: Session | None,
    *labelled: Any,
) -> list[dict[str, Any]]:
    """Says beside each field what is missing, before anything runs; one answer for each."""
    good, bad, archive = (*labelled, None, None, None)[:3]
    given = [file for part in (files, good, bad) for file in query_files(part)]
    fine, packed = gr.validate(True, ""), bool(file_path(archive))
    # How many images a ZIP holds, and whether normals are among them, is seen when it is opened.
    problem = "" if packed and not given else files_problem(given)
    normal = fine if packed and not gallery_paths(normals) else check_normals(normals)
    return [normal, gr.validate(not problem, problem), *[fine] * (3 + len(labelled))]


def _price(job: BatchJob, previous: BatchJob | None) -> tuple[str, ...]:
    """The effect of one more normal on the threshold, where that is all that has changed."""
    if previous is None or previous.model != job.model:
        return ()
    if not same_files(previous.normal_files, job.normal_files[:-1]):
        return ()
    before, after = previous.batch.threshold, job.batch.threshold
    if before is None or after is None:
        return ()
    if after <= before:
        return (f"One more normal: the threshold falls from {before:.3f} to {after:.3f}",)
    return (
        f"One more normal, and its price: the threshold rises from {before:.3f} to {after:.3f}, so "
        "faults that score less than that pass",
    )


def _row(job: BatchJob | None, data: Mapping[str, Any]) -> BatchRow:
    if job is None:
        raise InctrlError(GONE)
    rows = job.batch.rows
    try:
        place = int(data["row"])
        if data["job"] != job.key or not 0 <= place < len(rows) or rows[place].score is None:
            raise InctrlError(GONE)
    except (KeyError, OverflowError, TypeError, ValueError):
        raise InctrlError(GONE) from None
    return rows[place]
