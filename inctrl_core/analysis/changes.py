"""Changes to a result: other phrases, another threshold, other normals, a closer look.

Nothing is encoded anew but for the last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from ..errors import InctrlError, PromptError
from ..images.seen import Opener, SeenImage, open_here, see_image
from ..model.bank import PromptBank
from ..model.copies import same_images
from ..model.detector import Detector
from ..model.prompts import build_prompts, clean_phrases, extend_prompts
from .closer import check_parts, closer_normals, look_closer, parts_opener
from .copies import called
from .decision import check_threshold
from .defects import show_again, shown_as_defect
from .inspection import NORMAL_PIXELS, OpenedFiles, open_files, picture, results
from .measured_bank import measure_bank
from .session import Picture, Session
from .steps import Progress, Step, steps_of, untold


def with_phrases(
    detector: Detector, session: Session, normal: Sequence[str], anomaly: Sequence[str]
) -> Session:
    """The same images with the visitor's own phrases among the prompts; no image is encoded again.

    Raises:
        PromptError: A phrase cannot be used.
    """
    phrases = clean_phrases(normal), clean_phrases(anomaly)
    prompts = extend_prompts(build_prompts(session.bank.object_name), *phrases)
    bank = session.bank.with_text(session.bank.object_name, detector.encode_prompts(prompts))
    changed = _rescore(detector, session, bank)
    count = len(phrases[0]) + len(phrases[1])
    what = f"With {count} of your own phrases" if count else "Without phrases of your own"
    return dataclasses.replace(changed, phrases=phrases, before=session.score, change=what)


def with_looks_for(detector: Detector, session: Session, looks_for: str) -> Session:
    """The same images, looking for another kind of anomaly; no image is encoded again.

    Args:
        detector: The session's model.
        session: A visitor's.
        looks_for: See :meth:`.Detector.build_bank`.

    Raises:
        PromptError: There is no such kind.
    """
    changed = _rescore(detector, session, session.bank.with_looks_for(looks_for))
    return dataclasses.replace(changed, before=session.score, change="Looking for something else")


def with_threshold(session: Session, threshold: float | None) -> Session:
    """The same result beside another threshold.

    Args:
        session: A visitor's.
        threshold: A score in [0, 1].

    Raises:
        InctrlError: It is not.
    """
    return dataclasses.replace(
        session, measured=session.measured.with_threshold(check_threshold(threshold))
    )


def with_closer_look(
    detector: Detector, session: Session, parts: int, on_step: Progress = untold
) -> Session:
    """The same result, and the query looked at in parts; see :mod:`.closer`.

    Args:
        detector: The session's model.
        session: A visitor's; its images are opened again.
        parts: Parts a side, 1 to 4; 1 is the whole image, without a closer look.
        on_step: Told how many steps are done, of how many.

    Raises:
        InctrlError: There cannot be so many parts, or an image can no longer be read.
    """
    return compute_closer_look(steps_of(detector), session, parts, open_here, on_step)


def compute_closer_look(
    step: Step, session: Session, parts: int, opener: Opener, on_step: Progress
) -> Session:
    """:func:`with_closer_look`, wherever its steps are computed and its images opened."""
    if check_parts(parts) == 1:
        return dataclasses.replace(session, closer=None)
    if session.bank.ignored is not None:
        raise InctrlError("Looking closer counts the whole picture; count everything again first.")
    open_parts = parts_opener(session.config.preprocess, session.bank.levels, parts, opener)
    normals = [session.normal_files[i] for i in session.bank.distinct]
    closer = closer_normals(step, open_parts, normals, parts, on_step)
    look = look_closer(step, open_parts, closer, session.query_file, session.score.crop_box)
    return dataclasses.replace(session, closer=look)


def with_ignored(detector: Detector, session: Session, part: np.ndarray | None) -> Session:
    """The same images without a part of the picture, which from then on counts in none of them.

    Args:
        detector: The session's model.
        session: A visitor's; its images are opened again.
        part: See :mod:`inctrl_core.images.ignored`; None: all of the picture counts.

    Raises:
        InctrlError: The part cannot be used, or an image can no longer be read.
    """
    return encode_without(detector, session, *open_again(session), part)


def open_again(
    session: Session, opener: Opener = open_here
) -> tuple[OpenedFiles, tuple[SeenImage | None, ...]]:
    """Opens all images of a result: normals and query, and the defects that have a file.

    Raises:
        InctrlError: One can no longer be read.
    """
    config, levels = session.config.preprocess, session.bank.levels
    files = session.normal_files, session.query_file
    opened = open_files(config, session.model, files, None, opener)
    shown = tuple(
        opener(see_image, defect.file, config, 1, levels=levels) if defect.file else None
        for defect in session.defects
    )
    return opened, shown


def encode_without(
    detector: Detector,
    session: Session,
    opened: OpenedFiles,
    shown: Sequence[SeenImage | None],
    part: np.ndarray | None,
) -> Session:
    """:func:`with_ignored`, with its images opened; defects are found anew in theirs."""
    old = session.bank
    about = old.object_name, old.text.prompts, old.looks_for, part
    measured = measure_bank(detector, detector.build_bank(opened.normals, *about))
    measured, defects = show_again(detector, measured, session, shown)
    encoded = detector.encode_for(measured.bank, [opened.query])
    return dataclasses.replace(
        session,
        encoded=encoded,
        closer=None,
        before=session.score,
        threshold_before=session.threshold,
        change="All of the picture counts again" if part is None else "Without the ignored part",
        defects=defects,
        **results(detector, measured, encoded),
    )


def with_query_as_normal(detector: Detector, session: Session) -> Session:
    """Adds the query to the normals and scores it again.

    Raises:
        PromptError: It is among them, or there is no room for another normal.
    """
    if session.score.copy_of is not None:
        raise PromptError("This image is among the normals already.")
    if shown_as_defect(session) is not None:
        raise PromptError("You showed this image as a defect; forget that first.")
    query = session.encoded
    larger = session.bank.with_normals(query.features, query.crop_boxes)
    shown = picture(session.query.image, session.query.crop_box, NORMAL_PIXELS)
    return dataclasses.replace(
        _rescore(detector, session, larger, (*session.normals, shown)),
        normal_files=(*session.normal_files, session.query_file),
        before=session.score,
        threshold_before=session.threshold,
        change=f"Now normal number {larger.shots}, it finds itself",
    )


def without_query_as_normal(detector: Detector, session: Session) -> Session:
    """Takes the query out of the normals, copies of it too, and scores it.

    Raises:
        PromptError: It is not among them, or the only one.
    """
    if session.score.copy_of is None:
        raise PromptError("This image is not among the normals.")
    same = same_images(session.encoded.features, session.bank.features)[0]
    kept = torch.nonzero(~same).flatten().tolist()
    if not kept:
        raise PromptError("Add another normal image first: this is the only one.")
    return _with_normals(detector, session, kept, "No longer among the normals")


def without_odd_normal(detector: Detector, session: Session) -> Session:
    """Leaves out the normal that differs too much from the others, its copies too.

    Raises:
        PromptError: There is none.
    """
    if session.odd is None:
        raise PromptError("None of the normals differs that much from the others.")
    kept = session.bank.others(session.odd.index)
    name = called(session.odd.index, session.normal_names)
    return _with_normals(detector, session, kept, f"Without normal {name}")


def _with_normals(
    detector: Detector, session: Session, kept: Sequence[int], change: str
) -> Session:
    """The same query against some of the normals."""
    return dataclasses.replace(
        _rescore(
            detector,
            session,
            session.bank.subset(list(kept)),
            tuple(session.normals[i] for i in kept),
        ),
        normal_files=tuple(session.normal_files[i] for i in kept),
        given_names=tuple(session.normal_names[i] for i in kept),
        before=session.score,
        threshold_before=session.threshold,
        change=change,
    )


def _rescore(
    detector: Detector,
    session: Session,
    bank: PromptBank,
    normals: tuple[Picture, ...] | None = None,
) -> Session:
    return dataclasses.replace(
        session,
        normals=session.normals if normals is None else normals,
        threshold_before=None,
        closer=session.closer if normals is None else None,
        **results(detector, measure_bank(detector, bank), session.encoded),
    )
