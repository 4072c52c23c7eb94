"""The tab Live: a camera or a video against the normals, as fast as the model goes.

The page sends the next frame when the result of the last has arrived (``live.js``), so frames are
dropped and never pile up; every frame waits its turn among the other visitors' work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

from ...analysis.inspection import has_bank_of
from ...analysis.session import SESSION_SECONDS, Session
from ...config import MAX_SHOTS
from ...errors import InctrlError
from ...images.files import open_image
from ...images.overlay import COLOUR_MAPS, colour_table, resize_for_screen
from ...images.seen import see_image
from ..common.choices import Choices, judged_by
from ..common.events import sent
from ..common.examples import first_example
from ..common.form import MODEL_QUEUE, Shared, Shown, UploadedGallery, gallery_paths
from ..common.markup import jpeg_uri
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


class LiveTab:
    """Components of the tab, their events and the handlers.

    Args:
        shared: The form, the session, and what all visitors share.
    """

    id = "live"
    title = "Live"

    def __init__(self, shared: Shared) -> None:
        self.run = ModelRunner(shared.registry)
        self.examples = shared.examples
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
            self.score_frame,
            [form.normals, form.object_name, form.model, self.bank, self.session, self.choices],
            [self.bank, self.stage],
            **MODEL_QUEUE,
            **options,
        )
        self.stage.normal(self.take_normal, form.normals, [form.normals, self.stage], **options)
        self.stage.example(self.open_example, None, [*form.filled, self.stage], **options)

    def score_frame(
        self,
        normals: UploadedGallery,
        object_name: str | None,
        model: str,
        live: LiveBank | None,
        session: Session | None,
        choices: Choices | None,
        event: gr.EventData,
    ) -> Shown:
        """Scores the frame that the page sent; builds the bank anew where the form has changed."""
        try:
            files = gallery_paths(normals)
            if not files:
                return {self.bank: None} | self._answer(event, waiting=True)
            config = self.run.sees(model)
            frame = open_frame(sent(event).get("image"), self.run.images, see_image, config, 1)
            built = {}
            own = choices is not None and choices.hold_for(files)
            source = model, files, object_name or "", choices.ignored if own else ""
            if live is None or live.source != source:
                part = choices.part if own else None
                live = LiveBank(source, self.run.measure(*source[:3], ignored=part))
                built = {self.bank: live}
            if has_bank_of(session, model, files):
                # As of now: the visitor may move the threshold in Inspect while frames come.
                measured = self.run.measure(model, files, object_name or "", session)
            else:
                measured = judged_by(live.measured, files, choices, self.run.digest(model))
            shown = self.run(live_frames.score_frame, model, measured, frame)
            return built | self._answer(event, **shown)
        except InctrlError as error:
            return self._answer(event, error=str(error))

    def take_normal(self, normals: UploadedGallery, event: gr.EventData) -> Shown:
        """Adds the frame that the page sent to the form's normals."""
        paths = gallery_paths(normals)
        try:
            if len(paths) >= MAX_SHOTS:
                raise InctrlError(f"There are {len(paths)} normals; remove one to add another.")
            frame = open_frame(sent(event).get("image"), self.run.images)
        except InctrlError as error:
            return self._answer(event, error=str(error), refused=True)
        return {self.form.normals: [*paths, frame]} | self._answer(event, taken=len(paths) + 1)

    def open_example(self, event: gr.EventData) -> Shown:
        """Fills the form with an example, and gives the page its queries to show as a video."""
        example = first_example(self.examples)
        images = (open_image(query.path) for query in example.queries)
        frames = [jpeg_uri(resize_for_screen(image, FRAME_PIXELS), quality=82) for image in images]
        return self.form.fill(example, example.cover) | self._answer(event, example=frames)

    def _answer(self, event: gr.EventData, **fields: Any) -> Shown:
        """The fields that the page draws, as JSON, under the number that it gave the frame."""
        number = sent(event).get("id")
        number = number if isinstance(number, int) else 0
        return {self.stage: json.dumps({"id": number, **fields})}
