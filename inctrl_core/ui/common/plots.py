"""Plots as HTML: lines over a scale of scores, with the threshold and the normals' range behind.

Lines are SVG stretched to the place they have, dots and labels are laid over it by per cent, so
that neither text nor strokes change their size with the width. Pure functions; what goes in is
numbers and our own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...analysis.normal_range import NormalRange

Point = tuple[float, float]


@dataclass(frozen=True)
class Yardstick:
    """The measure of all scores in a plot.

    Attributes:
        band: Lowest and highest score of the normals; None where there is one.
        threshold: The score above which an image counts as anomalous; None where nothing tells.
    """

    band: tuple[float, float] | None
    threshold: float | None

    @classmethod
    def of(cls, ranges: NormalRange | None, threshold: float | None) -> Yardstick:
        """The measure that normals give; None as the range where there is one."""
        return cls(None if ranges is None else (ranges.lowest, ranges.highest), threshold)


@dataclass(frozen=True)
class Plot:
    """The parts of a plot besides its lines.

    Attributes:
        top: Score at the top; the bottom is 0.
        ticks: Place along the axis, in [0, 1], and label.
        yardstick: Drawn behind the lines.
        label: What the plot shows, for those who do not see it.
    """

    top: float
    ticks: tuple[tuple[float, str], ...]
    yardstick: Yardstick
    label: str


def line_through(points: Sequence[Point], top: float, name: str) -> str:
    """A line, by its CSS class.

    Args:
        points: Place along the axis, in [0, 1], and score.
        top: Score at the top of the plot.
        name: The class.
    """
    written = " ".join(f"{100 * x:.2f},{_height(y, top):.2f}" for x, y in points)
    return f'<polyline class="{name}" points="{written}" vector-effect="non-scaling-stroke"/>'


def dots_at(points: Sequence[tuple[float, float, str]], top: float, name: str) -> str:
    """Dots, by their CSS class; each has a title beside the values of :func:`line_through`."""
    return "".join(
        f'<i class="{name}" style="left:{100 * x:.2f}%;top:{_height(y, top):.2f}%" '
        f'title="{title}"></i>'
        for x, y, title in points
    )


def plot_frame(plot: Plot, lines: str, dots: str, size: str) -> str:
    """The plot itself.

    Args:
        plot: Its scale and labels.
        lines: Results of :func:`line_through`.
        dots: Results of :func:`dots_at`.
        size: CSS class of its size.
    """
    band, threshold = "", plot.yardstick.threshold
    if plot.yardstick.band is not None:
        low, high = (_height(value, plot.top) for value in plot.yardstick.band)
        band = (
            f'<b class="ic-plot-band" style="top:{high:.2f}%;height:{max(low - high, 0.8):.2f}%">'
            "</b>"
        )
    if threshold is not None:
        band += f'<b class="ic-plot-line" style="top:{_height(threshold, plot.top):.2f}%"></b>'
    ticks = "".join(
        f'<span class="ic-tick-x" style="left:{100 * x:.2f}%">{text}</span>'
        for x, text in plot.ticks
    )
    levels = "".join(
        f'<span class="ic-tick-y" style="top:{_height(value, plot.top):.2f}%">{value:.3g}</span>'
        for value in (0.0, plot.top / 2, plot.top)
    )
    return (
        f'<div class="ic-plot {size}" role="img" aria-label="{plot.label}">{band}'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{lines}</svg>'
        f"{dots}{ticks}{levels}</div>"
    )


def plot_key(*entries: tuple[str, str]) -> str:
    """A legend: marks, as markup, and their names."""
    spans = "".join(f"<span>{mark} {text}</span>" for mark, text in entries)
    return f'<p class="ic-key ic-plot-key">{spans}</p>'


def _height(value: float, top: float) -> float:
    return 100 * (1 - min(max(value / top, 0.0), 1.0))
