"""Matplotlib figures to files, or one sentence that says why not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InctrlError

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # Slow to import, and not needed to declare a command.

DPI = 150


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as its suffix says (PNG, SVG, PDF), making its folder.

    Raises:
        InctrlError: It cannot be written, or the suffix names no format.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            # The font lacks some scripts; their letters are boxes then, and a warning for each.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise InctrlError(f"{path} cannot be written ({error.strerror}); name another.") from error
    except ValueError:
        raise InctrlError(f"{path} has no suffix of a picture; end its name in .png.") from None
