"""From a session and display options to pictures and markup; no model, no Gradio."""

from __future__ import annotations

import html
from collections.abc import Mapping

from ...analysis.explanations import PatchMatch, patch_matches
from ...analysis.missing import find_missing, missing_told
from ...analysis.session import Picture, Session
from ...config import HeadsConfig, ModelConfig
from ...images.overlay import mark_patch, overlay
from ...model.heads import training_free_weights
from ..common.charts import ledger_table, text_bars
from ..common.heatmap import (
    Display,
    layer_names,
    patch_place,
)
from ..common.markup import jpeg_uri


def text_html(session: Session) -> str:
    """The evidence of the prompts, for the object name that the visitor typed."""
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
    """One patch of the query, and its closest counterpart at each layer.

    Raises:
        InctrlError: The row or the column lies outside the grid.
    """
    row, column = patch_place(session, display.row), patch_place(session, display.column)
    matches = patch_matches(session.score, row, column)
    names = layer_names(len(matches))
    grid = session.score.patch_map.shape[0]
    tiles = "".join(
        _tile(session.normals[match.normal], match, name, grid)
        for match, name in zip(matches, names, strict=True)
    )
    mean = float(session.score.patch_map[row, column])
    return (
        f'<p class="ic-lead">Patch in row {row + 1}, column {column + 1}: difference '
        f"<strong>{mean:.3f}</strong> on average. Its most similar patch among the normals, at "
        f'each layer of the network:</p><div class="ic-tiles">{tiles}</div>'
    )


def missing_html(session: Session) -> str:
    """What the normals have and the query lacks, on the picture of a normal."""
    missing = find_missing(session.bank, session.encoded)
    says = f"<p>{html.escape(missing_told(missing))}</p>"
    if missing is None:
        return says
    normal = session.normals[missing.normal]
    drawn = overlay(normal.image, missing.loss, normal.crop_box, missing.scale.style())
    number = missing.normal + 1
    return (
        f'<div class="ic-missing"><img src="{jpeg_uri(drawn)}" alt="Normal {number}, under a map '
        f'of what this image lacks"><div><p class="ic-label">Normal {number}: what the image '
        f"lacks is coloured</p>{says}</div></div>"
    )


def _tile(normal: Picture, match: PatchMatch, name: str, grid: int) -> str:
    image = mark_patch(normal.image, normal.crop_box, grid, match.row, match.column)
    where = f"normal {match.normal + 1}, row {match.row + 1}, column {match.column + 1}"
    return (
        f'<figure><img src="{jpeg_uri(image)}" alt="{name}: closest patch in {where}">'
        f"<figcaption><strong>{name}: {match.distance:.3f}</strong><span>{where}</span>"
        "</figcaption></figure>"
    )


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
