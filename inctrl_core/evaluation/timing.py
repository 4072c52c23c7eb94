"""Times of tasks against each other.

All are timed in turn, round after round, so that whatever else the computer does in a round falls
on all of them alike; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Row:
    """One thing that was timed.

    Attributes:
        name: What.
        seconds: Median over the rounds.
        fastest: Least over the rounds, seconds.
        ratio: Against as many bare passes as there are images in it, or one for the text; median
            over the rounds; None where there is nothing to compare.
        target: What the ratio should not exceed; None where none is set.
    """

    name: str
    seconds: float
    fastest: float
    ratio: float | None = None
    target: float | None = None


@dataclass(frozen=True)
class Task:
    """A task to time: its name, the number of bare passes it is compared with, and its target."""

    name: str
    run: Callable[[], object]
    passes: int | None = 1
    target: float | None = None


def time_tasks(tasks: Sequence[Task], device: torch.device, rounds: int) -> tuple[Row, ...]:
    """Times the tasks in turn; the others are compared with the first."""
    times: list[list[float]] = [[] for _ in tasks]
    for number in range(rounds + 1):
        for task, taken in zip(tasks, times, strict=True):
            _wait_for(device)
            start = time.perf_counter()
            task.run()
            _wait_for(device)
            if number > 0:
                taken.append(time.perf_counter() - start)
    rows = []
    for task, taken in zip(tasks, times, strict=True):
        ratio = None
        if task.passes is not None:
            ratio = statistics.median(
                seconds / (task.passes * bare)
                for seconds, bare in zip(taken, times[0], strict=True)
            )
        rows.append(Row(task.name, statistics.median(taken), min(taken), ratio, task.target))
    return tuple(rows)


def _wait_for(device: torch.device) -> None:
    """Waits until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory() -> int | None:
    """Most resident memory of this process so far, bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
