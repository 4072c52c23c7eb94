"""What one visitor's long work means for the others, and where the queue ends."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from inctrl_core.errors import ModelError
from inctrl_core.loading import DEFAULT_MODEL
from inctrl_core.ui import models
from inctrl_core.ui.examples import load_examples
from inctrl_core.ui.page import QUEUE_SIZE
from tests.app_server import running_app

EXAMPLE = load_examples()["washer"]
SLOW = "slow"


def score(client: Client, model: str) -> float:
    normals = [handle_file(path) for path in EXAMPLE.normals[:2]]
    query = handle_file(EXAMPLE.queries[0].path)
    return client.predict(normals, query, "washer", model, api_name="/score")[0]["fused"]


@pytest.fixture
def download(monkeypatch: pytest.MonkeyPatch):
    """A download that begins, and goes on until it is told to fail."""
    begun, ended = threading.Event(), threading.Event()
    fetch = models.fetch_files

    def fetch_slowly(source: str | Path, on_progress: object = None) -> None:
        if source != "nobody/slow":
            return fetch(source, on_progress)
        begun.set()
        ended.wait(60)
        raise ModelError("The download was broken off; try again.")

    monkeypatch.setattr(models, "fetch_files", fetch_slowly)
    yield begun, ended
    ended.set()


def test_a_long_work_lets_others_in_after_each_of_its_parts():
    registry, parts = models.ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL}), []

    def part(number: int) -> None:
        parts.append(number)
        time.sleep(0.01)

    def work() -> None:
        for number in range(50):
            registry.compute(part, number)

    def visit() -> int:
        before = len(parts)
        return registry.compute(len, parts) - before

    with ThreadPoolExecutor() as pool:
        working = pool.submit(work)
        waits = [pool.submit(visit).result(timeout=30) for _ in range(5)]
        working.result(timeout=30)
    assert max(waits) <= 2 and len(parts) == 50


def test_all_models_compute_on_one_thread_in_the_caller_s_context():
    registry = models.ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL})
    visitor: ContextVar[int] = ContextVar("visitor")

    def ask(number: int) -> tuple[int, int]:
        visitor.set(number)
        return registry.compute(lambda: (visitor.get(), threading.get_ident()))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    assert [number for number, _ in answers] == list(range(40))
    assert len({thread for _, thread in answers}) == 1
    with pytest.raises(ModelError, match="broken"):
        registry.compute(_refuse)
    assert registry.compute(len, "still there") == 11


def _refuse() -> None:
    raise ModelError("It is broken.")


def test_a_download_keeps_nobody_else_waiting(download):
    begun, ended = download
    sources = {DEFAULT_MODEL: DEFAULT_MODEL, SLOW: "nobody/slow"}
    with running_app(sources=sources) as address, ThreadPoolExecutor() as pool:
        clients = [Client(address, verbose=False) for _ in range(4)]
        waiting = [pool.submit(score, client, SLOW) for client in clients[:3]]
        assert begun.wait(30)
        assert 0 < score(clients[3], DEFAULT_MODEL) < 1
        assert not any(future.done() for future in waiting)
        ended.set()
        for future in waiting:
            with pytest.raises(AppError, match="broken off"):
                future.result(timeout=60)


def test_a_full_queue_is_told_at_once(download):
    _, ended = download
    sources = {DEFAULT_MODEL: DEFAULT_MODEL, SLOW: "nobody/slow"}
    with running_app(sources=sources) as address:
        config = httpx.get(f"{address}config").json()
        index = next(d["id"] for d in config["dependencies"] if d["api_name"] == "explain")
        body = {"data": [[], None, "x", SLOW, "", ""], "fn_index": index}

        def join(number: int) -> httpx.Response:
            whole = body | {"session_hash": f"visitor{number}"}
            return httpx.post(f"{address}gradio_api/queue/join", json=whole, timeout=30)

        answers = [join(number) for number in range(QUEUE_SIZE + 8)]
        refused = [answer for answer in answers if answer.status_code == 503]
        assert refused and len(refused) < len(answers)
        assert "full" in refused[0].json()["detail"].lower()
        ended.set()
