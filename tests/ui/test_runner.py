"""Steps with a model: what reaches it, what comes back, and how errors do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from inctrl_core import Detector, InctrlError
from inctrl_core.analysis.changes import with_phrases, with_query_as_normal
from inctrl_core.analysis.inspection import start_session
from inctrl_core.analysis.session import Session
from inctrl_core.config import BackboneConfig, ModelConfig, config_to_json
from inctrl_core.images.seen import see_image
from inctrl_core.ui.common import models
from inctrl_core.ui.common.models import ModelRegistry, find_sources
from inctrl_core.ui.common.runner import ModelRunner, download_progress
from inctrl_core.ui.service.api import score_seen

GOLDEN = Path(__file__).parents[1] / "golden"
NORMALS = [str(GOLDEN / f"prompt_{i}.png") for i in range(2)]
QUERY = str(GOLDEN / "query_0.png")


@pytest.fixture
def registry(golden_detector: Detector, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    def load(source: str, device: str, on_progress: Callable | None = None) -> Detector:
        if on_progress:
            on_progress(5_000_000, 20_000_000)
        return golden_detector

    monkeypatch.setattr(models, "fetch_files", lambda source, on_progress: None)
    monkeypatch.setattr(models, "load_detector", load)
    return ModelRegistry({"golden": "golden"}, "cpu")


def test_a_session_changes_in_steps(registry: ModelRegistry) -> None:
    run = ModelRunner(registry)
    files = tuple(NORMALS), QUERY
    first = run(start_session, "golden", "golden", files, "candle", None)
    here = start_session(registry.get("golden"), "golden", files, "candle")
    assert first.score.fused == here.score.fused
    spoken = run(with_phrases, "golden", first, ["whole"], ["melted"])
    assert spoken.score.text_anomaly != first.score.text_anomaly
    assert run(with_query_as_normal, "golden", spoken).bank.shots == 3
    config = run.sees("golden")
    seen = see_image(Image.open(QUERY).convert("RGB"), config, 1)
    measured, score = run.against("golden", NORMALS, "candle", score_seen, lambda _: (seen,))
    assert (measured.bank.object_name, score.fused) == ("candle", here.score.fused)


def test_sessions_go_to_the_model_and_come_back_to_the_cpu(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = []
    move = Session.to
    monkeypatch.setattr(Session, "to", lambda s, where: moves.append(str(where)) or move(s, where))
    session = start_session(registry.get("golden"), "golden", (tuple(NORMALS), QUERY), "candle")
    monkeypatch.setattr(registry.get("golden").backbone, "device", "meta")
    seen = []

    def step(detector: Detector, given: Session) -> Session:
        tensors = [given.bank.pairwise, *given.encoded.features.patches]
        seen.extend(tensor.device.type for tensor in tensors)
        return session

    ModelRunner(registry)(step, "golden", session)
    assert moves == ["meta", "cpu"] and set(seen) == {"meta"}


def test_errors_keep_their_sentence(registry: ModelRegistry) -> None:
    run = ModelRunner(registry)
    with pytest.raises(InctrlError, match="Add the image to check"):
        run(start_session, "golden", "golden", (tuple(NORMALS), ""), "candle", None)
    with pytest.raises(InctrlError, match="in the list"):
        run(start_session, "other", "other", (tuple(NORMALS), QUERY), "candle", None)


def test_a_download_is_shown(registry: ModelRegistry) -> None:
    shown = []
    progress = download_progress(lambda share, desc: shown.append((share, desc)))
    ModelRunner(registry)(lambda detector: None, "golden", on_progress=progress)
    progress(1_000_000, None)
    assert shown == [
        (0.25, "Downloading the model, 5 of 20 MB, once"),
        (None, "Downloading the model, 1 MB, once"),
    ]


def test_names_say_which_weights_they_stand_for(tmp_path: Path) -> None:
    backbone = BackboneConfig({"embed_dim": 1, "vision_cfg": {}, "text_cfg": {}}, (0,))
    (tmp_path / "config.json").write_text(config_to_json(ModelConfig("mine", backbone)))
    choices = ModelRegistry(find_sources([str(tmp_path), "user/repo"])).choices
    assert (tmp_path.name, tmp_path.name) in choices and ("repo", "repo") in choices
    shown = {name: title for title, name in choices}["inctrl-vit-b-16-plus-240"]
    assert shown.endswith("(laion400m_e31)")
