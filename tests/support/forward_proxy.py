"""A small forward proxy, as companies have them: it passes requests on, or refuses them."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ForwardProxy:
    """What the proxy does, and what it was asked for.

    Attributes:
        status: What it answers in place of passing a request on; None to pass it on.
        url: Its address while it runs.
        asked: The addresses that it was asked for.
    """

    status: int | None = None
    url: str = ""
    asked: list[str] = field(default_factory=list)


@contextmanager
def running_forward_proxy(status: int | None = None) -> Iterator[ForwardProxy]:
    """Serves a proxy on a free port of the loopback interface."""
    proxy = ForwardProxy(status)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


class _Handler(BaseHTTPRequestHandler):
    proxy: ForwardProxy
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        """Names the host; this proxy opens no tunnels."""
        self.proxy.asked.append(self.path)
        self._answer(self.proxy.status or 502, HTTPMessage(), b"")

    def do_GET(self) -> None:
        self.proxy.asked.append(self.path)
        if self.proxy.status:
            self._answer(self.proxy.status, HTTPMessage(), b"")
            return
        kept = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        request = urllib.request.Request(self.path, headers=kept, method=self.command)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
        try:
            with opener.open(request, timeout=20) as answer:
                self._answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as answer:
            self._answer(answer.code, answer.headers, answer.read())

    do_HEAD = do_GET

    def _answer(self, status: int, headers: HTTPMessage, body: bytes) -> None:
        self.send_response(status)
        length = headers.get("Content-Length", str(len(body)))
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read ``proxy.asked`` instead."""
