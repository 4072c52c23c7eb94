"""The parts of the lesson's steps: pictures that can be clicked, formulas, sums.

Pure functions that return markup. Every text that a visitor may have typed goes through
:func:`html.escape` in its caller; numbers are written here.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...analysis.explanations import PatchMatch, patch_matches
from ...analysis.session import Picture, Session
from ...analysis.walkthrough import FusionAccount
from ...errors import join_words
from ...images.overlay import COLOUR_MAPS, OverlayStyle, colour_table, overlay
from ..common.charts import gradient
from ..common.heatmap import layer_names
from ..common.markup import jpeg_uri

DEVIATION = (
    "How many spreads a number lies above (or, if negative, below) what is expected of a good "
    "image: expected from the normals compared with each other, and from other kinds of object "
    "where the normals are few."
)
TILE = 176  # Side of a small picture, in pixels.
MAP = 300  # Side of a map.
_COLOURS = COLOUR_MAPS[0]
_MOST_TILES = 8
_STRENGTH = 0.8  # Opacity of maps over pictures.
_BAR_WIDTH = 640


Mark = tuple[int, int]  # Row and column of a patch, from 0.


@dataclass(frozen=True, eq=False)
class Lesson:
    """All that one walk through the method shows.

    Attributes:
        session: Normals, query and score.
        account: What lies between the signals and the score.
    """

    session: Session
    account: FusionAccount

    @property
    def grid(self) -> int:
        """G."""
        return self.session.score.patch_map.shape[0]

    @property
    def input_side(self) -> int:
        """Side of the model's input, in pixels."""
        return self.session.config.preprocess.image_size

    def crop(self, picture: Picture) -> Image.Image:
        """The model's view of a picture."""
        size = self.input_side, self.input_side
        return picture.image.resize(size, Image.Resampling.BICUBIC, picture.crop_box)

    def named_matches(self, mark: Mark) -> list[tuple[str, PatchMatch]]:
        """The most similar patch at each layer, with the layer's name; shallow first."""
        matches = patch_matches(self.session.score, *mark)
        return list(zip(layer_names(len(matches)), matches, strict=True))


def number(value: float, digits: int = 3) -> str:
    """A rounded number with a true minus sign, never a minus before zero."""
    rounded = round(value, digits) + 0.0
    return f"{rounded:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def operand(value: float, digits: int = 5) -> str:
    """A number within a sum, in brackets where it is negative.

    Two digits more than the result has, so that working the sum out gives that result.
    """
    text = number(value, digits)
    return text if text[0].isdigit() else f"({text})"


def formula(markup: str, words: str = "") -> str:
    """A formula in symbols, and what they stand for."""
    below = f'<p class="ic-small ic-symbols">{words}</p>' if words else ""
    return f'<p class="ic-formula">{markup}</p>{below}'


def folded(summary: str, markup: str) -> str:
    """A detail that is opened by those who want it."""
    return f'<details class="ic-detail"><summary>{summary}</summary>{markup}</details>'


def sum_line(label: str, expression: str, result: str) -> str:
    """One line of arithmetic with the numbers in place.

    Args:
        label: What it is the sum of.
        expression: In ``+ − · × ÷ ½ ( ) e<sup>…</sup>`` and numbers, so that it can be worked out.
        result: A number.
    """
    return (
        f'<p class="ic-sum"><span>{label}</span>'
        f"<b><i>{expression}</i> = <strong>{result}</strong></b></p>"
    )


def logistic_line(label: str, exponent: str, result: str) -> str:
    """The line of a sum that is squeezed between 0 and 1."""
    return sum_line(label, f"1 ÷ (1 + e<sup>−{exponent}</sup>)", result)


def fact_line(label: str, fact: str, result: str) -> str:
    """A number that no sum on the page leads to, and its name."""
    return f'<p class="ic-sum"><span>{label}</span><b>{fact} <strong>{result}</strong></b></p>'


@dataclass(frozen=True)
class Step:
    """The frame around the pictures and the formulas of a step.

    Attributes:
        index: Its number.
        title: Its heading.
        lead: One plain sentence.
        look: What to look for.
        code: Names below ``inctrl_core`` that compute it.
        badge: A remark beside the heading.
    """

    index: int
    title: str
    lead: str
    look: str
    code: tuple[str, ...]
    badge: str = ""


def step_html(step: Step, body: str) -> str:
    """One numbered step: a sentence, pictures and formulas, and what to look for."""
    index, title, lead, look, badge = step.index, step.title, step.lead, step.look, step.badge
    code = join_words([f"<code>{name}</code>" for name in step.code])
    mark = f'<span class="ic-badge">{badge}</span>' if badge else ""
    return (
        f'<section class="ic-step" aria-labelledby="ic-step-{index}">'
        f'<h3 id="ic-step-{index}"><span>{index}</span> {title}{mark}</h3>'
        f'<p class="ic-lead">{lead}</p>{body}'
        f'<p class="ic-look"><strong>What to look for.</strong> {look}</p>'
        f'<p class="ic-small">In the code: {code}</p></section>'
    )


def tile_row(figures: Sequence[str]) -> str:
    """Small pictures side by side, at most eight in a row; half as many where it is narrow."""
    count = min(len(figures), _MOST_TILES)
    half = count if count <= _MOST_TILES // 2 else -(-count // 2)
    sizes = f"--ic-tiles:{count};--ic-half:{half}"
    return f'<div class="ic-tile-row" style="{sizes}">{"".join(figures)}</div>'


def columns(pictures: str, words: str) -> str:
    """Pictures beside their formulas; one above the other where there is little room."""
    return (
        f'<div class="ic-step-body"><div class="ic-pictures">{pictures}</div>'
        f'<div class="ic-words">{words}</div></div>'
    )


def map_over(
    crop: Image.Image, values: np.ndarray, low: float, high: float, side: int
) -> Image.Image:
    """A map as squares over a crop, both at ``side`` pixels."""
    style = OverlayStyle(low, high, _COLOURS, _STRENGTH, smooth=False)
    return overlay(crop.resize((side, side)), values, (0.0, 0.0, float(side), float(side)), style)


def crop_html(
    image: Image.Image,
    alt: str,
    grid: int = 1,
    mark: Mark | None = None,
    *,
    pick: bool = False,
    lines: bool = False,
) -> str:
    """A crop with one patch framed.

    Args:
        image: The crop, with or without a map over it.
        alt: Its alternative text.
        grid: G, where a patch of it is framed or chosen.
        mark: The patch to frame.
        pick: Whether a click chooses a patch of it.
        lines: Whether the grid is drawn.
    """
    frame = ""
    if mark is not None:
        side = 100 / grid
        frame = (
            f'<b class="ic-mark" style="top:{mark[0] * side:.3f}%;left:{mark[1] * side:.3f}%;'
            f'width:{side:.3f}%;height:{side:.3f}%"></b>'
        )
    ruled = f'<i class="ic-ruled" style="--ic-grid:{grid}"></i>' if lines else ""
    chosen = f' data-grid="{grid}"' if pick else ""
    return (
        f'<div class="ic-crop"{chosen}><img src="{jpeg_uri(image)}" alt="{html.escape(alt)}">'
        f"{ruled}{frame}</div>"
    )


def figure(picture: str, title: str, caption: str = "", *, strong: bool = False) -> str:
    """A picture with its name and a line below it; ``strong`` sets it apart."""
    below = f"<span>{caption}</span>" if caption else ""
    chosen = ' class="ic-chosen"' if strong else ""
    return f"<figure{chosen}>{picture}<figcaption><b>{title}</b>{below}</figcaption></figure>"


def map_figure(
    lesson: Lesson,
    values: np.ndarray,
    ends: tuple[float, float],
    mark: Mark,
    words: tuple[str, str],
    *,
    strong: bool = False,
) -> str:
    """A map over the image to check with its scale and the number of the patch that is followed.

    Args:
        lesson: Its grid and image.
        values: [G, G].
        ends: Values at both ends of the colours.
        mark: The patch; a click chooses another.
        words: Name of the map, and its alternative text.
        strong: Whether it is set apart.
    """
    (name, alt), value = words, number(float(values[mark]))
    crop = map_over(lesson.crop(lesson.session.query), values, *ends, MAP)
    picture = crop_html(crop, f"{alt}; {value} at {at(*mark)}", lesson.grid, mark, pick=True)
    scale = ramp_html(f"{ends[0]:g}", number(ends[1]))
    return figure(picture, f"{name}: {value}", scale, strong=strong)


def bars_html(features: np.ndarray, alt: str, limit: float | None = None) -> str:
    """A list of numbers as a strip of colours, one stripe for each.

    Args:
        features: [C].
        alt: Alternative text of the strip.
        limit: Value at both ends of the colours, so that strips compare; else the list's own.
    """
    top = limit or max(float(np.abs(features).max()), 1e-12)
    levels = np.rint((np.clip(features / top, -1, 1) + 1) * 127.5).astype(np.uint8)
    stripes = Image.fromarray(colour_table(_COLOURS)[levels][None])
    wide = stripes.resize((_BAR_WIDTH, 20), Image.Resampling.NEAREST)
    return f'<img class="ic-bars" src="{jpeg_uri(wide, 92)}" alt="{html.escape(alt)}">'


def ramp_html(low: str, high: str) -> str:
    """The colour scale with its two ends."""
    return (
        f'<span class="ic-scale"><span>{low}</span>'
        f'<i style="background:{gradient(_COLOURS)}"></i><span>{high}</span></span>'
    )


def at(row: int, column: int) -> str:
    """A place of the grid, counted from 1."""
    return f"row {row + 1}, column {column + 1}"
