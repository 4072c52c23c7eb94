"""Drawing a defect in the tab Learn: a pad over a normal, and the smallest mark that is seen."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ...analysis.drawn import (
    Board,
    Drawing,
    compute_board,
    compute_drawing,
    compute_smallest,
)
from ...analysis.session import SESSION_SECONDS, Session
from ...errors import InctrlError
from ...images.strokes import read_strokes
from ..common.events import sent_text
from ..common.form import MODEL_QUEUE, Shown
from ..common.markup import error_html
from ..common.runner import ModelRunner
from .draw_view import (
    Seen,
    drawing_html,
    pad_html,
    seen_dot,
    seen_drawing,
    sizes_html,
    smallest_html,
)
from .parts import Lesson

ON_LOAD = Path(__file__).with_name("draw.js").read_text(encoding="utf-8")
LEAD = """
<h3 id="ic-step-draw">Draw a defect</h3>
<p class="ic-lead">Draw on a good image and watch the score and the map. How small, how faint may a
mark be, and still be seen? A drawn mark is no real defect: it tells what size and contrast do, not
how many real defects are found.</p>
"""
BEFORE = '<p class="ic-lead ic-drawn">The map of your drawing appears here after each stroke.</p>'


@dataclass(frozen=True, eq=False)
class Desk:
    """What a visitor draws on, and the smallest mark that was seen.

    Attributes:
        session: The result that the normals are of.
        board: One of its normals.
        smallest: By model, files of normals and threshold; for the whole visit.
    """

    session: Session
    board: Board
    smallest: dict[tuple[Any, ...], Seen]

    @property
    def key(self) -> tuple[Any, ...]:
        """Under which the smallest mark on this board is kept."""
        session = self.session
        return session.model, session.normal_files, self.board.measured.threshold

    def with_seen(self, mark: Seen | None) -> Desk:
        """The same after a mark, which is kept where it is the smallest."""
        before = self.smallest.get(self.key)
        if mark is None or (before is not None and before.area <= mark.area):
            return self
        return dataclasses.replace(self, smallest={**self.smallest, self.key: mark})


class DrawSection:
    """The section of the tab: components, events and handlers.

    Args:
        run: Runs what needs a model.
    """

    def __init__(self, run: ModelRunner) -> None:
        self.run = run

    def build(self) -> None:
        """Lays it out."""
        self.desk = gr.State(None, time_to_live=SESSION_SECONDS)
        with gr.Column(visible=False, elem_id="learn-draw") as self.section:
            gr.HTML(LEAD)
            with gr.Row(equal_height=False):
                with gr.Column(min_width=280):
                    self.pad = gr.HTML("", js_on_load=ON_LOAD, elem_id="learn-pad")
                with gr.Column(min_width=280):
                    self.drawn = gr.HTML("", elem_id="learn-drawn")
                    self.sizes = gr.HTML("", elem_id="learn-sizes")
                    self.smallest = gr.HTML("", elem_id="learn-smallest")

    def wire(self, lesson: gr.State) -> None:
        """Connects the events.

        Args:
            lesson: The lesson of the tab.
        """
        given = [self.desk, lesson]
        self.pad.stroke(
            self.draw,
            given,
            [self.desk, self.drawn, self.sizes, self.smallest],
            **MODEL_QUEUE,
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
        self.pad.smallest(
            self.find_size,
            given,
            [self.desk, self.sizes, self.smallest],
            **MODEL_QUEUE,
            show_progress_on=[self.sizes],
            api_visibility="private",
        )

    @property
    def places(self) -> list[gr.components.Component]:
        """All that :meth:`pad_of` writes."""
        return [self.section, self.pad, self.drawn, self.sizes, self.smallest]

    def pad_of(self, lesson: Lesson | None) -> Shown:
        """A normal of the lesson to draw on, and no result yet."""
        told = dict.fromkeys(self.places, "") | {self.section: gr.Column(visible=bool(lesson))}
        if lesson is None:
            return told
        try:
            return told | {self.pad: pad_html(lesson.session), self.drawn: BEFORE}
        except InctrlError as error:
            return told | {self.pad: error_html(str(error))}

    def draw(self, desk: Desk | None, lesson: Lesson | None, event: gr.EventData) -> Shown:
        """Scores what is drawn now; what was found of sizes ends with another drawing."""
        try:
            strokes = read_strokes(sent_text(event, "strokes"))
            desk = self._sit_down(desk, lesson)
            step = self.run.steps_of(desk.session.model)
            drawing: Drawing = compute_drawing(step, desk.board, strokes)
        except InctrlError as error:
            return {self.drawn: error_html(str(error))}
        told = {self.drawn: drawing_html(desk.board, drawing), self.sizes: ""}
        return told | self._kept(desk.with_seen(seen_drawing(desk.board, drawing)))

    def find_size(self, desk: Desk | None, lesson: Lesson | None, event: gr.EventData) -> Shown:
        """Looks for the smallest dot that is seen, like the last stroke."""
        try:
            strokes = read_strokes(sent_text(event, "strokes"))
            if not strokes:
                raise InctrlError("Draw a stroke first; its place, colour and softness are tried.")
            desk = self._sit_down(desk, lesson)
            step = self.run.steps_of(desk.session.model)
            sizes = compute_smallest(step, desk.board, strokes[-1])
        except InctrlError as error:
            return {self.sizes: error_html(str(error))}
        told = {self.sizes: sizes_html(desk.board, strokes[-1], sizes)}
        return told | self._kept(desk.with_seen(seen_dot(desk.board, strokes[-1], sizes)))

    def _kept(self, desk: Desk) -> Shown:
        return {self.desk: desk, self.smallest: smallest_html(desk.smallest.get(desk.key))}

    def _sit_down(self, desk: Desk | None, lesson: Lesson | None) -> Desk:
        """The desk of the lesson: the one that is there, or a new one.

        Raises:
            InctrlError: There is no lesson, or its normals cannot be drawn on.
        """
        if lesson is None:
            raise InctrlError("Choose an example first.")
        session = lesson.session
        if desk is not None and desk.session is session:
            return desk
        board = compute_board(self.run.steps_of(session.model), session, self.run.images)
        return Desk(session, board, {} if desk is None else desk.smallest)
