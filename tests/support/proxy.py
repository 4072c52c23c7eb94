"""A small reverse proxy that serves an application under a path, as nginx's ``proxy_pass`` does."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Mount

from tests.support.app_server import free_port

# Between two hops only; the rest passes unchanged.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length"}


def build_proxy(prefix: str, target: str) -> Starlette:
    """The proxy as an application.

    Args:
        prefix: Path that it answers under, taken away before a request is passed on.
        target: Address of the application.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=target, timeout=None) as client:
            app.state.client = client
            yield

    async def forward(request: Request) -> StreamingResponse:
        client: httpx.AsyncClient = proxy.state.client
        kept = {k: v for k, v in request.headers.items() if k not in HOP_BY_HOP}
        kept |= {"x-forwarded-host": request.headers["host"], "x-forwarded-proto": "http"}
        path = request.scope["path"].removeprefix(prefix) or "/"
        outgoing = client.build_request(
            request.method,
            httpx.URL(path=path, query=request.scope["query_string"]),
            headers=kept,
            content=request.stream() if request.method in ("POST", "PUT") else None,
        )
        answer = await client.send(outgoing, stream=True)
        headers = {k: v for k, v in answer.headers.items() if k not in HOP_BY_HOP}
        return StreamingResponse(
            answer.aiter_raw(),
            answer.status_code,
            headers,
            background=BackgroundTask(answer.aclose),
        )

    async def answer(scope: dict, receive: object, send: object) -> None:
        await (await forward(Request(scope, receive)))(scope, receive, send)

    proxy = Starlette(routes=[Mount(prefix, app=answer)], lifespan=lifespan)
    return proxy


@contextmanager
def running_proxy(prefix: str, target: str) -> Iterator[str]:
    """Serves the proxy on a free port; yields the address under the prefix."""
    port = free_port()
    config = uvicorn.Config(
        build_proxy(prefix, target), host="127.0.0.1", port=port, log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}{prefix}/"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
