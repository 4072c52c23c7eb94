"""The scoring as tools for language models (Model Context Protocol)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import gradio as gr

from ...config import MAX_SHOTS
from ...model.evidence import DECIDE, LOOKS_FOR
from ..common.form import MODEL_QUEUE, UploadedFile
from ..common.models import ModelRegistry
from .api import ScoreApi

NORMALS = tuple(f"normal_{number}" for number in range(1, MAX_SHOTS + 1))

_ABOUT = """{does} 1 to {most} normal images of the same kind.

Args:
    query: The image to check.
    normal_1: A normal image of the same kind of object.
{others}
    object_name: What the images show, for example "metal nut".
    model: One of the offered models.
    looks_for: "flaw" (in the thing), "kind" (another kind of thing), or "decide" (as the normals
        suggest).
    defect: An image of a known defect: what is more like it than like the normals scores higher.
    ignored: An image of a normal's proportions; what is not black in it marks the part of the
        picture that does not count.

Returns:
    {returns}
"""
_OTHER = "    {}: Another one; more make the result more reliable."
_SCORE = (
    "The anomaly score (fused) and its parts in [0, 1]; the 15 x 15 map of differences; the part "
    "of the query that was seen, and whether its width and height are in another proportion than "
    "those of every normal (then the score means little). copy_of names the normal that the query "
    "is or is a copy of, if any (then the score says nothing); normal_range has the scores of the "
    "normals against each other, without copies; threshold is the score above which an image "
    "counts as anomalous, grade says how far above it this one lies."
)
_HEATMAP = "The query under a heatmap: yellow where it differs most."


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
            normals = [gr.File(label=f"Normal image {n}") for n in range(1, MAX_SHOTS + 1)]
            object_name = gr.Textbox(label="Object name", value="object")
            model = gr.Dropdown(self.registry.names, value=self.registry.default, label="Model")
            looks_for = gr.Dropdown(LOOKS_FOR, value=DECIDE, label="Looks for")
            defect = gr.File(label="Image of a defect")
            ignored = gr.File(label="Mask of the part to ignore")
            score = gr.JSON(label="Score")
            heatmap = gr.Image(label="Heatmap over the query")
        inputs = [query, *normals, object_name, model, looks_for, defect, ignored]
        compared = "Says how anomalous an image is, compared with"
        tools = (
            (described(self._score_image, "score_image", compared, _SCORE), score),
            (
                described(
                    self._show_heatmap,
                    "show_heatmap",
                    "Shows where an image differs from",
                    _HEATMAP,
                ),
                heatmap,
            ),
        )
        for tool, output in tools:
            gr.Button(visible=False).click(
                tool,
                inputs,
                output,
                preprocess=False,
                **MODEL_QUEUE,
                api_name=tool.__name__,
            )

    def _score_image(self, query: UploadedFile, *given: Any) -> dict[str, Any]:
        return self._score(query, *given)[0]

    def _show_heatmap(self, query: UploadedFile, *given: Any) -> str:
        return self._score(query, *given)[1]

    def _score(self, query: UploadedFile, *given: Any) -> tuple[dict[str, Any], str]:
        *normals, object_name, model, looks_for, defect, ignored = given
        return self.api.score(
            [file for file in normals if file],
            query,
            object_name,
            model,
            looks_for,
            defects=[defect] if defect else None,
            ignored=ignored,
        )


def described(
    function: Callable[..., Any], name: str, does: str, returns: str
) -> Callable[..., Any]:
    """A function as a tool with a parameter for each image.

    Written out, sixteen parameters that differ in a number would stand there twice.

    Args:
        function: Takes the query, the normals, and what is common to both tools, in their order.
        name: Name of the tool.
        does: What it does, up to "1 to 16 normal images".
        returns: What it returns.
    """

    def tool(*given: Any) -> Any:
        return function(*given)

    others = "\n".join(map(_OTHER.format, NORMALS[1:]))
    tool.__doc__ = _ABOUT.format(does=does, most=MAX_SHOTS, others=others, returns=returns)
    tool.__name__ = name
    kinds = {"query": UploadedFile} | dict.fromkeys(NORMALS, UploadedFile)
    kinds |= {"object_name": str, "model": str, "looks_for": str}
    tool.__annotations__ = kinds | {"defect": UploadedFile, "ignored": UploadedFile}
    defaults = dict.fromkeys((*NORMALS[1:], "defect", "ignored"))
    defaults |= {"object_name": "object", "model": "", "looks_for": DECIDE}
    empty, either = inspect.Parameter.empty, inspect.Parameter.POSITIONAL_OR_KEYWORD
    tool.__signature__ = inspect.Signature(
        [
            inspect.Parameter(key, either, default=defaults.get(key, empty), annotation=kind)
            for key, kind in tool.__annotations__.items()
        ]
    )
    return tool
