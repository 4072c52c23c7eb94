"""Image files as people have them, and the limits that hold before they are decoded."""

from __future__ import annotations

import io
import os
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inctrl_core import ImageError
from inctrl_core.images.files import (
    image_levels,
    images_in,
    open_image,
    same_content,
    upright_size,
)
from inctrl_core.images.formats.deep import _BAND_PIXELS
from inctrl_core.images.limits import MAX_BYTES, check_sent, most_bytes, most_pixels


def test_files_are_compared_byte_for_byte(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"same size")
    other.write_bytes(b"same-size")
    assert same_content(one, one) and not same_content(one, other)
    assert not same_content(one, tmp_path / "missing")


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def colour_at(data: bytes | Image.Image, xy: tuple[int, int] = (0, 0)) -> tuple[int, int, int]:
    image = open_image(data)
    assert image.mode == "RGB"
    return image.getpixel(xy)


def test_greyscale_and_palette() -> None:
    grey = Image.new("L", (4, 4), 77)
    assert colour_at(encoded(grey)) == (77, 77, 77)
    palette = Image.new("RGB", (4, 4), (200, 10, 30)).quantize()
    assert colour_at(encoded(palette)) == (200, 10, 30)
    assert colour_at(encoded(Image.new("1", (4, 4), 1))) == (255, 255, 255)


def test_sixteen_bit_and_float() -> None:
    deep = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    assert colour_at(encoded(deep)) == (255, 255, 255)
    half = Image.fromarray(np.full((4, 4), 128 * 257, np.uint16))
    assert colour_at(encoded(half, "TIFF")) == (128, 128, 128)
    unit = Image.fromarray(np.full((4, 4), 0.5, np.float32))
    assert colour_at(encoded(unit, "TIFF")) == (128, 128, 128)
    bytes_ = Image.fromarray(np.full((4, 4), 200.0, np.float32))
    assert colour_at(encoded(bytes_, "TIFF")) == (200, 200, 200)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 70000.0])
def test_float_outside_its_range_is_refused(value: float) -> None:
    image = Image.fromarray(np.full((4, 4), value, np.float32))
    with pytest.raises(ImageError, match="save it as an 8-bit"):
        open_image(encoded(image, "TIFF"))


def test_transparency_is_laid_over_white() -> None:
    assert colour_at(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)))) == (255, 255, 255)
    assert colour_at(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 255)))) == (255, 0, 0)
    assert colour_at(encoded(Image.new("LA", (4, 4), (0, 51)))) == (204, 204, 204)
    palette = Image.new("P", (4, 4), 0)
    assert colour_at(encoded(palette, transparency=0)) == (255, 255, 255)


def test_every_opacity_of_every_grey_is_laid_over_white_in_bands() -> None:
    grey, opacity = np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 2)
    tall = np.tile(np.dstack([grey, grey, grey, opacity]), (20, 1, 1))
    assert tall.shape[0] * tall.shape[1] > _BAND_PIXELS
    shares = opacity[..., None].astype(float) / 255
    expected = np.rint(grey[..., None] * shares + 255 * (1 - shares))
    opened = np.asarray(open_image(Image.fromarray(tall)))
    np.testing.assert_array_equal(opened, np.tile(expected, (20, 1, 3)))


def test_a_transparent_colour_is_laid_over_white() -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    assert colour_at(encoded(red, transparency=(255, 0, 0))) == (255, 255, 255)
    assert colour_at(encoded(red, transparency=(0, 255, 0))) == (255, 0, 0)
    deep = Image.fromarray(np.array([[257, 514, 65535]], np.uint16))
    data = encoded(deep, transparency=257)
    assert colour_at(data) == (255, 255, 255)
    assert colour_at(data, (1, 0)) == (2, 2, 2)
    odd = Image.new("RGB", (4, 4), (255, 0, 0))
    odd.info["transparency"] = 0  # Of no colour, as other formats leave it.
    assert colour_at(odd) == (255, 0, 0)


def test_cmyk_animation_and_orientation() -> None:
    assert colour_at(encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")) == (255, 255, 255)
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert colour_at(gif) == (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was turned; viewers rotate by 90 degrees clockwise.
    turned = Image.new("RGB", (20, 10))
    turned.paste("white", (0, 0, 10, 10))
    upright = open_image(encoded(turned, "PNG", exif=exif))
    assert upright.size == (10, 20)
    assert upright.getpixel((5, 2)) == (255, 255, 255) and upright.getpixel((5, 17)) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_a_file_is_not_copied_and_an_object_stays_the_callers(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(noise(9, 5), kind)
    copied = []
    copy = Image.Image.copy
    monkeypatch.setattr(Image.Image, "copy", lambda self: (copied.append(1), copy(self))[1])
    image = open_image(data)
    assert not copied  # It would take as long again as resizing, and as much memory.
    open_image(image).putpixel((0, 0), (1, 2, 3))
    assert copied and image.getpixel((0, 0)) != (1, 2, 3)


def test_a_file_of_several_frames_does_not_stay_open(tmp_path: Path) -> None:
    frames = [noise(9, 5, seed) for seed in range(2)]
    frames[0].save(tmp_path / "frames.tif", save_all=True, append_images=frames[1:])
    image = open_image(tmp_path / "frames.tif")
    np.testing.assert_array_equal(np.array(image), np.array(frames[0]))
    assert getattr(image, "fp", None) is None


def test_an_image_object_keeps_its_pixels_and_gets_its_orientation() -> None:
    image = noise(9, 5)
    np.testing.assert_array_equal(np.array(open_image(image)), np.array(image))


BAD_FILES = {
    "empty": (b"", "is empty"),
    "text": (b"not an image at all", "is not an image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
    "pdf": (b"%PDF-1.4\n", "is not an image"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
    "truncated": (encoded(noise(64, 64))[:900], "damaged"),
    "truncated-jpeg": (encoded(noise(64, 64), "JPEG")[:900], "damaged"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_get_one_sentence(name: str, tmp_path: Path) -> None:
    data, words = BAD_FILES[name]
    path = tmp_path / "upload.png"
    path.write_bytes(data)
    for source in (data, path, io.BytesIO(data)):
        with pytest.raises(ImageError, match=words) as caught:
            open_image(source)
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        open_image(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="is a folder"):
        open_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_what_is_no_file_to_read_is_named_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "round.png").symlink_to("round.png")
    os.mkfifo(tmp_path / "pipe.png")  # Without a writer, opening it would wait for ever.
    (tmp_path / "zeros.png").symlink_to("/dev/zero")
    told = {
        "round.png": "symbolic links",
        "pipe.png": "it is a pipe or a device",
        "zeros.png": "it is a pipe or a device",
        300 * "x": "name too long",
    }
    for name, reason in told.items():
        for read in (open_image, upright_size, image_levels):
            with pytest.raises(ImageError, match=f"cannot be read .*{reason}.*; check it, or"):
                read(tmp_path / name)


def test_limits_hold_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setenv("INCTRL_MAX_MEGAPIXELS", "0.000099")
    data = encoded(noise(10, 10))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(ImageError, match="10 x 10 pixels"):
        open_image(data)


def test_the_bounds_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a camera of 20 megapixels, larger on disk than the page takes.
    large = tmp_path / "large.bmp"
    Image.new("RGB", (5472, 3648), (9, 80, 7)).save(large)
    assert large.stat().st_size > MAX_BYTES
    assert open_image(large).getpixel((5000, 3000)) == (9, 80, 7)
    monkeypatch.setenv("INCTRL_MAX_MEGAPIXELS", "19")
    with pytest.raises(ImageError, match="use at most 19 megapixels, or set INCTRL_MAX_MEGAPIX"):
        open_image(large)
    monkeypatch.setenv("INCTRL_MAX_MEGAPIXELS", "60")
    assert most_pixels() == 60_000_000
    assert most_bytes() == MAX_BYTES
    monkeypatch.setenv("INCTRL_MAX_MEGABYTES", "1.5")
    with pytest.raises(ImageError, match="It has 2 MB; use at most 1.5 MB"):
        check_sent(2 * 2**20, "It")


@pytest.mark.parametrize("text", ["many", "0", "-3", "nan", "inf"])
def test_a_bound_that_is_no_number_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCTRL_MAX_MEGAPIXELS", text)
    with pytest.raises(ImageError, match=f"INCTRL_MAX_MEGAPIXELS is '{text}'; set it to a number"):
        open_image(encoded(noise(4, 4)))


def bomb(side: int) -> bytes:
    """A PNG header that announces so many pixels squared, with hardly any data behind it."""
    data = bytearray(encoded(Image.new("L", (1, 1))))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def test_a_bomb_is_refused() -> None:
    with pytest.raises(ImageError, match="megapixels"):
        open_image(bomb(65000))


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_what_pillow_only_warns_of_is_refused(action: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(ImageError, match="megapixels"):
            open_image(bomb(10_000))


def test_threads_leave_the_process_its_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    data, opened = encoded(noise(4, 4)), Image.open
    inside = [threading.Event(), threading.Event()]
    let_out = [threading.Event(), threading.Event()]

    def open_when_told(*args, **kwargs) -> Image.Image:
        number = int(threading.current_thread().name)
        inside[number].set()
        assert let_out[number].wait(10)
        return opened(*args, **kwargs)

    monkeypatch.setattr(Image, "open", open_when_told)
    threads = [
        threading.Thread(target=open_image, args=(data,), name=str(number)) for number in (0, 1)
    ]
    before = list(warnings.filters)
    for number, thread in enumerate(threads):
        thread.start()
        assert inside[number].wait(10)
    for number, thread in enumerate(threads):  # The first in is the first out.
        let_out[number].set()
        thread.join(10)
    after = list(warnings.filters)
    warnings.filters[:] = before
    assert after == before


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="has no pixels"):
        open_image(Image.new("RGB", size))


def test_images_in_a_folder_are_those_that_people_see(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "._a.jpg", ".b.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in images_in(tmp_path)] == ["a.jpg", "b.PNG"]
