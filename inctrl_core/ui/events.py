"""What a script of the page sends along with an event; a program may send anything in its place."""

from __future__ import annotations

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
