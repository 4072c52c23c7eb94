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
from tests.adversarial import hostile
from tests.adversarial.measure import MEGABYTE, memory
from tests.adversarial.visitors import app_process
from tests.support.pictures import OTHER

NORMALS = OTHER.normals[:2]
QUERY = OTHER.queries[0]

# The most that may be added to the usual time of a score, and to the memory of the process that
# serves. Processor time holds on a busy machine too; clocks count where INCTRL_HOSTILE=1 says that
# nothing else runs.
SECONDS, BYTES = 2.0, 300 * MEGABYTE
GROWTH = 1.1
QUIET = "INCTRL_HOSTILE" in os.environ


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
        data = [normals or self.normals, query, "cookie", DEFAULT_MODEL]
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


@dataclass
class Spent:
    """Use of a process: the seconds of processor time, and the bytes at most beyond before."""

    seconds: float = 0.0
    bytes: int = 0


@contextmanager
def spent(process: int) -> Iterator[Spent]:
    """Measures the use of a process, without the processes that it has started."""
    Path(f"/proc/{process}/clear_refs").write_text("5")
    memory_before, seconds_before, measured = memory("VmRSS", process), _seconds(process), Spent()
    yield measured
    measured.seconds = _seconds(process) - seconds_before
    measured.bytes = memory("VmHWM", process) - memory_before


def _seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
@pytest.mark.skipif(
    not QUIET, reason="memory does not come back within its bound: INCTRL_HOSTILE=1"
)
def test_no_file_stops_the_page_for_others(capfd: pytest.CaptureFixture) -> None:
    costly, large, late, kinds, seen = [], [], [], set(), 0
    with app_process([DEFAULT_MODEL]) as (address, process), ThreadPoolExecutor(1) as beside:
        visitor, innocent = Visitor(address), Visitor(address)
        query = innocent.upload(QUERY.name, QUERY.read_bytes())
        costs, times = [], []
        for _ in range(12):
            with spent(process) as cost:
                alone = innocent.score(query)
            costs.append(cost.seconds)
            times.append(alone.seconds)
        usual, usual_time = statistics.median(costs), statistics.median(times)
        before = memory("VmRSS", process)
        for name, data in hostile.hostile_files(seed=1):
            file = visitor.upload("upload.png", data)
            with spent(process) as cost:
                other = beside.submit(innocent.score, query)
                answer = visitor.score(file)
                whole = other.result()
            seen += 1
            kinds.add(name.split("/")[0])
            assert whole.score == pytest.approx(alone.score, abs=1e-6), name
            assert answer.score is not None or answer.says, name
            # Two scores were asked for.
            if cost.seconds > 2 * usual + SECONDS:
                costly.append((name, round(cost.seconds, 2)))
            if QUIET and max(answer.seconds, whole.seconds) > usual_time + SECONDS:
                late.append((name, round(answer.seconds, 2), round(whole.seconds, 2)))
            if cost.bytes > BYTES:
                large.append((name, cost.bytes >> 20))
        for _ in range(4):
            innocent.score(query)
        after = memory("VmRSS", process)
    with capfd.disabled():
        print(
            f"\n{seen} files of {len(kinds)} formats: usual {usual:.2f} s of processor time, "
            f"{usual_time:.2f} s; memory {before >> 20} to {after >> 20} MB"
        )
    assert seen >= 200 and len(kinds) >= 12
    assert not costly and not large and not late, {"costly": costly, "large": large, "late": late}
    assert after < GROWTH * before
