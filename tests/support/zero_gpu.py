"""A ZeroGPU Space on this computer: ``app.py`` under the real package ``spaces``.

Only the GPU is missing. By what the service lends (see :mod:`tests.support.lending_service`), a
forked process finds none, or computes on its CPU where it would on the GPU, or ends, or meets an
error that nobody foresaw. Whatever else the package does is done: it pretends that the page's
process has a GPU, asks the service, forks, pickles both ways, keeps processes, passes on messages.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import torch

from tests.support.app_server import free_port
from tests.support.lending_service import CPU_IN_ITS_PLACE, ENDS, FAILS

needs_cuda_build = pytest.mark.skipif(
    torch.version.cuda is None, reason="the package spaces needs torch's CUDA build"
)
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600  # Seconds, on a machine that may be busy.


@dataclass(frozen=True)
class Space:
    """The page of a Space.

    Attributes:
        url: Its address.
        log: File of all that it says.
        process: The process.
    """

    url: str
    log: Path
    process: subprocess.Popen

    def says(self) -> str:
        """The log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def end(self) -> int:
        """Ends it as a host does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@contextmanager
def running_space(folder: Path, service: str, *arguments: str, **variables: str) -> Iterator[Space]:
    """Starts the page and waits for it.

    Args:
        folder: Becomes its home, and gets its log.
        service: Address of the lending service.
        *arguments: More of ``app.py``.
        **variables: More of its environment.
    """
    port = free_port()
    space = {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": service}
    # On one core: threads of processes that share two cores wait for each other in a loop.
    own = {"HOME": str(folder), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    environment = os.environ | space | own | variables
    environment.pop("GRADIO_TEMP_DIR", None)
    command = [sys.executable, "-m", "tests.support.zero_gpu", "--port", str(port), *arguments]
    log = folder / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
    started = Space(f"http://127.0.0.1:{port}/", log, process)
    try:
        _wait(started)
        yield started
    finally:
        # It ends the processes that it forked; killed, it would leave them behind.
        if process.poll() is None:
            try:
                started.end()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(space: Space) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert space.process.poll() is None, space.says()
        try:
            if httpx.get(space.url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(space.says())


def stand_in_for_the_gpu() -> None:
    """Replaces what a forked process does with the GPU that it was lent, and nothing else."""
    import spaces.zero.torch
    import spaces.zero.wrappers

    from inctrl_core.ui.common import lending

    find_gpu, move_pretended = spaces.zero.torch.init, spaces.zero.torch.move

    def find(name: str) -> None:
        if name == ENDS:
            os._exit(1)
        if name not in (CPU_IN_ITS_PLACE, FAILS):
            find_gpu(name)
        lending.DEVICE = torch.device("cpu") if name == CPU_IN_ITS_PLACE else torch.device("meta")

    def move(callback: object = None) -> None:
        # What is moved there was put on the pretended GPU before; that must be nothing.
        assert spaces.zero.torch.size() == 0
        if lending.DEVICE.type == "cuda":
            move_pretended(callback)

    spaces.zero.torch.init, spaces.zero.torch.move = find, move
    # As if all visitors came between its look at the page's connections and the fork.
    spaces.zero.wrappers.get_process_connections = lambda: ()


if __name__ == "__main__":
    import app
    from inctrl_core.ui.common import lending

    assert lending.gpus_are_lent()
    stand_in_for_the_gpu()
    sys.exit(app.main(sys.argv[1:]))
