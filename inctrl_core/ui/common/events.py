"""The data that a script of the page sends with an event; a program may send anything instead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gradio as gr


def sent(event: gr.EventData) -> Mapping[str, Any]:
    """The fields that were sent; none where something else was."""
    data = event._data  # Gradio has no public name for all of them.
    return data if isinstance(data, Mapping) else {}


def sent_text(event: gr.EventData, key: str) -> str | None:
    """A field that is text; None where it is missing or something else."""
    value = sent(event).get(key)
    return value if isinstance(value, str) else None


def sent_place(event: gr.EventData) -> tuple[float, float] | None:
    """The place in an image that was clicked, x and y in its pixels; None for anything else."""
    place = sent(event).get("index")
    if not isinstance(place, list | tuple) or len(place) != 2:
        return None
    if not all(isinstance(side, int | float) and math.isfinite(side) for side in place):
        return None
    return place[0], place[1]
