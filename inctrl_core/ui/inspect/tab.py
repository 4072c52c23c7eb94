"""The tab Inspect: score one image, and look closely at why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.events import Dependency

from ...analysis.inspection import Session
from ...model.evidence import DECIDE
from ..common.downloads import DOWNLOAD
from ..common.examples import ON_LOAD, gallery_html
from ..common.form import ANALYSIS_QUEUE, MODEL_QUEUE, Shared, check_form
from ..common.scripts import (
    CHANGED,
    DESCRIBED,
    FORM_CHANGED,
    NAME_CHANGED,
    OPEN_LINK,
    PRESS_SCORE,
    QUERY_CHANGED,
    SHOWN,
    THRESHOLD_MOVED,
)
from .code import code_html
from .defects import DefectView
from .handlers import ADD, LOOKS_FOR, InspectHandlers
from .ignore import build_pad
from .map_view import MapView

Shown = dict[gr.components.Component, Any]  # Values by the component that shows them.

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
        self.defects = DefectView()
        # What it does belongs to the tab Learn.
        self.follow = gr.Button(
            "Follow it step by step", size="sm", elem_id="follow-result", render=False
        )

    def build(self) -> None:
        """Lays out the tab."""
        self.notice = gr.HTML(WELCOME, elem_id="notice")
        with gr.Column(visible=False, elem_id="result") as self.result:
            self.verdict = gr.HTML(elem_id="verdict")
            self.leave_out = gr.Button(size="sm", visible=False, elem_id="leave-out")
            self.threshold = gr.Slider(
                0,
                1,
                step=0.001,
                label="Threshold",
                info="An image above it counts as anomalous. Higher: fewer good images above, and "
                "more anomalous ones below.",
                buttons=[],
                elem_id="threshold",
            )
            self.looks_for = gr.Radio(
                [(words, key) for key, words in LOOKS_FOR.items()],
                value=DECIDE,
                label="An anomaly is",
                elem_id="looks-for",
            )
            self.map.build()
            with gr.Row(elem_id="result-buttons"):
                self.toggle_normal = gr.Button(ADD, size="sm", elem_id="add-normal")
                self.defects.show.render()
                self.find_missing = gr.Button(
                    "Is something missing?", size="sm", elem_id="find-missing"
                )
                self.follow.render()
                self.save = gr.Button("Save this result (HTML)", size="sm", elem_id="save-result")
                self.keep = gr.Button("Save the normals", size="sm", elem_id="save-normals")
            self.download = gr.DownloadButton(visible=False)
            self.ignore = build_pad()
            self.defects.build()
            self.missing = gr.HTML(elem_id="missing")
            self.map.build_provenance()
            self.defects.here.render()
            gr.Markdown("### What do the words say?", elem_classes="ic-heading")
            self.text = gr.HTML(elem_id="text")
            self._build_phrases()
            gr.Markdown("### What makes up the score?", elem_classes="ic-heading")
            self.ledger = gr.HTML(elem_id="ledger")
            self.code = gr.HTML(elem_id="code")

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
        self.shared.page.load(None, js=OPEN_LINK, api_visibility="private")
        self._score_after(form.button.click)
        # Other tabs show the field too, and have buttons of their own for what they do.
        form.object_name.submit(None, js=PRESS_SCORE, api_visibility="private")
        for source in (self.gallery, form.queries):
            filled = source.click(
                self.shared.open_example,
                None,
                [*form.filled, self.shared.choices],
                show_progress="hidden",
                api_visibility="private",
            )
            self._score_after(filled.success)
        self._change_after(
            self.looks_for.input,
            self.handlers.look_for,
            [self.looks_for],
            self.notice,
        )
        self.threshold.input(
            self.set_threshold,
            [self.session, self.threshold, *self.map.display[1:]],
            [self.session, self.verdict, self.code, self.notice, *self.map.pictures[:-1]],
            trigger_mode="always_last",
            show_progress="hidden",
            concurrency_limit=4,
            api_visibility="private",
        ).then(None, js=THRESHOLD_MOVED, api_visibility="private")
        self.map.parts.input(
            self.look_closer,
            [self.session, self.map.parts, *self.map.display[1:]],
            [self.session, self.notice, self.map.parts, *self.map.pictures, self.code],
            **ANALYSIS_QUEUE,
            trigger_mode="always_last",
            show_progress_on=[self.map.bar],
            api_visibility="private",
        ).then(None, js=DESCRIBED, api_visibility="private")
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
            [self.own_normal, self.own_anomaly],
            self.phrase_notice,
        )
        for button, handler in (
            (self.toggle_normal, self.handlers.toggle_normal),
            (self.leave_out, self.handlers.leave_out),
        ):
            changed = self._change_after(button.click, handler, [form.normals], self.notice)
            changed.then(None, js=CHANGED, api_visibility="private")
        place = self.map.place
        for trigger, handler, given, sends in (
            (self.defects.show.click, self.handlers.toggle_defect, [], False),
            (self.defects.here.click, self.handlers.defect_here, place, False),
            (self.defects.listed.click, self.handlers.forget_defect, [], True),
            (self.ignore.click, self.handlers.ignore, [], True),
        ):
            changed = self._change_after(trigger, handler, given, self.notice, sends)
            changed.then(None, js=CHANGED, api_visibility="private")
        self.ignore.propose(
            self.handlers.propose_background,
            self.session,
            [self.ignore, self.notice],
            show_progress_on=self.ignore,
            concurrency_limit=4,
            api_visibility="private",
        )
        self.find_missing.click(
            self.handlers.find_missing,
            self.session,
            self.missing,
            show_progress_on=self.missing,
            concurrency_limit=4,
            api_visibility="private",
        )
        for button, handler, given in (
            (self.save, self.handlers.save, self.map.display[:-1]),
            (self.keep, self.handlers.save_normals, self.session),
        ):
            saved = button.click(
                handler,
                given,
                [self.download, self.notice],
                show_progress_on=button,
                api_visibility="private",
            )
            saved.success(None, self.download, js=DOWNLOAD, api_visibility="private")
        opened = form.load.upload(
            self.handlers.open_normals,
            form.load,
            [self.shared.choices, form.normals, form.object_name],
            preprocess=False,
            show_progress_on=form.normals,
            api_visibility="private",
        )
        opened.success(None, self.notice, self.notice, js=FORM_CHANGED, api_visibility="private")
        self.map.wire()

    @property
    def _placed(self) -> list[gr.components.Component]:
        return [self.notice, *self.map.place, self.own_normal, self.own_anomaly]

    @property
    def _words(self) -> list[gr.components.Component]:
        """The outputs of :meth:`.InspectHandlers.show_words`."""
        words = [self.result, self.verdict, self.leave_out, self.threshold, self.looks_for]
        words += [self.map.layer, self.map.parts, self.toggle_normal]
        words += [self.defects.show, self.defects.listed, self.ignore]
        return [*words, self.text, self.ledger, self.code, self.missing]

    @property
    def _all(self) -> list[gr.components.Component]:
        return [self.session, *self._placed, *self.map.pictures, *self._words]

    def _score_after(self, trigger: Any) -> None:
        form = self.form
        scored = trigger(
            self.score_form_and_show,
            [
                form.normals,
                form.query,
                form.object_name,
                form.model,
                self.shared.choices,
                *self.map.display,
            ],
            self._all,
            preprocess=False,
            validator=check_form,
            **MODEL_QUEUE,
            # The form holds another query by then; its result is what must be shown.
            trigger_mode="always_last",
            show_progress_on=[self.notice, self.verdict],
            api_visibility="private",
        )
        scored.then(None, js=SHOWN, api_visibility="private")

    def score_form_and_show(
        self,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
        *given: Any,
    ) -> Shown:
        """Scores the form, and shows all that there is to see: one way to the server and back."""
        *form, choices, session = given[:6]
        controls = self._controls(given[6:])
        scored, *placed = self.handlers.score_form(*form, session, progress, choices)
        told = {self.session: scored} | dict(zip(self._placed, placed, strict=True))
        if scored == gr.skip():
            return told | (self._shown(None, controls) if session is None else {})
        places = dict(zip(self.map.place, placed[1:3], strict=True))
        return told | self._shown(scored, controls | places)

    def set_threshold(
        self, session: Session | None, threshold: float | None, *display: Any
    ) -> Shown:
        """Judges the score by another threshold, and moves the line round what differs."""
        judged = self.handlers.set_threshold(session, threshold)
        told = zip((self.session, self.verdict, self.code, self.notice), judged, strict=True)
        if judged[0] == gr.skip():
            return dict(told)
        pictures = self.handlers.show_map(judged[0], *display)[:-1]
        return dict(told) | dict(zip(self.map.pictures[:-1], pictures, strict=True))

    def look_closer(
        self,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
        *given: Any,
    ) -> Shown:
        """Looks at the images in parts, and shows their map."""
        session, parts, *display = given
        changed, says, parts = self.handlers.look_closer(session, parts, progress)
        told = {self.session: changed, self.notice: says, self.map.parts: parts}
        if changed == gr.skip():
            return told
        pictures = self.handlers.show_map(changed, *display)
        told |= dict(zip(self.map.pictures, pictures, strict=True))
        return told | {self.code: code_html(changed)}

    def _controls(self, values: Sequence[Any]) -> Shown:
        return dict(zip(self.map.display[1:], values, strict=True))

    def _shown(self, session: Session | None, controls: Shown) -> Shown:
        """All that is seen of a result."""
        values = controls.values()
        pictures = self.handlers.show_map(session, *values)
        words = self.handlers.show_words(session, controls[self.map.layer])
        return dict(zip([*self.map.pictures, *self._words], (*pictures, *words), strict=True))

    def open_after(self, event: Dependency) -> Dependency:
        """Opens this tab once ``event`` has put another session in place, and shows it.

        For the other tabs: the event's handler must have set the session (and, where the visitor
        should find them in the form, the query and the normals).
        """
        return event.success(
            self.show_session,
            self.map.display,
            [self.shared.tabs, *self._all],
            show_progress="hidden",
            api_visibility="private",
        )

    def show_session(self, session: Session | None, *values: Any) -> Shown:
        """Opens the tab with the session that another tab has put in place."""
        placed = self.handlers.opened(session)
        controls = self._controls(values) | dict(zip(self.map.place, placed[1:3], strict=True))
        told = {self.shared.tabs: gr.Tabs(selected=self.id)}
        told |= dict(zip(self._placed, placed, strict=True))
        return told | self._shown(session, controls)

    def _change_after(
        self, trigger: Any, handler: Any, inputs: list, notice: gr.HTML, sends: bool = False
    ) -> Dependency:
        """Shows what a handler makes of the session; the event too where it sends data."""

        def change(event: gr.EventData, session: Session | None, *given: Any) -> Shown:
            own, controls = given[: len(inputs)], self._controls(given[len(inputs) :])
            about = (*own, event) if sends else own
            changed, says, normals = handler(session, *about)
            told = {self.session: changed, notice: says, self.form.normals: normals}
            return told | self._shown(session if changed == gr.skip() else changed, controls)

        change.__name__ = handler.__name__
        return trigger(
            change,
            [self.session, *inputs, *self.map.display[1:]],
            [self.session, notice, self.form.normals, *self.map.pictures, *self._words],
            preprocess=False,
            **MODEL_QUEUE,
            show_progress_on=[self.verdict],
            api_visibility="private",
        )
