"""The handlers of the tab Inspect; all that belongs to a visitor comes in as an argument."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import gradio as gr

from ...analysis.background import propose_background
from ...analysis.changes import (
    with_looks_for,
    with_phrases,
    with_query_as_normal,
    with_threshold,
    without_odd_normal,
    without_query_as_normal,
)
from ...analysis.defects import (
    beside_kept,
    shown_as_defect,
    with_defect,
    without_defect,
)
from ...analysis.export import safe_names
from ...analysis.inspection import Session, has_bank_of, same_files
from ...checkpoints.bank_file import read_normals, save_bank
from ...errors import InctrlError
from ...images.ignored import check_part, part_from_text
from ...images.preprocessing import patch_at
from ...model.prompts import DEFAULT_OBJECT_NAME
from ..common.charts import axis_top
from ..common.choices import Choices, judged_by, read_files, unpack
from ..common.downloads import new_file
from ..common.events import sent, sent_place
from ..common.examples import ExampleSet, match_example
from ..common.form import UploadedFile, UploadedGallery, file_path, gallery_paths
from ..common.heatmap import Display, heatmap, layers, offered_layer, patch_place, strongest_patch
from ..common.markup import error_html
from ..common.models import ModelRegistry
from ..common.runner import ModelRunner, download_progress
from .code import code_html
from .defects import SHOW, defects_html
from .ignore import pad_html
from .render import ledger_html, missing_html, provenance_html, text_html
from .report import report_html
from .verdict import verdict_html

ADD = "False alarm? Add this image to the normals"
TAKE_OUT = "Take this image out of the normals again"
NO_DEFECT = "This is no defect after all"
# Keys of inctrl_core.model.evidence.LOOKS_FOR, in the order of the page.
LOOKS_FOR = {
    "decide": "decide from my normals",
    "flaw": "a flaw in the thing",
    "kind": "another kind of thing",
}
# Sessions end after an hour; the page goes on showing what it has.
EXPIRED = "This result has expired; score the image again."
NO_BACKGROUND = "The normals agree on no background: mark by hand what does not count."
STAYS = "Below is still the last result."
OTHER_NORMALS = (
    "The form holds other normals than this result was made with; press Score again first."
)


class InspectHandlers:
    """Handlers over what all visitors share.

    Args:
        registry: The models.
        examples: The example sets.
    """

    def __init__(self, registry: ModelRegistry, examples: Mapping[str, ExampleSet]) -> None:
        self.registry = registry
        self.run = ModelRunner(registry)
        self.examples = examples

    def score_form(
        self,
        normals: UploadedGallery,
        query: UploadedFile,
        object_name: str | None,
        model: str,
        session: Session | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
        choices: Choices | None = None,
    ) -> tuple[Any, ...]:
        """Scores the form's query against its normals.

        Returns:
            The new session, what to say above the result, the row and the column of the strongest
            patch, and the contents of the two fields for phrases. After an error what the visitor
            had stays, under the sentence that says what is wrong.
        """
        previous = session
        try:
            progress(0.1, desc="Comparing with the normals")
            files = gallery_paths(normals), file_path(query)
            # What the visitor looks for stays chosen, whatever the form holds.
            looks_for = None if previous is None else previous.bank.looks_for
            chosen = self._chosen(choices, model, files[0], previous)
            if chosen is not None:
                looks_for = chosen.looks_for
            about = object_name or "", previous, download_progress(progress), looks_for
            session = self.run.start_session(model, files, *about)
            if chosen is not None:
                session = self._with_choices(session, chosen)
        except InctrlError as error:
            says = str(error) if previous is None else f"{error} {STAYS}"
            return (gr.skip(), error_html(says), *[gr.skip()] * 4)
        session = dataclasses.replace(session, anomalous=self._truth(session.query_file))
        # Written only where the phrases in use were dropped: the visitor may be typing there.
        dropped = previous is not None and previous.phrases != session.phrases
        fields = _phrase_fields(session) if dropped else (gr.skip(), gr.skip())
        return session, "", *strongest_patch(session), *fields

    def _chosen(
        self, choices: Choices | None, model: str, files: Sequence[str], previous: Session | None
    ) -> Choices | None:
        """The choices that hold for these normals; None once the visitor has a result of them."""
        if choices is None or has_bank_of(previous, model, files):
            return None
        return choices if choices.hold_for(files) else None

    def _with_choices(self, session: Session, choices: Choices) -> Session:
        if any(choices.phrases):
            spoken = self.run(with_phrases, session.model, session, *choices.phrases)
            session = dataclasses.replace(spoken, before=None, change="")
        if choices.ignored:
            session = self.run.ignore(session, choices.part)
            session = dataclasses.replace(session, before=None, change="", threshold_before=None)
        digest = self.run.digest(session.model)
        measured = judged_by(session.measured, session.normal_files, choices, digest)
        if choices.defects:
            return self.run(beside_kept, session.model, session, measured)
        return dataclasses.replace(session, measured=measured)

    def open_normals(self, file: UploadedFile) -> tuple[Any, ...]:
        """Opens normals that were saved.

        Returns:
            The choices that were saved with them, then normals and name for the form.
        """
        try:
            if not file_path(file):
                raise InctrlError("Choose a file of normals that this page saved.")
            saved = read_normals(file_path(file))
        except InctrlError as error:
            raise gr.Error(str(error), print_exception=False) from None
        choices = unpack(saved)
        name = "" if saved.object_name == DEFAULT_OBJECT_NAME else saved.object_name
        return choices, list(choices.files), name

    def save_normals(self, session: Session | None) -> tuple[Any, str]:
        """Makes a file of the normals, with all that was chosen for them, to download."""
        if session is None:
            return None, error_html(EXPIRED)
        try:
            images = read_files(session.normal_files)
            detector = self.registry.get(session.model)
            name = safe_names([session.bank.object_name])[0]
            with new_file(f"InCTRL normals {name}.safetensors") as path:
                about = session.normal_names, session.chosen, images
                save_bank(path, session.bank, detector, *about)
        except InctrlError as error:
            return None, error_html(str(error))
        return str(path), ""

    def _truth(self, query: str) -> bool | None:
        """Whether a file is anomalous; None where it is none of the examples'."""
        name, places = match_example([query], self.examples)
        return self.examples[name].queries[places[0]].anomalous if places else None

    def opened(self, session: Session | None) -> tuple[Any, ...]:
        """Of a session that another tab has put in place: what :meth:`score_form` adds to it."""
        if session is None:
            return "", 1, 1, gr.skip(), gr.skip()
        return "", *strongest_patch(session), *_phrase_fields(session)

    def show_map(
        self,
        session: Session | None,
        layer: str,
        colour_map: str,
        opacity: float,
        smooth: bool,
        whole: bool,
        row: float | None,
        column: float | None,
        compare: bool,
    ) -> tuple[Any, Any, Any, Any]:
        """Draws the heatmap and the examined patch anew, from what the session holds."""
        if session is None:
            return gr.skip(), gr.skip(), gr.skip(), error_html(EXPIRED)
        try:
            layer = offered_layer(session, layer)
            display = Display(layer, colour_map, opacity, smooth, whole, row, column)
            image, bar = heatmap(session, display)
        except InctrlError as error:
            return gr.skip(), gr.skip(), gr.skip(), error_html(str(error))
        try:
            provenance = provenance_html(session, display)
        except InctrlError as error:
            provenance = error_html(str(error))
        pair = (session.query.image, image) if compare else None
        return (
            gr.Image(value=image, visible=not compare),
            gr.ImageSlider(value=pair, visible=compare),
            bar,
            provenance,
        )

    def show_words(self, session: Session | None, layer: str) -> tuple[Any, ...]:
        """Writes all that the display controls do not change, and shows or hides the result."""
        if session is None:
            return gr.Column(visible=False), "", *[gr.skip()] * 7, *[""] * 6
        return (
            gr.Column(visible=True),
            verdict_html(session),
            _leave_out(session),
            _threshold_slider(session),
            gr.Radio(value=session.bank.looks_for, visible=session.config.heads.form == "gated"),
            gr.Radio(layers(session), value=offered_layer(session, layer)),
            parts_of(session),
            ADD if session.score.copy_of is None else TAKE_OUT,
            SHOW if shown_as_defect(session) is None else NO_DEFECT,
            defects_html(session),
            pad_html(session),
            text_html(session),
            ledger_html(session),
            code_html(session),
            "",
        )

    def find_missing(self, session: Session | None) -> str:
        """Shows what the normals have and the query lacks."""
        return error_html(EXPIRED) if session is None else missing_html(session)

    def set_threshold(
        self, session: Session | None, threshold: float | None
    ) -> tuple[Any, Any, Any, Any]:
        """Judges the score by another threshold; nothing is computed again."""
        try:
            if session is None:
                raise InctrlError(EXPIRED)
            chosen = with_threshold(session, threshold)
        except InctrlError as error:
            return gr.skip(), gr.skip(), gr.skip(), error_html(str(error))
        return chosen, verdict_html(chosen), code_html(chosen), ""

    def pick_patch(self, session: Session | None, event: gr.EventData) -> tuple[Any, Any]:
        """Turns a click on the heatmap into a row and a column."""
        clicked = sent_place(event)
        if session is None or clicked is None:
            return gr.skip(), gr.skip()
        x, y = clicked
        grid = session.score.patch_map.shape[0]
        place = patch_at(session.query.crop_box, grid, x, y)
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
            lines = (normal or "").splitlines(), (anomaly or "").splitlines()
            return self.run(with_phrases, session.model, session, *lines), "", gr.skip()
        except InctrlError as error:
            return gr.skip(), error_html(str(error)), gr.skip()

    def look_for(self, session: Session | None, looks_for: str) -> tuple[Any, Any, Any]:
        """Scores again for another kind of anomaly."""
        try:
            if session is None:
                raise InctrlError(EXPIRED)
            return self.run(with_looks_for, session.model, session, looks_for), "", gr.skip()
        except InctrlError as error:
            return gr.skip(), error_html(str(error)), gr.skip()

    def look_closer(
        self,
        session: Session | None,
        parts: int,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> tuple[Any, Any, int]:
        """Looks at the images in parts.

        Returns:
            The session, what to say above the result, and the parts that the map is of.
        """
        if session is None:
            return gr.skip(), error_html(EXPIRED), 1

        def show(done: int, steps: int) -> None:
            progress((done, steps), desc="Comparing the parts")

        try:
            return self.run.look_closer(session, parts, show), "", parts
        except InctrlError as error:
            return gr.skip(), error_html(str(error)), parts_of(session)

    def ignore(self, session: Session | None, event: gr.EventData) -> tuple[Any, Any, Any]:
        """Ignores the part that was marked, or counts everything again."""
        marked = sent(event).get("part")
        try:
            if session is None:
                raise InctrlError(EXPIRED)
            part = None if marked is None else check_part(part_from_text(marked))
            return self.run.ignore(session, part), "", gr.skip()
        except InctrlError as error:
            return gr.skip(), error_html(str(error)), gr.skip()

    def propose_background(self, session: Session | None) -> tuple[Any, str]:
        """Marks the background that the normals agree on; nothing is ignored yet."""
        try:
            if session is None:
                raise InctrlError(EXPIRED)
            part = propose_background(session.bank)
            if part is None:
                raise InctrlError(NO_BACKGROUND)
        except InctrlError as error:
            return gr.skip(), error_html(str(error))
        return pad_html(session, part), ""

    def leave_out(self, session: Session | None, normals: UploadedGallery) -> tuple[Any, Any, Any]:
        """Leaves out the normal that differs too much from the others."""
        return self._change_normals(session, normals, without_odd_normal)

    def toggle_normal(
        self, session: Session | None, normals: UploadedGallery
    ) -> tuple[Any, Any, Any]:
        """Adds the scored query to the normals, to quiet a false alarm, or takes it out again."""
        added = session is not None and session.score.copy_of is not None
        step = without_query_as_normal if added else with_query_as_normal
        return self._change_normals(session, normals, step)

    def toggle_defect(self, session: Session | None) -> tuple[Any, Any, Any]:
        """Shows the scored query as a defect, or forgets that it is one."""
        shown = None if session is None else shown_as_defect(session)
        if shown is None:
            return self._change_defects(session, with_defect)
        return self._change_defects(session, without_defect, shown)

    def defect_here(
        self, session: Session | None, row: float | None, column: float | None
    ) -> tuple[Any, Any, Any]:
        """Shows the patch that is looked at, and those around it, as a defect."""
        try:
            if session is None:
                raise InctrlError(EXPIRED)
            place = patch_place(session, row), patch_place(session, column)
        except InctrlError as error:
            return gr.skip(), error_html(str(error)), gr.skip()
        return self._change_defects(session, with_defect, place)

    def forget_defect(self, session: Session | None, event: gr.EventData) -> tuple[Any, Any, Any]:
        """Forgets the defect whose button was pressed."""
        number = sent(event).get("defect")
        return self._change_defects(session, without_defect, number if type(number) is int else -1)

    def _change_defects(
        self, session: Session | None, step: Callable[..., Session], *about: Any
    ) -> tuple[Any, Any, Any]:
        try:
            if session is None:
                raise InctrlError(EXPIRED)
            return self.run(step, session.model, session, *about), "", gr.skip()
        except InctrlError as error:
            return gr.skip(), error_html(str(error)), gr.skip()

    def _change_normals(
        self, session: Session | None, normals: UploadedGallery, step: Callable[..., Session]
    ) -> tuple[Any, Any, Any]:
        try:
            if session is None:
                raise InctrlError("Score an image first.")
            if not same_files(gallery_paths(normals), session.normal_files):
                raise InctrlError(OTHER_NORMALS)
            changed = self.run(step, session.model, session)
        except InctrlError as error:
            return gr.skip(), error_html(str(error)), gr.skip()
        return changed, "", list(changed.normal_files)

    def save(
        self,
        session: Session | None,
        layer: str,
        colour_map: str,
        opacity: float,
        smooth: bool,
        whole: bool,
        row: float | None,
        column: float | None,
    ) -> tuple[Any, str]:
        """Makes one page of the result, as it is shown, to download."""
        if session is None:
            return None, error_html(EXPIRED)
        try:
            shown = offered_layer(session, layer)
            display = Display(shown, colour_map, opacity, smooth, whole, row, column)
            report = report_html(session, display, date.today())
            name = safe_names([session.bank.object_name])[0]
            with new_file(f"InCTRL {name} {session.score.fused:.3f}.html") as path:
                path.write_text(report, encoding="utf-8")
        except InctrlError as error:
            return None, error_html(str(error))
        return str(path), ""


def parts_of(session: Session) -> int:
    """Parts a side of the closer look; 1 where there is none."""
    return 1 if session.closer is None else session.closer.parts


def _leave_out(session: Session) -> gr.Button:
    if session.odd is None:
        return gr.Button(visible=False)
    return gr.Button(f"Leave out normal {session.odd.index + 1}", visible=True)


def _threshold_slider(session: Session) -> gr.Slider:
    """The slider at the session's threshold, with room above all that is shown beside it."""
    threshold, ranges = session.threshold, session.ranges
    if threshold is None:
        return gr.Slider(visible=False)
    highest = 0.0 if ranges is None else ranges.highest
    top = axis_top(max(session.score.fused, highest, threshold))
    return gr.Slider(value=round(threshold, 3), maximum=top, visible=True)


def _phrase_fields(session: Session) -> tuple[str, str]:
    normal, anomaly = session.phrases
    return "\n".join(normal), "\n".join(anomaly)
