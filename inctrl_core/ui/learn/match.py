"""Steps 3 and 4 of the lesson: one patch against those of the normals, and the map of them all."""

from __future__ import annotations

import numpy as np

from ...analysis.explanations import PatchMatch
from ...analysis.walkthrough import PatchComparison, compare_patch, normal_patch
from ...errors import join_words
from ...images.overlay import COLOUR_MAPS
from ..common.charts import colour_bar
from .parts import (
    TILE,
    Lesson,
    Mark,
    Step,
    at,
    bars_html,
    columns,
    crop_html,
    fact_line,
    figure,
    formula,
    map_figure,
    map_over,
    number,
    operand,
    ramp_html,
    step_html,
    sum_line,
    tile_row,
)


def match_step(lesson: Lesson, mark: Mark) -> str:
    """Step 3: one patch against every patch of every normal."""
    session, grid = lesson.session, lesson.grid
    comparison = compare_patch(session.bank, session.encoded, *mark)
    layers = lesson.named_matches(mark)
    shots = session.bank.shots
    crop = crop_html(
        lesson.crop(session.query),
        f"The square with the patch in {at(*mark)} framed. A click chooses another.",
        grid,
        mark,
        pick=True,
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
        + "".join(_strips(lesson, comparison, *layer) for layer in layers)
    )
    step = Step(
        3,
        "Find the most similar patch of the normals",
        "The framed patch is compared with every patch of every normal image, wherever it lies.",
        "The brighter a square, the more it resembles the framed patch; in the picture set apart, "
        "a frame marks the most similar of all. An ordinary patch has squares close to 1. "
        "An odd one has none: its brightest square stays well below.",
        ("analysis.walkthrough.compare_patch", "model.residuals.nearest_patches"),
    )
    body = columns(figure(crop, "Find the most similar patch", "click another"), words)
    maps = "".join(_similarity_maps(lesson, comparison, *layer) for layer in layers)
    return step_html(step, body + maps)


def map_step(lesson: Lesson, mark: Mark) -> str:
    """Step 4: the residual maps at each layer, and their mean."""
    score, (mean, *scales) = lesson.session.score, lesson.session.scales
    layers = lesson.named_matches(mark)
    maps = [
        map_figure(
            lesson,
            values,
            (scale.low, scale.high),
            mark,
            (name, f"{name}: difference of every patch"),
        )
        for (name, _), values, scale in zip(layers, score.layer_maps, scales, strict=True)
    ]
    ends, named = (mean.low, mean.high), ("M, their mean", "Mean over the layers")
    maps.append(map_figure(lesson, score.patch_map, ends, mark, named, strong=True))
    left, right = _map_words(lesson, mark, layers)
    body = f'<div class="ic-maps">{"".join(maps)}</div>' + columns(
        left + colour_bar(mean, COLOUR_MAPS[0], whole=True), right
    )
    step = Step(
        4,
        "From similarity to difference, for every patch",
        "The less a patch resembles its best counterpart, the larger its <dfn>difference</dfn>; "
        "done for every patch, this gives a map.",
        _map_look(lesson, mark),
        ("model.residuals.nearest_patches", "model.evidence.Evidence.patch_map"),
    )
    return step_html(step, body)


def _similarity_maps(
    lesson: Lesson, comparison: PatchComparison, name: str, match: PatchMatch
) -> str:
    low = float(comparison.similarities[match.layer].min())
    tiles = []
    for index, normal in enumerate(lesson.session.normals):
        values = comparison.similarities[match.layer, index]
        best, most = index == match.normal, f"at most {number(float(values.max()))}"
        picture = crop_html(
            map_over(lesson.crop(normal), values, low, 1.0, TILE),
            f"{name}: similarity with each patch of normal {index + 1}, {most}",
            lesson.grid,
            (match.row, match.column) if best else None,
        )
        tiles.append(figure(picture, f"Normal {index + 1}", most, strong=best))
    return (
        f'<div class="ic-layer"><p class="ic-label"><strong>{name}</strong>Similarity '
        f"{ramp_html(number(low), '1')}</p>{tile_row(tiles)}</div>"
    )


def _strips(lesson: Lesson, comparison: PatchComparison, name: str, match: PatchMatch) -> str:
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


def _map_words(lesson: Lesson, mark: Mark, layers: list[tuple[str, PatchMatch]]) -> tuple[str, str]:
    score = lesson.session.score
    lines = "".join(
        sum_line(name, f"½ · (1 − {operand(1 - 2 * match.distance)})", number(match.distance))
        for name, match in layers
    )
    added = " + ".join(operand(match.distance) for _, match in layers)
    top = divmod(int(score.patch_map.argmax()), lesson.grid)
    value = number(float(score.patch_map[mark]))
    left = (
        formula(
            "M<sub>d</sub> = ½ · (1 − largest similarity at layer d)",
            "0 where a normal has just such a patch, ½ where nothing is in common. The paper calls "
            "it the patch-level <dfn>residual</dfn>: the part that no normal explains.",
        )
        + lines
    )
    right = (
        formula(f"M = mean of {join_words([f'M<sub>{name}</sub>' for name, _ in layers])}")
        + sum_line("This patch", f"({added}) ÷ {len(layers)}", value)
        + formula(
            "patch maximum = largest value of M",
            "One odd patch is enough for a large value, however many others look sound.",
        )
        + fact_line(
            f"Largest of {score.patch_map.size} patches", f"at {at(*top)}:", number(score.patch_max)
        )
    )
    return left, right


def _map_look(lesson: Lesson, mark: Mark) -> str:
    scale = lesson.session.scales[0]
    value = float(lesson.session.score.patch_map[mark])
    high = scale.normal_high
    layers = "Layers may disagree: what is odd as a texture need not be odd as a shape. "
    if high is None:
        return layers + "With a single normal there is nothing to compare the numbers with."
    relation = "more" if value > high else "no more"
    return (
        f"{layers}The normals, each compared with the others, differ by up to {number(high)}; this "
        f"patch differs by {number(value)}, {relation} than they do."
    )
