"""The page as a server of tools for language models, called by the protocol's own client."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult, Tool
from PIL import Image

from inctrl_core.loading import DEFAULT_MODEL, load_detector
from inctrl_core.ui import addresses
from inctrl_core.ui.examples import ExampleSet, load_examples
from tests.app_server import running_app


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running_app(tools=True) as url:
        yield f"{url.rstrip('/')}/gradio_api/mcp/"


def data_uri(path: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()


def ask(address: str, tool: str = "", arguments: dict[str, str] | None = None) -> Any:
    """Lists the tools, or calls one."""

    async def talk() -> list[Tool] | CallToolResult:
        async with streamablehttp_client(address) as (read, write, _):
            async with ClientSession(read, write) as session:
                await session.initialize()
                if not tool:
                    return (await session.list_tools()).tools
                return await session.call_tool(tool, arguments)

    # On a thread of its own: the browser of other tests may keep a loop running on this one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(talk())).result()


@pytest.fixture(scope="module")
def example() -> ExampleSet:
    return load_examples()["washer"]


@pytest.fixture(scope="module")
def arguments(example: ExampleSet) -> dict[str, str]:
    normals = {f"normal_{i + 1}": data_uri(path) for i, path in enumerate(example.normals[:3])}
    query = data_uri(example.queries[example.cover].path)
    return normals | {"query": query, "object_name": "metal washer", "model": DEFAULT_MODEL}


def test_the_tools_say_what_they_take(address):
    tools = ask(address)
    assert {tool.name for tool in tools} == {"score_image", "show_heatmap"}
    for tool in tools:
        assert "normal images" in tool.description
        properties = tool.inputSchema["properties"]
        assert {"query", "normal_1", "normal_4", "object_name", "model"} <= set(properties)
        assert all("description" in schema for schema in properties.values())


def test_a_score_is_the_library_s(address, example, arguments):
    result = ask(address, "score_image", arguments)
    assert not result.isError, result.content
    text = result.content[0].text
    detector = load_detector(DEFAULT_MODEL, device="cpu")
    bank = detector.build_bank([str(path) for path in example.normals[:3]], "metal washer")
    expected = detector.score([str(example.queries[example.cover].path)], bank)[0]
    assert float(re.search(r"'fused': ([\d.]+)", text)[1]) == pytest.approx(expected.fused)
    assert "'shots': 3" in text


def test_a_heatmap_is_an_image(address, example, arguments):
    result = ask(address, "show_heatmap", arguments)
    picture = next(part for part in result.content if part.type == "image")
    with Image.open(io.BytesIO(base64.b64decode(picture.data))) as image:
        assert image.size == Image.open(example.queries[example.cover].path).size


def test_what_cannot_be_used_is_told(address, arguments):
    result = ask(address, "score_image", arguments | {"object_name": "a" * 500})
    assert result.isError
    assert "use at most 80" in result.content[0].text


class Pictures(BaseHTTPRequestHandler):
    """Serves one picture, one without end, and ways to the first."""

    picture = b""

    def do_GET(self) -> None:
        if self.path in ("/moved", "/round"):
            self.send_response(302)
            self.send_header("Location", "/picture.jpg" if self.path == "/moved" else "/round")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/missing" else 200)
        self.end_headers()
        with suppress(OSError):  # The other side has had enough.
            while self.path != "/missing":
                self.wfile.write(self.picture)
                if self.path != "/endless":
                    break

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def pictures(example: ExampleSet, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that counts as a public host."""

    async def allow(host: str) -> str:
        return host

    monkeypatch.setattr(addresses, "async_validate_url", allow)
    monkeypatch.setattr(Pictures, "picture", example.queries[example.cover].path.read_bytes())
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_image_may_be_named_by_its_address(address, arguments, pictures):
    sent = ask(address, "score_image", arguments).content[0].text
    for place in ("/picture.jpg", "/moved"):
        named = ask(address, "score_image", arguments | {"query": pictures + place})
        assert not named.isError and named.content[0].text == sent


@pytest.mark.parametrize(
    ("place", "words"),
    [("/endless", "use at most 40 MB"), ("/missing", "cannot be"), ("/round", "cannot be fetched")],
)
def test_what_lies_at_an_address_has_the_limits_of_an_upload(
    address, arguments, pictures, place, words
):
    result = ask(address, "score_image", arguments | {"query": pictures + place})
    assert result.isError and words in result.content[0].text


def test_an_address_inside_the_host_s_network_is_refused(address, arguments):
    result = ask(address, "score_image", arguments | {"query": "http://127.0.0.1:9/x.png"})
    assert result.isError and "cannot be fetched" in result.content[0].text
