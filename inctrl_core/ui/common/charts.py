"""Charts as HTML: they follow the page's width and its light or dark colours.

Pure functions that return markup. Every text that a visitor may have typed goes through
:func:`html.escape` here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from ...analysis.explanations import Breakdown, Ledger, PhraseMatch, Share, TextEvidence
from ...analysis.normal_range import NormalRange
from ...analysis.patch_scale import PatchScale
from ...images.overlay import colour_table

_STOPS = 16


def range_strip(fused: float, ranges: NormalRange, threshold: float | None = None) -> str:
    """The normals' own scores as dots on a band, the query's as a marker, the threshold as a line.

    Args:
        fused: Score of the query.
        ranges: The normals.
        threshold: None: no line is drawn.
    """
    top = axis_top(max(fused, ranges.highest, threshold or 0.0))
    low, high = _percent(ranges.lowest, top), _percent(ranges.highest, top)
    dots = "".join(
        f'<i class="ic-dot" style="left:{_percent(value, top):.2f}%"></i>' for value in ranges.fused
    )
    label = (
        f"Normals from {ranges.lowest:.3f} to {ranges.highest:.3f}, this image {fused:.3f}, "
        f"on a scale from 0 to {top:g}."
    )
    line = key = ""
    if threshold is not None:
        label += f" The threshold is {threshold:.3f}."
        line = f'<b class="ic-threshold" style="left:{_percent(threshold, top):.2f}%"></b>'
        key = '<span><b class="ic-threshold"></b> threshold</span>'
    return (
        f'<div class="ic-strip" role="img" aria-label="{label}">'
        f'<div class="ic-track"><b class="ic-band" style="left:{low:.2f}%;'
        f'width:{max(high - low, 0.5):.2f}%"></b>{dots}'
        f'{line}<b class="ic-marker" style="left:{_percent(fused, top):.2f}%"></b></div>'
        '<div class="ic-ends"><span>0</span>'
        '<p class="ic-key"><span><i class="ic-dot"></i> each normal, against the others</span>'
        f'<span><b class="ic-marker"></b> this image</span>{key}</p>'
        f"<span>{top:g}</span></div></div>"
    )


def gradient(colour_map: str) -> str:
    """A colour map as a background in CSS, from left to right."""
    table = colour_table(colour_map)
    picked = table[[round(i * (len(table) - 1) / (_STOPS - 1)) for i in range(_STOPS)]]
    stops = ", ".join(f"rgb({r}, {g}, {b})" for r, g, b in picked.tolist())
    return f"linear-gradient(90deg, {stops})"


def colour_bar(scale: PatchScale, colour_map: str, whole: bool = False) -> str:
    """The heatmap's colour scale with its numbers.

    Args:
        scale: The scale.
        colour_map: One of ``COLOUR_MAPS``.
        whole: Whether the map is drawn below the normals' own differences too.
    """
    clear = ""
    ticks = [(scale.low, f"{scale.low:g}"), (scale.high, f"{scale.high:.3f} or more")]
    if scale.line is None:
        note = (
            "A fixed scale: a single normal cannot show how much normal images differ, "
            "so the colours say less."
        )
    else:
        line = min(scale.line, scale.high)
        ticks.insert(1, (line, f"{scale.line:.3f}"))
        note = (
            f"The scale comes from your normals, never from this image: {scale.normal_high:.3f} is "
            "the largest difference they show among themselves."
        )
        if not whole:
            note += f" Up to {_there(scale)} the image stays clear; a white line encloses what "
            note += "differs more."
            width = 100 * (line - scale.low) / (scale.high - scale.low)
            clear = f'<i class="ic-clear" style="width:{width:.1f}%"></i>'
    span = scale.high - scale.low
    labels = "".join(
        f'<span style="left:{100 * (value - scale.low) / span:.1f}%">{text}</span>'
        for value, text in ticks
    )
    return (
        f'<div class="ic-bar"><p class="ic-label">Difference from the most similar patch of any '
        f'normal</p><div class="ic-ramp" style="background:{gradient(colour_map)}">{clear}</div>'
        f'<div class="ic-ticks">{labels}</div><p class="ic-small">{note}</p></div>'
    )


def _there(scale: PatchScale) -> str:
    if scale.moved == 1.0:
        return "there"
    return f"{scale.line:.3f}, which moves with your threshold,"


def text_bars(text: TextEvidence) -> str:
    """The share of the damage wording, with the normals' own; then the closest single prompts."""
    low, high = min(text.normal_shares), max(text.normal_shares)
    span = f"{100 * low:.0f}%" if low == high else f"{100 * low:.0f}% to {100 * high:.0f}%"
    one = len(text.normal_shares) == 1
    give = "Your normal gives" if one else "Your normals give"
    if one:
        says = "but one normal does not tell how much the words vary"
    elif text.share > high + CLEAR_SHARE:
        says = "more than any normal: the words speak against this image"
    elif text.share < low - CLEAR_SHARE:
        says = "less than any normal: the words speak for this image"
    else:
        says = "about like the normals: the words do not tell it from them"
    columns = "".join(
        f'<div><p class="ic-label">{heading}</p>{_phrases(matches, fill)}</div>'
        for heading, matches, fill in (
            ("Closest normal phrases", text.normal, "ic-fill-quiet"),
            ("Closest damage phrases", text.anomaly, "ic-fill"),
        )
    )
    return (
        f'<div class="ic-text">{_bar("Normal wording", 1 - text.share, "ic-fill-quiet")}'
        f"{_bar('Damage wording', text.share, 'ic-fill', (low, high))}"
        f'<p class="ic-small">{give} the damage wording {span} (the bracket under its '
        f"bar); this image {100 * text.share:.0f}%, {says}.</p>"
        f'<div class="ic-columns">{columns}</div>'
        '<p class="ic-small">Numbers are similarities of image and phrase; a bar\'s length is '
        "relative to the best match.</p></div>"
    )


CLEAR_SHARE = 0.02  # Beyond the normals' own; less is no more than they vary.
LEDGER_ROWS = {
    "patches": ("Patches", "largest difference of any patch"),
    "image": ("Whole image", "difference of the image as a whole"),
    "text": ("Text", "share of the damage phrases"),
}


def ledger_table(ledger: Ledger) -> str:
    """Each signal of the fusion: its share, or the score had that signal been unremarkable."""
    if ledger.breakdown is not None:
        return breakdown_table(ledger.breakdown, ledger.fused)
    widest = max([abs(entry.change) for entry in ledger.entries] + [1e-9])
    rows = []
    for entry in ledger.entries:
        name, what = LEDGER_ROWS[entry.signal]
        # Of the figures that are shown, so that they can be checked.
        change = round(ledger.fused, 3) - round(entry.fused_without, 3)
        # A signal that differs and changes nothing has no part in this model's score.
        counts = entry.change != 0 or entry.value == entry.neutral
        told = f"{change + 0.0:+.3f}" if counts else "nothing"
        rows.append(
            f'<tr><th scope="row">{name}<span>{what}</span></th>'
            f"<td>{entry.value:.3f}</td><td>{entry.neutral:.3f}</td>"
            f"<td>{entry.fused_without:.3f}</td>"
            f'<td class="ic-change"><div><span>{told}</span>'
            f"{_diverging(entry.change / widest)}</div></td></tr>"
        )
    return (
        '<div class="ic-ledger"><table><thead><tr><th scope="col">Signal</th>'
        '<th scope="col">This image</th><th scope="col">Closest normal</th>'
        '<th scope="col">Score without it</th><th scope="col">What it changes</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
        '<p class="ic-small">"Without it" puts your closest normal (number '
        f"{ledger.closest + 1}) in this image's place for that one signal and works the score "
        f"({ledger.fused:.3f}) out again. The parts need not add up.</p></div>"
    )


LOOKS_FOR_WORDS = {
    "decide": "whatever your normals suggest",
    "flaw": "a flaw in the thing",
    "kind": "another kind of thing",
}
_LAYERS = ("shallow layer", "middle layer", "deep layer")


def signal_words(share: Share) -> str:
    """A signal of a gated fusion in plain words."""
    if share.group != "patches":
        words = {"closest": "distance to the closest normal", "text": "share of the damage phrases"}
        return words.get(share.signal, "mean distance to the normals")
    layer, _, count = share.signal.rpartition("top ")
    where = ""
    if layer:
        number = int(layer.split()[1])
        where = f", {_LAYERS[number - 1] if number <= 3 else f'layer {number}'}"
    names = {"1": "largest difference of any patch", "225": "mean difference of all patches"}
    return names.get(count, f"mean of the {count} largest differences") + where


def breakdown_table(parts: Breakdown, fused: float) -> str:
    """The shares of a gated score, group by group, and the sum that they make."""
    known = parts.defects
    widest = max([abs(share.share) for share in parts.shares] + [abs(known or 0.0), 1e-9])
    rows = []
    for group, (name, _) in LEDGER_ROWS.items():
        for share in (share for share in parts.shares if share.group == group):
            rows.append(
                f'<tr><th scope="row">{name}<span>{signal_words(share)}</span></th>'
                f"<td>{share.value:.3f}</td><td>{share.deviation:+.2f}</td>"
                f"<td>{share.weight:.2f}</td>{_share_cell(share.share, widest)}</tr>"
            )
    together = " ".join(
        f"{name} {parts.of(group) + 0.0:+.2f}," for group, (name, _) in LEDGER_ROWS.items()
    )
    if known is not None:
        rows.append(
            '<tr><th scope="row">Your defects<span>more like them than the normals are'
            f"</span></th><td></td><td></td><td></td>{_share_cell(known, widest)}</tr>"
        )
        together += f" your defects {known + 0.0:+.2f},"
    return (
        '<div class="ic-ledger"><table><thead><tr><th scope="col">Signal</th>'
        '<th scope="col">This image</th><th scope="col">Deviation</th>'
        '<th scope="col">Weight</th><th scope="col">Share</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
        f'<p class="ic-small"><strong>Together: {together} less {parts.offset:.2f} for what good '
        f"images reach, is {parts.log_odds:+.2f}; squeezed between 0 and 1 that is the score, "
        f"{fused:.3f}.</strong> Deviation: how many spreads of good images this image lies above "
        "what your normals lead to expect. The weights follow from your normals alone; what is "
        f"looked for: {LOOKS_FOR_WORDS[parts.looks_for]}.</p></div>"
    )


def _share_cell(share: float, widest: float) -> str:
    return (
        f'<td class="ic-change"><div><span>{share + 0.0:+.2f}</span>'
        f"{_diverging(share / widest)}</div></td>"
    )


def _diverging(part: float) -> str:
    """A bar from the middle, to the right where ``part`` (-1 to 1) is positive."""
    width = 50 * abs(part)
    left = 50.0 if part >= 0 else 50 - width
    fill = "ic-fill" if part >= 0 else "ic-fill-quiet"
    style = f"left:{left:.1f}%;width:{width:.1f}%"
    return f'<b class="ic-diverge"><i class="{fill}" style="{style}"></i></b>'


def axis_top(value: float) -> float:
    """The smallest of 0.05, 0.1, 0.15, ... up to 1 that leaves a little room above ``value``.

    >>> axis_top(0.764)
    0.85
    """
    return min(1.0, math.ceil(round(value * 1.08 / 0.05, 6)) / 20) if value > 0 else 0.05


def _phrases(matches: Sequence[PhraseMatch], fill: str) -> str:
    return "".join(
        _bar(match.phrase, match.weight, fill, value=f"{match.cosine:.3f}") for match in matches
    )


def _bar(
    label: str,
    share: float,
    fill: str,
    bracket: tuple[float, float] | None = None,
    value: str | None = None,
) -> str:
    width = 100 * min(max(share, 0.0), 1.0)
    mark = ""
    if bracket is not None:
        left, right = (100 * edge for edge in bracket)
        # Never so narrow that it could not be seen, and never beyond the bar's end.
        mark = (
            f'<u class="ic-bracket" style="margin-left:min({left:.1f}%, 100% - 6px);'
            f'width:max({right - left:.1f}%, 6px)"></u>'
        )
    return (
        f'<div class="ic-row"><span>{html.escape(label)}</span>'
        f"<em>{f'{width:.0f}%' if value is None else value}</em>"
        f'<div class="ic-line"><i class="{fill}" style="width:{width:.1f}%"></i></div>{mark}</div>'
    )


def _percent(value: float, top: float) -> float:
    return 100 * min(max(value / top, 0.0), 1.0)
