"""Steps 1 and 2 of the lesson: the square that goes in, and its patches."""

from __future__ import annotations

import html

import numpy as np

from ...analysis.session import Picture
from ...analysis.walkthrough import compare_patch
from ...config import SQUASH
from ...errors import join_words
from ...images.overlay import OverlayStyle, overlay
from ...images.preprocessing import patch_box
from ..common.heatmap import layer_names
from ..common.markup import jpeg_uri
from .parts import (
    MAP,
    TILE,
    Lesson,
    Mark,
    Step,
    at,
    bars_html,
    columns,
    crop_html,
    figure,
    folded,
    formula,
    number,
    step_html,
    sum_line,
    tile_row,
)

WHOLE = 480  # Longer side of the image to check.


def crop_step(lesson: Lesson) -> str:
    """Step 1: the normals, the query, and the square of each that goes in."""
    session = lesson.session
    shots = session.bank.shots
    whole = figure(_framed(session.query, "The image to check", WHOLE), "Image to check")
    square = crop_html(lesson.crop(session.query), "What the model sees of it")
    seen = figure(square, "What the model sees")
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
    side, query = lesson.input_side, lesson.session.query
    (width, height), (across, down) = _original(lesson)
    words = (
        f"<p>The shorter side of each image is brought to {side} pixels, and the {side} × {side} "
        "pixels in the middle are cut out. All that follows happens inside this square.</p>"
        + formula(
            "seen = area of the square ÷ area of the image",
            "Counted in pixels of the image to check.",
        )
        + sum_line(
            "Seen",
            f"({across:.5g} × {down:.5g}) ÷ ({width} × {height})",
            number(query.seen_share, 2),
        )
    )
    look = (
        "The whole image lies in the square; nothing is left out."
        if query.seen_whole
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
        lesson.crop(session.query),
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


def _framed(picture: Picture, alt: str, side: int) -> str:
    nothing = np.zeros((1, 1))
    image = overlay(picture.image, nothing, picture.crop_box, OverlayStyle(0.0, 1.0, opacity=0.0))
    image.thumbnail((side, side))
    framed = "" if picture.seen_whole else ", with the seen square framed"
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
