"""The server under the page: Gradio's launch with its own socket, limits and checks.

Gradio asks itself for a page at its start, and through whatever proxy the environment names; it
tries ports on IPv4 alone; and its server waits for ever for half a request.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import gradio as gr
import httpx
import uvicorn
from gradio import blocks, http_server
from starlette.types import ASGIApp

from .connections import TimedProtocol
from .listening import BACKLOG, Place, listen, page_address
from .origins import OriginCheck

START_SECONDS = 120
END_SECONDS = 3


class Server(http_server.Server):
    """A server of sockets that listen already.

    Args:
        app: The application.
        sockets: Where it is served.
    """

    def __init__(self, app: ASGIApp, sockets: list[socket.socket]) -> None:
        self._sockets = sockets
        config = uvicorn.Config(
            app,
            # Not to listen: where GPUs are lent, forked processes close what is of this port.
            port=sockets[0].getsockname()[1],
            http=TimedProtocol,
            log_config=None,  # To the program's own log, which is bounded.
            log_level="warning",
            access_log=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=END_SECONDS,
        )
        super().__init__(config)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until told to end."""
        super().run(self._sockets)

    def run_in_thread(self) -> None:
        """Starts to serve; Gradio's own gives a busy computer five seconds."""
        self.thread = threading.Thread(target=self.run, daemon=True, name="server")
        self.thread.start()
        end = time.monotonic() + START_SECONDS
        while not self.started:
            if not self.thread.is_alive() or time.monotonic() > end:
                raise RuntimeError("the server did not start; see the log")
            time.sleep(0.005)


class _Direct:
    """The module httpx, but for requests of this process to itself, which pass no proxy."""

    def __getattr__(self, name: str) -> Any:
        return getattr(httpx, name)

    @staticmethod
    def get(url: str, **options: Any) -> httpx.Response:
        return httpx.get(url, trust_env=False, **options)


@contextmanager
def own_server(page: gr.Blocks, place: Place) -> Iterator[None]:
    """Makes Gradio's launch serve with :class:`Server`, at this place.

    Args:
        page: What is launched.
        place: Where to listen.

    Raises:
        InctrlError: Nothing can listen there.
    """

    def start_server(
        app: ASGIApp, server_name: str | None = None, server_port: int | None = None, **_: Any
    ) -> tuple[str, int, str, Server]:
        # With server-side rendering Node listens at the place, and this server on another port.
        ports = place.ports if server_port is None else [server_port]
        sockets, port = listen(Place(place.host, ports, place.said))
        local = all(_is_local(opened) for opened in sockets)
        own = {place.host, *(opened.getsockname()[0] for opened in sockets)}
        checked = OriginCheck(app, own, not local, lambda: [page.share_url or ""])
        server = Server(checked, sockets)
        server.running_app = app
        server.run_in_thread()
        return place.host, port, page_address(place.host, port), server

    with ExitStack() as stack:
        stack.enter_context(_replaced(http_server, "start_server", start_server))
        stack.enter_context(_replaced(blocks, "httpx", _Direct()))
        yield


def use_no_proxy_for_tools() -> None:
    """Makes the tools for language models call this process past any proxy, for good."""
    from gradio import mcp
    from gradio_client import Client

    class DirectClient(Client):
        def __init__(self, src: str, **options: Any) -> None:
            super().__init__(src, httpx_kwargs={"trust_env": False}, **options)

    mcp.Client = DirectClient


def _is_local(opened: socket.socket) -> bool:
    return ipaddress.ip_address(opened.getsockname()[0].partition("%")[0]).is_loopback


@contextmanager
def _replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
