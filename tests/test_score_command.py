"""``python -m inctrl_core score``, with the embedded model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from inctrl_core.__main__ import main
from inctrl_core.ui.examples import load_examples

EXAMPLE = load_examples()["washer"]
NORMALS = [str(path) for path in EXAMPLE.normals[:3]]
DEFECT = str(EXAMPLE.queries[EXAMPLE.cover].path)


@pytest.fixture
def wide(tmp_path: Path) -> str:
    path = tmp_path / "wide.png"
    Image.open(DEFECT).resize((300, 200)).save(path)
    return str(path)


def score(*options: str, queries: list[str]) -> int:
    command = ["score", "--device", "cpu", "--object", "washer", "--normal", *NORMALS]
    return main([*command, "--query", *queries, *options])


def test_the_most_anomalous_image_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    good = str(EXAMPLE.normals[3])
    assert score(queries=[good, DEFECT]) == 0
    output = capsys.readouterr()
    title, first, second = output.out.splitlines()
    assert "3 normals" in title
    assert DEFECT in first and good in second
    assert float(first.split()[0]) > float(second.split()[0])
    assert "proportions" not in output.err


def test_images_of_other_proportions_are_told(
    wide: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score("--json", queries=[DEFECT, wide]) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert document["shots"] == 3 and document["object_name"] == "washer"
    told = {entry["file"]: entry["other_proportions"] for entry in document["scores"]}
    assert told == {DEFECT: False, wide: True}
    assert "not in the proportions of any normal" in output.err
    assert wide in output.err and DEFECT not in output.err


def test_what_cannot_be_read_is_named_and_takes_nothing_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.png", "two.png"):
        (tmp_path / name).write_bytes(b"no picture")
    assert score(queries=[str(tmp_path), DEFECT]) == 0
    output = capsys.readouterr()
    assert DEFECT in output.out and len(output.out.splitlines()) == 2
    assert all(
        f"left out: '{name}' is not an image" in output.err for name in ("one.png", "two.png")
    )
    assert score(queries=[str(tmp_path)]) == 1
    assert "error: 'one.png' is not an image" in capsys.readouterr().err
