"""The handlers of the tab Inspect; all that belongs to a visitor comes in as an argument."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import gradio as gr
import numpy as np

from ...analysis.background import propose_background
from ...analysis.changes import (
    with_looks_for,
    with_phrases,
    with_query_as_normal,
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
from ...analysis.inspection import has_bank_of, same_files
from ...analysis.session import Session
from ...checkpoints.bank_file import read_normals, save_bank
from ...errors import InctrlError
from ...images.ignored import check_part, part_from_text
from ...model.prompts import DEFAULT_OBJECT_NAME
from ..common.choices import Choices, judged_by, read_files, unpack
from ..common.downloads import new_file
from ..common.events import sent
from ..common.examples import ExampleSet, match_example
from ..common.form import UploadedFile, UploadedGallery, file_path, gallery_paths
from ..common.heatmap import Display, patch_place
from ..common.models import ModelRegistry
from ..common.runner import ModelRunner, download_progress
from .report import report_html

# Sessions end after an hour; the page goes on showing what it has.
EXPIRED = "This result has expired; score the image again."
NO_BACKGROUND = "The normals agree on no background: mark by hand what does not count."
OTHER_NORMALS = (
    "The form holds other normals than this result was made with; press Score again first."
)


def held(session: Session | None) -> Session:
    """The session itself.

    Raises:
        InctrlError: The server has it no more.
    """
    if session is None:
        raise InctrlError(EXPIRED)
    return session


class InspectHandlers:
    """Handlers over what all visitors share; most take a session and give the next one.

    Every one raises an :class:`InctrlError` with a sentence for the visitor, and has changed
    nothing then.

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
    ) -> Session:
        """Scores the form's query against its normals."""
        progress(0.1, desc="Comparing with the normals")
        files = gallery_paths(normals), file_path(query)
        # What the visitor looks for stays chosen, whatever the form holds.
        looks_for = None if session is None else session.bank.looks_for
        chosen = self._chosen(choices, model, files[0], session)
        if chosen is not None:
            looks_for = chosen.looks_for
        about = object_name or "", session, download_progress(progress), looks_for
        scored = self.run.start_session(model, files, *about)
        if chosen is not None:
            scored = self._with_choices(scored, chosen)
        return dataclasses.replace(scored, anomalous=self._truth(scored.query_file))

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

    def save_normals(self, session: Session) -> str:
        """Makes a file of the normals, with all that was chosen for them, to download."""
        images = read_files(session.normal_files)
        detector = self.registry.get(session.model)
        name = safe_names([session.bank.object_name])[0]
        with new_file(f"InCTRL normals {name}.safetensors") as path:
            about = session.normal_names, session.chosen, images
            save_bank(path, session.bank, detector, *about)
        return str(path)

    def _truth(self, query: str) -> bool | None:
        """Whether a file is anomalous; None where it is none of the examples'."""
        name, places = match_example([query], self.examples)
        return self.examples[name].queries[places[0]].anomalous if places else None

    def use_phrases(self, session: Session, normal: str | None, anomaly: str | None) -> Session:
        """Adds the visitor's phrases to the prompts, or removes them, and scores again."""
        lines = (normal or "").splitlines(), (anomaly or "").splitlines()
        return self.run(with_phrases, session.model, session, *lines)

    def look_for(self, session: Session, looks_for: str) -> Session:
        """Scores again for another kind of anomaly."""
        return self.run(with_looks_for, session.model, session, looks_for)

    def look_closer(
        self,
        session: Session,
        parts: int,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> Session:
        """Looks at the images in parts."""

        def show(done: int, steps: int) -> None:
            progress((done, steps), desc="Comparing the parts")

        return self.run.look_closer(session, parts, show)

    def ignore(self, session: Session, event: gr.EventData) -> Session:
        """Ignores the part that was marked, or counts everything again."""
        marked = sent(event).get("part")
        part = None if marked is None else check_part(part_from_text(marked))
        return self.run.ignore(session, part)

    def propose_background(self, session: Session) -> np.ndarray:
        """The background that the normals agree on, bool [CELLS, CELLS]; nothing is ignored yet."""
        part = propose_background(session.bank)
        if part is None:
            raise InctrlError(NO_BACKGROUND)
        return part

    def leave_out(self, session: Session, normals: UploadedGallery) -> Session:
        """Leaves out the normal that differs too much from the others."""
        return self._change_normals(session, normals, without_odd_normal)

    def toggle_normal(self, session: Session, normals: UploadedGallery) -> Session:
        """Adds the scored query to the normals, to quiet a false alarm, or takes it out again."""
        added = session.score.copy_of is not None
        step = without_query_as_normal if added else with_query_as_normal
        return self._change_normals(session, normals, step)

    def _change_normals(
        self, session: Session, normals: UploadedGallery, step: Callable[..., Session]
    ) -> Session:
        if not same_files(gallery_paths(normals), session.normal_files):
            raise InctrlError(OTHER_NORMALS)
        return self.run(step, session.model, session)

    def toggle_defect(self, session: Session) -> Session:
        """Shows the scored query as a defect, or forgets that it is one."""
        shown = shown_as_defect(session)
        if shown is None:
            return self.run(with_defect, session.model, session)
        return self.run(without_defect, session.model, session, shown)

    def defect_here(self, session: Session, row: float | None, column: float | None) -> Session:
        """Shows the patch that is looked at, and those around it, as a defect."""
        place = patch_place(session, row), patch_place(session, column)
        return self.run(with_defect, session.model, session, place)

    def forget_defect(self, session: Session, event: gr.EventData) -> Session:
        """Forgets the defect whose button was pressed."""
        number = sent(event).get("defect")
        number = number if type(number) is int else -1
        return self.run(without_defect, session.model, session, number)

    def save(self, session: Session, display: Display) -> str:
        """Makes one page of the result, as it is shown, to download."""
        report = report_html(session, display, date.today())
        name = safe_names([session.bank.object_name])[0]
        with new_file(f"InCTRL {name} {session.score.fused:.3f}.html") as path:
            path.write_text(report, encoding="utf-8")
        return str(path)
