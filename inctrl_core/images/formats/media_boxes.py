"""Bounds on the boxes of an AVIF or HEIF file: how many, and how often they name the same bytes."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ...errors import ImageError
from .tiff_directory import Directory, check_directory

# An image cut into the smallest tiles has some thousands of items with a box or two each.
MAX_BOXES = 2**15
MAX_ITEMS = 2**14
MAX_SAMPLES = 2**17  # Frames of an animation: an hour of 30 a second.
_DEPTH = 8
_SLACK = 2**16

# Boxes that hold boxes, and the bytes before those: a version and flags, for some a count.
_CONTAINERS = {
    b"meta": 4,
    b"iprp": 0,
    b"ipco": 0,
    b"iref": 4,
    b"dinf": 0,
    b"moov": 0,
    b"trak": 0,
    b"mdia": 0,
    b"minf": 0,
    b"stbl": 0,
    b"edts": 0,
}


@dataclass
class _Found:
    """The findings of a walk over the boxes."""

    boxes: int = 0
    samples: int = 0
    locations: list[bytes] = field(default_factory=list)
    kinds: dict[int, bytes] = field(default_factory=dict)
    inner: int = 0  # Where the data inside of the box "meta" begins.


class _TooMuch(Exception):
    """More than any camera or program writes; says of what."""


def check_boxes(stream: BinaryIO, size: int, name: str) -> None:
    """Raises ImageError where a file has far too many boxes, or names its bytes over and over.

    Args:
        stream: Seekable.
        size: Its length in bytes.
        name: What to call it in the message.

    Raises:
        ValueError: The boxes are cut off.
    """
    found = _Found()
    try:
        _walk(stream, 0, size, found, 0)
        for block in found.locations:
            _check_locations(stream, size, block, found, name)
    except _TooMuch as too_much:
        raise ImageError(f"{name} has far too many {too_much}; save it again as PNG.") from None
    except struct.error:
        raise ValueError("boxes that are cut off") from None


def _walk(stream: BinaryIO, place: int, end: int, found: _Found, depth: int) -> None:
    for kind, start, stop in _boxes(stream, place, end):
        found.boxes += 1
        if found.boxes > MAX_BOXES or depth > _DEPTH:
            raise _TooMuch("boxes")
        if kind in _CONTAINERS:
            _walk(stream, start + _CONTAINERS[kind], stop, found, depth + 1)
        elif kind == b"iinf":
            stream.seek(start)
            _walk(stream, start + (6 if stream.read(1) == b"\0" else 8), stop, found, depth + 1)
        elif kind == b"infe":
            _note_item(_read(stream, start, min(stop, start + 16)), found)
        elif kind == b"iloc":
            found.locations.append(_read(stream, start, stop))
        elif kind == b"idat":
            found.inner = start
        elif kind in (b"stsz", b"stsc", b"stco", b"co64", b"stts", b"stss"):
            _count_samples(kind, _read(stream, start, min(stop, start + 2**20)), found)


def _boxes(stream: BinaryIO, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, beginning and end of what each box between two places holds."""
    while place + 8 <= end:
        stream.seek(place)
        size, kind = struct.unpack(">I4s", stream.read(8))
        header = 8
        if size == 1:
            (size,) = struct.unpack(">Q", stream.read(8))
            header = 16
        elif size == 0:
            size = end - place
        if size < header:
            return
        yield kind, place + header, min(place + size, end)
        place += size


def _read(stream: BinaryIO, start: int, stop: int) -> bytes:
    stream.seek(start)
    return stream.read(max(0, stop - start))


def _note_item(entry: bytes, found: _Found) -> None:
    version = entry[0] if entry else 0
    if version >= 2 and len(entry) >= 12:
        form, at = (">H", 8) if version == 2 else (">I", 10)
        found.kinds[struct.unpack_from(form, entry, 4)[0]] = entry[at : at + 4]
    if len(found.kinds) > MAX_ITEMS:
        raise _TooMuch("items")


def _count_samples(kind: bytes, table: bytes, found: _Found) -> None:
    """Frames that the tables of an animation promise: a count may stand for any number of them."""
    if kind == b"stsz":
        found.samples += struct.unpack_from(">I", table, 8)[0]
    else:
        (entries,) = struct.unpack_from(">I", table, 4)
        found.samples += entries
        if kind == b"stsc" and entries <= MAX_SAMPLES:
            for at in range(8, min(len(table) - 11, 8 + 12 * entries), 12):
                found.samples += struct.unpack_from(">I", table, at + 4)[0]
    if found.samples > 6 * MAX_SAMPLES:
        raise _TooMuch("frames")


def _check_locations(stream: BinaryIO, size: int, block: bytes, found: _Found, name: str) -> None:
    """Where the items lie: together in no more bytes than the file has."""
    total = 0
    for item, inside, extents in _locations(block):
        for place, length in extents:
            total += max(0, min(length or size, size - place))
        if total > 2 * size + _SLACK:
            raise _TooMuch("pieces that share their data")
        if found.kinds.get(item) == b"Exif":
            origin = found.inner if inside else 0
            data = b"".join(
                _read(stream, origin + place, min(size, origin + place + (length or size)))
                for place, length in extents
            )
            _check_exif(data, name)


def _locations(block: bytes) -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
    """Number of each item, whether its data lie in the box "idat", and its extents."""
    version = block[0]
    widths = struct.unpack_from(">BB", block, 4)
    offset, length, base = widths[0] >> 4, widths[0] & 15, widths[1] >> 4
    index = widths[1] & 15 if version in (1, 2) else 0
    wide = version == 2
    (count,) = struct.unpack_from(">I" if wide else ">H", block, 6)
    place = 10 if wide else 8
    pieces = 0

    def number(width: int) -> int:
        nonlocal place
        if place + width > len(block):
            raise ValueError("a list of places that is cut off")
        value = int.from_bytes(block[place : place + width], "big")
        place += width
        return value

    for _ in range(count):
        item = number(4 if wide else 2)
        inside = version in (1, 2) and number(2) & 15 == 1
        number(2)  # Which file the data lie in.
        start = number(base)
        extents = []
        for _ in range(number(2)):
            number(index)
            at = number(offset)
            extents.append((start + at, number(length)))
            pieces += 1
            if pieces > MAX_ITEMS:
                raise _TooMuch("pieces")
        yield item, inside, extents


def _check_exif(data: bytes, name: str) -> None:
    """Checks the Exif block of an item, which begins with where in it the directory's header is."""
    header = 4 + int.from_bytes(data[:4], "big")
    block = data[header:]
    if block.startswith(b"Exif\0\0"):
        block = block[6:]
    try:
        directory = Directory(io.BytesIO(block), len(block))
    except ValueError:
        return
    check_directory(directory, name)
