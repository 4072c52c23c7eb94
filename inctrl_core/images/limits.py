"""How large images may be: a bound on pixels for all, one on bytes for what others send.

Both can be set, for a camera of more pixels or a server that takes more: ``INCTRL_MAX_MEGAPIXELS``
and ``INCTRL_MAX_MEGABYTES``.
"""

from __future__ import annotations

import os

from ..errors import ImageError

MAX_BYTES = 40 * 2**20  # Of a file that the page takes; one on the own disk may have any size.
MAX_PIXELS = 50_000_000
PIXELS_VARIABLE = "INCTRL_MAX_MEGAPIXELS"
BYTES_VARIABLE = "INCTRL_MAX_MEGABYTES"
_PILLOWS_OWN = 178_000_000  # Above this Pillow itself refuses.


def most_pixels() -> int:
    """Pixels that an image may have.

    Raises:
        ImageError: The variable holds no number.
    """
    set_to = _from_environment(PIXELS_VARIABLE)
    return MAX_PIXELS if set_to is None else min(int(set_to * 10**6), _PILLOWS_OWN)


def most_bytes() -> int:
    """Bytes that a file sent to the page may have.

    Raises:
        ImageError: The variable holds no number.
    """
    set_to = _from_environment(BYTES_VARIABLE)
    return MAX_BYTES if set_to is None else int(set_to * 2**20)


def check_pixels(width: int, height: int, name: str) -> None:
    """Raises ImageError where an image has no pixels, or more than :func:`most_pixels`."""
    if min(width, height) < 1:
        raise ImageError(f"{name} has no pixels; choose another one.")
    most = most_pixels()
    if width * height > most:
        raise ImageError(
            f"{name} has {width} x {height} pixels; use at most {most / 10**6:g} megapixels, or "
            f"set {PIXELS_VARIABLE}."
        )


def check_sent(size: int, name: str) -> None:
    """Raises ImageError where a file that was sent has more bytes than :func:`most_bytes`."""
    most = most_bytes()
    if size > most:
        raise ImageError(f"{name} has {size / 2**20:.0f} MB; use at most {most / 2**20:g} MB.")


def _from_environment(variable: str) -> float | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 10**6:
        raise ImageError(f"{variable} is '{text[:40]}'; set it to a number above 0, such as 50.")
    return number
