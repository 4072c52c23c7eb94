"""The tab Inspect: score one image, and look closely at why."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import Dependency

from ..common.downloads import DOWNLOAD
from ..common.examples import ON_LOAD, gallery_html
from ..common.form import MODEL_QUEUE, Shared, check_form
from ..common.scripts import CHANGED, FORM_CHANGED, NAME_CHANGED, PRESS_SCORE, QUERY_CHANGED, SHOWN
from .handlers import ADD, InspectHandlers
from .map_view import MapView

WELCOME = (
    '<div class="ic-welcome"><h2>Is this image like the others?</h2><p>Click an example above, or '
    "add a few normal images and one to check, and press <strong>Score</strong>.</p>"
    "</div>"
)


class InspectTab:
    """Components of the tab and their events.

    Args:
        shared: The form, the session and what all visitors share.
    """

    id = "inspect"
    title = "Inspect"

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.handlers = InspectHandlers(shared.registry, shared.examples)
        self.form = shared.form
        self.session = shared.session
        self.map = MapView(self.handlers, shared.session)

    def build(self) -> None:
        """Lays out the tab."""
        self.notice = gr.HTML(WELCOME, elem_id="notice")
        with gr.Column(visible=False, elem_id="result") as self.result:
            self.verdict = gr.HTML(elem_id="verdict")
            self.map.build()
            with gr.Row(elem_id="result-buttons"):
                self.toggle_normal = gr.Button(ADD, size="sm", elem_id="add-normal")
                self.save = gr.Button("Save this result (HTML)", size="sm", elem_id="save-result")
            self.download = gr.DownloadButton(visible=False)
            self.map.build_provenance()
            gr.Markdown("### What do the words say?", elem_classes="ic-heading")
            self.text = gr.HTML(elem_id="text")
            self._build_phrases()
            gr.Markdown("### What makes up the score?", elem_classes="ic-heading")
            self.ledger = gr.HTML(elem_id="ledger")

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
            self.phrase_notice = gr.HTML(elem_id="phrase-notice")

    def build_gallery(self) -> None:
        """Lays out the examples, from which one click fills the form and scores."""
        cards = gallery_html(self.shared.examples)
        self.gallery = gr.HTML(cards, js_on_load=ON_LOAD, elem_id="examples")

    def wire(self) -> None:
        """Connects the events."""
        form = self.form
        self._score_after(form.button.click)
        # Other tabs show the field too, and have buttons of their own for what they do.
        form.object_name.submit(None, js=PRESS_SCORE, api_visibility="private")
        for source in (self.gallery, form.queries):
            filled = source.click(
                self.shared.open_example,
                None,
                form.filled,
                show_progress="hidden",
                api_visibility="private",
            )
            self._score_after(filled.success)
        for own in (form.query.upload, form.query.clear):
            said = [form.queries, self.notice]
            own(None, self.notice, said, js=QUERY_CHANGED, api_visibility="private")
        for own, script in (
            (form.normals.upload, FORM_CHANGED),
            (form.normals.delete, FORM_CHANGED),
            (form.object_name.change, NAME_CHANGED),
        ):
            own(None, self.notice, self.notice, js=script, api_visibility="private")
        self._change_after(
            self.apply.click,
            self.handlers.use_phrases,
            [self.session, self.own_normal, self.own_anomaly],
            self.phrase_notice,
        )
        self._change_after(
            self.toggle_normal.click,
            self.handlers.toggle_normal,
            [self.session, form.normals],
            self.notice,
        ).then(None, js=CHANGED, api_visibility="private")
        saved = self.save.click(
            self.handlers.save,
            self.map.display[:-1],
            [self.download, self.notice],
            show_progress_on=self.save,
            api_visibility="private",
        )
        saved.success(None, self.download, js=DOWNLOAD, api_visibility="private")
        self.map.wire()

    @property
    def _placed(self) -> list[gr.components.Component]:
        return [self.notice, *self.map.place, self.own_normal, self.own_anomaly]

    def _score_after(self, trigger: Any) -> None:
        form = self.form
        scored = trigger(
            self.handlers.score_form,
            [form.normals, form.query, form.object_name, form.model, self.session],
            [self.session, *self._placed],
            preprocess=False,
            validator=check_form,
            **MODEL_QUEUE,
            # The form holds another query by then; its result is what must be shown.
            trigger_mode="always_last",
            show_progress_on=[self.notice, self.verdict],
            api_visibility="private",
        )
        self._show_after(scored).then(None, js=SHOWN, api_visibility="private")

    def open_after(self, event: Dependency) -> Dependency:
        """Opens this tab once ``event`` has put another session in place, and shows it.

        For the other tabs: the event's handler must have set the session (and, where the visitor
        should find them in the form, the query and the normals).
        """
        opened = event.success(
            lambda: gr.Tabs(selected=self.id), None, self.shared.tabs, api_visibility="private"
        )
        placed = opened.success(
            self.handlers.opened,
            self.session,
            self._placed,
            show_progress="hidden",
            api_visibility="private",
        )
        return self._show_after(placed)

    def _change_after(
        self, trigger: Any, handler: Any, inputs: list, notice: gr.HTML
    ) -> Dependency:
        changed = trigger(
            handler,
            inputs,
            [self.session, notice, self.form.normals],
            preprocess=False,
            **MODEL_QUEUE,
            show_progress_on=[self.verdict],
            api_visibility="private",
        )
        return self._show_after(changed)

    def _show_after(self, event: Dependency) -> Dependency:
        shown = event.success(
            self.handlers.show_map,
            self.map.display,
            self.map.pictures,
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
        return shown.success(
            self.handlers.show_words,
            [self.session, self.map.layer],
            [
                self.result,
                self.verdict,
                self.map.layer,
                self.toggle_normal,
                self.text,
                self.ledger,
            ],
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
