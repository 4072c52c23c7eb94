"""The heatmap of the tab Inspect, what changes how it is drawn, and the like of each patch."""

from __future__ import annotations

import gradio as gr

from ...analysis.closer import PARTS
from ...images.overlay import COLOUR_MAPS, COLOUR_NAMES
from ..common.heatmap import MEAN, layer_names
from ..common.scripts import DESCRIBED
from .handlers import InspectHandlers

LAYERS = 3
CLOSER = {1: "Whole"} | {n: f"{n} × {n}" for n in PARTS[1:]}


class MapView:
    """Components and their events; the tab lays out other things between the two parts.

    Args:
        handlers: What the events do.
        session: The visitor's session.
    """

    def __init__(self, handlers: InspectHandlers, session: gr.State) -> None:
        self.handlers = handlers
        self.session = session

    def build(self) -> None:
        """Lays out the map and what changes it."""
        with gr.Row(elem_id="map-row"):
            with gr.Column(scale=3, min_width=300):
                self.image = gr.Image(
                    label="Heatmap over the image to check",
                    show_label=False,
                    format="jpeg",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                    elem_id="heatmap",
                )
                self.slider = gr.ImageSlider(
                    label="Original and heatmap",
                    show_label=False,
                    format="jpeg",
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
            self.handlers.show_map,
            self.display,
            self.pictures,
            trigger_mode="always_last",
            show_progress="hidden",
            concurrency_limit=4,
            api_visibility="private",
        ).then(None, js=DESCRIBED, api_visibility="private")
        self.image.select(
            self.handlers.pick_patch,
            self.session,
            self.place,
            show_progress="hidden",
            api_visibility="private",
        ).success(
            self.handlers.show_map,
            self.display,
            self.pictures,
            show_progress="hidden",
            api_visibility="private",
        ).then(None, js=DESCRIBED, api_visibility="private")

    @property
    def place(self) -> list[gr.components.Component]:
        """Row and column of the patch that is looked at."""
        return [self.row, self.column]

    @property
    def display(self) -> list[gr.components.Component]:
        """The display controls, in the order of :meth:`.InspectHandlers.show_map`."""
        return [
            self.session,
            self.layer,
            self.colour_map,
            self.opacity,
            self.smooth,
            self.whole,
            self.row,
            self.column,
            self.compare,
        ]

    @property
    def pictures(self) -> list[gr.components.Component]:
        """The outputs of :meth:`.InspectHandlers.show_map`."""
        return [self.image, self.slider, self.bar, self.provenance]


def _patch_number(label: str) -> gr.Number:
    return gr.Number(1, label=label, precision=0, min_width=80)
