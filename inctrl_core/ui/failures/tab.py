"""The tab Failures: guess whether the model sees what is wrong, then let it run."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import Dependency

from ...analysis.session import SESSION_SECONDS
from ...errors import InctrlError
from ..common.events import sent_text
from ..common.form import MODEL_QUEUE, OpenAfter, Shared, Shown
from ..common.markup import error_html
from ..common.scripts import SHOWN, TELL
from .cases import Case, find_case, load_cases
from .handlers import FailuresHandlers, Guessed, Played
from .views import asked_html, nav_html, query_html, question_html

INTRO = (
    '<p class="ic-lead">Every method has its blind spots. Look at a case and guess: does the model '
    "get it right? Then it runs, here and now, and you learn why, and what to do about it.</p>"
)

# What is copied is the link of the open case.
CHOOSE = (
    TELL
    + """
element.addEventListener('click', async event => {
  const chosen = event.target.closest('button[data-case]');
  if (chosen) {
    tell(named => named.set('case', chosen.dataset.case));
    trigger('click', {case: chosen.dataset.case});
  }
  const copy = event.target.closest('button[data-copy]');
  if (copy) {
    const link = `${location.origin}${location.pathname}?case=${copy.dataset.copy}`;
    try {
      await navigator.clipboard.writeText(link);
      copy.textContent = 'Link copied';
    } catch {
      window.prompt('Copy this link:', link);
    }
  }
});
"""
)
# The case that a link names, once its cards are there; what has no card is asked for as well, and
# the answer says so.
OPEN_LINK = """
const linked = new URL(window.location).searchParams.get('case');
if (linked) trigger('click', {case: linked});
"""
GUESS = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-guess]');
  if (button) trigger('click', {guess: button.dataset.guess});
});
"""
# The card of the open case in view, where cards are cut off. What was pressed is written anew, and
# the keyboard's place would be lost with it: it goes to the heading of what has appeared. From the
# end of one case this leads to the beginning of the next.
TO_CASE = """() => {
  const card = document.querySelector('#case-cards [aria-pressed="true"]');
  const strip = card.parentElement;
  strip.scrollLeft = card.offsetLeft - (strip.clientWidth - card.offsetWidth) / 2;
  const place = document.querySelector('#case-asked');
  place.querySelector('h2').focus({preventScroll: true});
  if (place.getBoundingClientRect().top < 0) place.scrollIntoView({behavior: 'smooth'});
}"""
# On a narrow page the picture lies above the answer: up to what the model has seen.
TO_ANSWER = """() => {
  const heading = document.querySelector('#case-answer .ic-outcome h2');
  if (!heading) return;
  heading.focus({preventScroll: true});
  if (window.innerWidth >= 800) return;
  document.querySelector('#case-picture').scrollIntoView({behavior: 'smooth'});
}"""


class FailuresTab:
    """Components of the tab and their events.

    Args:
        shared: The form, the session and what all visitors share.
        open_in_inspect: :meth:`InspectTab.open_after`, for a close look at a case.
    """

    id = "failures"
    title = "Failures"

    def __init__(self, shared: Shared, open_in_inspect: OpenAfter) -> None:
        self.shared = shared
        self.open_in_inspect = open_in_inspect
        self.handlers = FailuresHandlers(shared.registry, load_cases())

    def build(self) -> None:
        """Lays out the tab, the first case open: one click gives a first result."""
        first, *_ = self.handlers.cases.values()
        gr.HTML(INTRO)
        self.notice = gr.HTML(elem_id="case-notice")
        self.case = gr.State(first.id)
        self.guessed = gr.State({})
        self.played = gr.State(None, time_to_live=SESSION_SECONDS)
        self.cards = gr.HTML(
            self.handlers.cards(first.id, {}), js_on_load=CHOOSE + OPEN_LINK, elem_id="case-cards"
        )
        with gr.Column(elem_id="case"):
            self.asked = gr.HTML(asked_html(first, 1), elem_id="case-asked")
            self.picture = gr.HTML(query_html(first), elem_id="case-picture")
            self.answer = gr.HTML(question_html(), js_on_load=GUESS, elem_id="case-answer")
            with gr.Column(elem_id="case-actions"):
                self.remedy = gr.HTML(elem_id="case-remedy")
                with gr.Row(elem_id="case-buttons"):
                    self.try_remedy = gr.Button(
                        "Try this advice", visible=False, size="md", elem_id="try-remedy"
                    )
                    self.look = gr.Button(
                        "Look closely in Inspect", visible=False, size="md", elem_id="look-closely"
                    )
                self.nav = gr.HTML(
                    nav_html(first, self.handlers.following(first)),
                    js_on_load=CHOOSE,
                    elem_id="case-nav",
                )

    def wire(self) -> None:
        """Connects the events."""
        model = self.shared.form.model
        guessing = self._run(
            self.answer.click, self.handlers.guess, [self.case, model], self.answer
        )
        shown = guessing.success(
            self.show_answer,
            [self.case, self.played, self.guessed],
            [
                self.cards,
                self.picture,
                self.answer,
                self.look,
                self.try_remedy,
                self.guessed,
            ],
            show_progress="hidden",
            api_visibility="private",
        )
        shown.then(None, js=TO_ANSWER, api_visibility="private")
        trying = self._run(
            self.try_remedy.click, self.handlers.remedy, [self.case, model], self.remedy
        )
        trying.success(
            self.show_remedy,
            [self.case, self.played],
            [self.remedy, self.try_remedy],
            show_progress="hidden",
            api_visibility="private",
        )
        for source in (self.cards, self.nav):
            # What still runs belongs to the case that is left.
            source.click(
                self.choose,
                self.guessed,
                self._view,
                cancels=[guessing, trying],
                show_progress="hidden",
                api_visibility="private",
            ).then(None, js=TO_CASE, api_visibility="private")
        self._wire_inspect()

    def _run(self, trigger: Any, handler: Any, inputs: list, place: gr.HTML) -> Dependency:
        # What it comes to is shown by the event that follows: a run can end after another case
        # has been opened.
        return trigger(
            handler,
            inputs,
            self.played,
            **MODEL_QUEUE,
            show_progress_on=[place],
            api_visibility="private",
        )

    def _wire_inspect(self) -> None:
        form = self.shared.form
        looked = self.look.click(
            self.look_closely,
            [self.case, self.played],
            [
                self.shared.session,
                form.normals,
                form.query,
                form.object_name,
                form.model,
                form.queries,
            ],
            show_progress="hidden",
            api_visibility="private",
        )
        self.open_in_inspect(looked).then(None, js=SHOWN, api_visibility="private")

    @property
    def _view(self) -> list[gr.components.Component]:
        return [
            self.notice,
            self.case,
            self.cards,
            self.asked,
            self.picture,
            self.answer,
            self.nav,
            self.remedy,
            self.look,
            self.try_remedy,
            self.played,
        ]

    def choose(self, guessed: Guessed, event: gr.EventData) -> Shown:
        """Opens the case whose button was pressed."""
        return self._open(sent_text(event, "case"), guessed)

    def _open(self, name: object, guessed: Guessed) -> Shown:
        try:
            case = find_case(self.handlers.cases, name)
        except InctrlError as error:
            return {self.notice: error_html(str(error))}
        hidden = gr.Button(visible=False)
        nothing = {self.notice: "", self.remedy: "", self.look: hidden, self.try_remedy: hidden}
        return nothing | {self.case: case.id, self.played: None} | self._written(case, guessed)

    def _written(self, case: Case, guessed: Guessed) -> Shown:
        """The markup of a case before the guess."""
        return {
            self.cards: self.handlers.cards(case.id, guessed),
            self.asked: asked_html(case, self.handlers.names.index(case.id) + 1),
            self.picture: query_html(case),
            self.answer: question_html(),
            self.nav: nav_html(case, self.handlers.following(case)),
        }

    def show_answer(self, name: str, played: Played | None, guessed: Guessed) -> Shown:
        """Shows how the open case came out; nothing where another has been opened meanwhile."""
        if played is None or played.name != name:
            return {self.answer: gr.skip()}
        if played.session is None:
            return {self.answer: played.answer}
        guessed = {name: played.right} | guessed
        advised = self.handlers.cases[name].remedy is not None
        return {
            self.cards: self.handlers.cards(name, guessed),
            self.picture: played.picture,
            self.answer: played.answer,
            self.look: gr.Button(visible=True),
            self.try_remedy: gr.Button(visible=advised),
            self.guessed: guessed,
        }

    def show_remedy(self, name: str, played: Played | None) -> Shown:
        """Shows the effect of the advice; nothing where another case has been opened meanwhile."""
        if played is None or played.name != name:
            return {self.remedy: gr.skip()}
        again = gr.Button(visible=played.session is None)
        return {self.remedy: played.answer, self.try_remedy: again}

    def look_closely(self, name: str, played: Played | None) -> Shown:
        """Hands the case to the other tabs."""
        try:
            case = find_case(self.handlers.cases, name)
            if played is None or played.name != name or played.session is None:
                raise InctrlError("Guess first; then the model runs and there is something to see.")
        except InctrlError as error:
            raise gr.Error(str(error), print_exception=False) from None
        form, session = self.shared.form, played.session
        return {
            self.shared.session: session,
            form.normals: list(session.normal_files),
            form.query: str(played.query or case.query),
            form.object_name: case.object_name,
            form.model: session.model,
            form.queries: "",
        }
