"""The tab Inspect: score one image, and look closely at why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from gradio.events import Dependency

from ..errors import InctrlError
from ..figures import COLOUR_MAPS
from ..preprocessing import patch_at
from .examples import ON_LOAD, ExampleSet, gallery_html, pick_query, queries_html
from .form import (
    MODEL_QUEUE,
    Form,
    UploadedFile,
    UploadedGallery,
    check_form,
    file_path,
    gallery_paths,
)
from .models import ModelRegistry
from .render import (
    MEAN,
    Display,
    depth_names,
    error_html,
    heatmap,
    ledger_html,
    provenance_html,
    strongest_patch,
    text_html,
    verdict_html,
)
from .session import Session, start_session, with_phrases, with_query_as_normal

GRID = 15
DEPTHS = 3
WELCOME = (
    '<div class="ic-welcome"><h2>Is this image like the others?</h2><p>Click an example above, or '
    "add a few images of sound objects and one to check, and press <strong>Score</strong>.</p>"
    "</div>"
)
# On a narrow page the result lies below the form: bring it into view once it is there.
SCROLL = """() => {
  if (window.innerWidth < 800)
    document.querySelector('#result')?.scrollIntoView({behavior: 'smooth'});
}"""


class InspectTab:
    """Components and handlers of the tab.

    The instance holds components and what all visitors share; what belongs to a visitor travels
    through ``session``.

    Args:
        registry: The models.
        examples: The example sets.
        form: Shared with other tabs.
        session: The visitor's :class:`Session`.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        examples: Mapping[str, ExampleSet],
        form: Form,
        session: gr.State,
    ) -> None:
        self.registry = registry
        self.examples = examples
        self.form = form
        self.session = session

    def build(self) -> None:
        """Lays out the tab."""
        self.notice = gr.HTML(WELCOME, elem_id="notice")
        with gr.Column(visible=False, elem_id="result") as self.result:
            self.verdict = gr.HTML(elem_id="verdict")
            self._build_map()
            with gr.Group():
                gr.Markdown("### Where does a patch find its like?", elem_classes="ic-heading")
                self.provenance = gr.HTML(elem_id="provenance")
            gr.Markdown("### What do the words say?", elem_classes="ic-heading")
            self.text = gr.HTML(elem_id="text")
            self._build_phrases()
            gr.Markdown("### What makes up the score?", elem_classes="ic-heading")
            self.ledger = gr.HTML(elem_id="ledger")
            self.add_normal = gr.Button(
                "False alarm? Use this image as a normal", size="sm", elem_id="add-normal"
            )

    def _build_map(self) -> None:
        with gr.Row(elem_id="map-row"):
            with gr.Column(scale=3, min_width=300):
                self.image = gr.Image(
                    label="Click a patch to see where it finds its like",
                    format="jpeg",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="heatmap",
                )
                self.slider = gr.ImageSlider(
                    label="Original and heatmap",
                    format="jpeg",
                    interactive=False,
                    visible=False,
                    elem_id="compare",
                )
                self.bar = gr.HTML(elem_id="colour-bar")
            with gr.Column(scale=1, min_width=220, elem_id="controls"):
                self.opacity = gr.Slider(0, 1, 0.7, step=0.05, label="Opacity", elem_id="opacity")
                self.depth = gr.Radio(
                    [MEAN, *depth_names(DEPTHS)], value=MEAN, label="Depth", elem_id="depth"
                )
                self.colour_map = gr.Dropdown(
                    list(COLOUR_MAPS), value=COLOUR_MAPS[0], label="Colours", elem_id="colours"
                )
                self.smooth = gr.Checkbox(True, label="Smooth between patches")
                self.compare = gr.Checkbox(False, label="Compare with the original")
                with gr.Row():
                    self.row = gr.Number(
                        1, label="Row", precision=0, minimum=1, maximum=GRID, min_width=80
                    )
                    self.column = gr.Number(
                        1, label="Column", precision=0, minimum=1, maximum=GRID, min_width=80
                    )

    def _build_phrases(self) -> None:
        with gr.Accordion("Add phrases of your own", open=False):
            with gr.Row():
                self.own_normal = gr.Textbox(
                    label="Describe it when sound, one phrase a line", lines=3, min_width=240
                )
                self.own_anomaly = gr.Textbox(
                    label="Describe it when damaged, one phrase a line", lines=3, min_width=240
                )
            self.apply = gr.Button("Use these phrases", size="sm", elem_id="apply-phrases")

    def build_gallery(self) -> None:
        """Lays out the examples, from which one click fills the form and scores."""
        self.gallery = gr.HTML(gallery_html(self.examples), js_on_load=ON_LOAD, elem_id="examples")

    def build_queries(self) -> None:
        """Lays out the place for the images of the chosen example."""
        self.queries = gr.HTML("", js_on_load=ON_LOAD, elem_id="queries")

    def wire(self) -> None:
        """Connects the events."""
        form = self.form
        self._score_after(form.button.click)
        self._score_after(form.object_name.submit)
        for source in (self.gallery, self.queries):
            filled = source.click(
                self.open_example,
                None,
                [form.normals, form.query, form.object_name, self.queries],
                show_progress="hidden",
                api_visibility="private",
            )
            self._score_after(filled.success)
        self._change_after(
            self.apply.click, self.use_phrases, [self.session, self.own_normal, self.own_anomaly]
        )
        self._change_after(
            self.add_normal.click, self.use_as_normal, [self.session, form.normals, form.query]
        )
        gr.on(
            [
                self.opacity.input,
                self.depth.input,
                self.colour_map.input,
                self.smooth.input,
                self.compare.input,
                self.row.input,
                self.column.input,
            ],
            self.show_map,
            self._display,
            self._pictures,
            trigger_mode="always_last",
            show_progress="hidden",
            concurrency_limit=4,
            api_visibility="private",
        )
        self.image.select(
            self.pick_patch,
            self.session,
            [self.row, self.column],
            show_progress="hidden",
            api_visibility="private",
        ).success(
            self.show_map,
            self._display,
            self._pictures,
            show_progress="hidden",
            api_visibility="private",
        )

    @property
    def _display(self) -> list[gr.components.Component]:
        return [
            self.session,
            self.depth,
            self.colour_map,
            self.opacity,
            self.smooth,
            self.row,
            self.column,
            self.compare,
        ]

    @property
    def _pictures(self) -> list[gr.components.Component]:
        return [self.image, self.slider, self.bar, self.provenance]

    def _score_after(self, trigger: Any) -> None:
        form = self.form
        scored = trigger(
            self.score_form,
            [form.normals, form.query, form.object_name, form.model, self.session],
            [self.session, self.notice, self.row, self.column],
            preprocess=False,
            validator=check_form,
            concurrency_id=MODEL_QUEUE,
            concurrency_limit=1,
            show_progress_on=[self.notice, self.verdict],
            api_visibility="private",
        )
        self._show_after(scored).then(None, js=SCROLL, api_visibility="private")

    def _change_after(self, trigger: Any, handler: Any, inputs: list) -> None:
        changed = trigger(
            handler,
            inputs,
            [self.session, self.notice, self.form.normals],
            preprocess=False,
            concurrency_id=MODEL_QUEUE,
            concurrency_limit=1,
            show_progress_on=[self.verdict],
            api_visibility="private",
        )
        self._show_after(changed)

    def _show_after(self, event: Dependency) -> Dependency:
        shown = event.success(
            self.show_map,
            self._display,
            self._pictures,
            show_progress="hidden",
            api_visibility="private",
        )
        return shown.success(
            self.show_words,
            self.session,
            [
                self.result,
                self.verdict,
                self.text,
                self.ledger,
                self.own_normal,
                self.own_anomaly,
            ],
            show_progress="hidden",
            api_visibility="private",
        )

    def open_example(self, event: gr.EventData) -> tuple[list[str], str, str, str]:
        """Fills the form with the example whose button was pressed."""
        try:
            example, index = pick_query(self.examples, event._data)
        except InctrlError as error:
            raise gr.Error(str(error)) from None
        return (
            [str(path) for path in example.normals],
            str(example.queries[index].path),
            example.object_name,
            queries_html(example, index),
        )

    def score_form(
        self,
        normals: UploadedGallery,
        query: UploadedFile,
        object_name: str | None,
        model: str,
        session: Session | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> tuple[Session | None, str, int, int]:
        """Scores the form's query against its normals.

        Returns:
            The new session (None after an error), what to say in the result's place, and the row
            and the column of the strongest patch.
        """
        try:
            progress(0.1, desc="Loading the model")
            detector = self.registry.get(model)
            progress(0.4, desc="Comparing with the normals")
            files = gallery_paths(normals), file_path(query)
            session = start_session(detector, model, files, object_name or "", session)
        except InctrlError as error:
            return None, error_html(str(error)), 1, 1
        return session, "", *strongest_patch(session)

    def show_map(
        self,
        session: Session | None,
        depth: str,
        colour_map: str,
        opacity: float,
        smooth: bool,
        row: float | None,
        column: float | None,
        compare: bool,
    ) -> tuple[Any, Any, Any, Any]:
        """Draws the heatmap and the examined patch anew, from what the session holds."""
        if session is None:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        try:
            display = Display(depth, colour_map, opacity, smooth, row, column)
            image, bar = heatmap(session, display)
            provenance = provenance_html(session, display)
        except InctrlError as error:
            return gr.skip(), gr.skip(), gr.skip(), error_html(str(error))
        pair = (session.query.image, image) if compare else None
        return (
            gr.Image(value=image, visible=not compare),
            gr.ImageSlider(value=pair, visible=compare),
            bar,
            provenance,
        )

    def show_words(self, session: Session | None) -> tuple[Any, ...]:
        """Writes all that the display controls do not change, and shows or hides the result."""
        if session is None:
            return gr.Column(visible=False), "", "", "", gr.skip(), gr.skip()
        return (
            gr.Column(visible=True),
            verdict_html(session),
            text_html(session),
            ledger_html(session),
            "\n".join(session.phrases[0]),
            "\n".join(session.phrases[1]),
        )

    def pick_patch(self, session: Session | None, event: gr.SelectData) -> tuple[Any, Any]:
        """Turns a click on the heatmap into a row and a column."""
        if session is None:
            return gr.skip(), gr.skip()
        x, y = event.index
        place = patch_at(session.query.crop_box, GRID, x, y)
        if place is None:
            gr.Info("The model has not seen this part: only the framed square goes in.")
            return gr.skip(), gr.skip()
        return place[0] + 1, place[1] + 1

    def use_phrases(
        self, session: Session | None, normal: str | None, anomaly: str | None
    ) -> tuple[Any, Any, Any]:
        """Adds the visitor's phrases to the prompts, or removes them, and scores again."""
        try:
            if session is None:
                raise InctrlError("Score an image first.")
            detector = self.registry.get(session.model)
            lines = (normal or "").splitlines(), (anomaly or "").splitlines()
            return with_phrases(detector, session, *lines), "", gr.skip()
        except InctrlError as error:
            return gr.skip(), error_html(str(error)), gr.skip()

    def use_as_normal(
        self, session: Session | None, normals: UploadedGallery, query: UploadedFile
    ) -> tuple[Any, Any, Any]:
        """Adds the query to the normals, to quiet a false alarm, and scores it again."""
        try:
            if session is None:
                raise InctrlError("Score an image first.")
            detector = self.registry.get(session.model)
            path = file_path(query)
            larger = with_query_as_normal(detector, session, path)
        except InctrlError as error:
            return gr.skip(), error_html(str(error)), gr.skip()
        return larger, "", [*gallery_paths(normals), path]
