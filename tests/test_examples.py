"""The example sets: complete, sound, within their size, and made again to the same bytes."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SETS = sorted(path.parent for path in EXAMPLES.glob("*/set.json"))
KEYS = {
    "title", "object_name", "family", "caption", "source", "licence", "normals", "queries", "fails",
}  # fmt: skip
CHEAP_SET = "digits"

each_set = pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)


def described(folder: Path) -> dict:
    """Return a set's description."""
    return json.loads((folder / "set.json").read_text(encoding="utf-8"))


def opened(path: Path) -> Image.Image:
    """Return a fully decoded image."""
    with Image.open(path) as image:
        image.load()
        return image


def make_again(out: Path) -> Path:
    """Run the generator's command for one cheap set and return the new folder."""
    command = [sys.executable, EXAMPLES / "make_examples.py", "--only", CHEAP_SET, "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    return out / CHEAP_SET


def test_sets_cover_the_three_families():
    families = [described(folder)["family"] for folder in SETS]
    assert len(families) >= 8
    assert set(families) == {"industrial", "medical", "semantic"}


def test_everything_together_is_small():
    folders = EXAMPLES, EXAMPLES.parent / "assets"
    files = [p for folder in folders for p in folder.rglob("*") if "__pycache__" not in p.parts]
    assert sum(p.stat().st_size for p in files if p.is_file()) < 25_000_000


@each_set
def test_description_is_complete(folder):
    about = described(folder)
    assert set(about) == KEYS
    for key in KEYS - {"normals", "queries", "fails"}:
        assert isinstance(about[key], str) and about[key].strip() == about[key] != ""
    assert about["fails"] is None or about["fails"].endswith(".")
    assert 4 <= len(about["normals"]) <= 8
    labels = [query["label"] for query in about["queries"]]
    assert set(labels) == {"normal", "anomalous"}
    assert labels.count("normal") >= 2 and labels.count("anomalous") >= 3
    for query in about["queries"]:
        assert set(query) == {"file", "label", "note", "mask"}
        assert query["note"].endswith(".")


@each_set
def test_folder_holds_exactly_what_is_described(folder):
    about = described(folder)
    queries = about["queries"]
    expected = {
        "normals": set(about["normals"]),
        "queries": {query["file"] for query in queries},
        "masks": {query["mask"] for query in queries if query["mask"]},
    }
    for part, names in expected.items():
        assert {path.name for path in (folder / part).glob("*")} == names
    assert len(expected["normals"]) == len(about["normals"])
    assert len(expected["queries"]) == len(queries)


@each_set
def test_images_decode_and_are_large_enough(folder):
    images = [*(folder / "normals").iterdir(), *(folder / "queries").iterdir()]
    for path in images:
        image = opened(path)
        assert image.mode in ("L", "RGB")
        assert 240 <= min(image.size) and max(image.size) <= 480
        assert np.asarray(image).std() > 5, f"{path.name} is nearly of one colour"


@each_set
def test_no_query_is_a_normal(folder):
    def digest(path):
        return hashlib.sha256(np.asarray(opened(path)).tobytes()).digest()

    images = [*(folder / "normals").iterdir(), *(folder / "queries").iterdir()]
    assert len({digest(path) for path in images}) == len(images)


@each_set
def test_masks_fit_their_queries(folder):
    for query in described(folder)["queries"]:
        if query["mask"] is None:
            continue
        assert query["label"] == "anomalous"
        assert query["mask"] == f"{Path(query['file']).stem}_mask.png"
        mask = opened(folder / "masks" / query["mask"])
        assert mask.mode == "L"
        assert mask.size == opened(folder / "queries" / query["file"]).size
        assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_some_images_are_not_square():
    sizes = [opened(next((folder / "normals").iterdir())).size for folder in SETS]
    assert any(width > height for width, height in sizes)
    assert any(width < height for width, height in sizes)


def test_the_fooling_sets_hold_every_kind_of_failure():
    notes = [
        query["note"].lower()
        for folder in SETS
        if described(folder)["fails"]
        for query in described(folder)["queries"]
    ]
    kinds = (
        "unrepresentative normals", "rotation", "lighting", "tiny defect", "logical fault",
    )  # fmt: skip
    for kind in kinds:
        assert any(kind in note for note in notes), f"no query shows: {kind}"


def test_copied_images_carry_their_licence():
    licence = (EXAMPLES / "textile" / "LICENSE.txt").read_text(encoding="utf-8")
    assert "MIT License" in licence and "Permission is hereby granted" in licence
    attribution = (EXAMPLES / "textile" / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    assert "conformal-clip-data" in attribution


def test_readme_lists_every_set():
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for folder in SETS:
        assert f"| `{folder.name}` |" in readme


def test_cases_are_small_images():
    for path in (EXAMPLES / "cases").iterdir():
        assert path.stat().st_size < 40_000
        if path.suffix != ".json":
            assert 240 <= min(opened(path).size) and max(opened(path).size) <= 480


@pytest.mark.slow
def test_generator_gives_the_same_bytes_twice_and_what_is_kept_here(tmp_path):
    first, second = make_again(tmp_path / "first"), make_again(tmp_path / "second")
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(names) > 10
    assert names == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    kept = EXAMPLES / CHEAP_SET
    assert names == sorted(path.relative_to(kept) for path in kept.rglob("*") if path.is_file())
    assert described(first) == described(kept)
    for name in (name for name in names if name.suffix == ".jpg"):
        # Decoded pixels, since another version of the encoder may round the same ones differently.
        made, stored = (np.asarray(opened(root / name), dtype=int) for root in (first, kept))
        assert np.abs(made - stored).mean() <= 0.5


@pytest.mark.slow
def test_cases_are_made_again_from_the_sets(tmp_path):
    out = tmp_path / "examples"
    shutil.copytree(EXAMPLES, out, ignore=shutil.ignore_patterns("cases", "generate", "*.py"))
    command = [sys.executable, EXAMPLES / "make_examples.py", "--only", "cases", "--out", out]
    subprocess.run(command, check=True, capture_output=True)
    made, kept = out / "cases", EXAMPLES / "cases"
    assert {path.name for path in made.iterdir()} == {path.name for path in kept.iterdir()}
    assert (made / "cases.json").read_text() == (kept / "cases.json").read_text()
    for path in kept.glob("*.jpg"):
        here, there = (np.asarray(opened(p), dtype=int) for p in (path, made / path.name))
        assert np.abs(here - there).mean() <= 0.5


def test_cases_need_their_sets(tmp_path):
    command = [sys.executable, EXAMPLES / "make_examples.py", "--only", "cases", "--out", tmp_path]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode != 0 and "make the example sets first" in result.stderr
