"""Files that are made when a visitor asks for them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

logger = logging.getLogger(__name__)

NO_ROOM = "The server has no room on its disk at the moment; try again later."
# Starts the download of what was just made, or nothing after an error.
DOWNLOAD = """file => {
  if (!file) return;
  const link = document.createElement('a');
  link.href = file.url;
  link.download = file.orig_name ?? '';
  document.body.append(link);
  link.click();
  link.remove();
}"""


@contextmanager
def new_file(name: str) -> Iterator[Path]:
    """A path to write to, in Gradio's own folder, that nobody can guess; Gradio removes the file.

    Raises:
        gr.Error: The disk refuses; in a sentence.
    """
    try:
        folder = Path(get_upload_folder()) / secrets.token_hex(20)
        folder.mkdir(parents=True)
        yield folder / name
    except OSError as error:
        logger.error("A download could not be kept: %s", error)
        raise gr.Error(NO_ROOM, print_exception=False) from error
