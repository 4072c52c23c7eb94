"""The application in a process of its own: how it ends, and that it starts where it can."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.app_server import free_port
from tests.support.forward_proxy import running_forward_proxy
from tests.support.hub_server import Repo, running_hub

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # A busy computer takes minutes to start one.
LINE = re.compile(r"Running on local URL: +(\S+)")
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


class Running:
    """An application that was started, and what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.printed: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.printed.append(line)

    @property
    def output(self) -> str:
        return "".join(self.printed)

    def address(self) -> str:
        """Where it listens, once it says so."""
        return wait_for(lambda: self.process.poll() is not None or LINE.search(self.output))[1]

    def takes_signals(self) -> bool:
        """Whether it has come to its first lines."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    def end(self, number: int) -> None:
        """Sends a signal, and checks that it ends at once, cleanly, and listens no longer."""
        self.process.send_signal(number)
        self.process.wait(60)
        self._reader.join(10)
        assert self.process.returncode == 0, self.output
        for word in ("Traceback", "Error", "Exception", "KeyboardInterrupt"):
            assert word not in self.output
        if found := LINE.search(self.output):
            with socket.socket() as probe:
                # A connection that the page closed first stays with the system for a minute: only
                # a socket that still listens is a fault.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", urlsplit(found[1]).port))


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


@contextmanager
def started(folder: Path, *options: str, **env: str) -> Iterator[Running]:
    """The application, with a temporary folder of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    kept |= {"TMPDIR": str(folder), "GRADIO_TEMP_DIR": "", "HOME": str(folder.parent)} | env
    process = subprocess.Popen(
        [sys.executable, "app.py", "--device", "cpu", *options],
        cwd=ROOT,
        env={name: value for name, value in kept.items() if value},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    running = Running(process)
    try:
        yield running
    finally:
        with suppress(OSError):
            process.kill()
        process.wait()


def left_in(folder: Path) -> list[str]:
    """What the application has left there; torch keeps a folder of its own."""
    return [path.name for path in folder.iterdir() if path.name.startswith("inctrl")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "tmp"
    place.mkdir()
    return place


@linux
@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 1.1])
def test_a_signal_ends_it_at_any_moment_of_its_start(folder, whole, share):
    number = signal.SIGINT if round(100 * share) % 2 else signal.SIGTERM
    with started(folder, "--port", str(free_port())) as running:
        wait_for(running.takes_signals)
        time.sleep(share * whole.seconds)
        running.end(number)
    assert left_in(folder) == []


@dataclass(frozen=True)
class Whole:
    """A whole start.

    Attributes:
        running: The application; a test may end it.
        folder: Its temporary folder.
        seconds: How long this computer took from the first lines to the page.
    """

    running: Running
    folder: Path
    seconds: float


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("home") / "tmp"
    folder.mkdir()
    with started(folder, "--port", str(free_port())) as running:
        wait_for(running.takes_signals)
        begun = time.monotonic()
        running.address()
        yield Whole(running, folder, time.monotonic() - begun)


@linux
@pytest.mark.slow
def test_it_ends_in_the_midst_of_work(whole):
    running = whole.running
    # Half a request, a stream that goes on, and an upload that lies there.
    client = httpx.Client(base_url=running.address(), timeout=PATIENCE, trust_env=False)
    client.post("gradio_api/upload", files={"files": ("a.txt", b"x")}).raise_for_status()
    assert list(whole.folder.rglob("a.txt"))
    with client.stream("GET", "gradio_api/heartbeat/abc") as stream:
        assert stream.status_code == 200
        running.process.send_signal(signal.SIGINT)
        running.end(signal.SIGINT)  # A second time, as the impatient do.
    assert left_in(whole.folder) == []


@linux
@pytest.mark.slow
def test_it_ends_in_a_download(folder, golden_model):
    files = {path.name: path.read_bytes() for path in golden_model.iterdir()}
    with running_hub() as hub:
        repo = hub.repos.setdefault("someone/golden", Repo(files, hold=True))
        env = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder.parent)}
        options = ("--port", str(free_port()), "--model", "someone/golden")
        with started(folder, *options, **env) as running:
            wait_for(repo.held.is_set)
            running.end(signal.SIGTERM)
    assert left_in(folder) == []


@pytest.mark.slow
def test_it_starts_whatever_the_proxies_are(folder):
    bad = dict.fromkeys(("http_proxy", "HTTPS_PROXY", "all_proxy"), "socks4://nowhere:x")
    with started(folder, "--port", "0", **bad, no_proxy="[::1],::1/128") as running:
        url = running.address()
        assert httpx.get(url, trust_env=False, timeout=PATIENCE).status_code == 200
        running.end(signal.SIGTERM)


@pytest.mark.slow
def test_a_refusing_proxy_is_asked_for_models_alone(folder):
    with running_forward_proxy(403) as proxy:
        env = dict.fromkeys(("http_proxy", "https_proxy"), proxy.url)
        env |= {"HF_ENDPOINT": "http://hub.example", "HF_HOME": str(folder.parent)}
        options = ("--port", "0", "--model", "someone/golden", "--mcp")
        with started(folder, *options, **env) as running:
            running.address()
            wait_for(lambda: "WARNING" in running.output)
            running.process.terminate()
            running.process.wait(60)
    assert f"the proxy {proxy.url}, which http_proxy names, refuses (403)" in running.output
    assert proxy.asked and all("hub.example" in url for url in proxy.asked)


@pytest.mark.parametrize(
    ("env", "options", "says"),
    [
        ({"GRADIO_SERVER_PORT": "abc"}, (), "GRADIO_SERVER_PORT=abc is not a number from 0"),
        ({"GRADIO_TEMP_DIR": "/dev/null/x"}, (), "GRADIO_TEMP_DIR=/dev/null/x cannot hold uploads"),
        ({}, ("--host", "203.0.113.7"), "--host 203.0.113.7 is not an address of this computer"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_is_one_sentence(folder, env, options, says):
    with started(folder, *options, **env) as running:
        assert running.process.wait(PATIENCE) == 1
        running._reader.join(10)
    lines = [line for line in running.output.splitlines() if not line.startswith(("INFO", "["))]
    assert len(lines) == 1 and lines[0].startswith(f"error: {says}")
    assert left_in(folder) == []
