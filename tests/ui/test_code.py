"""The programs of a result: run where its images lie, they give its score again."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from inctrl_core import Detector
from inctrl_core.analysis import inspect
from inctrl_core.analysis.changes import (
    with_ignored,
    with_looks_for,
    with_phrases,
    with_threshold,
)
from inctrl_core.analysis.defects import beside_defects, beside_kept, with_defect
from inctrl_core.analysis.session import Session
from inctrl_core.images.ignored import CELLS
from inctrl_core.ui.inspect.code import ADDRESS, client_lines, code_html, python_lines
from tests.support.pictures import FIRST

EXAMPLE = FIRST.example
# Names that would break out of a program, or of the page, if they were not quoted.
NAMES = ("good 1.jpg", 'it\'s "2".jpg', "<b>3.jpg")
CORNER = np.zeros((CELLS, CELLS), bool)
CORNER[:20, :20] = True
DEFECTS = ('a "scratch".jpg', "hole.jpg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for path, name in zip(EXAMPLE.normals, NAMES, strict=False):
        shutil.copy(path, folder / name)
    shutil.copy(EXAMPLE.queries[EXAMPLE.cover].path, folder / "query.jpg")
    others = [query.path for query in EXAMPLE.queries if query.anomalous]
    others.remove(EXAMPLE.queries[EXAMPLE.cover].path)
    for path, name in zip(others, DEFECTS, strict=False):
        shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope="module")
def session(detector: Detector, folder: Path) -> Session:
    normals = [str(folder / name) for name in NAMES]
    return inspect(detector, normals, str(folder / "query.jpg"), FIRST.object_name)


@pytest.fixture(scope="module")
def changed(detector: Detector, session: Session) -> dict[str, Session]:
    """The result, and the result after every change that a visitor can make to it."""
    phrases = with_phrases(detector, session, ["whole"], ["bent", 'it\'s "broken"'])
    defects = with_defects(detector, session)
    return {
        "plain": session,
        "kind": with_looks_for(detector, session, "kind"),
        "phrases": phrases,
        "threshold": with_threshold(session, 0.25),
        "defects": defects,
        "ignored": with_ignored(detector, defects, CORNER),
        "defects and phrases": with_phrases(detector, defects, ["whole"], []),
        "ignored and phrases": with_ignored(detector, phrases, CORNER),
    }


def with_defects(detector: Detector, session: Session, *picked: tuple[int, int] | None) -> Session:
    """The session beside two defects, shown as a visitor does: image after image."""
    normals, name = session.normal_files, session.bank.object_name
    folder = Path(session.query_file).parent
    for file, place in zip(DEFECTS, picked or (None, None), strict=True):
        session = inspect(detector, normals, str(folder / file), name, previous=session)
        session = with_defect(detector, session, place)
    return inspect(detector, normals, str(folder / "query.jpg"), name, previous=session)


CHANGES = pytest.mark.parametrize(
    "change",
    ["plain", "kind", "phrases", "threshold", "defects", "defects and phrases", "ignored"]
    + ["ignored and phrases"],
)


@CHANGES
def test_the_python_lines_give_the_result_again(changed, change, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(python_lines(changed[change]), names)
    assert names["result"].score.fused == changed[change].score.fused
    score, threshold = map(float, capsys.readouterr().out.split())
    assert (score, threshold) == pytest.approx(
        (changed[change].score.fused, changed[change].threshold), abs=1e-9
    )


@CHANGES
def test_the_client_lines_give_it_through_the_api(
    changed, change, folder, address, monkeypatch, capsys
):
    monkeypatch.chdir(folder)
    exec(client_lines(changed[change]).replace(ADDRESS, address), {})
    score, threshold = map(float, capsys.readouterr().out.splitlines()[-1].split())
    assert score == pytest.approx(changed[change].score.fused, abs=1e-6)
    assert threshold == pytest.approx(changed[change].threshold, abs=1e-6)


def test_the_page_escapes_what_the_visitor_named(session):
    named = dataclasses.replace(session, given_names=("<script>1</script>.png",))
    assert "<script>" not in code_html(named) and "&lt;script&gt;" in code_html(named)
    assert code_html(named).count("data-address") == 1


def test_a_picked_defect_is_given_again_in_python(detector, session, folder, monkeypatch, capsys):
    picked = with_defects(detector, session, (3, 4), None)
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(python_lines(picked), names)
    assert names["result"].score.fused == picked.score.fused
    assert names["result"].defects[0].picked == (3, 4)
    assert "shown at a patch" in client_lines(picked) and DEFECTS[1] in client_lines(picked)


def test_defects_of_a_file_are_said_to_be_left_out(detector, session):
    images = with_defects(detector, session).bank.defects.images
    kept = beside_kept(detector, session, beside_defects(session.measured, images))
    assert "load_bank" in python_lines(kept) and "left out" in client_lines(kept)
    assert "with_defect" not in python_lines(kept)
