"""The tab Learn: one example followed through the method, step by step, with its own numbers."""

from __future__ import annotations

import gradio as gr

from ...analysis.session import SESSION_SECONDS, Session
from ...errors import InctrlError
from ..common.events import sent
from ..common.examples import first_example, pick_query
from ..common.form import MODEL_QUEUE, Shared, Shown
from ..common.heatmap import strongest_patch
from ..common.markup import error_html
from ..common.runner import ModelRunner, download_progress
from .draw import DrawSection
from .lesson import explain, patch_html, score_follows_patch, score_html, start_html
from .parts import Lesson

OWN = "own"  # What Inspect shows; no example set has a name without a folder of examples.
INTRO = """
<div class="ic-learn-intro"><h2>How does it find what is wrong? In 30 seconds</h2>
<p>Every image is cut into small <strong>patches</strong>; a network trained beforehand describes
each in numbers. Each patch of the image to check looks for the most similar patch in your normal
images. Where none is similar, the image differs: that is the <strong>map</strong>. The image as a
whole, and words for damage, are compared too. Weighed together, all of it is one
<strong>score</strong>. Your normals, compared with each other, say which score is ordinary.</p>
<p class="ic-small">The seven steps below show it with all numbers, worked out live. Click a patch,
and the steps follow it. Your own images can be followed too: score them in Inspect, then press
“Follow it step by step” there. Or <button data-step="draw">draw a defect</button> on a good image,
and find the smallest that is seen.</p></div>
"""
STEPS = (
    "What goes in",
    "Patches",
    "Most similar patch",
    "The map",
    "The whole image",
    "Words",
    "One score",
)
WAITING = '<p class="ic-lead" role="status">Preparing the first example; this takes a moment.</p>'
FOLLOW = "Choose the patch that the next steps follow, here or with a click on the image above."
# Links would not do: the page has a base address, so they would load it anew.
GO = """
element.addEventListener('click', event => {
  const button = event.target.closest('[data-step]');
  const step = button && document.getElementById(`ic-step-${button.dataset.step}`);
  if (step) step.scrollIntoView({ behavior: 'smooth' });
});
"""
# A click on a picture of the image to check names the patch under it.
PICK = """
element.addEventListener('click', event => {
  const picture = event.target.closest('[data-grid]');
  if (!picture) return;
  const box = picture.getBoundingClientRect(), grid = Number(picture.dataset.grid);
  const place = (offset, size) => Math.min(grid, 1 + Math.floor(offset / size * grid));
  trigger('click', {
    row: place(event.clientY - box.top, box.height),
    column: place(event.clientX - box.left, box.width),
  });
});
"""

# What is to be shown: name of an example set or OWN, index of its query, and a count that rises
# when the same is to be worked out anew.
Wanted = tuple[str, int, int]


class LearnTab:
    """Components of the tab, their events and the handlers.

    Args:
        shared: The session, the model chosen, and what all visitors share.
        follow: The button of Inspect that follows its result here.
    """

    id = "learn"
    title = "Learn"

    def __init__(self, shared: Shared, follow: gr.Button) -> None:
        self.run = ModelRunner(shared.registry)
        self.drawing = DrawSection(self.run)
        self.shared = shared
        self.examples = shared.examples
        self.follow = follow

    def build(self) -> None:
        """Lays out the tab."""
        self.lesson = gr.State(None, time_to_live=SESSION_SECONDS)
        self.wanted = gr.State(None)
        self.intro = gr.HTML(INTRO + _way(), js_on_load=GO)
        with gr.Row(elem_id="learn-choice"):
            self.source = gr.Dropdown([], label="Example", min_width=240, elem_id="learn-source")
            self.image = gr.Dropdown(
                [], label="Image to check", min_width=240, scale=2, elem_id="learn-image"
            )
        self.notice = gr.HTML("", elem_id="learn-notice")
        self.start = gr.HTML(WAITING, elem_id="learn-start")
        self.chosen = gr.HTML("", js_on_load=PICK, elem_id="learn-chosen")
        with gr.Column(visible=False, elem_id="learn-patch") as self.choice:
            gr.HTML(f'<p class="ic-lead">{FOLLOW}</p>')
            with gr.Row():
                self.row = gr.Number(1, label="Patch row", precision=0, min_width=80)
                self.column = gr.Number(1, label="Patch column", precision=0, min_width=80)
            self.mistake = gr.HTML("", elem_id="learn-mistake")
        self.following = gr.HTML("", js_on_load=PICK, elem_id="learn-following")
        self.last = gr.HTML("", js_on_load=PICK, elem_id="learn-last")
        self.drawing.build()

    def wire(self) -> None:
        """Connects the events."""
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        session, model = self.shared.session, self.shared.form.model
        # The tab's panel holds what was built in it.
        self.intro.parent.select(
            self.open,
            [session, self.lesson, self.source, self.wanted, model],
            [self.source, self.image, self.wanted],
            **quiet,
        )
        # The tab, once open, sees that another source is chosen.
        self.follow.click(self.follow_own, session, [self.shared.tabs, self.source], **quiet)
        self.source.input(
            self.choose_source, [self.source, self.wanted], [self.image, self.wanted], **quiet
        )
        self.image.input(
            self.choose_image, [self.source, self.image, self.wanted], self.wanted, **quiet
        )
        # Opening the tab again changes nothing here, so it does not wait for the model.
        begun = self.wanted.change(
            self.begin,
            [self.wanted, model, session],
            [self.lesson, self.notice, self.row, self.column],
            **MODEL_QUEUE,
            trigger_mode="always_last",
            show_progress_on=[self.start],
            api_visibility="private",
        )
        place = [self.lesson, self.row, self.column]
        steps = [self.mistake, self.chosen, self.following, self.last]
        begun.success(
            self.show, place, [*steps, self.start, self.choice, *self.drawing.places], **quiet
        )
        self.drawing.wire(self.lesson)
        for picture in (self.chosen, self.following, self.last):
            picture.click(
                self.pick,
                self.lesson,
                [self.row, self.column, *steps],
                trigger_mode="always_last",
                **quiet,
            )
        for number in (self.row, self.column):
            number.input(self.follow_patch, place, steps, trigger_mode="always_last", **quiet)

    def open(
        self,
        session: Session | None,
        lesson: Lesson | None,
        source: str | None,
        wanted: Wanted | None,
        model: str,
    ) -> Shown:
        """Decides, when the tab is opened, what it shows: what is there already, if anything."""
        if session is None and source == OWN:
            source = None
        if source is None:
            source = OWN if session is not None else first_example(self.examples).name
        told = {self.source: gr.Dropdown(choices=self._sources(session), value=source)}
        if wanted is None or wanted[0] != source or lesson is None:
            return told | self.choose_source(source, wanted)
        current = lesson.session
        if (current is session) if source == OWN else (current.model == model):
            return told
        # The same image again: with another model, or what Inspect shows by now.
        return told | {self.wanted: _again(source, wanted[1], wanted)}

    def _sources(self, session: Session | None) -> list[tuple[str, str]]:
        """The choices of the lesson: the examples, and the result of Inspect where there is one."""
        sets = [(example.title, name) for name, example in self.examples.items()]
        return sets if session is None else [("Your images from Inspect", OWN), *sets]

    def follow_own(self, session: Session | None) -> Shown:
        """Opens the tab with what Inspect shows."""
        chosen = None if session is None else OWN
        sources = gr.Dropdown(choices=self._sources(session), value=chosen)
        return {self.shared.tabs: gr.Tabs(selected=self.id), self.source: sources}

    def choose_source(self, source: str, wanted: Wanted | None) -> Shown:
        """Offers the images of a set, the one that stands for it chosen."""
        example = self.examples.get(source)
        if example is None:
            nothing = gr.Dropdown(choices=[], value=None, visible=False)
            return {self.image: nothing, self.wanted: _again(OWN, 0, wanted)}
        notes = [(f"{i + 1}. {query.note}", i) for i, query in enumerate(example.queries)]
        images = gr.Dropdown(choices=notes, value=example.cover, visible=True)
        return {self.image: images, self.wanted: _again(source, example.cover, wanted)}

    def choose_image(self, source: str, query: int | None, wanted: Wanted | None) -> Shown:
        """Asks for another image of the set."""
        return {self.wanted: _again(source, query or 0, wanted)}

    def begin(
        self,
        wanted: Wanted | None,
        model: str,
        session: Session | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> Shown:
        """Works out what is wanted, and chooses the strongest patch; no lesson after an error."""
        try:
            if wanted is None:
                raise InctrlError("Choose an example first.")
            source, query, _ = wanted
            if source != OWN:
                progress(0.1, desc="Preparing the example")
                example, index = pick_query(self.examples, {"set": source, "query": query})
                files = [str(path) for path in example.normals], str(example.queries[index].path)
                session = self.run.start_session(
                    model, files, example.object_name, None, download_progress(progress)
                )
            if session is None:
                raise InctrlError("Score an image in Inspect first, or choose an example.")
            account = self.run(explain, session.model, session)
        except InctrlError as error:
            failed = {self.lesson: None, self.notice: error_html(str(error))}
            return failed | {self.row: 1, self.column: 1}
        row, column = strongest_patch(session)
        told = {self.lesson: Lesson(session, account), self.notice: ""}
        return told | {self.row: row, self.column: column}

    def show(self, lesson: Lesson | None, row: float, column: float) -> Shown:
        """Draws all steps, from what is worked out already."""
        told = dict.fromkeys((self.mistake, self.start, self.chosen, self.following, self.last), "")
        told |= {self.choice: gr.Column(visible=lesson is not None)} | self.drawing.pad_of(lesson)
        if lesson is None:
            return told
        told |= {self.start: start_html(lesson), self.last: score_html(lesson, row, column)}
        return told | self.follow_patch(lesson, row, column)

    def follow_patch(self, lesson: Lesson | None, row: float | None, column: float | None) -> Shown:
        """Draws the steps anew that another patch changes; or says why there is no such patch."""
        if lesson is None:
            return {self.mistake: gr.skip()}
        try:
            chosen, following = patch_html(lesson, row, column)
        except InctrlError as error:
            return {self.mistake: error_html(str(error))}
        told = {self.mistake: "", self.chosen: chosen, self.following: following}
        if score_follows_patch(lesson):
            told[self.last] = score_html(lesson, row, column)
        return told

    def pick(self, lesson: Lesson | None, event: gr.EventData) -> Shown:
        """Follows the patch that was clicked."""
        try:
            place = sent(event)
            row, column = int(place["row"]), int(place["column"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return {self.mistake: gr.skip()}  # No click of this page.
        return {self.row: row, self.column: column} | self.follow_patch(lesson, row, column)


def _again(source: str, query: int, before: Wanted | None) -> Wanted:
    """A wish that differs from the one before, even where it is for the same."""
    return source, query, 0 if before is None else before[2] + 1


def _way() -> str:
    """A button for each step, which scrolls there."""
    steps = enumerate(STEPS, start=1)
    items = "".join(f'<li><button data-step="{i}">{name}</button></li>' for i, name in steps)
    return f'<nav aria-label="The seven steps"><ol class="ic-way">{items}</ol></nav>'
