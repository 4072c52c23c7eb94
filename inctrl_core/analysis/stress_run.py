"""One visitor's stress test: its parts, what they gave, and what comes next. No Gradio here.

The work is cut into parts that each hold the model for an instant, so that other visitors get in
between. A :class:`StressRun` is never changed; each part returns a new one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageOps

from ..images.files import ImageSource
from ..images.perturbations import PERTURBATIONS
from ..images.preprocessing import seen_image
from ..images.seen import Opener, open_here
from ..model.detector import Detector
from ..model.evidence import DECIDE
from ..model.prompts import DEFAULT_OBJECT_NAME
from .inspection import inspect
from .normal_range import normals_to_dict
from .session import Session
from .stress import (
    Contamination,
    DropOne,
    SeverityCurve,
    ShotsPoint,
    contaminate,
    drop_one,
    severity_curve,
    shots_curve,
    typical_normal,
)

CURVE, DROP, CONTAMINATION = "curve", "drop", "contamination"
CHANGES = tuple(kind.name for kind in PERTURBATIONS)
PARTS = (CURVE, DROP, CONTAMINATION, *CHANGES)

Contaminations = tuple[Contamination, Contamination]
PartResult = tuple[ShotsPoint, ...] | tuple[DropOne, ...] | Contaminations | SeverityCurve


@dataclass(frozen=True, eq=False)
class StressRun:
    """A test under way: its subject, and the results so far.

    Attributes:
        session: The scored query and its normals.
        query: What the model sees of the query, its shorter side at the model's size.
        normal: Index of the most typical normal, and the same of it; None where there is one
            normal.
        curve: The score by the number of normals; empty until it is there.
        dropped: The score without each normal; empty until it is there, and with one normal.
        contaminated: The score with the query among the normals, and with its mirror image instead;
            None until it is there.
        changed: The score under each kind of change, in the order of ``CHANGES``.
        done: Number of parts done.
    """

    session: Session
    query: Image.Image
    normal: tuple[int, Image.Image] | None
    curve: tuple[ShotsPoint, ...] = ()
    dropped: tuple[DropOne, ...] = ()
    contaminated: Contaminations | None = None
    changed: tuple[SeverityCurve, ...] = ()
    done: int = 0

    @property
    def next_part(self) -> str | None:
        """The part to be done next; None at the end."""
        return PARTS[self.done] if self.done < len(PARTS) else None

    @property
    def threshold(self) -> float | None:
        """The score above which an image counts as anomalous; None where nothing tells."""
        return self.session.threshold

    @property
    def above(self) -> bool:
        """Whether the query, as it is, exceeds the threshold; False where there is none."""
        return self.threshold is not None and self.session.score.fused > self.threshold


def stress_test(
    detector: Detector,
    normals: Sequence[ImageSource],
    query: ImageSource,
    object_name: str = DEFAULT_OBJECT_NAME,
    looks_for: str = DECIDE,
) -> StressRun:
    """All that the tab Stress shows: the score with fewer, other and changed images.

    Args:
        detector: The model.
        normals: 1 to 16 images, as :func:`inctrl_core.images.files.open_image` takes them.
        query: The image to check.
        object_name: What they show.
        looks_for: See :meth:`.Detector.build_bank`.

    Raises:
        InctrlError: Anything in the input cannot be used; the message says what.
    """
    run = start_run(inspect(detector, normals, query, object_name, looks_for), query)
    while (part := run.next_part) is not None:
        run = with_result(run, compute_part(detector, run.session, part, run.query, run.normal))
    return run


def start_run(session: Session, query_file: str, opener: Opener = open_here) -> StressRun:
    """A run with nothing done yet.

    Args:
        session: The result of Inspect for the same files.
        query_file: Path of the query.
        opener: Opens an image.

    Raises:
        ImageError: A file cannot be read again.
    """
    config, levels = session.config.preprocess, session.bank.levels
    normal = None
    if session.ranges is not None:
        index = typical_normal(session.ranges)
        normal = index, opener(seen_image, session.normal_files[index], config, levels=levels)
    return StressRun(session, opener(seen_image, query_file, config, levels=levels), normal)


def compute_part(
    detector: Detector,
    session: Session,
    part: str,
    query: Image.Image,
    normal: tuple[int, Image.Image] | None,
) -> PartResult:
    """Computes one part; nothing of the result lies on the model's device.

    Args:
        detector: The session's model.
        session: The scored query and its normals.
        part: One of ``PARTS``.
        query: As in :class:`StressRun`.
        normal: As in :class:`StressRun`.
    """
    bank, encoded = session.bank, session.encoded
    if part == CURVE:
        return shots_curve(detector, bank, encoded)
    if part == DROP:
        dropped = drop_one(detector, bank, encoded) if len(bank.distinct) > 1 else ()
        chosen = session.chosen  # It stays what it is, whichever normals there are.
        return dropped if chosen is None else tuple(d.judged_by(chosen) for d in dropped)
    if part == CONTAMINATION:
        mirrored = detector.encode_for(bank, [ImageOps.mirror(query)])
        return tuple(contaminate(detector, bank, encoded, copy) for copy in (encoded, mirrored))
    return severity_curve(detector, bank, part, query, normal)


def with_result(run: StressRun, result: PartResult) -> StressRun:
    """The run with the result of its next part."""
    part = run.next_part
    if part == CURVE:
        found = {"curve": result}
    elif part == DROP:
        found = {"dropped": result}
    elif part == CONTAMINATION:
        found = {"contaminated": result}
    else:
        found = {"changed": (*run.changed, result)}
    return dataclasses.replace(run, **found, done=run.done + 1)


def run_to_dict(run: StressRun) -> dict[str, Any]:
    """All figures of a finished run, ready for ``json.dumps``; normals are counted from 1."""
    session = run.session
    copy, mirrored = run.contaminated
    return {
        "model": session.model,
        "object_name": session.bank.object_name,
        "shots": session.bank.shots,
        "normals": normals_to_dict(session.normal_names, session.bank.copy_of, None)["normals"],
        "copy_of": session.score.to_dict(session.normal_names)["copy_of"],
        "score": session.score.fused,
        "threshold": run.threshold,
        "normal_scores": None if session.ranges is None else list(session.ranges.fused),
        "fewer_normals": [dataclasses.asdict(point) for point in run.curve],
        "left_out": [
            {
                "normal": drop.index + 1,
                "score": drop.fused,
                "change": drop.change,
                "threshold": drop.threshold,
            }
            for drop in run.dropped
        ],
        "among_normals": {
            name: {"score": contaminated.after.fused, "threshold": contaminated.threshold_after}
            for name, contaminated in (("copy", copy), ("mirrored", mirrored))
        },
        "changed_normal": None if run.normal is None else run.normal[0] + 1,
        "changes": [
            {
                "name": curve.name,
                "strengths": curve.severities,
                "query": curve.query,
                "normal": curve.normal,
            }
            for curve in run.changed
        ],
    }
