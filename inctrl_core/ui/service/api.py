"""The same scoring for programs: named endpoints with plain files in and JSON out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Literal

import gradio as gr
from PIL import Image

from ...analysis.normal_range import MeasuredBank, normals_to_dict
from ...errors import InctrlError
from ...images.levels import Levels
from ...images.overlay import overlay, scale_box
from ...images.preprocessing import aspect_mismatch
from ...images.seen import MOST_DRAWN, SeenImage, see_image
from ...model.bank import check_shots
from ...model.detector import Detector
from ...model.score import Score
from ..common.form import MODEL_QUEUE, UploadedFile, UploadedFiles, file_path, given_name
from ..common.models import ModelRegistry
from ..common.runner import ModelRunner

Visibility = Literal["public", "undocumented"]


@contextmanager
def told_to_client() -> Iterator[None]:
    """Turns a refusal of the library into the sentence that a client shows."""
    try:
        yield
    except InctrlError as error:
        raise gr.Error(str(error), print_exception=False) from None


class ScoreApi:
    """The endpoint ``/score``.

    Its components are never shown: they give the endpoint types that clients understand.

    Args:
        registry: The models.
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry
        self.run = ModelRunner(registry)
        self._drawing = Lock()

    def build(self, visibility: Visibility = "public") -> None:
        """Registers the endpoint.

        Args:
            visibility: "undocumented" keeps it out of the list that the page shows.
        """
        with gr.Group(visible=False):
            normals = gr.File(label="Normal images", file_count="multiple")
            query = gr.File(label="Query image")
            object_name = gr.Textbox(label="Object name", value="object")
            model = gr.Dropdown(self.registry.names, value=self.registry.default, label="Model")
            result = gr.JSON(label="Score")
            picture = gr.Image(label="Heatmap over the query", format="jpeg")
            button = gr.Button()
        button.click(
            self.score,
            [normals, query, object_name, model],
            [result, picture],
            preprocess=False,
            **MODEL_QUEUE,
            api_name="score",
            api_visibility=visibility,
        )

    def score(
        self,
        normals: UploadedFiles,
        query: UploadedFile,
        object_name: str = "object",
        model: str = "",
    ) -> tuple[dict[str, Any], Image.Image]:
        """Scores a query image against 1 to 16 normal images of the same kind of object.

        Args:
            normals: The normal images.
            query: The image to check.
            object_name: What they show, for example "metal nut"; it goes into the text prompts.
            model: One of the offered models.

        Returns:
            The score and its parts: fused (the anomaly score), holistic, patch_max,
            image_residual, text_anomaly, all in [0, 1]; patch_map, 15 x 15; crop_box, the part of
            the query that was seen, in its pixels; other_proportions, whether it was squeezed by
            another amount than every normal; data and normals_data, the kind of data, such as
            "12-bit data"; copy_of, the normal that the query is or is a copy of (then its score
            says nothing), or null; normals, their names, and which are copies of others;
            normal_range, the scores of the normals against each other, or null. Then the heatmap
            over the query, which is drawn smaller where it has more than 8 megapixels.
        """
        with told_to_client():
            files = [file_path(file) for file in normals or ()]
            check_shots(len(files))
            if not file_path(query):
                raise InctrlError("Add the image to check.")
            path = file_path(query)
            names = tuple(given_name(file) for file in normals)
            config = self.run.sees(model)
            shown: list[SeenImage] = []

            def see(levels: Levels | None) -> tuple[SeenImage]:
                seen = self.run.images(see_image, path, config, MOST_DRAWN, levels=levels)
                shown.append(seen)
                return (dataclasses.replace(seen, shown=seen.crop),)  # The model needs no picture.

            measured, score = self.run.against(model, files, object_name, score_seen, see)
            bank, scale, seen = measured.bank, measured.scale, shown[-1]
            # One at a time: drawing on one of the largest images takes close to 200 MB.
            with self._drawing:
                style = scale.style()
                box = scale_box(score.crop_box, seen.size, seen.shown.size)
                picture = overlay(seen.shown, score.patch_map, box, style)
        apart = aspect_mismatch(score.crop_box, bank.crop_boxes) is not None
        about = {"model": model, "object_name": bank.object_name, "shots": bank.shots}
        about["normals_data"] = bank.data
        about |= normals_to_dict(names, bank.copy_of, measured.ranges)
        return about | score.to_dict(names) | {"other_proportions": apart}, picture


def score_seen(detector: Detector, measured: MeasuredBank, query: SeenImage) -> Score:
    """Scores one opened query.

    Raises:
        InctrlError: The query was opened for another model, or there is too little memory.
    """
    return detector.score([query], measured.bank)[0]
