"""Runs what needs a model where models compute, which may be in another process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
import torch

from ...analysis.inspection import (
    Session,
    open_files,
    open_normals,
    start_session,
)
from ...checkpoints.hub import Progress
from ...config import PreprocessConfig
from ...devices import NO_MEMORY
from ...errors import InctrlError
from ...images.seen import SeenSet
from ...model.detector import Detector
from .models import ModelRegistry


class ModelRunner:
    """Calls steps with a detector: in turns, or on a GPU lent for the call (ZeroGPU).

    Downloads wait for nobody's turn. What goes in and comes out lies on the CPU and can be pickled;
    sessions are moved both ways.

    Args:
        registry: The models.
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self.images = registry.images

    def __call__(
        self,
        step: Callable[..., Any],
        model: str,
        *arguments: Any,
        on_progress: Progress | None = None,
    ) -> Any:
        """The result of ``step(detector, *arguments)``.

        Args:
            step: A function of a module, with the detector as its first argument.
            model: Name of the model in the list.
            *arguments: The others.
            on_progress: Told of a download.

        Raises:
            ModelError: The model is not on the list or does not load.
            InctrlError: Whatever the step refuses; or no GPU was lent.
        """
        # Loaded before its turn, and on this side: what a borrowed process loads ends with it.
        self._registry.get(model, on_progress)
        return self._registry.compute(model, run_step, step, arguments)

    def start_session(
        self,
        model: str,
        files: tuple[Sequence[str], str],
        object_name: str,
        previous: Session | None = None,
        on_progress: Progress | None = None,
    ) -> Session:
        """:func:`.session.start_session`, with images that are opened before the model's turn.

        Args:
            model: Name of the model in the list.
            files: Paths of the normals, and of the query.
            object_name: What the images show.
            previous: The visitor's last session.
            on_progress: Told of a download.

        Raises:
            InctrlError: Anything in the input cannot be used.
        """
        config = self.sees(model, on_progress)
        opened = open_files(config, model, files, previous, self.images)
        return self(start_session, model, model, files, object_name, previous, opened)

    def open_normals(
        self,
        model: str,
        files: Sequence[str],
        previous: Session | None = None,
        on_progress: Progress | None = None,
    ) -> SeenSet | None:
        """:func:`.session.open_normals` for a model of the list."""
        config = self.sees(model, on_progress)
        return open_normals(config, model, files, previous, self.images)

    def sees(self, model: str, on_progress: Progress | None = None) -> PreprocessConfig:
        """How a model of the list sees images; it is loaded if need be."""
        return self._registry.get(model, on_progress).config.preprocess


def run_step(detector: Detector, step: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The result of ``step(detector, *arguments)``, with sessions on the model's device.

    Raises:
        InctrlError: Whatever the step refuses; or there is too little memory.
    """
    device = detector.backbone.device
    try:
        outcome = step(detector, *(_move(argument, device) for argument in arguments))
    except torch.OutOfMemoryError:
        raise InctrlError(NO_MEMORY) from None
    return _move(outcome, "cpu")


def _move(value: Any, device: torch.device | str) -> Any:
    return value.to(device) if isinstance(value, Session) else value


def download_progress(progress: gr.Progress) -> Progress:
    """Shows a download in the page's progress bar."""

    def show(arrived: int, expected: int | None) -> None:
        megabytes = f"{arrived / 1e6:.0f}" + (f" of {expected / 1e6:.0f}" if expected else "")
        share = arrived / expected if expected else None
        progress(share, desc=f"Downloading the model, {megabytes} MB, once")

    return show
