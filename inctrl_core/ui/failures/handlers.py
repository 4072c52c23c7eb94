"""The handlers of the tab Failures; all that belongs to a visitor comes in as an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ...analysis.inspection import Session
from ...checkpoints.hub import Progress
from ...errors import InctrlError
from ..common.events import sent_text
from ..common.examples import thumbnail
from ..common.markup import error_html
from ..common.models import ModelRegistry
from ..common.runner import ModelRunner, download_progress
from .cases import GUESSES, Case, find_case, outcome
from .views import (
    answer_html,
    asked_html,
    cards_html,
    nav_html,
    query_html,
    question_html,
    remedy_html,
    revealed_html,
)

CARD = (168, 126)

# Whether the guess of each case, by id, was right: the first one counts.
Guessed = dict[str, bool]


@dataclass(frozen=True, eq=False)
class Played:
    """The result of a run of the model on a case.

    Attributes:
        name: Id of the case: another may be open by the time.
        answer: Markup for the answer's place.
        picture: Markup for the picture's place.
        session: The run's result; None after an error.
        right: Whether the guess was.
        query: Path of the session's query, where it is not the case's own.
    """

    name: str
    answer: str
    picture: str = ""
    session: Session | None = None
    right: bool = False
    query: Path | None = None


class FailuresHandlers:
    """Handlers over what all visitors share.

    Args:
        registry: The models.
        cases: The cases, at least one.
    """

    def __init__(self, registry: ModelRegistry, cases: Mapping[str, Case]) -> None:
        self.run = ModelRunner(registry)
        self.cases = cases
        self.names = list(cases)
        self._thumbnails = {name: thumbnail(case.query, CARD) for name, case in cases.items()}

    def show(self, case: Case, guessed: Guessed) -> tuple[Any, ...]:
        """All that is seen of a case before the guess, and nothing of an earlier one."""
        number = self.names.index(case.id)
        following = self.cases[self.names[(number + 1) % len(self.names)]]
        return (
            "",
            case.id,
            self.cards(case.id, guessed),
            asked_html(case, number + 1),
            query_html(case),
            question_html(),
            nav_html(case, following),
            "",
            gr.Button(visible=False),
            gr.Button(visible=False),
            None,
        )

    def cards(self, active: str, guessed: Guessed) -> str:
        """The gallery with the open case and the visitor's guesses marked."""
        return cards_html(self.cases, self._thumbnails, active, guessed)

    def choose(self, guessed: Guessed, event: gr.EventData) -> tuple[Any, ...]:
        """Opens the case whose button was pressed."""
        return self._open(sent_text(event, "case"), guessed)

    def open_link(self, guessed: Guessed, request: gr.Request) -> Any:
        """Opens the case that the address names, where it names one."""
        name = request.query_params.get("case")
        return self._open(name, guessed) if name else gr.skip()

    def guess(
        self,
        name: str,
        model: str,
        event: gr.EventData,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> Played:
        """Runs the model on the open case, for :meth:`show_answer` to show."""
        try:
            case, guess = find_case(self.cases, name), sent_text(event, "guess")
            if guess not in GUESSES:
                raise InctrlError("Choose one of the three answers.")
            progress(0.2, desc="Comparing with the normals")
            session = self._play(
                case, model, (case.normals, case.query), download_progress(progress)
            )
        except InctrlError as error:
            return Played(name, error_html(str(error)) + question_html())
        return Played(
            name,
            answer_html(case, session, guess),
            revealed_html(case, session),
            session,
            guess == outcome(case.anomalous, session),
        )

    def show_answer(self, name: str, played: Played | None, guessed: Guessed) -> Any:
        """Shows how the open case came out; nothing where another has been opened meanwhile.

        Returns:
            Gallery, picture, answer, visibility of the two buttons, and guesses.
        """
        if played is None or played.name != name:
            return gr.skip()
        if played.session is None:
            return gr.skip(), gr.skip(), played.answer, gr.skip(), gr.skip(), gr.skip()
        guessed = {name: played.right} | guessed
        more = self.cases[name].remedy is not None
        return (
            self.cards(name, guessed),
            played.picture,
            played.answer,
            gr.Button(visible=True),
            gr.Button(visible=more),
            guessed,
        )

    def remedy(self, name: str, model: str) -> Played:
        """Runs the open case again as advised."""
        try:
            case = find_case(self.cases, name)
            if (remedy := case.remedy) is None:
                raise InctrlError("This advice is not about images; there is nothing to run.")
            session = self._play(case, model, (remedy.normals, remedy.query))
            control = None
            if remedy.control is not None:
                shown = remedy.normals, remedy.control
                control = self._play(case, model, shown, previous=session)
        except InctrlError as error:
            return Played(name, error_html(str(error)))
        answer = remedy_html(case, remedy, session, control)
        return Played(name, answer, session=session, query=remedy.query)

    def show_remedy(self, name: str, played: Played | None) -> Any:
        """Shows the effect of the advice; nothing where another case has been opened meanwhile.

        Returns:
            What it comes to, and visibility of the button.
        """
        if played is None or played.name != name:
            return gr.skip()
        return played.answer, gr.Button(visible=played.session is None)

    def look_closely(self, name: str, played: Played | None) -> tuple[Any, ...]:
        """Hands the case to the other tabs.

        Returns:
            Session, normals, query, object name, model, and nothing for the images of an example
            set.
        """
        try:
            case = find_case(self.cases, name)
            if played is None or played.name != name or played.session is None:
                raise InctrlError("Guess first; then the model runs and there is something to see.")
        except InctrlError as error:
            raise gr.Error(str(error), print_exception=False) from None
        session = played.session
        normals = list(session.normal_files)
        return (
            session,
            normals,
            str(played.query or case.query),
            case.object_name,
            session.model,
            "",
        )

    def _open(self, name: object, guessed: Guessed) -> tuple[Any, ...]:
        try:
            return self.show(find_case(self.cases, name), guessed)
        except InctrlError as error:
            return (error_html(str(error)), *[gr.skip()] * 10)

    def _play(
        self,
        case: Case,
        model: str,
        images: tuple[Sequence[Path], Path],
        on_progress: Progress | None = None,
        previous: Session | None = None,
    ) -> Session:
        normals, query = images
        files = tuple(str(path) for path in normals), str(query)
        return self.run.start_session(model, files, case.object_name, previous, on_progress)
