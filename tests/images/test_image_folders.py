"""Which files a folder gives, and that all others are named with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from inctrl_core import ImageError
from inctrl_core.images import folders as image_folders
from inctrl_core.images.folders import FOLDERS, HIDDEN, NO_IMAGES, find_images


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path, "PNG")


def left_out(found: image_folders.FoundImages, root: Path) -> dict[str, str]:
    return {str(entry.path.relative_to(root)): entry.group for entry in found.left_out}


def test_folders_in_folders_give_names_that_differ(tmp_path: Path) -> None:
    root = tmp_path / "test"
    names = ["b/000.png", "b/c/d/000.PNG", "a/000.png", "z.png"]
    draw(*(root / name for name in names))
    found = find_images([root], recursive=True)
    # A folder's own files first, then those of its folders, by name.
    assert found.names == ("z.png", "a/000.png", "b/000.png", "b/c/d/000.PNG")
    assert found.files == tuple(root / name for name in found.names)
    assert found.left_out == ()


def test_without_recursive_folders_are_named(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", tmp_path / "more" / "b.png")
    found = find_images([tmp_path])
    assert found.names == ("a.png",)
    assert left_out(found, tmp_path) == {"more": FOLDERS}
    assert "--recursive" in found.left_out[0].why


def test_a_folder_that_holds_only_folders_says_what_helps(tmp_path: Path) -> None:
    root = tmp_path / "test"
    draw(root / "good" / "0.png", root / "bad" / "0.png")
    (root / "notes.txt").write_text("shift 3")
    with pytest.raises(ImageError, match=r"'test' holds no images.*\(bad, good\); add --recursive"):
        find_images([root])
    (tmp_path / "empty" / "inside").mkdir(parents=True)
    with pytest.raises(ImageError, match="holds no images, nor do the folders inside it"):
        find_images([tmp_path / "empty"], recursive=True)


def test_links_that_go_round_end_and_count_once(tmp_path: Path) -> None:
    draw(tmp_path / "z" / "0.png", tmp_path / "elsewhere" / "1.png")
    root = tmp_path / "z"
    (root / "inside").mkdir()
    os.symlink(root, root / "inside" / "up")  # To a folder that it lies in.
    os.symlink("self", root / "self")  # To itself: a file that is not there.
    os.symlink(root / "inside", root / "again")
    os.symlink(tmp_path / "elsewhere", root / "away")
    os.symlink(root / "gone", root / "gone.png")
    found = find_images([root], recursive=True)
    assert found.names == ("0.png", "gone.png", "away/1.png")
    assert left_out(found, root) == {"self": NO_IMAGES}


def test_each_kind_that_is_left_out_has_its_reason(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", tmp_path / ".hidden.png", tmp_path / ".git" / "b.png")
    draw(tmp_path / "photo")  # An image under no image's name.
    for name in ("Thumbs.db", "notes.txt", ".DS_Store", "scan.jp2", "IMG.CR2", "slice.dcm"):
        (tmp_path / name).write_bytes(b"x")
    found = find_images([tmp_path], recursive=True)
    assert found.names == ("a.png",)
    assert left_out(found, tmp_path) == {
        ".DS_Store": HIDDEN,
        ".git": HIDDEN,
        ".hidden.png": HIDDEN,
        "Thumbs.db": NO_IMAGES,
        "notes.txt": NO_IMAGES,
        "IMG.CR2": "",
        "photo": "",
        "scan.jp2": "",
        "slice.dcm": "",
    }
    why = {entry.path.name: entry.why for entry in found.left_out}
    assert "rename it" in why["photo"]
    assert why["scan.jp2"] == "JPEG 2000 is not read; save it as PNG, JPEG or TIFF"


def test_a_folder_of_pictures_that_are_not_read_names_one(tmp_path: Path) -> None:
    (tmp_path / "scan.jp2").write_bytes(b"x")
    with pytest.raises(ImageError, match="holds no images that are read: scan.jp2: JPEG 2000 is"):
        find_images([tmp_path])


def test_a_file_is_taken_as_it_stands(tmp_path: Path) -> None:
    paths = [tmp_path / ".hidden.dat", tmp_path / "gone.png"]
    assert find_images(paths).files == tuple(paths)
    assert find_images(paths).names == (".hidden.dat", "gone.png")


def test_a_folder_that_may_not_be_read_is_named_and_the_rest_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.png", tmp_path / "locked" / "b.png")
    iterdir = Path.iterdir

    def refuse(path: Path):
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)  # Root may read everything.
    found = find_images([tmp_path], recursive=True)
    assert found.names == ("a.png",)
    assert found.left_out[0].path.name == "locked"
    assert "cannot be read (Permission denied)" in found.left_out[0].why
    with pytest.raises(ImageError, match=r"locked cannot be read \(Permission denied\)"):
        find_images([tmp_path / "locked"])
