"""The heatmap over a query, as every tab draws it."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...analysis.closer import closer_told
from ...analysis.patch_scale import PatchScale
from ...analysis.session import Picture, Session
from ...errors import InctrlError
from ...images.overlay import COLOUR_MAPS, outline_patches, overlay
from ...images.preprocessing import patch_box
from .charts import colour_bar

MEAN = "All layers"


@dataclass(frozen=True)
class Display:
    """A visitor's choices for the display.

    Attributes:
        layer: ``MEAN`` or a name of :func:`layer_names`.
        colour_map: One of ``COLOUR_MAPS``.
        opacity: In [0, 1].
        smooth: Interpolate between patches.
        whole: Draw the map below the normals' own differences too.
        row: Row of the examined patch, counted from 1.
        column: Likewise.
    """

    layer: str = MEAN
    colour_map: str = COLOUR_MAPS[0]
    opacity: float = 0.7
    smooth: bool = True
    whole: bool = False
    row: int = 1
    column: int = 1


def layer_names(count: int) -> list[str]:
    """Plain names of the layers, shallow first."""
    if count == 3:
        return ["Shallow", "Middle", "Deep"]
    return [f"Layer {index + 1}" for index in range(count)]


def layers(session: Session) -> list[str]:
    """The maps of a session that may be shown: the mean, then each layer."""
    return [MEAN, *layer_names(len(session.score.layer_maps))]


def offered_layer(session: Session, layer: str) -> str:
    """The layer that the visitor chose, or the mean where this model does not have it."""
    return layer if layer in layers(session) else MEAN


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
        InctrlError: The layer or the colour map is none of those offered.
    """
    scale, patch_map = _map(session, display.layer)
    if display.colour_map not in COLOUR_MAPS:
        raise InctrlError(f"Choose a colour map among {', '.join(COLOUR_MAPS)}.")
    style = scale.style(
        colour_map=display.colour_map,
        opacity=float(display.opacity or 0),
        smooth=bool(display.smooth),
    )
    if display.whole:
        style = dataclasses.replace(style, clear=None)
    query = session.query
    try:
        place = patch_place(session, display.row), patch_place(session, display.column)
        framed = patch_box(query.crop_box, session.score.patch_map.shape[0], *place)
    except InctrlError:
        framed = None  # Said where the patch would be examined; the map is right all the same.
    image = overlay(query.image, patch_map, query.crop_box, style, framed)
    alike = like_defects(session)
    image = outline_patches(image, query.crop_box, alike, session.score.patch_map.shape[0])
    bar = colour_bar(scale, display.colour_map, bool(display.whole))
    about = _ignored(session), _alike(session, alike), _closer(session, display), _unseen(query)
    return image, bar + "".join(about)


def like_defects(session: Session) -> tuple[tuple[int, int], ...]:
    """Rows and columns of the patches that are more like a defect than like any normal."""
    score = session.score
    if score.defect_map is None:
        return ()
    return tuple(map(tuple, np.argwhere(score.defect_map < score.patch_map).tolist()))


def _ignored(session: Session) -> str:
    part = session.bank.ignored
    if part is None:
        return ""
    return f'<p class="ic-small">Striped: ignored in all images, {100 * part.mean():.0f}%.</p>'


def _alike(session: Session, alike: Sequence[tuple[int, int]]) -> str:
    """How many patches are more like a defect than like any normal, where defects are known."""
    if session.score.defect_map is None:
        return ""
    if not alike:
        return '<p class="ic-small">No patch is more like your defects than like the normals.</p>'
    count = "1 patch is" if len(alike) == 1 else f"{len(alike)} patches are"
    return (
        f'<p class="ic-small"><i class="ic-outline"></i> {count} more like your defects than like '
        "any normal.</p>"
    )


def _closer(session: Session, display: Display) -> str:
    """What the parts of the image say, where the map is theirs."""
    if session.closer is None:
        return ""
    if display.layer != MEAN:
        says = f"Choose the layer “{MEAN}” to see the map of the parts."
    else:
        says = closer_told(session.closer, session.bank.shots)
        says += " The score is that of the whole image."
    return f'<p class="ic-closer">{html.escape(says)}</p>'


def _unseen(query: Picture) -> str:
    """How much of the image went in, where that is not all of it."""
    if query.seen_whole:
        return ""
    return (
        '<p class="ic-small">Darkened: never seen by the model. The framed square is '
        f"{100 * query.seen_share:.0f}% of this image.</p>"
    )


def _map(session: Session, layer: str) -> tuple[PatchScale, object]:
    names = layers(session)
    if layer not in names:
        raise InctrlError(f"Choose a layer among {', '.join(names)}.")
    index = names.index(layer)
    if index == 0 and session.closer is not None:
        moved = session.scales[0].moved
        return dataclasses.replace(session.closer.scale, moved=moved), session.closer.patch_map
    maps = session.score.layer_maps
    return session.scales[index], session.score.patch_map if index == 0 else maps[index - 1]
