"""The tab Inspect: score one image, and look closely at why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.events import Dependency

from ...analysis.changes import with_threshold
from ...analysis.session import Session
from ...errors import InctrlError
from ..common.downloads import DOWNLOAD
from ..common.examples import ON_LOAD, gallery_html
from ..common.form import ANALYSIS_QUEUE, MODEL_QUEUE, Shared, Shown, check_form
from ..common.markup import error_html
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
from .handlers import InspectHandlers, held
from .ignore import pad_html
from .map_view import parts_of
from .render import missing_html
from .result import ResultView
from .verdict import verdict_html

WELCOME = (
    '<div class="ic-welcome"><h2>Is this image like the others?</h2><p>Click an example above, or '
    "add a few normal images and one to check, and press <strong>Score</strong>.</p>"
    "</div>"
)
STAYS = "Below is still the last result."


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
        self.result = ResultView(shared.session)
        self.map, self.defects = self.result.map, self.result.defects

    def build(self) -> None:
        """Lays out the tab."""
        self.notice = gr.HTML(WELCOME, elem_id="notice")
        self.result.build()

    def build_gallery(self) -> None:
        """Lays out the examples, from which one click fills the form and scores."""
        cards = gallery_html(self.shared.examples)
        self.gallery = gr.HTML(cards, js_on_load=ON_LOAD, elem_id="examples")

    def wire(self) -> None:
        """Connects the events."""
        self._wire_form()
        self._wire_display()
        self._wire_changes()
        self._wire_files()
        self.map.wire()

    def _wire_form(self) -> None:
        form = self.form
        self.shared.page.load(
            None, self.notice, self.notice, js=OPEN_LINK, api_visibility="private"
        )
        self._score_after(form.button.click)
        # Other tabs show the field too, and have buttons of their own for what they do.
        form.object_name.submit(None, js=PRESS_SCORE, api_visibility="private")
        for source in (self.gallery, form.queries):
            filled = source.click(
                self.shared.open_example,
                None,
                self.shared.filled,
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

    def _wire_display(self) -> None:
        self.result.threshold.input(
            self.set_threshold,
            [self.session, self.result.threshold, *self.map.controls],
            [self.session, self.result.verdict, self.result.code, self.notice, *self.map.pictures],
            trigger_mode="always_last",
            show_progress="hidden",
            concurrency_limit=4,
            api_visibility="private",
        ).then(None, js=THRESHOLD_MOVED, api_visibility="private")
        self.map.parts.input(
            self.look_closer,
            [self.session, self.map.parts, *self.map.controls],
            [self.session, self.notice, self.map.parts, *self.map.pictures, self.result.code],
            **ANALYSIS_QUEUE,
            trigger_mode="always_last",
            show_progress_on=[self.map.bar],
            api_visibility="private",
        ).then(None, js=DESCRIBED, api_visibility="private")
        self.result.ignore.propose(
            self.propose_background,
            self.session,
            [self.result.ignore, self.notice],
            show_progress_on=self.result.ignore,
            concurrency_limit=4,
            api_visibility="private",
        )
        self.result.find_missing.click(
            self.find_missing,
            self.session,
            self.result.missing,
            show_progress_on=self.result.missing,
            concurrency_limit=4,
            api_visibility="private",
        )

    def _wire_changes(self) -> None:
        self._change_after(
            self.result.looks_for.input,
            self.handlers.look_for,
            [self.result.looks_for],
            self.notice,
        )
        self._change_after(
            self.result.apply.click,
            self.handlers.use_phrases,
            [self.result.own_normal, self.result.own_anomaly],
            self.result.phrase_notice,
        )
        for button, handler in (
            (self.result.toggle_normal, self.handlers.toggle_normal),
            (self.result.leave_out, self.handlers.leave_out),
        ):
            changed = self._change_after(button.click, handler, [self.form.normals], self.notice)
            changed.then(None, js=CHANGED, api_visibility="private")
        place = self.map.place
        for trigger, handler, given, sends in (
            (self.defects.show.click, self.handlers.toggle_defect, [], False),
            (self.defects.here.click, self.handlers.defect_here, place, False),
            (self.defects.listed.click, self.handlers.forget_defect, [], True),
            (self.result.ignore.click, self.handlers.ignore, [], True),
        ):
            changed = self._change_after(trigger, handler, given, self.notice, sends)
            changed.then(None, js=CHANGED, api_visibility="private")

    def _wire_files(self) -> None:
        for button, handler, given in (
            (self.result.save, self.save_result, [self.session, *self.map.controls]),
            (self.result.keep, self.save_normals, [self.session]),
        ):
            saved = button.click(
                handler,
                given,
                [self.result.download, self.notice],
                show_progress_on=button,
                api_visibility="private",
            )
            saved.success(None, self.result.download, js=DOWNLOAD, api_visibility="private")
        form = self.form
        opened = form.load.upload(
            self.handlers.open_normals,
            form.load,
            [self.shared.choices, form.normals, form.object_name],
            preprocess=False,
            show_progress_on=form.normals,
            api_visibility="private",
        )
        opened.success(None, self.notice, self.notice, js=FORM_CHANGED, api_visibility="private")

    @property
    def _all(self) -> list[gr.components.Component]:
        fields = [self.notice, *self.map.place, *self.result.fields]
        return [self.session, *fields, *self.result.outputs]

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
                self.session,
                *self.map.controls,
            ],
            self._all,
            preprocess=False,
            validator=check_form,
            **MODEL_QUEUE,
            # The form holds another query by then; its result is what must be shown.
            trigger_mode="always_last",
            show_progress_on=[self.notice, self.result.verdict],
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
        try:
            scored = self.handlers.score_form(*form, session, progress, choices)
        except InctrlError as error:
            if session is None:
                return {self.notice: error_html(str(error))} | self.result.shown(None, controls)
            return {self.notice: error_html(f"{error} {STAYS}")}
        told = {self.session: scored, self.notice: ""} | self.map.strongest(scored)
        # Written only where the phrases in use were dropped: the visitor may be typing there.
        if session is not None and session.phrases != scored.phrases:
            told |= self.result.phrases(scored)
        return told | self.result.shown(scored, controls | told)

    def set_threshold(
        self, session: Session | None, threshold: float | None, *values: Any
    ) -> Shown:
        """Judges the score by another threshold, and moves the line round what differs."""

        def judge() -> Shown:
            judged = with_threshold(held(session), threshold)
            told = {self.session: judged, self.result.verdict: verdict_html(judged)}
            drawn = self.map.drawn(judged, self._controls(values))
            return told | {self.result.code: code_html(judged)} | drawn

        return self._told(judge)

    def look_closer(
        self,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
        *given: Any,
    ) -> Shown:
        """Looks at the images in parts, and shows their map."""
        session, parts, *values = given

        def look() -> Shown:
            closer = self.handlers.look_closer(held(session), parts, progress)
            told = {self.session: closer, self.result.code: code_html(closer)}
            drawn = self.map.shown(closer, self._controls(values))
            return told | drawn | {self.map.parts: parts}

        return {self.map.parts: parts_of(session)} | self._told(look)

    def propose_background(self, session: Session | None) -> Shown:
        """Marks the background that the normals agree on."""

        def mark() -> Shown:
            part = self.handlers.propose_background(held(session))
            return {self.result.ignore: pad_html(held(session), part)}

        return self._told(mark)

    def find_missing(self, session: Session | None) -> Shown:
        """Shows what the normals have and the query lacks."""
        missing = self.result.missing
        return self._told(lambda: {missing: missing_html(held(session))}, missing)

    def save_result(self, session: Session | None, *values: Any) -> Shown:
        """Offers one page of the result, as it is shown, to download."""

        def save() -> Shown:
            display = self.map.chosen(held(session), self._controls(values))
            return {self.result.download: self.handlers.save(held(session), display)}

        return {self.result.download: None} | self._told(save)

    def save_normals(self, session: Session | None) -> Shown:
        """Offers the normals, with all that was chosen for them, to download."""
        download, save = self.result.download, self.handlers.save_normals
        return {download: None} | self._told(lambda: {download: save(held(session))})

    def _told(self, step: Callable[[], Shown], notice: gr.HTML | None = None) -> Shown:
        """The result of a step, or the sentence that says why there is none."""
        notice = self.notice if notice is None else notice
        try:
            return {notice: ""} | step()
        except InctrlError as error:
            return {notice: error_html(str(error))}

    def _controls(self, values: Sequence[Any]) -> Shown:
        return dict(zip(self.map.controls, values, strict=True))

    def open_after(self, event: Dependency) -> Dependency:
        """Opens this tab once ``event`` has put another session in place, and shows it.

        For the other tabs: the event's handler must have set the session (and, where the visitor
        should find them in the form, the query and the normals).
        """
        return event.success(
            self.show_session,
            [self.session, *self.map.controls],
            [self.shared.tabs, *self._all],
            show_progress="hidden",
            api_visibility="private",
        )

    def show_session(self, session: Session | None, *values: Any) -> Shown:
        """Opens the tab with the session that another tab has put in place."""
        controls = self._controls(values)
        told = {self.shared.tabs: gr.Tabs(selected=self.id), self.notice: ""}
        if session is not None:
            told |= self.map.strongest(session) | self.result.phrases(session)
        return told | self.result.shown(session, controls | told)

    def _change_after(
        self, trigger: Any, handler: Any, inputs: list, notice: gr.HTML, sends: bool = False
    ) -> Dependency:
        """Shows the session that a handler gives; it gets the event too where that sends data."""

        def change(event: gr.EventData, session: Session | None, *given: Any) -> Shown:
            own, controls = given[: len(inputs)], self._controls(given[len(inputs) :])
            about = (*own, event) if sends else own
            try:
                changed = handler(held(session), *about)
            except InctrlError as error:
                return {notice: error_html(str(error))} | self.result.shown(session, controls)
            told = {self.session: changed, notice: ""}
            if changed.normal_files != session.normal_files:
                told[self.form.normals] = list(changed.normal_files)
            return told | self.result.shown(changed, controls)

        change.__name__ = handler.__name__
        return trigger(
            change,
            [self.session, *inputs, *self.map.controls],
            [self.session, notice, self.form.normals, *self.result.outputs],
            preprocess=False,
            **MODEL_QUEUE,
            show_progress_on=[self.result.verdict],
            api_visibility="private",
        )
