"""Layouts of data sets as they are published and as people make them, drawn small."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inctrl_core.datasets.layouts import ONE_VS_ALL, load_classes, load_folders, names
from inctrl_core.datasets.masks import check_masks
from inctrl_core.datasets.subsets import DataError, Subset

SIDE = 12


def draw(root: Path, *patterns: str, mark: str | None = None) -> Path:
    """Images, or masks where ``mark`` names what they mark; "{0-3}" counts in a file's name."""
    for pattern in patterns:
        before, _, rest = pattern.partition("{")
        first, last, after = "0", "0", ""
        if rest:
            span, after = rest.split("}")
            first, last = span.split("-")
        for number in range(int(first), int(last) + 1):
            path = root / (f"{before}{number}{after}" if rest else pattern)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(mark).save(path)
    return root


def picture(mark: str | None) -> Image.Image:
    if mark is None:
        return Image.new("RGB", (SIDE, SIDE), (90, 90, 90))
    values = np.zeros((SIDE, SIDE), np.uint8)
    if mark == "square":
        values[3:6, 3:6] = 255
    elif mark == "all":
        values[:] = 255
    elif mark == "inverted":
        values[:] = 255
        values[3:6, 3:6] = 0
    return Image.fromarray(values)


def load(root: Path) -> tuple[dict[str, Subset], list[str]]:
    notes: list[str] = []
    subsets = load_folders(root, tell=notes.append)
    return {subset.name: subset for subset in subsets}, notes


def one(root: Path) -> Subset:
    (subset,) = load(root)[0].values()
    return subset


def counts(subset: Subset) -> tuple[int, int, int, int]:
    """Normals to draw from, good and bad test images, and masks of the latter."""
    bad = [query for query in subset.queries if query.anomalous]
    paths = [*subset.train_normals, *(query.path for query in subset.queries)]
    assert len(set(paths)) == len(paths), "an image is in two places"
    masks = [query.mask for query in bad if query.mask]
    assert len(set(masks)) == len(masks), "a mask has two images"
    good = len(subset.queries) - len(bad)
    return len(subset.train_normals), good, len(bad), len(masks)


def test_examples_in_the_documentation() -> None:
    result = doctest.testmod(names)
    assert result.attempted > 4 and result.failed == 0


# As they are published


def test_mvtec_ad_2_has_its_test_in_public_and_the_rest_is_left_alone(tmp_path: Path) -> None:
    root = draw(
        tmp_path / "mvtec_ad_2",
        "can/train/good/{0-3}_regular.png",
        "can/validation/good/{0-1}_regular.png",
        "can/test_public/good/{0-2}_shift_1.png",
        "can/test_public/bad/{0-1}_overexposed.png",
        "can/test_private/{0-1}_regular.png",
        "can/test_private_mixed/{0-1}_mixed.png",
    )
    masks = "can/test_public/ground_truth/bad/{0-1}_overexposed_mask.png"
    subsets, notes = load(draw(root, masks, mark="square"))
    assert counts(subsets["can"]) == (4, 3, 2, 2)
    assert notes == ["can: left alone: test_private, test_private_mixed, validation"]


def test_mvtec_3d_has_its_pictures_under_rgb(tmp_path: Path) -> None:
    root = tmp_path / "mvtec_3d"
    for kind, last in (("train/good", 3), ("test/good", 1), ("test/hole", 2)):
        draw(root, f"bagel/{kind}/rgb/{{0-{last}}}.png", f"bagel/{kind}/xyz/{{0-{last}}}.tiff")
    draw(root, "bagel/test/good/gt/{0-1}.png", mark="nothing")
    draw(root, "bagel/test/hole/gt/{0-2}.png", mark="square")
    subset = one(root)
    assert counts(subset) == (4, 2, 3, 3)
    assert {query.kind for query in subset.queries} == {"good", "hole"}
    assert all(path.parent.name == "rgb" for path in subset.train_normals)
    checked, notes = check_masks(subset)
    assert notes == [] and counts(checked) == (4, 2, 3, 3)


def real_iad(root: Path, lists: str = "realiad_jsons/realiad_jsons") -> Path:
    def entry(kind: str, path: str, mask: str | None = None) -> dict:
        paths = {"image_path": path, "mask_path": mask}
        return {"category": "switch", "anomaly_class": kind} | paths

    good = [f"OK/S000{s}/switch_000{s}_OK_C{c}_2023.jpg" for s in range(4) for c in (1, 2)]
    bad = [f"NG/BX/S0009/switch_0009_NG_C{c}_2023.jpg" for c in (1, 2)]
    masks = [path.replace(".jpg", "_mask.png") for path in bad]
    for size in ("256", "1024"):
        draw(root, *(f"realiad_{size}/switch/{path}" for path in good + bad))
        draw(root, *(f"realiad_{size}/switch/{path}" for path in masks), mark="square")
    content = {
        "meta": {"prefix": "switch/", "normal_class": "OK"},
        "train": [entry("OK", path) for path in good[:6]],
        "test": [entry("OK", path) for path in good[6:]]
        + [entry("BX", path, mask) for path, mask in zip(bad, masks, strict=True)],
    }
    (root / lists).mkdir(parents=True)
    (root / lists / "switch.json").write_text(json.dumps(content))
    return root


def test_real_iad_has_its_split_in_lists(tmp_path: Path) -> None:
    subsets, notes = load(real_iad(tmp_path / "Real-IAD"))
    assert counts(subsets["switch"]) == (6, 2, 2, 2)
    assert {query.kind for query in subsets["switch"].queries} == {"OK", "BX"}
    assert "realiad_1024" in str(subsets["switch"].train_normals[0])
    assert len(notes) == 1 and "images of 2 cameras are taken together" in notes[0]


def test_real_iad_by_the_folder_of_its_lists(tmp_path: Path) -> None:
    root = real_iad(tmp_path / "Real-IAD", "realiad_jsons_sv")
    subset = one(root / "realiad_jsons_sv")
    assert counts(subset) == (6, 2, 2, 2)
    assert all(path.is_relative_to(subset.root) for path in subset.train_normals)


def test_real_iad_where_a_class_was_not_unpacked(tmp_path: Path) -> None:
    root = real_iad(tmp_path / "Real-IAD")
    lists = root / "realiad_jsons" / "realiad_jsons"
    content = json.loads((lists / "switch.json").read_text())
    (lists / "zipper.json").write_text(json.dumps(content | {"meta": {"prefix": "zipper/"}}))
    (lists / "away.json").write_text(json.dumps(content | {"meta": {"prefix": "../../.."}}))
    subsets, notes = load(root)
    assert list(subsets) == ["switch"]
    assert sum("left out" in note and "which is no file" in note for note in notes) == 2


def test_real_iad_without_its_lists(tmp_path: Path) -> None:
    root = tmp_path / "realiad_256"
    draw(root, *(f"switch/OK/S000{s}/switch_OK_C{c}.jpg" for s in range(4) for c in (1, 2)))
    draw(root, "switch/NG/BX/S0001/switch_NG_C1.jpg", "switch/NG/AK/S0002/switch_NG_C1.jpg")
    draw(root, "switch/NG/BX/S0001/switch_NG_C1_mask.png", mark="square")
    assert counts(one(root)) == (6, 2, 2, 1)


def test_dagm_and_kolektor_tell_by_their_masks(tmp_path: Path) -> None:
    dagm = draw(tmp_path / "dagm", "Class1/Train/{0-4}.PNG", "Class1/Test/{0-3}.PNG")
    draw(dagm, "Class1/Train/Label/4_label.PNG", "Class1/Test/Label/3_label.PNG", mark="square")
    subsets, notes = load(dagm)
    assert counts(subsets["Class1"]) == (4, 3, 1, 1)
    assert "Class1: left out as training images: 1 anomalous ones" in notes

    second = draw(tmp_path / "KSDD2", "train/{0-4}.png", "test/{0-3}.png")
    draw(second, "train/{0-3}_GT.png", "test/{1-3}_GT.png", mark="nothing")
    draw(second, "train/4_GT.png", "test/0_GT.png", mark="square")
    assert counts(one(second)) == (4, 3, 1, 1)

    first = draw(tmp_path / "KSDD", "kos01/Part{0-3}.jpg", "kos02/Part{0-3}.jpg")
    draw(first, "kos01/Part{0-3}_label.bmp", "kos02/Part{0-2}_label.bmp", mark="nothing")
    draw(first, "kos02/Part3_label.bmp", mark="square")
    assert counts(one(first)) == (5, 2, 1, 1)


def test_visa_without_its_list(tmp_path: Path) -> None:
    root = draw(
        tmp_path / "VisA",
        "candle/Data/Images/Normal/{0-7}.JPG",
        "candle/Data/Images/Anomaly/{0-2}.JPG",
    )
    subsets, _ = load(draw(root, "candle/Data/Masks/Anomaly/{0-2}.png", mark="square"))
    assert counts(subsets["candle"]) == (6, 2, 3, 3)


def test_btad_unpacked_into_a_folder_more(tmp_path: Path) -> None:
    root = draw(tmp_path / "btad", "BTech/01/train/ok/{0-3}.bmp", "BTech/01/test/ok/{0-1}.bmp")
    draw(root, "BTech/01/test/ko/{0-1}.bmp")
    draw(root, "BTech/01/ground_truth/ko/{0-1}.png", mark="square")
    assert counts(load(root)[0]["01"]) == (4, 2, 2, 2)


# As people make them


@pytest.mark.parametrize(
    ("good", "bad", "masks"),
    [
        ("OK/{0-5}.png", "NG/{0-1}.png", "MASK/{0-1}.png"),
        ("ok/{0-5}.png", "nok/{0-1}.png", "nok/masks/{0-1}.png"),
        ("good/{0-5}.png", "bad/{0-1}.png", "ground_truth/bad/{0-1}_mask.png"),
        ("Good/{0-5}.jpg", "NotGood/{0-1}.jpg", "gt/NotGood/{0-1}_gt.png"),
        ("normal/{0-5}.png", "abnormal/{0-1}.png", "label/{0-1}_label.png"),
        ("normal_images/{0-5}.png", "anomaly_images/{0-1}.png", "anomaly_masks/mask_{0-1}.png"),
        ("pass/{0-5}.bmp", "fail/{0-1}.bmp", "fail/{0-1}_Mask.bmp"),
        ("no defect/{0-5}.jpg", "defect/{0-1}.jpg", "defect/{0-1}.png"),
        ("ok_front/{0-5}.jpeg", "def_front/{0-1}.jpeg", "masks/defective/{0-1}.png"),
        ("images/good/{0-5}.png", "images/defective/{0-1}.png", "masks/defective/{0-1}.png"),
        ("good/{0-5}.png", "scratch/{0-1}.png", "masks/scratch/{0-1}.png"),
        ("x/test/good/{0-5}.png", "x/test/dent/{0-1}.png", "x/ground_truth/dent/{0-1}-mask.png"),
        ("train/good/{0-5}.png", "train/bad/{0-1}.png", "masks/train/bad/{0-1}.png"),
        ("images/{2-7}.jpg", "images/{0-1}.jpg", "masks/{0-1}.png"),
        ("{2-7}.jpg", "{0-1}.jpg", "mask/{0-1}.tif"),
    ],
)
def test_folders_of_good_and_bad_images(tmp_path: Path, good: str, bad: str, masks: str) -> None:
    root = draw(draw(tmp_path / "parts", good, bad), masks, mark="square")
    subsets, notes = load(root)
    (subset,) = subsets.values()
    assert counts(subset) == (4, 2, 2, 2)
    assert any("of 6 in" in note and "seed 42" in note for note in notes)
    assert one(root) == subset  # The same split again.
    assert check_masks(subset)[1] == []


@pytest.mark.parametrize(
    "folders",
    [
        ("train/ok", "test/ok", "test/ng"),
        ("OK/train", "OK/test", "NG"),
        ("train_good", "test_good", "test_bad"),
        ("Train/Normal", "Val/Normal", "Val/Abnormal"),
        ("train", "test/good", "test/bad"),
        ("good/train", "good", "bad"),
    ],
)
def test_parts_are_kept_however_they_are_named(tmp_path: Path, folders: tuple[str, ...]) -> None:
    train, good, bad = folders
    root = draw(
        tmp_path / "own", f"{train}/{{0-2}}.png", f"{good}/{{3-4}}.png", f"{bad}/{{5-8}}.png"
    )
    subsets, notes = load(root)
    (subset,) = subsets.values()
    assert counts(subset) == (3, 2, 4, 0)
    assert not any("seed" in note for note in notes)
    assert {path.parent for path in subset.train_normals} == {root / train}


def test_subsets_of_different_layouts_lie_together(tmp_path: Path) -> None:
    root = draw(tmp_path / "all", "a/OK/{0-3}.png", "a/NG/{0-1}.png")
    draw(root, "deep/er/b/train/good/{0-1}.png", "deep/er/b/test/good/0.png")
    draw(root, "deep/er/b/test/bad/0.png", "good_year/train/good/{0-1}.png")
    draw(root, "good_year/test/good/0.png", "good_year/test/bad/0.png", "notes/page.png")
    subsets, notes = load(root)
    assert set(subsets) == {"a", "b", "good_year"}
    assert counts(subsets["good_year"]) == (2, 1, 1, 0)
    assert "all: left alone, as no subset of a known layout: notes" in notes


def test_subsets_of_one_name_keep_their_paths(tmp_path: Path) -> None:
    root = tmp_path / "lines"
    for line in "12":
        draw(root, f"line{line}/nut/OK/{{0-3}}.png", f"line{line}/nut/NG/0.png")
    subsets = load(root)[0]
    assert set(subsets) == {"line1/nut", "line2/nut"}
    assert {subset.object_name for subset in subsets.values()} == {"nut"}


def test_a_subset_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    root = draw(tmp_path / "two", "a/OK/{0-3}.png", "a/NG/0.png")
    (root / "b" / "train" / "good").mkdir(parents=True)
    subsets, notes = load(root)
    assert set(subsets) == {"a"}
    assert any(note.startswith("b: left out: ") and "holds no images" in note for note in notes)


def test_negative_means_without_defects_and_it_is_said(tmp_path: Path) -> None:
    subsets, notes = load(draw(tmp_path / "cracks", "Negative/{0-3}.jpg", "Positive/{0-1}.jpg"))
    assert {q.kind: q.anomalous for q in subsets["cracks"].queries} == {
        "Negative": False,
        "Positive": True,
    }
    assert any("'negative' is read as good" in note for note in notes)


def test_what_is_neither_good_nor_bad_is_left_alone_and_said(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", "good/{0-3}.png", "bad/{0-1}.png", "unsure/{0-1}.png")
    subsets, notes = load(root)
    assert counts(subsets["own"]) == (3, 1, 2, 0)
    assert "own: left alone: unsure" in notes


# Masks


def test_masks_that_no_image_has_alone_are_said(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", "good/{0-3}.png", "scratch/{0-1}.png", "dent/{1-2}.png")
    subsets, notes = load(draw(root, "masks/{0-2}.png", "masks/77.png", mark="square"))
    masks = {query.path.name: query.mask for query in subsets["own"].queries if query.mask}
    assert {name: mask.name for name, mask in masks.items()} == {"0.png": "0.png", "2.png": "2.png"}
    (note,) = (note for note in notes if "masks belong to no image" in note)
    assert note.startswith("own: 2 masks belong to no image, or not to one alone: masks/1.png, ma")


def test_masks_that_look_wrong_are_said_and_never_turned(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", "train/good/{0-2}.png", "test/good/{0-1}.png")
    draw(root, "test/bad/{0-3}.png")
    for number, mark in enumerate(("nothing", "all", "inverted", "square")):
        draw(root, f"ground_truth/bad/{number}_mask.png", mark=mark)
    draw(root, "test/good/gt/1.png", mark="square")
    subset, notes = check_masks(one(root))
    masks = [query.mask and query.mask.name for query in subset.queries]
    assert masks == ["0_mask.png", "1_mask.png", "2_mask.png", "3_mask.png", None, None]
    assert [note.split("; each is")[0] for note in notes] == [
        "own: masks that mark nothing on an anomalous image: bad/0_mask.png",
        "own: masks that mark something on a good image: gt/1.png",
        "own: masks that mark the whole image: bad/1_mask.png",
        "own: masks that mark most of the image and its border, as inverted masks do: "
        "bad/2_mask.png",
    ]


def test_pictures_of_one_name_in_two_formats_are_no_masks(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", "ok/{0-3}.png", "ng/{0-2}.jpg")
    ramp = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
    Image.fromarray(ramp).save(root / "ng" / "0.png")  # A grey photograph.
    Image.fromarray(ramp[:6] * 0).save(root / "ng" / "1.png")  # Of another size.
    draw(root, "ng/2.png", mark="square")
    assert counts(one(root)) == (3, 1, 5, 1)


def test_masks_alone_must_be_readable_to_tell(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", "images/{0-3}.png")
    draw(root, "masks/0.png", mark="square")
    (root / "masks" / "1.png").write_bytes(b"x")
    with pytest.raises(DataError, match="1.png cannot be read, and only masks tell here"):
        load_folders(root)


# Advice


@pytest.mark.parametrize(
    ("patterns", "advice"),
    [
        (("NG/{0-1}.png", "MASK/{0-1}.png"), "holds bad images in 'NG', but none of its folders"),
        (("cat/{0-1}.png", "MASK/{0-1}.png"), r"pass and fail\); arrange the images so\.$"),
        (("cat/0.png", "dog/0.png"), "images per class, give --setting"),
        (("train/cat/0.png", "test/cat/0.png"), "is called good, OK, normal or pass; name that"),
        (("train/good/{0-1}.png", "test/{0-1}.png"), "images that nothing labels; sort them into"),
        (("good/0.png", "bad/0.png"), "fewer than two good images"),
    ],
)
def test_what_cannot_be_read_gets_advice(
    tmp_path: Path, patterns: tuple[str, ...], advice: str
) -> None:
    with pytest.raises(DataError, match=advice):
        load_folders(draw(tmp_path / "own", *patterns))


def test_masks_are_no_class(tmp_path: Path) -> None:
    root = draw(tmp_path / "own", "OK/{0-3}.png", "NG/{0-3}.png", "MASK/{0-3}.png")
    with pytest.raises(DataError, match="with their masks, not classes; leave out --setting"):
        load_classes(root, ONE_VS_ALL)
