"""What one visitor's long work means for the others, and where the queue ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from inctrl_core import Detector
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.errors import ModelError
from inctrl_core.ui.common import models
from inctrl_core.ui.guard import admission
from inctrl_core.ui.page import QUEUE_SIZE, build_page
from tests.support.app_server import running_app
from tests.support.pictures import FIRST

EXAMPLE = FIRST.example
FAST, SLOW = "fast", "slow"


def score(client: Client, model: str) -> float:
    normals = [handle_file(path) for path in EXAMPLE.normals[:2]]
    query = handle_file(EXAMPLE.queries[0].path)
    return client.predict(normals, query, "screw", model, api_name="/score")[0]["fused"]


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


def test_a_long_work_lets_others_in_after_each_of_its_parts(tiny_model):
    registry, parts = models.ModelRegistry({FAST: tiny_model}, "cpu"), []

    def part(detector: Detector, number: int) -> None:
        parts.append(number)
        time.sleep(0.01)

    def work() -> None:
        for number in range(50):
            registry.compute(FAST, part, number)

    def visit() -> int:
        before = len(parts)
        return registry.compute(FAST, lambda detector: len(parts)) - before

    with ThreadPoolExecutor() as pool:
        working = pool.submit(work)
        waits = [pool.submit(visit).result(timeout=30) for _ in range(5)]
        working.result(timeout=30)
    assert max(waits) <= 2 and len(parts) == 50


def test_all_models_compute_on_one_thread_in_the_caller_s_context(tiny_model):
    registry = models.ModelRegistry({FAST: tiny_model}, "cpu")
    visitor: ContextVar[int] = ContextVar("visitor")

    def ask(number: int) -> tuple[int, int]:
        visitor.set(number)
        return registry.compute(FAST, lambda detector: (visitor.get(), threading.get_ident()))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    assert [number for number, _ in answers] == list(range(40))
    assert len({thread for _, thread in answers}) == 1
    with pytest.raises(ModelError, match="broken"):
        registry.compute(FAST, _refuse)
    assert registry.compute(FAST, _measure, "still there") == 11


def _refuse(detector: Detector) -> None:
    raise ModelError("It is broken.")


def _measure(detector: Detector, text: str) -> int:
    return len(text)


def test_a_download_keeps_nobody_else_waiting(download, tiny_model):
    begun, ended = download
    sources = {FAST: tiny_model, SLOW: "nobody/slow"}
    with running_app(sources=sources) as address, ThreadPoolExecutor() as pool:
        clients = [Client(address, verbose=False) for _ in range(4)]
        waiting = [pool.submit(score, client, SLOW) for client in clients[:3]]
        assert begun.wait(30)
        assert 0 < score(clients[3], FAST) < 1
        assert not any(future.done() for future in waiting)
        ended.set()
        for future in waiting:
            with pytest.raises(AppError, match="broken off"):
                future.result(timeout=60)


def test_a_full_queue_is_told_at_once(download, tiny_model):
    _, ended = download
    sources = {FAST: tiny_model, SLOW: "nobody/slow"}
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


class Program:
    """Sends requests to the API, and need not listen for the answers.

    Args:
        address: Of the page.
    """

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=address, timeout=120)
        self.normals = [self.upload(path) for path in EXAMPLE.normals[:2]]
        self.query = self.upload(EXAMPLE.queries[0].path)

    def upload(self, path: Path) -> dict:
        files = {"files": ("a.jpg", path.read_bytes())}
        place = self.http.post("/gradio_api/upload", files=files).json()[0]
        return {"path": place, "meta": {"_type": "gradio.FileData"}}

    def send(
        self, name: str, model: str = SLOW, session: str | None = None, sender: str = ""
    ) -> httpx.Response:
        body = {"data": [self.normals, self.query, "screw", model], "session_hash": session}
        headers = {"x-forwarded-for": sender} if sender else {}
        return self.http.post(f"/gradio_api/call/{name}", json=body, headers=headers)

    def read(self, name: str, sent: httpx.Response) -> str:
        assert sent.status_code == 200, sent.text
        return self.http.get(f"/gradio_api/call/{name}/{sent.json()['event_id']}").text


@pytest.fixture
def program(download, tiny_model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    """A page on which one model takes long, and nobody is late in listening yet."""
    monkeypatch.setattr(admission, "UNREAD_SECONDS", 3600)
    sources = {FAST: tiny_model, DEFAULT_MODEL: DEFAULT_MODEL, SLOW: "nobody/slow"}
    with running_app(sources=sources) as address:
        yield Program(address)
        download[1].set()


def accepted(answers: list[httpx.Response]) -> int:
    assert {answer.status_code for answer in answers} <= {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["detail"].endswith(".")
    return [answer.status_code for answer in answers].count(200)


@pytest.mark.parametrize("session", ["one", None])
def test_analyses_that_nobody_reads_keep_nobody_out(program, session):
    flood = [program.send("stress_test", session=session) for _ in range(65)]
    many = admission.MAX_ANALYSES_OF_SESSION if session else admission.MAX_ANALYSES
    assert accepted(flood) == many
    answer = program.read("score", program.send("score", FAST))
    assert "event: complete" in answer
    if session:
        assert program.send("stress_test", session="another").status_code == 200


def test_a_session_s_other_requests_are_bounded_too(program):
    flood = [program.send("score", session="one") for _ in range(40)]
    assert accepted(flood) == admission.MAX_OF_SESSION
    assert program.send("score", session="another").status_code == 200


def test_a_public_address_has_a_bound_however_many_sessions_it_opens(program):
    flood = [program.send("stress_test", sender="8.8.8.8") for _ in range(20)]
    assert accepted(flood) == admission.MAX_ANALYSES_OF_ADDRESS
    assert program.send("stress_test", sender="1.1.1.1").status_code == 200
    flood = [program.send("score", sender="8.8.8.8") for _ in range(40)]
    total = admission.MAX_ANALYSES_OF_ADDRESS + accepted(flood)
    assert total == admission.MAX_OF_ADDRESS
    assert program.send("score", sender="1.1.1.1").status_code == 200


def test_those_behind_one_proxy_are_not_taken_for_one(program):
    answers = [program.send("score", sender="10.0.0.7") for _ in range(48)]
    assert accepted(answers) == 48


def test_what_nobody_listens_for_gives_way(program, monkeypatch):
    first = [program.send("stress_test") for _ in range(admission.MAX_ANALYSES)]
    assert program.send("stress_test").status_code == 503  # They may be about to listen.
    monkeypatch.setattr(admission, "UNREAD_SECONDS", 0)
    assert program.send("stress_test").status_code == 200
    # The first is at work; the second waited longest.
    assert "ask again, and listen" in program.read("stress_test", first[1])


def test_what_somebody_listens_for_comes_first(program, download, monkeypatch):
    begun, ended = download
    monkeypatch.setattr(admission, "UNREAD_SECONDS", 0)
    working = program.send("stress_test")
    assert begun.wait(30)
    unread = [program.send("stress_test", DEFAULT_MODEL) for _ in range(6)]
    heard = program.send("stress_test", DEFAULT_MODEL)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(program.read, "stress_test", heard)
        time.sleep(0.5)
        program.send("score", DEFAULT_MODEL)  # With each that comes, the queue is put in order.
        ended.set()
        assert "event: complete" in answer.result(timeout=120)
    done = program.http.get("/gradio_api/queue/status").json()["queue_size"]
    assert done >= 5  # Of the six that came before it.
    assert len(unread) == 6
    assert "broken off" in program.read("stress_test", working)


def test_results_that_nobody_fetches_are_forgotten(tiny_model):
    page = build_page(models.ModelRegistry({FAST: tiny_model}, "cpu"), {})
    queue, door = page._queue, admission.Admission(page)
    for session in ("gone", "listening", "waiting"):
        queue.pending_messages_per_session[session] = asyncio.Queue()
        queue.pending_event_ids_session[session] = {session}
        door._last_seen[session] = time.monotonic() - admission.KEPT_SECONDS - 1
    door.listeners["listening"] += 1
    queue.event_ids_to_events["waiting"] = SimpleNamespace(session_hash="waiting")
    door.forget_unread()
    assert set(queue.pending_event_ids_session) == {"listening", "waiting"}
    assert "gone" not in queue.pending_messages_per_session
