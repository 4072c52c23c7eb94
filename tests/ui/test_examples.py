"""The example sets: complete, sound, licensed, within their size, and made again as they are."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inctrl_core import load_detector
from inctrl_core.analysis.measured_bank import build_measured_bank
from inctrl_core.model.score import Score
from inctrl_core.ui.common.examples import FIRST, load_examples, queries_html

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SETS = sorted(path.parent for path in EXAMPLES.glob("*/set.json"))
KEYS = {
    "title", "object_name", "family", "caption", "source", "licence", "changes", "normals",
    "queries", "fails", "made_from",
}  # fmt: skip
FAMILIES = {"industrial", "surface", "food", "medical", "semantic"}

each_set = pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)


def described(folder: Path) -> dict:
    """Return a set's description."""
    return json.loads((folder / "set.json").read_text(encoding="utf-8"))


def opened(path: Path) -> Image.Image:
    """Return a fully decoded image."""
    with Image.open(path) as image:
        image.load()
        return image


def run_maker(*options: str | Path) -> subprocess.CompletedProcess:
    """Run the command that makes the sets."""
    command = [sys.executable, EXAMPLES / "make_examples.py", *options]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_sets_cover_all_families():
    families = [described(folder)["family"] for folder in SETS]
    assert len(families) >= 10
    assert set(families) == FAMILIES


def test_everything_together_is_small():
    folders = EXAMPLES, EXAMPLES.parent / "assets"
    files = [p for folder in folders for p in folder.rglob("*") if "__pycache__" not in p.parts]
    assert sum(p.stat().st_size for p in files if p.is_file()) < 25_000_000


@each_set
def test_description_is_complete(folder):
    about = described(folder)
    assert set(about) - {"opens_with"} == KEYS
    for key in ("title", "object_name", "family", "caption", "changes"):
        assert isinstance(about[key], str) and about[key].strip() == about[key] != ""
    assert about["fails"] is None or about["fails"].endswith(".")
    assert 4 <= len(about["normals"]) <= 8 and 6 <= len(about["queries"]) <= 10
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
    named = {f"{part}/{name}" for part, names in expected.items() for name in names}
    assert set(about["made_from"]["files"]) == named


@each_set
def test_images_decode_and_are_large_enough(folder):
    images = [*(folder / "normals").iterdir(), *(folder / "queries").iterdir()]
    for path in images:
        image = opened(path)
        assert image.mode in ("L", "RGB") and not image.getexif()
        assert 128 <= min(image.size) and max(image.size) <= 400
        assert np.asarray(image).std() > 5, f"{path.name} is nearly of one colour"


@each_set
def test_no_image_is_there_twice(folder):
    def digest(path):
        return hashlib.sha256(np.asarray(opened(path)).tobytes()).digest()

    images = [*(folder / "normals").iterdir(), *(folder / "queries").iterdir()]
    assert len({digest(path) for path in images}) == len(images)
    sources = [str(source) for source in described(folder)["made_from"]["files"].values()]
    assert len(set(sources)) == len(sources)


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


@each_set
def test_source_and_licence_are_beside_the_images(folder):
    about = described(folder)
    source, licence = about["source"], about["licence"]
    assert source["title"] and source["author"] and source["path"]
    assert source["url"].startswith("https://") and licence["url"].startswith("https://")
    if source["commit"] is not None:
        assert len(source["commit"]) == 40 and source["url"].endswith(source["commit"])
    if licence["name"] in ("MIT", "Apache-2.0"):
        text = (EXAMPLES / licence["text"]).read_text(encoding="utf-8")
        own = "Permission is hereby granted" in text and "Copyright (c)" in text
        assert own if licence["name"] == "MIT" else "Apache License" in text
    if "BY-SA" in licence["name"]:
        assert "under CC BY-SA 4.0 too" in about["changes"]


@each_set
def test_the_page_tells_title_author_source_licence_and_changes(folder):
    about, example = described(folder), load_examples()[folder.name]
    markup = queries_html(example, 0)
    for url in (about["source"]["url"], about["licence"]["url"]):
        assert f'href="{url}"' in markup
    assert about["source"]["author"] in markup and about["licence"]["name"] in markup
    assert about["changes"] in markup


def test_readme_lists_every_set():
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for folder in SETS:
        assert f"| `{folder.name}` |" in readme


class TestMeasured:
    """What captions and notes say, with the embedded model at its threshold."""

    @pytest.fixture(scope="class")
    @classmethod
    def judged(cls) -> dict[str, dict[str, tuple[bool, bool, Score]]]:
        """By set and query: whether it is anomalous, whether it scores so, and the score."""
        detector, judged = load_detector("inctrl-lite", "cpu"), {}
        for name, example in load_examples().items():
            normals = [str(path) for path in example.normals]
            measured = build_measured_bank(detector, normals, example.object_name)
            assert measured.bank.copy_of == (None,) * len(normals)
            scores = detector.score([query.path for query in example.queries], measured.bank)
            judged[name] = {
                query.path.stem: (query.anomalous, score.fused > measured.threshold, score)
                for query, score in zip(example.queries, scores, strict=True)
            }
        return judged

    def test_a_query_is_judged_wrongly_just_where_its_note_says_so(self, judged):
        for name, example in load_examples().items():
            if example.fails:
                continue
            for query in example.queries:
                anomalous, above, _ = judged[name][query.path.stem]
                word = "missed" if anomalous else "false alarm"
                assert (word in query.note) is (anomalous != above), f"{name}: {query.note}"

    def test_the_first_set_is_convincing(self, judged):
        scores = [(anomalous, score.fused) for anomalous, _, score in judged[FIRST].values()]
        worst_bad = min(fused for anomalous, fused in scores if anomalous)
        best_good = max(fused for anomalous, fused in scores if not anomalous)
        assert worst_bad > 2 * best_good

    def test_the_sets_that_are_meant_to_fail_do_and_open_on_it(self, judged):
        failing = {name: one for name, one in load_examples().items() if one.fails}
        assert len(failing) >= 2
        kinds = set()
        for name, example in failing.items():
            wrong = [
                (stem, anomalous)
                for stem, (anomalous, above, _) in judged[name].items()
                if anomalous != above
            ]
            assert len(wrong) >= 3
            assert example.queries[example.cover].path.stem in dict(wrong)
            kinds |= {anomalous for _, anomalous in wrong}
        assert kinds == {True, False}  # Misses and false alarms.

    def test_the_strongest_patch_lies_on_the_mask(self, judged):
        found = 0
        for name, example in load_examples().items():
            for query in example.queries:
                _, above, score = judged[name][query.path.stem]
                if query.mask is None or not above:
                    continue
                mask = np.asarray(opened(query.mask)) > 0
                height, width = mask.shape
                row, column = np.unravel_index(score.patch_map.argmax(), score.patch_map.shape)
                rows = slice(row * height // 15, -(-(row + 1) * height // 15))
                columns = slice(column * width // 15, -(-(column + 1) * width // 15))
                assert mask[rows, columns].any(), f"{name}: {query.path.stem}"
                found += 1
        assert found >= 15


class TestMaking:
    """The command, on a small folder of photographs that are made up."""

    @pytest.fixture
    def photographs(self, tmp_path: Path) -> Path:
        rng = np.random.default_rng(0)
        root = tmp_path / "photographs"
        for folder in SETS:
            for source in described(folder)["made_from"]["files"].values():
                if isinstance(source, str) and not (root / source).exists():
                    (root / source).parent.mkdir(parents=True, exist_ok=True)
                    pixels = rng.integers(0, 255, (12, 9, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(root / source)
        return root

    def test_every_set_is_made_twice_to_the_same_bytes(self, photographs, tmp_path):
        outs = tmp_path / "first", tmp_path / "second"
        for out in outs:
            assert run_maker("--photographs", photographs, "--out", out).returncode == 0
        for folder in SETS:
            about = described(folder)["made_from"]
            for name, source in about["files"].items():
                first, second = ((out / folder.name / name).read_bytes() for out in outs)
                assert first == second
                if isinstance(source, str) and about["quality"] is None:
                    assert first == (photographs / source).read_bytes()
            assert described(outs[0] / folder.name) == described(folder)
            kept = {path.name for path in folder.iterdir()}
            assert {path.name for path in (outs[0] / folder.name).iterdir()} == kept

    def test_what_is_cut_out_of_scikit_image_is_what_is_kept_here(self, tmp_path):
        assert run_maker("--only", "coins", "--out", tmp_path).returncode == 0
        for path in (EXAMPLES / "coins").rglob("*.jpg"):
            made = opened(tmp_path / path.relative_to(EXAMPLES))
            # Pixels, since another version of the encoder may round the same ones differently.
            apart = np.asarray(made, dtype=int) - np.asarray(opened(path), dtype=int)
            assert np.abs(apart).mean() <= 0.5

    def test_a_missing_photograph_leaves_the_set_as_it_is(self, photographs, tmp_path):
        out = tmp_path / "out"
        assert run_maker("--photographs", photographs, "--out", out).returncode == 0
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        gone = (
            photographs / described(EXAMPLES / FIRST)["made_from"]["files"]["normals/normal_2.jpg"]
        )
        gone.unlink()
        result = run_maker("--photographs", photographs, "--only", FIRST, "--out", out)
        assert result.returncode != 0 and gone.name in result.stderr
        assert "Traceback" not in result.stderr
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before

    def test_without_a_folder_it_says_what_to_give(self, tmp_path):
        result = run_maker("--only", FIRST, "--out", tmp_path)
        assert result.returncode != 0 and "--photographs" in result.stderr
        assert "Traceback" not in result.stderr and not list(tmp_path.iterdir())
