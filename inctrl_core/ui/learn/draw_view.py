"""The words and pictures of a drawn defect: the pad, its map beside the threshold, the sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...analysis.drawn import Board, Drawing, Sizes, ordinary_normal
from ...analysis.session import Session
from ...images.overlay import overlay
from ...images.strokes import MOST_POINTS, THICKEST, THINNEST, Stroke, covered_pixels
from ..common.charts import axis_top, range_strip
from ..common.markup import jpeg_uri
from ..common.plots import Plot, Yardstick, dots_at, line_through, plot_frame, plot_key
from .parts import number

FIND = "Find the smallest that is seen"
COLOURS = (
    ("Dark", "#141414"),
    ("Light", "#ebebeb"),
    ("Under the brush", "under"),
    ("This one:", "own"),
)
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True)
class Seen:
    """A mark that was seen.

    Attributes:
        area: In pixels of the image.
        patches: The same in patches.
        fused: Its score.
    """

    area: float
    patches: float
    fused: float


def seen_drawing(board: Board, drawing: Drawing) -> Seen | None:
    """A drawing that is seen; None where it is not, or where the image is without it."""
    if not drawing.above or not drawing.area or board.score.fused > drawing.threshold:
        return None
    return Seen(drawing.area, drawing.patches, drawing.score.fused)


def seen_dot(board: Board, stroke: Stroke, sizes: Sizes) -> Seen | None:
    """The smallest dot that is seen; None where none is."""
    if sizes.smallest is None:
        return None
    dot = Stroke((stroke.middle,), sizes.smallest, stroke.colour, stroke.softness)
    area = covered_pixels([dot], board.sides)
    patches = area / math.prod(board.sides) * board.score.patch_map.size
    return Seen(area, patches, sizes.scores[sizes.diameters.index(sizes.smallest)])


def pad_html(session: Session) -> str:
    """A normal to draw on, with the brush.

    Raises:
        InctrlError: Fewer than two normals are distinct.
    """
    index = ordinary_normal(session)
    normal, original = session.normals[index], session.bank.crop_boxes[index]
    picture = normal.image.crop(tuple(map(round, normal.crop_box)))
    side = min(original[2] - original[0], original[3] - original[1])
    least = max(THINNEST, 1 / side)
    width, height = picture.size
    *given, own = (
        f'<label><input type="radio" name="ic-draw-colour" value="{value}"'
        f"{' checked' if value == COLOURS[0][1] else ''}> {name}</label>"
        for name, value in COLOURS
    )
    own += '<input type="color" value="#b02020" aria-label="Colour of your own">'
    return (
        f'<div class="ic-pad ic-draw-pad" data-side="{side:.2f}" data-least="{least:.5f}" '
        f'data-most="{THICKEST}" data-points="{MOST_POINTS}">'
        '<div class="ic-brush"><div class="ic-tools" role="radiogroup" aria-label="Colour of the '
        f'brush">{"".join(given)}<span>{own}</span></div>'
        '<p class="ic-tools"><label>Size <input type="range" name="size" min="0" max="100" '
        'value="50"></label><output></output></p>'
        '<p class="ic-tools"><label>Softness <input type="range" name="softness" min="0" max="100" '
        'value="20"></label></p>'
        f'<p class="ic-small">{_judges_told(session, index)}</p></div>'
        f'<div class="ic-canvas"><img src="{jpeg_uri(picture)}" alt="Normal {index + 1}, as it is '
        f'seen"><canvas width="{2 * width}" height="{2 * height}" tabindex="0" role="img" '
        'aria-label="Picture to draw on: arrow keys move the brush, the space bar puts a dot">'
        "</canvas></div>"
        '<p class="ic-tools"><button type="button" data-do="undo">Undo</button>'
        '<button type="button" data-do="clear">Clear</button>'
        f'<button type="button" data-do="find">{FIND}</button></p></div>'
    )


def _judges_told(session: Session, normal: int) -> str:
    """Which normal is drawn on, which others judge it, and by which threshold."""
    others = len(session.bank.others(normal))
    judge = "the other normal judges" if others == 1 else f"the other {others} normals judge"
    by = "their own threshold" if session.chosen is None else "the threshold that you chose"
    return (
        f"This is normal {normal + 1}, the one most like the others. It is left out: {judge} it, "
        f"by {by}."
    )


def drawing_html(board: Board, drawing: Drawing) -> str:
    """The verdict, the map over what was drawn, and its size."""
    box = (0.0, 0.0, *map(float, drawing.picture.size))
    style = board.measured.scale.style()
    mapped = overlay(drawing.picture, drawing.score.patch_map, box, style)
    score, ranges = drawing.score.fused, board.measured.ranges
    strip = "" if ranges is None else range_strip(score, ranges, drawing.threshold)
    if drawing.area:
        size = size_told(Seen(drawing.area, drawing.patches, score))
        told = f"Drawn: {size}. The score was {number(board.score.fused)} before."
    else:
        told = "Nothing is drawn."
    return (
        f'<div class="ic-drawn"><p class="ic-verdict-line" role="status">{verdict_told(drawing)}'
        f'</p><img src="{jpeg_uri(mapped)}" alt="Map over the drawing">'
        f"{strip}<p>{told}</p></div>"
    )


def smallest_html(mark: Seen | None) -> str:
    """The smallest mark that was seen so far; nothing where there is none."""
    if mark is None:
        return ""
    return (
        f'<p class="ic-drawn">Smallest seen so far on this image: <strong>{size_told(mark)}'
        f"</strong>, with a score of {number(mark.fused)}.</p>"
    )


def verdict_told(drawing: Drawing) -> str:
    """Whether a drawing is seen, and the score beside the threshold."""
    score = f"the score is {number(drawing.score.fused)}"
    if drawing.threshold is None:
        return f"<strong>No verdict</strong>: {score}, and a single normal gives no threshold."
    threshold = f"the threshold {number(drawing.threshold)}"
    if not drawing.area:
        return f"<strong>Nothing drawn</strong>: {score}, {threshold}."
    return f"<strong>{'Seen' if drawing.above else 'Not seen'}</strong>: {score}, {threshold}."


def size_told(mark: Seen) -> str:
    """An area in pixels of the image and in patches.

    >>> size_told(Seen(1234.4, 0.56, 0.5))
    '1,234 pixels of the image, as much as 0.56 patches'
    """
    digits = 1 if mark.patches >= 1 else 2
    return f"{pixels_told(mark.area)} of the image, as much as {mark.patches:.{digits}f} patches"


def pixels_told(count: float) -> str:
    """A number of pixels, with a decimal where it is a small one."""
    return f"{count:.1f} pixels" if count < 10 else f"{count:,.0f} pixels"


def sizes_html(board: Board, stroke: Stroke, sizes: Sizes) -> str:
    """The smallest dot that is seen, and the scores of all sizes that were tried."""
    return (
        f'<div class="ic-drawn"><p role="status">{_found_told(board, stroke, sizes)}</p>'
        f"{_sizes_plot(board, sizes)}</div>"
    )


def _found_told(board: Board, stroke: Stroke, sizes: Sizes) -> str:
    most = pixels_told(board.pixels(sizes.diameters[-1]))
    alike = "in the middle of your last stroke, in its colour and softness"
    found = seen_dot(board, stroke, sizes)
    if found is None:
        return f"<strong>No dot up to {most} across is seen</strong> {alike}."
    across = pixels_told(board.pixels(sizes.smallest))
    if sizes.smallest == sizes.diameters[0]:
        return f"<strong>Even the smallest dot that was tried is seen, {across} across</strong>."
    told = (
        f"<strong>The smallest dot that is seen is {across} across</strong> {alike}: "
        f"{size_told(found)}."
    )
    larger = zip(sizes.diameters, sizes.scores, strict=True)
    if any(d > sizes.smallest and score <= sizes.threshold for d, score in larger):
        told += " Some larger ones are not seen: a larger dot may be more like the thing."
    return told


def _sizes_plot(board: Board, sizes: Sizes) -> str:
    """Score by diameter, which is drawn in equal ratios."""
    low, high = (math.log(sizes.diameters[i]) for i in (0, -1))

    def place(share: float) -> float:
        return 0.04 + 0.92 * (math.log(share) - low) / (high - low)

    tried = [(board.pixels(d), d, s) for d, s in zip(sizes.diameters, sizes.scores, strict=True)]
    points = [(place(d), score) for _, d, score in tried]
    dots = [(place(d), score, f"{pixels_told(px)}: {score:.3f}") for px, d, score in tried]
    yardstick = Yardstick.of(board.measured.ranges, sizes.threshold)
    one = board.pixels(1.0)
    ticks = (t for t in _TICKS if sizes.diameters[0] <= t / one <= sizes.diameters[-1])
    plot = Plot(
        top=axis_top(max(*sizes.scores, sizes.threshold)),
        ticks=tuple((place(tick / one), str(tick)) for tick in ticks),
        yardstick=yardstick,
        label="Score by the diameter of a dot, in pixels: "
        + ", ".join(f"{px:.1f} {score:.3f}" for px, _, score in tried)
        + f". The threshold is {sizes.threshold:.3f}.",
    )
    key = plot_key(
        ('<b class="ic-swatch ic-swatch-main"></b>', "score"),
        ('<b class="ic-swatch ic-swatch-line"></b>', "threshold"),
        *([('<b class="ic-swatch ic-swatch-band"></b>', "normal range")] if yardstick.band else []),
    )
    line = line_through(points, plot.top, "ic-plot-main")
    marks = dots_at(dots, plot.top, "ic-plot-dot")
    frame = plot_frame(plot, line, marks, "ic-plot-large")
    return f'{frame}<p class="ic-axis">diameter in pixels of the image</p>{key}'
