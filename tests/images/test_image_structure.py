"""Files whose structure is the attack are refused at once; what cameras write is read."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from inctrl_core import ImageError
from inctrl_core.images.files import open_image, upright_size
from tests.adversarial import hostile
from tests.adversarial.corpus import encoded

ROOT = Path(__file__).resolve().parents[2]
MEGABYTE = 2**20
DRAW = random.Random(0)
SECONDS, BYTES = 2.0, 300 * MEGABYTE

# As they were found: each took the server for many seconds, or gigabytes of its memory.
NAMED: dict[str, Callable[[], bytes]] = {
    "tiff-overlapping-tags": lambda: hostile.tiff_overlap_whole(MEGABYTE, DRAW),
    "png-overlapping-exif": lambda: hostile.png_exif(2 * MEGABYTE, DRAW),
    "gif-tiny-extensions": lambda: hostile.in_gif(b"!\xfe\1a\0" * 800_000),
    "gif-long-comment": lambda: hostile.gif_comment(8 * MEGABYTE, DRAW),
    "png-empty-chunks": lambda: hostile.in_png(hostile.chunk(b"teSt") * 3_200_000),
    "jpeg-exif-segments": lambda: hostile.jpeg_exif_segments(4 * MEGABYTE, DRAW),
    "jpeg-markers": lambda: hostile.in_jpeg(b"\xff\xd0" * 10 * MEGABYTE),
    "ppm-comment": lambda: hostile.ppm_comment(38 * MEGABYTE, DRAW),
    # Of the same kinds.
    "png-text-after-data": lambda: hostile.png_after_data(38 * MEGABYTE, DRAW),
    "jpeg-fill-in-data": lambda: hostile.jpeg_fill_in_data(38 * MEGABYTE, DRAW),
    "ppm-many-comments": lambda: hostile.ppm_plain_comments(30 * MEGABYTE, DRAW),
    "ppm-plain": lambda: hostile.ppm_plain(0, DRAW),
    "bmp-deltas": lambda: hostile.bmp_deltas(0, DRAW),
    "tiff-same-strip": lambda: hostile.tiff_same_strip(38 * MEGABYTE, DRAW),
    "tiff-repeated-area": lambda: hostile.tiff_repeated_area(38 * MEGABYTE, DRAW),
    "avif-shared-extents": lambda: hostile.avif_extents(20 * MEGABYTE, DRAW),
}


@pytest.fixture(scope="module")
def measured() -> Iterator[Callable[[Path], dict]]:
    """Opens a path in another process and says what that took."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system does not tell a process's peak of memory")
    command = [sys.executable, "-m", "tests.adversarial.measure"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:

        def measure(path: Path) -> dict:
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield measure
        process.stdin.close()


@pytest.mark.parametrize("name", NAMED)
def test_named_files_take_neither_time_nor_memory(
    name: str, measured: Callable[[Path], dict], tmp_path: Path
) -> None:
    path = tmp_path / "upload.png"
    path.write_bytes(NAMED[name]())
    took = measured(path)
    assert took["seconds"] < SECONDS and took["bytes"] < BYTES, took


def photograph(side: int = 200) -> Image.Image:
    pixels = np.random.default_rng(4).integers(0, 256, (side, side * 3 // 2, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


REAL: dict[str, Callable[[], bytes]] = {
    "jpeg with a profile of 3 MB": lambda: encoded(
        photograph(), "JPEG", icc_profile=os.urandom(3 * MEGABYTE)
    ),
    "jpeg with a long description": lambda: hostile.in_jpeg(
        hostile.segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000)) * 500
    ),
    "jpeg with a maker note of 60 KB": lambda: encoded(photograph(), "JPEG", exif=maker_note()),
    "jpeg with a comment in several segments": lambda: hostile.in_jpeg(
        hostile.segment(0xFE, b"c" * 60_000) * 20
    ),
    "jpeg of twenty scans": lambda: many_scans(20),
    "png in chunks of 512 bytes": lambda: small_chunks(512),
    "png with 500 texts": lambda: hostile.in_png(hostile.chunk(b"tEXt", b"a\0b") * 500),
    "png with a profile of 900 KB": lambda: encoded(
        photograph(), "PNG", icc_profile=os.urandom(900_000)
    ),
    "tiff with a strip a row": lambda: encoded(
        photograph(1200), "TIFF", compression="tiff_lzw", tiffinfo={278: 1}
    ),
    "tiff with a profile of 3 MB": lambda: encoded(
        photograph(), "TIFF", icc_profile=os.urandom(3 * MEGABYTE)
    ),
    "tiff of sixty pages": lambda: encoded(
        photograph(40), "TIFF", save_all=True, append_images=[photograph(40)] * 59
    ),
    "bigtiff": lambda: encoded(photograph(), "TIFF", big_tiff=True),
    "gif with a long comment": lambda: encoded(photograph(), "GIF", comment=b"c" * 60_000),
    "gif of 60 frames": lambda: encoded(
        photograph(40), "GIF", save_all=True, append_images=[photograph(48)] * 59
    ),
    "webp of 60 frames with all that it can hold": lambda: encoded(
        photograph(40), "WEBP", save_all=True, append_images=[photograph(40)] * 59,
        exif=maker_note(), icc_profile=os.urandom(MEGABYTE), xmp=b"x" * MEGABYTE,
    ),
    "avif with all that it can hold": lambda: encoded(
        photograph(40), "AVIF", exif=maker_note(), icc_profile=profile(), xmp=b"x" * MEGABYTE
    ),
    "ppm with a comment": lambda: b"P6\n# made by hand\n" * 1 + b"2 2\n255\n" + bytes(12),
    "plain ppm with comments": lambda: b"P3 #a\n 2 2 255\n" + b"1 2 3 # pixel\n" * 4,
}  # fmt: skip


def maker_note() -> bytes:
    """An Exif block as cameras write it: orientation, resolutions, a maker note."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x011B], exif[0x0128] = 6, 72.0, 72.0, 2
    exif.get_ifd(0x8769)[0x927C] = bytes(60_000)
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    return exif.tobytes()


def profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def many_scans(count: int) -> bytes:
    data = encoded(photograph().convert("L"), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + data[-2:]


def small_chunks(size: int) -> bytes:
    good = encoded(photograph(), "PNG")
    place = good.index(b"IDAT") - 4
    data = b"".join(
        good[at + 8 : at + 8 + int.from_bytes(good[at : at + 4], "big")]
        for at in _places(good, place)
    )
    pieces = (hostile.chunk(b"IDAT", data[i : i + size]) for i in range(0, len(data), size))
    return good[:place] + b"".join(pieces) + hostile.chunk(b"IEND")


def _places(good: bytes, place: int) -> Iterator[int]:
    while good[place + 4 : place + 8] == b"IDAT":
        yield place
        place += 12 + int.from_bytes(good[place : place + 4], "big")


@pytest.mark.parametrize("name", REAL)
def test_what_cameras_and_programs_write_is_read(name: str, tmp_path: Path) -> None:
    data = REAL[name]()
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    path = tmp_path / "image"
    path.write_bytes(data)
    for source in (data, path):
        opened = open_image(source)
        assert opened.size == expected.size == upright_size(source)
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(expected))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "MPO"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_read_as_pillow_reads_it(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"save_all": True} if kind == "MPO" else {}
    data = encoded(photograph(40), kind, exif=exif, **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert expected.size == ((40, 60) if orientation > 4 else (60, 40))
    np.testing.assert_array_equal(np.asarray(open_image(data)), np.asarray(expected))
    assert upright_size(data) == expected.size


def test_orientation_in_a_description_or_in_text() -> None:
    described = b'<x:xmpmeta tiff:Orientation="8"/>'
    data = encoded(photograph(40), "JPEG", xmp=described)
    assert open_image(data).size == (40, 60)
    block = b"\nexif\n      26\n" + hostile.directory([(274, 3, 1, 6)]).hex().encode()
    text = hostile.chunk(b"tEXt", b"Raw profile type exif\0" + block)
    assert open_image(hostile.in_png(text)).size == (48, 48)
    assert np.array_equal(
        np.asarray(open_image(hostile.in_png(text))),
        np.asarray(open_image(hostile.picture("PNG")).transpose(Image.Transpose.ROTATE_270)),
    )


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0MM"]
)
def test_broken_exif_turns_nothing_and_stops_nothing(exif: bytes) -> None:
    data = hostile.in_jpeg(hostile.segment(0xE1, exif))
    assert open_image(data).size == (48, 48)


def test_a_bound_is_one_sentence_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "nut.png"
    path.write_bytes(hostile.png_text(4 * MEGABYTE, DRAW))
    with pytest.raises(ImageError, match=r"^'nut.png' has far too many chunks; .*\.$"):
        open_image(path)
