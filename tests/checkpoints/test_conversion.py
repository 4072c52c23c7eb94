"""Reference checkpoints in every width, and everything that is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from inctrl_core import ModelError
from inctrl_core.__main__ import main
from inctrl_core.checkpoints.conversion import convert_checkpoint, read_checkpoint, split_checkpoint


@pytest.fixture
def state(golden_checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(golden_checkpoint, weights_only=True)


def saved(state: object, tmp_path: Path) -> Path:
    path = tmp_path / "edited.pyth"
    torch.save(state, path)
    return path


def test_the_command_converts_with_an_architecture_file(
    golden: dict, golden_checkpoint: Path, tmp_path: Path
) -> None:
    architecture = tmp_path / "architecture.json"
    architecture.write_text(json.dumps(golden["architecture"]))
    out = tmp_path / "out"
    command = ["convert", str(golden_checkpoint), str(out), "--backbone", str(architecture)]
    assert main(command) == 0
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_width_is_read(
    state: dict, dtype: torch.dtype, golden: dict, golden_model: Path, tmp_path: Path
) -> None:
    wide = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    convert_checkpoint(saved(wide, tmp_path), golden["architecture"], tmp_path / "out")
    from inctrl_core.checkpoints.weights import load_model

    clip = load_model(tmp_path / "out").clip
    assert clip.text_projection.dtype == torch.float32
    reference = load_model(golden_model).clip
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(
        clip.text_projection, reference.text_projection, rtol=tolerance, atol=tolerance
    )


def test_prefix_of_a_parallel_run_and_wrapper(state: dict, tmp_path: Path) -> None:
    wrapped = {"model_state": {f"module.{key}": value for key, value in state.items()}}
    assert read_checkpoint(saved(wrapped, tmp_path)).keys() == state.keys()


def test_only_the_documented_keys_are_dropped(state: dict) -> None:
    backbone, heads = split_checkpoint(state)
    dropped = {key for key in state if ".bn1." in key}
    assert dropped and len(backbone) + len(heads) == len(state) - len(dropped)


@pytest.mark.parametrize("extra", ["surprise.weight", "diff_head.bn9.weight", "adapter.fc.1.bias"])
def test_unexpected_key_is_named(state: dict, extra: str, golden: dict, tmp_path: Path) -> None:
    path = saved(state | {extra: torch.zeros(1)}, tmp_path)
    with pytest.raises(ModelError, match=extra.replace(".", r"\.")):
        convert_checkpoint(path, golden["architecture"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        ("visual.proj", r"visual\.proj"),
        ("adapter.fc.0.weight", "adapter"),
        ("diff_head.bn2.weight", r"map_head|diff_head"),
    ],
)
def test_missing_key_is_named(
    state: dict, gone: str, named: str, golden: dict, tmp_path: Path
) -> None:
    del state[gone]
    with pytest.raises(ModelError, match=named):
        convert_checkpoint(saved(state, tmp_path), golden["architecture"], tmp_path / "out")


def test_too_few_layers(golden: dict, golden_checkpoint: Path, tmp_path: Path) -> None:
    architecture = json.loads(json.dumps(golden["architecture"]))
    architecture["vision_cfg"]["layers"] = 6
    with pytest.raises(ModelError, match="6 layers"):
        convert_checkpoint(golden_checkpoint, architecture, tmp_path / "out")


class Malice:
    """Runs code when a careless loader reads it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def test_a_checkpoint_that_runs_code_is_refused_and_does_not(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    for path, write in (
        (tmp_path / "zip.pyth", torch.save),
        (tmp_path / "bare.pyth", lambda obj, path: path.write_bytes(pickle.dumps(obj))),
    ):
        write({"weight": Malice(target)}, path)
        with pytest.raises(ModelError, match=r"\.pyth"):
            read_checkpoint(path)
    assert not target.exists()


def test_damaged_missing_and_empty_files(tmp_path: Path) -> None:
    path = tmp_path / "bad.pyth"
    with pytest.raises(ModelError, match="does not exist"):
        read_checkpoint(path)
    for data in (b"", b"hello", b"PK\x03\x04broken"):
        path.write_bytes(data)
        with pytest.raises(ModelError, match="bad.pyth"):
            read_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="no state dict"):
        read_checkpoint(path)
