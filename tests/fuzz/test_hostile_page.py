"""Two hundred files whose structure is the attack, sent to the page while somebody scores."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from tests.fuzz import hostile
from tests.fuzz.measure import MEGABYTE, memory
from tests.load.visitors import app_process

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "lawn"
NORMALS = [EXAMPLE / "normals" / f"normal_{i}.jpg" for i in (1, 2)]
QUERY = EXAMPLE / "queries" / "coin.jpg"

# What may be added to the usual time of a score, and to the memory of the process that serves.
SECONDS, BYTES = 2.0, 300 * MEGABYTE
GROWTH = 1.1


@dataclass
class Answer:
    """What a call of ``/score`` gave: the score or the sentence, and the seconds it took."""

    score: float | None
    says: str
    seconds: float


class Visitor:
    """Somebody who uploads files and has them scored.

    Args:
        address: Of the page.
    """

    def __init__(self, address: str) -> None:
        self.client = httpx.Client(base_url=f"{address.rstrip('/')}/gradio_api", timeout=120)
        self.normals = [self.upload(path.name, path.read_bytes()) for path in NORMALS]

    def upload(self, name: str, data: bytes) -> dict:
        """Uploads a file; how the page is told of it."""
        answer = self.client.post("/upload", files={"files": (name, data)})
        answer.raise_for_status()
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}

    def score(self, query: dict, normals: list[dict] | None = None) -> Answer:
        """Scores an uploaded query."""
        start = time.monotonic()
        data = [normals or self.normals, query, "lawn", DEFAULT_MODEL]
        event = self.client.post("/call/score", json={"data": data}).json()["event_id"]
        with self.client.stream("GET", f"/call/score/{event}") as stream:
            kind = ""
            for line in stream.iter_lines():
                if line.startswith("event:"):
                    kind = line[6:].strip()
                elif line.startswith("data:") and kind in ("complete", "error"):
                    break
        seconds, result = time.monotonic() - start, json.loads(line[5:])
        if kind == "complete":
            return Answer(result[0]["fused"], "", seconds)
        return Answer(None, str(result), seconds)


@contextmanager
def new_peak(process: int) -> Iterator[dict[str, int]]:
    """Measures by how much the memory of a process exceeds, at most, that of the beginning."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    before, measured = memory("VmRSS", process), {}
    yield measured
    measured["bytes"] = memory("VmHWM", process) - before


@pytest.mark.slow
@pytest.mark.skipif(
    "INCTRL_HOSTILE" not in os.environ,
    reason="bounds on seconds need a quiet machine: INCTRL_HOSTILE=1",
)
def test_no_file_stops_the_page_for_others(capfd: pytest.CaptureFixture) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell a process's peak of memory")
    slow, large, late, kinds, seen = [], [], [], set(), 0
    with app_process([DEFAULT_MODEL]) as (address, process), ThreadPoolExecutor(1) as beside:
        visitor, innocent = Visitor(address), Visitor(address)
        query = innocent.upload(QUERY.name, QUERY.read_bytes())
        alone = [innocent.score(query) for _ in range(12)]
        usual = statistics.median(answer.seconds for answer in alone)
        before = memory("VmRSS", process)
        for name, data in hostile.hostile_files(seed=1):
            file = visitor.upload("upload.png", data)
            with new_peak(process) as measured:
                other = beside.submit(innocent.score, query)
                answer = visitor.score(file)
                whole = other.result()
            seen += 1
            kinds.add(name.split("/")[0])
            assert whole.score == pytest.approx(alone[0].score, abs=1e-6), name
            assert answer.score is not None or answer.says, name
            if answer.seconds > usual + SECONDS:
                slow.append((name, round(answer.seconds, 2)))
            if whole.seconds > usual + SECONDS:
                late.append((name, round(whole.seconds, 2)))
            if measured["bytes"] > BYTES:
                large.append((name, measured["bytes"] >> 20))
        for _ in range(4):
            innocent.score(query)
        after = memory("VmRSS", process)
    with capfd.disabled():
        print(f"\n{seen} files: usual {usual:.2f} s, memory {before >> 20} to {after >> 20} MB")
    assert seen >= 200 and len(kinds) >= 12
    assert not slow and not late and not large, {"slow": slow, "late": late, "large": large}
    assert after < GROWTH * before
