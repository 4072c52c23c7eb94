"""Variables of the environment, checked before Gradio reads them. No Gradio here."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ...errors import InctrlError
from .uploads import VARIABLE as TEMP_DIR

# Gradio makes numbers of these, some of them when it is imported, and stumbles over others.
_NUMBERS = {
    "GRADIO_SERVER_PORT": (0, 65535),
    "GRADIO_NUM_PORTS": (1, 65535),
    "GRADIO_NODE_SERVER_PORT": (0, 65535),
    "GRADIO_NODE_NUM_PORTS": (1, 65535),
    "GRADIO_NUM_WORKERS": (0, 64),
    "GRADIO_DEBUG": (0, 1),
}


def check_settings() -> None:
    """Makes sure that Gradio can use its variables.

    Raises:
        InctrlError: One of them is not a number in its range, or names no folder for files.
    """
    for name in _NUMBERS:
        read_number(name)
    _check_folder()


def read_number(name: str) -> int | None:
    """The number that one of Gradio's variables holds; None where it is not set.

    Raises:
        InctrlError: It holds anything else, or one out of its range.
    """
    text = os.environ.get(name)
    if text is None:
        return None
    low, high = _NUMBERS[name]
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise InctrlError(
            f"{name}={text[:100]} is not a number from {low} to {high}; correct or unset it."
        )
    return number


def _check_folder() -> None:
    named = os.environ.get(TEMP_DIR)
    try:
        folder = named or tempfile.gettempdir()
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        what = f"{TEMP_DIR}={named[:100]}" if named else "The system's temporary folder"
        raise InctrlError(
            f"{what} cannot hold uploads ({reason}); name a folder that this program may write to "
            f"with {TEMP_DIR}."
        ) from error
