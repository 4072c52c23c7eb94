"""Defects that the visitor shows: the buttons, the list of those shown, and forgetting them."""

from __future__ import annotations

import html

import gradio as gr

from ...analysis.session import Session, ShownDefect
from ...images.overlay import outline_patches
from ..common.markup import jpeg_uri

SHOW = "Missed? This is a defect"
HERE = "The defect is at this patch"
# A button of the list sends the place of its defect.
ON_LOAD = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-defect]');
  if (button) trigger('click', {defect: Number(button.dataset.defect)});
});
"""


class DefectView:
    """Components; the tab wires them, since a change of the defects changes all that it shows."""

    def __init__(self) -> None:
        self.show = gr.Button(SHOW, size="sm", elem_id="show-defect", render=False)
        self.here = gr.Button(HERE, size="sm", elem_id="defect-here", render=False)

    def build(self) -> None:
        """Lays out the list."""
        self.listed = gr.HTML(js_on_load=ON_LOAD, elem_id="defects")


def defects_html(session: Session) -> str:
    """The defects that count beside the normals, each with a button; "" where there is none."""
    if not session.defects:
        return ""
    cards = "".join(
        _card(defect, number, session.score.patch_map.shape[0])
        for number, defect in enumerate(session.defects)
    )
    return (
        '<div class="ic-defects"><p class="ic-label">Your defects</p><p class="ic-small">What is '
        "more like their outlined patches than like any normal patch scores higher, here, in Batch "
        f"and in Live. The list holds for these normals.</p><ul>{cards}</ul></div>"
    )


def _card(defect: ShownDefect, number: int, grid: int) -> str:
    patches = "1 patch" if len(defect.places) == 1 else f"{len(defect.places)} patches"
    if defect.shown is None:
        picture, told = "", "from your file"
    else:
        shown = defect.shown
        drawn = outline_patches(shown.image, shown.crop_box, defect.places, grid)
        picture = f'<img src="{jpeg_uri(drawn)}" alt="Defect {number + 1}, {patches} outlined">'
        told = patches
    return (
        f"<li>{picture}<span><strong>Defect {number + 1}</strong>{html.escape(told)}</span>"
        f'<button type="button" data-defect="{number}">Forget<span class="ic-hidden"> defect '
        f"{number + 1}</span></button></li>"
    )
