"""Bounds on how an image file is put together, kept before a decoder sees it.

Some decoders take time or memory that grows with the square of the number of chunks, comments or
tags, so a small file can stop a program. The bounds lie far above what cameras and programs write,
and checking them takes a time that grows with the file's size alone.
"""

from __future__ import annotations

import io
import re
import struct
from typing import BinaryIO

from ...errors import ImageError
from .media_boxes import check_boxes
from .tiff_directory import Directory, check_directory

# Each scan of a JPEG is a pass over all its pixels; cameras and programs write 1 to 20.
MAX_SCANS = 64
MAX_SCANNED_PIXELS = 10**9
# A profile or a description of the largest kind (40 MB) takes 640 segments of a JPEG.
MAX_SEGMENTS = 2048
MAX_EXIF_SEGMENTS = 64
MAX_RESOURCES = 2**13  # Of Photoshop; a file has some dozens.
# Bytes between the parts of a file, read one by one by Pillow.
MAX_STRAY = 2**16
# PNG data comes in chunks of 8 KB and more, GIF data in blocks of up to 255 bytes.
MAX_DATA_CHUNKS = 2**16
MAX_OTHER_CHUNKS = 2**13
MAX_COMPRESSED_CHUNKS = 64  # Each may be 1 MB once it is decompressed.
MAX_TEXT_BYTES = 16 * 2**20
MAX_DATA_BLOCKS = 2**18
MAX_EXTENSIONS = 2**12
MAX_EXTENSION_BLOCKS = 2**14
MAX_COMMENT_BLOCKS = 2**10
MAX_HEADER = 2**16  # Of a PPM, comments included.
MAX_COMMENTS = 2**10
MAX_RLE_WIDTH = 2**16
MAX_STRIPS = 2**16

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_BOX_KINDS = (b"ftyp",)
# Of a JPEG: a marker, but not what is stuffed into or restarts coded data.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_MARKER_BARE, _MARKER_END, _MARKER_SCAN, _MARKER_TABLES = 0x01, 0xD9, 0xDA, 0xDB
_MARKER_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LARGEST_TABLES = 4 * (1 + 64 * 2)  # Four quantization tables of two bytes a value.
_PPM_TOKEN = re.compile(rb"(?:[ \t\n\x0b\x0c\r]|#[^\r\n]*(?:[\r\n]|$))*([^ \t\n\x0b\x0c\r#]+)")


class _TooMuch(Exception):
    """More of something than any camera or program writes; says of what."""


def check_structure(stream: BinaryIO, size: int, name: str) -> None:
    """Raises ImageError where decoding would take far more time or memory than a file's size says.

    Damage is not looked for: the decoders find it.

    Args:
        stream: The file, from its beginning; left where it happens to be.
        size: Its length in bytes.
        name: What to call it in the message.
    """
    start = stream.read(32)
    try:
        if start.startswith(_PNG_MAGIC):
            _check_png(stream, size)
        elif start.startswith(b"\xff\xd8\xff"):
            _check_jpeg(start + stream.read(), name)
        elif start.startswith(b"GIF8"):
            _check_gif(start + stream.read())
        elif start.startswith((b"II", b"MM")):
            _check_tiff(stream, size, name)
        elif start.startswith(b"RIFF"):
            _check_riff(stream, size)
        elif start.startswith(b"BM"):
            _check_bitmap(start + stream.read(64), size)
        elif start.startswith(b"P"):
            _check_ppm(start, stream)
        elif start[4:8] in _BOX_KINDS:
            check_boxes(stream, size, name)
    except _TooMuch as too_much:
        raise ImageError(f"{name} has far too {too_much}; save it again as PNG.") from None
    except (ValueError, struct.error, IndexError) as error:
        if isinstance(error, ImageError):
            raise
        # Cut off or no such file after all.


def _check_png(stream: BinaryIO, size: int) -> None:
    data = others = compressed = text = 0
    place = len(_PNG_MAGIC)
    while place < size:
        stream.seek(place)
        length, kind = struct.unpack(">I4s", stream.read(8))
        if kind in (b"IDAT", b"fdAT"):
            data += 1
        else:
            others += 1
        compressed += kind in (b"iCCP", b"zTXt", b"iTXt")
        text += length if kind in (b"tEXt", b"zTXt", b"iTXt") else 0
        if data > MAX_DATA_CHUNKS or others > MAX_OTHER_CHUNKS:
            raise _TooMuch("many chunks")
        if compressed > MAX_COMPRESSED_CHUNKS or text > MAX_TEXT_BYTES:
            raise _TooMuch("much text")
        if kind == b"IEND":
            break
        place += length + 12


def _check_jpeg(data: bytes, name: str) -> None:
    """Walks over segments and scans of the first image."""
    scans = segments = stray = resources = 0
    pixels = 0
    exif: list[bytes] = []
    place = 2
    while marker := _MARKER.search(data, place):
        # Up to the first scan Pillow steps over what lies between segments byte by byte.
        stray += (marker.start() - place) if scans == 0 else 0
        place = marker.end()
        kind = data[place - 1]
        if kind == _MARKER_END and scans:
            break
        if kind == _MARKER_BARE or kind >= 0xF0 and kind < 0xFE or kind in (0xC8, 0xD8, 0xD9):
            stray += 2 if scans == 0 else 0
            length = 0
        else:
            length = int.from_bytes(data[place : place + 2], "big")
            segments += 1
        scans += kind == _MARKER_SCAN
        if kind in _MARKER_FRAMES:
            height, width = struct.unpack_from(">HH", data, place + 3)
            pixels = max(pixels, height * width)
        if kind == 0xE1 and data[place + 2 : place + 8] == b"Exif\0\0" and scans == 0:
            exif.append(data[place + 8 : place + length])
        if kind == 0xE2 and data[place + 2 : place + 6] == b"MPF\0":
            _check_block(data[place + 6 : place + length], name)
        if kind == 0xED:
            resources += data.count(b"8BIM", place, place + length)
        if resources > MAX_RESOURCES:
            raise _TooMuch("many resources of Photoshop")
        if segments > MAX_SEGMENTS or len(exif) > MAX_EXIF_SEGMENTS or stray > MAX_STRAY:
            raise _TooMuch("many segments")
        if kind == _MARKER_TABLES and length > 2 + _LARGEST_TABLES:
            raise _TooMuch("many tables")
        most = min(MAX_SCANS, MAX_SCANNED_PIXELS // max(1, pixels))
        if scans > most:
            raise ImageError(f"{name} has more than {most} scans; save it again as PNG or JPEG.")
        place += length
    _check_block(b"".join(exif), name)


def _check_block(block: bytes, name: str) -> None:
    """Checks the directory that an Exif or an MPF block consists of, where it is one."""
    try:
        check_directory(Directory(io.BytesIO(block), len(block)), name)
    except ImageError:
        raise
    except ValueError:
        pass  # Cut off, or no directory after all: damage is for the decoder to find.


def _check_gif(data: bytes) -> None:
    """Walks as Pillow does, up to the second image: so far it reads to know of an animation."""
    flags = data[10]
    place = 13 + ((6 << (flags & 7)) if flags & 128 else 0)
    extensions = extension_blocks = stray = images = 0
    while place < len(data):
        kind = data[place]
        place += 1
        if kind == 0x3B:
            break
        if kind == 0x21:
            comment = data[place] == 0xFE
            place, blocks = _gif_extension(data, place)
            extensions += 1
            extension_blocks += blocks
            if comment and blocks > MAX_COMMENT_BLOCKS:
                raise _TooMuch("long a comment")
        elif kind == 0x2C:
            images += 1
            if images == 2:
                break
            flags = data[place + 8]
            place += 10 + ((6 << (flags & 7)) if flags & 128 else 0)
            place, blocks = _gif_blocks(data, place, MAX_DATA_BLOCKS)
        else:
            stray += 1
        if (
            extensions > MAX_EXTENSIONS
            or extension_blocks > MAX_EXTENSION_BLOCKS
            or stray > MAX_STRAY
        ):
            raise _TooMuch("many extensions")


def _gif_extension(data: bytes, place: int) -> tuple[int, int]:
    """Steps over an extension from its label on; Pillow takes no empty first block for its end."""
    label, length = data[place], data[place + 1]
    first = data[place + 2 : place + 2 + length]
    place += 2 + length
    if label == 0xFE and not length:
        return place, 1
    if label == 0xFF and first.startswith(b"NETSCAPE2.0"):
        place += 1 + data[place]
    place, blocks = _gif_blocks(data, place, MAX_EXTENSION_BLOCKS)
    return place, blocks + 1


def _gif_blocks(data: bytes, place: int, most: int) -> tuple[int, int]:
    """Steps over blocks up to an empty one; where it ends, and how many there were."""
    count = 0
    while place < len(data) and data[place]:
        place += 1 + data[place]
        count += 1
        if count > most:
            raise _TooMuch("many small blocks")
    return place + 1, count


def _check_tiff(stream: BinaryIO, size: int, name: str) -> None:
    directory = Directory(stream, size)
    check_directory(directory, name)
    stream.seek(0)
    if stream.read(4) == b"MM\0+":  # Which Pillow takes for a TIFF of the other kind.
        check_directory(Directory(stream, size, big=False), name)
    _check_strips(directory, size)


def _check_strips(directory: Directory, size: int) -> None:
    """Strips or tiles: as many as the image has, and together no more data than the file."""
    tiled = 322 in directory.tags
    places, lengths = (324, 325) if tiled and 273 not in directory.tags else (273, 279)
    declared = directory.tags[places].count if places in directory.tags else 0
    width, height = directory.whole_number(256, 0), directory.whole_number(257, 0)
    across = max(1, directory.whole_number(322, width)) if places == 324 else max(1, width)
    down = directory.whole_number(323 if places == 324 else 278, height) or height
    planes = directory.whole_number(277, 1) if directory.whole_number(284, 1) == 2 else 1
    needed = -(-width // across) * -(-height // max(1, down)) * max(1, planes)
    if declared > MAX_STRIPS or declared > 2 * needed + 8:
        raise _TooMuch("many strips")
    if directory.whole_number(259, 1) != 1:
        starts = directory.whole_numbers(places, MAX_STRIPS)
        stored = directory.whole_numbers(lengths, MAX_STRIPS)
        # Of a strip that claims more than there is, libtiff reads what there is.
        read = sum(directory.contains(*pair) for pair in zip(starts, stored, strict=False))
        if read > 2 * size + MAX_HEADER:
            raise _TooMuch("many bytes in its strips")


def _check_riff(stream: BinaryIO, size: int) -> None:
    place, chunks = 12, 0
    while place + 8 <= size:
        stream.seek(place + 4)
        (length,) = struct.unpack("<I", stream.read(4))
        place += 8 + length + (length & 1)
        chunks += 1
        if chunks > MAX_OTHER_CHUNKS:
            raise _TooMuch("many chunks")


def _check_bitmap(start: bytes, size: int) -> None:
    """Run-length data: Pillow decodes them in plain Python, and one code may skip 255 rows."""
    header, width, height = struct.unpack_from("<Iii", start, 14)
    (compression,) = struct.unpack_from("<I", start, 30)
    if header < 40 or compression not in (1, 2):
        return
    if not 0 < width <= MAX_RLE_WIDTH or size > 2 * width * abs(height) + MAX_HEADER:
        raise _TooMuch("much run-length data")


def _check_ppm(start: bytes, stream: BinaryIO) -> None:
    header = start + stream.read(MAX_HEADER)
    magic = re.match(rb"[^ \t\n\x0b\x0c\r]{2,6}", header)
    place = magic.end() if magic else 0
    for _ in range(2 if header[:2] in (b"P1", b"P4") else 3):
        token = _PPM_TOKEN.match(header, place)
        if token is None:
            if len(header) >= MAX_HEADER:
                raise _TooMuch("long a header")
            return
        place = token.end()
    if header[:2] in (b"P1", b"P2", b"P3"):
        comments = header.count(b"#")
        while block := stream.read(2**20):
            comments += block.count(b"#")
        if comments > MAX_COMMENTS:
            raise _TooMuch("many comments")
