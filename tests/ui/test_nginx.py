"""The configuration of nginx in docs, in a real nginx before a real page."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from gradio_client import Client

from tests.support.app_server import free_port
from tests.ui.test_serving import is_closed, served

CONFIG = Path(__file__).resolve().parents[2] / "docs" / "nginx.conf"
PATIENCE = 60
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx")

AROUND = """daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
access_log off; {paths}
{config}
}}
"""
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's address behind nginx, whose time limit for headers is a second."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    with pytest.MonkeyPatch.context() as patch, served(root_path="/tools/inctrl") as page:
        patch.setenv("no_proxy", "*")
        config = CONFIG.read_text().replace("listen 80;", f"listen 127.0.0.1:{port};")
        config = config.replace("127.0.0.1:7860", f"127.0.0.1:{page.server_port}")
        config = config.replace("client_header_timeout 10s", "client_header_timeout 1s")
        paths = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in KINDS)
        file = folder / "nginx.conf"
        file.write_text(AROUND.format(folder=folder, paths=paths, config=config))
        command = [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(file)]
        process = subprocess.Popen(command)
        try:
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end and process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/tools/inctrl/"
        finally:
            process.terminate()
            process.wait()


def test_the_page_works_behind_it(address):
    assert httpx.get(address, timeout=PATIENCE).is_success
    assert httpx.get(f"{address}config", timeout=PATIENCE).json()["root"] == address.rstrip("/")
    assert Client(address, verbose=False).predict("abc", api_name="/turn") == "cba"
    origin = "/".join(address.split("/")[:3])
    files, url = {"files": ("a.txt", b"x")}, f"{address}gradio_api/upload"
    own = httpx.post(url, files=files, headers={"origin": origin}, timeout=PATIENCE)
    assert own.is_success
    foreign = {"origin": "http://evil.example"}
    assert httpx.post(url, files=files, headers=foreign, timeout=PATIENCE).status_code == 403


def test_half_sent_requests_end(address):
    host, port = address.split("/")[2].split(":")
    opened = [socket.create_connection((host, int(port))) for _ in range(100)]
    for one in opened:
        one.sendall(b"GET /tools/inctrl/ HTTP/1.1\r\n")
    assert httpx.get(f"{address}gradio_api/app_id", timeout=PATIENCE).is_success
    for one in opened:
        assert is_closed(one)
        one.close()
