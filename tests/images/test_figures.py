"""The pictures of a score, pixel by pixel where that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from inctrl_core.images.overlay import (
    COLOUR_MAPS,
    OUTLINE,
    OverlayStyle,
    colour_table,
    level_map,
    mark_patch,
    outline,
    overlay,
    resize_for_screen,
    scale_box,
    value_map,
)
from inctrl_core.images.preprocessing import patch_box

WHOLE = (0.0, 0.0, 30.0, 30.0)
GREY = (100, 100, 100)


def grey(width: int = 30, height: int = 30) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def style(**changes: object) -> OverlayStyle:
    return OverlayStyle(**({"low": 0.0, "high": 1.0, "opacity": 1.0, "smooth": False} | changes))


@pytest.mark.parametrize("name", COLOUR_MAPS)
def test_colour_tables_get_lighter_from_end_to_end(name):
    table = colour_table(name).astype(float)
    lightness = table @ [0.2126, 0.7152, 0.0722]
    assert table.shape == (256, 3)
    assert lightness[0] < 60 and lightness[-1] > 180
    assert np.all(np.diff(lightness) > -1.0)  # Rounding to whole levels aside.


def test_an_unknown_colour_map_is_refused():
    with pytest.raises(ValueError, match="inferno, viridis, cividis"):
        colour_table("jet")


def test_the_scale_is_the_given_one_and_not_that_of_the_map():
    patch_map = np.full((15, 15), 0.25)
    patch_map[0, 0] = 0.5
    first = np.asarray(overlay(grey(), patch_map, WHOLE, style(high=0.5)))
    patch_map[14, 14] = 9.0
    second = np.asarray(overlay(grey(), patch_map, WHOLE, style(high=0.5)))
    np.testing.assert_array_equal(first[:20, :20], second[:20, :20])
    # Beyond the top of the scale the colour stays that of the top.
    np.testing.assert_array_equal(first[0, 0], second[29, 29])


def test_the_top_of_the_scale_at_full_opacity_is_the_table_s_last_colour():
    result = overlay(grey(), np.ones((15, 15)), WHOLE, style(colour_map="viridis"))
    assert result.getpixel((7, 7)) == tuple(colour_table("viridis")[255])


def test_opacity_zero_leaves_the_image_and_half_mixes_it():
    patch_map = np.ones((15, 15))
    untouched = overlay(grey(), patch_map, WHOLE, style(opacity=0.0))
    np.testing.assert_array_equal(np.asarray(untouched), np.asarray(grey()))
    half = np.asarray(overlay(grey(), patch_map, WHOLE, style(opacity=0.5))).astype(float)
    expected = 0.5 * colour_table(COLOUR_MAPS[0])[255] + 0.5 * np.array(GREY)
    np.testing.assert_allclose(half[5, 5], expected, atol=1.0)


def test_what_looks_normal_stays_more_visible_than_what_does_not():
    patch_map = np.zeros((15, 15))
    patch_map[:, 8:] = 1.0
    result = np.asarray(overlay(grey(), patch_map, WHOLE, style())).astype(float)
    low, high = colour_table(COLOUR_MAPS[0])[0], colour_table(COLOUR_MAPS[0])[255]
    np.testing.assert_allclose(result[5, 5], 0.2 * low + 0.8 * np.array(GREY), atol=1.5)
    np.testing.assert_allclose(result[5, 25], high, atol=1.0)


def test_a_patch_lands_on_its_own_pixels():
    patch_map = np.zeros((15, 15))
    patch_map[3, 11] = 1.0
    result = np.asarray(overlay(grey(), patch_map, WHOLE, style())).astype(int)
    lit = np.abs(result - colour_table(COLOUR_MAPS[0])[255]).sum(axis=2) < 6
    rows, columns = np.nonzero(lit)
    assert (rows.min(), rows.max()) == (6, 7)
    assert (columns.min(), columns.max()) == (22, 23)


def test_outside_the_crop_the_image_is_dimmed_and_keeps_its_size():
    crop = (20.0, 0.0, 50.0, 30.0)
    result = overlay(grey(70, 30), np.zeros((15, 15)), crop, style(opacity=0.0))
    assert result.size == (70, 30)
    assert result.getpixel((5, 15)) == (45, 45, 45)
    assert result.getpixel((35, 15)) == GREY
    assert result.getpixel((20, 15)) == (255, 255, 255)  # The crop's edge.


def test_the_marked_patch_is_framed():
    plain = np.asarray(overlay(grey(), np.zeros((15, 15)), WHOLE, style(opacity=0.0)))
    patch = patch_box(WHOLE, 15, 7, 7)
    marked = np.asarray(
        overlay(grey(), np.zeros((15, 15)), WHOLE, style(opacity=0.0), framed=patch)
    )
    rows, columns = np.nonzero((plain != marked).any(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (13, 16, 13, 16)


def test_mark_patch_keeps_the_patch_and_darkens_the_rest():
    image = grey(150, 150)
    result = mark_patch(image, (0, 0, 150, 150), 15, 4, 9)
    assert result.size == image.size
    assert result.getpixel((95, 45)) == GREY
    assert result.getpixel((10, 10)) == (60, 60, 60)
    assert image.getpixel((10, 10)) == GREY


@pytest.mark.parametrize(
    ("size", "expected"),
    [((400, 100), (800, 200)), ((900, 300), (900, 300)), ((4000, 1000), (2000, 500))],
)
def test_images_are_brought_to_a_size_for_the_screen(size, expected):
    assert resize_for_screen(Image.new("RGB", size), 1_000_000, 800).size == expected


def test_a_hair_thin_image_keeps_one_pixel():
    assert resize_for_screen(Image.new("RGB", (100_000, 1)), 10_000, 800).size[1] == 1


def test_scale_box_scales_both_axes():
    assert scale_box((10, 20, 30, 40), (100, 100), (50, 200)) == (5, 40, 15, 80)


def test_an_opacity_out_of_range_is_brought_into_it():
    patch_map = np.ones((15, 15))
    high = overlay(grey(), patch_map, WHOLE, style(opacity=7.0))
    np.testing.assert_array_equal(
        np.asarray(high), np.asarray(overlay(grey(), patch_map, WHOLE, style()))
    )


def test_an_outline_runs_around_the_mask_and_covers_nothing_of_it():
    mask = np.zeros((30, 30), dtype=bool)
    mask[10:20, 12:18] = True
    image = grey()
    drawn = np.asarray(outline(image, mask))
    assert np.all(drawn[mask] == GREY)
    assert np.all(drawn[9, 11:19] == OUTLINE) and np.all(drawn[9:21, 11] == OUTLINE)
    assert np.all(drawn[8, 10:20] == 20)  # The dark rim.
    assert np.all(drawn[:8] == GREY) and np.all(drawn[:, :10] == GREY)
    assert np.all(np.asarray(image) == GREY)


def test_an_outline_fits_a_picture_of_another_size_and_no_mask_draws_nothing():
    mask = np.zeros((10, 20), dtype=bool)
    mask[5:, :10] = True  # The lower left quarter.
    drawn = np.asarray(outline(grey(60, 30), mask))
    assert np.all(drawn[15:, :30] == GREY)
    assert np.all(drawn[14, :31] == OUTLINE) and np.all(drawn[14:, 30] == OUTLINE)
    assert np.all(np.asarray(outline(grey(), np.zeros((30, 30), dtype=bool))) == GREY)


def test_a_map_alone_has_the_image_s_size_and_a_fixed_scale():
    patch_map = np.full((15, 15), 0.25, np.float32)
    patch_map[0, 0] = 1.0
    box = (10.0, 0.0, 40.0, 30.0)
    levels = level_map(patch_map, box, (50, 30), 0.0, 0.5)
    assert levels.mode == "L" and levels.size == (50, 30)
    assert levels.getpixel((39, 29)) == 128 and levels.getpixel((10, 0)) == 255
    assert levels.getpixel((9, 0)) == 0 and levels.getpixel((40, 29)) == 0  # Never seen.
    values = value_map(patch_map, box, (50, 30))
    assert values.mode == "I;16" and values.size == (50, 30)
    assert values.getpixel((39, 29)) == round(0.25 * 65535)
    assert values.getpixel((10, 0)) == 65535
    assert values.getpixel((9, 0)) == 0 and values.getpixel((40, 29)) == 0


def test_values_between_the_patches_are_interpolated():
    patch_map = np.tile(np.linspace(0.0, 0.7, 15, dtype=np.float32), (15, 1))
    row = np.asarray(value_map(patch_map, (0.0, 0.0, 150.0, 150.0), (150, 150)))[75] / 65535
    # The middle of a patch has its value, and between two middles lies the straight line.
    x = (np.arange(150) + 0.5) / 10 - 0.5
    np.testing.assert_allclose(row, 0.05 * np.clip(x, 0, 14), atol=1e-5)


def test_a_map_whose_box_ends_inside_the_last_pixel_fits():
    for width, height in ((1, 1), (7, 3), (3, 7)):
        box = (0.4, 0.4, width - 0.4, height - 0.4)
        assert value_map(np.ones((15, 15)), box, (width, height)).size == (width, height)
        assert level_map(np.ones((15, 15)), box, (width, height), 0, 1).size == (width, height)


class TestClear:
    """A map that is drawn only above a value: a good image does not glow."""

    def test_up_to_the_value_the_image_stays_as_it_is(self):
        patch_map = np.linspace(0, 0.5, 225).reshape(15, 15)
        drawn = overlay(grey(), patch_map, WHOLE, style(clear=0.5, smooth=True))
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(grey()))

    @pytest.mark.parametrize("value", [0.5000001, 0.6, 7.0])
    def test_what_lies_above_is_coloured_and_enclosed(self, value):
        patch_map = np.full((15, 15), 0.5)
        patch_map[6:9, 6:9] = value
        drawn = np.asarray(overlay(grey(), patch_map, WHOLE, style(clear=0.5))).astype(int)
        inside = drawn[12:18, 12:18]
        assert (inside == inside[0, 0]).all() and (inside[0, 0] != GREY).any()
        assert (drawn[11, 12:18] == 255).all() and (drawn[12:18, 18] == 255).all()
        assert (drawn[10, 12:18] == 20).all() and (drawn[12:18, 19] == 20).all()
        assert (drawn[:10] == GREY).all() and (drawn[:, 20:] == GREY).all()

    def test_a_value_above_the_scale_leaves_its_top_to_be_seen(self):
        patch_map = np.full((15, 15), 2.0)
        drawn = np.asarray(overlay(grey(), patch_map, WHOLE, style(clear=1.5)))
        np.testing.assert_array_equal(drawn[15, 15], colour_table(COLOUR_MAPS[0])[255])

    def test_the_whole_image_may_lie_above(self):
        drawn = np.asarray(overlay(grey(), np.ones((15, 15)), WHOLE, style(clear=0.1)))
        assert (drawn == drawn[0, 0]).all() and (drawn[0, 0] != GREY).any()
