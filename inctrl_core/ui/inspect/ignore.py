"""Marking the part of the picture that does not count: a pad over a normal, and its buttons."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np

from ...analysis.session import Session
from ...images.ignored import part_to_text
from ...images.overlay import resize_for_screen
from ..common.markup import jpeg_uri

ON_LOAD = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_PIXELS = 60_000  # Of the picture to mark on.


def build_pad() -> gr.HTML:
    """The place for the result of :func:`pad_html`."""
    return gr.HTML(js_on_load=ON_LOAD, elem_id="ignore")


def pad_html(session: Session, proposed: np.ndarray | None = None) -> str:
    """The first normal, as far as it is seen, to mark on; and the part that is ignored now.

    Args:
        session: A visitor's.
        proposed: A part that is marked for the visitor to change or to apply.
    """
    normal = session.normals[0]
    box = tuple(map(round, normal.crop_box))
    picture = resize_for_screen(normal.image.crop(box), _PIXELS)
    part = session.bank.ignored
    marked = part if proposed is None else proposed
    told, again = "", ""
    if part is not None:
        told = f"Ignored: {100 * part.mean():.0f}% of what is seen, in all images."
        again = '<button type="button" data-do="all">Count everything again</button>'
    return (
        f'<details class="ic-ignore"{" open" if marked is not None else ""}>'
        "<summary>Ignore a part, such as the background or a date stamp</summary>"
        f'<div class="ic-pad" data-part="{"" if marked is None else part_to_text(marked)}">'
        '<p class="ic-small">Mark on this normal what does not count. It holds for all images of '
        f"these normals, here, in Batch and in Live. <strong>{told}</strong></p>"
        f'<div class="ic-canvas"><img src="{jpeg_uri(picture, 75)}" alt="Normal 1, as it is seen">'
        '<canvas width="240" height="240" tabindex="0" role="img" aria-label="Part to ignore: '
        'arrow keys move the brush, the space bar marks"></canvas></div>'
        '<p class="ic-tools"><label>Brush <input type="range" min="1" max="12" value="4"></label>'
        '<label><input type="checkbox"> Erase</label></p>'
        '<p class="ic-tools"><button type="button" data-do="apply">Ignore what is marked</button>'
        '<button type="button" data-do="propose">Mark the background</button>'
        f'<button type="button" data-do="clear">Clear</button>{again}</p></div></details>'
    )
