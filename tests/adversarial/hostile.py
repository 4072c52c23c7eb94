"""Images whose structure is the attack: they are small or of the size that is allowed, and costly.

Each family takes a size and a seed and builds one file; :func:`hostile_files` goes through all of
them. Nothing is stored, and a file can be made again from its name.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from PIL import Image

from tests.adversarial.corpus import encoded

MEGABYTE = 2**20
Family = Callable[[int, random.Random], bytes]


@lru_cache
def picture(kind: str, side: int = 48, **options: object) -> bytes:
    """A small good image of some kind, to build on."""
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), kind, **options)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def in_png(parts: bytes, before: bytes = b"IDAT") -> bytes:
    """A good PNG with some chunks in front of its first one of a kind."""
    good = picture("PNG")
    place = good.index(before) - 4
    return good[:place] + parts + good[place:]


def segment(marker: int, data: bytes = b"") -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def in_jpeg(parts: bytes) -> bytes:
    """A good JPEG with some bytes right after its beginning."""
    good = picture("JPEG")
    return good[:2] + parts + good[2:]


def directory(
    entries: list[tuple[int, int, int, int]],
    order: str = "<",
    big: bool = False,
    start: int | None = None,
    following: int = 0,
) -> bytes:
    """A TIFF structure: header and one directory of (tag, kind, count, value or place)."""
    magic = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    if big:
        header = magic + struct.pack(order + "HHQ", 8, 0, 16)
        form, ends = "HHQQ", struct.pack(order + "Q", following)
        count = struct.pack(order + "Q", len(entries))
    else:
        header = magic + struct.pack(order + "I", 8 if start is None else start)
        form, ends = "HHII", struct.pack(order + "I", following)
        count = struct.pack(order + "H", len(entries) & 0xFFFF)
    packed = b"".join(struct.pack(order + form, *entry) for entry in sorted(entries))
    return header + count + packed + ends


def overlapping(size: int, rng: random.Random, big: bool = False, kind: int = 1) -> bytes:
    """A TIFF structure of ``size`` bytes, all of whose tags are the same bytes of it."""
    order = rng.choice("<>") if not big else "<"
    tags = min(4000, size // 64)
    width = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 12: 8}[kind]
    head = len(directory([(0, 1, 1, 0)] * tags, order, big))
    count = max(1, (size - head) // width)
    entries = [(40000 + i, kind, count, head) for i in range(tags)]
    return directory(entries, order, big).ljust(size, b"\1")


def tiff(size: int, entries: dict[int, tuple[int, int, int]], big: bool = False) -> bytes:
    """A TIFF of 64 x 64 grey pixels with some entries more or others, ``size`` bytes long."""
    base = {
        256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
        273: (4, 1, 4096), 277: (3, 1, 1), 278: (4, 1, 64), 279: (4, 1, 4096),
    }  # fmt: skip
    rows = [(tag, *entry) for tag, entry in (base | entries).items()]
    return directory(rows, "<", big).ljust(max(size, 10_000), b"\0")


# --- PNG


def png_empty_chunks(size: int, rng: random.Random) -> bytes:
    kind = rng.choice((b"teSt", b"abCd", b"tEXt", b"IDAT"))
    return in_png(chunk(kind) * (size // 12))


def png_text(size: int, rng: random.Random) -> bytes:
    each = rng.choice((20, 900))
    parts = (chunk(b"tEXt", b"k%d\0" % i + b"x" * each) for i in range(size // (each + 20)))
    return in_png(b"".join(parts))


def png_packed_text(size: int, rng: random.Random) -> bytes:
    packed = zlib.compress(bytes(1_000_000), 9)
    data = rng.choice((b"k\0\0" + packed, b"k\0\1\0\0\0" + packed))
    kind = b"iTXt" if data[2] else b"zTXt"
    return in_png(chunk(kind, data) * (size // (len(data) + 12)))


def png_profiles(size: int, rng: random.Random) -> bytes:
    data = b"a\0\0" + zlib.compress(bytes(1_000_000), 9)
    return in_png(chunk(b"iCCP", data) * (size // (len(data) + 12)))


def png_exif(size: int, rng: random.Random) -> bytes:
    return in_png(chunk(b"eXIf", overlapping(size, rng, kind=rng.choice((1, 2, 5, 7)))))


def png_raw_exif(size: int, rng: random.Random) -> bytes:
    block = overlapping(min(size, 450_000), rng).hex().encode()
    text = b"\nexif\n%8d\n" % len(block) + block
    return in_png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))


def png_small_data(size: int, rng: random.Random) -> bytes:
    good = picture("PNG")
    place = good.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", good, place)
    data = good[place + 8 : place + 8 + length]
    pieces = b"".join(chunk(b"IDAT", data[i : i + 1]) for i in range(length))
    return good[:place] + pieces + chunk(b"IDAT") * (size // 12) + chunk(b"IEND")


def png_after_data(size: int, rng: random.Random) -> bytes:
    return in_png(chunk(rng.choice((b"teSt", b"tEXt", b"zTXt"))) * (size // 12), b"IEND")


def png_flat(size: int, rng: random.Random) -> bytes:
    """Fifty megapixels of nothing."""
    mode = rng.choice(("L", "P", "RGB", "LA"))
    return encoded(Image.new(mode, (rng.choice((7000, 9999)), 5000)), "PNG", compress_level=1)


def apng_frames(size: int, rng: random.Random) -> bytes:
    control = struct.pack(">IIIIIHHBB", 0, 48, 48, 0, 0, 1, 10, 0, 0)
    animation = chunk(b"acTL", struct.pack(">II", size // 38, 0))
    return in_png(animation + chunk(b"fcTL", control) * (size // 38))


# --- JPEG and MPO


def jpeg_exif_segments(size: int, rng: random.Random) -> bytes:
    each = rng.choice((0, 4, 60))
    return in_jpeg(segment(0xE1, b"Exif\0\0" + b"x" * each) * (size // (each + 10)))


def jpeg_exif_overlap(size: int, rng: random.Random) -> bytes:
    block, kind = overlapping(size, rng, kind=rng.choice((1, 5, 7))), rng.randrange(60_000)
    step = 65_000 - kind % 7
    pieces = (block[i : i + step] for i in range(0, len(block), step))
    return in_jpeg(b"".join(segment(0xE1, b"Exif\0\0" + piece) for piece in pieces))


def jpeg_markers(size: int, rng: random.Random) -> bytes:
    return in_jpeg(rng.choice((b"\xff\xd0", b"\xff\xf0", b"\xff\xd8")) * (size // 2))


def jpeg_fill(size: int, rng: random.Random) -> bytes:
    return in_jpeg(rng.choice((b"\xff", b"\0", b"\xff\0\0")) * (size // 3))


def jpeg_fill_in_data(size: int, rng: random.Random) -> bytes:
    good = picture("JPEG")
    return good[:-2] + b"\xff" * size + rng.choice((b"\0", b"\xd0", b"\xd9"))


def jpeg_segments(size: int, rng: random.Random) -> bytes:
    marker = rng.choice((0xE0, 0xE5, 0xEC, 0xFE))
    return in_jpeg(segment(marker) * (size // 4))


def jpeg_tables(size: int, rng: random.Random) -> bytes:
    tables = (b"\0" + b"\1" * 64) * 1000
    return in_jpeg(segment(0xDB, tables) * (size // len(tables)))


def jpeg_resources(size: int, rng: random.Random) -> bytes:
    block = b"Photoshop 3.0\0" + (b"8BIM" + b"\4\4\0\0" + bytes(4)) * 5000
    return in_jpeg(segment(0xED, block[:65_000]) * (size // 65_000))


def jpeg_scans(size: int, rng: random.Random) -> bytes:
    side = rng.choice((64, 2000, 6900))
    data = encoded(Image.new("L", (side, side), 100), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * rng.choice((20, 50, 900)) + data[-2:]


def jpeg_flat(size: int, rng: random.Random) -> bytes:
    image = Image.new(rng.choice(("RGB", "L", "CMYK")), (9000, 5500), "grey")
    return encoded(image, "JPEG", progressive=rng.random() < 0.5)


def mpo_overlap(size: int, rng: random.Random) -> bytes:
    block = overlapping(min(size, 65_000), rng, kind=rng.choice((1, 3, 5)))
    return in_jpeg(segment(0xE2, b"MPF\0" + block))


def mpo_entries(size: int, rng: random.Random) -> bytes:
    count = rng.choice((1000, 4000))
    entries = [(0xB000, 7, 4, 0x30303130), (0xB001, 4, 1, count), (0xB002, 7, count * 16, 60)]
    block = directory(entries).ljust(60 + count * 16, b"\0")
    return in_jpeg(b"".join(segment(0xE2, b"MPF\0" + block[:65_000]) for _ in range(30)))


# --- GIF


def gif_extensions(size: int, rng: random.Random) -> bytes:
    extension = rng.choice(
        (b"!\xfe\0", b"!\xfe\1a\0", b"!\xf9\4\0\0\0\0\0", b"!\1\0\0", b"!\xff\0\0")
    )
    return in_gif(extension * (size // len(extension)))


def gif_comment(size: int, rng: random.Random) -> bytes:
    block = rng.choice((1, 60, 255))
    body = bytes([block]) + b"c" * block
    return in_gif(b"!\xfe" + body * (size // len(body)) + b"\0")


def gif_application(size: int, rng: random.Random) -> bytes:
    return in_gif(b"!\xff\x0bNETSCAPE2.0" + b"\1\1" * (size // 2) + b"\0")


def gif_stray(size: int, rng: random.Random) -> bytes:
    return in_gif(bytes([rng.choice((0, 1, 200))]) * size)


def gif_small_blocks(size: int, rng: random.Random) -> bytes:
    good = picture("GIF")
    return good[:-2] + b"\1\0" * (size // 2) + good[-2:]


def gif_after_image(size: int, rng: random.Random) -> bytes:
    return picture("GIF")[:-1] + b"!\xfe\1a\0" * (size // 5) + b";"


def gif_frames(size: int, rng: random.Random) -> bytes:
    good = picture("GIF")
    place = good.index(b",")
    return good[:-1] + good[place:-1] * min(200, size // len(good)) + b";"


def in_gif(parts: bytes) -> bytes:
    """A good GIF with some blocks before its image."""
    good = picture("GIF")
    place = good.index(b",")
    return good[:place] + parts + good[place:]


# --- TIFF and BigTIFF


def tiff_overlap(size: int, rng: random.Random) -> bytes:
    return overlapping(size, rng, kind=rng.choice((1, 2, 3, 4, 5, 7, 12)))


def tiff_overlap_whole(size: int, rng: random.Random) -> bytes:
    """As above, with an image in it that can be decoded."""
    extra = {40000 + i: (1, size - 60_000, 60_000) for i in range(3000)}
    return tiff(size, {273: (4, 1, 50_000)} | extra)


def tiff_many_tags(size: int, rng: random.Random) -> bytes:
    tags = min(65_000, size // 12)
    return directory([(i, 1, 1, 0) for i in range(tags)])


def tiff_exif_inside(size: int, rng: random.Random) -> bytes:
    """The directory of Exif is the one that overlaps, or that has too many fractions."""
    kind, width = rng.choice(((1, 1), (5, 8)))
    tags = 1 if kind == 5 else 3000
    inner = b"".join(
        struct.pack("<HHII", 40000 + i, kind, (size - 200_000) // width, 100_000)
        for i in range(tags)
    )
    good = tiff(size, {34665: (4, 1, 50_000)})
    inner = struct.pack("<H", tags) + inner + bytes(4)
    return good[:50_000] + inner + good[50_000 + len(inner) :]


def tiff_strips(size: int, rng: random.Random) -> bytes:
    count = size // 8
    return tiff(size, {273: (4, count, 10_000), 279: (4, count, 10_000), 278: (4, 1, 1)})


def tiff_same_strip(size: int, rng: random.Random) -> bytes:
    """Every strip of the image is all of the file, and packed."""
    count, kind = 6000, rng.choice((5, 8, 32773))
    entries = {256: (4, 1, 64), 257: (4, 1, count), 278: (4, 1, 1), 259: (3, 1, kind)}
    entries |= {273: (4, count, 10_000), 279: (4, count, 10_000 + 4 * count)}
    file = bytearray(tiff(size, entries))
    places = struct.pack("<I", 70_000) * count
    file[10_000 : 10_000 + 4 * count] = places
    lengths = struct.pack("<I", size - 70_000) * count
    file[10_000 + 4 * count : 10_000 + 8 * count] = lengths
    return bytes(file)


def tiff_repeated_area(size: int, rng: random.Random) -> bytes:
    """More strips than the image has rows for: the same rows are filled again and again."""
    side, count = 6000, 2000
    entries = {256: (4, 1, side), 257: (4, 1, side), 278: (4, 1, side - 1)}
    entries |= {273: (4, count, 10_000), 279: (4, count, 10_000 + 4 * count)}
    return tiff(max(size, 36 * MEGABYTE), entries)


def tiff_chain(size: int, rng: random.Random) -> bytes:
    """Directories that follow each other in a ring, or all the way to the file's end."""
    one = tiff(0, {})[8:]
    step = 8 + 2 + 9 * 12 + 4
    if rng.random() < 0.5:
        return directory([(256, 4, 1, 1), (257, 4, 1, 1)], following=8)
    count = min(size // step, 20_000)
    links = (one[: step - 12] + struct.pack("<I", 8 + (i + 1) * (step - 8)) for i in range(count))
    return b"II*\0" + struct.pack("<I", 8) + b"".join(links) + bytes(20_000)


def bigtiff_overlap(size: int, rng: random.Random) -> bytes:
    return overlapping(size, rng, big=True, kind=rng.choice((1, 5, 7)))


def bigtiff_counts(size: int, rng: random.Random) -> bytes:
    """A directory of as many entries as a number can say."""
    number = rng.choice((2**64 - 1, 2**32, 3_000_000))
    return b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, number) + bytes(size)


def bigtiff_other_order(size: int, rng: random.Random) -> bytes:
    """A big-endian BigTIFF, which Pillow reads as a TIFF whose directory lies at 2**19."""
    inner = overlapping(size, random.Random(0), kind=1)[8:]
    return (b"MM\0+\0\x08\0\0" + struct.pack(">Q", 16)).ljust(2**19, b"\0") + inner


# --- WebP


def riff(parts: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(parts) + 4) + b"WEBP" + parts


def webp_chunks(size: int, rng: random.Random) -> bytes:
    good = picture("WEBP")
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([0x2C, 0, 0, 0, 47, 0, 0, 47, 0, 0])
    kind = rng.choice((b"EXIF", b"XMP ", b"abcd", b"ICCP"))
    return riff(extended + good[12:] + (kind + bytes(4)) * (size // 8))


def webp_exif(size: int, rng: random.Random) -> bytes:
    block = overlapping(size, rng)
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([0x08, 0, 0, 0, 47, 0, 0, 47, 0, 0])
    block += b"\0" * (len(block) & 1)
    return riff(extended + picture("WEBP")[12:] + b"EXIF" + struct.pack("<I", len(block)) + block)


def webp_canvas(size: int, rng: random.Random) -> bytes:
    """An animation on a canvas of billions of pixels, or of many tiny frames."""
    side = rng.choice((16382, 60000, 4000))
    canvas = (side - 1).to_bytes(3, "little") * 2
    extended = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + canvas
    animation = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    inner = bytes(6) + bytes([47, 0, 0, 47, 0, 0]) + bytes(4) + picture("WEBP")[12:]
    frame = b"ANMF" + struct.pack("<I", len(inner)) + inner
    return riff(extended + animation + frame * min(20_000, size // len(frame)))


def webp_flat(size: int, rng: random.Random) -> bytes:
    image = Image.new("RGBA", (7000, 7000), (9, 9, 9, rng.choice((255, 100))))
    return encoded(image, "WEBP", lossless=True, quality=0, method=0)


# --- BMP


def bmp(width: int, height: int, compression: int, data: bytes, bits: int = 8) -> bytes:
    palette = bytes(range(256)) * 4
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 1, 1, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start, 0, 0, start) + header + palette + data


def bmp_ends_of_lines(size: int, rng: random.Random) -> bytes:
    return bmp(1000, 1000, rng.choice((1, 2)), bytes(size))


def bmp_deltas(size: int, rng: random.Random) -> bytes:
    """One code skips 255 rows of two million pixels."""
    width = rng.choice((60_000, 1_900_000))
    return bmp(width, 2_000_000 // width, 1, b"\0\2\0\xff" * 8)


def bmp_header(size: int, rng: random.Random) -> bytes:
    good = bytearray(bmp(50, 50, 0, bytes(size)))
    struct.pack_into("<I", good, 14, rng.choice((2**31, size, 0)))
    return bytes(good)


def bmp_bottomless(size: int, rng: random.Random) -> bytes:
    return bmp(7000, 7000, 1, b"\xff\1" * 900)


def bmp_single_runs(size: int, rng: random.Random) -> bytes:
    return bmp(1400, 1400, 1, b"\1\7" * (1400 * 1400))


# --- PPM, PGM, PBM


def ppm_comment(size: int, rng: random.Random) -> bytes:
    return b"P6 #" + b"c" * size + b"\n2 2 255\n" + bytes(12)


def ppm_comments(size: int, rng: random.Random) -> bytes:
    return b"P5 " + b"#\n" * (size // 2) + b"2 2 255\n" + bytes(4)


def ppm_space(size: int, rng: random.Random) -> bytes:
    return b"P6" + rng.choice((b" ", b"\n")) * size + b"2 2 255\n" + bytes(12)


def ppm_plain_comments(size: int, rng: random.Random) -> bytes:
    return b"P3 600 400 255\n" + b"#\n" * (size // 2) + b"1 " * 720_000


def ppm_plain(size: int, rng: random.Random) -> bytes:
    return b"P3 1400 1400 255\n" + b"7 " * (1400 * 1400 * 3)


def pgm_odd(size: int, rng: random.Random) -> bytes:
    """A greatest value other than 255: every pixel goes through plain Python."""
    kind, bands = rng.choice(((b"P5", 1), (b"P6", 3)))
    return kind + b" 1400 1400 %d\n" % rng.choice((100, 60_000)) + bytes(1400 * 1400 * bands * 2)


def pbm_plain(size: int, rng: random.Random) -> bytes:
    return b"P1 1400 1400\n" + (b"1" * 1400 + b"\n") * 1400 + b" " * size


# --- AVIF and HEIF


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data) + 8, kind) + data


def brand(rng: random.Random, kinds: tuple[bytes, ...]) -> bytes:
    return box(b"ftyp", rng.choice(kinds) + bytes(4) + b"avifmif1miaf")


def avif_boxes(size: int, rng: random.Random) -> bytes:
    return brand(rng, (b"avif", b"mif1")) + box(rng.choice((b"free", b"abcd")), b"") * (size // 8)


def avif_nested(size: int, rng: random.Random) -> bytes:
    inner = b""
    for _ in range(min(size // 12, 2000)):
        inner = box(b"meta", bytes(4) + inner)
    return brand(rng, (b"avif", b"avis")) + inner


def avif_exif(size: int, rng: random.Random) -> bytes:
    """A good image whose Exif block has all its tags in the same place."""
    return encoded(
        Image.open(io.BytesIO(picture("PNG"))), "AVIF", exif=overlapping(min(size, MEGABYTE), rng)
    )


def avif_extents(size: int, rng: random.Random) -> bytes:
    """An item that is the same megabytes thousands of times."""
    count = rng.choice((3000, 60_000))
    extent = struct.pack(">II", 0, size)
    place = b"\0\0\0\0" + b"\x44\0" + struct.pack(">HHHH", 1, 1, 0, count) + extent * count
    item = box(b"infe", b"\2\0\0\0" + struct.pack(">HH", 1, 0) + b"Exif\0")
    inside = box(b"hdlr", bytes(8) + b"pict" + bytes(13)) + box(b"pitm", bytes(4) + b"\0\1")
    inside += box(b"iinf", bytes(4) + b"\0\1" + item) + box(b"iloc", place)
    return brand(rng, (b"avif",)) + box(b"meta", bytes(4) + inside) + box(b"mdat", bytes(size))


def avif_items(size: int, rng: random.Random) -> bytes:
    count = min(60_000, size // 30)
    entries = b"".join(
        box(b"infe", b"\2\0\0\0" + struct.pack(">HH", i, 0) + b"av01\0") for i in range(count)
    )
    inside = box(b"hdlr", bytes(8) + b"pict" + bytes(13))
    inside += box(b"iinf", b"\1\0\0\0" + struct.pack(">I", count) + entries)
    return brand(rng, (b"avif", b"mif1")) + box(b"meta", bytes(4) + inside)


def avif_samples(size: int, rng: random.Random) -> bytes:
    """An animation whose table promises billions of frames."""
    sizes = box(b"stsz", bytes(4) + struct.pack(">II", 1, 2**32 - 1))
    table = box(b"stsc", bytes(4) + struct.pack(">IIII", 1, 1, 2**32 - 1, 1))
    table += box(b"stco", bytes(4) + struct.pack(">II", 1, 40)) + sizes
    track = box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", table))))
    return brand(rng, (b"avis",)) + box(b"moov", track) + box(b"mdat", bytes(size))


def avif_flat(size: int, rng: random.Random) -> bytes:
    return encoded(Image.new("RGB", (6000, 6000), "grey"), "AVIF", speed=10, quality=30)


def heic_boxes(size: int, rng: random.Random) -> bytes:
    start = box(b"ftyp", rng.choice((b"heic", b"heix", b"mif1")) + bytes(4) + b"mif1heic")
    kind = rng.choice((b"free", b"uuid", b"meta"))
    return start + box(kind, bytes(4)) * (size // 12)


def heic_nested(size: int, rng: random.Random) -> bytes:
    inner = b""
    for _ in range(min(size // 8, 3000)):
        inner = box(rng.choice((b"iprp", b"ipco")), inner)
    return box(b"ftyp", b"heic" + bytes(4) + b"mif1heic") + box(b"meta", bytes(4) + inner)


FAMILIES: dict[str, tuple[Family, ...]] = {
    "png": (
        png_empty_chunks, png_text, png_packed_text, png_profiles, png_exif, png_raw_exif,
        png_small_data, png_after_data, png_flat,
    ),
    "apng": (apng_frames,),
    "jpeg": (
        jpeg_exif_segments, jpeg_exif_overlap, jpeg_markers, jpeg_fill, jpeg_fill_in_data,
        jpeg_segments, jpeg_tables, jpeg_resources, jpeg_scans, jpeg_flat,
    ),
    "mpo": (mpo_overlap, mpo_entries),
    "gif": (
        gif_extensions, gif_comment, gif_application, gif_stray, gif_small_blocks,
        gif_after_image, gif_frames,
    ),
    "tiff": (
        tiff_overlap, tiff_overlap_whole, tiff_many_tags, tiff_exif_inside, tiff_strips,
        tiff_same_strip, tiff_repeated_area, tiff_chain,
    ),
    "bigtiff": (bigtiff_overlap, bigtiff_counts, bigtiff_other_order),
    "webp": (webp_chunks, webp_exif, webp_canvas, webp_flat),
    "bmp": (bmp_ends_of_lines, bmp_deltas, bmp_header, bmp_bottomless, bmp_single_runs),
    "ppm": (
        ppm_comment, ppm_comments, ppm_space, ppm_plain_comments, ppm_plain, pgm_odd, pbm_plain,
    ),
    "avif": (
        avif_boxes, avif_nested, avif_exif, avif_extents, avif_items, avif_samples, avif_flat,
    ),
    "heif": (heic_boxes, heic_nested),
}  # fmt: skip
# In whose files the size plays no part.
OF_ONE_SIZE = (
    png_raw_exif, png_flat, jpeg_scans, jpeg_flat, mpo_entries, webp_flat, bmp_deltas,
    bmp_bottomless, bmp_single_runs, ppm_plain, pgm_odd, avif_flat,
)  # fmt: skip
SIZES = (300_000, MEGABYTE, 4 * MEGABYTE, 16 * MEGABYTE)


def hostile_files(seed: int, sizes: tuple[int, ...] = SIZES) -> Iterator[tuple[str, bytes]]:
    """Every family of every format, at every size that makes a difference; name and bytes.

    Args:
        seed: Of all draws.
        sizes: About how many bytes the files have; some families take only part of that.
    """
    for size in sizes:
        for kind, families in FAMILIES.items():
            for family in families:
                if family in OF_ONE_SIZE and size != sizes[0]:
                    continue
                name = f"{kind}/{family.__name__}/{size}/{seed}"
                yield name, family(size, random.Random(name))
