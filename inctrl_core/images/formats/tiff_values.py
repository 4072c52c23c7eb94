"""The values of TIFF files that Pillow reads as other pixels or not at all.

Those are all that have more than 8 bits a value, in colour above all, and BigTIFF files of the
other byte order. libtiff, inside of Pillow, still undoes the compression: of each strip or tile
alone, given as a grey image whose pixels are the bytes. So every compression that it knows is read
for every kind of value, and no further decoder is needed.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image

from ...errors import ImageError
from .deep import DeepImage, opacity_of, turned
from .structure import MAX_STRIPS
from .tiff_directory import ORIENTATION, Directory

# Tags of a directory.
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, SAMPLES, ROWS, STRIP_BYTES, LARGEST, PLANAR = 273, 277, 278, 279, 281, 284
PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 317, 322, 323, 324, 325
EXTRA, FORMAT = 338, 339

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_RAW, _JPEG = 1, 7
# What libtiff decompresses byte for byte: LZW, Deflate by both names, PackBits, LZMA, Zstandard.
_LOSSLESS = frozenset({_RAW, 5, 8, 32946, 32773, 34925, 50000})
_DIFFERENCES = _LOSSLESS - {_RAW, 32773}  # Those that libtiff joins with a predictor.
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}  # By SampleFormat.
_ASSOCIATED, _UNASSOCIATED = 1, 2  # Kinds of opacity.
_MAX_BYTES_A_PIXEL = 16  # Of what is kept: four values of 32 bits.
_MAX_COMPRESSED = 2**14  # Strips or tiles; each takes 0.2 ms to begin with.
_BAND = 64  # Rows that are unpacked at once.

_EXPORT = "save it as PNG, or as TIFF of 8 or 16 bits in grey or RGB"


@dataclass(frozen=True)
class _Layout:
    """How the first image of a file is stored; its widths are in values of one plane's pixels."""

    width: int
    height: int
    samples: int
    bits: int
    kind: str
    order: str
    photometric: int
    planes: int
    block: tuple[int, int]
    tiled: bool
    compression: int
    predictor: int
    extra: tuple[int, ...]

    @property
    def stored(self) -> np.dtype:
        """The type of the values in the file; of packed bits the next larger whole number."""
        whole = next(size for size in (8, 16, 32, 64) if self.bits <= size)
        return np.dtype(f"{self.order}{self.kind}{whole // 8}")

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a strip or tile."""
        return (self.block[0] * (self.samples // self.planes) * self.bits + 7) // 8


def needs_reading(stream: BinaryIO, size: int) -> bool:
    """Whether a TIFF file is read here: Pillow would give other pixels, or none.

    Raises:
        ValueError: It is no TIFF file.
    """
    directory = Directory(stream, size)
    bits = max(directory.whole_numbers(BITS, 8), default=1)
    formats = set(directory.whole_numbers(FORMAT, 8))
    stream.seek(0)
    swapped_big = stream.read(4) == b"MM\0+"
    uncompressed = directory.whole_number(COMPRESSION, _RAW) == _RAW
    odd_colours = directory.whole_number(PHOTOMETRIC, 0) == _YCBCR and uncompressed
    return bits > 8 or bool(formats - {1, 4}) or swapped_big or odd_colours


def tiff_sizes(stream: BinaryIO, size: int) -> list[tuple[int, int]]:
    """Width and height of a TIFF file's first image, upright, and of its tiles if it has any.

    Raises:
        ValueError: It is no TIFF file.
    """
    directory = Directory(stream, size)
    width, height = (directory.whole_number(tag, 0) for tag in (WIDTH, HEIGHT))
    if directory.whole_number(ORIENTATION, 1) in (5, 6, 7, 8):
        width, height = height, width
    if TILE_WIDTH not in directory.tags:
        return [(width, height)]
    # A tile is decoded whole, even where the image ends inside it.
    tile = directory.whole_number(TILE_WIDTH, 0), directory.whole_number(TILE_HEIGHT, 0)
    return [(width, height), tile]


def read_tiff(stream: BinaryIO, size: int, name: str) -> DeepImage | Image.Image:
    """Reads the first image of a TIFF file, whose structure has been checked, upright.

    Args:
        stream: The file.
        size: Its bytes.
        name: What to call the image in the message.

    Returns:
        The values; of 8 bits a value an image of mode L, LA, RGB or RGBA.

    Raises:
        ImageError: It is stored in a way that is not read.
        ValueError: It is damaged.
    """
    directory = Directory(stream, size)
    layout = _layout(directory, name)
    values = _values(stream, directory, layout, name)
    if layout.photometric == _WHITE_IS_ZERO:
        values = np.array(2**layout.bits - 1, values.dtype) - values
    values = turned(values, directory.whole_number(ORIENTATION, 1))
    colours = 3 if layout.photometric == _RGB else 1
    picture, opacity = (values[..., 0] if colours == 1 else values[..., :3]), None
    for place, kind in enumerate(layout.extra[: layout.samples - colours], colours):
        if kind in (_ASSOCIATED, _UNASSOCIATED):
            alpha = values[..., place]
            picture = _unmultiplied(picture, alpha) if kind == _ASSOCIATED else picture
            opacity = opacity_of(alpha)
            break
    if picture.dtype != np.uint8:
        return DeepImage(picture, _declared(directory, layout), opacity)
    image = Image.fromarray(np.ascontiguousarray(picture))
    if opacity is not None:
        image.putalpha(Image.fromarray(opacity))
    return image


def _layout(directory: Directory, name: str) -> _Layout:
    bits = set(directory.whole_numbers(BITS, 64)) or {1}
    formats = set(directory.whole_numbers(FORMAT, 64)) or {1}
    samples = directory.whole_number(SAMPLES, 1)
    width, height = (directory.whole_number(tag, 0) for tag in (WIDTH, HEIGHT))
    tiled = TILES in directory.tags
    tile = directory.whole_number(TILE_WIDTH, 0), directory.whole_number(TILE_HEIGHT, 0)
    strip = width, min(height, directory.whole_number(ROWS, height) or height)
    planar = directory.whole_number(PLANAR, 1) == 2 and samples > 1
    kind = _KINDS.get(next(iter(formats)), "")
    compression = directory.whole_number(COMPRESSION, _RAW)
    layout = _Layout(
        width=width,
        height=height,
        samples=samples,
        bits=next(iter(bits)),
        kind=kind,
        order=directory.order,
        photometric=directory.whole_number(PHOTOMETRIC, _BLACK_IS_ZERO),
        planes=samples if planar else 1,
        block=tile if tiled else strip,
        tiled=tiled,
        compression=compression,
        predictor=directory.whole_number(PREDICTOR, 1) if compression in _DIFFERENCES else 1,
        extra=tuple(directory.whole_numbers(EXTRA, 64)),
    )
    colours = {_RGB: 3, _BLACK_IS_ZERO: 1, _WHITE_IS_ZERO: 1}.get(layout.photometric, 0)
    packed = kind == "u" and 8 < layout.bits < 16 and layout.predictor == 1
    usual = layout.bits in ({16, 32, 64} if kind == "f" else {8, 16, 32})
    readable = (
        len(bits) == len(formats) == 1
        and (usual or packed)
        and kind
        and colours
        and colours <= samples
        and not (layout.photometric == _WHITE_IS_ZERO and kind != "u")
        and layout.compression in _LOSSLESS
        and layout.predictor in ((1, 3) if kind == "f" else (1, 2))
        and directory.whole_number(FILL_ORDER, 1) == 1
    )
    if not readable:
        raise ImageError(f"{name} is a TIFF file of a kind that is not read; {_EXPORT}.")
    if samples * min(layout.stored.itemsize, 4) > _MAX_BYTES_A_PIXEL:
        raise ImageError(f"{name} has {samples} values of {layout.bits} bits a pixel; {_EXPORT}.")
    return layout


def _declared(directory: Directory, layout: _Layout) -> float | None:
    """The value that is white, where the file says more than the width of its numbers."""
    if layout.kind != "u":
        return None
    if layout.bits < 16:
        return 2**layout.bits - 1
    # Rounded up: programs write the largest value that there is, or could be.
    largest = directory.whole_number(LARGEST, 0)
    return next((2**b - 1 for b in (8, 10, 12, 14) if 0 < largest <= 2**b - 1), None)


def _values(stream: BinaryIO, directory: Directory, layout: _Layout, name: str) -> np.ndarray:
    """All values, [H, W, samples], in this machine's byte order; 64 bits become 32."""
    tags = (TILES, TILE_BYTES) if layout.tiled else (STRIPS, STRIP_BYTES)
    places, sizes = (directory.whole_numbers(tag, MAX_STRIPS) for tag in tags)
    across, down = (
        -(-whole // part)
        for whole, part in zip((layout.width, layout.height), layout.block, strict=True)
    )
    blocks = across * down
    if len(places) < blocks * layout.planes or len(sizes) < blocks * layout.planes:
        raise ValueError("strips or tiles are missing")
    if sum(sizes) > directory.length:
        raise ValueError("strips or tiles that lie beyond the file, or over each other")
    if layout.compression != _RAW and blocks * layout.planes > _MAX_COMPRESSED:
        raise ImageError(f"{name} is a TIFF file of too many parts; {_EXPORT}.")
    kept = layout.stored.newbyteorder("=")
    kept = np.dtype("f4") if kept == np.dtype("f8") else kept
    values = np.zeros((layout.height, layout.width, layout.samples), kept)
    share = layout.samples // layout.planes
    for number in range(blocks * layout.planes):
        plane, place = divmod(number, blocks)
        top = place // across * layout.block[1]
        left = place % across * layout.block[0]
        rows = layout.block[1] if layout.tiled else min(layout.block[1], layout.height - top)
        stream.seek(places[number])
        data = _decompressed(stream.read(sizes[number]), rows, layout)
        block = _unpacked(data, layout)
        target = values[top : top + rows, left : left + layout.block[0]]
        target[..., plane * share : (plane + 1) * share] = block[
            : target.shape[0], : target.shape[1]
        ]
    return values


def _decompressed(data: bytes, rows: int, layout: _Layout) -> np.ndarray:
    """The bytes of a strip or tile, uint8 [rows, row bytes]."""
    if layout.compression == _RAW:
        needed = rows * layout.row_bytes
        if len(data) < needed:
            raise ValueError("a strip or tile is cut off")
        return np.frombuffer(data, np.uint8, needed).reshape(rows, -1)
    numbers = {
        WIDTH: layout.row_bytes,
        HEIGHT: rows,
        BITS: 8,
        COMPRESSION: layout.compression,
        PHOTOMETRIC: _BLACK_IS_ZERO,
        STRIPS: 8,
        SAMPLES: 1,
        ROWS: rows,
        STRIP_BYTES: len(data),
    }
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, number) for tag, number in numbers.items())
    directory = struct.pack("<H", len(numbers)) + entries + bytes(4)
    header = struct.pack("<4sL", b"II*\0", 8 + len(data))
    with Image.open(io.BytesIO(header + data + directory), formats=["TIFF"]) as bytes_as_grey:
        return np.asarray(bytes_as_grey)


def _unpacked(data: np.ndarray, layout: _Layout) -> np.ndarray:
    """The values of a strip or tile, [rows, width, values of a pixel], the predictor undone."""
    width, share = layout.block[0], layout.samples // layout.planes
    rows = len(data)
    if layout.bits not in (8, 16, 32, 64):
        return _whole_numbers(data, width * share, layout.bits).reshape(rows, width, share)
    if layout.predictor == 3:
        # The differences are of bytes: first the highest of all values of the row, then the next.
        steps = data.reshape(rows, -1, share)
        sums = np.add.accumulate(steps, axis=1, dtype=np.uint8).reshape(rows, -1, width * share)
        ordered = np.ascontiguousarray(sums.transpose(0, 2, 1))
        return ordered.view(layout.stored.newbyteorder(">")).reshape(rows, width, share)
    # Each strip or tile begins at its own first byte, so the values are aligned.
    values = np.ascontiguousarray(data).view(layout.stored).reshape(rows, width, share)
    if layout.predictor == 2:
        native = values.astype(layout.stored.newbyteorder("="))
        return np.add.accumulate(native, axis=1, dtype=native.dtype)
    return values


def _whole_numbers(data: np.ndarray, count: int, bits: int) -> np.ndarray:
    """Packed numbers of 9 to 15 bits, the highest bit first, as uint16 [rows, count]."""
    numbers = np.zeros((len(data), count), np.uint16)
    for start in range(0, len(data), _BAND):
        band = data[start : start + _BAND]
        digits = np.unpackbits(band, axis=1, count=count * bits).reshape(len(band), count, bits)
        for place in range(bits):
            numbers[start : start + _BAND] |= digits[..., place].astype(np.uint16) << (
                bits - 1 - place
            )
    return numbers


def _unmultiplied(picture: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Colours that were multiplied by opacity, as they were before."""
    full = np.iinfo(opacity.dtype).max if opacity.dtype.kind in "ui" else 1.0
    share = np.maximum(opacity, 1 if full > 1 else 1e-6).astype(np.float32) / full
    share = share if picture.ndim == 2 else share[..., None]
    return np.minimum(picture / share, full).astype(picture.dtype)
