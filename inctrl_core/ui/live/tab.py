"""The tab Live: a camera or a video against the normals, as fast as the model goes.

The page sends the next frame when the result of the last has arrived (``live.js``), so frames are
dropped and never pile up; every frame waits its turn among the other visitors' work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ...analysis.inspection import SESSION_SECONDS, Session, has_bank_of
from ...config import MAX_SHOTS
from ...errors import InctrlError
from ...images.files import open_image
from ...images.overlay import COLOUR_MAPS, colour_table, resize_for_screen
from ...images.seen import see_image
from ..common.choices import Choices, judged_by
from ..common.events import sent
from ..common.examples import ExampleSet, fill_form, first_example
from ..common.form import MODEL_QUEUE, Shared, UploadedGallery, gallery_paths
from ..common.markup import jpeg_uri
from ..common.models import ModelRegistry
from ..common.runner import ModelRunner
from . import frames as live_frames
from .frames import LiveBank, open_frame

FRAME_PIXELS = 640 * 480  # Of a frame of the example, at most.
SCRIPTS = [Path(__file__).with_name(name) for name in ("cameras.js", "live.js")]
TEMPLATE = """
<div class="ic-live">
  <h2 class="ic-hidden">Camera or video</h2>
  <div class="ic-live-bar">
    <button type="button" data-do="camera" disabled>Use the camera</button>
    <label class="ic-live-cameras" hidden>Camera <select aria-label="Camera"></select></label>
    <label class="ic-button" tabindex="0" role="button">Open a video
      <input type="file" accept="video/*" hidden></label>
    <button type="button" data-do="example" disabled>Try with an example</button>
    <button type="button" data-do="normal" disabled>Take this frame as a normal</button>
    <button type="button" data-do="stop" disabled>Stop</button>
  </div>
  <p class="ic-live-says" role="status">Point a camera at something sound, take two or more frames
    of it as normals, then show it something else. <strong>No camera?</strong> Try with an example:
    its photographs play like a video. Nothing is stored; frames go to the computer that runs this
    page.</p>
  <div class="ic-live-stage" hidden>
    <canvas class="ic-live-picture" width="480" height="480" role="img"
      aria-label="The last scored frame under its heatmap"></canvas>
    <div class="ic-live-side">
      <p class="ic-label">Anomaly score</p>
      <p class="ic-score">–</p>
      <p class="ic-live-verdict"></p>
      <canvas class="ic-live-line" role="img" aria-label="Scores of the last frames"></canvas>
      <p class="ic-small">The line is the score of the last frames, the band the range of your
        normals, the dashes the threshold. The verdict is that of the last five frames together.</p>
      <div class="ic-live-worst" hidden><img alt="The frame with the highest score so far">
        <p class="ic-small"></p></div>
      <p class="ic-small ic-live-pace"></p>
    </div>
  </div>
  <video playsinline muted loop hidden></video>
</div>
"""


class LiveHandlers:
    """The handlers of the tab; all that belongs to a visitor comes in as an argument.

    Args:
        registry: The models.
        examples: The example sets.
    """

    def __init__(self, registry: ModelRegistry, examples: Mapping[str, ExampleSet]) -> None:
        self.run = ModelRunner(registry)
        self.examples = examples

    def score_frame(
        self,
        normals: UploadedGallery,
        object_name: str | None,
        model: str,
        live: LiveBank | None,
        session: Session | None,
        choices: Choices | None,
        event: gr.EventData,
    ) -> tuple[Any, str]:
        """Scores the frame that the page sent.

        Returns:
            The bank, built anew where the form has changed, and what the page draws, as JSON.
        """
        frame_id = _number(event)
        try:
            files = gallery_paths(normals)
            if not files:
                return None, _answer(frame_id, waiting=True)
            config = self.run.sees(model)
            frame = open_frame(sent(event).get("image"), self.run.images, see_image, config, 1)
            kept: Any = gr.skip()
            own = choices is not None and choices.hold_for(files)
            source = model, files, object_name or "", choices.ignored if own else ""
            if live is None or live.source != source:
                part = choices.part if own else None
                measured = self.run.measure(*source[:3], ignored=part)
                live = kept = LiveBank(source, measured)
            if has_bank_of(session, model, files):
                # As of now: the visitor may move the threshold in Inspect while frames come.
                measured = self.run.measure(model, files, object_name or "", session)
            else:
                measured = judged_by(live.measured, files, choices, self.run.digest(model))
            shown = self.run(live_frames.score_frame, model, measured, frame)
            return kept, _answer(frame_id, **shown)
        except InctrlError as error:
            return gr.skip(), _answer(frame_id, error=str(error))

    def take_normal(self, normals: UploadedGallery, event: gr.EventData) -> tuple[Any, str]:
        """Adds the frame that the page sent to the form's normals."""
        frame_id = _number(event)
        paths = gallery_paths(normals)
        try:
            if len(paths) >= MAX_SHOTS:
                raise InctrlError(f"There are {len(paths)} normals; remove one to add another.")
            frame = open_frame(sent(event).get("image"), self.run.images)
        except InctrlError as error:
            return gr.skip(), _answer(frame_id, error=str(error), refused=True)
        return [*paths, frame], _answer(frame_id, taken=len(paths) + 1)

    def open_example(self) -> tuple[list[str], str, str, str, str]:
        """Fills the form with an example, and gives the page its queries to show as a video."""
        example = first_example(self.examples)
        images = (open_image(query.path) for query in example.queries)
        frames = [jpeg_uri(resize_for_screen(image, FRAME_PIXELS), quality=82) for image in images]
        return *fill_form(example, example.cover), _answer(0, example=frames)


class LiveTab:
    """Components of the tab and their events.

    Args:
        shared: The form, the session, and what all visitors share.
    """

    id = "live"
    title = "Live"

    def __init__(self, shared: Shared) -> None:
        self.handlers = LiveHandlers(shared.registry, shared.examples)
        self.form = shared.form
        self.session, self.choices = shared.session, shared.choices

    def build(self) -> None:
        """Lays out the tab."""
        self.bank = gr.State(None, time_to_live=SESSION_SECONDS)
        self.stage = gr.HTML(
            "",
            html_template=TEMPLATE,
            js_on_load="".join(path.read_text(encoding="utf-8") for path in SCRIPTS),
            palette=colour_table(COLOUR_MAPS[0]).tolist(),
            elem_id="stage",
        )

    def wire(self) -> None:
        """Connects the events."""
        form = self.form
        options = {
            "preprocess": False,
            # The page asks again from within the answer, before Gradio calls the event done.
            "trigger_mode": "multiple",
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        self.stage.frame(
            self.handlers.score_frame,
            [form.normals, form.object_name, form.model, self.bank, self.session, self.choices],
            [self.bank, self.stage],
            **MODEL_QUEUE,
            **options,
        )
        self.stage.normal(
            self.handlers.take_normal, form.normals, [form.normals, self.stage], **options
        )
        self.stage.example(
            self.handlers.open_example,
            None,
            [*form.filled, self.stage],
            **options,
        )


def _number(event: gr.EventData) -> int:
    """The number that the page gave the frame."""
    number = sent(event).get("id")
    return number if isinstance(number, int) else 0


def _answer(frame_id: int, **fields: Any) -> str:
    return json.dumps({"id": frame_id, **fields})
