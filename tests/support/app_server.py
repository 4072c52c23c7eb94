"""The whole application on a free port, as ``app.py`` starts it, for tests to visit."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.images.workers import DecodingPool
from inctrl_core.ui.common.examples import load_examples
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.page import build_page, launch_page


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_app(
    tools: bool = False, sources: dict[str, str | Path] | None = None, **options: Any
) -> Iterator[str]:
    """Serves the page; yields its address.

    Its uploads go to the folder that GRADIO_TEMP_DIR names at this time.

    Args:
        tools: Offer the MCP tools as well.
        sources: Models; the embedded one where there are none.
        options: More for ``launch``.
    """
    sources = sources or {DEFAULT_MODEL: DEFAULT_MODEL}
    with DecodingPool() as images:
        registry = ModelRegistry(sources, device="cpu", images=images)
        page = build_page(registry, load_examples(), tools)
        where = {"server_name": "127.0.0.1", "server_port": free_port()}
        launch_page(page, mcp_server=tools, images=images, quiet=True, **where, **options)
        registry.warm_up()
        try:
            yield page.local_url
        finally:
            page.close()
