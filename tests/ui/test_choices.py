"""What was chosen for normals before the page scores them: in a file, or by a link."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gradio as gr
import pytest

from inctrl_core import InctrlError, load_bank
from inctrl_core.analysis.changes import with_looks_for, with_phrases, with_threshold
from inctrl_core.analysis.defects import with_defect, without_defect
from inctrl_core.analysis.inspection import inspect
from inctrl_core.analysis.session import Session
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.ui.common import choices as owner
from inctrl_core.ui.common.choices import Choices, linked_choices, read_files
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.inspect.handlers import InspectHandlers
from tests.support.pictures import OTHER

NORMALS = [str(path) for path in OTHER.normals[:4]]
QUERY = str(OTHER.bad)


@pytest.fixture(scope="module")
def handlers() -> InspectHandlers:
    return InspectHandlers(ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL}, device="cpu"), {})


@pytest.fixture(scope="module")
def changed(handlers) -> Session:
    """A result with a threshold, phrases and a kind of the visitor's own."""
    detector = handlers.registry.get(DEFAULT_MODEL)
    session = inspect(detector, NORMALS, QUERY, OTHER.object_name)
    session = with_looks_for(detector, session, "flaw")
    session = with_phrases(detector, session, ["as new"], ["scratched deeply"])
    return with_threshold(session, 0.7)


def score(handlers: InspectHandlers, choices: Choices, previous: Session | None = None) -> Session:
    normals = [{"image": {"path": path}} for path in choices.files]
    form = normals, {"path": QUERY}, OTHER.object_name, DEFAULT_MODEL
    return handlers.score_form(*form, previous, lambda *_, **__: None, choices)


def test_saved_normals_give_the_same_result_on_the_page_and_in_python(handlers, changed, detector):
    path = handlers.save_normals(changed)
    assert Path(path).suffix == ".safetensors"
    choices, files, name = handlers.open_normals({"path": path})
    assert files == list(choices.files) and name == OTHER.object_name
    again = score(handlers, choices)
    assert again.score.fused == changed.score.fused
    assert (again.threshold, again.bank.looks_for) == (0.7, "flaw")
    assert again.phrases == changed.phrases and again.before is None
    assert again.scales == changed.scales
    kept = load_bank(path, detector)
    assert kept.threshold == 0.7
    assert detector.score([QUERY], kept.bank)[0].fused == changed.score.fused


def test_saved_defects_count_again_for_the_same_model(handlers, changed):
    detector = handlers.registry.get(DEFAULT_MODEL)
    shown = with_defect(detector, changed)
    choices = handlers.open_normals({"path": handlers.save_normals(shown)})[0]
    again = score(handlers, choices)
    assert again.score.fused == shown.score.fused != changed.score.fused
    assert len(again.defects) == 1 and again.defects[0].shown is None
    assert again.threshold == 0.7 and again.phrases == shown.phrases
    assert without_defect(detector, again, 0).score.fused == changed.score.fused
    other = dataclasses.replace(choices, weights="another model's")
    normals = [{"image": {"path": path}} for path in other.files]
    form = normals, {"path": QUERY}, OTHER.object_name, DEFAULT_MODEL
    with pytest.raises(InctrlError, match="shown to another model"):
        handlers.score_form(*form, None, lambda *_, **__: None, other)


def test_what_the_visitor_chose_later_stands(handlers, changed):
    choices = Choices(tuple(NORMALS), 0.7, "flaw")
    first = score(handlers, choices)
    assert first.threshold == 0.7
    moved = with_threshold(first, 0.3)
    assert score(handlers, choices, moved).threshold == 0.3
    other = Choices(tuple(NORMALS[:3]), 0.7, "flaw")
    normals = [{"image": {"path": path}} for path in NORMALS]
    form = normals, {"path": QUERY}, OTHER.object_name, DEFAULT_MODEL
    plain = handlers.score_form(*form, None, lambda *_, **__: None, other)
    assert plain.chosen is None and plain.bank.looks_for == "decide"


@pytest.mark.parametrize("text", [None, "", "high", "-1", "2", "nan", [0.3]])
def test_a_link_with_no_threshold_chooses_nothing(text):
    assert linked_choices(NORMALS, text) is None
    assert linked_choices(NORMALS, "0.3") == Choices(tuple(NORMALS), 0.3)


def test_names_of_a_file_lead_nowhere_else(handlers, tmp_path):
    names = ["../../evil.png", "CON.jpg", "a/b.png", "x.exe", "", "é" * 300 + ".png"]
    saved = owner.SavedNormals((b"1",) * 6, tuple(names), "thing", ((), ()), "decide", None)
    files = [Path(file) for file in owner.unpack(saved).files]
    assert len({file.parent for file in files}) == 1 and len(set(files)) == 6
    assert all(file.read_bytes() == b"1" for file in files)
    assert {file.suffix for file in files} <= {".png", ".jpg", ""}


def test_normals_that_are_gone_or_too_large_are_told(handlers, changed, tmp_path, monkeypatch):
    with pytest.raises(InctrlError, match="no longer here"):
        read_files([str(tmp_path / "gone.png")])
    monkeypatch.setattr(owner, "most_bytes", lambda: owner.HEADROOM)
    with pytest.raises(InctrlError, match="command score"):
        handlers.save_normals(changed)


def test_what_is_no_such_file_is_told(handlers, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"no")
    for given in ({"path": str(tmp_path / "x.safetensors")}, {"path": str(tmp_path / "gone")}):
        with pytest.raises(gr.Error, match="damaged|missing"):
            handlers.open_normals(given)
