"""Changes to photographs: what each does to pixels that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inctrl_core.errors import ImageError
from inctrl_core.images.perturbations import PERTURBATIONS, add_noise, brighten, perturb, rotate

NAMES = [kind.name for kind in PERTURBATIONS]


def scene(width: int = 48, height: int = 48) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    coarse = Image.fromarray(pixels.astype(np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def plain(value: int, size: tuple[int, int] = (20, 20)) -> Image.Image:
    return Image.new("RGB", size, (value,) * 3)


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float64)


def test_a_quarter_turn_of_a_square_is_exact():
    image = scene()
    expected = image.transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_array_equal(array(rotate(image, 90)), array(expected))
    np.testing.assert_array_equal(array(rotate(image, 0)), array(image))


@pytest.mark.parametrize("size", [(20, 20), (64, 16), (5, 41)])
@pytest.mark.parametrize("degrees", [5, 45, 73, 180])
def test_turning_leaves_no_empty_corners(size: tuple[int, int], degrees: int):
    np.testing.assert_array_equal(array(rotate(plain(200, size), degrees)), 200)


@pytest.mark.parametrize(
    ("value", "percent", "expected"), [(100, 50, 50), (200, 150, 255), (80, 125, 100), (7, 100, 7)]
)
def test_brightness_is_a_factor(value: int, percent: float, expected: int):
    np.testing.assert_array_equal(array(brighten(plain(value), percent)), expected)


def test_blur_spreads_a_point_evenly_and_keeps_what_is_plain():
    np.testing.assert_array_equal(array(perturb(plain(90), "blur", 4)), 90)
    point = plain(0, (21, 21))
    point.putpixel((10, 10), (255, 255, 255))
    spread = array(perturb(point, "blur", 1))[..., 0]
    assert spread[10, 10] == spread.max() < 80
    assert spread[10, 9] == spread[10, 11] == spread[9, 10] > 0
    assert spread[10, 0] == 0


def test_noise_has_the_deviation_asked_for_and_one_pattern_per_seed():
    grey = plain(128, (100, 100))
    weak, strong = (array(add_noise(grey, deviation, 1)) - 128 for deviation in (16, 32))
    assert weak.std() == pytest.approx(16, rel=0.03)
    assert weak.mean() == pytest.approx(0, abs=0.5)
    np.testing.assert_allclose(strong, 2 * weak, atol=1.51)  # Each is rounded once.
    other = array(add_noise(grey, 16, 2)) - 128
    assert abs(np.corrcoef(weak.ravel(), other.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_keeps_size_and_original_and_repeats_itself(name: str):
    image = scene(50, 34)
    before = array(image)
    changed = perturb(image, name, 30, seed=5)
    assert (changed.size, changed.mode) == ((50, 34), "RGB")
    np.testing.assert_array_equal(array(image), before)
    np.testing.assert_array_equal(array(changed), array(perturb(image, name, 30, seed=5)))


@pytest.mark.parametrize("kind", PERTURBATIONS, ids=NAMES)
def test_stronger_is_further_from_the_original(kind):
    image = scene(96, 96)
    far = [np.abs(array(kind.apply(image, s, 0)) - array(image)).mean() for s in kind.severities]
    assert len(far) == 5 and far[0] > 0
    if kind.name != "rotation":  # Of a scene without direction every angle is as far.
        assert far == sorted(far)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(PERTURBATIONS), st.integers(0, 4))
def test_any_size_can_be_changed(width: int, height: int, kind, index: int):
    changed = kind.apply(scene(width, height), kind.severities[index], 0)
    assert changed.size == (width, height)


def test_an_unknown_kind_is_named():
    with pytest.raises(ImageError, match="no change 'hue'; choose among rotation, darker"):
        perturb(plain(0), "hue", 1)
