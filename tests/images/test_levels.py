"""Images of more than 8 bits: one rule for a set, and the same scores as from 8 bits."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inctrl_core import Detector, ImageError
from inctrl_core.__main__ import main
from inctrl_core.config import PreprocessConfig
from inctrl_core.images.files import image_levels, levels_used, open_image, set_levels
from inctrl_core.images.levels import Levels, join_levels, measure_levels, to_8_bit
from inctrl_core.images.seen import open_here, see_set

SIDES = 240, 320


def fabric(seed: int, hole: bool = False) -> np.ndarray:
    """Woven threads, uint8 from about 50 to 210; no two alike."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SIDES[0], : SIDES[1]]
    phase = rng.uniform(0, 2 * np.pi, 2)
    weave = 40 * np.sin(rows / 3 + phase[0]) + 35 * np.sin(columns / 3 + phase[1])
    grey = 130 + weave + rng.normal(0, 2, SIDES)
    if hole:
        grey[90:130, 140:190] = 60
    return grey.clip(0, 255).astype(np.uint8)


NORMALS = [fabric(seed) for seed in range(4)]
QUERIES = [fabric(10), fabric(11), fabric(12, hole=True), fabric(13, hole=True)]


def in_16(grey: np.ndarray, bits: int) -> np.ndarray:
    """The same picture as a camera of so many bits stores it in 16, unscaled."""
    return np.rint(grey * ((2**bits - 1) / 255)).astype(np.uint16)


KINDS = {
    "8": lambda grey: grey,
    "10": lambda grey: in_16(grey, 10),
    "12": lambda grey: in_16(grey, 12),
    "14": lambda grey: in_16(grey, 14),
    "16": lambda grey: in_16(grey, 16),
    "12-left": lambda grey: in_16(grey, 12) << 4,
    "unit": lambda grey: (grey / 255).astype(np.float32),
    "unit64": lambda grey: grey / 255,
    "half": lambda grey: (grey / 255).astype(np.float16),
    "bytes": lambda grey: grey.astype(np.float32),
    "counts": lambda grey: in_16(grey, 12).astype(np.float32),
    "rgb12": lambda grey: np.repeat(in_16(grey, 12)[..., None], 3, axis=2),
    "rgb-unit": lambda grey: np.repeat((grey / 255).astype(np.float32)[..., None], 3, axis=2),
}


def scores(detector: Detector, normals: str, queries: str) -> list[float]:
    bank = detector.build_bank([KINDS[normals](grey) for grey in NORMALS], "fabric")
    return [s.fused for s in detector.score([KINDS[queries](grey) for grey in QUERIES], bank)]


@pytest.fixture(scope="module")
def plain(detector: Detector) -> list[float]:
    found = scores(detector, "8", "8")
    assert max(found[:2]) < min(found[2:])
    return found


@pytest.mark.parametrize("kind", ["10", "12", "rgb12", "unit"])
def test_a_set_of_any_depth_scores_like_8_bits(detector, plain, kind):
    assert scores(detector, kind, kind) == pytest.approx(plain, abs=0.01)


@pytest.mark.parametrize(("normals", "queries"), [("8", "12"), ("12", "8"), ("12", "16")])
def test_a_bank_of_one_kind_scores_queries_of_another(detector, plain, normals, queries):
    assert scores(detector, normals, queries) == pytest.approx(plain, abs=0.02)


def darker(normals: str, queries: str) -> bool:
    """Whether a query may as well be a darker picture of the normals' camera, and is read so."""
    depth = {"bytes": 8, "10": 10, "12": 12, "rgb12": 12, "counts": 12, "14": 14, "16": 16}
    depth["12-left"] = 16
    return 0 < depth.get(normals, 0) - depth.get(queries, -9) < 4


PAIRS = [pair for pair in itertools.product(KINDS, KINDS) if not darker(*pair)]


@pytest.mark.parametrize(("normals", "queries"), PAIRS)
def test_a_bank_of_one_kind_sees_queries_of_another_alike(normals, queries):
    levels = set_levels([KINDS[normals](grey) for grey in NORMALS])
    for grey in QUERIES:
        opened = np.asarray(open_image(KINDS[queries](grey), levels))[..., 0]
        assert np.abs(opened.astype(int) - grey).max() <= 1


@pytest.mark.parametrize(
    ("kinds", "decoded"),
    [(["12"] * 3, 3), (["8"] * 3, 3), (["8", "12", "12"], 3), (["10", "12", "12"], 4)],
)
def test_a_set_is_decoded_once_but_for_images_of_fewer_bits(kinds, decoded, tmp_path):
    paths, sources = [], []
    for number, (kind, grey) in enumerate(zip(kinds, NORMALS, strict=False)):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(KINDS[kind](grey // 2)).save(paths[-1])

    def count(reduce, source, *arguments, **options):
        sources.append(source)
        return open_here(reduce, source, *arguments, **options)

    seen = see_set(paths, PreprocessConfig(48), 10**6, count)
    assert len(sources) == decoded and seen.levels == set_levels(paths)
    for path, image in zip(paths, seen, strict=True):
        np.testing.assert_array_equal(
            np.asarray(image.shown), np.asarray(open_image(path, seen.levels))
        )
        assert image.levels == levels_used(open_image(path, seen.levels))


@pytest.mark.parametrize("order", ["rising", "falling", "random", "equal"])
def test_the_peak_leaves_out_one_value_of_20000(order):
    values = np.random.default_rng(0).integers(0, 4096, (700, 300), dtype=np.uint16)
    if order != "random":
        values = np.sort(values.ravel()).reshape(values.shape)
    values = {"falling": values[::-1], "equal": np.full_like(values, 9)}.get(order, values)
    levels = measure_levels(values, None, "x")
    assert levels.peak == np.sort(values.ravel())[-(values.size // 20_000) - 1]
    assert levels.mean == pytest.approx(values.mean())


def test_values_just_above_1_are_white_and_turn_nothing_black():
    over = np.tile(np.linspace(0, 1.03, 256, dtype=np.float32), (8, 1))
    opened = np.asarray(open_image(over))[..., 0]
    assert opened[0, -1] == 255
    assert np.abs(opened[0, :247] - np.rint(over[0, :247] * 255)).max() == 0


def test_dim_normals_are_read_as_the_brightest_of_them_says():
    dim = [in_16(grey, 12) // 3 for grey in NORMALS]  # One lies above 1023.
    dim[0][0, :] = 1100
    levels = set_levels(dim)
    assert levels.white == 4095
    assert np.array_equal(open_image(dim[1], levels), open_image(to_8_bit(dim[1], 4095)))


def test_a_query_brighter_or_darker_than_every_normal_keeps_their_scale():
    levels = set_levels([in_16(grey, 12) // 5 for grey in NORMALS])
    assert levels.white == 1023
    brighter = in_16(NORMALS[0], 12) // 3
    assert levels_used(open_image(brighter, levels)).white == 1023
    assert np.array_equal(open_image(brighter, levels), open_image(to_8_bit(brighter, 1023)))
    full = set_levels([in_16(grey, 12) for grey in NORMALS])
    for dark in (in_16(NORMALS[0], 12) // 8, np.zeros(SIDES, np.uint16)):
        assert levels_used(open_image(dark, full)).white == 4095


def test_a_defective_pixel_does_not_darken_a_set():
    hot = in_16(NORMALS[0], 12)
    hot[17, 33] = 65535
    assert image_levels(hot).white == 4095
    bank = set_levels([in_16(grey, 10) for grey in NORMALS])
    query = in_16(NORMALS[1], 10)
    query[:2, :40] = 4000  # A gleam.
    assert levels_used(open_image(query, bank)).white == 1023


def test_an_image_of_8_bits_is_never_rescaled():
    levels = Levels(4095, 3000, 1500)
    image = Image.fromarray(NORMALS[0])
    assert np.array_equal(open_image(image, levels), open_image(image))
    assert image_levels(image) is None and set_levels([image, NORMALS[1]]) is None


def test_of_a_mixed_set_the_deep_images_decide():
    assert set_levels([NORMALS[0], in_16(NORMALS[1], 12), in_16(NORMALS[2], 10)]).white == 4095
    assert join_levels([None, None]) is None


def test_the_table_and_the_formula_agree():
    values = np.arange(2**16, dtype=np.uint16)[None]
    assert np.array_equal(to_8_bit(values, 4095), to_8_bit(values.astype(np.float64), 4095))
    assert np.array_equal(to_8_bit(values, 65535), np.rint(values / 257).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.int32])
def test_negative_values_get_a_sentence(dtype):
    with pytest.raises(ImageError, match="values from -1 to 1; save it as an 8-bit or 16-bit"):
        measure_levels(np.array([[-1, 1]], dtype), None, "It")


def test_a_file_says_what_is_white_unless_its_values_say_otherwise():
    values = np.array([[0, 900]], np.uint16)
    assert measure_levels(values, 4095, "It").white == 4095
    assert measure_levels(values, 511, "It").white == 1023


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = []
    for number, grey in enumerate([*NORMALS, *QUERIES]):
        paths.append(str(tmp_path / f"{number}.tif"))
        Image.fromarray(in_16(grey, 12)).save(paths[-1])
    return paths


def test_the_command_says_what_it_read(files, plain, capsys):
    command = ["score", "--device", "cpu", "--object", "fabric", "--json", "--normal", *files[:4]]
    assert main([*command, "--query", *files[4:]]) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert [s["fused"] for s in document["scores"]] == pytest.approx(plain, abs=0.01)
    assert document["normals_data"] == "12-bit data"
    assert {s["data"] for s in document["scores"]} == {"12-bit data"}
    assert "note: read as 12-bit data" in output.err


@pytest.mark.parametrize("kind", [list, dict, object])
def test_what_is_no_image_is_refused_by_its_type(kind):
    with pytest.raises(ImageError, match="is not an image; give a path"):
        open_image(kind())


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (2, 2, 3, 1), (0, 4), (3, 0, 3)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(ImageError, match=r"not an image; give height|has no pixels"):
        open_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "object", "U1"])
def test_arrays_of_other_types_are_refused(dtype):
    with pytest.raises(ImageError, match="give uint8, uint16 or floating point"):
        open_image(np.zeros((2, 2), dtype))


def test_arrays_are_read_as_they_look():
    grey = NORMALS[0]
    rgb = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=2)
    assert np.array_equal(open_image(rgb), rgb)
    assert np.array_equal(open_image(rgb[..., ::-1]), rgb[..., ::-1])  # Not contiguous.
    for array in (grey, grey[..., None]):
        assert np.array_equal(open_image(array), np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(np.asarray(open_image(grey > 100))[..., 0], (grey > 100) * 255)
    clear = np.dstack([rgb, np.zeros_like(grey)])
    assert np.asarray(open_image(clear)).min() == 255
    deep = np.dstack([rgb.astype(np.uint16) * 257, np.full_like(grey, 255) * np.uint16(257)])
    assert np.array_equal(open_image(deep), rgb)


def test_an_array_stays_the_callers():
    array = NORMALS[0].copy()
    open_image(array).putpixel((0, 0), (1, 2, 3))
    assert np.array_equal(array, NORMALS[0])


def test_one_array_stands_for_no_list_and_a_stack_does(golden_detector):
    with pytest.raises(ImageError, match="Give a list"):
        golden_detector.build_bank(NORMALS[0])
    with pytest.raises(ImageError, match="Give a list"):
        golden_detector.encode(np.dstack([NORMALS[0]] * 3))
    stack = np.stack([np.dstack([grey] * 3) for grey in NORMALS])
    assert golden_detector.build_bank(stack).shots == 4
