"""The bar of tabs: the shape of a tab, and links that open the page at one of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

import gradio as gr

# The address follows the tab, so that it can be shared, and the browser's Back leads to the tab
# before. On Spaces the page lies in a frame, and the frame's parent is told of either, as Spaces
# documents it.
_TELL = """if (window.parent !== window) {
    window.parent.postMessage({queryString: named.toString()}, 'https://huggingface.co');
  }"""
_NAMED = "(named.get('tab') ?? (named.has('case') ? 'failures' : FIRST))"
# Nothing is asked of the server here: Gradio closes its stream of answers after the last one, and
# a click that came just then would wait for ever.
_OPEN = """() => {
  const open = named => {
    const button = document.querySelector(`[role=tab][id="${CSS.escape(NAMED)}-button"]`);
    button?.click();
    return button;
  };
  const address = new URL(window.location), named = address.searchParams;
  if (NAMED !== FIRST && !open(named)) {
    named.delete('tab');
    window.history.replaceState(null, '', address);
    open(named);
  }
  if (NAMED === FIRST) document.body.dataset.linkRead = 'yes';
  window.addEventListener('popstate', () => {
    const named = new URL(window.location).searchParams;
    TELL
    open(named);
  });
}"""
# A page selects its first tab by itself, and says so before or after it has read the link that it
# was opened with, so nothing follows until the tab of the link is selected.
_FOLLOW = """() => {
  const address = new URL(window.location), named = address.searchParams;
  if (NAMED === TAB) document.body.dataset.linkRead = 'yes';
  if (NAMED === TAB || !document.body.dataset.linkRead) return;
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
    page.load(None, js=_fill(_OPEN, first), api_visibility="private")


def _fill(script: str, first: str, tab: str = "") -> str:
    """A script with the names of the first tab and of its own in their places."""
    names = {"NAMED": _NAMED, "FIRST": json.dumps(first), "TAB": json.dumps(tab), "TELL": _TELL}
    for place, value in names.items():
        script = script.replace(place, value)
    return script
