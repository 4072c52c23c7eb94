"""Work in steps that each hold a model for an instant, so that others get in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..model.detector import Detector

# ``step(function, *arguments)`` gives ``function(detector, *arguments)``, wherever that computes.
Step = Callable[..., Any]
# Told before each step how many are done, of how many.
Progress = Callable[[int, int], None]


def steps_of(detector: Detector) -> Step:
    """Steps that are computed at once, by this detector."""

    def step(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(detector, *arguments)

    return step


def untold(done: int, steps: int) -> None:
    """Progress that nobody wants to know of."""
