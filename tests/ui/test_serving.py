"""Where and how the page is served: proxies, addresses, ports, half-sent requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest

from inctrl_core.errors import InctrlError
from inctrl_core.ui.common.log import MOST, WINDOW_SECONDS, RateLimit
from inctrl_core.ui.page import launch_page
from inctrl_core.ui.serving import connections
from inctrl_core.ui.serving.ending import SIGNALS, Ending
from inctrl_core.ui.serving.listening import Place, find_place, listen, page_address
from inctrl_core.ui.serving.settings import check_settings
from tests.support.app_server import free_port
from tests.support.forward_proxy import running_forward_proxy

PATIENCE = 60
DEAD = "http://127.0.0.1:9"
KINDS = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
BAD = ("socks5://127.0.0.1:9", "socks5h://h:1", "socks4://h:1", "::::", "http://[::1", "\x01", "%")


# A large image, four more at once, and something small that outlives them at the heap's end.
LARGE_IMAGES = """
import ctypes
from pathlib import Path
from inctrl_core.ui.serving.memory import return_large_blocks
{call}
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def take(size):
    place = library.malloc(ctypes.c_size_t(size))
    ctypes.memset(place, 1, size)
    return place

library.free(take(30 << 20))
before = resident()
large = [take(16 << 20) for _ in range(4)]
take(500_000)
for place in large:
    library.free(place)
print((resident() - before) >> 20)
"""


def turn(value: str) -> str:
    """Turns a text round.

    Args:
        value: A text.
    """
    return value[::-1]


def build_small() -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False) as page:
        text = gr.Textbox()
        text.submit(turn, text, text, api_name="turn")
    return page.queue()


@contextmanager
def served(**options) -> Iterator[gr.Blocks]:
    """A small page, served as the application is."""
    page = build_small()
    launch_page(page, mcp_server=False, **{"quiet": True, "server_port": 0, **options})
    try:
        yield page
    finally:
        page.close(verbose=False)


def status(url: str) -> int:
    return httpx.get(url, trust_env=False, timeout=PATIENCE).status_code


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("GRADIO_SERVER", "GRADIO_NUM")):
            monkeypatch.delenv(name)


class TestProxies:
    @pytest.mark.parametrize("value", [DEAD, *BAD])
    def test_none_keeps_the_page_from_starting(self, monkeypatch, value):
        for name in KINDS:
            monkeypatch.setenv(name, value)
        with served() as page:
            assert status(page.local_url) == 200

    @pytest.mark.parametrize("value", ["localhost", "[::1]", "*"])
    def test_whatever_is_excepted(self, monkeypatch, value):
        monkeypatch.setenv("no_proxy", value)
        monkeypatch.setenv("http_proxy", DEAD)
        with served() as page:
            assert status(page.local_url) == 200

    @pytest.mark.parametrize("answer", [None, 403])
    def test_none_sees_the_page_look_for_itself(self, monkeypatch, answer):
        with running_forward_proxy(answer) as proxy:
            for name in KINDS:
                monkeypatch.setenv(name, proxy.url)
            with served() as page:
                assert status(page.local_url) == 200
                assert os.environ["http_proxy"] == proxy.url  # Still there, for downloads.
        assert proxy.asked == []

    def test_tools_for_language_models_need_none(self, monkeypatch):
        page = build_small()
        for name in KINDS:
            monkeypatch.setenv(name, BAD[0])
        launch_page(page, mcp_server=True, quiet=True, server_port=0)
        try:
            arguments = {"name": "turn", "arguments": {"value": "abc"}}
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": arguments}
            accept = {"accept": "application/json, text/event-stream"}
            url, direct = f"{page.local_url}gradio_api/mcp/", {"trust_env": False}
            answer = httpx.post(url, json=call, headers=accept, timeout=PATIENCE, **direct)
            assert '"text":"cba"' in answer.text
        finally:
            page.close(verbose=False)


HOSTS = ["127.0.0.1", "localhost", "::1", "[::1]", "0.0.0.0", "[::]", "*", "0"]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def link_local() -> str | None:
    """An address with a scope, of the first interface that has one."""
    try:
        lines = [line.split() for line in open("/proc/net/if_inet6")]
    except OSError:
        return None
    found = [(a, name) for a, _, _, scope, _, name in lines if scope == "20"]
    if not found:
        return None
    digits, name = found[0]
    return ":".join(digits[i : i + 4] for i in range(0, 32, 4)) + f"%{name}"


class TestAddresses:
    @pytest.mark.parametrize("host", [*HOSTS, socket.gethostname(), link_local()])
    def test_whatever_names_this_computer(self, capsys, host):
        if host is None or (":" in host and not has_ipv6()):
            pytest.skip("has no such address")
        with served(server_name=host, quiet=False):
            said = capsys.readouterr().out
            url = said.removeprefix("* Running on local URL:  ").strip()
            assert url.startswith("http://") and ":0" not in url[-2:]
            assert status(url) == 200

    @pytest.mark.parametrize("bracketed", [True, False])
    def test_a_link_local_address(self, bracketed):
        host = link_local()
        if host is None:
            pytest.skip("there is none")
        sockets, port = listen(find_place(f"[{host}]" if bracketed else host, 0))
        with sockets[0]:
            assert sockets[0].getsockname()[3] != 0
            assert page_address(host, port) == f"http://[{host}]:{port}/"

    @pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_no_answer_waits_for_the_last_one_to_be_seen(self, host):
        """Nagle's algorithm would hold the end of each for 40 ms."""
        held = []

        class Visit(asyncio.Protocol):
            def connection_made(self, transport):
                accepted = transport.get_extra_info("socket")
                held.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                transport.close()

        async def visit(opened: socket.socket, port: int) -> None:
            server = await asyncio.get_running_loop().create_server(Visit, sock=opened)
            async with server:
                reader, writer = await asyncio.open_connection(host, port)
                await reader.read()
                writer.close()

        (opened,), port = listen(Place(host, (0,), "--host"))
        asyncio.run(visit(opened, port))
        assert held == [1]

    def test_every_address_is_every_one(self):
        with served(server_name="::") as page:
            for host in ("127.0.0.1", "[::1]"):
                assert status(f"http://{host}:{page.server_port}/") == 200

    @pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
    def test_a_port_taken_on_another_address_is_free_here(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with served(server_name="::1", server_port=port) as page:
                assert status(page.local_url) == 200

    def test_the_variables_count_as_well(self, monkeypatch):
        port = free_port()
        monkeypatch.setenv("GRADIO_SERVER_NAME", "[::1]" if has_ipv6() else "localhost")
        monkeypatch.setenv("GRADIO_SERVER_PORT", str(port))
        with served(server_port=None) as page:
            assert page.server_port == port and status(page.local_url) == 200

    def test_a_taken_port_is_passed_by_where_none_is_asked_for(self, monkeypatch):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            monkeypatch.setenv("GRADIO_SERVER_PORT", str(port))
            with served(server_port=None) as page:
                assert page.server_port > port

    @pytest.mark.parametrize(
        ("host", "port", "says"),
        [
            ("203.0.113.7", 0, "--host 203.0.113.7 is not an address of this computer"),
            ("2001:db8::1", 0, "--host 2001:db8::1 is not an address of this computer"),
            ("[2001:db8::1]", 0, "not an address of this computer"),
            ("no-such-host.invalid", 0, "names no address"),
            ("http://127.0.0.1", 0, "names no address"),
            ("127.0.0.1:80", 0, "names no address"),
            ("a" * 300, 0, "names no address"),
            ("a\0b", 0, "names no address"),
            ("[::1", 0, "names no address"),
            (None, 70000, "--port 70000 is not a port; use a number from 1 to 65535"),
            (None, -1, "--port -1 is not a port"),
        ],
    )
    def test_what_cannot_be_listened_on_is_one_sentence(self, host, port, says):
        with pytest.raises(InctrlError) as caught, served(server_name=host, server_port=port):
            pass
        said = str(caught.value)
        assert says in said and "\n" not in said and said.endswith(".") and len(said) < 300

    def test_a_bad_name_in_the_environment_is_named(self, monkeypatch):
        monkeypatch.setenv("GRADIO_SERVER_NAME", "203.0.113.7")
        with pytest.raises(InctrlError, match="GRADIO_SERVER_NAME 203.0.113.7 is not an address"):
            listen(find_place())

    def test_a_port_without_permission(self, monkeypatch):
        def refuse(self, address):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(socket.socket, "bind", refuse)
        with pytest.raises(InctrlError, match="may not listen on port 80; name one above 1023"):
            listen(Place("127.0.0.1", [80]))

    def test_all_ports_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(InctrlError, match=f"cannot listen on port {port}; end what"):
                listen(Place("127.0.0.1", [port]))


class TestSettings:
    @pytest.mark.parametrize("name", ["GRADIO_SERVER_PORT", "GRADIO_NUM_PORTS", "GRADIO_DEBUG"])
    @pytest.mark.parametrize("value", ["abc", "", "-1", "99999999999", "1.5", "\u0660x"])
    def test_what_is_no_number_is_named(self, monkeypatch, name, value):
        monkeypatch.setenv(name, value)
        with pytest.raises(InctrlError, match=f"{name}=.*is not a number from"):
            check_settings()

    def test_a_folder_that_cannot_be_used_is_named(self, monkeypatch, tmp_path):
        file = tmp_path / "file"
        file.write_text("")
        for value in (file, file / "below", "/proc/nothing", "/dev/null"):
            monkeypatch.setenv("GRADIO_TEMP_DIR", str(value))
            with pytest.raises(InctrlError, match="cannot hold uploads .*name a folder") as caught:
                check_settings()
            assert str(value) in str(caught.value)
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "new" / "one"))
        check_settings()


class TestMonitoring:
    @pytest.mark.parametrize("path", ["monitoring", "monitoring/summary", "monitoring/key"])
    def test_it_is_off(self, path):
        with served() as page:
            assert status(f"{page.local_url}{path}") == 403


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A page that waits less, for 20 connections at most."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(connections, "STALL_SECONDS", 1.5)
    monkeypatch.setattr(connections, "connection_limit", lambda: 20)
    with served() as page:
        yield "127.0.0.1", page.server_port


def is_closed(opened: socket.socket) -> bool:
    opened.settimeout(PATIENCE)
    try:
        while opened.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


class TestHalfSentRequests:
    @pytest.mark.parametrize(
        "half",
        [
            b"",
            b"G",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n",
            b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
            b"Content-Type: application/json\r\n\r\n{",
            b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
            # The second half of two.
            b"GET /gradio_api/app_id HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET / HT",
            b"GET /gradio_api/app_id HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
            b"Content-Type: application/json\r\n\r\n{",
        ],
    )
    def test_they_end(self, impatient, half):
        with socket.create_connection(impatient) as opened:
            opened.sendall(half)
            assert is_closed(opened)

    def test_drops_do_not_keep_a_header_open(self, impatient):
        with socket.create_connection(impatient) as opened:
            opened.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            with pytest.raises(OSError):
                for number in range(10 * PATIENCE):
                    opened.sendall(b"X-%d: 1\r\n" % number)
                    time.sleep(0.1)

    def test_an_answer_that_nobody_reads_ends(self, impatient):
        with socket.socket() as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.connect(impatient)
            # As many answers as fill all buffers on the way.
            with pytest.raises(OSError):
                for _ in range(20_000):
                    opened.sendall(b"GET /config HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                opened.settimeout(PATIENCE)
                while True:
                    opened.sendall(b"GET /config HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")

    def test_many_leave_the_page_open_to_others(self, impatient, monkeypatch):
        monkeypatch.setattr(connections, "HEAD_SECONDS", 10 * PATIENCE)
        url = "http://{}:{}/".format(*impatient)
        opened = [socket.create_connection(impatient) for _ in range(300)]
        for number, one in enumerate(opened):
            one.sendall(b"GET / HTTP/1.1\r\n" if number % 2 else b"")
        assert status(url) == 200
        for one in opened:
            one.close()
        assert status(url) == 200

    def test_a_slow_upload_arrives(self, impatient):
        head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        head += b"Content-Type: multipart/form-data; boundary=x\r\n"
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
        body += bytes(8000) + b"\r\n--x--\r\n"
        with socket.create_connection(impatient) as opened:
            opened.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
            for start in range(0, len(body), 400):  # 2000 bytes a second, for 4 seconds.
                opened.sendall(body[start : start + 400])
                time.sleep(0.2)
            opened.settimeout(PATIENCE)
            assert b" 200 OK" in opened.recv(65536)


def test_the_log_keeps_few_messages_of_one_kind(monkeypatch):
    bound, clock = RateLimit(), [1000.0]
    monkeypatch.setattr("inctrl_core.ui.common.log.time.monotonic", lambda: clock[0])

    def log(line: int, text: str = "out of files %d") -> logging.LogRecord | None:
        record = logging.LogRecord("asyncio", logging.ERROR, "/a.py", line, text, (1,), None)
        return record if bound.filter(record) else None

    assert sum(log(1) is not None for _ in range(5000)) == MOST
    assert log(2) is not None  # Another kind.
    clock[0] += WINDOW_SECONDS + 1
    assert log(1).getMessage() == f"out of files 1 ({5000 - MOST} more like it were left out)"


def test_what_is_entered_until_the_end_is_given_and_left():
    handlers = [signal.getsignal(number) for number in SIGNALS]
    left = []
    with Ending() as ending:
        assert ending.enter(contextlib.nullcontext("pool")) == "pool"
        ending.enter(contextlib.closing(SimpleNamespace(close=lambda: left.append(1))))
        assert not left
    assert left == [1]
    for number, handler in zip(SIGNALS, handlers, strict=True):
        signal.signal(number, handler)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="sets glibc's malloc")
@pytest.mark.parametrize(
    ("call", "kept"), [("", range(50, 80)), ("return_large_blocks()", range(5))]
)
def test_memory_of_large_images_goes_back_to_the_system(call: str, kept: range) -> None:
    program = [sys.executable, "-c", LARGE_IMAGES.format(call=call)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(program, capture_output=True, text=True, cwd=root, check=True)
    assert int(done.stdout) in kept
