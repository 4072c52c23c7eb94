"""The page as a server of tools for language models, called by the protocol's own client."""

from __future__ import annotations

import asyncio
import base64
import functools
import gzip
import io
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpcore
import httpx
import numpy as np
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CallToolResult, Tool
from PIL import Image

from inctrl_core.analysis.defects import show_defects
from inctrl_core.analysis.measured_bank import build_measured_bank
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.errors import InctrlError
from inctrl_core.ui.common.examples import ExampleSet
from inctrl_core.ui.guard import addresses
from inctrl_core.ui.guard.addresses import REFUSAL, AddressFetcher
from tests.adversarial.conftest import MemoryPeak
from tests.adversarial.test_faults import wait_until
from tests.support.app_server import running_app
from tests.support.pictures import FIRST


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
    return FIRST.example


@pytest.fixture(scope="module")
def arguments(example: ExampleSet) -> dict[str, str]:
    normals = {f"normal_{i + 1}": data_uri(path) for i, path in enumerate(example.normals[:3])}
    query = data_uri(example.queries[example.cover].path)
    return normals | {"query": query, "object_name": FIRST.object_name, "model": DEFAULT_MODEL}


def test_the_tools_say_what_they_take(address):
    tools = ask(address)
    assert {tool.name for tool in tools} == {"score_image", "show_heatmap"}
    for tool in tools:
        assert "normal images" in tool.description
        properties = tool.inputSchema["properties"]
        assert {"query", "object_name", "model", "looks_for", "defect", "ignored"} <= set(
            properties
        )
        assert [key for key in properties if key.startswith("normal_")] == [
            f"normal_{number}" for number in range(1, 17)
        ]
        assert set(tool.inputSchema["required"]) == {"query", "normal_1"}
        assert all("description" in schema for schema in properties.values())


def test_a_score_is_the_library_s(address, detector, example, arguments):
    result = ask(address, "score_image", arguments)
    assert not result.isError, result.content
    text = result.content[0].text
    bank = detector.build_bank([str(path) for path in example.normals[:3]], FIRST.object_name)
    expected = detector.score([str(example.queries[example.cover].path)], bank)[0]
    assert float(re.search(r"'fused': ([\d.]+)", text)[1]) == pytest.approx(expected.fused)
    assert "'shots': 3" in text


def test_sixteen_normals_are_used(address, example, arguments):
    """Of those that are given, whatever their numbers; the last as well."""
    given = {f"normal_{17 - i}": arguments[f"normal_{i}"] for i in (1, 2)}
    given |= {key: value for key, value in arguments.items() if key != "normal_2"}
    text = ask(address, "score_image", given).content[0].text
    assert "'shots': 4" in text and "'copy_of': 0" in text


def test_a_defect_and_a_part_to_ignore_count_as_in_the_library(
    address, detector, example, arguments
):
    query = example.queries[example.cover].path
    marks = Image.new("L", (60, 60))
    marks.paste(255, (0, 0, 20, 20))
    drawn = io.BytesIO()
    marks.save(drawn, "PNG")
    mask = "data:image/png;base64," + base64.b64encode(drawn.getvalue()).decode()
    normals, part = [str(path) for path in example.normals[:3]], np.asarray(marks) > 0
    measured = build_measured_bank(
        detector, normals, FIRST.object_name, ignored=part, looks_for="flaw"
    )
    bank = show_defects(detector, measured, [str(query)]).bank
    expected = detector.score([str(query)], bank)[0]
    given = arguments | {"defect": data_uri(query), "ignored": mask, "looks_for": "flaw"}
    text = ask(address, "score_image", given).content[0].text
    assert float(re.search(r"'fused': ([\d.]+)", text)[1]) == pytest.approx(expected.fused)
    assert expected.fused > float(
        re.search(r"'fused': ([\d.]+)", ask(address, "score_image", arguments).content[0].text)[1]
    )


def test_a_heatmap_is_an_image(address, example, arguments):
    result = ask(address, "show_heatmap", arguments)
    picture = next(part for part in result.content if part.type == "image")
    with Image.open(io.BytesIO(base64.b64decode(picture.data))) as image:
        assert image.size == Image.open(example.queries[example.cover].path).size


def test_what_cannot_be_used_is_told(address, arguments):
    result = ask(address, "score_image", arguments | {"object_name": "a" * 500})
    assert result.isError
    assert "use at most 80" in result.content[0].text


PACKED = {"/packed": "gzip, gzip", "/odd": "br", "/twice": "identity, gzip", "/x": "x-gzip"}


@functools.cache
def packed() -> bytes:
    """A few bytes that become very many."""
    return gzip.compress(gzip.compress(bytes(200 * 2**20)))


class Pictures(BaseHTTPRequestHandler):
    """Serves one picture, one without end, and ways to the first."""

    picture = b""
    held: list[str] = []
    release = threading.Event()

    def do_GET(self) -> None:
        if self.path in ("/moved", "/round"):
            self.send_response(302)
            self.send_header("Location", "/picture.jpg" if self.path == "/moved" else "/round")
            self.end_headers()
            return
        if self.path.startswith("/held"):
            Pictures.held.append(self.path)
            Pictures.release.wait(60)
        self.send_response(404 if self.path.startswith(("/missing", "/held")) else 200)
        if self.path in PACKED:
            self.send_header("Content-Encoding", PACKED[self.path])
        self.end_headers()
        with suppress(OSError):  # The other side has had enough.
            while not self.path.startswith(("/missing", "/held")):
                self.wfile.write(packed() if self.path in PACKED else self.picture)
                if self.path == "/slow":
                    time.sleep(0.1)
                elif self.path != "/endless":
                    break

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def pictures(example: ExampleSet, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that counts as a public host."""

    async def allow(host: str, threads: object) -> str:
        return host

    monkeypatch.setattr(addresses, "find_public", allow)
    monkeypatch.setattr(Pictures, "held", [])
    monkeypatch.setattr(Pictures, "release", threading.Event())
    monkeypatch.setattr(Pictures, "picture", example.queries[example.cover].path.read_bytes())
    monkeypatch.setattr(ThreadingHTTPServer, "request_queue_size", 300)
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        Pictures.release.set()
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


@pytest.mark.parametrize("place", PACKED)
def test_what_is_packed_is_not_unpacked(place, pictures):
    with MemoryPeak() as memory, pytest.raises(InctrlError, match="cannot be fetched"):
        fetch(pictures + place)
    assert memory.grown < 60 * 2**20


def fetch(*named: str) -> dict[str, Path]:
    return asyncio.run(AddressFetcher().fetch(named))


def test_images_are_fetched_at_once_and_each_once(pictures, monkeypatch):
    with ThreadPoolExecutor(1) as pool:
        names = [f"{pictures}/held{number}" for number in range(17)]
        fetching = pool.submit(fetch, *names, *names)
        wait_until(lambda: len(Pictures.held) >= 17)
        Pictures.release.set()
        with pytest.raises(InctrlError, match="cannot be fetched"):
            fetching.result(timeout=30)
    assert len(Pictures.held) == 17


def test_a_slow_address_has_its_time_and_leaves_nothing(pictures, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(addresses, "SECONDS", 1)
    with pytest.raises(InctrlError, match="cannot be fetched"):
        fetch(pictures + "/picture.jpg", pictures + "/slow")
    assert list(tmp_path.iterdir()) == []


def test_all_images_of_a_request_have_a_limit_together(pictures, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(addresses, "MAX_TOTAL_BYTES", 2 * len(Pictures.picture) + 100)
    assert len(fetch(f"{pictures}/1", f"{pictures}/2")) == 2
    kept = list(tmp_path.iterdir())
    with pytest.raises(InctrlError, match="too large together"):
        fetch(*(f"{pictures}/{number}" for number in range(3)))
    assert list(tmp_path.iterdir()) == kept


HOSTS = ["127.0.0.1", "0177.0.0.1", "0x7f.1", "127.1", "2130706433", "0", "0.0.0.0", "localhost"]
HOSTS += ["localhost.", "127.0.0.1.", "LOCALHOST", "10.0.0.1", "100.64.0.1", "100.127.255.254"]
HOSTS += ["169.254.169.254", "192.168.1.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "240.0.0.1"]
HOSTS += ["255.255.255.255", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:100.64.0.1]"]
HOSTS += ["[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::6440:1]", "[64:ff9b:1::7f00:1]"]
HOSTS += ["[2002:7f00:1::]", "[2002:6440:1::1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]"]
HOSTS += [
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fec0::1]",
    "[fc00::1]",
    "[ff0e::1]",
    "[2001:db8::1]",
    "[3fff::1]",
]
HOSTS += ["user@127.0.0.1", "8.8.8.8@127.0.0.1", "127.0.0.1#@8.8.8.8", "no.such.host.invalid"]
HOSTS += ["", " ", "%00", "a" * 300, "127。0。0。1", "①②⑦.⓪.⓪.①", "xn--"]


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_that_are_not_public_are_refused_alike(host, monkeypatch):
    def connect(*_: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
    for named in (f"http://{host}/x.png", f"https://{host}:8443/x.png"):
        with pytest.raises(InctrlError) as caught:
            fetch(named)
        assert str(caught.value) == REFUSAL


def test_nothing_tells_what_listens_where(pictures, monkeypatch):
    port = pictures.rsplit(":", 1)[1]
    ways = [f"{pictures}/missing", f"{pictures}/round", "http://127.0.0.1:9/", "ftp://127.0.0.1/"]
    ways += [f"http://user:word@127.0.0.1:{port}/picture.jpg", "http://127.0.0.1:22/"]
    ways += [f"https://127.0.0.1:{port}/picture.jpg", "http://127.0.0.1:99999/", "http://"]
    for way in ways:
        with pytest.raises(InctrlError) as caught:
            fetch(way)
        assert str(caught.value) == REFUSAL, way


def test_a_way_from_outside_to_inside_is_refused(pictures, monkeypatch):
    asked: list[str] = []

    async def allow_once(host: str, threads: object) -> str:
        asked.append(host)
        if len(asked) > 1:
            raise ValueError("not a public address")
        return host

    monkeypatch.setattr(addresses, "find_public", allow_once)
    with pytest.raises(InctrlError) as caught:
        fetch(pictures + "/moved")
    assert len(asked) == 2 and str(caught.value) == REFUSAL


@pytest.mark.parametrize("places", [["10.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1", "8.8.8.8"]])
def test_a_name_that_leads_inside_is_asked_of_nobody_else(places, monkeypatch):
    asked: list[str] = []

    def resolve(host: str, *_: object, **__: object) -> list:
        asked.append(host)
        return [(0, 0, 0, "", (place, 0)) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(InctrlError):
        fetch("http://intranet.example/x.png")
    assert asked == ["intranet.example"]


def test_slow_addresses_take_nobody_s_place(address, example, pictures):
    url = address.partition("gradio_api")[0]
    meta = {"_type": "gradio.FileData"}
    with httpx.Client(base_url=url, timeout=120) as visit:

        def upload(path: Path) -> dict:
            answer = visit.post(
                "/gradio_api/upload", files=[("files", ("a.jpg", path.read_bytes()))]
            )
            return {"path": answer.json()[0], "meta": meta}

        def ask_score(normals: list, query: dict) -> httpx.Response:
            values = {"data": [normals, query, "screw", DEFAULT_MODEL]}
            return visit.post("/gradio_api/call/score", json=values)

        def read(asked: httpx.Response) -> str:
            return visit.get(f"/gradio_api/call/score/{asked.json()['event_id']}").text

        def held(number: int) -> dict:
            return {"path": f"{pictures}/held{number}", "meta": meta}

        normals = [upload(path) for path in example.normals[:2]]
        query = upload(example.queries[0].path)
        slow = [
            ask_score([held(17 * i + j) for j in range(16)], held(17 * i + 16)) for i in range(16)
        ]
        assert {answer.status_code for answer in slow} == {200}
        wait_until(lambda: len(Pictures.held) == 16 * 17)
        assert "event: complete" in read(ask_score(normals, query))
        more = ask_score(normals, held(999))
        assert more.status_code == 503 and "being fetched" in more.text
        Pictures.release.set()
        assert "cannot be fetched" in read(slow[0]) and "cannot be fetched" in read(slow[15])
        wait_until(lambda: ask_score(normals, held(0)).status_code == 200)
