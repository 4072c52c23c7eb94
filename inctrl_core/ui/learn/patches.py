"""Steps 1, 2 and 4 of the lesson: the square, its patches, and the map of their differences."""

from __future__ import annotations

import html

import numpy as np

from ...analysis.explanations import PatchMatch, patch_matches
from ...analysis.inspection import Picture
from ...analysis.walkthrough import compare_patch
from ...config import SQUASH
from ...errors import join_words
from ...images.overlay import COLOUR_MAPS, OverlayStyle, overlay
from ...images.preprocessing import patch_box
from ..common.charts import colour_bar
from ..common.heatmap import layer_names
from ..common.markup import jpeg_uri
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
    folded,
    formula,
    map_over,
    number,
    operand,
    ramp_html,
    step_html,
    sum_line,
    tile_row,
)

MAP = 300  # Side of a map, in pixels.
WHOLE = 480  # Longer side of the image to check.


def crop_step(lesson: Lesson) -> str:
    """Step 1: the normals, the query, and the square of each that goes in."""
    session, side = lesson.session, lesson.input_side
    shots = session.bank.shots
    whole = figure(_framed(session.query, "The image to check", WHOLE), "Image to check")
    seen = figure(
        crop_html(crop_of(session.query, side), "What the model sees of it", lesson.grid),
        "What the model sees",
    )
    normals = [
        figure(_framed(normal, f"Normal {i + 1}", MAP), f"Normal {i + 1}")
        for i, normal in enumerate(session.normals)
    ]
    squashed = session.config.preprocess.resize_mode == SQUASH
    words, done, look = (_squash_words if squashed else _cut_words)(lesson)
    count = "one normal image" if shots == 1 else f"{shots} normal images"
    body = columns(f'<div class="ic-two">{whole}{seen}</div>', words)
    name = html.escape(session.bank.object_name)
    lead = f"The program gets {count} of <q>{name}</q> and one image to check, and {done} of each."
    step = Step(1, "What goes in", lead, look, ("images.preprocessing.crop_image",))
    return step_html(step, body + tile_row(normals))


def _cut_words(lesson: Lesson) -> tuple[str, str, str]:
    """How the middle is cut out: the words beside the pictures, in short, and what to look for."""
    side, share = lesson.input_side, seen_share(lesson.session.query)
    (width, height), (across, down) = _original(lesson)
    words = (
        f"<p>The shorter side of each image is brought to {side} pixels, and the {side} × {side} "
        "pixels in the middle are cut out. All that follows happens inside this square.</p>"
        + formula(
            "seen = area of the square ÷ area of the image",
            "Counted in pixels of the image to check.",
        )
        + sum_line("Seen", f"({across:.5g} × {down:.5g}) ÷ ({width} × {height})", number(share, 2))
    )
    look = (
        "The whole image lies in the square; nothing is left out."
        if share > 0.995
        else "Does the thing that matters lie inside the frame? The dark parts lie outside "
        "it: they cannot change the score."
    )
    return words, "looks only at the square in the middle", look


def _squash_words(lesson: Lesson) -> tuple[str, str, str]:
    """The same where the whole image is made a square."""
    side = lesson.input_side
    (width, height), _ = _original(lesson)
    longer, shorter = max(width, height), min(width, height)
    words = (
        f"<p>Both sides of each image are brought to {side} pixels. So nothing is left out. All "
        "that follows happens inside this square.</p>"
        + folded(
            "How much this squeezes the image",
            "<p>An image that was not square is squeezed along its longer side.</p>"
            + formula(
                "squeezed = longer side ÷ shorter side",
                "Counted in pixels of the image to check; 1 where it is square.",
            )
            + sum_line("Squeezed", f"{longer} ÷ {shorter}", number(longer / shorter, 2)),
        )
    )
    look = (
        "The image is square already; nothing changes its shape."
        if longer == shorter
        else "Do the normals have the same proportions? Where they have not, they are squeezed by "
        "another amount, and the same thing has another shape in them."
    )
    return words, "makes a square", look


def patches_step(lesson: Lesson, mark: Mark) -> str:
    """Step 2: the grid, and the network's features of one patch."""
    session, grid = lesson.session, lesson.grid
    features = compare_patch(session.bank, session.encoded, *mark).features
    names = layer_names(len(features))
    ruled = crop_html(
        crop_of(session.query, lesson.input_side),
        f"The square under a grid; the patch in {at(*mark)} is framed. A click chooses another.",
        grid,
        mark,
        pick=True,
        lines=True,
    )
    bars = "".join(
        f'<p class="ic-label">{name}: {len(values)} numbers, length '
        f"{number(float(np.linalg.norm(values)))}</p>"
        + bars_html(values, f"{name}: the {len(values)} numbers of the patch as colours")
        for name, values in zip(names, features, strict=True)
    )
    close = figure(_close_up(session.query, grid, mark), "The framed patch", at(*mark))
    body = columns(
        f'<div class="ic-two">{figure(ruled, f"{grid} × {grid} patches", "click one")}'
        f"<div>{close}{bars}</div></div>",
        _patch_words(lesson, len(names)),
    )
    step = Step(
        2,
        "The square becomes a grid of patches",
        f"It is divided into {grid} × {grid} small squares, the <dfn>patches</dfn>, and each is "
        "described by numbers.",
        "Choose a patch beside the framed one: its strips look much alike, because a patch’s "
        "numbers also tell of what surrounds it, the more so the deeper. Then choose one far away.",
        ("model.backbone.Backbone.encode_images", "model.residuals.resample_to_grid"),
    )
    return step_html(step, body)


def map_step(lesson: Lesson, mark: Mark) -> str:
    """Step 4: the residual maps at each layer, and their mean."""
    session, grid = lesson.session, lesson.grid
    score, scales = session.score, session.scales
    matches = patch_matches(score, *mark)
    names = layer_names(len(matches))
    crop = crop_of(session.query, lesson.input_side)
    small = "".join(
        figure(
            crop_html(
                map_over(crop, layer, scale.low, scale.high, MAP),
                f"{name}: difference of every patch; {number(match.distance)} at {at(*mark)}",
                grid,
                mark,
                pick=True,
            ),
            f"{name}: {number(match.distance)}",
            ramp_html(f"{scale.low:g}", number(scale.high)),
        )
        for layer, scale, match, name in zip(
            score.layer_maps, scales[1:], matches, names, strict=True
        )
    )
    value = float(score.patch_map[mark])
    mean = crop_html(
        map_over(crop, score.patch_map, scales[0].low, scales[0].high, MAP),
        f"Mean over the layers; {number(value)} at {at(*mark)}",
        grid,
        mark,
        pick=True,
    )
    top = ramp_html(f"{scales[0].low:g}", number(scales[0].high))
    small += figure(mean, f"M, their mean: {number(value)}", top, strong=True)
    left, right = _map_words(lesson, mark, matches, names)
    body = f'<div class="ic-maps">{small}</div>' + columns(
        left + colour_bar(scales[0], COLOUR_MAPS[0], whole=True), right
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


def seen_share(picture: Picture) -> float:
    """Share of a picture's area that the model sees, in [0, 1]."""
    left, top, right, bottom = picture.crop_box
    return (right - left) * (bottom - top) / (picture.image.width * picture.image.height)


def _patch_words(lesson: Lesson, layers: int) -> str:
    config, grid, side = lesson.session.config, lesson.grid, lesson.input_side
    return (
        "<p>A <dfn>network</dfn>, trained beforehand on ordinary pictures, reads the square. It "
        f"stays as it is: nothing is trained on your images. It is read out at {layers} "
        "<dfn>layers</dfn>: shallow ones know edges, colours and texture, deep ones shapes and "
        "things. At each layer every patch becomes a list of numbers, its <dfn>features</dfn>; "
        "the strips show one number as one stripe, dark for negative and bright for positive."
        f'</p><p class="ic-small">The model here: {html.escape(config.title)}.</p>'
        + formula(
            "f = features ÷ ‖features‖",
            "Each list is brought to length 1 (‖f‖ = 1), so that only its direction counts.",
        )
        + folded(
            "How every layer gets the same grid, and what is done to its numbers",
            f"<p>{_grid_words(lesson)}</p>"
            + sum_line("Patches", f"{grid} × {grid}", str(grid * grid))
            + sum_line(
                "Pixels of the square along a patch", f"{side} ÷ {grid}", f"{side / grid:g}"
            ),
        )
    )


def _grid_words(lesson: Lesson) -> str:
    """Interpolation, sizes and adapter, as far as this model has them."""
    config = lesson.session.config
    told = (
        f"Where the network’s own grid is finer than {lesson.grid} × {lesson.grid} it is averaged, "
        "where coarser, interpolated."
    )
    if len(config.image_sizes) > 1:
        sizes = join_words([str(size) for size in config.image_sizes])
        told += (
            f" The square is read at {sizes} pixels, since a small thing may show at one size and "
            "not at another; each list holds the numbers of every size."
        )
    if config.heads.patch_adapter:
        told += (
            " A linear map, the <dfn>patch adapter</dfn>, trained on other objects, then turns "
            "each list into one that tells less of light, focus and noise."
        )
    return told


def _map_words(
    lesson: Lesson, mark: Mark, matches: tuple[PatchMatch, ...], names: list
) -> tuple[str, str]:
    score = lesson.session.score
    lines = "".join(
        sum_line(name, f"½ · (1 − {operand(1 - 2 * match.distance)})", number(match.distance))
        for name, match in zip(names, matches, strict=True)
    )
    added = " + ".join(operand(match.distance) for match in matches)
    top = divmod(int(score.patch_map.argmax()), lesson.grid)
    value = number(float(score.patch_map[mark]))
    left = (
        formula(
            "M<sub>d</sub> = ½ · (1 − largest similarity at layer d)",
            "0 where a normal has just such a patch, ½ where nothing is in common. The paper calls "
            "it the patch-level <dfn>residual</dfn>: the part that no normal "
            "explains.",
        )
        + lines
    )
    right = (
        formula(f"M = mean of {join_words([f'M<sub>{name}</sub>' for name in names])}", "")
        + sum_line("This patch", f"({added}) ÷ {len(matches)}", value)
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


def _framed(picture: Picture, alt: str, side: int) -> str:
    nothing = np.zeros((1, 1))
    image = overlay(picture.image, nothing, picture.crop_box, OverlayStyle(0.0, 1.0, opacity=0.0))
    image.thumbnail((side, side))
    framed = "" if seen_share(picture) > 0.995 else ", with the seen square framed"
    return f'<img src="{jpeg_uri(image)}" alt="{html.escape(alt)}{framed}">'


def _close_up(picture: Picture, grid: int, mark: Mark) -> str:
    box = tuple(round(edge) for edge in patch_box(picture.crop_box, grid, *mark))
    image = picture.image.crop(box).resize((TILE, TILE))
    return (
        f'<img class="ic-close" src="{jpeg_uri(image)}" alt="The patch in {at(*mark)}, enlarged">'
    )


def _original(lesson: Lesson) -> tuple[tuple[int, int], tuple[float, float]]:
    """Sizes of the query as it was given, and of what is seen of it; may end within a pixel."""
    shown, given = lesson.session.query.crop_box, lesson.session.encoded.crop_boxes[0]
    image = lesson.session.query.image
    square = given[2] - given[0], given[3] - given[1]
    scale_x, scale_y = square[0] / (shown[2] - shown[0]), square[1] / (shown[3] - shown[1])
    return (round(image.width * scale_x), round(image.height * scale_y)), square
