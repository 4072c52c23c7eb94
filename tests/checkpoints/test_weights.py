"""Model directories are read strictly: everything wrong is one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inctrl_core import ModelError, load_detector
from inctrl_core.output import write_whole

WEIGHTS = "model.safetensors"
KEY = "heads.map_head.layers.0.weight"


@pytest.fixture
def model(golden_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(golden_model, tmp_path / "model"))


def edit_tensors(model: Path, change: Callable[[dict], object]) -> None:
    tensors = {key: value.clone() for key, value in load_file(model / WEIGHTS).items()}
    change(tensors)
    save_file(tensors, model / WEIGHTS)


def edit_config(model: Path, change: Callable[[dict], object]) -> None:
    path = model / "config.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def refused(model: Path, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        load_detector(model, device="cpu")
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_missing_key_is_named(model: Path) -> None:
    edit_tensors(model, lambda tensors: tensors.pop(KEY))
    refused(model, r"map_head\.layers\.0\.weight")


def test_unexpected_key_is_named(model: Path) -> None:
    edit_tensors(model, lambda tensors: tensors.update({"heads.extra": torch.zeros(1)}))
    refused(model, "extra")


def test_key_without_a_known_prefix_is_named(model: Path) -> None:
    edit_tensors(model, lambda tensors: tensors.update({"stray": torch.zeros(1)}))
    refused(model, "stray")


def test_wrong_shape_is_named(model: Path) -> None:
    edit_tensors(model, lambda tensors: tensors.update({KEY: torch.zeros(2, 3)}))
    refused(model, r"map_head\.layers\.0\.weight.*\[2, 3\].*\[128, 225\]")


def test_truncated_file(model: Path) -> None:
    data = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(data[: len(data) // 2])
    refused(model, "damaged")


def test_missing_weights(model: Path) -> None:
    (model / WEIGHTS).unlink()
    refused(model, "missing")


def test_unknown_format_version(model: Path) -> None:
    edit_config(model, lambda data: data.update(format_version=99))
    refused(model, "99")


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "{}"])
def test_configuration_that_is_none(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    refused(model, "config.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(surprise=1), "surprise"),
        (lambda data: data.pop("backbone"), "backbone"),
        (lambda data: data["backbone"].update(depths=[]), "depths"),
        (lambda data: data["backbone"].update(grid=0), "grid"),
        (lambda data: data["preprocess"].update(std=[0, 1, 1]), "std"),
        (lambda data: data["heads"].update(form="magic"), "form"),
        (lambda data: data["backbone"]["architecture"].pop("text_cfg"), "text_cfg"),
    ],
)
def test_wrong_fields_are_named(model: Path, change: Callable, words: str) -> None:
    edit_config(model, change)
    refused(model, words)


def test_a_name_that_is_nothing(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "nothing")


def test_a_written_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_whole(tmp_path / "model", lambda path: save_file({"a": torch.zeros(1)}, path))
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "plain").stat().st_mode
