"""The tab Stress: how far can this result be trusted?"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping
from typing import Any

import gradio as gr

from ...analysis.session import SESSION_SECONDS, Session
from ...analysis.stress_run import (
    CONTAMINATION,
    CURVE,
    DROP,
    PARTS,
    StressRun,
    compute_part,
    start_run,
    with_result,
)
from ...errors import InctrlError
from ..common.examples import ON_LOAD, ExampleSet, first_example, thumbnail
from ..common.form import (
    MODEL_QUEUE,
    Shared,
    Shown,
    UploadedFile,
    UploadedGallery,
    check_form,
    file_path,
    gallery_paths,
)
from ..common.markup import error_html
from ..common.runner import ModelRunner, download_progress
from .sections import changes_html, contamination_html, curve_html, drop_html, head_html

BUTTON_SIZE = (64, 48)
WELCOME = (
    '<div class="ic-stress-welcome"><h2>How far can this result be trusted?</h2><p>One score says '
    "little about itself. Put it to the test: it takes a few seconds.</p></div>"
)
QUESTIONS = (
    '<div class="ic-questions"><div><h3>How many normals are enough?</h3><p>The score with one '
    "normal, with two, and so on, for random choices of them.</p></div><div><h3>Which normal "
    "carries the result?</h3><p>The score with each of them left out.</p></div><div><h3>What if a "
    "bad image slips in?</h3><p>The score with the image itself among the normals.</p></div><div>"
    "<h3>Does it hold when the photograph changes?</h3><p>The score with the image turned, darker, "
    "brighter, blurred, noisy and compressed.</p></div></div>"
)
NOTE = (
    '<aside class="ic-stress-note"><h3>For those who run or teach this</h3><p>Take an image that '
    "looks normal and watch it become an alarm as the photograph changes. Nothing is wrong with "
    "the object then: it shows how far camera, light and position may drift before alarms mean "
    "nothing. One of your own normals is changed along with the image on every run, as the dashed "
    "line. If it becomes an alarm, photograph as the normals were photographed, or add normals "
    "that show the change.</p></aside>"
)
# On a narrow page the results lie below the form.
TO_THE_RESULT = """() => {
  if (window.innerWidth >= 800) return;
  const places = document.querySelectorAll('#stress-result, #stress-notice .ic-error');
  [...places].find(place => place.offsetHeight)?.scrollIntoView({behavior: 'smooth'});
}"""


class StressTab:
    """Components of the tab and their events.

    Args:
        shared: The form, the session and what all visitors share.
    """

    id = "stress"
    title = "Stress"

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.run = ModelRunner(shared.registry)

    def build(self) -> None:
        """Lays out the tab."""
        # A run of its own: what Inspect shows must not change under the visitor's hands.
        self.begun = gr.State(None, time_to_live=SESSION_SECONDS)
        self.state = gr.State(None, time_to_live=SESSION_SECONDS)
        gr.HTML(WELCOME)
        with gr.Row(elem_id="stress-actions"):
            self.button = gr.Button("Run the tests", variant="primary", elem_id="stress-run")
            self.examples = gr.HTML(
                examples_html(self.shared.examples), js_on_load=ON_LOAD, elem_id="stress-examples"
            )
        self.notice = gr.HTML(QUESTIONS, elem_id="stress-notice")
        with gr.Column(visible=False, elem_id="stress-result") as self.result:
            self.head = gr.HTML(elem_id="stress-head")
            self.curve = gr.HTML(elem_id="stress-curve")
            self.drop = gr.HTML(elem_id="stress-drop")
            self.contamination = gr.HTML(elem_id="stress-contamination")
            self.changes = gr.HTML(elem_id="stress-changes")
            gr.HTML(NOTE)

    def wire(self) -> None:
        """Connects the events."""
        self._run_after(self.button.click)
        filled = self.examples.click(
            self.shared.open_example,
            None,
            self.shared.filled,
            show_progress="hidden",
            api_visibility="private",
        )
        self._run_after(filled.success)

    def _run_after(self, trigger: Any) -> None:
        form = self.shared.form
        sections = [self.head, *self._parts]
        event = trigger(
            self.begin,
            [form.normals, form.query, form.object_name, form.model, self.shared.session],
            [self.begun, self.notice, self.result, *sections],
            preprocess=False,
            validator=check_form,
            **MODEL_QUEUE,
            trigger_mode="always_last",
            show_progress_on=[self.notice],
            api_visibility="private",
        )
        event.then(None, js=TO_THE_RESULT, api_visibility="private")
        # One event a part, each with its own place in the queue: others get in between. A part is
        # whatever the last run needs next, so that two chains started in a hurry do no harm.
        for _ in PARTS:
            event = event.success(
                self.advance,
                [self.begun, self.state],
                [self.state, self.notice, *sections],
                **MODEL_QUEUE,
                show_progress="hidden",
                api_visibility="private",
            )

    @property
    def _parts(self) -> list[gr.HTML]:
        """The places of the four tests, in the order of the page."""
        return [self.curve, self.drop, self.contamination, self.changes]

    def begin(
        self,
        normals: UploadedGallery,
        query: UploadedFile,
        object_name: str | None,
        model: str,
        session: Session | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> Shown:
        """Scores the form's query and clears the last results.

        The visitor's session lends its bank where it is of the same normals. It stays as it is:
        the tab Inspect goes on showing it.
        """
        try:
            progress(0.1, desc="Comparing with the normals")
            path = file_path(query)
            files = gallery_paths(normals), path
            scored = self.run.start_session(
                model, files, object_name or "", session, download_progress(progress)
            )
            run = start_run(scored, path, self.run.images)
        except InctrlError as error:
            hidden = gr.Column(visible=False)
            return {self.begun: None, self.notice: error_html(str(error)), self.result: hidden}
        told = {self.begun: run, self.notice: "", self.result: gr.Column(visible=True)}
        return told | {self.head: head_html(run)} | dict.fromkeys(self._parts, "")

    def advance(self, begun: StressRun | None, run: StressRun | None) -> Shown:
        """Does whatever part comes next; nothing where none does.

        Args:
            begun: The visitor's last run as :meth:`begin` left it.
            run: What has come of it so far; or of an earlier run, as a part of that may end late.
        """
        fresh = begun is not None and (run is None or run.session is not begun.session)
        if fresh or begun is None:
            run = begun
        part = None if run is None else run.next_part
        if part is None:
            return {self.state: gr.skip()}
        session = run.session
        try:
            result = self.run(compute_part, session.model, session, part, run.query, run.normal)
        except InctrlError as error:
            ended = dataclasses.replace(run, done=len(PARTS))
            return {self.state: ended, self.notice: error_html(str(error))}
        run = with_result(run, result)
        told = {self.state: run, self.notice: "", self.head: head_html(run)}
        if fresh:
            told |= dict.fromkeys(self._parts, "")
        places = {
            CURVE: (self.curve, curve_html),
            DROP: (self.drop, drop_html),
            CONTAMINATION: (self.contamination, contamination_html),
        }
        place, write = places.get(part, (self.changes, changes_html))
        return told | {place: write(run)}


def examples_html(examples: Mapping[str, ExampleSet]) -> str:
    """Buttons that fill the form with a bad or with a good image of one example, and run."""
    example = first_example(examples)
    if example is None:
        return ""
    good = next((i for i, query in enumerate(example.queries) if not query.anomalous), None)
    chosen = [(example.cover, "Try with an example"), (good, "Try with a good image")]
    return '<div class="ic-tries">{}</div>'.format(
        "".join(
            f'<button type="button" class="ic-try" data-set="{html.escape(example.name)}" '
            f'data-query="{index}"><img alt="" '
            f'src="{thumbnail(example.queries[index].path, BUTTON_SIZE)}">'
            f"<span>{label}<small>{html.escape(example.title)}</small></span></button>"
            for index, label in chosen
            if index is not None
        )
    )
