"""The same scoring for programs: named endpoints with plain files in and JSON out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Literal

import gradio as gr

from ...analysis.decision import RATE, check_rate, decide
from ...analysis.measured_bank import MeasuredBank, grade
from ...analysis.normal_range import normals_to_dict
from ...errors import InctrlError
from ...images.levels import Levels
from ...images.overlay import overlay, scale_box
from ...images.preprocessing import aspect_mismatch
from ...images.seen import MOST_DRAWN, SeenImage, see_image
from ...model.bank import check_shots
from ...model.detector import Detector
from ...model.evidence import DECIDE, LOOKS_FOR, check_looks_for
from ...model.score import Score
from ..common.downloads import picture_file
from ..common.form import (
    MODEL_QUEUE,
    UploadedFile,
    UploadedFiles,
    file_path,
    given_name,
    later_choice,
)
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
            looks_for = later_choice(gr.Dropdown(LOOKS_FOR, value=DECIDE, label="Looks for"))
            false_alarms = later_choice(gr.Number(RATE, label="Rate of false alarms"))
            defects = later_choice(gr.File(label="Images of defects", file_count="multiple"))
            ignored = later_choice(gr.File(label="Mask of the part to ignore"))
            result = gr.JSON(label="Score")
            picture = gr.Image(label="Heatmap over the query")
            button = gr.Button()
        button.click(
            self.score,
            [normals, query, object_name, model, looks_for, false_alarms, defects, ignored],
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
        looks_for: str = DECIDE,
        false_alarms: float = RATE,
        defects: UploadedFiles = None,
        ignored: UploadedFile = None,
    ) -> tuple[dict[str, Any], str]:
        """Scores a query image against 1 to 16 normal images of the same kind of object.

        Args:
            normals: The normal images.
            query: The image to check.
            object_name: What they show, for example "metal nut"; it goes into the text prompts.
            model: One of the offered models.
            looks_for: "flaw" (in the thing), "kind" (another kind of thing), or "decide" (as the
                normals suggest).
            false_alarms: The share of good images that may lie above the threshold, 0.01 to 0.2.
            defects: Images of a defect each, at most 16: patches that are more like theirs than
                like the normals' make an image score higher.
            ignored: An image of a normal's proportions; what is not black in it marks the part of
                the picture that does not count.

        Returns:
            The score and its parts: fused (the anomaly score), holistic, patch_max,
            image_residual, text_anomaly, all in [0, 1]; patch_map, 15 x 15; crop_box, the part of
            the query that was seen, in its pixels; other_proportions, whether it was squeezed by
            another amount than every normal; data and normals_data, the kind of data, such as
            "12-bit data"; copy_of, the normal that the query is or is a copy of (then its score
            says nothing), or null; normals, their names, and which are copies of others;
            normal_range, the scores of the normals against each other, or null; threshold, the
            score above which an image counts as anomalous, and grade, "below", "a little above",
            "clearly above" or "far above" it, or null; decision, the share of good images expected
            above the threshold and the interval around that, or null; expected_share_above, the
            share of good images that is expected to score higher than the query, or null. Then the
            heatmap over the query, which is drawn smaller where it has more than 8 megapixels.
        """
        with told_to_client():
            files = [file_path(file) for file in normals or ()]
            check_shots(len(files))
            # Empty in a call by hand: as if it had been left out.
            looks_for = check_looks_for(looks_for or DECIDE)
            false_alarms = RATE if false_alarms is None else false_alarms
            check_rate(false_alarms)
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

            shown_defects = [file_path(file) for file in defects or ()]
            part = self.run.part(model, file_path(ignored))
            if shown_defects or part is not None:
                wanted = {"looks_for": looks_for, "ignored": part}
                measured = self.run.measure(model, files, object_name, **wanted)
                measured = self.run.show_defects(model, measured, shown_defects)
                score = self.run(score_seen, model, measured, *see(measured.bank.levels))
            else:
                measured, score = self.run.against(
                    model, files, object_name, score_seen, see, looks_for=looks_for
                )
            bank, scale, seen = measured.bank, measured.scale, shown[-1]
            # One at a time: drawing on one of the largest images takes close to 200 MB.
            with self._drawing:
                style = scale.style()
                box = scale_box(score.crop_box, seen.size, seen.shown.size)
                picture = picture_file(overlay(seen.shown, score.patch_map, box, style))
        apart = aspect_mismatch(score.crop_box, bank.crop_boxes) is not None
        about = {"model": model, "object_name": bank.object_name, "shots": bank.shots}
        about["looks_for"] = bank.looks_for
        about["normals_data"] = bank.data
        about |= normals_to_dict(names, bank.copy_of, measured.ranges)
        about |= decision_to_dict(measured, false_alarms, score)
        return about | score.to_dict(names) | {"other_proportions": apart}, picture


def decision_to_dict(measured: MeasuredBank, rate: float, score: Score) -> dict[str, Any]:
    """The threshold for a rate of false alarms, and the place of a score, for programs."""
    decision, good = decide(measured.good, rate), measured.good
    threshold = measured.threshold if decision is None else decision.threshold
    return {
        "threshold": threshold,
        "grade": grade(score.fused, threshold, measured.ranges, good),
        "decision": None if decision is None else decision.to_dict(),
        "expected_share_above": None if good is None else good.share_above(score.fused),
    }


def score_seen(detector: Detector, measured: MeasuredBank, query: SeenImage) -> Score:
    """Scores one opened query.

    Raises:
        InctrlError: The query was opened for another model, or there is too little memory.
    """
    return detector.score([query], measured.bank)[0]
