"""The tab Batch: many images against the form's normals, ranked."""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr

from ...analysis.batch_job import MAX_FILES, MAX_TOTAL_BYTES, BatchJob
from ...analysis.session import Session
from ...errors import InctrlError
from ...images.limits import most_bytes
from ..common.choices import Choices
from ..common.downloads import DOWNLOAD
from ..common.examples import ON_LOAD, gallery_html
from ..common.form import (
    ANALYSIS_QUEUE,
    IMAGE_FILES,
    MODEL_QUEUE,
    OpenAfter,
    Shared,
    Shown,
    UploadedFile,
    UploadedFiles,
    UploadedGallery,
)
from ..common.markup import error_html
from ..common.scripts import BATCH_CHANGED, BATCH_NAME_CHANGED, SHOWN
from .given import let_go
from .handlers import BatchHandlers, check_batch
from .histogram import histogram_html
from .labelled_view import LabelledView
from .table import ON_LOAD as TABLE_ON_LOAD
from .table import progress_html, summary_html, table_html

WELCOME = (
    '<div class="ic-welcome"><h2>Which of these are unlike the others?</h2><p>Add normal images in '
    "the form and the images to check above, and press <strong>Score all</strong>; or try an "
    "example. Without normals it finds some among the images.</p></div>"
)
LABELLED_EXAMPLE = "light-guide"  # With a miss and a false alarm of the embedded model.
BROKEN = "Something went wrong while scoring; try again, or use fewer images."
TO_THE_TOP = "() => { if (window.innerWidth >= 800) window.scrollTo({top: 0}); }"


class BatchTab:
    """Components of the tab and their events.

    Args:
        shared: The form, the session and what all visitors share.
        open_in_inspect: :meth:`InspectTab.open_after`, for the image of a row.
    """

    id = "batch"
    title = "Batch"

    def __init__(self, shared: Shared, open_in_inspect: OpenAfter) -> None:
        self.handlers = BatchHandlers(shared.registry, shared.examples)
        self.shared, self.examples = shared, shared.examples
        self.form = shared.form
        self.session = shared.session
        self.choices = shared.choices
        self.open_in_inspect = open_in_inspect

    def build(self) -> None:
        """Lays out the tab."""
        lifetime = self.session.time_to_live
        self.job = gr.State(None, time_to_live=lifetime, delete_callback=forget)
        self.turn = gr.State("")
        self.stopped = gr.State("")
        self.files = gr.File(
            label=f"3. Images to check, up to {MAX_FILES}",
            file_count="multiple",
            file_types=IMAGE_FILES,
            height=170,
            elem_id="batch-files",
        )
        self.find = gr.Button(
            "No normals? Find them among these images", size="sm", elem_id="batch-find"
        )
        self.histogram = gr.HTML(elem_id="batch-histogram", render=False)
        self.labelled = LabelledView(self.handlers.run, self.job, self.histogram)
        self.labelled.build_fields()
        with gr.Row(elem_id="batch-buttons"):
            self.button = gr.Button("Score all", variant="primary", elem_id="batch-run")
            self.stop = gr.Button("Stop", visible=False, elem_id="batch-stop")
            gr.HTML(_limits_html(), elem_id="batch-limits")
        self.notice = gr.HTML(WELCOME, elem_id="batch-notice")
        with gr.Column(visible=False, elem_id="batch-result") as self.result:
            self.summary = gr.HTML(elem_id="batch-summary")
            self.labelled.build_result()
            self.histogram.render()
            self._build_downloads()
            self.table = gr.HTML(js_on_load=TABLE_ON_LOAD, elem_id="batch-table")
        with gr.Accordion("Try with an example", open=True, elem_id="batch-examples") as self.tries:
            self.gallery = gr.HTML(gallery_html(self.examples), js_on_load=ON_LOAD)

    def _build_downloads(self) -> None:
        with gr.Row(elem_id="batch-downloads"):
            self.csv = gr.Button("Table (CSV)", size="sm", elem_id="batch-csv")
            self.json = gr.Button("All figures (JSON)", size="sm", elem_id="batch-json")
            self.zip = gr.Button("Heatmaps and raw maps (ZIP)", size="sm", elem_id="batch-zip")
        self.note = gr.HTML(elem_id="batch-note")
        self.download = gr.DownloadButton(visible=False)

    def wire(self) -> None:
        """Connects the events."""
        self._wire_starts()
        self._wire_turns()
        self._wire_changes()
        self._wire_opening()
        self._wire_downloads()
        self.labelled.wire()

    def _wire_starts(self) -> None:
        self._start_after(self.button.click)
        for chosen, fill in (
            (self.gallery.click, self.fill_example),
            (self.labelled.example.click, self.fill_labelled),
        ):
            filled = chosen(
                fill,
                None,
                [*self.form.filled, self.files, *self.labelled.fields],
                show_progress="hidden",
                api_visibility="private",
            )
            self._start_after(filled.success)
        form = self.form
        found = self.find.click(
            self.handlers.take_normals,
            [self.files, form.model],
            form.normals,
            preprocess=False,
            **ANALYSIS_QUEUE,
            show_progress_on=self.notice,
            api_visibility="private",
        )
        self._start_after(found.success)
        taken = self.table.good(
            self.handlers.take_good,
            self.job,
            form.normals,
            show_progress_on=self.table,
            api_visibility="private",
        )
        self._start_after(taken.success)

    def _wire_turns(self) -> None:
        # Each turn is an event of its own, at the end of the queue: whoever asked for a score
        # meanwhile gets it in between.
        advanced = self.turn.change(
            self.advance,
            [self.job, self.stopped],
            self._all,
            **MODEL_QUEUE,
            trigger_mode="multiple",
            show_progress="hidden",
            api_visibility="private",
        )
        self._recover_after(advanced)
        self.stop.click(
            self.ask_to_stop,
            self.job,
            [self.stopped, self.stop],
            show_progress="hidden",
            api_visibility="private",
        )

    def _wire_changes(self) -> None:
        form = self.form
        changed = [form.normals.upload, form.normals.delete]
        for files in (self.files, *self.labelled.fields):
            changed += [files.upload, files.delete, files.clear]
        for own in changed:
            own(None, self.notice, self.notice, js=BATCH_CHANGED, api_visibility="private")
        form.object_name.change(
            None, self.notice, self.notice, js=BATCH_NAME_CHANGED, api_visibility="private"
        )

    @property
    def _outputs(self) -> list[gr.components.Component]:
        return [
            self.job,
            self.turn,
            self.notice,
            self.button,
            self.stop,
            self.tries,
            self.result,
            self.summary,
            self.histogram,
            self.table,
            self.find,
        ]

    @property
    def _all(self) -> list[gr.components.Component]:
        return list(dict.fromkeys([*self._outputs, *self.labelled.outputs]))

    def _start_after(self, trigger: Any) -> None:
        form = self.form
        given = [form.normals, self.files, form.object_name, form.model, self.session]
        started = trigger(
            self.start,
            [*given, *self.labelled.fields, self.job, self.choices],
            [*self._all, form.normals],
            preprocess=False,
            validator=check_batch,
            **MODEL_QUEUE,
            show_progress_on=self.notice,
            api_visibility="private",
        )
        self._recover_after(started)

    def start(
        self,
        normals: UploadedGallery,
        files: UploadedFiles,
        object_name: str | None,
        model: str,
        session: Session | None,
        good: UploadedFiles,
        bad: UploadedFiles,
        archive: UploadedFile,
        previous: BatchJob | None,
        choices: Choices | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> Shown:
        """Makes the job, see :meth:`.BatchHandlers.start`; the form shows the normals of a ZIP."""
        form = normals, files, object_name, model, session
        try:
            job = self.handlers.start(*form, progress, good, bad, archive, previous, choices)
        except InctrlError as error:
            # What an earlier batch found stays below the sentence.
            return {self.notice: error_html(str(error))}
        told = self._seen(job) | self.labelled.opened(None) | self._next_turn()
        return told if normals else told | {self.form.normals: list(job.normal_files)}

    def advance(self, job: BatchJob | None, stop: str) -> Shown:
        """The job's next turn; labelled images at its end.

        Args:
            job: The visitor's.
            stop: Key of a job that is to go no further.
        """
        if job is None or job.finished:
            return {self.job: gr.skip()}
        notice = ""
        try:
            job = job.stop() if stop == job.key else self.handlers.advance(job)
        except InctrlError as error:
            job, notice = job.stop(), error_html(str(error))
        told = self._seen(job, notice)
        # Others may be waiting too: another turn comes after theirs.
        return told | (self.labelled.opened(job) if job.finished else self._next_turn())

    def ask_to_stop(self, job: BatchJob | None) -> Shown:
        """Names the job that its next turn shall end."""
        waiting = gr.Button("Stopping …", interactive=False)
        return {self.stopped: "" if job is None else job.key, self.stop: waiting}

    def give_up(self, job: BatchJob | None) -> Shown:
        """Shows what there is after an error that nobody foresaw, and lets the visitor go on."""
        stopped = None if job is None else job.stop()
        return self._seen(stopped, error_html(BROKEN))

    def _next_turn(self) -> Shown:
        """Sets off the event of the next turn: any value that differs from the last one does."""
        return {self.turn: secrets.token_hex(8)}

    def _seen(self, job: BatchJob | None, notice: str = "") -> Shown:
        """The job, and all that is seen of it: its progress, then its results."""
        running = job is not None and not job.finished
        done = not running and job is not None and job.batch.rows
        start = gr.Button(interactive=not running)
        return {
            self.job: job,
            self.notice: progress_html(job) if running else notice,
            self.button: start,
            self.find: start,  # Neither starts a second batch.
            self.stop: gr.Button("Stop", visible=running, interactive=True),
            # A second batch beside the first would take two turns for each of another visitor.
            self.tries: gr.Accordion(visible=False, open=False)
            if running
            else gr.Accordion(visible=True),
            self.result: gr.Column(visible=bool(done)),
            self.summary: summary_html(job) if done else "",
            self.histogram: histogram_html(job.batch) if done else "",
            self.table: table_html(job) if done else "",
        }

    def fill_example(self, event: gr.EventData) -> Shown:
        """Fills in the chosen example, and all of its queries, in place of all else."""
        example, _ = self.shared.picked(event)
        filled = self.form.fill(example, example.cover)
        filled[self.files] = [str(query.path) for query in example.queries]
        return filled | dict.fromkeys(self.labelled.fields)

    def fill_labelled(self) -> Shown:
        """Fills in an example of which it is known what is good and what bad."""
        example = self.examples.get(LABELLED_EXAMPLE) or next(iter(self.examples.values()))
        filled = self.form.fill(example, example.cover)
        known = {
            anomalous: [str(q.path) for q in example.queries if q.anomalous is anomalous]
            for anomalous in (False, True)
        }
        return filled | {
            self.files: None,
            self.labelled.good: known[False],
            self.labelled.bad: known[True],
            self.labelled.archive: None,
        }

    def _recover_after(self, event: gr.events.Dependency) -> None:
        event.failure(
            self.give_up,
            self.job,
            self._outputs,
            show_progress="hidden",
            api_visibility="private",
        )

    def _wire_opening(self) -> None:
        form = self.form
        filled = self.table.click(
            self.handlers.open_row,
            [self.job, self.session],
            [
                self.session,
                form.normals,
                form.query,
                form.object_name,
                form.model,
                form.queries,
            ],
            **MODEL_QUEUE,
            show_progress_on=self.table,
            api_visibility="private",
        )
        opened = self.open_in_inspect(filled)
        opened.success(None, js=TO_THE_TOP, api_visibility="private").then(
            None, js=SHOWN, api_visibility="private"
        )

    def _wire_downloads(self) -> None:
        for button, make in (
            (self.csv, self.handlers.export_csv),
            (self.json, self.handlers.export_json),
            (self.zip, self.handlers.export_zip),
        ):
            made = button.click(
                make,
                self.job,
                [self.download, self.note],
                concurrency_id="batch-export",
                concurrency_limit=1,
                show_progress_on=self.note,
                api_visibility="private",
            )
            made.success(None, self.download, js=DOWNLOAD, api_visibility="private")


def forget(job: BatchJob | None) -> None:
    """Removes what a visitor who is gone has left on the disk."""
    if job is not None:
        let_go(job.unpacked)


def _limits_html() -> str:
    return (
        f'<p class="ic-small">At most {MAX_FILES} images at a time, {most_bytes() / 2**20:g} MB '
        f"each and {MAX_TOTAL_BYTES >> 20} MB together.</p>"
    )
