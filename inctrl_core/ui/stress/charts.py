"""Charts of the stress test as HTML: they follow the page's width and its light or dark colours.

Pure functions; what goes in is numbers and our own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ...analysis.stress import DropOne, SeverityCurve, ShotsPoint
from ..common.charts import axis_top
from ..common.plots import Plot, Yardstick, dots_at, line_through, plot_frame, plot_key
from .words import KINDS, UNSEEN


def curve_chart(curve: Sequence[ShotsPoint], yardstick: Yardstick) -> str:
    """Score by the number of normals: every draw a dot, their mean a line.

    The mean threshold of the draws' own normals is drawn dashed.

    Args:
        curve: The draws, K = 1 .. n.
        yardstick: Of all normals.
    """
    places = _spread(len(curve))
    means = [(x, fmean(point.fused)) for x, point in zip(places, curve, strict=True)]
    lines = [
        (x, fmean(point.thresholds))
        for x, point in zip(places, curve, strict=True)
        if point.shots > 1
    ]
    draws = [
        (x + aside, value, f"{point.shots} of {len(curve)} normals: {value:.3f}")
        for x, point in zip(places, curve, strict=True)
        for aside, value in zip(_fan(len(point.fused), len(curve)), point.fused, strict=True)
    ]
    spans = "; ".join(
        f"with {point.shots}, {min(point.fused):.3f} to {max(point.fused):.3f}" for point in curve
    )
    plot = Plot(
        top=axis_top(
            max([value for _, value, _ in draws] + [y for _, y in lines] + _measures(yardstick))
        ),
        ticks=tuple((x, str(point.shots)) for x, point in zip(places, curve, strict=True)),
        yardstick=yardstick,
        label=f"Score by the number of normals: {spans}.",
    )
    body = line_through(lines, plot.top, "ic-plot-dashed") + line_through(
        means, plot.top, "ic-plot-main"
    )
    dots = dots_at(draws, plot.top, "ic-plot-draw")
    key = plot_key(
        ('<i class="ic-plot-draw"></i>', "one draw of normals"),
        ('<b class="ic-swatch ic-swatch-main"></b>', "their mean"),
        ('<b class="ic-swatch ic-swatch-dashed"></b>', "threshold of as many normals, mean"),
        ('<b class="ic-swatch ic-swatch-band"></b>', f"normal range of all {len(curve)}"),
        ('<b class="ic-swatch ic-swatch-line"></b>', "their threshold"),
    )
    return f'{plot_frame(plot, body, dots, "ic-plot-large")}<p class="ic-axis">normals</p>{key}'


def severity_chart(
    curve: SeverityCurve,
    start: tuple[float, float | None],
    yardstick: Yardstick,
    top: float,
) -> str:
    """Score by the severity of one kind of change, of the query and of a normal.

    Args:
        curve: The scores.
        start: Score of the query as it is, and of the normal.
        yardstick: Of the normals.
        top: Top of the axis, which all kinds share.
    """
    words = KINDS[curve.name]
    places = _spread(len(curve.severities) + 1)
    written = ["as is", *(words.short.format(value) for value in curve.severities)]
    query = list(zip(places, (start[0], *curve.query), strict=True))
    titled = [(x, y, f"{label}: {y:.3f}") for (x, y), label in zip(query, written, strict=True)]
    body = ""
    if curve.normal is not None and start[1] is not None:
        normal = list(zip(places, (start[1], *curve.normal), strict=True))
        body = line_through(normal, top, "ic-plot-other")
    label = f"{words.title}: score " + ", ".join(title for _, _, title in titled)
    plot = Plot(top, tuple(zip(places, written, strict=True)), yardstick, f"{label}.")
    body += line_through(query, top, "ic-plot-main")
    return (
        f"{plot_frame(plot, body, dots_at(titled, top, 'ic-plot-dot'), 'ic-plot-small')}"
        f'<p class="ic-axis">{words.axis}</p>'
    )


def severity_key(normal: int | None) -> str:
    """The legend of all severity charts.

    Args:
        normal: Index of the normal that was changed likewise.
    """
    entries = [('<b class="ic-swatch ic-swatch-main"></b>', "this image")]
    if normal is not None:
        entries += [
            ('<b class="ic-swatch ic-swatch-other"></b>', f"normal {normal + 1}, changed likewise"),
            ('<b class="ic-swatch ic-swatch-band"></b>', "normal range"),
            ('<b class="ic-swatch ic-swatch-line"></b>', "threshold"),
        ]
    return plot_key(*entries)


def shared_top(
    curves: Sequence[SeverityCurve], start: tuple[float, float | None], yardstick: Yardstick
) -> float:
    """Top of the axis of all severity charts.

    Args:
        curves: All there are.
        start: Score of the query as it is, and of the normal.
        yardstick: Of the normals.
    """
    values = [value for value in start if value is not None] + _measures(yardstick)
    for curve in curves:
        values += [*curve.query, *(curve.normal or ())]
    return axis_top(max(values))


def drop_table(dropped: Sequence[DropOne], above: bool, thumbnails: Sequence[str]) -> str:
    """The score without each normal, from the largest rise to the largest fall.

    Args:
        dropped: One per normal.
        above: The verdict with all normals.
        thumbnails: Thumbnails of the normals, as data URIs.
    """
    widest = max([abs(drop.change) for drop in dropped] + [1e-9])
    rows = []
    for drop in sorted(dropped, key=lambda drop: -drop.change):
        width = 50 * abs(drop.change) / widest
        left = 50 if drop.change >= 0 else 50 - width
        fill = "ic-fill" if drop.change >= 0 else "ic-fill-quiet"
        rows.append(
            f'<tr><th scope="row"><img alt="" src="{thumbnails[drop.index]}">'
            f"<em>Normal {drop.index + 1}</em></th><td>{drop.fused:.3f}</td>"
            f'<td class="ic-change"><div><span>{_signed(drop.change)}</span><b class="ic-diverge">'
            f'<i class="{fill}" style="left:{left:.1f}%;width:{width:.1f}%"></i></b></div></td>'
            f"<td>{_or_dash(drop.threshold)}</td><td>{_verdict(drop, above)}</td></tr>"
        )
    return (
        '<div class="ic-ledger ic-drop"><table><thead><tr><th scope="col">Left out</th>'
        '<th scope="col">Score without it</th><th scope="col">Change</th>'
        '<th scope="col">Threshold without it</th><th scope="col">Verdict</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _verdict(drop: DropOne, above: bool) -> str:
    if drop.threshold is None:
        return "none"
    now = drop.fused > drop.threshold
    word = "alarm" if now else "no alarm"
    return word if now is above else f"<strong>turns: {word}</strong>"


def _signed(change: float) -> str:
    return "0.000" if abs(change) < UNSEEN else f"{change:+.3f}"


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _measures(yardstick: Yardstick) -> list[float]:
    return [value for value in (*(yardstick.band or ()), yardstick.threshold) if value is not None]


def _spread(count: int) -> list[float]:
    # Half a step of room at either end, so that no dot or label is cut.
    return [(index + 0.5) / count for index in range(count)]


def _fan(draws: int, steps: int) -> list[float]:
    # Side by side within two fifths of a step, so that equal scores do not hide each other.
    return [((i + 0.5) / draws - 0.5) * 0.4 / steps for i in range(draws)]
