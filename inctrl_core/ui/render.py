"""From a session and display options to pictures and markup; no model, no Gradio."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from ..config import HeadsConfig, ModelConfig
from ..diagnostics import ABOVE, BARELY_ABOVE, BELOW, INSIDE, PatchScale
from ..errors import InctrlError
from ..explanations import PatchMatch, patch_matches
from ..figures import COLOUR_MAPS, OverlayStyle, mark_patch, overlay
from ..heads import TrainingFreeFusion
from ..preprocessing import PROPORTIONS_APART, other_proportions
from .charts import colour_bar, ledger_table, range_strip, text_bars
from .markup import jpeg_uri, spoken, term
from .session import Picture, Session

MEAN = "All depths"
UNTRAINED = "A fixed formula joins the signals; nothing was learnt from examples of damage."
VERDICTS = {
    ABOVE: "Above every normal",
    BARELY_ABOVE: "Barely above the normals",
    INSIDE: "Looks like the normals",
    BELOW: "Looks like the normals",
}


@dataclass(frozen=True)
class Display:
    """What a visitor chose to see.

    Attributes:
        depth: ``MEAN`` or a name of :func:`depth_names`.
        colour_map: One of ``COLOUR_MAPS``.
        opacity: In [0, 1].
        smooth: Interpolate between patches.
        row: Of the examined patch, counted from 1.
        column: Likewise.
    """

    depth: str = MEAN
    colour_map: str = COLOUR_MAPS[0]
    opacity: float = 0.7
    smooth: bool = True
    row: int = 1
    column: int = 1


def depth_names(count: int) -> list[str]:
    """Plain names of the depths, shallow first."""
    if count == 3:
        return ["Shallow", "Middle", "Deep"]
    return [f"Depth {index + 1}" for index in range(count)]


def depths(session: Session) -> list[str]:
    """What the visitor may see of the session's map: the mean, then each depth."""
    return [MEAN, *depth_names(len(session.score.layer_maps))]


def offered_depth(session: Session, depth: str) -> str:
    """The depth that the visitor chose, or the mean where this model does not have it."""
    return depth if depth in depths(session) else MEAN


def strongest_patch(session: Session) -> tuple[int, int]:
    """(row, column) of the largest value of the mean map, counted from 1."""
    patch_map = session.score.patch_map
    row, column = divmod(int(patch_map.argmax()), patch_map.shape[1])
    return row + 1, column + 1


def patch_place(session: Session, number: float | None) -> int:
    """A row or a column of the grid, given from 1, counted from 0.

    Raises:
        InctrlError: It lies outside the grid.
    """
    grid = session.score.patch_map.shape[0]
    if number is None or not 1 <= number <= grid:
        raise InctrlError(f"Choose a row and a column between 1 and {grid}.")
    return int(number) - 1


def heatmap(session: Session, display: Display) -> tuple[Image.Image, str]:
    """The overlay, and its colour bar; a patch outside the grid is not framed.

    Raises:
        InctrlError: The depth or the colour map is none of those offered.
    """
    scale, patch_map = _map(session, display.depth)
    if display.colour_map not in COLOUR_MAPS:
        raise InctrlError(f"Choose a colour map among {', '.join(COLOUR_MAPS)}.")
    style = OverlayStyle(
        scale.low, scale.high, display.colour_map, float(display.opacity), bool(display.smooth)
    )
    query = session.query
    try:
        marked = patch_place(session, display.row), patch_place(session, display.column)
    except InctrlError:
        marked = None  # Said where the patch would be examined; the map is right all the same.
    image = overlay(query.image, patch_map, query.crop_box, style, marked)
    return image, colour_bar(scale, display.colour_map) + _unseen(query)


def _unseen(query: Picture) -> str:
    """How much of the image went in, where that is not all of it."""
    left, top, right, bottom = query.crop_box
    share = (right - left) * (bottom - top) / (query.image.width * query.image.height)
    if share > 0.995:
        return ""
    return (
        '<p class="ic-small">Darkened: never seen by the model. The framed square is '
        f"{100 * share:.0f}% of this image.</p>"
    )


def verdict_html(session: Session) -> str:
    """The score in large type, what it means, and the normals' own range."""
    score, ranges = session.score, session.ranges
    if ranges is None:
        words, tone = "One normal gives no range", "ic-unknown"
        text = (
            "Add a second normal to learn how far apart normal images lie; until then the score "
            "can only be compared with that of other images."
        )
        strip = ""
    else:
        words = VERDICTS[ranges.standing(score.fused)]
        tone = "ic-above" if score.fused > ranges.highest else "ic-inside"
        text = _compare(session) + _patches_above(session)
        strip = range_strip(score.fused, ranges)
    text += _proportions(session) + _mistake(session)
    return (
        f'<div class="ic-verdict {tone}"><div class="ic-headline">'
        f'<div><p class="ic-label">Anomaly score{_untrained(session.config.heads)}</p>'
        f'<p class="ic-score">{score.fused:.3f}</p></div>'
        f"<div><h2>{words}</h2><p>{text}</p></div></div>{_change(session)}{strip}"
        f"{_meaning(session)}</div>"
    )


def text_html(session: Session) -> str:
    """What the prompts say, for the object name that the visitor typed."""
    name = html.escape(session.bank.object_name)
    count = len(session.bank.text.prompts.normal), len(session.bank.text.prompts.anomaly)
    return (
        f'<p class="ic-lead">{count[0]} phrases for a sound <q>{name}</q> against {count[1]} '
        f"for a damaged one.{_words_count(session.config.heads)}</p>{text_bars(session.text)}"
        f"{_about_words(session.config)}"
    )


def ledger_html(session: Session) -> str:
    """The parts of the fusion."""
    return ledger_table(session.ledger)


def provenance_html(session: Session, display: Display) -> str:
    """One patch of the query, and its closest counterpart at each depth.

    Raises:
        InctrlError: The row or the column lies outside the grid.
    """
    row, column = patch_place(session, display.row), patch_place(session, display.column)
    matches = patch_matches(session.score, row, column)
    names = depth_names(len(matches))
    grid = session.score.patch_map.shape[0]
    tiles = "".join(
        _tile(session.normals[match.normal], match, name, grid)
        for match, name in zip(matches, names, strict=True)
    )
    mean = float(session.score.patch_map[row, column])
    return (
        f'<p class="ic-lead">Patch in row {row + 1}, column {column + 1}: difference '
        f"<strong>{mean:.3f}</strong> on average. Its most similar patch among the normals, at "
        f'each depth of the network:</p><div class="ic-tiles">{tiles}</div>'
    )


def _tile(normal: Picture, match: PatchMatch, name: str, grid: int) -> str:
    image = mark_patch(normal.image, normal.crop_box, grid, match.row, match.column)
    where = f"normal {match.normal + 1}, row {match.row + 1}, column {match.column + 1}"
    return (
        f'<figure><img src="{jpeg_uri(image)}" alt="{name}: closest patch in {where}">'
        f"<figcaption><strong>{name}: {match.distance:.3f}</strong><span>{where}</span>"
        "</figcaption></figure>"
    )


def _map(session: Session, depth: str) -> tuple[PatchScale, object]:
    names = depths(session)
    if depth not in names:
        raise InctrlError(f"Choose a depth among {', '.join(names)}.")
    index = names.index(depth)
    maps = session.score.layer_maps
    return session.scales[index], session.score.patch_map if index == 0 else maps[index - 1]


def _mistake(session: Session) -> str:
    """Says so where the truth is known and the verdict another."""
    if session.ranges is None or session.anomalous is None:
        return ""
    if session.query_file in session.normal_files:
        return ""  # Called normal by the visitor, it finds itself.
    if session.anomalous == (session.score.fused > session.ranges.highest):
        return ""
    if session.anomalous:
        return " <strong>In truth it is anomalous: here the model misses it.</strong>"
    return " <strong>In truth it is normal: here the model raises a false alarm.</strong>"


def _compare(session: Session) -> str:
    fused, ranges = session.score.fused, session.ranges
    span = (
        f"The {session.bank.shots} normals score {ranges.lowest:.3f} to {ranges.highest:.3f} when "
        "each is compared with the others"
    )
    if fused > ranges.highest:
        beyond = round(fused, 3) - round(ranges.highest, 3)  # Of the figures that are shown.
        excess = f"by {beyond:.3f}" if beyond else "by less than 0.001"
        return f"{span}; this image lies above them {excess}. "
    if fused < ranges.lowest:
        return f"{span}; this image scores lower still. "
    return f"{span}; this image lies among them. "


def _proportions(session: Session) -> str:
    boxes = session.bank.crop_boxes
    ratios = [(right - left) / (bottom - top) for left, top, right, bottom in boxes]
    apart = other_proportions(session.score.crop_box, boxes)
    if apart is not None:
        own, closest = apart
        told = "Its proportions are not those of the normals"
        figures = f"{own:.3g}, closest normal {closest:.3g}"
    elif max(ratios) / min(ratios) > PROPORTIONS_APART:
        told = "The normals differ in their proportions"
        figures = f"{min(ratios):.3g} to {max(ratios):.3g}"
    else:
        return ""
    return (
        f" <strong>{told}</strong> (width ÷ height {figures}): every image is made square, so the "
        "same thing has another shape there. Crop all images to the same proportions."
    )


def _patches_above(session: Session) -> str:
    high = session.scales[0].normal_high
    count = int((session.score.patch_map > high).sum())
    if count == 0:
        return "No patch differs more than the normals do among themselves."
    total = session.score.patch_map.size
    differ = f"1 of {total} patches differs" if count == 1 else f"{count} of {total} patches differ"
    return f"{differ} more than the normals do among themselves."


def _meaning(session: Session) -> str:
    return (
        '<details class="ic-small"><summary>0 is as normal as can be, 1 as anomalous; it is not a '
        f"probability</summary>{_how(session.config.heads)} What counts is how it compares with "
        f"the normals. Model: {html.escape(session.config.title)}.</details>"
    )


def _weights(heads: HeadsConfig) -> Mapping[str, float]:
    return heads.training_free or TrainingFreeFusion.DEFAULT_WEIGHTS


def _untrained(heads: HeadsConfig) -> str:
    return "" if heads.trained else f", {term('training-free', UNTRAINED)}"


def _words_count(heads: HeadsConfig) -> str:
    if heads.form == "training-free" and not _weights(heads).get("text", 0) > 0:
        return " With this model they do not count in the score."
    return ""


def _how(heads: HeadsConfig) -> str:
    if heads.form != "training-free":
        return "The score is joined from the signals below by heads trained on other objects."
    weights = _weights(heads)
    parts = ["the largest patch difference"]
    names = {"patch_mean": "the mean patch difference", "image": "the image", "text": "the text"}
    parts += [name for key, name in names.items() if weights.get(key, 0) > 0]
    learnt = (
        "a fixed formula; what counts as a difference was learnt on other objects"
        if heads.patch_adapter
        else "training-free fusion: a fixed formula, nothing learnt"
    )
    if len(parts) == 1:
        return (
            f"The score is the largest patch difference ({learnt}); image and text are shown "
            "below and do not count."
        )
    return f"The score is an average of {spoken(parts)} ({learnt})."


def _change(session: Session) -> str:
    if session.before is None:
        return ""
    before, after = session.before, session.score
    words = ""
    if before.text_anomaly != after.text_anomaly:
        words = (
            f"damage wording {100 * before.text_anomaly:.0f}% → "
            f"<strong>{100 * after.text_anomaly:.0f}%</strong>, "
        )
    return (
        f'<p class="ic-changed" role="status">{html.escape(session.change)}: {words}score '
        f"{before.fused:.3f} → <strong>{after.fused:.3f}</strong> "
        f"({after.fused - before.fused:+.3f}).</p>"
    )


def _about_words(config: ModelConfig) -> str:
    tower = config.provenance.get("text_tower")
    if not isinstance(tower, Mapping) or not {"nouns", "damage"} <= set(tower):
        return ""
    return (
        '<p class="ic-small">What this model knows of words: nouns from '
        f"{html.escape(str(tower['nouns']))}; damage from {html.escape(str(tower['damage']))}. "
        "Other words say little to it.</p>"
    )
