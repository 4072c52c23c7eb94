"""The bar of tabs: the shape of a tab, and links that open the page at one of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

import gradio as gr

# The address follows the tab, so that it can be shared, and the browser's Back leads to the tab
# before. On Spaces the page lies in a frame, and the frame's parent is told of either, as Spaces
# documents it. A page selects its first tab by itself before it has read the link that it was
# opened with, so nothing follows until then.
_TELL = """if (window.parent !== window) {
    window.parent.postMessage({queryString: named.toString()}, 'https://huggingface.co');
  }"""
_READ = """() => {
  document.body.dataset.linkRead = 'yes';
  window.addEventListener('popstate', () => {
    const named = new URL(window.location).searchParams;
    TELL
    const tab = named.get('tab') ?? (named.has('case') ? 'failures' : FIRST);
    document.getElementById(`${tab}-button`)?.click();
  });
}"""
_FOLLOW = """() => {
  if (!document.body.dataset.linkRead) return;
  const address = new URL(window.location), named = address.searchParams;
  if ((named.get('tab') ?? (named.has('case') ? 'failures' : FIRST)) === TAB) return;
  named.delete('case');
  TAB === FIRST ? named.delete('tab') : named.set('tab', TAB);
  window.history.pushState(null, '', address);
  TELL
}"""


class Tab(Protocol):
    """One tab of the page, in a file of its own.

    Attributes:
        id: Its name in a link, ``?tab=ID``, and the ``elem_id`` of its panel.
        title: What the bar shows.
    """

    id: str
    title: str

    def build(self) -> None:
        """Lays out the components; called once, inside the tab's panel."""

    def wire(self) -> None:
        """Connects the events; called once all tabs are built."""


def build_tabs(page: gr.Blocks, tabs: gr.Tabs, contents: Sequence[Tab]) -> None:
    """Fills the bar, connects all tabs, and opens the one that a link names.

    Args:
        page: The page, being composed.
        tabs: The bar, empty, in its place.
        contents: The tabs in their order.
    """
    panels, first = [], contents[0].id
    with tabs:
        for content in contents:
            with gr.Tab(content.title, id=content.id, elem_id=content.id) as panel:
                content.build()
            panels.append(panel)
    for content, panel in zip(contents, panels, strict=True):
        content.wire()
        follow = _fill(_FOLLOW, first, content.id)
        panel.select(None, js=follow, api_visibility="private")
    known = [content.id for content in contents]

    def open_link(request: gr.Request) -> object:
        """Opens the tab that the address names."""
        named = linked_tab(dict(request.query_params), known)
        return gr.skip() if named is None else gr.Tabs(selected=named)

    opened = page.load(open_link, None, tabs, show_progress="hidden", api_visibility="private")
    opened.then(None, js=_fill(_READ, first), api_visibility="private")


def _fill(script: str, first: str, tab: str = "") -> str:
    """A script with the names of the first tab and of its own in their places."""
    names = {"FIRST": json.dumps(first), "TAB": json.dumps(tab), "TELL": _TELL}
    for place, value in names.items():
        script = script.replace(place, value)
    return script


def linked_tab(query: dict[str, str], known: Sequence[str]) -> str | None:
    """The tab that a link names: by ``tab``, or ``failures`` by a ``case``; None where it does not.

    Args:
        query: The parameters of the address.
        known: Names of the tabs.
    """
    named = query.get("tab") or ("failures" if query.get("case") else "")
    return named if named in known else None
