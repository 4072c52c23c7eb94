"""The scoring as tools for language models (Model Context Protocol)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from PIL import Image

from ..common.form import MODEL_QUEUE, UploadedFile
from ..common.models import ModelRegistry
from .api import ScoreApi


class McpTools:
    """The tools ``score_image`` and ``show_heatmap``: ``/score`` in two, a parameter an image.

    Gradio turns the addresses that a language model gives into files only where a parameter is one
    file, never in a list, and returns an image as one only where it is the sole result. So
    ``/score`` itself cannot be a tool.

    Args:
        registry: The models.
        api: What does the work.
    """

    def __init__(self, registry: ModelRegistry, api: ScoreApi) -> None:
        self.registry = registry
        self.api = api

    def build(self) -> None:
        """Registers the tools."""
        with gr.Group(visible=False):
            query = gr.File(label="Query image")
            normals = [gr.File(label=f"Normal image {number}") for number in (1, 2, 3, 4)]
            object_name = gr.Textbox(label="Object name", value="object")
            model = gr.Dropdown(self.registry.names, value=self.registry.default, label="Model")
            score = gr.JSON(label="Score")
            heatmap = gr.Image(label="Heatmap over the query", format="jpeg")
        inputs = [query, *normals, object_name, model]
        self._register(self.score_image, inputs, score)
        self._register(self.show_heatmap, inputs, heatmap)

    def score_image(
        self,
        query: UploadedFile,
        normal_1: UploadedFile,
        normal_2: UploadedFile = None,
        normal_3: UploadedFile = None,
        normal_4: UploadedFile = None,
        object_name: str = "object",
        model: str = "",
    ) -> dict[str, Any]:
        """Says how anomalous an image is, compared with 1 to 4 normal images of the same kind.

        Args:
            query: The image to check.
            normal_1: A normal image of the same kind of object.
            normal_2: Another one; two or more make the result more reliable.
            normal_3: Another one.
            normal_4: Another one.
            object_name: What the images show, for example "metal nut".
            model: One of the offered models.

        Returns:
            The anomaly score (fused) and its parts in [0, 1], the 15 x 15 map of differences,
            the part of the query that was seen, and whether its width and height are in another
            proportion than those of every normal (then the score means little). copy_of names the
            normal that the query is or is a copy of, if any (then the score says nothing);
            normal_range has the scores of the normals against each other, without copies;
            threshold is the score above which an image counts as anomalous, grade says how far
            above it this one lies.
        """
        normals = [file for file in (normal_1, normal_2, normal_3, normal_4) if file]
        return self.api.score(normals, query, object_name, model)[0]

    def show_heatmap(
        self,
        query: UploadedFile,
        normal_1: UploadedFile,
        normal_2: UploadedFile = None,
        normal_3: UploadedFile = None,
        normal_4: UploadedFile = None,
        object_name: str = "object",
        model: str = "",
    ) -> Image.Image:
        """Shows where an image differs from 1 to 4 normal images of the same kind.

        Args:
            query: The image to check.
            normal_1: A normal image of the same kind of object.
            normal_2: Another one; two or more make the result more reliable.
            normal_3: Another one.
            normal_4: Another one.
            object_name: What the images show, for example "metal nut".
            model: One of the offered models.

        Returns:
            The query under a heatmap: yellow where it differs most.
        """
        normals = [file for file in (normal_1, normal_2, normal_3, normal_4) if file]
        return self.api.score(normals, query, object_name, model)[1]

    def _register(
        self, tool: Callable[..., Any], inputs: list[gr.components.Component], output: Any
    ) -> None:
        gr.Button(visible=False).click(
            tool,
            inputs,
            output,
            preprocess=False,
            **MODEL_QUEUE,
            api_name=tool.__name__,
        )
