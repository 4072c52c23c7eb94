"""The tab Failures: guess whether the model sees what is wrong, then let it run."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import Dependency

from ...analysis.inspection import SESSION_SECONDS
from ..common.form import MODEL_QUEUE, OpenAfter, Shared
from ..common.scripts import SHOWN, TELL
from .cases import load_cases
from .handlers import FailuresHandlers

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
GUESS = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-guess]');
  if (button) trigger('click', {guess: button.dataset.guess});
});
"""
# The card of the open case in view, where cards are cut off.
TO_CARD = """() => {
  const card = document.querySelector('#case-cards [aria-pressed="true"]');
  const strip = card.parentElement;
  strip.scrollLeft = card.offsetLeft - (strip.clientWidth - card.offsetWidth) / 2;
}"""
# What was pressed is written anew, and the keyboard's place would be lost with it: it goes to the
# heading of what has appeared. From the end of one case this leads to the beginning of the next.
TO_CASE = (
    TO_CARD[:-1]
    + """
  const place = document.querySelector('#case-asked');
  place.querySelector('h2').focus({preventScroll: true});
  if (place.getBoundingClientRect().top < 0) place.scrollIntoView({behavior: 'smooth'});
}"""
)
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
        first = self.handlers.names[0]
        opened = self.handlers.show(self.handlers.cases[first], {})
        gr.HTML(INTRO)
        self.notice = gr.HTML(elem_id="case-notice")
        self.case = gr.State(first)
        self.guessed = gr.State({})
        self.played = gr.State(None, time_to_live=SESSION_SECONDS)
        self.cards = gr.HTML(opened[2], js_on_load=CHOOSE, elem_id="case-cards")
        with gr.Column(elem_id="case"):
            self.asked = gr.HTML(opened[3], elem_id="case-asked")
            self.picture = gr.HTML(opened[4], elem_id="case-picture")
            self.answer = gr.HTML(opened[5], js_on_load=GUESS, elem_id="case-answer")
            with gr.Column(elem_id="case-actions"):
                self.remedy = gr.HTML(elem_id="case-remedy")
                with gr.Row(elem_id="case-buttons"):
                    self.try_remedy = gr.Button(
                        "Try this advice", visible=False, size="md", elem_id="try-remedy"
                    )
                    self.look = gr.Button(
                        "Look closely in Inspect", visible=False, size="md", elem_id="look-closely"
                    )
                self.nav = gr.HTML(opened[6], js_on_load=CHOOSE, elem_id="case-nav")

    def wire(self) -> None:
        """Connects the events."""
        model = self.shared.form.model
        guessing = self._run(
            self.answer.click, self.handlers.guess, [self.case, model], self.answer
        )
        shown = guessing.success(
            self.handlers.show_answer,
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
            self.handlers.show_remedy,
            [self.case, self.played],
            [self.remedy, self.try_remedy],
            show_progress="hidden",
            api_visibility="private",
        )
        for source in (self.cards, self.nav):
            # What still runs belongs to the case that is left.
            source.click(
                self.handlers.choose,
                self.guessed,
                self._view,
                cancels=[guessing, trying],
                show_progress="hidden",
                api_visibility="private",
            ).then(None, js=TO_CASE, api_visibility="private")
        self.shared.page.load(
            self.handlers.open_link,
            self.guessed,
            self._view,
            show_progress="hidden",
            api_visibility="private",
        ).then(None, js=TO_CARD, api_visibility="private")
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
            self.handlers.look_closely,
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
