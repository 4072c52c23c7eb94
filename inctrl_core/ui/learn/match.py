"""Step 3 of the lesson: one patch against every patch of every normal."""

from __future__ import annotations

import numpy as np

from ...analysis.explanations import PatchMatch, patch_matches
from ...analysis.walkthrough import PatchComparison, compare_patch, normal_patch
from ..common.heatmap import layer_names
from .parts import (
    TILE,
    Lesson,
    Mark,
    Step,
    at,
    bars_html,
    columns,
    crop_html,
    crop_of,
    fact_line,
    figure,
    formula,
    map_over,
    number,
    ramp_html,
    step_html,
    sum_line,
    tile_row,
)


def match_step(lesson: Lesson, mark: Mark) -> str:
    """Step 3: one patch against every patch of every normal."""
    session, grid = lesson.session, lesson.grid
    comparison = compare_patch(session.bank, session.encoded, *mark)
    matches = patch_matches(session.score, *mark)
    names = layer_names(len(matches))
    shots = session.bank.shots
    crop = crop_html(
        crop_of(session.query, lesson.input_side),
        f"The square with the patch in {at(*mark)} framed. A click chooses another.",
        grid,
        mark,
        pick=True,
    )
    pairs = "".join(
        _strips(lesson, comparison, match, name) for match, name in zip(matches, names, strict=True)
    )
    words = (
        formula(
            "similarity = f · n = f<sub>1</sub>n<sub>1</sub> + f<sub>2</sub>n<sub>2</sub> + …",
            "f: features of this patch. n: features of a patch of a normal. For lists of length 1 "
            "this is the <dfn>cosine similarity</dfn>: 1 for the same direction, 0 for nothing "
            "in common, below 0 for opposites.",
        )
        + sum_line("Comparisons at each layer", f"{shots} × {grid * grid}", str(shots * grid**2))
        + '<p class="ic-label">This patch (above) and the most similar patch of all (below)</p>'
        + pairs
    )
    maps = "".join(
        _similarity_maps(lesson, comparison, match, name)
        for match, name in zip(matches, names, strict=True)
    )
    body = columns(figure(crop, "Find the most similar patch", "click another"), words)
    step = Step(
        3,
        "Find the most similar patch of the normals",
        "The framed patch is compared with every patch of every normal image, wherever it lies.",
        "The brighter a square, the more it resembles the framed patch; in the picture set apart, "
        "a frame marks the most similar of all. An ordinary patch has squares close to 1. "
        "An odd one has none: its brightest square stays well below.",
        ("analysis.walkthrough.compare_patch", "model.residuals.nearest_patches"),
    )
    return step_html(step, body + maps)


def _similarity_maps(
    lesson: Lesson, comparison: PatchComparison, match: PatchMatch, name: str
) -> str:
    low = float(comparison.similarities[match.layer].min())
    tiles = []
    for index, normal in enumerate(lesson.session.normals):
        values = comparison.similarities[match.layer, index]
        best = index == match.normal
        title = f"Normal {index + 1}"
        picture = crop_html(
            map_over(crop_of(normal, lesson.input_side), values, low, 1.0, TILE),
            f"{name}: similarity with each patch of normal {index + 1}, at most "
            f"{number(float(values.max()))}",
            lesson.grid,
            (match.row, match.column) if best else None,
        )
        caption = f"at most {number(float(values.max()))}"
        tiles.append(figure(picture, title, caption, strong=best))
    return (
        f'<div class="ic-layer"><p class="ic-label"><strong>{name}</strong>Similarity '
        f"{ramp_html(number(low), '1')}</p>{tile_row(tiles)}</div>"
    )


def _strips(lesson: Lesson, comparison: PatchComparison, match: PatchMatch, name: str) -> str:
    own = comparison.features[match.layer]
    place = match.normal, match.row, match.column
    other = normal_patch(lesson.session.bank, match.layer, *place)
    limit = float(max(np.abs(own).max(), np.abs(other).max()))
    where = f"normal {match.normal + 1}, {at(match.row, match.column)}"
    return (
        f'<div class="ic-strips">{bars_html(own, f"{name}: numbers of this patch", limit)}'
        f"{bars_html(other, f'{name}: numbers of the most similar patch', limit)}"
        f"{fact_line(f'{name}: {where}', 'f · n =', number(1 - 2 * match.distance, 4))}</div>"
    )
