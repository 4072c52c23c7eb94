"""Model directories and checkpoints after damage: they load as they were, or give one sentence."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inctrl_core import ModelError, load_detector
from inctrl_core.checkpoints.conversion import read_checkpoint
from inctrl_core.checkpoints.tensor_files import read_tensors
from inctrl_core.checkpoints.weights import WEIGHTS_FILE, add_prefix, save_model
from inctrl_core.config import (
    BackboneConfig,
    ModelConfig,
    PreprocessConfig,
    config_from_dict,
    read_config,
)
from inctrl_core.model import clip
from inctrl_core.model.clip import build_clip
from tests.adversarial.conftest import FileWatch

Sentence = Callable[[object], str]

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
ARCHITECTURE = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}

# Small numbers besides the kinds that do not belong: huge ones are tried one by one below.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 40),
    st.floats(),
    st.text(max_size=9),
    st.lists(st.integers(-2, 9), max_size=4),
    st.dictionaries(st.text(max_size=9), st.integers(-2, 9), max_size=3),
)


@pytest.fixture(scope="session")
def tiny(scratch: Path) -> Path:
    """A small model with random weights."""
    directory = scratch / "tiny"
    described = BackboneConfig(ARCHITECTURE, (0, 1), 4)
    torch.manual_seed(0)
    tensors = add_prefix(build_clip(described).state_dict(), "backbone.")
    save_model(directory, ModelConfig("tiny", described, PreprocessConfig(32)), tensors)
    return directory


def places(node: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where something stands in a JSON document."""
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in children:
        yield (*path, key)
        if isinstance(child, dict | list):
            yield from places(child, (*path, key))


def changed(document: Any, place: tuple, change: Callable[[Any, Any], None]) -> Any:
    copy = json.loads(json.dumps(document))
    node = copy
    for key in place[:-1]:
        node = node[key]
    change(node, place[-1])
    return copy


def loads(directory: Path, one_sentence: Sentence) -> bool:
    try:
        load_detector(directory, device="cpu")
    except ModelError as error:
        one_sentence(error)
        return False
    return True


@settings(deadline=None, max_examples=400, derandomize=True)
@given(st.data())
def test_any_value_in_a_configuration(one_sentence: Sentence, tiny: Path, data) -> None:
    document = json.loads((tiny / "config.json").read_text())
    place = data.draw(st.sampled_from(list(places(document))))
    value = data.draw(VALUES)

    def replace(node: Any, key: Any) -> None:
        node[key] = value

    try:
        config_from_dict(changed(document, place, replace))
    except ModelError as error:
        one_sentence(error)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.recursive(VALUES, lambda inner: st.dictionaries(st.text(max_size=9), inner)))
def test_any_document(one_sentence: Sentence, document: Any) -> None:
    with pytest.raises(ModelError) as caught:
        config_from_dict(document)
    one_sentence(caught.value)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data())
def test_any_value_in_an_architecture(one_sentence: Sentence, tiny: Path, scratch: Path, data):
    document = json.loads((tiny / "config.json").read_text())
    inside = [p for p in places(document) if p[0] in ("backbone", "preprocess", "heads")]
    place, value = data.draw(st.sampled_from(inside)), data.draw(VALUES)

    def replace(node: Any, key: Any) -> None:
        node[key] = value

    check_changed(one_sentence, tiny, scratch, changed(document, place, replace))


@pytest.mark.parametrize("key", ["embed_dim", "width", "layers", "vocab_size", "image_size"])
@pytest.mark.parametrize("value", [10**5 + 7, 10**9, 10**30])
def test_a_huge_architecture(
    one_sentence: Sentence, tiny: Path, scratch: Path, key: str, value: int
) -> None:
    document = json.loads((tiny / "config.json").read_text())
    for place in [p for p in places(document) if p[-1] == key]:

        def replace(node: Any, key: Any) -> None:
            node[key] = value

        assert not check_changed(one_sentence, tiny, scratch, changed(document, place, replace))


def recording(made: list[int]) -> type:
    """The bound itself, which also writes down the size of every tensor that was made."""

    class Recording(clip._Bounded):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = super().__torch_function__(func, types, args, kwargs)
            if func in self._FACTORIES:
                made.append(result.numel())
            return result

    return Recording


@pytest.mark.parametrize("tower", ["vision_cfg", "text_cfg"])
def test_a_large_architecture_is_not_built_for_a_small_file(
    one_sentence: Sentence, tiny: Path, tmp_path: Path, tower: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads((tiny / "config.json").read_text())
    # Each within the bounds of its own: 4.8 GB of weights.
    document["backbone"]["architecture"][tower] |= {"width": 2048, "layers": 24}
    (tmp_path / "config.json").write_text(json.dumps(document))
    (tmp_path / WEIGHTS_FILE).write_bytes((tiny / WEIGHTS_FILE).read_bytes())
    made: list[int] = []
    monkeypatch.setattr(clip, "_Bounded", recording(made))
    with pytest.raises(ModelError, match="asks for far more than the 8[0-9]+ values") as caught:
        load_detector(tmp_path, device="cpu")
    one_sentence(caught.value)
    assert sum(made) < clip.SPARE_VALUES + 2 * 10**6


def check_changed(one_sentence: Sentence, tiny: Path, scratch: Path, document: Any) -> bool:
    copy = scratch / "changed"
    copy.mkdir(exist_ok=True)
    (copy / "config.json").write_text(json.dumps(document))
    if not (copy / WEIGHTS_FILE).exists():
        (copy / WEIGHTS_FILE).write_bytes((tiny / WEIGHTS_FILE).read_bytes())
    return loads(copy, one_sentence)


def damaged(data: bytes, number: int, header: int) -> bytes:
    """Cut, flipped or overwritten, mostly in the first ``header`` bytes, where the structure is."""
    rng = random.Random(number)
    changed, end = bytearray(data), header if number % 3 else len(data)
    if number % 4 == 0:
        return data[: rng.randrange(end)]
    if number % 4 == 1:
        start = rng.randrange(end)
        return data[:start] + rng.randbytes(rng.randrange(1, 30)) + data[start:]
    for _ in range(rng.choice((1, 1, 4))):
        changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_damaged_weights_never_load(one_sentence: Sentence, tiny: Path, tmp_path: Path) -> None:
    data = (tiny / WEIGHTS_FILE).read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())
    for number in range(60):
        (tmp_path / WEIGHTS_FILE).write_bytes(damaged(data, number, header))
        assert not loads(tmp_path, one_sentence), number


def test_damaged_tensor_files(one_sentence: Sentence, tmp_path: Path, files: FileWatch) -> None:
    save_model(tmp_path, read_none(), {"a": torch.ones(3), "b.c": torch.zeros(2, 2).half()})
    path = tmp_path / WEIGHTS_FILE
    data = path.read_bytes()
    with files.allowing(tmp_path):
        for number in range(400):
            path.write_bytes(damaged(data, number, len(data)))
            try:
                read_tensors(path)
            except ModelError as error:
                one_sentence(error)


def test_damaged_checkpoints(one_sentence: Sentence, tmp_path: Path, files: FileWatch) -> None:
    path = tmp_path / "a.pyth"
    for legacy in (False, True):
        torch.save(
            {"model_state": {"a": torch.ones(3), "b": torch.zeros(2)}},
            path,
            _use_new_zipfile_serialization=not legacy,
        )
        data = path.read_bytes()
        with files.allowing(tmp_path):
            for number in range(300):
                path.write_bytes(damaged(data, number, len(data)))
                try:
                    read_checkpoint(path)
                except ModelError as error:
                    one_sentence(error)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
@pytest.mark.parametrize("name", ["config.json", WEIGHTS_FILE])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_a_device_is_not_read(
    one_sentence: Sentence, tiny: Path, tmp_path: Path, name: str, kind: str
) -> None:
    for other in ("config.json", WEIGHTS_FILE):
        (tmp_path / other).write_bytes((tiny / other).read_bytes())
    (tmp_path / name).unlink()
    if kind == "pipe":
        os.mkfifo(tmp_path / name)  # Without a writer, opening it would wait for ever.
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    assert not loads(tmp_path, one_sentence)
    if name == WEIGHTS_FILE:
        with pytest.raises(ModelError, match="is a pipe or a device; name a file"):
            read_checkpoint(tmp_path / name)


def test_a_file_of_a_size_that_none_has_is_not_read(
    one_sentence: Sentence, tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / WEIGHTS_FILE).write_bytes((tiny / WEIGHTS_FILE).read_bytes())
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(10**12)  # Of holes, which take no room.
    assert not loads(tmp_path, one_sentence)
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())
    with (tmp_path / WEIGHTS_FILE).open("r+b") as file:
        file.truncate(10**12)
    with pytest.raises(ModelError, match="has 931 GB, more than 32"):
        load_detector(tmp_path, device="cpu")


def test_long_values_are_cut_in_sentences(tiny: Path, tmp_path: Path) -> None:
    document = json.loads((tiny / "config.json").read_text())
    long = "x" * 10**5
    for changes in ({"format_version": long}, {long: 1}, {"heads": {long: 1}}):
        with pytest.raises(ModelError) as caught:
            config_from_dict(document | changes)
        assert len(str(caught.value)) < 500
    save_model(tmp_path, read_none(), {f"backbone.{long}{i}": torch.ones(1) for i in range(4)})
    for name in (tmp_path, long):
        with pytest.raises(ModelError) as caught:
            load_detector(name, device="cpu")
        assert len(str(caught.value)) < 1500


def read_none() -> ModelConfig:
    return ModelConfig("none", BackboneConfig(ARCHITECTURE, (0, 1), 4))


def test_the_tiny_model_scores(tiny: Path) -> None:
    detector = load_detector(tiny, device="cpu")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))
    assert 0 <= detector.score([image], detector.build_bank([image, image]))[0].fused <= 1
    assert read_config(tiny).weights_sha256
