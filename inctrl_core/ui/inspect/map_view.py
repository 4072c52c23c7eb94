"""The heatmap of the tab Inspect, what changes how it is drawn, and the like of each patch."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...analysis.closer import PARTS
from ...analysis.session import Session
from ...errors import InctrlError
from ...images.overlay import COLOUR_MAPS, COLOUR_NAMES
from ...images.preprocessing import patch_at
from ..common.downloads import picture_file
from ..common.events import sent_place
from ..common.form import Shown
from ..common.heatmap import (
    MEAN,
    Display,
    heatmap,
    layer_names,
    layers,
    offered_layer,
    strongest_patch,
)
from ..common.markup import error_html
from ..common.scripts import DESCRIBED
from .handlers import held
from .render import provenance_html

LAYERS = 3
CLOSER = {1: "Whole"} | {n: f"{n} × {n}" for n in PARTS[1:]}


class MapView:
    """Components and their events; the tab lays out other things between the two parts.

    Args:
        session: The visitor's session.
    """

    def __init__(self, session: gr.State) -> None:
        self.session = session

    def build(self) -> None:
        """Lays out the map and what changes it."""
        with gr.Row(elem_id="map-row"):
            with gr.Column(scale=3, min_width=300):
                self.image = gr.Image(
                    label="Heatmap over the image to check",
                    show_label=False,
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="heatmap",
                )
                self.slider = gr.ImageSlider(
                    label="Original and heatmap",
                    show_label=False,
                    interactive=False,
                    visible=False,
                    elem_id="compare",
                )
                self.bar = gr.HTML(elem_id="colour-bar")
            with gr.Column(scale=1, min_width=220, elem_id="controls"):
                self.opacity = gr.Slider(0, 1, 0.7, step=0.05, label="Opacity", elem_id="opacity")
                self.layer = gr.Radio(
                    [MEAN, *layer_names(LAYERS)],
                    value=MEAN,
                    label="Layer",
                    info="Shallow: edges and texture. Deep: shapes and things.",
                    elem_id="layer",
                )
                # A dropdown tells a choice twice by mouse, so all would be computed twice.
                self.parts = gr.Radio(
                    [(words, parts) for parts, words in CLOSER.items()],
                    value=1,
                    label="Look closer",
                    info="Reads the images in parts, so that small things show. Takes longer.",
                    elem_id="parts",
                )
                self.colour_map = gr.Dropdown(
                    [(COLOUR_NAMES[name], name) for name in COLOUR_MAPS],
                    value=COLOUR_MAPS[0],
                    label="Colours",
                    elem_id="colours",
                )
                self.smooth = gr.Checkbox(True, label="Smooth")
                self.whole = gr.Checkbox(
                    False,
                    label="Show the whole map",
                    info="Below the normals' own differences too.",
                )
                self.compare = gr.Checkbox(False, label="Compare with original")

    def build_provenance(self) -> None:
        """Lays out which normal patch is most similar."""
        gr.Markdown(
            "### Which normal patch is most similar?\n"
            "Click a patch on the map, or give its row and column.",
            elem_classes="ic-heading",
        )
        with gr.Row(elem_id="patch-row"):
            self.row = _patch_number("Row")
            self.column = _patch_number("Column")
        self.provenance = gr.HTML(elem_id="provenance")

    def wire(self) -> None:
        """Connects the events."""
        gr.on(
            [
                self.opacity.input,
                self.layer.input,
                self.colour_map.input,
                self.smooth.input,
                self.whole.input,
                self.compare.input,
                self.row.input,
                self.column.input,
            ],
            self.show_map,
            [self.session, *self.controls],
            self.pictures,
            trigger_mode="always_last",
            show_progress="hidden",
            concurrency_limit=4,
            api_visibility="private",
        ).then(None, js=DESCRIBED, api_visibility="private")
        self.image.select(
            self.pick_patch,
            self.session,
            self.place,
            show_progress="hidden",
            api_visibility="private",
        ).success(
            self.show_map,
            [self.session, *self.controls],
            self.pictures,
            show_progress="hidden",
            api_visibility="private",
        ).then(None, js=DESCRIBED, api_visibility="private")

    @property
    def place(self) -> list[gr.components.Component]:
        """Row and column of the patch that is looked at."""
        return [self.row, self.column]

    @property
    def controls(self) -> list[gr.components.Component]:
        """All that changes how a result is drawn."""
        display = [self.layer, self.colour_map, self.opacity, self.smooth, self.whole]
        return [*display, *self.place, self.compare]

    @property
    def pictures(self) -> list[gr.components.Component]:
        """All that :meth:`shown` draws."""
        return [self.image, self.slider, self.bar, self.provenance]

    def chosen(self, session: Session, controls: Shown) -> Display:
        """How to draw a result, by the values of the controls."""
        return Display(
            offered_layer(session, controls[self.layer]),
            controls[self.colour_map],
            controls[self.opacity],
            controls[self.smooth],
            controls[self.whole],
            controls[self.row],
            controls[self.column],
        )

    def show_map(self, session: Session | None, *values: Any) -> Shown:
        """Draws everything anew after a control has changed."""
        return self.shown(session, dict(zip(self.controls, values, strict=True)))

    def shown(self, session: Session | None, controls: Shown) -> Shown:
        """The map, and the patch that is looked at beside its most similar one."""
        try:
            session = held(session)
            pictures = self.drawn(session, controls)
        except InctrlError as error:
            return {self.provenance: error_html(str(error))}
        try:
            provenance = provenance_html(session, self.chosen(session, controls))
        except InctrlError as error:
            provenance = error_html(str(error))
        return pictures | {self.provenance: provenance}

    def drawn(self, session: Session, controls: Shown) -> Shown:
        """The map alone.

        Raises:
            InctrlError: The controls hold what they do not offer.
        """
        image, bar = heatmap(session, self.chosen(session, controls))
        compare, drawn = controls[self.compare], picture_file(image)
        pair = (picture_file(session.query.image), drawn) if compare else None
        return {
            self.image: gr.Image(value=drawn, visible=not compare),
            self.slider: gr.ImageSlider(value=pair, visible=compare),
            self.bar: bar,
        }

    def offered(self, session: Session, layer: str) -> Shown:
        """The layers that there are maps of, and the parts that the map is of."""
        shown = gr.Radio(layers(session), value=offered_layer(session, layer))
        return {self.layer: shown, self.parts: parts_of(session)}

    def strongest(self, session: Session) -> Shown:
        """Row and column of the patch that differs most."""
        return dict(zip(self.place, strongest_patch(session), strict=True))

    def pick_patch(self, session: Session | None, event: gr.EventData) -> Shown:
        """Turns a click on the map into a row and a column."""
        clicked = sent_place(event)
        if session is None or clicked is None:
            return {self.row: gr.skip()}
        grid = session.score.patch_map.shape[0]
        place = patch_at(session.query.crop_box, grid, *clicked)
        if place is None:
            gr.Info("The model has not seen this part: only the framed square goes in.")
            return {self.row: gr.skip()}
        return {self.row: place[0] + 1, self.column: place[1] + 1}


def parts_of(session: Session | None) -> int:
    """Parts a side of the closer look; 1 where there is none."""
    return 1 if session is None or session.closer is None else session.closer.parts


def _patch_number(label: str) -> gr.Number:
    return gr.Number(1, label=label, precision=0, min_width=80)
