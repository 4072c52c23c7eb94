"""The part of the tab Batch for images whose truth the visitor knows."""

from __future__ import annotations

import gradio as gr

from ...analysis.batch_job import BatchJob
from ...errors import InctrlError
from ...images.limits import most_bytes
from ..common.charts import axis_top
from ..common.downloads import DOWNLOAD
from ..common.events import sent
from ..common.form import IMAGE_FILES, MODEL_QUEUE, Shown
from ..common.markup import error_html
from ..common.runner import ModelRunner
from .labelled_handlers import (
    EVERY,
    ONLY_FAILURES,
    Drawn,
    Found,
    LabelledHandlers,
    Look,
    Place,
    labelled_result,
)

GONE = "These results are no longer here; score the images again."

# Buttons and arrow keys step through the images; keys only where nothing else takes them.
ON_LOAD = """
const step = by => {
  if (!element.querySelector('[data-step]:not([disabled])')) return;
  trigger('click', {step: by});
};
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-step]');
  if (button) step(Number(button.dataset.step));
});
const press = event => {
  if (!element.isConnected) { document.removeEventListener('keydown', press); return; }
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (!element.offsetParent) return;
  if (event.target.closest('input, textarea, select, [role=tab], [contenteditable]')) return;
  event.preventDefault();
  step(by);
};
document.addEventListener('keydown', press);
"""


class LabelledView:
    """Components and their events; the tab lays out other things around them.

    Args:
        run: Calls the model.
        job: The visitor's job.
        histogram: The place of all scores, with a line at the threshold.
    """

    def __init__(self, run: ModelRunner, job: gr.State, histogram: gr.HTML) -> None:
        self.handlers = LabelledHandlers(run)
        self.job = job
        self.histogram = histogram

    def build_fields(self) -> None:
        """Lays out the fields for labelled images, folded away."""
        with gr.Accordion("My images are labelled", open=False, elem_id="batch-labelled"):
            with gr.Row():
                self.good = _files("Known good", "batch-good")
                self.bad = _files("Known bad", "batch-bad")
            self.archive = gr.File(
                label="Or a ZIP of both",
                file_types=[".zip"],
                height=150,
                elem_id="batch-zip-file",
            )
            gr.HTML(_about_zip())
            self.example = gr.Button(
                "Try with labelled images", size="sm", elem_id="batch-try-labelled"
            )

    def build_result(self) -> None:
        """Lays out the figures and the images to look through."""
        lifetime = self.job.time_to_live
        self.line = gr.State(None)
        self.place = gr.State(None)
        self.found = gr.State(None, time_to_live=lifetime)
        self.drawn = gr.State(None, time_to_live=lifetime)
        with gr.Column(visible=False, elem_id="labelled") as self.panel:
            self.figures = gr.HTML(elem_id="labelled-figures")
            self.slider = gr.Slider(
                0,
                1,
                step=0.001,
                label="Threshold",
                info="Images above it are called anomalous. Higher: fewer false alarms, more "
                "misses.",
                buttons=[],
                elem_id="labelled-threshold",
            )
            self.which = gr.Radio(
                [ONLY_FAILURES, EVERY],
                value=ONLY_FAILURES,
                label="Look through",
                elem_id="labelled-which",
            )
            self.card = gr.HTML(js_on_load=ON_LOAD, elem_id="labelled-card")
            self.reason = gr.HTML(elem_id="labelled-reason")
            self.save = gr.Button("Save as one HTML report", size="sm", elem_id="labelled-save")
            self.note = gr.HTML(elem_id="labelled-note")
            self.download = gr.DownloadButton(visible=False)

    @property
    def fields(self) -> list[gr.components.Component]:
        """The inputs, in the order of :meth:`.BatchHandlers.start`."""
        return [self.good, self.bad, self.archive]

    @property
    def outputs(self) -> list[gr.components.Component]:
        """All that :meth:`opened` may change."""
        return [self.panel, self.slider, self.which, *self._shown]

    @property
    def _shown(self) -> list[gr.components.Component]:
        return [*self._states, self.figures, self.card, self.reason, self.histogram]

    @property
    def _states(self) -> list[gr.components.Component]:
        return [self.line, self.place, self.drawn]

    def wire(self) -> None:
        """Connects the events."""
        quick = {
            "show_progress": "hidden",
            "concurrency_limit": 4,
            "api_visibility": "private",
        }
        rest = [self.which, self.place, self.found, self.drawn]
        shown = [self.job, self.line, *rest]
        self.slider.input(
            self.move,
            [self.job, self.slider, *rest],
            self._shown,
            trigger_mode="always_last",
            **quick,
        )
        self.which.input(self.choose, shown, self._shown, trigger_mode="always_last", **quick)
        self.card.click(self.step, shown, self._shown, trigger_mode="always_last", **quick)
        # In its own event: the pictures do not wait for the model, nor the next ones for these.
        self.place.change(
            self.find,
            [self.job, self.line, self.place, self.found],
            [self.found],
            **MODEL_QUEUE,
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        ).then(
            self.show_reason,
            [self.job, self.line, self.place, self.found, self.drawn],
            [self.reason],
            **quick,
        )
        saved = self.save.click(
            self.save_report,
            [self.job, self.line, self.found],
            [self.download, self.note],
            concurrency_id="batch-export",
            concurrency_limit=1,
            show_progress_on=self.note,
            api_visibility="private",
        )
        saved.success(None, self.download, js=DOWNLOAD, api_visibility="private")

    def opened(self, job: BatchJob | None) -> Shown:
        """What there is to see of a job: the figures once it is done, nothing before."""
        result = labelled_result(job, None) if job is not None and job.finished else None
        if result is None:
            return {self.panel: gr.Column(visible=False), self.place: None, self.line: None}
        scores = [image.score.fused for image in (*result.images, *result.among_normals)]
        top = axis_top(max([*scores, result.threshold]))
        return {
            self.panel: gr.Column(visible=True),
            self.slider: gr.Slider(value=round(result.threshold, 3), maximum=top),
            self.which: ONLY_FAILURES,
        } | self._values(self.handlers.look(job, result, ONLY_FAILURES))

    def move(
        self,
        job: BatchJob | None,
        threshold: float | None,
        which: str,
        place: Place | None,
        found: Found | None,
        drawn: Drawn | None,
    ) -> Shown:
        """Judges all images by another threshold; nothing is scored again."""
        return self._again(job, threshold, which, place, found, drawn)

    def choose(
        self,
        job: BatchJob | None,
        line: float | None,
        which: str,
        place: Place | None,
        found: Found | None,
        drawn: Drawn | None,
    ) -> Shown:
        """Shows the failures alone, or all images."""
        return self._again(job, line, which, place, found, drawn)

    def step(
        self,
        job: BatchJob | None,
        line: float | None,
        which: str,
        place: Place | None,
        found: Found | None,
        drawn: Drawn | None,
        event: gr.EventData,
    ) -> Shown:
        """Shows the image before, or the next one, around the ends."""
        by = sent(event).get("step")
        return self._again(job, line, which, place, found, drawn, by if by in (-1, 1) else 0)

    def find(
        self, job: BatchJob | None, line: float | None, place: Place | None, found: Found | None
    ) -> Shown:
        """Looks for the reason of the image that is shown, unless it was found before."""
        result = labelled_result(job, line)
        known = found if result is None else self.handlers.find(job, result, place, found)
        return {self.found: known}

    def show_reason(
        self,
        job: BatchJob | None,
        line: float | None,
        place: Place | None,
        found: Found | None,
        drawn: Drawn | None,
    ) -> Shown:
        """Shows the reason of the image that is shown by now."""
        result = labelled_result(job, line)
        says = "" if result is None else self.handlers.reason(job, result, place, found, drawn)
        return {self.reason: says}

    def save_report(
        self,
        job: BatchJob | None,
        line: float | None,
        found: Found | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> Shown:
        """Makes one page of the figures and of all failures, to download."""
        result = labelled_result(job, line)
        if result is None:
            return {self.download: None, self.note: error_html(GONE)}

        def show(done: int, total: int) -> None:
            progress((done, total), desc="Drawing", unit="failures")

        path = self.handlers.report(job, result, found, show)
        return {self.download: str(path), self.note: ""}

    def _again(
        self,
        job: BatchJob | None,
        line: float | None,
        which: str,
        place: Place | None,
        found: Found | None,
        drawn: Drawn | None,
        by: int = 0,
    ) -> Shown:
        try:
            result = labelled_result(job, line)
        except InctrlError as error:
            return {self.reason: error_html(str(error))}
        if result is None:
            return {self.card: error_html(GONE), self.reason: ""}
        return self._values(self.handlers.look(job, result, which, place, found, by, drawn))

    def _values(self, look: Look) -> Shown:
        return {
            self.line: look.line,
            self.place: look.place,
            self.figures: look.figures,
            self.card: look.card,
            self.reason: look.reason,
            self.histogram: look.histogram,
            self.drawn: look.drawn,
        }


def _about_zip() -> str:
    return (
        '<p class="ic-small">With folders good and bad (or OK and NG), or in the layout of MVTec '
        f"AD, masks included; at most {most_bytes() / 2**20:g} MB.</p>"
    )


def _files(label: str, elem_id: str) -> gr.File:
    return gr.File(
        label=label,
        file_count="multiple",
        file_types=IMAGE_FILES,
        height=150,
        elem_id=elem_id,
    )
