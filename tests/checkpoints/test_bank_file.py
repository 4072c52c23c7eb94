"""Normals that are kept in a file: the same scores, and nothing believed of a damaged one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from inctrl_core import Detector, InctrlError, ModelError, PromptError, load_bank, save_bank
from inctrl_core.checkpoints.bank_file import FORMAT, read_normals
from inctrl_core.model.bank import PromptBank
from inctrl_core.model.prompts import build_prompts, extend_prompts

GOLDEN = Path(__file__).parents[1] / "golden"
NORMALS = [GOLDEN / f"prompt_{i}.png" for i in range(3)]
QUERY = GOLDEN / "prompt_3.png"


@pytest.fixture(scope="module")
def bank(golden_detector: Detector) -> PromptBank:
    return golden_detector.build_bank(NORMALS, "metal nut")


@pytest.fixture
def saved(tmp_path: Path, golden_detector: Detector, bank: PromptBank) -> Path:
    path = tmp_path / "normals.safetensors"
    save_bank(path, bank, golden_detector, ["a.png", "b.png", "c.png"], threshold=0.25)
    return path


def same_tensors(one: PromptBank, other: PromptBank) -> bool:
    pairs = [
        (one.features.embeddings, other.features.embeddings),
        *zip(one.features.patches, other.features.patches, strict=True),
        (one.pairwise, other.pairwise),
        (one.same, other.same),
        (one.text.normal_prototype, other.text.normal_prototype),
        (one.text.anomaly_prototype, other.text.anomaly_prototype),
    ]
    return all(torch.equal(*pair) for pair in pairs)


def test_scores_are_equal_bit_for_bit(saved, bank, golden_detector):
    kept = load_bank(saved, golden_detector)
    assert kept.names == ("a.png", "b.png", "c.png") and kept.threshold == 0.25
    assert same_tensors(kept.bank, bank)
    assert kept.bank.crop_boxes == bank.crop_boxes and kept.bank.object_name == "metal nut"
    before, after = (golden_detector.score([QUERY], each)[0] for each in (bank, kept.bank))
    assert after.fused == before.fused and after.text_anomaly == before.text_anomaly
    assert np.array_equal(after.patch_map, before.patch_map)
    assert np.array_equal(after.nearest, before.nearest)


def test_levels_and_own_phrases_are_kept(tmp_path, golden_detector):
    pixels = np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.uint16)
    bank = golden_detector.build_bank([Image.fromarray(pixels), QUERY], "x {} 'y'")
    assert bank.levels is not None
    save_bank(tmp_path / "kept.safetensors", bank, golden_detector)
    kept = load_bank(tmp_path / "kept.safetensors", golden_detector)
    assert kept.bank.levels == bank.levels and kept.names == ("normal 1", "normal 2")
    assert kept.bank.text.prompts == bank.text.prompts and same_tensors(kept.bank, bank)


def test_what_was_looked_for_is_kept(tmp_path, golden_detector, bank):
    save_bank(tmp_path / "kept.safetensors", bank.with_looks_for("kind"), golden_detector)
    assert load_bank(tmp_path / "kept.safetensors", golden_detector).bank.looks_for == "kind"


def test_another_model_refuses_it(saved, gated_detector):
    with pytest.raises(ModelError, match="with other weights"):
        load_bank(saved, gated_detector)


def test_there_is_a_name_for_each_normal(tmp_path, golden_detector, bank):
    with pytest.raises(PromptError, match="2 names for 3"):
        save_bank(tmp_path / "kept.safetensors", bank, golden_detector, ["a", "b"])
    assert not list(tmp_path.iterdir())


def test_what_is_no_such_file_is_refused(tmp_path, golden_model, golden_detector):
    with pytest.raises(ModelError, match="holds no normals"):
        load_bank(golden_model / "model.safetensors", golden_detector)
    for name, data in (("empty", b""), ("pickle", b"\x80\x04N."), ("text", b"{}" * 99)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InctrlError):
            load_bank(tmp_path / name, golden_detector)
    with pytest.raises(ModelError):
        load_bank(tmp_path / "absent", golden_detector)
    with pytest.raises(ModelError):
        load_bank(tmp_path, golden_detector)


def test_a_file_cut_short_is_refused(saved, golden_detector):
    data = saved.read_bytes()
    for length in range(0, len(data), len(data) // 23):
        saved.write_bytes(data[:length])
        with pytest.raises(InctrlError):
            load_bank(saved, golden_detector)


def not_finite(tensors, told):
    tensors["patches.0"][0, 0, 0] = float("nan")


def other_shape(tensors, told):
    tensors["embeddings"] = tensors["embeddings"][:, :-1].clone()


def one_more(tensors, told):
    tensors["more"] = torch.zeros(1)


def half(tensors, told):
    tensors["embeddings"] = tensors["embeddings"].half()


def eight_bits(tensors, told):
    tensors["embeddings"] = tensors["embeddings"].to(torch.float8_e4m3fn)


def no_phrases(tensors, told):
    told["prompts"]["normal"] = []
    tensors["text.normal"] = tensors["text.normal"][:0].clone()


def no_normals(tensors, told):
    told["names"], told["crop_boxes"] = [], []
    for key in [key for key in tensors if not key.startswith("text")]:
        tensors[key] = tensors[key][:0].clone()


def beyond_floats(value):
    return lambda tensors, told: told.update(value(10**400))


CHANGES = [
    not_finite,
    lambda tensors, told: tensors["patches.0"][0, 0].mul_(1e30),
    lambda tensors, told: tensors["embeddings"][1].zero_(),
    lambda tensors, told: tensors["text.normal"].mul_(1.01),
    lambda tensors, told: tensors.update({"defect.0.0": torch.tensor(1.0)}),
    beyond_floats(lambda huge: {"threshold": huge}),
    beyond_floats(lambda huge: {"crop_boxes": [[0, 0, huge, 1]] * 3}),
    beyond_floats(lambda huge: {"levels": {"white": huge, "peak": 1, "mean": 1, "declared": True}}),
    lambda tensors, told: told.update(threshold=1.5),
    lambda tensors, told: told.update(threshold=-0.5),
    lambda tensors, told: told.update(crop_boxes=[[0, 0, 0, 1]] * 3),
    lambda tensors, told: told.update(crop_boxes=[[0, 9, 1, 1]] * 3),
    other_shape,
    one_more,
    half,
    eight_bits,
    no_phrases,
    no_normals,
    lambda tensors, told: tensors.pop("patches.1"),
    lambda tensors, told: told.pop("levels"),
    lambda tensors, told: told.update(names=["a", "b"]),
    lambda tensors, told: told.update(names=[1, 2, 3]),
    lambda tensors, told: told.update(names=["x" * 300] * 3),
    lambda tensors, told: told.update(object_name=7),
    lambda tensors, told: told.update(object_name="x" * 999),
    lambda tensors, told: told.update(prompts=[]),
    lambda tensors, told: told.update(crop_boxes=[[0, 0, 1]] * 3),
    lambda tensors, told: told.update(crop_boxes=[[0, 0, 1, float("inf")]] * 3),
    lambda tensors, told: told.update(crop_boxes=[[float("-inf"), 0, 1, 1]] * 3),
    lambda tensors, told: told.update(threshold="x"),
    lambda tensors, told: told.update(threshold=float("nan")),
    lambda tensors, told: told.update(levels={"white": 0, "peak": 1, "mean": 1}),
    lambda tensors, told: told.update(levels={"black": 0}),
    lambda tensors, told: told.update(levels=[1]),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_refused(saved, golden_detector, change):
    tensors = load_file(saved)
    with safe_open(saved, framework="pt") as file:
        told = json.loads(file.metadata()["bank"])
    change(tensors, told)
    save_file(tensors, saved, metadata={"format": FORMAT, "bank": json.dumps(told)})
    with pytest.raises(ModelError, match="is damaged; save the normals again"):
        load_bank(saved, golden_detector)


@pytest.mark.parametrize("header", ["", "[]", "7", "null", "[" * 100_000, '{"weights": 1}'])
def test_a_header_of_another_kind_is_refused(saved, golden_detector, header):
    save_file(load_file(saved), saved, metadata={"format": FORMAT, "bank": header})
    with pytest.raises(ModelError):
        load_bank(saved, golden_detector)


def test_images_are_kept_where_they_are_given(tmp_path, golden_detector, bank):
    path, files = tmp_path / "kept.safetensors", [path.read_bytes() for path in NORMALS]
    names = ["a.png", "b.png", "c.png"]
    save_bank(path, bank.with_looks_for("kind"), golden_detector, names, 0.25, files)
    assert same_tensors(load_bank(path, golden_detector).bank, bank)
    saved = read_normals(path)
    assert (saved.images, saved.names) == (tuple(files), tuple(names))
    assert (saved.object_name, saved.looks_for, saved.threshold) == ("metal nut", "kind", 0.25)
    assert saved.phrases == ((), ())


def test_phrases_of_ones_own_come_back(tmp_path, golden_detector, bank):
    phrases = ("a shiny nut", "new"), ("a rusty nut",)
    prompts = extend_prompts(build_prompts("metal nut"), *phrases)
    spoken = bank.with_text("metal nut", golden_detector.encode_prompts(prompts))
    files = [path.read_bytes() for path in NORMALS]
    save_bank(tmp_path / "kept.safetensors", spoken, golden_detector, images=files)
    assert read_normals(tmp_path / "kept.safetensors").phrases == phrases


def test_a_file_without_images_says_so(saved):
    with pytest.raises(ModelError, match="not their images"):
        read_normals(saved)


def test_there_is_an_image_for_each_normal(tmp_path, golden_detector, bank):
    with pytest.raises(PromptError, match="2 files for 3"):
        save_bank(tmp_path / "x.safetensors", bank, golden_detector, images=[b"a", b"b"])


@pytest.mark.parametrize("change", ["fewer", "numbers", "square", "other", "pickle", "text"])
def test_damaged_images_are_refused(tmp_path, golden_detector, bank, change):
    path = tmp_path / "kept.safetensors"
    save_bank(path, bank, golden_detector, images=[path.read_bytes() for path in NORMALS])
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    if change == "fewer":
        del tensors["image.1"]
    elif change == "numbers":
        tensors["image.1"] = tensors["image.1"].float()
    elif change == "square":
        tensors["image.1"] = tensors["image.1"][:4].reshape(2, 2).clone()
    elif change == "other":
        tensors["image.3"] = tensors["image.1"].clone()
    save_file(tensors, path, metadata=header)
    if change == "pickle":
        torch.save({"a": torch.zeros(1)}, path)
    elif change == "text":
        path.write_text("normals")
    with pytest.raises(ModelError, match="damaged|pickle"):
        read_normals(path)
