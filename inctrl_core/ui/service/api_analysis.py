"""The analyses of the tabs, for programs: why, how robustly, and for many images."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import gradio as gr

from ...analysis.batch import QueryFile, open_chunk, score_chunk
from ...analysis.batch_job import BatchJob, check_files, new_job
from ...analysis.changes import with_phrases
from ...analysis.closer import check_parts
from ...analysis.decision import RATE, check_threshold
from ...analysis.defects import with_defect_images
from ...analysis.explanations import patch_matches
from ...analysis.export import batch_dict
from ...analysis.labelled import labelled_dict
from ...analysis.missing import find_missing
from ...analysis.normal_range import ITSELF, normals_to_dict
from ...analysis.session import Session
from ...analysis.stress_run import compute_part, run_to_dict, start_run, with_result
from ...errors import InctrlError
from ...images.preprocessing import aspect_mismatch
from ...model.bank import check_shots
from ...model.evidence import DECIDE, LOOKS_FOR, check_looks_for
from ..common.form import (
    ANALYSIS_QUEUE,
    UploadedFile,
    UploadedFiles,
    file_path,
    given_name,
    later_choice,
    query_files,
)
from ..common.heatmap import strongest_patch
from ..common.models import ModelRegistry
from ..common.runner import ModelRunner
from .api import Visibility, decision_to_dict, told_to_client

MAX_QUERIES = 64


class AnalysisApi:
    """The endpoints ``/explain``, ``/score_batch``, ``/stress_test`` and the like.

    Their components are never shown: they give the endpoints types that clients understand.

    Args:
        registry: The models.
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self.registry = registry
        self.run = ModelRunner(registry)

    def build(self, visibility: Visibility = "public") -> None:
        """Registers the endpoints.

        Args:
            visibility: "undocumented" keeps them out of the list that the page shows.
        """
        with gr.Group(visible=False):
            normals = gr.File(label="Normal images", file_count="multiple")
            query = gr.File(label="Query image")
            queries = gr.File(label="Query images", file_count="multiple")
            good = gr.File(label="Known good images", file_count="multiple")
            bad = gr.File(label="Known bad images", file_count="multiple")
            threshold = later_choice(gr.Number(None, label="Threshold"))
            name = gr.Textbox(label="Object name", value="object")
            model = gr.Dropdown(self.registry.names, value=self.registry.default, label="Model")
            normal_phrases = gr.Textbox(label="Own normal phrases", value="")
            anomaly_phrases = gr.Textbox(label="Own anomaly phrases", value="")
            looks_for = later_choice(gr.Dropdown(LOOKS_FOR, value=DECIDE, label="Looks for"))
            parts = later_choice(gr.Number(1, precision=0, label="Parts a side"))
            defects = later_choice(gr.File(label="Images of defects", file_count="multiple"))
            ignored = later_choice(gr.File(label="Mask of the part to ignore"))
            result = gr.JSON(label="Result")
        common = [name, model]
        endpoints: dict[Callable, list] = {
            self.explain: [
                *(normals, query, *common, normal_phrases, anomaly_phrases),
                *(looks_for, parts, defects, ignored),
            ],
            self.score_batch: [normals, queries, *common, looks_for, defects, ignored],
            self.score_labelled: [
                *(normals, good, bad, *common),
                *(looks_for, threshold, defects, ignored),
            ],
            self.stress_test: [normals, query, *common, looks_for],
            self.find_normals: [queries, model],
        }
        for endpoint, inputs in endpoints.items():
            gr.Button(visible=False).click(
                endpoint,
                inputs,
                result,
                preprocess=False,
                **ANALYSIS_QUEUE,
                api_name=endpoint.__name__,
                api_visibility=visibility,
            )

    def explain(
        self,
        normals: UploadedFiles,
        query: UploadedFile,
        object_name: str = "object",
        model: str = "",
        normal_phrases: str = "",
        anomaly_phrases: str = "",
        looks_for: str = DECIDE,
        parts: int = 1,
        defects: UploadedFiles = None,
        ignored: UploadedFile = None,
    ) -> dict[str, Any]:
        """Says why a query gets its score, by the normals' range, the signals, words and patches.

        Args:
            normals: The normal images.
            query: The image to check.
            object_name: What they show.
            model: One of the offered models.
            normal_phrases: Phrases of your own for a sound object, one a line.
            anomaly_phrases: Phrases of your own for a damaged one, one a line.
            looks_for: "flaw" (in the thing), "kind" (another kind of thing), or "decide" (as the
                normals suggest).
            parts: 2 to 4 to look closer, at the images in so many parts a side; 1 not to.
            defects: Images of a defect each, at most 16: patches that are more like theirs than
                like the normals' make an image score higher.
            ignored: An image of a normal's proportions; what is not black in it marks the part of
                the picture that does not count.

        Returns:
            score (its copy_of names the normal that the query is or is a copy of, if any), normals
            (their names, and which are copies of others), other_proportions (whether the query was
            squeezed by another amount than every normal), normal_range (each normal against the
            others, without copies; null where fewer than two are distinct), threshold and grade
            (the score above which an image counts as anomalous, and how far above it this one
            lies), decision (the share of good images expected above the threshold, or null),
            ledger (the score without each signal), text (closest phrases), strongest_patch (row
            and column from 1, and its match at each layer), closer (null, or of the images in
            parts: the query's largest residual, peak; those of the normals against each other,
            normal_peaks; whether it is above them; shots, the number of normals that fit; and its
            patch_map, with so many times more patches a side), missing (what the normals share and
            the query lacks: its largest loss, peak, in a row and column of one normal; those of the
            normals, normal_peaks; whether it is above them; and the map, loss; or null).
        """
        with told_to_client():
            parts = check_parts(1 if parts is None else parts)
            session = self._session(normals, query, object_name, model, looks_for)
            lines = (normal_phrases or "").splitlines(), (anomaly_phrases or "").splitlines()
            if any(lines):
                session = self.run(with_phrases, model, session, *lines)
            part = self.run.part(model, file_path(ignored))
            if part is not None:
                session = self.run.ignore(session, part)
            if defects:
                shown = list(map(file_path, defects))
                seen = self.run.see_defects(model, session.measured, shown)
                session = self.run(with_defect_images, model, session, seen)
            session = self.run.look_closer(session, parts)
        return session_to_dict(session)

    def score_batch(
        self,
        normals: UploadedFiles,
        queries: UploadedFiles,
        object_name: str = "object",
        model: str = "",
        looks_for: str = DECIDE,
        defects: UploadedFiles = None,
        ignored: UploadedFile = None,
    ) -> dict[str, Any]:
        """Scores up to 64 queries against the same normal images.

        Args:
            normals: The normal images.
            queries: The images to check; one that cannot be read does not end the rest.
            object_name: What they show.
            model: One of the offered models.
            looks_for: "flaw" (in the thing), "kind" (another kind of thing), or "decide" (as the
                normals suggest).
            defects: Images of a defect each, at most 16: patches that are more like theirs than
                like the normals' make an image score higher.
            ignored: An image of a normal's proportions; what is not black in it marks the part of
                the picture that does not count.

        Returns:
            The normals' names, which of them are copies of others, and their own range. Then
            results, highest score first: for each query its index (its place in the input, counted
            from 0) and the name given, which another may have too; its score and its parts, its
            grade beside the threshold, its place against that range and the normal that it is a
            copy of, or why it cannot be read.
        """
        with told_to_client():
            about = normals, query_files(queries), object_name, model, looks_for
            job = self._scored(*about, defects, ignored)
        return batch_dict(job.batch)

    def score_labelled(
        self,
        normals: UploadedFiles,
        good: UploadedFiles,
        bad: UploadedFiles,
        object_name: str = "object",
        model: str = "",
        looks_for: str = DECIDE,
        threshold: float | None = None,
        defects: UploadedFiles = None,
        ignored: UploadedFile = None,
    ) -> dict[str, Any]:
        """Scores up to 64 images that are known to be good or bad, and says how well that goes.

        Args:
            normals: The normal images.
            good: Images that are known to be good; may be empty.
            bad: Images that are known to be bad; may be empty.
            object_name: What they show.
            model: One of the offered models.
            looks_for: "flaw" (in the thing), "kind" (another kind of thing), or "decide" (as the
                normals suggest).
            threshold: The score above which an image is called anomalous; by default the one that
                the normals suggest.
            defects: Images of a defect each, at most 16: patches that are more like theirs than
                like the normals' make an image score higher.
            ignored: An image of a normal's proportions; what is not black in it marks the part of
                the picture that does not count.

        Returns:
            labelled: the threshold; metrics, auroc and ap, or null where all images that count are
            of one kind; counts, of misses, false_alarms, found and passed; and among_normals, the
            indices of good images that are left out, as they are normals or copies of them. Then
            all of /score_batch, whose results also have an outcome: "miss", "false alarm",
            "found", "passed", or null where the image does not count. The index of a result is its
            place in the good images, or that of a bad one behind them.
        """
        with told_to_client():
            files = tuple(
                dataclasses.replace(file, anomalous=anomalous)
                for given, anomalous in ((good, False), (bad, True))
                for file in query_files(given)
            )
            if threshold is not None:
                check_threshold(threshold)
            about = normals, files, object_name, model, looks_for
            job = self._scored(*about, defects, ignored)
        return labelled_dict(job.batch, threshold)

    def _scored(
        self,
        normals: UploadedFiles,
        files: tuple[QueryFile, ...],
        object_name: str,
        model: str,
        looks_for: str,
        defects: UploadedFiles,
        ignored: UploadedFile,
    ) -> BatchJob:
        """A finished job; others get their turns at the model in between.

        Raises:
            InctrlError: The normals, the name or the number of files cannot be used.
        """
        if len(files) > MAX_QUERIES:
            raise InctrlError(f"There are {len(files)} queries; use at most {MAX_QUERIES}.")
        paths = tuple(file_path(file) for file in normals or ())
        names = tuple(given_name(file) for file in normals or ())
        check_shots(len(paths))
        check_files(files)
        sought = check_looks_for(looks_for or DECIDE)
        wanted = {"looks_for": sought, "ignored": self.run.part(model, file_path(ignored))}
        measured = self.run.measure(model, paths, object_name, **wanted)
        measured = self.run.show_defects(model, measured, list(map(file_path, defects or ())))
        job = new_job(measured, "", model, paths, files, None, names)
        config = self.run.sees(model)
        while job.waiting:
            images = open_chunk(config, job.waiting, job.bank.levels, self.run.images)
            waiting = job.waiting[: len(images)]
            rows = self.run(score_chunk, model, job.bank, waiting, images)
            job = job.with_rows(rows, time.monotonic())
        return job

    def stress_test(
        self,
        normals: UploadedFiles,
        query: UploadedFile,
        object_name: str = "object",
        model: str = "",
        looks_for: str = DECIDE,
    ) -> dict[str, Any]:
        """Says how far a score can be trusted.

        Args:
            normals: The normal images.
            query: The image to check.
            object_name: What they show.
            model: One of the offered models.
            looks_for: "flaw" (in the thing), "kind" (another kind of thing), or "decide" (as the
                normals suggest).

        Returns:
            The scores with fewer normals, with each left out, with the query or its mirror image
            among them, and with the query turned, darkened, brightened, blurred, noisy and
            compressed, beside one of the normals changed likewise.
        """
        with told_to_client():
            session = self._session(normals, query, object_name, model, looks_for)
            run = start_run(session, file_path(query), self.run.images)
            while (part := run.next_part) is not None:
                result = self.run(compute_part, model, session, part, run.query, run.normal)
                run = with_result(run, result)
        return run_to_dict(run)

    def find_normals(self, queries: UploadedFiles, model: str = "") -> dict[str, Any]:
        """Finds images to take as normals among unsorted ones, most of which should be normal.

        Args:
            queries: 4 to 64 images.
            model: One of the offered models.

        Returns:
            normals, the indices (places in the input, counted from 0) of up to 8 images that
            together show what most of them show; scores, for each image its index and its mutual
            score, the highest, least like the others, first; unread, what cannot be read, and why.
        """
        with told_to_client():
            files = query_files(queries)
            if len(files) > MAX_QUERIES:
                raise InctrlError(f"There are {len(files)} images; use at most {MAX_QUERIES}.")
            check_files(files)
            found = self.run.find_normals(model, [file.path for file in files])
        return found.to_dict()

    def _session(
        self,
        normals: UploadedFiles,
        query: UploadedFile,
        object_name: str,
        model: str,
        looks_for: str,
    ) -> Session:
        files = tuple(file_path(file) for file in normals or ()), file_path(query)
        sought = check_looks_for(looks_for or DECIDE)
        session = self.run.start_session(model, files, object_name, looks_for=sought)
        return dataclasses.replace(session, given_names=tuple(map(given_name, normals)))


def session_to_dict(session: Session) -> dict[str, Any]:
    """Score, range, ledger, words and the strongest patch, ready for ``json.dumps``."""
    names = session.normal_names
    apart = aspect_mismatch(session.score.crop_box, session.bank.crop_boxes)
    row, column = strongest_patch(session)
    matches = patch_matches(session.score, row - 1, column - 1)
    missing = find_missing(session.bank, session.encoded)
    return {
        "model": session.model,
        "object_name": session.bank.object_name,
        "shots": session.bank.shots,
        "normals_data": session.bank.data,
        "normals": normals_to_dict(names, session.bank.copy_of, None)["normals"],
        "score": session.score.to_dict(names),
        "other_proportions": apart is not None,
        "normal_range": None if session.ranges is None else dataclasses.asdict(session.ranges),
        "looks_for": session.bank.looks_for,
        **decision_to_dict(session.measured, RATE, session.score),
        "standing": ITSELF
        if session.score.copy_of is not None
        else session.ranges and session.ranges.standing(session.score.fused),
        "ledger": dataclasses.asdict(session.ledger),
        "text": dataclasses.asdict(session.text),
        "closer": session.closer and session.closer.to_dict(),
        "missing": missing and missing.to_dict(),
        "strongest_patch": {
            "row": row,
            "column": column,
            "matches": [
                {
                    "depth": match.layer + 1,
                    "distance": match.distance,
                    "normal": match.normal + 1,
                    "row": match.row + 1,
                    "column": match.column + 1,
                }
                for match in matches
            ],
        },
    }
