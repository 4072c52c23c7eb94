"""Files that are made for one visitor: downloads, and pictures of results."""

from __future__ import annotations

import io
import logging
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

logger = logging.getLogger(__name__)

NOT_KEPT = "The server cannot keep files at the moment, perhaps for want of room; try again later."
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

    Gradio knows of no file that was not written whole, so what there is of one is removed here.

    Raises:
        gr.Error: The disk refuses; in a sentence.
    """
    folder = Path(get_upload_folder()) / secrets.token_hex(20)
    try:
        folder.mkdir(parents=True)
        yield folder / name
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        logger.error("A download could not be kept: %s", error)
        raise gr.Error(NOT_KEPT, print_exception=False) from error


def picture_file(picture: Image.Image) -> str:
    """A picture as a JPEG file of its own, for ``gr.Image``.

    Given the picture itself, Gradio names the file by its content. Where two visitors get the same
    result, one would be sent the file while it is written anew for the other.

    Raises:
        gr.Error: The disk refuses; in a sentence.
    """
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG")
    with new_file("image.jpeg") as path:
        path.write_bytes(encoded.getvalue())  # Pillow says nothing of a disk that is full.
    return str(path)
