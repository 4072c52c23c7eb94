"""Model files by other people's hands: what they must not say, and what is said of it."""

from __future__ import annotations

import doctest
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inctrl_core import ModelError, config, load_detector
from inctrl_core.checkpoints import tensor_files
from inctrl_core.checkpoints.conversion import (
    convert_checkpoint,
    find_architecture,
    read_architecture,
)
from inctrl_core.checkpoints.loading import find_model
from inctrl_core.checkpoints.model_card import render_model_card
from inctrl_core.checkpoints.weights import load_model
from inctrl_core.config import BackboneConfig, HeadsConfig, ModelConfig, read_config
from inctrl_core.model.backbone import Backbone
from inctrl_core.model.clip import build_clip

ROOT = Path(__file__).resolve().parents[2]


def test_examples_in_the_documentation() -> None:
    result = doctest.testmod(config)
    assert result.attempted > 0 and result.failed == 0


@pytest.fixture
def model(golden_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(golden_model, tmp_path / "model"))


def edit_config(model: Path, change: Callable[[dict], object]) -> None:
    path = model / "config.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def refused(words: str, task: Callable, *arguments: object) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        task(*arguments)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def vision(**fields: object) -> Callable[[dict], object]:
    return lambda data: data["backbone"]["architecture"]["vision_cfg"].update(fields)


def text(**fields: object) -> Callable[[dict], object]:
    return lambda data: data["backbone"]["architecture"]["text_cfg"].update(fields)


def backbone(**fields: object) -> Callable[[dict], object]:
    return lambda data: data["backbone"].update(fields)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (vision(timm_model_name="hf-hub:someone/model"), "timm_model_name"),
        (vision(timm_model_name="local-dir:model"), "timm_model_name"),
        (vision(timm_model_name="someone/model"), "timm_model_name"),
        (vision(timm_model_name=["resnet18"]), "timm_model_name"),
        (vision(timm_model_name="resnet18", timm_model_pretrained=True), "timm_model_pretrained"),
        (text(hf_model_name="someone/model"), "hf_model_name"),
        (text(hf_tokenizer_name="someone/model"), "hf_tokenizer_name"),
        (text(hf_model_pretrained=True), "hf_model_pretrained"),
    ],
)
def test_an_architecture_that_fetches_something_else_is_refused(
    model: Path, change: Callable, words: str
) -> None:
    edit_config(model, change)
    refused(words, read_config, model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (backbone(depths=[-2, 1]), "depths.0.*greater than or equal to 0"),
        (backbone(hub_repo="someone/model", hub_file=None), "hub_file must name a file"),
        (backbone(hub_repo=0), "hub_repo.*valid string"),
        (text(vocab_size=1000), "vocab_size must be at least 49408"),
        (backbone(architecture={"embed_dim": 1, "vision_cfg": None, "text_cfg": {}}), "vision_cfg"),
        (lambda data: data["heads"].update(training_free={"text": "1"}), "training_free"),
        (lambda data: data["heads"].update(training_free={"text": None}), "training_free"),
        (lambda data: data["heads"].update(training_free={"text": 10**400}), "training_free"),
        (lambda data: data["preprocess"].update(mean=[10**400, 1, 1]), "mean.0.*finite number"),
        (lambda data: data["preprocess"].update(std=[float("nan"), 1, 1]), "std.0.*finite number"),
    ],
)
def test_values_that_are_none_are_named(model: Path, change: Callable, words: str) -> None:
    edit_config(model, change)
    refused(words, read_config, model)


def test_lists_in_lists_without_end(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("[" * 100_000)
    refused("not valid JSON", read_config, tmp_path)
    refused("not valid JSON", read_architecture, path)


def test_the_embedded_models_are_read() -> None:
    for path in (ROOT / "assets").glob("*/config.json"):
        assert read_config(path.parent).name == path.parent.name


def towers(image: object, words: object) -> dict:
    return {"embed_dim": 64, "vision_cfg": image, "text_cfg": words}


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        (5, "needs embed_dim"),
        ([], "needs embed_dim"),
        ({"model_cfg": None}, "needs embed_dim"),
        ({"model_cfg": 5}, "needs embed_dim"),
        (towers(None, {}), "vision_cfg must be an object"),
        (towers({}, []), "text_cfg must be an object"),
        (towers({"patch_size": 0}, {}), "patch_size must be a whole number"),
        (towers({"image_size": [240, 240]}, {}), "image_size must be a whole number"),
        (towers({"image_size": 1024, "patch_size": 1}, {}), "grid.*less than or equal to 64"),
        (towers({}, {"hf_model_name": "someone/model"}), "hf_model_name"),
    ],
)
def test_an_architecture_file_that_is_none(
    architecture: object, words: str, golden_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "architecture.json"
    path.write_text(json.dumps(architecture))
    out = tmp_path / "out"
    refused(words, lambda: convert_checkpoint(golden_checkpoint, find_architecture(str(path)), out))
    assert not out.exists()


def test_conversion_notes_the_size_that_the_backbone_reads(
    golden: dict, golden_checkpoint: Path, golden_model: Path, tmp_path: Path
) -> None:
    size = golden["architecture"]["vision_cfg"]["image_size"]
    assert read_config(golden_model).preprocess.image_size == size
    state = torch.load(golden_checkpoint, weights_only=True)
    architecture = json.loads(json.dumps(golden["architecture"]))
    tower = architecture["vision_cfg"]
    # The same grid, and with it the same heads, from patches of half the side.
    tower["image_size"], tower["patch_size"] = size // 2, tower["patch_size"] // 2
    state["visual.conv1.weight"] = state["visual.conv1.weight"][..., ::2, ::2]
    torch.save(state, tmp_path / "smaller.pyth")
    convert_checkpoint(tmp_path / "smaller.pyth", architecture, tmp_path / "smaller")
    detector = load_detector(tmp_path / "smaller", device="cpu")
    assert detector.config.preprocess.image_size == size // 2
    picture = Path(__file__).parents[1] / "golden" / "prompt_0.png"
    assert len(detector.encode([picture])) == 1


@pytest.mark.parametrize("key", ["heads.map_head.layers.0.weight", "backbone.visual.proj"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_named(model: Path, key: str, value: float) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors[key].view(-1)[3] = value
    save_file(tensors, model / "model.safetensors")
    refused(f"{key.partition('.')[2]} holds values that are not finite", load_model, model)


def test_an_adapter_that_is_not_a_number_is_named(tmp_path: Path) -> None:
    model = Path(shutil.copytree(ROOT / "assets" / "inctrl-lite", tmp_path / "model"))
    tensors = load_file(model / "model.safetensors")
    key = next(key for key in tensors if key.startswith("patch_adapter."))
    tensors[key].view(-1)[0] = float("nan")
    save_file(tensors, model / "model.safetensors")
    refused("not finite", load_model, model)


def test_a_depth_that_the_backbone_lacks(golden_model: Path, model: Path) -> None:
    layers = len(load_model(golden_model).clip.visual.transformer.resblocks)
    edit_config(model, lambda data: data["backbone"].update(depths=[1, layers]))
    refused(f"depths 0 to {layers - 1} and not {layers}", load_detector, model, "cpu")


def timm_backbone(depths: tuple[int, ...]) -> BackboneConfig:
    tower = {"timm_model_name": "test_efficientnet", "image_size": 64, "timm_proj": "none"}
    words = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
    architecture = {"embed_dim": 256, "vision_cfg": tower, "text_cfg": words}
    return BackboneConfig(architecture, depths, 4)


def test_a_depth_that_a_timm_tower_lacks() -> None:
    config = timm_backbone((1, 4))
    clip = build_clip(config)
    assert len(Backbone(clip, config).encode_images(torch.zeros(1, 3, 64, 64)).patches) == 2
    beyond = timm_backbone((1, 5))
    refused("depths 0 to 4 and not 5", Backbone, clip, beyond)
    # A tower that does not say how many it has is found out by the first image.
    del clip.visual.trunk.feature_info
    crops = torch.zeros(1, 3, 64, 64)
    refused("depths and sizes", Backbone(clip, beyond).encode_images, crops)


def test_a_model_card_claims_no_more_than_is_known() -> None:
    plain = BackboneConfig({"embed_dim": 1, "vision_cfg": {}, "text_cfg": {}}, (0,))
    untrained = render_model_card(ModelConfig("plain", plain), "someone/plain")
    assert "The heads were not trained." in untrained
    converted = ModelConfig("converted", plain, heads=HeadsConfig(form="reference"))
    card = render_model_card(converted, "someone/converted")
    assert card.endswith("## Training\n\nNot recorded.\n")


def test_weights_that_cannot_be_read(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, framework: str) -> None:
        raise FileNotFoundError(f"No such file or directory: {path}")  # As safetensors says it.

    monkeypatch.setattr(tensor_files, "safe_open", fail)
    refused("cannot be read", load_model, model)


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "nul\0"])
def test_a_name_that_no_file_can_have(name: str) -> None:
    refused("neither a model directory", find_model, name)
