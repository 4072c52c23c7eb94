"""From an image to the input of the model, and the geometry of the crop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from inctrl_core.config import SQUASH, PreprocessConfig
from inctrl_core.images import preprocessing as pp


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(240, 240), (1, 1), (301, 199), (199, 301), (640, 33), (7, 9)])
def test_crop_equals_torchvision(size: tuple[int, int]) -> None:
    image = noise(*size)
    expected = transforms.CenterCrop(240)(
        transforms.Resize(240, transforms.InterpolationMode.BICUBIC)(image)
    )
    crop, _ = pp.crop_image(image, 240)
    np.testing.assert_array_equal(np.array(crop), np.array(expected))


@pytest.mark.parametrize("size", [(240, 240), (1, 1), (301, 199), (199, 301), (640, 33), (2048, 9)])
def test_a_whole_image_equals_torchvision(size: tuple[int, int]) -> None:
    image = noise(*size)
    tensor = transforms.functional.pil_to_tensor(image)
    expected = v2.Resize((240, 240), transforms.InterpolationMode.BICUBIC)(tensor)
    square, box = pp.crop_image(image, 240, SQUASH)
    assert square.mode == "RGB"
    np.testing.assert_array_equal(np.array(square), expected.permute(1, 2, 0).numpy())
    assert box == (0, 0, *size)
    # As near to what it makes of a PIL image as the documentation says.
    pillows = transforms.Resize((240, 240), transforms.InterpolationMode.BICUBIC)(image)
    difference = np.abs(np.array(square, dtype=int) - np.array(pillows, dtype=int))
    assert difference.max() <= 2 and (difference > 0).mean() < 0.01


@pytest.mark.parametrize("size", [(2049, 7), (7, 2049), (3000, 2100)])
def test_a_large_whole_image_equals_torchvisions_of_a_pil_image(size: tuple[int, int]) -> None:
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
    assert pp.aspect_mismatch(query, normals) == expected


@settings(deadline=None, max_examples=60)
@given(*[st.integers(64, 3000)] * 4)
def test_squares_that_are_cut_out_are_alike(width, height, other_width, other_height) -> None:
    boxes = [
        pp.crop_image(Image.new("RGB", size), 64)[1]
        for size in ((width, height), (other_width, other_height))
    ]
    assert pp.aspect_mismatch(boxes[0], boxes[1:]) is None


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
