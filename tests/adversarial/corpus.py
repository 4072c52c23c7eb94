"""Images as nobody should send them: crafted one by one, and made from good ones by damage.

Everything follows from the seed, so a failing case can be made again from its name.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from PIL import Image

HTML = b"<!doctype html><html><body><script>alert(1)</script></body></html>"
SVG = (
    b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><text>&x;</text></svg>"
)
PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n"
ZIP = b"PK\x05\x06" + bytes(18)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file of some kind."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@cache
def good_files() -> dict[str, bytes]:
    """Small images of every kind that is read, each of which opens."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8))
    grey, alpha = noise.convert("L"), noise.convert("RGBA")
    frames = {"save_all": True, "append_images": [grey.convert("RGB")]}
    deep = Image.fromarray(rng.integers(0, 65536, (40, 56), dtype=np.uint16))
    real = Image.fromarray(rng.random((40, 56), dtype=np.float32))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "png": encoded(noise, "PNG"),
        "png-alpha": encoded(alpha, "PNG"),
        "png-palette": encoded(noise.quantize(), "PNG", transparency=3),
        "png-16": encoded(deep, "PNG"),
        "png-1": encoded(grey.convert("1"), "PNG"),
        "png-exif": encoded(noise, "PNG", exif=exif),
        "apng": encoded(noise, "PNG", **frames),
        "jpeg": encoded(noise, "JPEG"),
        "jpeg-progressive": encoded(noise, "JPEG", progressive=True, exif=exif),
        "jpeg-cmyk": encoded(noise.convert("CMYK"), "JPEG"),
        "webp": encoded(noise, "WEBP"),
        "webp-lossless": encoded(alpha, "WEBP", lossless=True),
        "webp-animated": encoded(noise, "WEBP", **frames),
        "tiff": encoded(noise, "TIFF"),
        "tiff-deflate": encoded(noise, "TIFF", compression="tiff_adobe_deflate"),
        "tiff-lzw": encoded(grey, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encoded(noise, "TIFF", compression="jpeg"),
        "tiff-fax": encoded(grey.convert("1"), "TIFF", compression="group4"),
        "tiff-16": encoded(deep, "TIFF"),
        "tiff-float": encoded(real, "TIFF"),
        "tiff-pages": encoded(noise, "TIFF", **frames),
        "bmp": encoded(noise, "BMP"),
        "bmp-palette": encoded(noise.quantize(), "BMP"),
        "gif": encoded(noise, "GIF"),
        "gif-animated": encoded(noise, "GIF", **frames),
        "ppm": encoded(noise, "PPM"),
        "ppm-plain": b"P3 2 2 255\n" + b"1 2 3 " * 4,
        "ppm-odd": b"P6 2 2 100\n" + bytes(range(12)),
        "avif": encoded(noise, "AVIF"),
    }
    return files | {"mpo": encoded(noise, "MPO", **frames)}


def png(width: int, height: int, body: bytes = b"", depth: int = 8, colour: int = 0) -> bytes:
    """A PNG that announces a size, whatever its data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def tiff(tags: dict[int, tuple[int, int]], data: bytes) -> bytes:
    """A little-endian TIFF of one strip or tile, by its tags: number -> (type, value)."""
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = tags | {324 if 322 in tags else 273: (4, start)}
    packed = b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(entries.items())
    )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4) + data


def tiled(side: int, tile: int) -> bytes:
    """A TIFF of ``side`` x ``side`` pixels whose single tile is larger, and compresses well."""
    data = _zeros(tile * tile)
    tags = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile}
    return tiff({tag: (4, value) for tag, value in (tags | {325: len(data)}).items()}, data)


def many_scans(repeats: int, side: int = 64) -> bytes:
    """A progressive JPEG that refines the same coefficients again and again."""
    data = encoded(Image.new("L", (side, side), 100), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * repeats + data[-2:]


@cache
def crafted_files() -> dict[str, bytes]:
    """Bad or odd files, each for a reason."""
    good = good_files()
    nan = Image.fromarray(np.full((4, 4), np.nan, np.float32))
    infinite = Image.fromarray(np.array([[0, np.inf], [-np.inf, 1]], np.float32))
    frames = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(60)]
    text = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(30_000_000)))
    profile = _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(30_000_000)))
    start = b"\x89PNG\r\n\x1a\n"
    return {
        "empty": b"",
        "one-byte": b"\0",
        "null": bytes(4096),
        "html": HTML,
        "svg": SVG,
        "pdf": PDF,
        "eps": EPS,
        "zip": ZIP,
        "text": b"not an image",
        "pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
        "1x1": encoded(Image.new("RGB", (1, 1)), "PNG"),
        "20000x1": encoded(Image.new("RGB", (20000, 1)), "PNG"),
        "1x20000": encoded(Image.new("L", (1, 20000)), "TIFF"),
        "0x0": png(0, 0),
        "0x5": png(0, 5, bytes(5)),
        "zero-gif": b"GIF89a" + bytes(7) + b"," + bytes(9) + b"\x02\x00;",
        "zero-bmp": b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 0, 0, 1, 24) + bytes(24),
        "negative-bmp": b"BM" + bytes(12) + struct.pack("<IiiHH", 40, -5, 5, 1, 24) + bytes(99),
        "huge-header": png(2**31 - 1, 2**31 - 1),
        "huge-bomb": png(65000, 65000, bytes(1000)),
        "wide-header": png(2**31 - 1, 1),
        "under-the-limit-but-empty": png(7000, 7000),
        "bomb": png(20000, 20000, bytes(10**6)),
        "huge-gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + good["gif"][10:],
        "huge-ppm": b"P6 99999999 99999999 255\n",
        "ppm-digits": b"P6 " + b"9" * 5000 + b" 1 255\n",
        "ppm-negative": b"P6 -1 -1 255\n" + bytes(10),
        "ppm-slow": b"P3 2000 1100 255\n" + b"1 " * 100,
        "tile-bomb": tiled(64, 16000),
        "tile": tiled(64, 64),
        "scan-bomb": many_scans(500),
        "nan": encoded(nan, "TIFF"),
        "infinite": encoded(infinite, "TIFF"),
        "text-bomb": good["png"][:33] + text + good["png"][33:],
        "profile-bomb": good["png"][:33] + profile + good["png"][33:],
        "many-frames": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "no-data": start + _chunk(b"IHDR", good["png"][16:29]) + _chunk(b"IEND", b""),
        "endless-ifd": tiff({256: (4, 8), 257: (4, 8)}, b"")[:-4] + struct.pack("<I", 8),
        "exif-loop": good["jpeg"][:2] + _exif_loop() + good["jpeg"][2:],
        **_polyglots(good),
    }


def damaged_files(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Good files after damage: cut, flipped, overwritten, doubled, spliced.

    Args:
        count: How many.
        seed: Of the draws.
    """
    good = list(good_files().items())
    damages: list[Callable[[random.Random, bytes, bytes], bytes]] = [
        _cut, _flip, _flip_header, _overwrite, _double, _splice, _numbers,
    ]  # fmt: skip
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        name, data = good[number % len(good)]
        damage = damages[number // len(good) % len(damages)]
        yield f"{name}/{damage.__name__}/{seed}/{number}", damage(rng, data, rng.choice(good)[1])


def _polyglots(good: dict[str, bytes]) -> dict[str, bytes]:
    tails = {"html": HTML, "zip": ZIP, "svg": SVG, "pdf": PDF}
    ends = {f"{k}-then-{t}": good[k] + tails[t] for k in ("png", "jpeg", "gif") for t in tails}
    starts = {f"{t}-then-{k}": tails[t] + good[k] for k in ("png", "jpeg") for t in tails}
    script = b"GIF89a/*" + bytes(6) + b"*/=alert(1);"
    return ends | starts | {"gif-script": script, "png-in-gif": good["gif"][:13] + good["png"]}


def _cut(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _flip(rng: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flip_header(rng: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 5))):
        changed[rng.randrange(min(len(data), 128))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, length = rng.randrange(len(data)), rng.randrange(1, 64)
    return (
        data[:start] + rng.choice((rng.randbytes(length), bytes(length))) + data[start + length :]
    )


def _double(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start = rng.randrange(len(data))
    part = data[start : start + rng.randrange(1, 400)]
    return data[:start] + part * rng.choice((2, 5, 50)) + data[start + len(part) :]


def _splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def _numbers(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Replaces a field of 2 or 4 bytes near the start by a number that is dangerous as a size."""
    value = rng.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x10001))
    width = rng.choice("HI") if value <= 0xFFFF else "I"
    field = struct.pack(rng.choice("<>") + width, value)
    start = rng.randrange(min(len(data), 160))
    return data[:start] + field + data[start + len(field) :]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def _zeros(count: int) -> bytes:
    packer, block = zlib.compressobj(9), bytes(2**20)
    parts = [packer.compress(block[: min(len(block), count - i)]) for i in range(0, count, 2**20)]
    return b"".join(parts) + packer.flush()


def _exif_loop() -> bytes:
    """An EXIF block whose directories point at themselves."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)
    body = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 8)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
