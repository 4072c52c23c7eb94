"""Results as pages of their own: a single file to keep, print or send."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from .theme import read_css

# Nothing in the file runs, and nothing is fetched when it is opened.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = Path(__file__).with_suffix(".css")


def document(title: str, parts: Sequence[str]) -> str:
    """One HTML document that needs nothing else.

    Args:
        title: Plain text.
        parts: Markup; its pictures are data URIs.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title>"
        f"<style>{read_css()}{STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )
