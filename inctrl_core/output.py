"""Somebody's text in tables that spreadsheets open."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from .errors import InctrlError

# Programs read comma-separated values by other separators too, as their language has it, and take
# what begins so for a formula, in full-width letters as well. Blanks and quotes may stand before.
_FORMULA = re.compile(r"(?:^|(?<=[;|,\t\r\n]))(?=[\s\"']*[=+\-@＝＋－＠])")


def table_text(value: str) -> str:
    """A text that no spreadsheet takes for a formula, whichever separator it reads a table by.

    An apostrophe goes before what would begin one: spreadsheets show what follows, and compute
    nothing.

    >>> table_text("=1+1.png")
    "'=1+1.png"
    >>> table_text("a;=1+1|-2.png")
    "a;'=1+1|'-2.png"
    >>> table_text("part-3 (a=b).png")
    'part-3 (a=b).png'
    """
    return _FORMULA.sub("'", value)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file that appears whole or not at all, in a folder that is made if need be.

    Args:
        path: Path of the file; an old one stays until the new one is whole.
        write: Given another path in the same folder, fills it.

    Raises:
        InctrlError: It cannot be written; nothing is left behind.
    """
    # The process's own name, so that two that write the same file do not meet.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.touch()
            mode = partial.stat().st_mode
            write(partial)
            partial.chmod(mode)  # safetensors makes files for their owner's eyes alone.
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch and safetensors have kinds of their own for a disk that is full.
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InctrlError(
            f"{path} cannot be written ({reason}); free some space there, or name another folder."
        ) from error
