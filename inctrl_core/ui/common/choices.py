"""Choices for certain normals that were made before these are scored: in a file, or by a link."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from torch import Tensor

from ...analysis.decision import check_threshold
from ...analysis.defects import beside_defects
from ...analysis.export import safe_names
from ...analysis.inspection import same_files
from ...analysis.measured_bank import MeasuredBank
from ...analysis.session import Phrases
from ...checkpoints.bank_file import SavedNormals
from ...errors import InctrlError
from ...images.files import IMAGE_SUFFIXES
from ...images.ignored import part_from_text
from ...images.limits import most_bytes
from ...model.evidence import DECIDE
from .downloads import new_file

HEADROOM = 8 * 2**20  # For the features beside the images.


@dataclass(frozen=True)
class Choices:
    """What was chosen, and the normals that it holds for.

    Attributes:
        files: Paths of the normals.
        threshold: The score above which an image counts as anomalous; None: the normals' own.
        looks_for: See :meth:`.Detector.build_bank`.
        phrases: The visitor's own normal and anomaly phrases.
        ignored: The part to ignore, as :func:`.part_to_text` writes it; empty: none.
        weights: Digest of the model that the defects are for.
        defects: For each defect its patches, see :func:`.defects.patches_at`.
    """

    files: tuple[str, ...]
    threshold: float | None = None
    looks_for: str = DECIDE
    phrases: Phrases = ((), ())
    ignored: str = ""
    weights: str = ""
    defects: tuple[tuple[Tensor, ...], ...] = ()

    @property
    def part(self) -> np.ndarray | None:
        """The part to ignore."""
        return part_from_text(self.ignored) if self.ignored else None

    def hold_for(self, files: Sequence[str]) -> bool:
        """Whether these are the normals."""
        return same_files(files, self.files)


def judged_by(
    measured: MeasuredBank, files: Sequence[str], choices: Choices | None, digest: str
) -> MeasuredBank:
    """Normals with the threshold and the defects that were chosen for them.

    Args:
        measured: The normals, as nobody has changed them yet.
        files: Their paths.
        choices: The visitor's, if there are any.
        digest: The model's.

    Raises:
        InctrlError: The defects were shown to another model.
    """
    if choices is None or not choices.hold_for(files):
        return measured
    if choices.defects and choices.weights != digest:
        raise InctrlError(
            "The defects in the file of these normals were shown to another model; choose that "
            "one, or add the normals anew."
        )
    measured = beside_defects(measured, choices.defects)
    return measured if choices.threshold is None else measured.with_threshold(choices.threshold)


def linked_choices(files: Sequence[str], threshold: object) -> Choices | None:
    """The threshold that a link names, for an example's normals; None where it names none.

    Args:
        files: Paths of the normals.
        threshold: A number as text; anything may stand there.
    """
    try:
        return Choices(tuple(files), check_threshold(float(str(threshold))))
    except (InctrlError, ValueError):
        return None


def read_files(paths: Sequence[str]) -> tuple[bytes, ...]:
    """The image files of normals, whole.

    Raises:
        InctrlError: One is gone, or they are larger than a file that the page takes back.
    """
    try:
        total = sum(os.path.getsize(path) for path in paths)
        if total > most_bytes() - HEADROOM:
            raise InctrlError(
                f"The normals have {total >> 20} MB together, too much for a file that this page "
                "opens again; save them with the command score."
            )
        return tuple(Path(path).read_bytes() for path in paths)
    except OSError:
        raise InctrlError("A normal is no longer here; add the normals again.") from None


def unpack(saved: SavedNormals) -> Choices:
    """Writes the images of a file for the page to show, and what was chosen for them.

    Raises:
        gr.Error: The disk refuses.
    """
    with new_file("normals") as folder:
        folder.mkdir()
        endings = [PurePath(name).suffix.lower() for name in saved.names]
        stems = safe_names([PurePath(name).stem for name in saved.names])
        files = [
            folder / (stem + ending if ending in IMAGE_SUFFIXES else stem)
            for stem, ending in zip(stems, endings, strict=True)
        ]
        for file, image in zip(files, saved.images, strict=True):
            file.write_bytes(image)
    paths = tuple(map(str, files))
    own = saved.threshold, saved.looks_for, saved.phrases, saved.ignored
    return Choices(paths, *own, saved.weights, saved.defects)
