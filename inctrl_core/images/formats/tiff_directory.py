"""Tags of a TIFF directory, read without their data, as TIFF files, Exif and MPF blocks have them.

Pillow copies the data of every tag, and a directory may point all of its tags at the same bytes:
what it declares is compared with what there is before anything is copied.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

from ...errors import ImageError

ORIENTATION = 274
POINTERS = (34665, 34853, 40965)  # To the directories of Exif, GPS and interoperability.
# libtiff's own bound; a directory of a camera or a program has some dozens.
MAX_TAGS = 4096
# Pillow makes a Python object of each number, and a slower one of each fraction. A transfer
# function of 16 bits has 200,000 numbers.
MAX_NUMBERS = 2**20
MAX_FRACTIONS = 2**12
_SLACK = 2**16  # Tags may well share a few bytes, as the two resolutions do.

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_WHOLE = {3: "H", 4: "L", 8: "h", 9: "l", 13: "L", 16: "Q"}  # Formats of whole numbers, for struct.
_FRACTIONS = (5, 10)
_HEADERS = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
    # Pillow takes these as well: the second half swapped.
    b"MM*\0": (">", False),
    b"II\0*": ("<", False),
}


@dataclass(frozen=True)
class Tag:
    """One entry of a directory.

    Attributes:
        kind: The type's number.
        count: Number of values.
        place: Where the values begin, in bytes from the structure's beginning.
    """

    kind: int
    count: int
    place: int

    @property
    def size(self) -> int:
        """Bytes of all values; 0 where the type is unknown, for Pillow leaves those alone."""
        return self.count * _BYTES.get(self.kind, 0)


class Directory:
    """A directory of a TIFF structure, the first one unless another is named.

    Args:
        stream: The structure, seekable, from its beginning.
        length: Its bytes.
        big: Whether it is a BigTIFF; None for what its header says.
        place: Where the directory begins; None for where the header says.

    Raises:
        ValueError: It is no TIFF structure, or its directory lies outside of it.
    """

    def __init__(
        self, stream: BinaryIO, length: int, big: bool | None = None, place: int | None = None
    ) -> None:
        self._stream, self.length, self._big = stream, length, big
        header = self._read(0, 16)
        if header[:4] not in _HEADERS:
            raise ValueError("no TIFF structure")
        self.order, says_big = _HEADERS[header[:4]]
        big = says_big if big is None else big
        if place is None:
            place = self._number("Q" if big else "L", header[8:16] if big else header[4:8])
        width, form = (8, "Q") if big else (2, "H")
        entry, step = ("HHQ", 20) if big else ("HHL", 12)
        self.count = self._number(form, self._read(place, width))
        self.tags: dict[int, Tag] = {}
        data = self._read(place + width, min(self.count, MAX_TAGS) * step)
        value, inline = (12, 8) if big else (8, 4)
        for start in range(0, len(data) - step + 1, step):
            number, kind, count = struct.unpack_from(self.order + entry, data, start)
            at = place + width + start + value
            if count * _BYTES.get(kind, 0) > inline:
                form = "Q" if big else "L"
                (at,) = struct.unpack_from(self.order + form, data, start + value)
            self.tags[number] = Tag(kind, count, at)

    def whole_numbers(self, number: int, most: int) -> list[int]:
        """The first values of a tag, at most ``most``; none where it holds no whole numbers."""
        tag = self.tags.get(number)
        if tag is None or tag.kind not in _WHOLE:
            return []
        form, width = _WHOLE[tag.kind], _BYTES[tag.kind]
        data = self._read(tag.place, min(tag.count, most) * width)
        return list(struct.unpack(f"{self.order}{len(data) // width}{form}", _even(data, width)))

    def whole_number(self, number: int, default: int) -> int:
        """The first value of a tag, or ``default``."""
        return next(iter(self.whole_numbers(number, 1)), default)

    def inner(self) -> list[Directory]:
        """The directories that this one names, of an Exif block: its own, and those of its own."""
        found = []
        for number in POINTERS:
            place = self.whole_number(number, 0)
            if place:
                try:
                    found.append(Directory(self._stream, self.length, self._big, place))
                except ValueError:
                    continue  # Cut off.
        return found

    def contains(self, place: int, size: int) -> int:
        """Bytes of a stretch that lie inside the structure."""
        return max(0, min(size, self.length - place))

    def _read(self, place: int, size: int) -> bytes:
        inside = self.contains(place, size)
        if not inside:
            return b""
        self._stream.seek(place)
        return self._stream.read(inside)

    def _number(self, form: str, data: bytes) -> int:
        try:
            return struct.unpack(self.order + form, data)[0]
        except struct.error:
            raise ValueError("a TIFF structure that ends too early") from None


def check_directory(directory: Directory, name: str) -> None:
    """Raises ImageError where reading a directory would take more than its file is large.

    Args:
        directory: As opened.
        name: What to call the image in the message.
    """
    for inner in directory.inner():
        _check_tags(inner, name)
        for innermost in inner.inner():
            _check_tags(innermost, name)
    _check_tags(directory, name)


def _check_tags(directory: Directory, name: str) -> None:
    tags = directory.tags.values()
    declared = sum(directory.contains(tag.place, tag.size) for tag in tags)
    numbers = sum(tag.count for tag in tags if tag.kind in _BYTES and tag.kind not in (1, 2, 6, 7))
    fractions = sum(tag.count for tag in tags if tag.kind in _FRACTIONS)
    if (
        directory.count > MAX_TAGS
        or declared > directory.length + _SLACK
        or numbers > MAX_NUMBERS
        or fractions > MAX_FRACTIONS
    ):
        raise ImageError(f"{name} has tags that claim more data than it holds; save it as PNG.")


def read_orientation(block: bytes) -> int | None:
    """The orientation that an Exif block names, 1 to 8; None where it names none."""
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    try:
        return Directory(io.BytesIO(block), len(block)).whole_number(ORIENTATION, 0) or None
    except ValueError:
        return None


def _even(data: bytes, width: int) -> bytes:
    return data[: len(data) // width * width]
