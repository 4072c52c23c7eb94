"""Runs what needs a model where the GPU is, which may be in another process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..devices import NO_MEMORY, gpu_task
from ..errors import InctrlError
from ..hub import Progress
from .models import ModelRegistry
from .session import Session

GPU_SECONDS = 60


class ModelRunner:
    """Calls steps with a detector, on a GPU lent for the call where the host lends GPUs (ZeroGPU).

    One step at a time computes, in the order of the calls; downloads wait for nobody's turn.

    What goes in and comes out lies on the CPU and can be pickled; sessions are moved both ways.

    Args:
        registry: The models.
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

        # A closure, so that the registry and its detectors are not among what is pickled.
        @gpu_task(GPU_SECONDS)
        def run_there(step: Callable[..., Any], model: str, arguments: tuple[Any, ...]) -> Any:
            detector = registry.get(model)
            device = detector.backbone.device
            try:
                outcome = step(detector, *(_move(argument, device) for argument in arguments))
            except torch.OutOfMemoryError:
                return InctrlError(NO_MEMORY)
            except InctrlError as error:
                return error  # As a result: an exception would cross without its sentence.
            return _move(outcome, "cpu")

        self._run_there = run_there

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
            InctrlError: Whatever the step refuses.
        """
        # Loaded on this side: what a borrowed process loads is gone when it ends.
        self._registry.get(model, on_progress)
        outcome = self._registry.compute(self._run_there, step, model, arguments)
        if isinstance(outcome, InctrlError):
            raise outcome
        return outcome


def _move(value: Any, device: torch.device | str) -> Any:
    return value.to(device) if isinstance(value, Session) else value
