"""The pieces of markup, and of sentences, that several tabs share."""

from __future__ import annotations

import base64
import html
import io

from PIL import Image


def error_html(message: str) -> str:
    """One sentence about what went wrong, for the place where the result would be."""
    return f'<div class="ic-error" role="alert">{html.escape(message)}</div>'


def term(word: str, meaning: str) -> str:
    """A word with its meaning, shown when it is pointed at or reached by keyboard or touch."""
    return (
        f'<span class="ic-term" tabindex="0">{html.escape(word)}'
        f'<span role="tooltip">{html.escape(meaning)}</span></span>'
    )


def jpeg_uri(image: Image.Image, quality: int = 88) -> str:
    """An image as a JPEG data URI."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def count_words(number: int, what: str) -> str:
    """A number and its noun, such as "1 image" or "3 images"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
