"""From a session and display options to pictures and markup; no model, no Gradio."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from ..config import HeadsConfig, ModelConfig
from ..diagnostics import PatchScale
from ..errors import InctrlError
from ..explanations import PatchMatch, patch_matches
from ..figures import COLOUR_MAPS, OverlayStyle, mark_patch, overlay
from ..heads import training_free_weights
from .charts import colour_bar, ledger_table, text_bars
from .markup import jpeg_uri
from .session import Picture, Session

MEAN = "All depths"


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


def _words_count(heads: HeadsConfig) -> str:
    if heads.form == "training-free" and not training_free_weights(heads).get("text", 0) > 0:
        return " With this model they do not count in the score."
    return ""


def _about_words(config: ModelConfig) -> str:
    tower = config.provenance.get("text_tower")
    if not isinstance(tower, Mapping) or not {"nouns", "damage"} <= set(tower):
        return ""
    return (
        '<p class="ic-small">What this model knows of words: nouns from '
        f"{html.escape(str(tower['nouns']))}; damage from {html.escape(str(tower['damage']))}. "
        "Other words say little to it.</p>"
    )
