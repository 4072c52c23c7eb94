"""The cases of the gallery of failures, and how each comes out; no model, no Gradio.

Whether a case fails is nowhere written down: it follows from a live score and the known truth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...analysis.inspection import Session
from ...errors import InctrlError
from ..common.examples import EXAMPLES

CASES_FILE = "cases/cases.json"

RIGHT, MISSED, ALARM = "right", "missed", "alarm"
# What a visitor may guess, with what each means.
GUESSES = {
    RIGHT: ("The model gets it right", "It sees an anomaly, or passes a good one."),
    MISSED: ("It misses an anomaly", "Something is wrong, yet the score stays low."),
    ALARM: ("It raises a false alarm", "Nothing is wrong, yet the score is high."),
}
WORKS = "works"
REASONS = {
    "normals": "Unrepresentative normals",
    "rotation": "Rotation",
    "lighting": "Lighting",
    "small": "A defect smaller than a patch",
    "logical": "A logical anomaly",
    "texture": "Texture unlike the normals",
    "quality": "Picture quality unlike the normals",
    "proportions": "Proportions unlike those of the normals",
    "spread": "A change spread over everything",
    WORKS: "Against expectation, it works",
}


@dataclass(frozen=True)
class Case:
    """One case: normals, a query, and what is known of it.

    Attributes:
        id: Its name in a link, ``?case=ID``.
        title: What its card shows; tells nothing of the outcome.
        why: A key of ``REASONS``.
        object_name: For the prompts.
        normals: Paths.
        query: Path.
        made: How the query was made, where it is no image of an example set.
        anomalous: The truth.
        mask: Where it is anomalous, where that is known.
        before: What is said before the guess.
        after: What is said of the outcome.
        advice: What to do about it.
        remedy_normals: The normals that follow the advice, where it is about normals.
        source: Where the pixels come from.
        licence: Terms of their use.
    """

    id: str
    title: str
    why: str
    object_name: str
    normals: tuple[Path, ...]
    query: Path
    made: str | None
    anomalous: bool
    mask: Path | None
    before: str
    after: str
    advice: str
    remedy_normals: tuple[Path, ...] | None
    source: str
    licence: str

    @property
    def expected(self) -> str:
        """How the case comes out with the embedded model, as the explanation says it does."""
        if self.why == WORKS:
            return RIGHT
        return MISSED if self.anomalous else ALARM


def load_cases(directory: Path = EXAMPLES) -> dict[str, Case]:
    """Reads the cases, by id, in the order of the gallery.

    Args:
        directory: Folder of the example sets, to which all paths are relative.

    Raises:
        ValueError: A case lacks a field, has an unknown reason, or names a file that is not there.
    """
    entries = json.loads((directory / CASES_FILE).read_text(encoding="utf-8"))
    cases = [_read_case(entry, directory) for entry in entries]
    return {case.id: case for case in cases}


def find_case(cases: Mapping[str, Case], name: object) -> Case:
    """The case of that name.

    Raises:
        InctrlError: There is none.
    """
    if not isinstance(name, str) or name not in cases:
        raise InctrlError("There is no case of that name. Choose one of those below.")
    return cases[name]


def outcome(case: Case, session: Session) -> str:
    """How it came out: ``RIGHT``, ``MISSED`` or ``ALARM``.

    The verdict is "anomalous" where the fused score lies above the threshold.
    """
    if bool(session.above) == case.anomalous:
        return RIGHT
    return MISSED if case.anomalous else ALARM


def read_mask(path: Path) -> np.ndarray:
    """Where a query is anomalous, as bool [H, W]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L")) > 127


def _read_case(entry: Mapping[str, object], directory: Path) -> Case:
    def file(name: object) -> Path:
        path = directory / str(name)
        if not path.is_file():
            raise ValueError(f"{path} is missing; make the examples again.")
        return path

    try:
        if entry["why"] not in REASONS:
            raise ValueError(f"Case {entry['id']} has the unknown reason {entry['why']}.")
        texts = {
            key: entry[key]
            for key in (
                "id", "title", "why", "object_name", "made", "before", "after", "advice",
                "source", "licence",
            )
        }  # fmt: skip
        remedy = entry["remedy_normals"]
        return Case(
            **texts,
            normals=tuple(file(name) for name in entry["normals"]),
            query=file(entry["query"]),
            anomalous=entry["truth"] == "anomalous",
            mask=None if entry["mask"] is None else file(entry["mask"]),
            remedy_normals=None if remedy is None else tuple(file(name) for name in remedy),
        )
    except KeyError as error:
        raise ValueError(f"{directory / CASES_FILE}: a case lacks the field {error}.") from None
