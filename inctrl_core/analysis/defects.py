"""Showing the program a defect: which patches of an image become references, and results with them.

The scoring beside such references is in :mod:`inctrl_core.model.defects`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..config import MAX_DEFECTS
from ..errors import PromptError
from ..images.files import ImageSource, check_listed
from ..images.seen import SeenImage
from ..model.detector import Detector, EncodedImages
from ..model.score import Score
from .copies import called
from .inspection import NORMAL_PIXELS, picture, results, same_files
from .measured_bank import MeasuredBank
from .session import Session, ShownDefect

# Of one image, the patches that become references: those above the normals' own range, at most so
# many, or the strongest, where hardly any is; both measured in docs/lab-notebook.md.
MOST_PATCHES = 12
FEWEST_PATCHES = 2
STRONGEST = 6
AROUND = 1  # Patches in each direction about one that a person picked.

Place = tuple[int, int]


def defect_places(
    patch_map: np.ndarray, line: float | None, picked: Place | None = None
) -> tuple[Place, ...]:
    """The patches of an image that show its defect.

    >>> patch_map = np.array([[0.1, 0.5], [0.4, 0.2]])
    >>> defect_places(patch_map, 0.3)
    ((0, 1), (1, 0))

    Args:
        patch_map: float [G, G], residuals.
        line: The residual up to which patches count as normal; None where nothing tells.
        picked: Row and column, counted from 0, of a patch that a person picked: it and those around
            it, whatever they show.

    Returns:
        Rows and columns, counted from 0; of places that were not picked the strongest first.

    Raises:
        PromptError: The patch lies outside the grid.
    """
    rows, columns = patch_map.shape
    if picked is not None:
        row, column = picked
        if not (0 <= row < rows and 0 <= column < columns):
            raise PromptError(f"Choose a row and a column between 1 and {rows}.")
        return tuple(
            (y, x)
            for y in range(max(row - AROUND, 0), min(row + AROUND + 1, rows))
            for x in range(max(column - AROUND, 0), min(column + AROUND + 1, columns))
        )
    above = 0 if line is None else int((patch_map > line).sum())
    count = min(above, MOST_PATCHES) if above >= FEWEST_PATCHES else STRONGEST
    strongest = np.argsort(-patch_map, axis=None, kind="stable")[:count].tolist()
    return tuple(divmod(index, columns) for index in strongest)


def patches_at(encoded: EncodedImages, places: Sequence[Place]) -> tuple[Tensor, ...]:
    """The patches of one image at some places.

    Args:
        encoded: The image.
        places: R rows and columns, counted from 0.

    Returns:
        D tensors [R, C_d].
    """
    grid = round(encoded.features.patches[0].shape[1] ** 0.5)
    index = [row * grid + column for row, column in places]
    return tuple(patches[0, index] for patches in encoded.features.patches)


def beside_defects(measured: MeasuredBank, images: Sequence[Sequence[Tensor]]) -> MeasuredBank:
    """The same normals beside these defects, in place of those they had. Nothing else changes.

    Args:
        measured: The normals.
        images: For each image the result of :func:`patches_at`.

    Raises:
        PromptError: There are too many.
    """
    check_defects(len(images))
    return dataclasses.replace(measured, bank=measured.bank.with_defects(images))


def show_defects(
    detector: Detector, measured: MeasuredBank, images: Sequence[ImageSource | SeenImage]
) -> MeasuredBank:
    """The same normals beside the defects that images show.

    Args:
        detector: The model that made the bank.
        measured: The normals.
        images: Images with a defect each, as :meth:`.Detector.score` takes them; none of them a
            normal.

    Raises:
        ImageError: An image cannot be used.
        PromptError: There are too many, or one is a normal.
    """
    check_listed(images)
    check_defects(len(images))
    if not images:
        return measured
    bank = measured.bank.with_defects(())
    found = []
    for number, image in enumerate(images, 1):
        encoded = detector.encode_for(bank, [image])
        score = detector.score_encoded(encoded, bank)[0]
        check_no_normal(score, f"Defect {number}")
        places = defect_places(score.patch_map, measured.scale.normal_high)
        found.append(patches_at(encoded, places))
    return beside_defects(measured, found)


def show_again(
    detector: Detector,
    measured: MeasuredBank,
    session: Session,
    images: Sequence[SeenImage | None],
) -> tuple[MeasuredBank, tuple[ShownDefect, ...]]:
    """The defects of a session beside other normals, found anew in their images.

    Args:
        detector: The session's model.
        measured: The other normals.
        session: A visitor's.
        images: An image for each of its defects; None: its patches stay as they are.
    """
    patches, defects = list(_defect_patches(session)), list(session.defects)
    for place, image in enumerate(images):
        if image is not None:
            encoded = detector.encode_for(measured.bank, [image])
            patch_map = detector.score_encoded(encoded, measured.bank)[0].patch_map
            own = defects[place]
            places = defect_places(patch_map, measured.scale.normal_high, own.picked)
            patches[place] = patches_at(encoded, places)
            defects[place] = dataclasses.replace(own, places=places)
    return beside_defects(measured, patches), tuple(defects)


def check_defects(count: int) -> None:
    """Raises PromptError unless ``count`` <= ``MAX_DEFECTS``."""
    if count > MAX_DEFECTS:
        raise PromptError(f"There are {count} images of defects; use at most {MAX_DEFECTS}.")


def with_defect(detector: Detector, session: Session, picked: Place | None = None) -> Session:
    """Shows the query as a defect: images with patches like its own score higher from now on.

    Args:
        detector: The session's model.
        session: A visitor's.
        picked: Row and column, counted from 0, of the patch that shows it; None: those that differ
            most, see :func:`defect_places`.

    Raises:
        PromptError: It is a normal, or one of the defects already; the patch lies outside the grid;
            or there are too many defects.
    """
    check_no_normal(session.score)
    if shown_as_defect(session) is not None:
        raise PromptError("You showed this image as a defect already.")
    places = defect_places(session.score.patch_map, session.scales[0].normal_high, picked)
    shown = picture(session.query.image, session.query.crop_box, NORMAL_PIXELS)
    own = ShownDefect(session.query_file, shown, places, picked)
    images = (*_defect_patches(session), patches_at(session.encoded, places))
    change = "Its patches are among your defects now"
    return _with_defects(detector, session, (*session.defects, own), images, change)


def with_defect_images(
    detector: Detector, session: Session, images: Sequence[ImageSource | SeenImage]
) -> Session:
    """The same result beside the defects that images show, in place of those it has.

    Args:
        detector: The session's model.
        session: A visitor's.
        images: As in :func:`show_defects`, which raises the same.
    """
    return beside_kept(detector, session, show_defects(detector, session.measured, images))


def beside_kept(detector: Detector, session: Session, measured: MeasuredBank) -> Session:
    """The same result beside defects of which nothing is known but their patches.

    Args:
        detector: The session's model.
        session: A visitor's.
        measured: Its normals beside the defects.
    """
    known = measured.bank.defects
    shown = tuple(ShownDefect() for _ in (() if known is None else known.images))
    found = results(detector, measured, session.encoded)
    return dataclasses.replace(session, defects=shown, **found)


def without_defect(detector: Detector, session: Session, index: int) -> Session:
    """Forgets one of the defects.

    Args:
        detector: The session's model.
        session: A visitor's.
        index: Its place among ``session.defects``, counted from 0.

    Raises:
        PromptError: There is no such defect.
    """
    if not 0 <= index < len(session.defects):
        raise PromptError("This defect is forgotten already.")
    kept = [i for i in range(len(session.defects)) if i != index]
    patches = _defect_patches(session)
    shown, images = (tuple(values[i] for i in kept) for values in (session.defects, patches))
    return _with_defects(detector, session, shown, images, f"Without defect {index + 1}")


def shown_as_defect(session: Session) -> int | None:
    """The place of the query among the defects; None where it is none of them."""
    files = [defect.file for defect in session.defects]
    alike = (i for i, file in enumerate(files) if same_files([file], [session.query_file]))
    return next(alike, None)


def _defect_patches(session: Session) -> tuple[tuple[Tensor, ...], ...]:
    return () if session.bank.defects is None else session.bank.defects.images


def _with_defects(
    detector: Detector,
    session: Session,
    shown: tuple[ShownDefect, ...],
    images: Sequence[Sequence[Tensor]],
    change: str,
) -> Session:
    measured = beside_defects(session.measured, images)
    return dataclasses.replace(
        session,
        before=session.score,
        change=change,
        defects=shown,
        **results(detector, measured, session.encoded),
    )


def check_no_normal(score: Score, who: str = "This image") -> None:
    """Refuses an image as a defect that is among the normals.

    Raises:
        PromptError: It is.
    """
    if score.copy_of is not None:
        raise PromptError(
            f"{who} is normal {called(score.copy_of)}; take it out of the normals first."
        )
