"""The end of the process when it is told to (SIGTERM) or interrupted (Ctrl-C), at any moment.

An exception would not do: libraries swallow it, while they are imported and elsewhere, and threads
that compute keep an interpreter from ending. So what must be left is left, and the process ends.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Self, TypeVar

Entered = TypeVar("Entered")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ending:
    """Leaves what was entered, however the process ends."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._stack = ExitStack()
        self._asked = False
        self._held = False

    def __enter__(self) -> Self:
        """Takes the signals."""
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves what was entered; the process goes on."""
        self._held = True
        self._stack.close()
        self._held = False

    def listen(self) -> None:
        """Takes the signals; again after others may have taken them."""
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def enter(self, context: AbstractContextManager[Entered]) -> Entered:
        """Enters a context, and gives what it gives; a signal in the midst of that waits."""
        self._held = True
        entered = self._stack.enter_context(context)
        self._held = False
        if self._asked:
            self._end()
        return entered

    def wait(self, close: Callable[[], None]) -> None:
        """Waits for a signal, closes what runs, and ends the process.

        Args:
            close: Ends what has been serving; a second signal does not interrupt it.
        """
        self._held = True
        self.listen()
        while not self._asked:
            time.sleep(0.1)
        with suppress(Exception):  # Whatever it was, the end is near.
            close()
        self._end()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            os._exit(0)  # A forked one, as ZeroGPU has them, must leave nothing.
        self._asked = True
        if not self._held:
            self._end()

    def _end(self) -> None:
        self._held = True
        self._stack.close()
        for child in _children():
            with suppress(OSError):
                os.kill(child, signal.SIGTERM)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, RuntimeError, ValueError):
                stream.flush()
        os._exit(0)


def _children() -> list[int]:
    """Processes that this one started, such as Node; on Linux, where they would live on."""
    lists = Path("/proc/self/task").glob("*/children")
    found: list[int] = []
    for path in lists:
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found
