"""The page: header, examples, form, and one tab per file of this package."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from ..analysis.session import SESSION_SECONDS
from ..images.limits import most_bytes
from ..images.seen import Opener, open_here
from .batch.tab import BatchTab
from .common.examples import EXAMPLES, ON_LOAD, ExampleSet
from .common.form import Shared, build_form
from .common.lending import launch
from .common.models import ModelRegistry
from .common.scripts import ACCESS
from .common.theme import build_theme, read_css
from .failures.tab import FailuresTab
from .guard.guard import guard
from .inspect.tab import InspectTab
from .learn.tab import LearnTab
from .live.tab import LiveTab
from .service.api import ScoreApi
from .service.api_analysis import AnalysisApi
from .service.mcp_tools import McpTools
from .serving.listening import find_place
from .serving.server import own_server, use_no_proxy_for_tools
from .stress.tab import StressTab
from .tabs import build_tabs
from .tour.tour import ON_LOAD as ON_TOUR
from .tour.tour import links_html, space_name, tour_html

logger = logging.getLogger(__name__)

TITLE = "InCTRL: find the odd one out from a few normal images"
HEADER = """
<header class="ic-header">
  <h1>InCTRL <span>Find what is wrong from a few images of what is right</span></h1>
  <p>Give 1 to 16 normal images of one kind of object. A new image is compared with them,
  piece by piece. You get one anomaly score, a map of where the image differs, and how well it
  matches phrases for damage. Nothing is trained on your images.</p>
  {links}
</header>
"""
QUEUE_SIZE = 64

# On phones Gradio hides the link to the API, but not the dot behind it; its footer lies outside of
# what the page's own styles reach.
FOOTER_STYLE = "<style>@media (width <= 640px) { footer .divider { display: none; } }</style>"


def build_page(
    registry: ModelRegistry, examples: Mapping[str, ExampleSet], tools: bool = False
) -> gr.Blocks:
    """Composes the application.

    Args:
        registry: The models on offer.
        examples: The example sets.
        tools: Offer the scoring to language models as well, for a launch with ``mcp_server=True``.
    """
    # Uploads and pictures go with the visitor's session: looked for hourly, gone after two hours.
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(SESSION_SECONDS, 2 * SESSION_SECONDS),
    ) as page:
        session, choices = (gr.State(None, time_to_live=SESSION_SECONDS) for _ in range(2))
        head = HEADER.format(links=links_html(space_name())) + tour_html()
        gr.HTML(head, js_on_load=ON_TOUR, elem_id="head")
        with gr.Column(elem_id="main"):
            gallery_place = gr.Column(elem_id="gallery-place")
            with gr.Column(min_width=300, elem_id="form"):
                # Above the form: to compare the images of an example is the next thing to try.
                with gr.Column(elem_id="queries-place"):
                    queries = gr.HTML("", js_on_load=ON_LOAD, elem_id="queries")
                form = build_form(registry, queries)
            tabs = gr.Tabs(elem_id="tabs", overflow_behavior="wrap")
        shared = Shared(registry, examples, form, session, choices, page, tabs)
        inspect = InspectTab(shared)
        with gallery_place:
            inspect.build_gallery()
        contents = [
            inspect,
            BatchTab(shared, inspect.open_after),
            LiveTab(shared),
            StressTab(shared),
            FailuresTab(shared, inspect.open_after),
            LearnTab(shared, inspect.result.follow),
        ]
        build_tabs(page, tabs, contents)
        page.load(None, js=ACCESS, api_visibility="private")
        api = ScoreApi(registry)
        visibility = "undocumented" if tools else "public"
        api.build(visibility)
        AnalysisApi(registry).build(visibility)
        if tools:
            McpTools(registry, api).build()
    page.queue(max_size=QUEUE_SIZE, default_concurrency_limit=4)
    return page


def launch_options(examples: Path = EXAMPLES) -> dict[str, Any]:
    """The options that every launch of the page needs, whatever its host and port.

    Args:
        examples: Folder of the example sets, the only files of the project that are served.
    """
    return {
        "theme": build_theme(),
        "css": read_css(),
        "head": FOOTER_STYLE,
        "allowed_paths": [os.fspath(examples)],
        "max_file_size": most_bytes(),
        "footer_links": ["api", "settings"],
        # Unforeseen errors keep their details in the log; foreseen ones are shown by the page.
        "show_error": False,
        # Anyone could read there what others do.
        "enable_monitoring": False,
    }


def launch_page(
    page: gr.Blocks, *, mcp_server: bool, images: Opener = open_here, **options: Any
) -> None:
    """Serves the page and comes back, its address printed.

    Args:
        page: The result of :func:`build_page`.
        mcp_server: Whether it offers its tools to language models, which send addresses of images.
        images: Opens the uploads that are shown; in this process unless another is given.
        options: More for ``launch``; ``quiet`` prints nothing.

    Raises:
        InctrlError: Nothing can listen there, or a variable of Gradio's is not a number.
    """
    place = find_place(options.pop("server_name", None), options.get("server_port"))
    quiet = options.pop("quiet", False)
    if ":" in place.host:
        options["ssr_mode"] = False  # Node's server is looked for on IPv4 alone.
    if mcp_server:
        use_no_proxy_for_tools()
    with own_server(page, place):
        launch(
            page,
            server_name=place.host,
            mcp_server=mcp_server,
            prevent_thread_lock=True,
            quiet=True,
            _frontend=False,  # The server has started, so it need not be asked for its page.
            **options,
            **launch_options(),
            **guard(page, images, addresses=mcp_server),
        )
    if page.mcp_error:
        logger.error("%s", page.mcp_error)
    if not quiet:
        sys.stdout.write(f"* Running on local URL:  {page.local_url.rstrip('/')}\n")
        sys.stdout.flush()
