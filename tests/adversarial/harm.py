"""What a decoder that a file has broken might do, to be called in a process that decodes."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from inctrl_core.errors import ImageError


def compute_forever(source: str) -> None:
    while True:
        pass


def wait_forever(source: str) -> None:
    time.sleep(3600)


def take_memory(source: str) -> int:
    return len(bytearray(8 * 2**30))


def die(source: str) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def end(source: str) -> None:
    os._exit(0)


def refuse(source: str) -> None:
    raise ImageError("Choose another one.")


def fail(source: str) -> None:
    raise KeyError("a defect")


def answer_at_length(source: str) -> bytes:
    return bytes(80 * 2**20)


def answer_with_code(source: str) -> Any:
    return Code()


def process_id(source: str) -> int:
    return os.getpid()


class Code:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/inctrl-was-here",)


def pause(source: str) -> None:
    time.sleep(1.0)


def modules(source: str) -> tuple[str, ...]:
    return tuple(name for name in sys.modules if "." not in name)
