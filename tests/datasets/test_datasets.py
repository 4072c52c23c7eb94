"""Dataset layouts, built from tiny images in a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from inctrl_core.datasets.layouts import MULTI_CLASS, ONE_VS_ALL, load_classes, load_folders
from inctrl_core.datasets.subsets import (
    DataError,
    check_subset,
    list_images,
    load_elpv,
    load_textile,
    queries_among_normals,
    split_normals,
    without_files,
)


def fill(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (4, 4)).save(folder / name)


def make_subset(folder: Path) -> Path:
    fill(folder / "train" / "good", "b.png", "a.png", "c.JPG")
    fill(folder / "test" / "good", "0.png", "1.png")
    fill(folder / "test" / "scratch", "0.png", "1.png")
    fill(folder / "ground_truth" / "scratch", "1_mask.png")
    return folder


def names(paths) -> list[str]:
    return [path.name for path in paths]


def test_folder_of_subsets(tmp_path: Path) -> None:
    make_subset(tmp_path / "mvtec" / "metal_nut")
    make_subset(tmp_path / "mvtec" / "bottle")
    (tmp_path / "mvtec" / "license.txt").write_text("text")
    bottle, nut = load_folders(tmp_path / "mvtec")
    assert (nut.dataset, nut.name, nut.object_name) == ("mvtec", "metal_nut", "metal_nut")
    assert bottle.name == "bottle"
    assert names(nut.train_normals) == ["a.png", "b.png", "c.JPG"]
    assert [(q.kind, q.path.name, q.anomalous) for q in nut.queries] == [
        ("good", "0.png", False),
        ("good", "1.png", False),
        ("scratch", "0.png", True),
        ("scratch", "1.png", True),
    ]
    assert [q.mask and q.mask.name for q in nut.queries] == [None, None, None, "1_mask.png"]
    assert nut.has_masks


def test_other_names_for_good_and_for_masks_and_folders_beside(tmp_path: Path) -> None:
    root = tmp_path / "btad"
    fill(root / "01" / "train" / "ok", "a.png")
    fill(root / "01" / "test" / "OK", "0.png")
    fill(root / "01" / "test" / "ko", "0.png", "1.png")
    fill(root / "01" / "ground_truth" / "ko", "0.bmp", "1_mask.PNG")
    fill(root / "split_csv", "sheet.png")
    (subset,) = load_folders(root)
    assert names(subset.train_normals) == ["a.png"]
    assert [(q.anomalous, q.mask and q.mask.name) for q in subset.queries] == [
        (False, None),
        (True, "0.bmp"),
        (True, "1_mask.PNG"),
    ]


def test_classes_without_a_setting_are_told_of_it(tmp_path: Path) -> None:
    fill(tmp_path / "cat", "a.png")
    fill(tmp_path / "dog", "a.png")
    with pytest.raises(DataError, match="for one folder of images per class, give --setting"):
        load_folders(tmp_path)


def test_a_link_keeps_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(make_subset(tmp_path / "cable"))
    (subset,) = load_folders(tmp_path / "link")
    assert subset.name == "link"


def test_names_that_do_not_fit_into_prompts_are_told_at_once(tmp_path: Path) -> None:
    (subset,) = load_folders(make_subset(tmp_path / ("x" * 90)))
    told = r"90 characters; use at most 80\); give another name with --object"
    with pytest.raises(DataError, match=told):
        check_subset(subset, 1)


def test_one_subset_by_itself(tmp_path: Path) -> None:
    make_subset(tmp_path / "brainmri")
    (subset,) = load_folders(tmp_path / "brainmri", object_name="brain")
    assert (subset.dataset, subset.name, subset.object_name) == ("brainmri", "brainmri", "brain")


def test_other_files_are_no_images(tmp_path: Path) -> None:
    fill(tmp_path / "some", "a.png", ".hidden.png")
    (tmp_path / "some" / "Thumbs.db").write_bytes(b"x")
    assert names(list_images(tmp_path / "some")) == ["a.png"]


@pytest.mark.parametrize("missing", ["train/good", "test/scratch"])
def test_empty_folder_is_named(tmp_path: Path, missing: str) -> None:
    folder = make_subset(tmp_path / "cable") / missing
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=f"{missing}.* holds no images"):
        load_folders(tmp_path)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere.*check the path"):
        load_folders(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no folders"):
        load_folders(tmp_path)
    fill(tmp_path / "x" / "train" / "good", "a.png")
    with pytest.raises(DataError, match="test"):
        load_folders(tmp_path / "x")


def test_too_few_normals(tmp_path: Path) -> None:
    (subset,) = load_folders(make_subset(tmp_path / "cable"))
    check_subset(subset, 3)
    with pytest.raises(DataError, match="'cable' has 3 normal training images and 4 shots"):
        check_subset(subset, 4)


def test_both_labels_are_needed(tmp_path: Path) -> None:
    (subset,) = load_folders(make_subset(tmp_path / "cable"))
    normal = [q.path for q in subset.queries if not q.anomalous]
    anomalous = [q.path for q in subset.queries if q.anomalous]
    with pytest.raises(DataError, match="no normal test images"):
        check_subset(without_files(subset, normal), 1)
    with pytest.raises(DataError, match="no anomalous test images"):
        check_subset(without_files(subset, anomalous), 1)


def test_queries_that_are_training_normals_are_found(tmp_path: Path) -> None:
    folder = make_subset(tmp_path / "nut")
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        path.write_bytes(bytes([number]) * 9)  # All of one size, all different.
    (folder / "test" / "good" / "1.png").write_bytes((folder / "train/good/a.png").read_bytes())
    (subset,) = load_folders(folder)
    assert queries_among_normals(subset) == [folder / "test" / "good" / "1.png"]


def test_without_files_drops_from_both_sides(tmp_path: Path) -> None:
    (subset,) = load_folders(make_subset(tmp_path / "cable"))
    left = without_files(subset, [subset.train_normals[0], subset.queries[0].path])
    assert names(left.train_normals) == ["b.png", "c.JPG"]
    assert len(left.queries) == 3


def make_classes(root: Path) -> Path:
    for name in ("cat", "dog", "ship"):
        fill(root / "train" / name, *(f"{name}{i}.png" for i in range(3)))
        fill(root / "test" / name, *(f"{name}{i}.png" for i in range(2)))
    return root


def test_one_versus_all(tmp_path: Path) -> None:
    subsets = load_classes(make_classes(tmp_path / "pets"), ONE_VS_ALL)
    assert [s.name for s in subsets] == ["cat", "dog", "ship"]
    dog = subsets[1]
    assert dog.object_name == "dog"
    assert names(dog.train_normals) == ["dog0.png", "dog1.png", "dog2.png"]
    assert {q.kind: q.anomalous for q in dog.queries} == {"cat": True, "dog": False, "ship": True}
    assert len(dog.queries) == 6


def test_multi_class(tmp_path: Path) -> None:
    dog = load_classes(make_classes(tmp_path / "pets"), MULTI_CLASS)[1]
    assert dog.object_name == "object"
    assert {path.parent.name for path in dog.train_normals} == {"cat", "ship"}
    assert len(dog.train_normals) == 6
    assert {q.kind: q.anomalous for q in dog.queries} == {"cat": False, "dog": True, "ship": False}


def test_classes_without_parts_are_split(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / "kinds" / name, *(f"{i}.png" for i in range(8)))
    subset = load_classes(tmp_path / "kinds", ONE_VS_ALL)[0]
    assert len(subset.train_normals) == 6
    own = {q.path for q in subset.queries if not q.anomalous}
    assert len(own) == 2 and not own & set(subset.train_normals)
    assert len(subset.queries) == 4


def test_classes_must_be_two_and_the_same(tmp_path: Path) -> None:
    fill(tmp_path / "one" / "a", "0.png", "1.png")
    with pytest.raises(DataError, match="at least two classes"):
        load_classes(tmp_path / "one", ONE_VS_ALL)
    with pytest.raises(DataError, match="no setting 'other'"):
        load_classes(tmp_path / "one", "other")
    root = make_classes(tmp_path / "pets")
    fill(root / "train" / "bird", "0.png")
    with pytest.raises(DataError, match="the same for training and test"):
        load_classes(root, MULTI_CLASS)


def test_split_is_a_fixed_partition() -> None:
    paths = [Path(f"{i}.png") for i in range(98)]
    train, test = split_normals(paths)
    assert (len(train), len(test)) == (73, 25)
    assert sorted(train + test) == sorted(paths)
    assert split_normals(paths) == (train, test)
    with pytest.raises(DataError):
        split_normals(paths[:1])


def test_elpv_counts() -> None:
    pytest.importorskip("elpv_dataset")
    (subset,) = load_elpv()
    anomalous = sum(q.anomalous for q in subset.queries)
    assert len(subset.train_normals) == 1131
    assert (len(subset.queries) - anomalous, anomalous) == (377, 715)
    assert subset.object_name == "solar cell"
    assert not {q.path for q in subset.queries} & set(subset.train_normals)
    assert all(q.path.is_file() for q in subset.queries[::100])


def test_textile_counts() -> None:
    pytest.importorskip("conformal_clip_data")
    local, overall = load_textile()
    assert (local.name, overall.name) == ("local", "global")
    for subset in (local, overall):
        assert len(subset.train_normals) == 750
        assert sum(q.anomalous for q in subset.queries) == 500
        assert len(subset.queries) == 750


def make_split_list(root: Path, *lines: str) -> Path:
    fill(root / "candle" / "Data" / "Images" / "Normal", "0.JPG", "1.JPG", "2.JPG")
    fill(root / "candle" / "Data" / "Images" / "Anomaly", "000.JPG")
    fill(root / "candle" / "Data" / "Masks" / "Anomaly", "000.png")
    (root / "split_csv").mkdir()
    listed = [
        "object,split,label,image,mask",
        "candle,train,normal,candle/Data/Images/Normal/0.JPG,",
        "candle,train,normal,candle/Data/Images/Normal/2.JPG,",
        "candle,test,normal,candle/Data/Images/Normal/1.JPG,",
        "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
        *lines,
    ]
    (root / "split_csv" / "1cls.csv").write_text("\n".join(listed) + "\n")
    return root


def test_split_that_stands_in_a_list(tmp_path: Path) -> None:
    (candle,) = load_folders(make_split_list(tmp_path / "VisA"))
    assert (candle.dataset, candle.name, candle.object_name) == ("VisA", "candle", "candle")
    assert names(candle.train_normals) == ["0.JPG", "2.JPG"]
    assert [(q.path.name, q.anomalous, q.mask and q.mask.name) for q in candle.queries] == [
        ("1.JPG", False, None),
        ("000.JPG", True, "000.png"),
    ]


@pytest.mark.parametrize("listed", ["candle/Data/Images/Normal/9.JPG", "../outside.png"])
def test_split_list_names_only_files_of_its_own(tmp_path: Path, listed: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.png")
    root = make_split_list(tmp_path / "VisA", f"candle,test,normal,{listed},")
    with pytest.raises(DataError, match=f"lists '{listed}', which is no file in"):
        load_folders(root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("candle,test,good,candle/Data/Images/Normal/1.JPG,", "of label 'good' and split 'test'"),
        ("candle,Test,normal,candle/Data/Images/Normal/1.JPG,", "and split 'Test'; labels are"),
        ("candle,test,normal,candle/Data/Images/Normal/0.JPG,", "0.JPG both for training and for"),
    ],
)
def test_split_list_that_would_mislead(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_folders(make_split_list(tmp_path / "VisA", line))


def test_split_list_with_links_and_blanks(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "store" / "a1b2", "PNG")
    root = make_split_list(tmp_path / "VisA", "candle ,train,normal , candle/linked.png,")
    (root / "candle" / "linked.png").symlink_to(tmp_path / "store" / "a1b2")
    (candle,) = load_folders(root)
    assert names(candle.train_normals) == ["0.JPG", "2.JPG", "linked.png"]


def test_split_list_without_its_columns(tmp_path: Path) -> None:
    root = make_split_list(tmp_path / "VisA")
    (root / "split_csv" / "1cls.csv").write_text("object,image\ncandle,a.png\n")
    with pytest.raises(DataError, match="needs the columns image, label, mask, object, split"):
        load_folders(root)
