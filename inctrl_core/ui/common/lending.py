"""GPUs lent for one call at a time, as a Hugging Face ZeroGPU Space has them (package ``spaces``).

For each call the package asks a service for a GPU and runs the function in a process that it forks
here, or in one that it kept from an earlier call. The process of the page itself never has a GPU:
the package puts a pretended one in its place, which only the thread that imported the package can
use, and only its memory; on any other thread whatever touches it fails. So here all models lie on
the CPU, like what crosses in either direction, and a forked process moves its own copy to the GPU.
"""

from __future__ import annotations

import inspect
import io
import itertools
import logging
import os
import pickle
import re
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

import gradio as gr
import httpx
import torch
from gradio.context import LocalContext

from ...devices import NO_MEMORY, pick_precision
from ...errors import InctrlError
from ...model.detector import Detector

logger = logging.getLogger(__name__)

# The longest step takes a few seconds, the start of a process included. Whoever asks for less waits
# less, and whoever has less left than is asked for is refused.
GPU_SECONDS = 30
DEVICE = torch.device("cuda")  # Of a process that was lent a GPU.

AWAY = "The service that lends GPUs cannot be reached; try again in a minute."
NO_ANSWER = "The service that lends GPUs gives no usable answer; try again in a minute."
BROKEN = "Something went wrong on the lent GPU; try again, or with other images."
TAKEN_BACK = (
    "The lent GPU was taken away before the work was done; try again, or with fewer images."
)
UNUSABLE = "The lent GPU cannot be used; try again in a minute."
# By the titles that the package gives its errors. Its messages speak of accounts and prices, in
# several sentences; they are in the log.
REFUSALS = {
    "ZeroGPU quota exceeded": "The time on lent GPUs is used up; try again {when}, or sign in to "
    "Hugging Face, where accounts have more of it.",
    "ZeroGPU pending credits exceeded": "Too many calls of this account hold a GPU already; try "
    "again when they are done.",
    "ZeroGPU illegal duration": "This account cannot be lent a GPU for as long as a score needs; "
    "sign in to Hugging Face, where accounts have more time.",
    "ZeroGPU queue timeout": "No GPU came free in time; try again in a minute.",
    "ZeroGPU client error": "There is no GPU to lend at the moment; try again in a minute, or "
    "reload the page.",
}
FAILED = "InCTRL on a lent GPU"  # The title of an error that nobody foresaw, from there.
WORKER_ERROR, ABORTED = "ZeroGPU worker error", "GPU task aborted"
NO_GPU = "No GPU was lent; try again in a minute."
_WAIT = re.compile(r"[Tt]ry again in ((?:\d+ days?, )?\d+:\d\d:\d\d)")


def gpus_are_lent() -> bool:
    """Whether this is a Space that lends GPUs for a call.

    The first call imports the package, which then pretends that there is a GPU; it is to come from
    the main thread, before anything asks for one.

    Raises:
        InctrlError: The variables of such a Space are set, but the package cannot work with them.
    """
    spaces = _import_spaces()
    return spaces is not None and bool(spaces.config.Config.zero_gpu)


class LentModel:
    """One model that computes where the GPU is.

    The package keeps processes by function. Each model has a function of its own, so that a process
    which was forked before a visitor chose another model is never asked for that one.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        # Of the calls under way. A forked process finds the model here, under whatever number it
        # was forked for, without a lock: a lock may be held by a thread that it does not have.
        self._detectors: dict[int, Detector] = {}
        self._run_there = _import_spaces().GPU(duration=GPU_SECONDS)(_task(self._detectors))

    def run(self, detector: Detector, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of ``function(detector, *arguments)``, computed by a process with a GPU.

        Args:
            detector: The model, on the CPU.
            function: A function of a module.
            *arguments: What can be pickled.

        Raises:
            InctrlError: Whatever the function refuses; or no GPU was lent, or something failed
                there, of which the log has the details.
        """
        packed = pack((_port(), function, arguments))
        number = next(self._numbers)
        self._detectors[number] = detector
        try:
            answer = self._run_there(packed)
        except Exception as error:
            raise InctrlError(_sentence(error)) from error
        finally:
            del self._detectors[number]
        outcome = pickle.loads(answer)
        if isinstance(outcome, InctrlError):
            raise outcome
        return outcome


def pack(value: Any) -> bytes:
    """The value pickled, every tensor of it on the CPU.

    By value: the package's own queue would move tensors into shared memory, of which a container
    has little, and which is gone if the other process ends first.
    """
    stream = io.BytesIO()
    _Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(value)
    return stream.getvalue()


def launch(page: gr.Blocks, **options: Any) -> None:
    """``page.launch(**options)``, also where the service that lends GPUs cannot be told of it.

    The package tells the service first. Where that fails the page starts all the same: whoever asks
    for a score reads why there is none, until the service is back.
    """
    try:
        page.launch(**options)
    except Exception as error:
        start = inspect.unwrap(gr.Blocks.launch)
        # The package takes its own part out of ``launch`` once that is done.
        if start is gr.Blocks.launch:
            raise
        logger.error("The service that lends GPUs was not told of the start: %s", error)
        start(page, **options)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.device.type != "cpu":
            return value.cpu().__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if isinstance(value, InctrlError):  # Whatever its kind is made from, it is its sentence.
            return _restore_error, (type(value), str(value))
        return NotImplemented


def _restore_error(kind: type[InctrlError], sentence: str) -> InctrlError:
    return kind.__new__(kind, sentence)


def _task(detectors: dict[int, Detector]) -> Callable[[bytes], bytes]:
    """The function that runs in the other process; a new one each time."""
    placed: list[Detector] = []  # Filled there, for all calls of that process.

    def run_there(packed: bytes) -> bytes:
        try:
            port, function, arguments = pickle.loads(packed)
            if not placed:
                _leave_connections(port)
                placed.append(next(iter(detectors.values())).to(DEVICE, _precision()))
            return pack(function(placed[0], *arguments))
        except torch.OutOfMemoryError:
            return pack(InctrlError(NO_MEMORY))
        except InctrlError as error:
            return pack(error)  # As a result: an exception would cross without its sentence.
        except Exception:
            # As the package's kind of exception, the only one that it passes on: this process is
            # not to serve again, for an error of the GPU would come back at every call.
            raise gr.Error(traceback.format_exc(), title=FAILED, print_exception=False) from None

    return run_there


def _port() -> int | None:
    """The port of the page that was asked; None outside of a request."""
    page = LocalContext.blocks.get(None)
    return page.server.config.port if page is not None else None


def _leave_connections(port: int | None) -> None:
    """Closes a forked process's copies of the page's connections.

    The package does so too, but for those that it saw just before it forked. A visitor who came
    between would wait for the end of the connection until this process ends.
    """
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # No socket, or the listing itself.
            opened = socket.socket(fileno=int(name))
            if (
                opened.family in (socket.AF_INET, socket.AF_INET6)
                and opened.getsockname()[1] == port
            ):
                opened.close()
            else:
                opened.detach()


def _precision() -> torch.dtype:
    return pick_precision(None, DEVICE)


def _import_spaces() -> ModuleType | None:
    """The package; None where it is not installed."""
    try:
        import spaces
        import spaces.config
    except ImportError:
        return None
    except Exception as error:
        raise InctrlError(
            "SPACES_ZERO_GPU is set, but the package spaces does not work here "
            f"({type(error).__name__}: {error}); unset it outside of a ZeroGPU Space."
        ) from error
    return spaces


def _sentence(error: Exception) -> str:
    """The sentence for a visitor whose call got no GPU, or lost it; the log gets all."""
    if isinstance(error, gr.Error):
        title, message = str(getattr(error, "title", "")), str(error.message)
        if title == FAILED:
            logger.error("An error on a lent GPU", exc_info=RuntimeError(f"there:\n{message}"))
            return BROKEN
        logger.warning("No GPU: %s: %s", title, message)
        if title == WORKER_ERROR:
            return TAKEN_BACK if message == ABORTED else UNUSABLE
        wait = _WAIT.search(message)
        when = f"in {wait.group(1)}" if wait else "later"
        return REFUSALS.get(title, NO_GPU).format(when=when)
    if isinstance(error, httpx.TransportError):
        logger.warning("No GPU: %s: %s", type(error).__name__, error)
        return AWAY
    logger.warning("No GPU", exc_info=error)
    return NO_ANSWER
