"""What all fuzzing shares: a watch over files, and what counts as one clear sentence."""

from __future__ import annotations

import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# Where the program and its libraries lie; reading there is what every import does.
CODE = {Path(p).resolve() for p in (ROOT, sys.prefix, *sysconfig.get_paths().values())}
SYSTEM = {Path(p) for p in ("/proc", "/sys", "/dev", "/usr", "/lib", "/etc/mime.types")}


class FileWatch:
    """Records every file that this process opens, removes, renames or makes, and every command.

    An audit hook stays for the life of the process, so there is one, which is switched on and off.
    """

    EVENTS = {"os.remove": 0, "os.rename": 1, "os.mkdir": 0, "os.rmdir": 0, "os.symlink": 1}
    COMMANDS = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"}

    def __init__(self) -> None:
        self.on = False
        self.read: set[Path] = set()
        self.written: set[Path] = set()
        self.commands: set[str] = set()
        sys.addaudithook(self._notice)

    def _notice(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            writes = arguments[2] & 0b11 != 0
            (self.written if writes else self.read).add(_path(arguments[0]))
        elif event in self.EVENTS:
            self.written.add(_path(arguments[self.EVENTS[event]]))
        elif event in self.COMMANDS:
            self.commands.add(event)

    @contextmanager
    def allowing(self, *folders: Path) -> Iterator[None]:
        """Fails where something else than code is read, or anything written, outside folders."""
        self.read, self.written, self.commands, self.on = set(), set(), set(), True
        try:
            yield
        finally:
            self.on = False
        open_to_all = [folder.resolve() for folder in folders]
        strangers = [p for p in self.written if not _inside(p, open_to_all)]
        code = [*open_to_all, *CODE, *SYSTEM]
        strangers += [p for p in self.read if not _inside(p, code)]
        assert not strangers, f"touched {sorted(strangers)[:5]}"
        assert not self.commands


def _path(given: str | bytes) -> Path:
    return Path(given.decode() if isinstance(given, bytes) else given).absolute()


def _inside(path: Path, folders: list[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


@pytest.fixture(scope="session")
def files() -> FileWatch:
    return FileWatch()


@pytest.fixture(scope="session")
def one_sentence() -> Callable[[object], str]:
    """Checks that a message is one sentence for a person, and returns it."""

    def check(error: object) -> str:
        text = str(error)
        assert text.isprintable() and 10 < len(text) < 700, repr(text[:900])
        assert text[0].isupper() or text.startswith(("'", "/", "open_clip", "config.json")), text
        assert "NoneType" not in text and "object is not" not in text, text
        assert text.endswith("."), text
        assert "Traceback" not in text and "object at 0x" not in text, text
        return text

    return check


def resident_bytes() -> int:
    """Memory of this process that is in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class MemoryPeak:
    """Watches how far the memory of this process grows while a block runs."""

    def __enter__(self) -> MemoryPeak:
        self._before = self._most = resident_bytes()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._done.wait(0.01):
            self._most = max(self._most, resident_bytes())

    @property
    def grown(self) -> int:
        """Bytes above the beginning, at most."""
        return self._most - self._before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="inctrl-fuzz-") as folder:
        yield Path(folder)
