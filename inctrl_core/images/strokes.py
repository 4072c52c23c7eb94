"""Strokes of a brush: read from a short text, painted on a picture, measured.

Places are shares of the picture, sizes shares of its shorter side, so that the same strokes can be
painted at any size: on what the model sees, and on what a screen shows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..errors import InctrlError

MOST_STROKES = 24
MOST_POINTS = 64  # Of one stroke.
THINNEST, THICKEST = 0.005, 0.5  # Diameter of the brush.
UNREADABLE = "The drawing cannot be read; clear it and draw again."

_SHARE = r"(?:0(?:\.\d{1,4})?|1(?:\.0{1,4})?)"
_STROKE = re.compile(
    rf"([0-9a-f]{{6}}) ({_SHARE}) ({_SHARE})((?: {_SHARE},{_SHARE}){{1,{MOST_POINTS}}})", re.ASCII
)
_LONGEST = MOST_STROKES * (21 + 14 * MOST_POINTS)  # Letters of the longest text that can be read.
_FINER = 4  # Strokes are drawn so many times as large, for smooth edges,
_FINEST = 4096  # but on no larger picture.
_AREA_SIDE = 320  # Longer side of the picture that an area is measured on.
_SOFTEST = 0.25  # Standard deviation of the softest edge, in diameters.
_FADED = 4.0  # Standard deviations from an edge, beyond which nothing of it is left.


@dataclass(frozen=True)
class Stroke:
    """One stroke of a round brush.

    Attributes:
        points: Places that it leads through, across and down, shares of the picture in [0, 1]; one
            makes a dot.
        diameter: Of the brush, as a share of the picture's shorter side.
        colour: Red, green and blue, 0 to 255.
        softness: Of its edge, in [0, 1]; 0 is sharp.

    Raises:
        InctrlError: A value lies outside, or there is no point or too many.
    """

    points: tuple[tuple[float, float], ...]
    diameter: float
    colour: tuple[int, int, int]
    softness: float = 0.0

    def __post_init__(self) -> None:
        """Checks the values."""
        shares = [self.softness, *(side for point in self.points for side in point)]
        if not 1 <= len(self.points) <= MOST_POINTS:
            raise InctrlError(f"Draw each stroke through 1 to {MOST_POINTS} points.")
        if not THINNEST <= self.diameter <= THICKEST:
            raise InctrlError(
                f"Choose a brush between {THINNEST:g} and {THICKEST:g} of the picture's side."
            )
        if not all(0 <= share <= 1 for share in shares):
            raise InctrlError("Give the places and the softness of a stroke as shares from 0 to 1.")
        if len(self.colour) != 3 or not all(0 <= value <= 255 for value in self.colour):
            raise InctrlError("Give a colour as red, green and blue from 0 to 255.")

    @property
    def middle(self) -> tuple[float, float]:
        """The point in the middle of its list."""
        return self.points[len(self.points) // 2]


def read_strokes(text: str | None) -> tuple[Stroke, ...]:
    """Strokes from their text: colour, diameter, softness and points of each.

    >>> read_strokes("14ff00 0.05 0.3 0.5,0.25 0.6,0.25;ffffff 0.1 0 0,1")[1]
    Stroke(points=((0.0, 1.0),), diameter=0.1, colour=(255, 255, 255), softness=0.0)

    Args:
        text: Strokes with ";" between them; empty where there is none.

    Raises:
        InctrlError: It is anything else, or there are too many strokes.
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise InctrlError(UNREADABLE)
    written = text.split(";") if text else []
    if len(written) > MOST_STROKES:
        raise InctrlError(f"Draw at most {MOST_STROKES} strokes; undo one, or clear the drawing.")
    return tuple(map(_read, written))


def _read(text: str) -> Stroke:
    found = _STROKE.fullmatch(text)
    if found is None:
        raise InctrlError(UNREADABLE)
    colour, diameter, softness, points = found.groups()
    places = (tuple(map(float, point.split(","))) for point in points.split())
    return Stroke(
        tuple(places), float(diameter), tuple(bytes.fromhex(colour)), softness=float(softness)
    )


def paint(
    picture: Image.Image, strokes: Sequence[Stroke], sides: tuple[float, float]
) -> Image.Image:
    """A copy of a picture with strokes on it; what they do not cover stays to the bit.

    Args:
        picture: RGB, at any size and of any proportions.
        strokes: In the order in which they were drawn.
        sides: Width and height of the image that it is a picture of: a brush is round in that one,
            and an ellipse where the picture is squeezed.
    """
    painted = picture.copy()
    for stroke in strokes:
        cover, place = _cover(stroke, picture.size, sides)
        painted.paste(stroke.colour, place, cover)
    return painted


def covered_pixels(strokes: Sequence[Stroke], sides: tuple[float, float]) -> float:
    """The area under strokes, in pixels of an image; what is half covered counts half.

    Args:
        strokes: The strokes.
        sides: Width and height of the image.
    """
    scale = _AREA_SIDE / max(sides)
    size = tuple(max(1, round(scale * side)) for side in sides)
    covered = Image.new("L", size)
    for stroke in strokes:
        cover, place = _cover(stroke, size, sides)
        covered.paste(255, place, cover)
    return float(np.asarray(covered).mean()) / 255 * sides[0] * sides[1]


def _cover(
    stroke: Stroke, size: tuple[int, int], sides: tuple[float, float]
) -> tuple[Image.Image, tuple[int, int]]:
    """How much of each pixel a stroke covers.

    Args:
        stroke: The stroke.
        size: The picture's.
        sides: The image's.

    Returns:
        Grey, of the part of the picture around the stroke; and where that begins, left and top.
    """
    scale = min(_FINER * max(np.divide(size, sides)), _FINEST / max(sides))
    fine = np.array([max(1, round(scale * side)) for side in sides])  # In the image's proportions.
    finer = fine / size
    across = max(2.0, stroke.diameter * fine.min())  # Pillow draws no smaller ellipse.
    blur = _SOFTEST * stroke.softness * across
    reach = across / 2 + _FADED * blur + 1
    places = np.array(stroke.points) * fine
    start = np.floor((places.min(axis=0) - reach) / finer).clip(0, size).astype(int)
    end = np.ceil((places.max(axis=0) + reach) / finer).clip(0, size).astype(int)
    origin = np.floor(start * finer)
    drawn = Image.new("L", tuple(np.ceil(end * finer - origin).astype(int).tolist()))
    _draw(drawn, (places - origin).tolist(), across)
    box = (*(start * finer - origin), *(end * finer - origin))
    cover = drawn.resize(tuple((end - start).tolist()), Image.Resampling.BOX, box)
    if blur > 0:
        cover = cover.filter(ImageFilter.GaussianBlur(tuple(blur / finer)))
    return cover, tuple(start.tolist())


def _draw(cover: Image.Image, places: Sequence[Sequence[float]], across: float) -> None:
    """Draws a round brush along places in pixels, in white."""
    pen = ImageDraw.Draw(cover)
    if len(places) > 1:
        pen.line([tuple(place) for place in places], fill=255, width=max(1, round(across)))
    for x, y in places:
        pen.ellipse((x - across / 2, y - across / 2, x + across / 2 - 1, y + across / 2 - 1), 255)
