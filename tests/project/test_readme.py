"""The snippets of README and docs/usage.md, run as they stand, and the links of all pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support.pictures import FIRST

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPETS = re.findall(r"```python\n(.*?)```", README + USAGE, re.DOTALL)


def snippet(word: str) -> str:
    (found,) = [text for text in SNIPPETS if word in text]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the images that the snippets name."""
    example = FIRST.example
    Image.open(example.normals[0]).save(tmp_path / "good1.png")
    Image.open(example.normals[1]).save(tmp_path / "good2.png")
    Image.open(example.queries[example.cover].path).save(tmp_path / "query.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_library_snippet_runs(folder):
    names: dict = {}
    exec(snippet("import load_detector"), names)
    assert 0.0 < names["score"].fused < 1.0


def test_the_notebook_snippet_runs(folder):
    queries = [query.path for query in FIRST.example.queries]
    for name, path in zip(("other", "a", "b", "ok", "broken"), queries, strict=False):
        Image.open(path).save(folder / f"{name}.png")
    names: dict = {}
    exec(snippet("import analysis, load_detector"), names)
    assert names["next_one"].score.defect_map is not None and names["closer"].parts == 2
    assert len(names["batch"].rows) == 2 and names["run"].next_part is None


def test_the_client_snippet_runs(address, folder):
    names: dict = {}
    exec(snippet("gradio_client").replace("http://127.0.0.1:7860", address), names)
    assert names["result"]["shots"] == 2
    assert Path(names["overlay"]).is_file()


def test_the_space_runs_the_pinned_gradio():
    pinned = re.search(r"^gradio\S*==(\S+)", (ROOT / "requirements.txt").read_text(), re.M)[1]
    assert re.search(r"^sdk_version: (\S+)", README, re.M)[1] == pinned


def test_every_file_that_a_page_links_to_is_there():
    linked = [
        (page, path)
        for page in PAGES
        for path in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert len({page for page, _ in linked}) > 2
    for page, path in linked:
        assert (page.parent / path).exists(), f"{page.name}: {path}"


def test_the_readme_stays_short():
    assert len(README.splitlines()) <= 150
