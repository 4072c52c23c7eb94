"""The browser application: ``python app.py``, then open the address it prints."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

# The page works without a network, and says nothing to anyone.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Where another process wants a core, as on a shared host or with the browser on the same computer,
# the threads of one forward pass spin while they wait for each other, and a query took 620 ms in
# place of 21; with a short spin it takes 81, and 22 where nobody else works.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def build_parser() -> argparse.ArgumentParser:
    """The command line of the application."""
    parser = argparse.ArgumentParser(description=__doc__)
    # None leaves both to GRADIO_SERVER_NAME and GRADIO_SERVER_PORT, which Spaces sets.
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 7860)")
    parser.add_argument("--share", action="store_true", help="open a public link (needs a network)")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME_OR_PATH",
        help="offer this model, the first one as the default: name, directory, .safetensors file "
        "of a backbone, or USER/REPO; may be repeated",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    heads = "heads for models from the Hub that have none (default: INCTRL_HEADS)"
    parser.add_argument("--heads", metavar="DIR_OR_REPO", help=heads)
    parser.add_argument(
        "--precision",
        help="float32, bfloat16, float16 or auto (default: INCTRL_PRECISION, else float32)",
    )
    parser.add_argument(
        "--mcp",
        action="store_true",
        default=os.environ.get("GRADIO_MCP_SERVER", "").lower() in ("1", "true"),
        help="offer the scoring to language models as well, at /gradio_api/mcp/",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Composes the page and serves it until interrupted (Ctrl-C) or told to end (SIGTERM).

    Returns:
        Exit status.
    """
    arguments = build_parser().parse_args(argv)
    # At once, for libraries swallow exceptions while they are imported; nothing is to be left yet.
    before = [signal.signal(number, lambda *_: os._exit(0)) for number in SIGNALS]
    try:
        return serve(arguments)
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def serve(arguments: argparse.Namespace) -> int:
    """Loads, composes and launches.

    Args:
        arguments: Of :func:`build_parser`.

    Returns:
        Exit status.
    """
    if arguments.heads:
        os.environ["INCTRL_HEADS"] = arguments.heads
    if arguments.precision:
        os.environ["INCTRL_PRECISION"] = arguments.precision
    from inctrl_core.checkpoints.proxies import hidden_proxies
    from inctrl_core.errors import InctrlError
    from inctrl_core.images.workers import DecodingPool
    from inctrl_core.ui.common.log import start_log
    from inctrl_core.ui.serving.ending import Ending
    from inctrl_core.ui.serving.memory import return_large_blocks
    from inctrl_core.ui.serving.settings import check_settings
    from inctrl_core.ui.serving.uploads import own_uploads

    start_log()
    return_large_blocks()
    try:
        with Ending() as ending:
            check_settings()
            ending.enter(own_uploads())  # Before Gradio, which reads its folder when imported.
            with hidden_proxies():  # Gradio makes a client then, which stumbles over some.
                from inctrl_core.ui.page import build_page, launch_page
            from inctrl_core.ui.common.examples import load_examples
            from inctrl_core.ui.common.models import ModelRegistry, find_sources

            images = ending.enter(DecodingPool())
            sources = find_sources(arguments.model)
            registry = ModelRegistry(sources, arguments.device, images=images)
            page = build_page(registry, load_examples(), tools=arguments.mcp)
            where = {"server_name": arguments.host, "server_port": arguments.port}
            where |= {"share": arguments.share, "mcp_server": arguments.mcp}
            launch_page(page, images=images, **where)
            registry.warm_up()
            ending.wait(page.close)
    except InctrlError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
