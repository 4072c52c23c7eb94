"""Masks of defects: what they mark, and what of it the model sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inctrl_core import ImageError
from inctrl_core.config import SQUASH, PreprocessConfig
from inctrl_core.datasets.layouts import masks_in
from inctrl_core.datasets.masks import check_masks, crop_mask, open_mask
from inctrl_core.datasets.subsets import DataError, Query, Subset
from inctrl_core.images.preprocessing import crop_image


@pytest.mark.parametrize("size", [(50, 30), (30, 50), (17, 40), (24, 24)])
def test_mask_follows_the_crop_of_its_image(size: tuple[int, int]) -> None:
    box = crop_image(Image.new("RGB", size), 24)[1]
    mask = np.zeros(size[::-1], bool)
    left, top, right, bottom = (round(value) for value in box)
    mask[top:bottom, (left + right) // 2 : right] = True  # Right half of the crop.
    found = crop_mask(mask, PreprocessConfig(24), box)
    assert found.shape == (24, 24) and found.dtype == bool
    assert not found[:, :11].any() and found[1:-1, 13:-1].all()


def test_mask_of_another_size() -> None:
    box = crop_image(Image.new("RGB", (50, 30)), 24)[1]
    with pytest.raises(ImageError, match="40 x 30 pixels is not the size of its image"):
        crop_mask(np.zeros((30, 40), bool), PreprocessConfig(24), box)


def test_mask_of_a_whole_image() -> None:
    mask = np.zeros((30, 50), bool)
    mask[:, :25] = True  # The left half, which a cut square would have in part.
    config = PreprocessConfig(24, resize_mode=SQUASH)
    found = crop_mask(mask, config, (0.0, 0.0, 50.0, 30.0))
    assert found[:, :12].all() and not found[:, 12:].any()


def test_no_defect_is_too_small_and_none_spreads_where_the_mask_is_smaller() -> None:
    config = PreprocessConfig(16, resize_mode=SQUASH)
    for place in range(1024):
        mask = np.zeros((1024, 1024), bool)
        mask[place, (place * 7) % 1024] = True
        found = crop_mask(mask, config, (0.0, 0.0, 1024.0, 1024.0))
        assert np.argwhere(found).tolist() == [[place // 64, (place * 7) % 1024 // 64]]
    small = np.eye(4, dtype=bool)
    assert np.array_equal(
        crop_mask(small, config, (0.0, 0.0, 4.0, 4.0)), np.kron(small, np.ones((4, 4), bool))
    )


MARKED = np.zeros((8, 8), bool)
MARKED[2:4, 1:7] = True


def saved(path: Path, values: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(values)
    (image if mode is None else image.convert(mode)).save(path)
    return path


def test_masks_as_people_store_them(tmp_path: Path) -> None:
    grey = MARKED.astype(np.uint8) * 255
    overlay = np.stack([grey, 0 * grey, 0 * grey, grey], axis=2)  # Red on nothing.
    palette = Image.fromarray(grey).convert("RGB").quantize(2)
    palette.save(tmp_path / "palette.png")
    files = [
        saved(tmp_path / "grey.png", grey),
        saved(tmp_path / "one.png", grey, "1"),
        saved(tmp_path / "small.png", MARKED.astype(np.uint8)),
        saved(tmp_path / "small16.png", MARKED.astype(np.uint16)),
        saved(tmp_path / "labels.png", MARKED * np.array([1, 1, 1, 1, 3, 3, 3, 3], np.uint8)),
        saved(tmp_path / "rgb.bmp", grey, "RGB"),
        saved(tmp_path / "overlay.png", overlay),
        tmp_path / "palette.png",
    ]
    for file in files:
        assert np.array_equal(open_mask(file), MARKED), file.name
    assert not open_mask(saved(tmp_path / "none.png", 0 * grey)).any()


def test_numbered_defects_all_mark(tmp_path: Path) -> None:
    numbers = np.zeros((8, 8), np.uint8)
    numbers.ravel()[10:50] = np.arange(1, 41)
    assert open_mask(saved(tmp_path / "numbers.png", numbers)).sum() == 40


def test_soft_edges_are_cut_at_half_of_the_brightest(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 200, 41).astype(np.uint8), (8, 1))
    assert np.array_equal(open_mask(saved(tmp_path / "ramp.png", ramp)), ramp > 100)


def subset_of(folder: Path, masks: dict[str, np.ndarray | bytes | None]) -> Subset:
    folder.mkdir()
    queries = []
    for name, mask in masks.items():
        saved(folder / f"{name}.png", np.full((8, 8, 3), 99, np.uint8))
        path = folder / f"{name}_mask.png"
        if isinstance(mask, bytes):
            path.write_bytes(mask)
        elif mask is not None:
            saved(path, mask)
        queries.append(Query(folder / f"{name}.png", True, "hole", path if path.exists() else None))
    return Subset("d", "nut", "nut", folder, (), tuple(queries))


def test_masks_that_cannot_be_used_are_all_named_before_anything_runs(tmp_path: Path) -> None:
    grey = MARKED.astype(np.uint8) * 255
    masks = {"fine": grey, "none": None, "large": np.kron(grey, np.ones((2, 2), np.uint8))}
    subset = subset_of(tmp_path / "set", masks | {"broken": b"no picture"})
    with pytest.raises(
        DataError, match=r"large_mask.*16 x 16 pixels, its image 8 x 8.*broken_mask"
    ):
        check_masks(subset)
    usable, notes = check_masks(subset, skip=True)
    assert [query.mask is not None for query in usable.queries] == [True, False, False, False]
    assert len(notes) == 3 and "3 of 4 anomalous images have no mask" in notes[2]
    assert check_masks(subset_of(tmp_path / "bare", {"none": None}))[1] == []


def test_masks_are_found_by_the_name_of_their_image(tmp_path: Path) -> None:
    for name in ("a_mask.PNG", "b.bmp", "c_mask.tif", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert sorted(masks_in(tmp_path)) == ["a", "b", "c"]
    assert masks_in(tmp_path / "missing") == {}


def test_several_masks_of_one_image_mark_together(tmp_path: Path) -> None:
    folder = tmp_path / "000"
    folder.mkdir()
    (tmp_path / "001").mkdir()  # Empty: no mask.
    upper, lower = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    upper[1, 2], lower[6, 5] = 255, 255
    saved(folder / "000.png", upper)
    saved(folder / "001.png", lower)
    assert masks_in(tmp_path) == {"000": folder}
    assert np.argwhere(open_mask(folder)).tolist() == [[1, 2], [6, 5]]
    saved(folder / "002.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ImageError, match="differ in size"):
        open_mask(folder)
