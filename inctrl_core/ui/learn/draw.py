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
from ...analysis.inspection import SESSION_SECONDS, Session
from ...errors import InctrlError
from ...images.strokes import read_strokes
from ..common.events import sent_text
from ..common.form import MODEL_QUEUE
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


class DrawHandlers:
    """The handlers; all that belongs to a visitor comes in as an argument.

    Args:
        run: Runs what needs a model.
    """

    def __init__(self, run: ModelRunner) -> None:
        self.run = run

    def show_pad(self, lesson: Lesson | None) -> tuple[Any, str, str, str, str]:
        """Lays out a normal of the lesson to draw on.

        Returns:
            The section, the pad, and what stands in place of a map, of sizes, of what was seen.
        """
        if lesson is None:
            return gr.Column(visible=False), "", "", "", ""
        try:
            return gr.Column(visible=True), pad_html(lesson.session), BEFORE, "", ""
        except InctrlError as error:
            return gr.Column(visible=True), error_html(str(error)), "", "", ""

    def draw(
        self, desk: Desk | None, lesson: Lesson | None, event: gr.EventData
    ) -> tuple[Any, str, Any, Any]:
        """Scores what is drawn now.

        Returns:
            The desk, the map with its words, the sizes, which another drawing ends, and the
            smallest mark seen.
        """
        try:
            strokes = read_strokes(sent_text(event, "strokes"))
            desk = self._sit_down(desk, lesson)
            step = self.run.steps_of(desk.session.model)
            drawing: Drawing = compute_drawing(step, desk.board, strokes)
        except InctrlError as error:
            return gr.skip(), error_html(str(error)), gr.skip(), gr.skip()
        desk = desk.with_seen(seen_drawing(desk.board, drawing))
        return desk, drawing_html(desk.board, drawing), "", self._so_far(desk)

    def find_size(
        self, desk: Desk | None, lesson: Lesson | None, event: gr.EventData
    ) -> tuple[Any, str, Any]:
        """Looks for the smallest dot that is seen, like the last stroke.

        Returns:
            The desk, the sizes, and the smallest mark seen.
        """
        try:
            strokes = read_strokes(sent_text(event, "strokes"))
            if not strokes:
                raise InctrlError("Draw a stroke first; its place, colour and softness are tried.")
            desk = self._sit_down(desk, lesson)
            step = self.run.steps_of(desk.session.model)
            sizes = compute_smallest(step, desk.board, strokes[-1])
        except InctrlError as error:
            return gr.skip(), error_html(str(error)), gr.skip()
        desk = desk.with_seen(seen_dot(desk.board, strokes[-1], sizes))
        return desk, sizes_html(desk.board, strokes[-1], sizes), self._so_far(desk)

    def _so_far(self, desk: Desk) -> str:
        return smallest_html(desk.smallest.get(desk.key))

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


class DrawSection:
    """The section of the tab.

    Args:
        run: Runs what needs a model.
    """

    def __init__(self, run: ModelRunner) -> None:
        self.handlers = DrawHandlers(run)

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

    def wire(self, lesson: gr.State, shown: Any) -> None:
        """Connects the events.

        Args:
            lesson: The lesson of the tab.
            shown: Registers what follows once a lesson is shown.
        """
        private = {"api_visibility": "private"}
        shown(
            self.handlers.show_pad,
            lesson,
            [self.section, self.pad, self.drawn, self.sizes, self.smallest],
            show_progress="hidden",
            **private,
        )
        self.pad.stroke(
            self.handlers.draw,
            [self.desk, lesson],
            [self.desk, self.drawn, self.sizes, self.smallest],
            **MODEL_QUEUE,
            trigger_mode="always_last",
            show_progress="hidden",
            **private,
        )
        self.pad.smallest(
            self.handlers.find_size,
            [self.desk, lesson],
            [self.desk, self.sizes, self.smallest],
            **MODEL_QUEUE,
            show_progress_on=[self.sizes],
            **private,
        )
