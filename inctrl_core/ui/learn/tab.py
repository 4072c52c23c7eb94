"""The tab Learn: one example followed through the method, step by step, with its own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from ...analysis.inspection import SESSION_SECONDS, Session
from ...errors import InctrlError
from ..common.events import sent
from ..common.examples import ExampleSet, first_example, pick_query
from ..common.form import MODEL_QUEUE, Shared
from ..common.heatmap import strongest_patch
from ..common.markup import error_html
from ..common.models import ModelRegistry
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


class LearnHandlers:
    """The handlers of the tab; all that belongs to a visitor comes in as an argument.

    Args:
        registry: The models.
        examples: The example sets.
    """

    def __init__(self, registry: ModelRegistry, examples: Mapping[str, ExampleSet]) -> None:
        self.run = ModelRunner(registry)
        self.examples = examples

    def open(
        self,
        session: Session | None,
        lesson: Lesson | None,
        source: str | None,
        wanted: Wanted | None,
        model: str,
    ) -> tuple[Any, Any, Any]:
        """Decides, when the tab is opened, what it shows: what is there already, if anything.

        Returns:
            The choice of examples, that of the images, and what is wanted.
        """
        if session is None and source == OWN:
            source = None
        if source is None:
            source = OWN if session is not None else self.first
        choices = gr.Dropdown(choices=self.sources(session), value=source)
        if wanted is None or wanted[0] != source or lesson is None:
            return choices, *self.choose_source(source, wanted)
        current = lesson.session
        if (current is session) if source == OWN else (current.model == model):
            return choices, gr.skip(), gr.skip()
        # The same image again: with another model, or what Inspect shows by now.
        return choices, gr.skip(), (*wanted[:2], wanted[2] + 1)

    @property
    def first(self) -> str:
        """Name of the example that a newcomer finds."""
        return first_example(self.examples).name

    def sources(self, session: Session | None) -> list[tuple[str, str]]:
        """The choices of the lesson: the examples, and the result of Inspect where there is one."""
        sets = [(example.title, name) for name, example in self.examples.items()]
        return sets if session is None else [("Your images from Inspect", OWN), *sets]

    def follow_own(self, session: Session | None) -> tuple[Any, Any]:
        """Opens the tab with what Inspect shows.

        Returns:
            The bar, this tab open, and the choice of examples.
        """
        chosen = None if session is None else OWN
        return gr.Tabs(selected="learn"), gr.Dropdown(choices=self.sources(session), value=chosen)

    def choose_source(self, source: str, wanted: Wanted | None) -> tuple[Any, Wanted]:
        """Offers the images of a set, the one that stands for it chosen.

        Returns:
            The choice of images, and what is wanted.
        """
        turn = 0 if wanted is None else wanted[2] + 1
        example = self.examples.get(source)
        if example is None:
            return gr.Dropdown(choices=[], value=None, visible=False), (OWN, 0, turn)
        notes = [(f"{i + 1}. {query.note}", i) for i, query in enumerate(example.queries)]
        images = gr.Dropdown(choices=notes, value=example.cover, visible=True)
        return images, (source, example.cover, turn)

    def choose_image(self, source: str, query: int | None, wanted: Wanted | None) -> Wanted:
        """The choice that another image of the set stands for."""
        return source, query or 0, 0 if wanted is None else wanted[2] + 1

    def begin(
        self,
        wanted: Wanted | None,
        model: str,
        session: Session | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here.
    ) -> tuple[Lesson | None, str, int, int]:
        """Works out what is wanted.

        Returns:
            The lesson (None after an error), what to say in its place, and the row and the column
            of the strongest patch.
        """
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
            return None, error_html(str(error)), 1, 1
        return Lesson(session, account), "", *strongest_patch(session)

    def show(self, lesson: Lesson | None, row: float, column: float) -> tuple[Any, ...]:
        """Draws all steps, from what is worked out already.

        Returns:
            An empty mistake, step 1, step 2, the choice of a patch, steps 3 and 4, and the others.
        """
        if lesson is None:
            return "", "", "", gr.Column(visible=False), "", ""
        chosen, following = patch_html(lesson, row, column)
        last = score_html(lesson, row, column)
        return "", start_html(lesson), chosen, gr.Column(visible=True), following, last

    def follow(
        self, lesson: Lesson | None, row: float | None, column: float | None
    ) -> tuple[Any, ...]:
        """Draws the steps anew that another patch changes.

        Returns:
            What is wrong with the row or the column, step 2, steps 3 and 4, and the others.
        """
        if lesson is None:
            return (gr.skip(),) * 4
        try:
            chosen, following = patch_html(lesson, row, column)
            last = score_html(lesson, row, column) if score_follows_patch(lesson) else gr.skip()
        except InctrlError as error:
            return error_html(str(error)), gr.skip(), gr.skip(), gr.skip()
        return "", chosen, following, last

    def pick(self, event: gr.EventData) -> tuple[Any, Any]:
        """The row and the column of the patch that was clicked."""
        try:
            place = sent(event)
            return int(place["row"]), int(place["column"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return gr.skip(), gr.skip()  # No click of this page.


class LearnTab:
    """Components of the tab and their events.

    Args:
        shared: The session, the model chosen, and what all visitors share.
        follow: The button of Inspect that follows its result here.
    """

    id = "learn"
    title = "Learn"

    def __init__(self, shared: Shared, follow: gr.Button) -> None:
        self.handlers = LearnHandlers(shared.registry, shared.examples)
        self.drawing = DrawSection(self.handlers.run)
        self.tabs = shared.tabs
        self.follow = follow
        self.session = shared.session
        self.model = shared.form.model

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
        # The tab's panel holds what was built in it.
        self.intro.parent.select(
            self.handlers.open,
            [self.session, self.lesson, self.source, self.wanted, self.model],
            [self.source, self.image, self.wanted],
            **quiet,
        )
        # The tab, once open, sees that another source is chosen.
        self.follow.click(self.handlers.follow_own, self.session, [self.tabs, self.source], **quiet)
        self.source.input(
            self.handlers.choose_source,
            [self.source, self.wanted],
            [self.image, self.wanted],
            **quiet,
        )
        self.image.input(
            self.handlers.choose_image, [self.source, self.image, self.wanted], self.wanted, **quiet
        )
        # Opening the tab again changes nothing here, so it does not wait for the model.
        begun = self.wanted.change(
            self.handlers.begin,
            [self.wanted, self.model, self.session],
            [self.lesson, self.notice, self.row, self.column],
            **MODEL_QUEUE,
            trigger_mode="always_last",
            show_progress_on=[self.start],
            api_visibility="private",
        )
        begun.success(
            self.handlers.show,
            self._place,
            [self.mistake, self.start, self.chosen, self.choice, self.following, self.last],
            **quiet,
        )
        self.drawing.wire(self.lesson, begun.success)
        for picture in (self.chosen, self.following, self.last):
            picked = picture.click(self.handlers.pick, None, [self.row, self.column], **quiet)
            self._follow_after(picked.success)
        for place in (self.row, self.column):
            self._follow_after(place.input)

    @property
    def _place(self) -> list[gr.components.Component]:
        return [self.lesson, self.row, self.column]

    def _follow_after(self, trigger: Any) -> None:
        trigger(
            self.handlers.follow,
            self._place,
            [self.mistake, self.chosen, self.following, self.last],
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )


def _way() -> str:
    """A button for each step, which scrolls there."""
    steps = enumerate(STEPS, start=1)
    items = "".join(f'<li><button data-step="{i}">{name}</button></li>' for i, name in steps)
    return f'<nav aria-label="The seven steps"><ol class="ic-way">{items}</ol></nav>'
