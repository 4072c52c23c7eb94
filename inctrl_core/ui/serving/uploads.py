"""Where uploads and results lie while the application runs; imported before Gradio is."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "GRADIO_TEMP_DIR"
_PREFIX = "inctrl-uploads-"
# A file is kept so long after it was last used; one that is still arriving, after its last byte.
KEPT_SECONDS = 2 * 3600
_ARRIVING_SECONDS = 600
# A process renews its folder's date while it lives; this is far beyond the longest pause of one.
_ABANDONED_SECONDS = 24 * 3600


@contextmanager
def own_uploads() -> Iterator[None]:
    """Keeps uploads and results in a folder of this process, in ``GRADIO_TEMP_DIR`` if it is set.

    By default all Gradio applications of a computer share a folder where a file is named by its
    content: one that ends deletes its own uploads, and with them the same images of the others.
    Folders that a process left behind when it was killed are cleared away.
    """
    parent = os.environ.get(VARIABLE)
    if parent:
        os.makedirs(parent, exist_ok=True)
    # Not a TemporaryDirectory, which a forked process, as ZeroGPU has them, might delete as well.
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=parent or None)
    os.environ[VARIABLE] = folder
    _remove_abandoned(Path(folder).parent)
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if parent:
            os.environ[VARIABLE] = parent
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Deletes what nobody has used for long, whoever put it there and whether it was whole.

    Gradio deletes only the files that it noted: no upload that broke off, and not the first of the
    two copies that it makes of an image in a request of a language model.

    Args:
        folder: The folder of this process.
    """
    now = time.time()
    with suppress(OSError):
        os.utime(folder)
    for parent, names, files in os.walk(folder, topdown=False):
        # An upload lies in the folder itself while it arrives, and then in one of its own.
        kept = _ARRIVING_SECONDS if Path(parent) == folder else KEPT_SECONDS
        for path in (Path(parent, name) for name in files):
            with suppress(OSError):
                if now - path.lstat().st_ctime > kept:
                    path.unlink()
        for path in (Path(parent, name) for name in names):
            with suppress(OSError):  # Most hold something.
                if now - path.lstat().st_mtime > _ARRIVING_SECONDS:
                    path.rmdir()


def renew(path: Path) -> None:
    """Notes that a file is in use, so that it is kept for as long again."""
    with suppress(OSError):
        os.utime(path)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(_PREFIX + "*"):
        with suppress(OSError):
            if time.time() - folder.lstat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
