"""A visitor's input: normals, query, object name, model. Shared by all tabs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from ...analysis.batch import QueryFile
from ...config import MAX_SHOTS
from ...errors import InctrlError
from ...images.files import plain_name
from ...model.prompts import MAX_OBJECT_NAME
from .choices import linked_choices
from .events import sent
from .examples import ExampleSet, pick_query, queries_html
from .models import ModelRegistry

# Every event that runs the model shares this queue. Several may start, so that those which wait for
# a download leave room for others; they compute one at a time (see ModelRunner): two at once on the
# same cores would both be late.
MODEL_QUEUE = {"concurrency_id": "model", "concurrency_limit": 16}

# What Gradio hands over with preprocess=False, after it has made sure that every path is that of an
# uploaded file: of any visitor's, but nobody can guess the name of another's folder. Gradio's own
# preprocessing would decode the images, before our limits and without our care for 16 bits, CMYK
# and transparency.
UploadedFile = dict[str, Any] | None
UploadedFiles = list[dict[str, Any]] | None
UploadedGallery = list[dict[str, Any]] | None

Shown = dict[gr.components.Component, Any]  # Values by the component that shows them.

# Opens a result in the tab Inspect once an event has put its session in place.
OpenAfter = Callable[[Dependency], Dependency]


# Some systems know no type for these, and a browser then has nothing but the name to go by.
IMAGE_FILES = ["image", ".heic", ".heif", ".hif", ".tif", ".tiff", ".pgm", ".ppm", ".pnm"]


@dataclass(frozen=True)
class Form:
    """The components of the form, and the place for the images of an example beside it."""

    queries: gr.HTML
    normals: gr.Gallery
    load: gr.UploadButton
    query: gr.Image
    object_name: gr.Textbox
    model: gr.Dropdown
    button: gr.Button

    @property
    def filled(self) -> list[gr.components.Component]:
        """The components that an example fills."""
        return [self.normals, self.query, self.object_name, self.queries]

    def fill(self, example: ExampleSet, index: int) -> Shown:
        """An example: its normals, one of its queries, its name, and all its queries beside it."""
        return {
            self.normals: [str(path) for path in example.normals],
            self.query: str(example.queries[index].path),
            self.object_name: example.object_name,
            self.queries: queries_html(example, index),
        }


@dataclass(frozen=True)
class Shared:
    """The parts that every tab is built from.

    Attributes:
        registry: The models.
        examples: The example sets.
        form: Normals, query, object name and model.
        session: The visitor's :class:`Session`, the only place for anything of a visitor's but
            ``choices``.
        choices: The visitor's :class:`.Choices` for normals that are not scored yet, or None.
        page: The page, for what happens when it is opened.
        tabs: The bar; ``gr.Tabs(selected=ID)`` as an output opens a tab.
    """

    registry: ModelRegistry
    examples: Mapping[str, ExampleSet]
    form: Form
    session: gr.State
    choices: gr.State
    page: gr.Blocks
    tabs: gr.Tabs

    @property
    def filled(self) -> list[gr.components.Component]:
        """All that :meth:`open_example` writes."""
        return [*self.form.filled, self.choices]

    def picked(self, event: gr.EventData) -> tuple[ExampleSet, int]:
        """The example whose button was pressed, or that a link named, and the index of its query.

        Raises:
            gr.Error: There is none; in a sentence.
        """
        try:
            return pick_query(self.examples, sent(event))
        except InctrlError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def open_example(self, event: gr.EventData) -> Shown:
        """Handler: fills in the example that was picked."""
        filled = self.form.fill(*self.picked(event))
        threshold = sent(event).get("threshold")
        return filled | {self.choices: linked_choices(filled[self.form.normals], threshold)}


def build_form(registry: ModelRegistry, queries: gr.HTML) -> Form:
    """Lays out the form; the caller wires it.

    Args:
        registry: The models.
        queries: The place for the images of an example, laid out already.
    """
    normals = gr.Gallery(
        label=f"1. Normal images, 1 to {MAX_SHOTS}",
        file_types=IMAGE_FILES,
        columns=4,
        height=252,  # Two rows of images, whole.
        object_fit="cover",
        sources=["upload", "clipboard"],
        buttons=[],
        format="png",  # For frames of the tab Live: as they were scored.
        elem_id="normals",
    )
    load = gr.UploadButton(
        "Open saved normals",
        file_types=[".safetensors"],
        size="sm",
        elem_id="load-normals",
    )
    object_name = gr.Textbox(
        label="2. What is it? (optional)",
        placeholder="for example: metal nut",
        info="A common noun works best: it goes into phrases like “a photo of a damaged …”.",
        max_length=MAX_OBJECT_NAME,
        elem_id="object-name",
    )
    # After the name: tabs without it then count their steps without a gap.
    query = gr.Image(
        label="3. Image to check",
        type="filepath",
        image_mode=None,
        height=190,
        sources=["upload", "clipboard"],
        buttons=[],
        elem_id="query",
    )
    model = gr.Dropdown(
        registry.choices,
        value=registry.default,
        label="Model",
        info="A model that is not on this computer yet is downloaded when first used.",
        visible=len(registry.names) > 1,
        elem_id="model",
    )
    button = gr.Button("Score", variant="primary", size="lg", elem_id="score")
    return Form(queries, normals, load, query, object_name, model, button)


def gallery_paths(data: UploadedGallery) -> tuple[str, ...]:
    """Where the uploaded files lie, unread and unconverted."""
    return tuple(file_path(entry.get("image") or entry.get("video")) for entry in data or ())


def later_choice(component: gr.components.Component) -> gr.components.Component:
    """Marks a value that calls by hand may leave out: an endpoint took none when it was new."""
    component.may_be_left_out = True
    return component


def file_path(data: UploadedFile) -> str:
    """Where an uploaded file lies; empty where there is none."""
    return (data or {}).get("path") or ""


def given_name(data: UploadedFile) -> str:
    """The name that its owner gave an uploaded file, in one line; empty where there is none."""
    return plain_name((data or {}).get("orig_name") or Path(file_path(data)).name)


def gallery_names(data: UploadedGallery) -> tuple[str, ...]:
    """The names of :func:`gallery_paths`."""
    return tuple(given_name(entry.get("image") or entry.get("video")) for entry in data or ())


def check_normals(normals: UploadedGallery) -> dict[str, Any]:
    """Says beside the normals what is wrong with their number."""
    count = len(gallery_paths(normals))
    few = "Add at least one normal image."
    many = f"There are {count} normal images; use at most {MAX_SHOTS}."
    return gr.validate(1 <= count <= MAX_SHOTS, few if count == 0 else many)


def check_form(
    normals: UploadedGallery,
    query: UploadedFile,
    *others: Any,
) -> list[dict[str, Any]]:
    """Says beside each field what is missing, before anything runs."""
    own = check_normals(normals), gr.validate(bool(file_path(query)), "Add the image to check.")
    return [*own, *[gr.validate(True, "")] * len(others)]


def query_files(files: UploadedFiles) -> tuple[QueryFile, ...]:
    """The uploaded files under the names their owner gave them."""
    return tuple(QueryFile(file_path(file), given_name(file)) for file in files or ())


# Beside the visitors' queue: a long analysis takes its turns among them, and no place of theirs.
ANALYSIS_QUEUE = {"concurrency_id": "analysis", "concurrency_limit": 1}
