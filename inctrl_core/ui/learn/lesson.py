"""The lesson of the tab Learn: one example through the whole method, with its own numbers."""

from __future__ import annotations

from ...analysis.session import Session
from ...analysis.walkthrough import FusionAccount, ReferenceAccount, fusion_account
from ...model.detector import Detector
from ..common.heatmap import patch_place
from .match import map_step, match_step
from .parts import Lesson, Mark
from .patches import crop_step, patches_step
from .score import score_step
from .signals import image_step, limits_html, text_step


def explain(detector: Detector, session: Session) -> FusionAccount:
    """The steps between the signals of a session and its score.

    Args:
        detector: The session's model.
        session: A visitor's, or that of an example.

    Raises:
        ModelError: The model's form of fusion cannot be followed.
    """
    return fusion_account(detector, session.bank, session.encoded, session.score)


def start_html(lesson: Lesson) -> str:
    """Step 1, which no choice of a patch changes."""
    return _steps(crop_step(lesson))


def patch_html(lesson: Lesson, row: float | None, column: float | None) -> tuple[str, str]:
    """Step 2, in which a patch is chosen, and steps 3 and 4, which follow it.

    Args:
        lesson: What is walked through.
        row: Row of the patch that is followed, counted from 1.
        column: Likewise.

    Raises:
        InctrlError: The patch lies outside the grid.
    """
    mark = _mark(lesson, row, column)
    return (
        _steps(patches_step(lesson, mark)),
        _steps(match_step(lesson, mark), map_step(lesson, mark)),
    )


def score_html(lesson: Lesson, row: float | None, column: float | None) -> str:
    """Steps 5 to 7, and what nothing sees.

    Raises:
        InctrlError: The patch lies outside the grid.
    """
    mark = _mark(lesson, row, column)
    return _steps(
        image_step(lesson), text_step(lesson), score_step(lesson, mark), limits_html(lesson)
    )


def score_follows_patch(lesson: Lesson) -> bool:
    """Whether :func:`score_html` shows anything of the patch that is followed."""
    return isinstance(lesson.account, ReferenceAccount)


def _steps(*parts: str) -> str:
    return f'<div class="ic-lesson">{"".join(parts)}</div>'


def _mark(lesson: Lesson, row: float | None, column: float | None) -> Mark:
    return patch_place(lesson.session, row), patch_place(lesson.session, column)
