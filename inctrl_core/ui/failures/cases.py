"""The cases of the gallery of failures, and how each comes out; no model, no Gradio.

Whether a case fails is nowhere written down: it follows from a live score and the known truth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...analysis.session import Session
from ...errors import InctrlError
from ..common.examples import EXAMPLES
from ..common.origins import Origin, read_origin

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
    "normals": "A bad normal among the good ones",
    "kinds": "Another kind of thing, and normals that vary",
    "lighting": "Lighting",
    "background": "The background",
    "novelty": "Something new that is harmless",
    "texture": "Texture unlike the normals",
    "small": "A defect smaller than a patch",
    "contrast": "Low contrast",
    "colour": "Colour alone",
    "logical": "A logical anomaly",
    WORKS: "Against expectation, it works",
}


@dataclass(frozen=True)
class Remedy:
    """The advice of a case, followed.

    Attributes:
        normals: Paths of the normals to compare with instead.
        query: The same thing, photographed or prepared as advised; the case's own query where the
            advice is about normals alone.
        control: An image of the opposite truth that must still be told apart; None where there is
            none.
    """

    normals: tuple[Path, ...]
    query: Path
    control: Path | None


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
        anomalous: The truth.
        mask: Where it is anomalous, where that is known.
        cause: Box around what misleads or is missed (left, top, right, bottom), in pixels of the
            query; None where it is no single place, or where the mask tells.
        before: What is said before the guess.
        after: What is said of the outcome.
        advice: What to do about it.
        remedy: The advice, followed; None where it is not about images.
        made: How some images were prepared.
        origin: Where the images come from, and the terms of their use.
    """

    id: str
    title: str
    why: str
    object_name: str
    normals: tuple[Path, ...]
    query: Path
    anomalous: bool
    mask: Path | None
    cause: tuple[int, int, int, int] | None
    before: str
    after: str
    advice: str
    remedy: Remedy | None
    made: str | None
    origin: Origin

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
        ValueError: A field is missing, a reason is unknown, or a file is not there.
    """
    data = json.loads((directory / CASES_FILE).read_text(encoding="utf-8"))
    try:
        origins = {name: read_origin(entry) for name, entry in data["sources"].items()}
        cases = [_read_case(entry, origins, directory) for entry in data["cases"]]
    except KeyError as error:
        raise ValueError(f"{directory / CASES_FILE} lacks the field {error}.") from None
    return {case.id: case for case in cases}


def find_case(cases: Mapping[str, Case], name: object) -> Case:
    """The case of that name.

    Raises:
        InctrlError: There is none.
    """
    if not isinstance(name, str) or name not in cases:
        raise InctrlError("There is no case of that name. Choose one of those below.")
    return cases[name]


def outcome(anomalous: bool, session: Session) -> str:
    """How it came out: ``RIGHT``, ``MISSED`` or ``ALARM``.

    The verdict is "anomalous" where the fused score lies above the threshold.

    Args:
        anomalous: The truth about the session's query.
        session: Its result.
    """
    if bool(session.above) == anomalous:
        return RIGHT
    return MISSED if anomalous else ALARM


def read_mask(path: Path) -> np.ndarray:
    """Where a query is anomalous, as bool [H, W]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L")) > 127


def _read_case(entry: Mapping[str, Any], origins: Mapping[str, Origin], directory: Path) -> Case:
    def file(name: str) -> Path:
        path = directory / name
        if not path.is_file():
            raise ValueError(f"{path} is missing; take the folder examples anew.")
        return path

    def files(names: Sequence[str]) -> tuple[Path, ...]:
        return tuple(file(name) for name in names)

    if entry["why"] not in REASONS:
        raise ValueError(f"Case {entry['id']} has the unknown reason {entry['why']}.")
    names = "id", "title", "why", "object_name", "made", "before", "after", "advice"
    advised, cause = entry["remedy"], entry["cause"]
    remedy = None
    if advised is not None:
        control = advised["control"]
        remedy = Remedy(
            files(advised["normals"]),
            file(advised["query"]),
            None if control is None else file(control),
        )
    return Case(
        **{name: entry[name] for name in names},
        normals=files(entry["normals"]),
        query=file(entry["query"]),
        anomalous=entry["truth"] == "anomalous",
        mask=None if entry["mask"] is None else file(entry["mask"]),
        cause=None if cause is None else tuple(cause),
        remedy=remedy,
        origin=origins[entry["source"]],
    )
