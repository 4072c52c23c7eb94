"""Where uploads and results lie while the application runs; imported before Gradio is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "GRADIO_TEMP_DIR"


@contextmanager
def own_uploads() -> Iterator[None]:
    """Keeps uploads and results in a folder of this process, unless ``GRADIO_TEMP_DIR`` names one.

    By default all Gradio applications of a computer share a folder where a file is named by its
    content: one that ends deletes its own uploads, and with them the same images of the others.
    """
    if os.environ.get(VARIABLE):
        yield
        return
    # Not a TemporaryDirectory, which a forked process, as ZeroGPU has them, might delete as well.
    folder = tempfile.mkdtemp(prefix="inctrl-")
    os.environ[VARIABLE] = folder
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        shutil.rmtree(folder, ignore_errors=True)
