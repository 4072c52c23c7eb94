"""Images as people have them, and the geometry of the crop."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from inctrl_core import ImageError
from inctrl_core import preprocessing as pp
from inctrl_core.config import SQUASH, PreprocessConfig


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(240, 240), (1, 1), (301, 199), (199, 301), (640, 33), (7, 9)])
def test_crop_equals_torchvision(size: tuple[int, int]) -> None:
    image = noise(*size)
    expected = transforms.CenterCrop(240)(
        transforms.Resize(240, transforms.InterpolationMode.BICUBIC)(image)
    )
    crop, _ = pp.crop_image(image, 240)
    np.testing.assert_array_equal(np.array(crop), np.array(expected))


@pytest.mark.parametrize("size", [(240, 240), (1, 1), (301, 199), (199, 301), (640, 33)])
def test_a_whole_image_equals_torchvision(size: tuple[int, int]) -> None:
    image = noise(*size)
    expected = transforms.Resize((240, 240), transforms.InterpolationMode.BICUBIC)(image)
    square, box = pp.crop_image(image, 240, SQUASH)
    np.testing.assert_array_equal(np.array(square), np.array(expected))
    assert box == (0, 0, *size)


def test_the_longest_image_is_squeezed_without_much_memory() -> None:
    resource = pytest.importorskip("resource")
    row = np.repeat(np.arange(4, dtype=np.uint8) * 60, 5_000_000)[None, :, None].repeat(3, axis=2)
    image = Image.fromarray(row)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    square, box = pp.crop_image(image, 48, SQUASH)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert box == (0, 0, 20_000_000, 1) and grown < 100_000  # kB; else 600 MB.
    np.testing.assert_allclose(np.array(square)[0, 6::12, 0], [0, 60, 120, 180], atol=1)


@pytest.mark.parametrize("size", [(301, 199), (199, 301)])
def test_nothing_of_a_whole_image_is_left_out(size: tuple[int, int]) -> None:
    config = PreprocessConfig(240, resize_mode=SQUASH)
    image = Image.new("RGB", size)
    before, box = pp.preprocess(image, config)
    for row, column in [(0, 0), (7, 3), (14, 0), (0, 14)]:
        marked = image.copy()
        part = pp.patch_box(box, 15, row, column)
        marked.paste("white", tuple(round(edge) for edge in part))
        change = (pp.preprocess(marked, config)[0] - before).mean(dim=0)
        means = change.reshape(15, 16, 15, 16).mean(dim=(1, 3)).numpy()
        assert np.unravel_index(means.argmax(), means.shape) == (row, column)


@pytest.mark.parametrize(
    ("query", "normals", "expected"),
    [
        ((0, 0, 100, 100), [(0, 0, 50, 50)], None),
        ((0, 0, 115, 100), [(0, 0, 100, 100)], None),  # Just as far as may be.
        ((0, 0, 116, 100), [(0, 0, 100, 100)], (1.16, 1.0)),
        ((0, 0, 100, 200), [(0, 0, 100, 100), (5, 5, 80, 105)], (0.5, 0.75)),
        ((0, 0, 100, 200), [(0, 0, 100, 100), (0, 0, 40, 80)], None),  # One like it is enough.
    ],
)
def test_proportions_are_compared_with_the_closest_normal(query, normals, expected) -> None:
    assert pp.other_proportions(query, normals) == expected


@settings(deadline=None, max_examples=60)
@given(*[st.integers(64, 3000)] * 4)
def test_squares_that_are_cut_out_are_alike(width, height, other_width, other_height) -> None:
    boxes = [
        pp.crop_image(Image.new("RGB", size), 64)[1]
        for size in ((width, height), (other_width, other_height))
    ]
    assert pp.other_proportions(boxes[0], boxes[1:]) is None


def test_what_is_seen_keeps_its_proportions() -> None:
    whole, cut = PreprocessConfig(48, resize_mode=SQUASH), PreprocessConfig(48)
    image = noise(300, 200)
    assert pp.seen_image(image, whole).size == (72, 48)
    assert pp.seen_image(noise(200, 300), whole).size == (48, 72)
    assert pp.seen_image(noise(20000, 1), whole).size == (4 * 48, 48)
    assert pp.seen_image(noise(1, 3000), whole).size == (48, 4 * 48)
    square = pp.seen_image(image, cut)
    np.testing.assert_array_equal(np.array(square), np.array(pp.crop_image(image, 48)[0]))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.integers(1, 3000))
def test_crop_box_is_a_centred_square_inside_the_image(width: int, height: int) -> None:
    _, (left, top, right, bottom) = pp.crop_image(Image.new("RGB", (width, height)), 16)
    short = min(width, height)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    # The longer side is rounded down by less than one of the crop's pixels.
    assert right - left == pytest.approx(short, rel=1 / 16)
    assert bottom - top == pytest.approx(short, rel=1 / 16)
    assert (left + right) / 2 == pytest.approx(width / 2, abs=short / 16)
    assert (top + bottom) / 2 == pytest.approx(height / 2, abs=short / 16)


def test_crop_box_by_hand() -> None:
    # 301 x 199 to 363 x 240 (363.01 rounded down); the crop starts at round(61.5) = 62.
    _, box = pp.crop_image(noise(301, 199), 240)
    assert box == pytest.approx((62 * 301 / 363, 0, 302 * 301 / 363, 199))


def test_a_mark_in_the_original_lands_in_its_patch() -> None:
    image = Image.new("RGB", (437, 301))
    box = pp.crop_image(image, 240)[1]
    for row, column in [(0, 0), (7, 3), (14, 14)]:
        marked = image.copy()
        left, top, right, bottom = pp.patch_box(box, 15, row, column)
        marked.paste("white", tuple(round(v) for v in (left, top, right, bottom)))
        crop = np.array(pp.crop_image(marked, 240)[0].convert("L"), dtype=float)
        means = crop.reshape(15, 16, 15, 16).mean(axis=(1, 3))
        assert np.unravel_index(means.argmax(), means.shape) == (row, column)
        assert means.max() > 200
        centre = (left + right) / 2, (top + bottom) / 2
        assert pp.patch_at(box, 15, *centre) == (row, column)


def test_pixels_outside_the_crop_belong_to_no_patch() -> None:
    box = pp.crop_image(Image.new("RGB", (400, 200)), 240)[1]
    assert box == (100, 0, 300, 200)
    assert pp.patch_at(box, 15, 99.9, 50) is None
    assert pp.patch_at(box, 15, 300, 50) is None
    assert pp.patch_at(box, 15, 299.9, 199.9) == (14, 14)


def test_extreme_strip_is_cropped_without_resizing_it_whole() -> None:
    crop, box = pp.crop_image(noise(20000, 1), 240)
    assert crop.size == (240, 240)
    assert box[2] - box[0] == pytest.approx(1)


def test_tensor_is_normalised_by_channel() -> None:
    config = PreprocessConfig(image_size=16, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 2.0))
    tensor, _ = pp.preprocess(Image.new("RGB", (16, 16), (255, 255, 255)), config)
    assert tensor.shape == (3, 16, 16)
    assert [float(c.mean()) for c in tensor] == [1.0, 1.0, 0.0]


def colour_at(data: bytes | Image.Image, xy: tuple[int, int] = (0, 0)) -> tuple[int, int, int]:
    image = pp.open_image(data)
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


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 300.0])
def test_float_outside_its_range_is_refused(value: float) -> None:
    image = Image.fromarray(np.full((4, 4), value, np.float32))
    with pytest.raises(ImageError, match="save it as an 8-bit"):
        pp.open_image(encoded(image, "TIFF"))


def test_transparency_is_laid_over_white() -> None:
    assert colour_at(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)))) == (255, 255, 255)
    assert colour_at(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 255)))) == (255, 0, 0)
    assert colour_at(encoded(Image.new("LA", (4, 4), (0, 51)))) == (204, 204, 204)
    palette = Image.new("P", (4, 4), 0)
    assert colour_at(encoded(palette, transparency=0)) == (255, 255, 255)


def test_cmyk_animation_and_orientation() -> None:
    assert colour_at(encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")) == (255, 255, 255)
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert colour_at(gif) == (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was turned; viewers rotate by 90 degrees clockwise.
    turned = Image.new("RGB", (20, 10))
    turned.paste("white", (0, 0, 10, 10))
    upright = pp.open_image(encoded(turned, "PNG", exif=exif))
    assert upright.size == (10, 20)
    assert upright.getpixel((5, 2)) == (255, 255, 255) and upright.getpixel((5, 17)) == (0, 0, 0)


def test_an_image_object_keeps_its_pixels_and_gets_its_orientation() -> None:
    image = noise(9, 5)
    np.testing.assert_array_equal(np.array(pp.open_image(image)), np.array(image))


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
            pp.open_image(source)
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        pp.open_image(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="is a folder"):
        pp.open_image(tmp_path)


def test_limits_hold_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(pp, "MAX_PIXELS", 99)
    data = encoded(noise(10, 10))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(ImageError, match="10 x 10 pixels"):
        pp.open_image(data)
    monkeypatch.setattr(pp, "MAX_BYTES", 50)
    with pytest.raises(ImageError, match="MB"):
        pp.open_image(data)


def test_a_bomb_is_refused() -> None:
    # A PNG header that announces 65000 x 65000 pixels, with hardly any data behind it.
    data = bytearray(encoded(Image.new("L", (1, 1))))
    data[16:24] = (65000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageError, match="megapixels"):
        pp.open_image(bytes(data))
