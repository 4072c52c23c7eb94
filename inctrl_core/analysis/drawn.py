"""A defect that a person draws on a normal: what it scores, and the smallest one that is seen.

The normal that is drawn on is left out: the others judge it. A mark that somebody draws is no real
defect: of those many are fainter, and lie where a brush would not go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import InctrlError
from ..images.overlay import scale_box
from ..images.seen import Opener, SeenImage, open_here, see_image
from ..images.strokes import THICKEST, THINNEST, Stroke, covered_pixels, paint
from ..model.detector import Detector
from ..model.score import Score
from .measured_bank import MeasuredBank, measure_bank
from .session import Session
from .steps import Step, steps_of

PICTURE_PIXELS = 250_000  # Of the picture to draw on.
ROUND = 8  # Sizes that are tried at once; there are two rounds.
TOO_FEW = (
    "Drawing needs two different normals, one to draw on and one to compare it with; add another."
)
NOTHING_TELLS = "These normals give no threshold to look for; add another different one."
ABOVE_ALREADY = "This image lies above the threshold with nothing drawn on it; choose another one."


@dataclass(frozen=True, eq=False)
class Board:
    """A normal to draw on, and the others.

    Attributes:
        normal: Its index among the normals.
        measured: The others.
        seen: What the model sees of it.
        picture: The same part for the screen, in the image's own proportions.
        score: Of the normal as it is.
    """

    normal: int
    measured: MeasuredBank
    seen: SeenImage
    picture: Image.Image
    score: Score

    @property
    def sides(self) -> tuple[float, float]:
        """Width and height of the part that is seen, in pixels of the image."""
        left, top, right, bottom = self.seen.crop_box
        return right - left, bottom - top

    @property
    def least(self) -> float:
        """Diameter of the smallest mark that is tried: one pixel of the image, or more."""
        return max(THINNEST, 1 / min(self.sides))

    def pixels(self, share: float) -> float:
        """A share of the shorter side, in pixels of the image."""
        return share * min(self.sides)


@dataclass(frozen=True, eq=False)
class Drawing:
    """What strokes on a normal come to.

    Attributes:
        score: Of the image with the strokes.
        picture: The image with them, as :attr:`Board.picture`.
        area: Of the strokes, in pixels of the image.
        patches: The same in patches.
        threshold: Of the normals that judge it; None where nothing tells.
    """

    score: Score
    picture: Image.Image
    area: float
    patches: float
    threshold: float | None

    @property
    def above(self) -> bool | None:
        """Whether it lies above the threshold; None where there is none."""
        return None if self.threshold is None else self.score.fused > self.threshold


@dataclass(frozen=True)
class Sizes:
    """Scores of one mark in several sizes.

    Attributes:
        diameters: Ascending, shares of the picture's shorter side.
        scores: One for each.
        threshold: The score above which one is seen.
    """

    diameters: tuple[float, ...]
    scores: tuple[float, ...]
    threshold: float

    @property
    def smallest(self) -> float | None:
        """The smallest diameter that is seen; None where none is."""
        tried = zip(self.diameters, self.scores, strict=True)
        return next((size for size, score in tried if score > self.threshold), None)


def ordinary_normal(session: Session) -> int:
    """Index of the normal that scores lowest against the others.

    Raises:
        InctrlError: Fewer than two are distinct.
    """
    ranges = session.ranges
    if ranges is None:
        raise InctrlError(TOO_FEW)
    return ranges.normals[int(np.argmin(ranges.fused))]


def open_board(detector: Detector, session: Session, normal: int | None = None) -> Board:
    """Takes a normal out to draw on it.

    Args:
        detector: The session's model.
        session: A visitor's; the normal is opened again.
        normal: Its index; None: see :func:`ordinary_normal`.

    Raises:
        InctrlError: Fewer than two normals are distinct, or it can no longer be read.
    """
    return compute_board(steps_of(detector), session, open_here, normal)


def compute_board(step: Step, session: Session, opener: Opener, normal: int | None = None) -> Board:
    """:func:`open_board`, wherever its steps are computed and its image is opened."""
    normal = ordinary_normal(session) if normal is None else normal
    config, levels = session.config.preprocess, session.bank.levels
    seen = opener(see_image, session.normal_files[normal], config, PICTURE_PIXELS, levels=levels)
    box = scale_box(seen.crop_box, seen.size, seen.shown.size)
    picture = seen.shown.crop(tuple(map(round, box)))
    measured = step(_leave_out, session, normal)
    score = step(_judge, measured, [seen])[0]
    return Board(normal, measured, dataclasses.replace(seen, shown=picture), picture, score)


def draw(detector: Detector, board: Board, strokes: Sequence[Stroke]) -> Drawing:
    """Scores a normal with strokes on it.

    Args:
        detector: The model that the board was made with.
        board: The normal.
        strokes: In the order in which they were drawn.
    """
    return compute_drawing(steps_of(detector), board, strokes)


def compute_drawing(step: Step, board: Board, strokes: Sequence[Stroke]) -> Drawing:
    """:func:`draw`, wherever it is computed."""
    score = step(_judge, board.measured, [_painted(board, strokes)])[0] if strokes else board.score
    width, height = board.sides
    area = covered_pixels(strokes, board.sides)
    return Drawing(
        score=score,
        picture=paint(board.picture, strokes, board.sides),
        area=area,
        patches=area / (width * height) * score.patch_map.size,
        threshold=board.measured.threshold,
    )


def find_smallest(detector: Detector, board: Board, stroke: Stroke) -> Sizes:
    """The smallest dot that is seen, in the place, colour and softness of a stroke.

    Args:
        detector: The model that the board was made with.
        board: The normal; nothing else is drawn on it.
        stroke: The dot lies in its middle.

    Raises:
        InctrlError: There is no threshold, or the normal lies above it as it is.
    """
    return compute_smallest(steps_of(detector), board, stroke)


def compute_smallest(step: Step, board: Board, stroke: Stroke) -> Sizes:
    """:func:`find_smallest`, wherever it is computed."""
    threshold = board.measured.threshold
    if threshold is None:
        raise InctrlError(NOTHING_TELLS)
    if board.score.fused > threshold:
        raise InctrlError(ABOVE_ALREADY)

    def score(diameters: Sequence[float]) -> list[float]:
        dots = (dataclasses.replace(stroke, points=(stroke.middle,), diameter=d) for d in diameters)
        images = [_painted(board, [dot]) for dot in dots]
        return [score.fused for score in step(_judge, board.measured, images)]

    return search_sizes(score, threshold, board.least)


def search_sizes(
    score: Callable[[Sequence[float]], Sequence[float]], threshold: float, least: float = THINNEST
) -> Sizes:
    """Looks for the smallest size above a threshold, in two rounds of ``ROUND`` sizes.

    The first goes over all sizes in equal ratios, the second between the smallest that is seen and
    the one before it: so the answer is right to a thirteenth, if larger marks score higher.

    Args:
        score: Gives the scores of marks of these diameters.
        threshold: The score above which a mark is seen.
        least: Diameter of the smallest mark.
    """
    coarse = np.geomspace(least, THICKEST, ROUND).clip(least, THICKEST).tolist()
    found = Sizes(tuple(coarse), tuple(score(coarse)), threshold)
    if found.smallest is None or found.smallest == coarse[0]:
        return found
    above = coarse.index(found.smallest)
    fine = np.geomspace(coarse[above - 1], coarse[above], ROUND + 2)[1:-1].tolist()
    tried = sorted(zip((*coarse, *fine), (*found.scores, *score(fine)), strict=True))
    return Sizes(*map(tuple, zip(*tried, strict=True)), threshold)


def _leave_out(detector: Detector, session: Session, normal: int) -> MeasuredBank:
    """The other normals, under the threshold that was chosen for all."""
    kept = session.bank.others(normal)
    if not kept:
        raise InctrlError(TOO_FEW)
    return measure_bank(detector, session.bank.subset(kept)).with_threshold(session.chosen)


def _judge(detector: Detector, measured: MeasuredBank, images: Sequence[SeenImage]) -> list[Score]:
    return detector.score(images, measured.bank)


def _painted(board: Board, strokes: Sequence[Stroke]) -> SeenImage:
    return dataclasses.replace(board.seen, crop=paint(board.seen.crop, strokes, board.sides))
