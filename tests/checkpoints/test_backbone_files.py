"""Weights fetched by hand: one file in place of the Hub's, and what is said of every other file."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inctrl_core import Detector, ModelError, load_detector
from inctrl_core.checkpoints import loading
from inctrl_core.checkpoints.hub import is_cached
from inctrl_core.checkpoints.tensor_files import PrefixedTensors
from inctrl_core.checkpoints.weights import HEADS_PREFIX, WEIGHTS_FILE, load_model
from inctrl_core.commands.train import write_model
from inctrl_core.config import HeadsConfig, config_to_json, read_config
from inctrl_core.ui.common.models import find_sources

GOLDEN = Path(__file__).parents[1] / "golden"
HUB_FILE = "open_clip_model.safetensors"


@pytest.fixture
def assets(golden_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The golden model's backbone as one of the assets, which the Hub has; no Hub can be asked."""
    config = read_config(golden_model)
    backbone = replace(config.backbone, hub_repo="maker/backbone")
    bare = replace(config, name="known", backbone=backbone, heads=HeadsConfig())
    directory = tmp_path / "assets" / "known"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(config_to_json(replace(bare, weights_sha256=None)))
    monkeypatch.setattr(loading, "ASSETS", tmp_path / "assets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert not is_cached("maker/backbone", HUB_FILE)
    return tmp_path / "assets"


@pytest.fixture
def weights(golden_model: Path, tmp_path: Path) -> Path:
    """The file as a browser fetches it, under a name of its owner's."""
    tensors = dict(PrefixedTensors(load_file(golden_model / WEIGHTS_FILE), "backbone."))
    path = tmp_path / "Downloads" / "open_clip_model (1).safetensors"
    path.parent.mkdir()
    # In half precision and with what is stored but not used, as such files come.
    tensors = {key: value.half() for key, value in tensors.items()}
    save_file(tensors | {"logit_scale": torch.tensor(4.6)}, path)
    return path


def embeddings(detector: Detector) -> torch.Tensor:
    return detector.encode([GOLDEN / "query_0.png"]).features.embeddings


def test_a_file_gives_its_model_the_backbone(
    assets: Path, weights: Path, golden_detector: Detector, golden_model: Path
) -> None:
    detector = load_detector(str(weights), "cpu")
    assert detector.name == "known" and detector.fusion == "training-free"
    torch.testing.assert_close(embeddings(detector), embeddings(golden_detector), atol=0.02, rtol=0)
    # Not the Hub's: nobody compared it.
    assert detector.config.title == "known"
    assert detector.config.weights.startswith("backbone sha256 ")
    heads = load_detector(weights, "cpu", heads=golden_model)
    assert heads.fusion == "trained"


def test_a_file_beside_the_configuration_is_found(
    assets: Path, weights: Path, golden_detector: Detector
) -> None:
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        load_detector("known", "cpu")
    weights.rename(assets / "known" / HUB_FILE)
    torch.testing.assert_close(
        embeddings(load_detector("known", "cpu")), embeddings(golden_detector), atol=0.02, rtol=0
    )
    loading.fetch_files("known")  # Nothing to fetch.
    # A path out of the directory is no way to a file of somebody's.
    config = json.loads((assets / "known" / "config.json").read_text())
    config["backbone"]["hub_file"] = "../elsewhere.safetensors"
    (assets / "known" / "config.json").write_text(json.dumps(config))
    (assets / "known" / HUB_FILE).rename(assets / "elsewhere.safetensors")
    with pytest.raises(ModelError):
        load_model(assets / "known")


def test_the_page_offers_the_file_as_its_model(assets: Path, weights: Path) -> None:
    sources = find_sources([str(weights)], assets)
    assert sources == {"known": str(weights)}
    loading.fetch_files(str(weights))


def test_a_model_trained_on_a_file_needs_neither_it_nor_the_hub(
    assets: Path, weights: Path, golden_model: Path, tmp_path: Path
) -> None:
    given = load_detector(weights, "cpu")
    trained = read_config(golden_model).heads
    config = replace(given.config, name="own", heads=trained, training={"curves": []})
    stored = load_file(golden_model / WEIGHTS_FILE)
    heads = {key: value for key, value in stored.items() if key.startswith(HEADS_PREFIX)}
    arguments = Namespace(backbone=str(weights), out=tmp_path / "own", form="reference")
    write_model(arguments, config, heads, (HEADS_PREFIX,))
    weights.unlink()
    own = load_detector(tmp_path / "own", "cpu")
    assert own.fusion == "trained" and torch.equal(embeddings(own), embeddings(given))


def test_the_weights_of_a_model_directory_stand_for_it(
    golden_model: Path, golden_detector: Detector, tmp_path: Path
) -> None:
    detector = load_detector(golden_model / WEIGHTS_FILE, "cpu")
    assert detector.config == golden_detector.config
    alone = tmp_path / WEIGHTS_FILE
    alone.write_bytes((golden_model / WEIGHTS_FILE).read_bytes())
    with pytest.raises(ModelError, match="part of a model directory; name the directory, with its"):
        load_detector(alone, "cpu")


@pytest.mark.parametrize(
    ("name", "tensors", "said"),
    [
        ("a.safetensors", {"visual.proj": (3, 3)}, "holds no backbone that this program knows"),
        ("b.safetensors", {"vision_model.proj": (3, 3)}, "names its tensors as transformers does"),
        ("gone.safetensors", None, "gone.safetensors does not exist; check the path"),
        ("gone.bin", None, "gone.bin does not exist; check the path"),
    ],
)
def test_other_files_are_told(
    assets: Path, tmp_path: Path, name: str, tensors: dict | None, said: str
) -> None:
    if tensors:
        save_file({key: torch.zeros(shape) for key, shape in tensors.items()}, tmp_path / name)
    with pytest.raises(ModelError, match=said) as caught:
        load_detector(tmp_path / name, "cpu")
    assert not tensors or f"known is {HUB_FILE} of maker/backbone" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["open_clip_pytorch_model.bin", "checkpoint.pt", "a.safetensors"])
def test_pickles_are_refused_with_what_to_do(assets: Path, tmp_path: Path, name: str) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(ModelError, match="is a pickle, which could run code, and is refused") as e:
        load_detector(tmp_path / name, "cpu")
    if not name.endswith(".safetensors"):
        assert f"{HUB_FILE} of maker/backbone" in str(e.value) and "convert" in str(e.value)


def test_damage_is_told(assets: Path, weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged or is not a safetensors file"):
        load_detector(weights, "cpu")
