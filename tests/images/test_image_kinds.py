"""What TIFF, PNG, PGM and HEIC files can be: exactly the right pixels, or a sentence."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image

from inctrl_core import ImageError
from inctrl_core.images.files import (
    image_levels,
    images_in,
    levels_used,
    open_image,
    open_values,
    upright_size,
)

HEIGHT, WIDTH = 37, 51
RANDOM = np.random.default_rng(0)
GREY8 = RANDOM.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
RGB8 = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY8[0, :2], RGB8[0, :2] = [0, 255], [[0], [255]]
GREY16, RGB16 = GREY8 * np.uint16(257), RGB8 * np.uint16(257)


def tiff(values: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, metadata=None, **options)
    return stream.getvalue()


def assert_read(data: bytes, expected: np.ndarray) -> None:
    """Whether a file is read as these 8-bit pixels, grey or RGB."""
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=2)
    opened = np.asarray(open_image(data))
    assert opened.shape == expected.shape
    assert np.array_equal(opened, expected)
    assert upright_size(data) == expected.shape[1::-1]


KINDS = {
    "grey8": (GREY8, GREY8, {"photometric": "minisblack"}),
    "grey16": (GREY16, GREY8, {"photometric": "minisblack"}),
    "white-is-zero8": (255 - GREY8, GREY8, {"photometric": "miniswhite"}),
    "white-is-zero16": (65535 - GREY16, GREY8, {"photometric": "miniswhite"}),
    "signed16": (GREY8.astype(np.int16), GREY8, {"photometric": "minisblack"}),
    "unsigned32": (GREY16.astype(np.uint32), GREY8, {"photometric": "minisblack"}),
    "half": ((GREY8 / 255).astype(np.float16), GREY8, {"photometric": "minisblack"}),
    "float": ((GREY8 / 255).astype(np.float32), GREY8, {"photometric": "minisblack"}),
    "double": (GREY8 / 255, GREY8, {"photometric": "minisblack"}),
    "float-bytes": (GREY8.astype(np.float32), GREY8, {"photometric": "minisblack"}),
    "rgb8": (RGB8, RGB8, {"photometric": "rgb"}),
    "rgb16": (RGB16, RGB8, {"photometric": "rgb"}),
    "rgb-half": ((RGB8 / 255).astype(np.float16), RGB8, {"photometric": "rgb"}),
    "rgb-float": ((RGB8 / 255).astype(np.float32), RGB8, {"photometric": "rgb"}),
    "rgb-double": (RGB8 / 255, RGB8, {"photometric": "rgb"}),
    "planar8": (RGB8, RGB8, {"photometric": "rgb", "planarconfig": "separate"}),
    "planar16": (RGB16, RGB8, {"photometric": "rgb", "planarconfig": "separate"}),
    "planar-float": (
        (RGB8 / 255).astype(np.float32),
        RGB8,
        {"photometric": "rgb", "planarconfig": "separate"},
    ),
}
LAYOUTS = {
    "strips": {"rowsperstrip": 8},
    "one-strip": {},
    "tiles": {"tile": (16, 32)},
    "deflate": {"compression": "zlib", "rowsperstrip": 8},
    "deflate-tiles": {"compression": "zlib", "tile": (16, 16)},
    "big": {"bigtiff": True},
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_tiff_values_in_every_layout(kind: str, layout: str, order: str) -> None:
    values, expected, options = KINDS[kind]
    if options.get("planarconfig") == "separate":
        values = np.moveaxis(values, 2, 0)
    data = tiff(np.ascontiguousarray(values), byteorder=order, **options, **LAYOUTS[layout])
    assert_read(data, expected)


def compressed(data: bytes, rows: int, name: str) -> bytes:
    """A strip as libtiff compresses it, of so many rows of bytes."""
    stream = io.BytesIO()
    as_grey = Image.frombytes("L", (len(data) // rows, rows), data)
    as_grey.save(stream, "TIFF", compression=name, strip_size=len(data) + 1)
    with Image.open(io.BytesIO(stream.getvalue())) as image:
        place, size = image.tag_v2[273][0], image.tag_v2[279][0]
    return stream.getvalue()[place : place + size]


def with_tags(data: list[bytes], tags: dict[int, tuple[int, list[int]]]) -> bytes:
    """A TIFF of these strips, little-endian; ``tags`` has a type and numbers for each."""
    places, body = [], b""
    for strip in data:
        places.append(8 + len(body))
        body += strip + bytes(len(strip) % 2)
    tags = tags | {273: (4, places), 279: (4, [len(strip) for strip in data])}
    entries, extra = b"", b""
    start = 8 + len(body)
    after = start + 2 + 12 * len(tags) + 4
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'L'}", *numbers)
        if len(packed) > 4:
            value = struct.pack("<L", after + len(extra))
            extra += packed
        else:
            value = packed.ljust(4, b"\0")
        entries += struct.pack("<HHL", tag, kind, len(numbers)) + value
    return (
        struct.pack("<4sL", b"II*\0", start)
        + body
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
        + extra
    )


def described(values: np.ndarray, **more: int) -> dict[int, tuple[int, list[int]]]:
    samples = values.shape[2] if values.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    tags = {
        256: (4, [values.shape[1]]),
        257: (4, [values.shape[0]]),
        258: (3, [values.dtype.itemsize * 8] * samples),
        262: (3, [2 if samples >= 3 else 1]),
        277: (3, [samples]),
        278: (4, [values.shape[0]]),
        339: (3, [kind] * samples),
    }
    return tags | {int(tag[1:]): (3, [number]) for tag, number in more.items()}


CODES = {"tiff_lzw": 5, "tiff_adobe_deflate": 8, "packbits": 32773, "zstd": 50000}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("kind", ["grey16", "rgb16", "rgb-float", "double"])
def test_tiff_of_every_compression(kind: str, code: str) -> None:
    values, expected, _ = KINDS[kind]
    strip = compressed(values.tobytes(), HEIGHT, code)
    assert_read(with_tags([strip], described(values, t259=CODES[code])), expected)


@pytest.mark.parametrize("kind", ["grey16", "rgb16", "unsigned32"])
def test_tiff_with_differences_of_whole_numbers(kind: str) -> None:
    values, expected, _ = KINDS[kind]
    steps = values.copy()
    steps[:, 1:] -= values[:, :-1]
    strip = compressed(steps.tobytes(), HEIGHT, "tiff_lzw")
    assert_read(with_tags([strip], described(values, t259=5, t317=2)), expected)


@pytest.mark.parametrize("kind", ["half", "float", "double", "rgb-float", "rgb-half"])
def test_tiff_with_differences_of_floating_point(kind: str) -> None:
    values, expected, _ = KINDS[kind]
    samples = values.shape[2] if values.ndim == 3 else 1
    by_byte = values.astype(values.dtype.newbyteorder(">")).reshape(HEIGHT, -1, 1).view(np.uint8)
    planes = by_byte.transpose(0, 2, 1).reshape(HEIGHT, -1)
    steps = planes.copy()
    steps[:, samples:] -= planes[:, :-samples]
    strip = compressed(steps.tobytes(), HEIGHT, "tiff_adobe_deflate")
    data = with_tags([strip], described(values, t259=8, t317=3))
    if samples == 1 and values.dtype == np.float32:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), values)  # libtiff agrees.
    assert_read(data, expected)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("colour", [False, True])
def test_packed_bits_say_what_is_white(bits: int, colour: bool) -> None:
    values = (RGB8 if colour else GREY8).astype(np.uint16) >> 2  # Dim.
    digits = (values.reshape(HEIGHT, -1, 1) >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(digits.reshape(HEIGHT, -1).astype(np.uint8), axis=1)
    tags = described(values) | {258: (3, [bits] * (3 if colour else 1))}
    data = with_tags([rows.tobytes()], tags)
    assert image_levels(data).white == 2**bits - 1
    assert np.array_equal(open_values(data), values.max(axis=2) if colour else values)


def test_a_tiff_may_name_its_largest_value():
    dim = (GREY8 * np.uint16(3)).astype(np.uint16)
    assert image_levels(tiff(dim)).white == 1023
    for largest, white in ((4095, 4095), (3900, 4095), (65535, 1023), (100, 1023)):
        data = tiff(dim, extratags=[(281, "H", 1, largest, True)])
        assert image_levels(data).white == white


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_few_bits(bits: int, white_is_zero: bool) -> None:
    levels = GREY8 >> (8 - bits)
    stored = (2**bits - 1 - levels) if white_is_zero else levels
    digits = (stored[..., None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(digits.reshape(HEIGHT, -1), axis=1)
    tags = described(GREY8, t262=0 if white_is_zero else 1) | {258: (3, [bits])}
    assert_read(with_tags([rows.tobytes()], tags), levels * np.uint8(255 // (2**bits - 1)))


@pytest.mark.parametrize("bits", [4, 8])
def test_palettes(bits: int) -> None:
    colours = RANDOM.integers(0, 256, (2**bits, 3))
    index = GREY8 >> (8 - bits)
    digits = (index[..., None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(digits.reshape(HEIGHT, -1), axis=1)
    tags = described(GREY8, t262=3) | {258: (3, [bits])}
    tags[320] = 3, [int(value) * 257 for value in colours.T.ravel()]
    assert_read(with_tags([rows.tobytes()], tags), colours[index].astype(np.uint8))


@pytest.mark.parametrize("deep", [False, True])
def test_opacity(deep: bool) -> None:
    alpha = np.where(GREY8 > 100, 255, 0).astype(np.uint8)
    values = np.dstack([RGB8, alpha])
    values = values * np.uint16(257) if deep else values
    expected = np.where(alpha[..., None] > 0, RGB8, 255)
    assert_read(tiff(values, photometric="rgb", extrasamples=["unassalpha"]), expected)
    if not deep:
        values = np.where(alpha[..., None] > 0, values, 0)
    else:
        values[alpha == 0] = 0
    assert_read(tiff(values, photometric="rgb", extrasamples=["assocalpha"]), expected)
    grey = np.dstack([GREY8, alpha])
    grey = grey * np.uint16(257) if deep else grey
    data = tiff(grey, photometric="minisblack", extrasamples=["unassalpha"], planarconfig="contig")
    assert_read(data, np.where(alpha > 0, GREY8, 255).astype(np.uint8))


def test_a_fourth_value_that_is_no_opacity_is_left_alone():
    values = np.dstack([RGB16, GREY16])
    assert_read(tiff(values, photometric="rgb", extrasamples=["unspecified"]), RGB8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["rgb8", "rgb16", "float"])
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    values, expected, options = KINDS[kind]
    data = tiff(values, extratags=[(274, "H", 1, orientation, True)], **options)
    turns = {
        1: expected,
        2: expected[:, ::-1],
        3: expected[::-1, ::-1],
        4: expected[::-1],
        5: expected.swapaxes(0, 1),
        6: np.rot90(expected, -1),
        7: expected[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(expected),
    }
    assert_read(data, turns[orientation])


def test_of_several_pages_the_first_is_read():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(RGB16, photometric="rgb", metadata=None)
        writer.write(RGB16[::-1], photometric="rgb", metadata=None)
    assert_read(stream.getvalue(), RGB8)


REFUSED = {
    "cmyk16": tiff(np.dstack([RGB16, GREY16]), photometric="separated"),
    "complex": tiff(GREY8.astype(np.complex64), photometric="minisblack"),
    "lab": tiff(RGB8, photometric="cielab"),
    "five-floats": tiff(
        np.repeat(GREY8[..., None], 5, axis=2) / 255,
        photometric="minisblack",
        planarconfig="contig",
    ),
    "negative": tiff(GREY8 - np.int16(200)),
    "signed8": tiff(GREY8.view(np.int8)),
    "ycbcr": with_tags([RGB8.tobytes()], described(RGB8, t262=6)),
    "mixed": with_tags([RGB16.tobytes()], described(RGB16) | {258: (3, [16, 16, 8])}),
    "float-white-is-zero": with_tags(
        [GREY8.astype(np.float32).tobytes()], described(GREY8.astype(np.float32), t262=0)
    ),
    "jpeg12": with_tags([b"\xff\xd8"], described(GREY16, t259=7)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_read_is_refused_in_a_sentence(kind: str) -> None:
    with pytest.raises(ImageError, match=r"^The image (has|is) .*save it as") as caught:
        open_image(REFUSED[kind])
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("kind", ["rgb16", "grey16", "planar16"])
def test_a_tiff_that_is_cut_off_is_damaged(kind: str) -> None:
    values, _, options = KINDS[kind]
    values = np.moveaxis(values, 2, 0) if kind == "planar16" else values
    data = tiff(np.ascontiguousarray(values), **options)
    with pytest.raises(ImageError, match="damaged"):
        open_image(data[: len(data) // 2])


def test_strips_that_name_the_same_bytes_over_and_over_are_refused():
    tall = np.zeros((4000, 10, 3), np.uint16)
    tags = described(tall) | {278: (4, [1])}
    data = with_tags([bytes(60)], tags)
    with pytest.raises(ImageError):
        open_image(data)


def png(values: np.ndarray, colour: int, chunks: bytes = b"") -> bytes:
    """A PNG of 16 bits, as Pillow cannot write it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))
        )

    height, width = values.shape[:2]
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8).reshape(height, -1)
    bpp = rows.shape[1] // width
    subtracted = rows.copy()
    subtracted[1::2, bpp:] -= rows[1::2, :-bpp]  # Every other row by the filter Sub.
    kinds = (np.arange(height) % 2).astype(np.uint8)[:, None]
    data = zlib.compress(np.hstack([kinds, subtracted]).tobytes())
    header = struct.pack(">LLBBBBB", width, height, 16, colour, 0, 0, 0)
    extra = chunk(chunks[:4], chunks[4:]) if chunks else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def test_png_of_16_bits_keeps_both_bytes():
    odd = RANDOM.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    assert np.array_equal(open_values(png(odd, 2)), odd.max(axis=2))
    assert_read(png(RGB16, 2), RGB8)
    twelve = RGB8 * np.uint16(16)
    assert_read(png(twelve, 2), np.rint(twelve * (255 / 4095)).astype(np.uint8))
    alpha = np.where(GREY8 > 100, 65535, 0).astype(np.uint16)
    shown = alpha[..., None] > 0
    assert_read(png(np.dstack([RGB16, alpha]), 6), np.where(shown, RGB8, 255))
    assert_read(png(np.dstack([GREY16, alpha]), 4), np.where(shown[..., 0], GREY8, 255))
    assert np.array_equal(open_values(png(GREY16, 0)), GREY16)


def test_a_transparent_colour_of_16_bits_is_compared_whole():
    values = np.full((2, 2, 3), 0x1234, np.uint16)
    values[0, 0] = 0x1235
    opened = open_image(png(values, 2, b"tRNS" + struct.pack(">HHH", 0x1234, 0x1234, 0x1234)))
    assert opened.getpixel((1, 1)) == (255, 255, 255)
    assert opened.getpixel((0, 0)) != (255, 255, 255)


def test_png_may_say_how_many_bits_count():
    dim = GREY8 * np.uint16(3)
    assert image_levels(png(dim, 0)).white == 1023
    assert image_levels(png(dim, 0, b"sBIT\x0c")).white == 4095
    spread = GREY16 & 0xFFF0
    assert image_levels(png(spread, 0, b"sBIT\x0c")).white == 65535
    colours = RGB8 * np.uint16(3)
    assert image_levels(png(colours, 2, b"sBIT\x0c\x0c\x0c")).white == 4095


@pytest.mark.parametrize(
    ("maxval", "white"), [(1023, 1023), (4095, 4095), (1000, 1000), (65535, 1023)]
)
def test_pgm_and_ppm_say_what_is_white(maxval: int, white: int) -> None:
    for letter, pixels in ((b"5", GREY8), (b"6", RGB8)):
        values = pixels.astype(np.uint16) * 3
        header = b"P%s\n%d %d\n%d\n" % (letter, WIDTH, HEIGHT, maxval)
        data = header + values.astype(">u2").tobytes()
        assert levels_used(open_image(data)).white == white
        assert_read(data, np.rint(values * (255 / white)).astype(np.uint8))
        with pytest.raises(ImageError, match="damaged"):
            open_image(data[:-9])


def test_pgm_in_text():
    text = " ".join(map(str, (GREY8.astype(int) * 3).ravel()))
    data = f"P2\n{WIDTH} {HEIGHT}\n1000\n{text}\n".encode()
    spread = GREY8.astype(int) * 3 / 1000 * 255
    opened = np.asarray(open_image(data))[..., 0]
    assert np.abs(opened - spread).max() <= 1


def photograph() -> Image.Image:
    """Smooth colours, which a lossy format keeps; its upper left is red."""
    rows, columns = np.mgrid[:120, :160]
    pixels = np.stack([rows * 2, columns, np.full_like(rows, 60)], axis=2).astype(np.uint8)
    pixels[:40, :50] = 250, 20, 20
    return Image.fromarray(pixels)


def heic(image: Image.Image, exif: bytes | None = None) -> bytes:
    stream = io.BytesIO()
    file = pillow_heif.from_pillow(image)
    file[0].info["exif"] = exif
    file.save(stream, quality=90)
    return stream.getvalue()


def test_heic_is_read_and_told_from_the_rest(tmp_path: Path) -> None:
    data = heic(photograph())
    assert data[4:8] == b"ftyp"
    opened = open_image(data)
    assert np.abs(np.asarray(opened, int) - np.asarray(photograph(), int)).mean() < 4
    assert upright_size(data) == (160, 120) and image_levels(data) is None
    for name in ("a.HEIC", "b.heif"):
        (tmp_path / name).write_bytes(data)
    assert [path.name for path in images_in(tmp_path)] == ["a.HEIC", "b.heif"]
    with pytest.raises(ImageError, match="damaged"):
        open_image(data[:-400])


def test_heic_is_not_decoded_to_learn_its_levels(monkeypatch) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("decoded")

    data = heic(photograph())
    monkeypatch.setattr(pillow_heif.HeifImage, "to_pillow", decoded)
    assert image_levels(data) is None


def test_heic_is_turned_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = heic(photograph(), exif.tobytes())
    assert b"irot" in data  # The boxes say it too, and are what counts.
    opened = open_image(data)
    assert opened.size == (120, 160)
    red = np.asarray(opened, int)[10, -10]
    assert red[0] > 200 and red[1] < 80


def test_heic_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch) -> None:
    data = heic(photograph())
    monkeypatch.setenv("INCTRL_MAX_MEGAPIXELS", "0.01")
    monkeypatch.setattr(pillow_heif.HeifImage, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="160 x 120 pixels; use at most 0.01 megapixels"):
        open_image(data)


def test_a_jpeg_of_a_phone_with_a_second_image_is_read_as_the_first():
    stream = io.BytesIO()
    photograph().save(stream, "MPO", save_all=True, append_images=[Image.new("RGB", (40, 30))])
    assert open_image(stream.getvalue()).size == (160, 120)


def test_dicom_gets_a_sentence_that_says_what_to_export():
    with pytest.raises(ImageError, match="DICOM file; export the image .* as PNG"):
        open_image(bytes(128) + b"DICM" + bytes(100))
