"""Many visitors at once: does each get exactly what it would get alone?

``python -m tests.adversarial.visitors`` starts the application in a process of its own and
sends it a bounded number of requests over the loopback interface only. A slow test does the
same with few.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import numpy as np
import torch

from inctrl_core.checkpoints.conversion import convert_checkpoint
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.ui.common.examples import load_examples
from tests.support.app_server import free_port

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
SECOND_MODEL = "second"
START_SECONDS = 120
PATIENCE = 120.0  # Seconds for one answer.
BAD_SHARE = 0.15


@dataclass(frozen=True)
class Request:
    """One call of ``/score``.

    Attributes:
        normals: Paths.
        query: Path; empty for none.
        object_name: Text.
        model: Name.
        bad: It cannot be answered with a score.
    """

    normals: tuple[str, ...]
    query: str
    object_name: str
    model: str
    bad: bool = False


@dataclass
class Outcome:
    """What came back, and when.

    Attributes:
        answer: The result as JSON, or the sentence of an error.
        seconds: From the call to the answer, uploads included.
    """

    answer: str
    seconds: float


@dataclass
class Tally:
    """What a run of many visitors saw.

    Attributes:
        outcomes: One list for each visitor.
        statuses: How often each HTTP status came.
        seconds: Of the whole run.
    """

    outcomes: list[list[Outcome]] = field(default_factory=list)
    statuses: Counter = field(default_factory=Counter)
    seconds: float = 0.0


def plan(visitors: int, requests: int, broken: Path, seed: int = 0) -> list[list[Request]]:
    """What each visitor asks for: a bank, a name and a model of its own, some requests bad.

    Args:
        visitors: Number of visitors.
        requests: Of all visitors together.
        broken: A file that is no image.
        seed: Of the choice.
    """
    generator = random.Random(seed)
    sets = list(load_examples().values())
    plans = []
    for visitor in range(visitors):
        example = sets[visitor % len(sets)]
        shots = generator.randint(1, min(6, len(example.normals)))
        normals = tuple(map(str, generator.sample(example.normals, shots)))
        model = SECOND_MODEL if visitor % 4 == 3 else DEFAULT_MODEL
        name = f"{example.object_name} {visitor}"
        mine = []
        for _ in range(requests // visitors):
            query = str(generator.choice(example.queries).path)
            request = Request(normals, query, name, model)
            if generator.random() < BAD_SHARE:
                request = generator.choice(
                    [
                        Request((), query, name, model, bad=True),
                        Request(normals, str(broken), name, model, bad=True),
                        Request(normals, query, name * 20, model, bad=True),
                        Request(normals, query, name, "no-such-model", bad=True),
                    ]
                )
            mine.append(request)
        plans.append(mine)
    return plans


def ask(client: httpx.Client, request: Request) -> Outcome:
    """Sends one request, waits for its answer and fetches its picture."""
    start = time.perf_counter()
    paths = [Path(path) for path in (*request.normals, request.query)]
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    stored = client.post("upload", files=files).raise_for_status().json()
    *normals, query = (
        {"path": place, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
        for place, path in zip(stored, paths, strict=True)
    )
    given = {"data": [normals, query, request.object_name, request.model]}
    event = client.post("call/score", json=given).raise_for_status().json()["event_id"]
    # The last message of the stream: its kind, then its data.
    kind, data = client.get(f"call/score/{event}").raise_for_status().text.split("\n")[-4:-2]
    content = json.loads(data.removeprefix("data: "))
    if kind == "event: complete":
        result, picture = content
        client.get(f"file={picture['path']}").raise_for_status()
        answer = json.dumps(result, sort_keys=True)
    else:
        answer = f"error: {content['error']}"
    return Outcome(answer, time.perf_counter() - start)


@contextmanager
def counted_statuses(statuses: Counter) -> Iterator[None]:
    """Counts the HTTP status of every answer that a client of this process gets."""
    send = httpx.Client.send

    def send_counted(self: httpx.Client, *args: Any, **options: Any) -> httpx.Response:
        response = send(self, *args, **options)
        statuses[response.status_code] += 1
        return response

    with mock.patch.object(httpx.Client, "send", send_counted):
        yield


def run_visitors(address: str, plans: list[list[Request]], at_once: int) -> Tally:
    """Lets visitors ask, ``at_once`` of them at a time."""
    tally = Tally()

    def visit(mine: list[Request]) -> list[Outcome]:
        # As by hand: Gradio's own client takes three times the cores' time that the answer takes.
        with httpx.Client(base_url=f"{address}/gradio_api/", timeout=PATIENCE) as client:
            return [ask(client, request) for request in mine]

    start = time.perf_counter()
    with counted_statuses(tally.statuses), ThreadPoolExecutor(at_once) as pool:
        tally.outcomes = list(pool.map(visit, plans))
    tally.seconds = time.perf_counter() - start
    return tally


def compare(plans: list[list[Request]], alone: Tally, together: Tally) -> dict[str, Any]:
    """How the answers of many at once differ from those of one after the other.

    Returns:
        What differs, each as the answer alone and together; counts of good requests refused, and
        of bad ones scored.
    """
    differing: list[tuple[str, str]] = []
    refused = scored = 0
    for mine, first, second in zip(plans, alone.outcomes, together.outcomes, strict=True):
        for request, expected, got in zip(mine, first, second, strict=True):
            is_error = got.answer.startswith("error: ")
            if expected.answer != got.answer:
                differing.append((expected.answer, got.answer))
            refused += is_error and not request.bad
            scored += request.bad and not is_error
    return {"differing": differing, "good_refused": refused, "bad_scored": scored}


def resident_bytes(process: int) -> int:
    """Memory that a process holds now (Linux)."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * 4096


@contextmanager
def app_process(models: list[str]) -> Iterator[tuple[str, int]]:
    """The application as a user starts it; yields its address and its process number."""
    port = free_port()
    options = [option for model in models for option in ("--model", model)]
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), "--device", "cpu", *options],
        cwd=ROOT,
        # A folder for uploads of its own: another application that ends would delete them.
        env=os.environ | {"GRADIO_TEMP_DIR": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(address, timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError("The application did not start.") from None
                time.sleep(0.2)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def make_second_model(folder: Path) -> Path:
    """A small model with random weights, from the recorded checkpoint of the tests."""
    arrays = np.load(GOLDEN / "checkpoint.npz")
    floats = {
        key: value.astype(np.float32) if value.dtype == np.float16 else value
        for key, value in arrays.items()
    }
    checkpoint = folder / "checkpoint.pyth"
    torch.save({key: torch.from_numpy(value) for key, value in floats.items()}, checkpoint)
    architecture = json.loads((GOLDEN / "expected.json").read_text())["architecture"]
    convert_checkpoint(checkpoint, architecture, folder / SECOND_MODEL)
    return folder / SECOND_MODEL


def measure(visitors: int, requests: int, rounds: int = 2) -> dict[str, Any]:
    """Everything: alone, then ``rounds`` times together, and what the process holds afterwards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broken = folder / "broken.png"
        broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
        plans = plan(visitors, requests, broken)
        models = [DEFAULT_MODEL, str(make_second_model(folder))]
        with app_process(models) as (address, process):
            alone = run_visitors(address, plans, at_once=1)
            memory = [resident_bytes(process)]
            runs = []
            for _ in range(rounds):
                runs.append(run_visitors(address, plans, at_once=visitors))
                memory.append(resident_bytes(process))
    times = sorted(o.seconds for run in runs for mine in run.outcomes for o in mine)
    statuses = sum((run.statuses for run in (alone, *runs)), Counter())
    return {
        "visitors": visitors,
        "requests": sum(map(len, plans)),
        "bad": sum(request.bad for mine in plans for request in mine),
        "rounds": [compare(plans, alone, run) for run in runs],
        "server_errors": sum(count for status, count in statuses.items() if status >= 500),
        "p50_seconds": round(statistics.median(times), 3),
        "p95_seconds": round(times[int(0.95 * (len(times) - 1))], 3),
        "requests_a_second": round(sum(map(len, plans)) * rounds / sum(r.seconds for r in runs), 2),
        "alone_a_second": round(sum(map(len, plans)) / alone.seconds, 2),
        "resident_megabytes": [round(size / 1e6) for size in memory],
    }


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=16)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    document = measure(arguments.visitors, arguments.requests, arguments.rounds)
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
