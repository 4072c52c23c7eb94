"""The handlers of the tab Failures; all that belongs to a visitor comes in as an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from ...analysis.session import Session
from ...checkpoints.hub import Progress
from ...errors import InctrlError
from ..common.events import sent_text
from ..common.examples import thumbnail
from ..common.markup import error_html
from ..common.models import ModelRegistry
from ..common.runner import ModelRunner, download_progress
from .cases import GUESSES, Case, find_case, outcome
from .views import answer_html, cards_html, question_html, remedy_html, revealed_html

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

    def following(self, case: Case) -> Case:
        """The case after this one; the first after the last."""
        place = self.names.index(case.id) + 1
        return self.cases[self.names[place % len(self.names)]]

    def cards(self, active: str, guessed: Guessed) -> str:
        """The gallery with the open case and the visitor's guesses marked."""
        return cards_html(self.cases, self._thumbnails, active, guessed)

    def guess(
        self,
        name: str,
        model: str,
        event: gr.EventData,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> Played:
        """Runs the model on the open case, for the tab to show."""
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
