"""Decodes images in processes of their own, each with limits on time and memory.

Decoders are written for honest files. Whatever a file does to one of them here ends one small
process, which is replaced: no file takes the program with it, or its time or its memory.

Processes of the standard library, with a pipe each: its pools, and others, stop for everyone when a
process is killed, or send all results through one queue.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ..errors import ImageError, InctrlError
from .answers import Whole, pack, unpack

# One that meets a hostile file leaves the other to everyone else; more would take cores from the
# model.
WORKERS = 2
# With what is drawn of it, an image is answered within two seconds, or refused. Of 50 megapixels
# and 40 MB a photograph takes 0.7 (JPEG) to 1.6 seconds (PNG) of a core's time, most others less
# than that, and AVIF and HEIC of more than 40 megapixels more; memory up to 0.9 GB (WebP).
CPU_SECONDS = 1.75
MEMORY = 1280 * 2**20
# Waiting for cores or a disk included; where the system does not count a process's time, all.
WALL_SECONDS = 60.0 if hasattr(signal, "setitimer") else 10.0
MAX_ANSWER = 64 * 2**20
# For the pixels of an answer, as far as they fit; a photograph for torch to resize does. Through
# the pipe they would be copied several times more.
SHARED = 12 * 2**20

TOO_LONG = "{name} takes too long to read; save it again as PNG or JPEG."
BROKE = "{name} breaks what reads it; save it again as PNG or JPEG."
TOO_LARGE = "The image takes more memory than there is; make it smaller."
NO_PROCESS = "This computer cannot start a process to read images now; try again in a minute."
CLOSED = "The program is ending; start it again."

_RETURNED, _REFUSED, _FAILED = "returned", "refused", "failed"


class DecodingPool:
    """Opens images in other processes; an opener, see :data:`inctrl_core.images.seen.Opener`.

    Callers have their turns in the order in which they came, one image at a time, so a visitor
    with many images lets others in between. The processes end with this one, however it ends.

    Args:
        workers: Number of processes.
    """

    def __init__(self, workers: int = WORKERS) -> None:
        from ..devices import start_one_core_threads  # With torch, which a decoder does without.

        # Not forked: this process has threads, and a fork would keep what locks they hold.
        self._context = multiprocessing.get_context("spawn")
        self._closed = False
        self._workers: set[_Worker] = set()
        self._turns: queue.Queue[_Worker | None] = queue.Queue()
        for _ in range(workers):
            self._turns.put(self._start())
        self._reducing = start_one_core_threads(1, "reduce")

    def __enter__(self) -> DecodingPool:
        """Itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the processes."""
        self.close()

    def __call__(
        self, reduce: Callable[..., Any], source: Any, *arguments: Any, **options: Any
    ) -> Any:
        """The result of ``reduce(image, *arguments)``, where the image is that of a source.

        Args:
            reduce: A function of a module, of an opened image; its result is an answer as
                :meth:`run` takes it.
            source: Path or bytes of the image.
            *arguments: What can be pickled.
            **options: For :func:`.image_files.open_image`.

        Raises:
            ImageError: The image cannot be used, or takes too long or too much memory.
        """
        answer = self.run(_open_and_reduce, source, reduce, arguments, options)
        if isinstance(answer, Whole):
            answer = self._reducing.submit(reduce, answer.image, *arguments).result()
        return answer

    def run(self, function: Callable[..., Any], source: Any, *arguments: Any) -> Any:
        """The result of ``function(source, *arguments)`` in another process.

        Args:
            function: A function of a module; its result consists of numbers, text, bytes, tuples,
                RGB images and :class:`.seen_images.SeenImage`.
            source: Path or bytes of the image.
            *arguments: What can be pickled.

        Raises:
            InctrlError: Whatever the function refuses; or a limit was reached.
            RuntimeError: A defect of this program, with the trace from there.
        """
        request = pickle.dumps((function, (source, *arguments)), pickle.HIGHEST_PROTOCOL)
        worker = self._turns.get()
        try:
            if self._closed:
                raise InctrlError(CLOSED)
            if worker is None:
                worker = self._start()
            kind, value = unpack(worker.ask(request), worker.pixels)
        except (_Ended, pickle.UnpicklingError) as error:
            ended = error if isinstance(error, _Ended) else _Ended(worker.end())
            self._workers.discard(worker)
            worker = None
            if self._closed:
                raise InctrlError(CLOSED) from None
            raise ImageError(ended.sentence(source)) from None
        finally:
            if worker is None and not self._closed:
                with contextlib.suppress(InctrlError):  # Whoever comes next tries again.
                    worker = self._start()
            self._turns.put(worker)
        if kind == _REFUSED:
            raise ImageError(value)
        if kind == _FAILED:
            raise RuntimeError(f"in a process that decodes images:\n{value}")
        return value

    def close(self) -> None:
        """Ends the processes; who still waits for one is told so."""
        self._closed = True
        for worker in list(self._workers):
            worker.end()
        self._reducing.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> _Worker:
        try:
            worker = _Worker(self._context)
        except OSError:
            raise InctrlError(NO_PROCESS) from None
        self._workers.add(worker)
        return worker


class _Ended(Exception):
    """A process that is gone, or was ended, before it answered."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code

    def sentence(self, source: Any) -> str:
        from .files import display_name

        late = self.exit_code is None or self.exit_code == -getattr(signal, "SIGPROF", 0)
        return (TOO_LONG if late else BROKE).format(name=display_name(source))


class _Worker:
    """A process, the pipe to it, and memory for the pixels of its answers."""

    def __init__(self, context: multiprocessing.context.SpawnContext) -> None:
        self._connection, theirs = context.Pipe()
        shared = context.RawArray(ctypes.c_ubyte, SHARED)
        self.pixels = memoryview(shared).cast("B")
        # Daemonic: ended where this process ends in an orderly way; otherwise their pipe closes.
        given = theirs, shared
        self.process = context.Process(target=serve, args=given, name="decoder", daemon=True)
        try:
            self.process.start()
        finally:
            theirs.close()

    def ask(self, request: bytes) -> bytes:
        """The answer to a request.

        Raises:
            _Ended: There is none; the process has been ended.
        """
        try:
            self._connection.send_bytes(request)
            answered = self._connection.poll(WALL_SECONDS)
            if answered:
                return self._connection.recv_bytes(MAX_ANSWER)
        except (EOFError, OSError):
            answered = True
        code = self.end()
        self._connection.close()
        raise _Ended(code if answered else None)

    def end(self) -> int | None:
        """Ends the process, which whoever waits for an answer notices; its exit code."""
        self.process.join(0.5)  # What is ending already has a reason that is worth knowing.
        self.process.kill()
        self.process.join(5)
        return self.process.exitcode


def serve(connection: Connection, shared: ctypes.Array) -> None:
    """Answers requests until the other end is closed; the main function of a process.

    Args:
        connection: Requests and answers, see :meth:`DecodingPool.run`.
        shared: Memory for the pixels of one answer at a time.
    """
    _restrain()
    pixels = memoryview(shared).cast("B")
    while True:
        try:
            function, arguments = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        with _limited_time():
            try:
                outcome = _RETURNED, function(*arguments)
            except InctrlError as error:
                outcome = _REFUSED, str(error)
            except MemoryError:
                outcome = _REFUSED, TOO_LARGE
            except Exception:
                outcome = _FAILED, traceback.format_exc()
            answer = pack(outcome, pixels)
        try:
            connection.send_bytes(answer)
        except OSError:
            return


def _restrain() -> None:
    """Takes limits on, and gives away what a decoder does not need; where the system has them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which ends this.
    with open(os.devnull, "r+b") as nothing:
        for standard in (0, 1, 2):  # libtiff writes what it thinks of a file.
            os.dup2(nothing.fileno(), standard)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from PIL import AvifImagePlugin, Image

    from . import seen as seen_images  # noqa: F401, what the requests need.

    Image.preinit()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    try:
        import resource
    except ImportError:
        return  # Windows: there is the limit of waiting.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = Path("/proc/self/statm")
    if sys.platform == "linux" and status.exists():
        used = int(status.read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = used + int(MEMORY * _scale())
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _scale() -> float:
    """By how much larger than usual images may be here; never below 1."""
    from .limits import MAX_PIXELS, most_pixels

    return max(1.0, most_pixels() / MAX_PIXELS)


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    """Lets the system end this process where it computes for longer than ``CPU_SECONDS``."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS * _scale())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _open_and_reduce(
    source: Any, reduce: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    from .files import open_image
    from .preprocessing import FAST_SIDE

    image = open_image(source, **options)
    return Whole(image) if max(image.size) <= FAST_SIDE else reduce(image, *arguments)
