"""Where uploads and results lie while the application runs; imported before Gradio is."""

from __future__ import annotations

import os
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
    with tempfile.TemporaryDirectory(prefix="inctrl-", ignore_cleanup_errors=True) as folder:
        os.environ[VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[VARIABLE]
