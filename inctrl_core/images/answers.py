"""The answers of a process that decodes images, and how they get out of it.

Their pixels lie in memory that both sides share, as far as there is room; the rest is packed. What
comes out is numbers, text, bytes, tuples and images, whatever a file has made of the process.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from PIL import Image

from .files import levels_used, with_levels
from .levels import Levels

# What else an answer may name: a process that a file has taken over must not get any further.
_ANSWERS = {
    (__name__, "_restore_image"),
    (__name__, "Whole"),
    ("inctrl_core.images.seen", "SeenImage"),
    ("inctrl_core.images.levels", "Levels"),
}


class Whole:
    """An image that the other side reduces, with torch.

    Args:
        image: RGB, of at most ``FAST_SIDE`` pixels a side.
    """

    def __init__(self, image: Image.Image) -> None:
        self.image = image


def pack(answer: Any, pixels: memoryview) -> bytes:
    """An answer without what fits into the shared memory.

    Args:
        answer: Numbers, text, bytes, tuples, RGB images, :class:`Whole` and
            :class:`.seen.SeenImage`.
        pixels: The shared memory, which is written to.
    """
    stream = io.BytesIO()
    _Packer(stream, pixels).dump(answer)
    return stream.getvalue()


def unpack(packed: bytes, pixels: memoryview) -> Any:
    """The answer.

    Args:
        packed: The result of :func:`pack`.
        pixels: The shared memory, which is copied from: the process may write to it at any time.

    Raises:
        UnpicklingError: No honest process has made it.
    """
    try:
        return _Unpacker(io.BytesIO(packed), pixels).load()
    except Exception as error:
        raise pickle.UnpicklingError(str(error)) from error


class _Packer(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, pixels: memoryview) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self._pixels, self._used = pixels, 0

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Image.Image):
            return None
        start, end = self._used, self._used + 3 * value.width * value.height
        if end > len(self._pixels):
            return None  # Packed with the rest, below.
        self._pixels[start:end] = value.tobytes()
        self._used = end
        return start, value.size, levels_used(value)

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Image.Image):
            return _restore_image, (value.size, value.tobytes(), levels_used(value))
        return NotImplemented


class _Unpacker(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, pixels: memoryview) -> None:
        super().__init__(stream)
        self._pixels = pixels

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ANSWERS:
            raise pickle.UnpicklingError(f"{module}.{name} in an answer")
        return super().find_class(module, name)

    def persistent_load(self, place: Any) -> Image.Image:
        start, size, levels = place
        if start < 0:
            raise pickle.UnpicklingError("pixels before the beginning, in an answer")
        return _restore_image(size, self._pixels[start : start + 3 * size[0] * size[1]], levels)


def _restore_image(size: tuple[int, int], data: bytes | memoryview, levels: Any) -> Image.Image:
    width, height = size
    if min(width, height) < 1 or len(data) != 3 * width * height:
        raise pickle.UnpicklingError("an image and other pixels, in an answer")
    if not isinstance(levels, Levels | None):
        raise pickle.UnpicklingError("an image of odd levels, in an answer")
    return with_levels(Image.frombytes("RGB", size, data), levels)
