"""Where images that ship with the project come from, and the terms of their use."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Origin:
    """Where images come from, and the terms of their use.

    Attributes:
        title: Name of the source.
        author: Who made it.
        url: Its page; None where there is none.
        licence: Name of the licence.
        licence_url: Page of the licence; None where there is none.
        changes: How these images differ from the source's.
    """

    title: str
    author: str
    url: str | None
    licence: str
    licence_url: str | None
    changes: str


def read_origin(entry: Mapping[str, Any]) -> Origin:
    """The origin that an entry of a JSON file tells in ``source``, ``licence`` and ``changes``.

    Raises:
        KeyError: A field is missing.
    """
    source, licence = entry["source"], entry["licence"]
    return Origin(
        title=source["title"],
        author=source["author"],
        url=source["url"],
        licence=licence["name"],
        licence_url=licence["url"],
        changes=entry["changes"],
    )


def origin_html(origin: Origin) -> str:
    """Source, author, licence and changes in a line, with links."""
    return (
        f"Source: {_link(origin.title, origin.url)}, by {html.escape(origin.author)}. "
        f"Licence: {_link(origin.licence, origin.licence_url)}. "
        f"Changes: {html.escape(origin.changes)}"
    )


def _link(text: str, url: str | None) -> str:
    told = html.escape(text)
    if url is None:
        return told
    return f'<a href="{html.escape(url)}" target="_blank" rel="noopener">{told}</a>'
