"""Banks are immutable, bounded, and give smaller banks without encoding again."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from inctrl_core import Detector, ImageError, PromptBank, PromptError
from inctrl_core.model.prompts import PromptSet, build_prompts

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def bank(golden_detector: Detector) -> PromptBank:
    return golden_detector.build_bank([GOLDEN / f"prompt_{i}.png" for i in range(3)], "cat")


def test_subset_equals_a_bank_built_from_it(golden_detector: Detector, bank: PromptBank) -> None:
    built = golden_detector.build_bank([GOLDEN / "prompt_2.png", GOLDEN / "prompt_0.png"], "cat")
    part = bank.subset([2, 0])
    assert part.shots == 2 and part.crop_boxes == built.crop_boxes
    torch.testing.assert_close(part.pairwise, built.pairwise, rtol=0, atol=1e-6)
    for ours, theirs in zip(part.features.patches, built.features.patches, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_without_one(bank: PromptBank) -> None:
    assert bank.without(1).crop_boxes == (bank.crop_boxes[0], bank.crop_boxes[2])
    assert bank.shots == 3


def test_normals_join_as_if_they_had_been_there_from_the_start(
    golden_detector: Detector, bank: PromptBank
) -> None:
    other = golden_detector.encode([GOLDEN / "query_0.png"])
    larger = bank.subset([0, 1]).with_normals(other.features, other.crop_boxes)
    paths = [GOLDEN / "prompt_0.png", GOLDEN / "prompt_1.png", GOLDEN / "query_0.png"]
    whole = golden_detector.build_bank(paths, "cat")
    assert larger.shots == 3 and larger.crop_boxes == whole.crop_boxes
    assert torch.allclose(larger.pairwise, whole.pairwise, atol=1e-6)
    with pytest.raises(PromptError, match="use at most 16"):
        many = bank.subset([0] * 16)
        many.with_normals(other.features, other.crop_boxes)


def test_a_single_normal_has_no_leave_one_out(bank: PromptBank) -> None:
    single = bank.subset([0])
    assert single.normal_layer_maps is None
    assert bank.normal_layer_maps.shape == (3, 3, 225)
    with pytest.raises(PromptError, match="at least one"):
        single.without(0)


def test_text_can_be_exchanged_alone(golden_detector: Detector, bank: PromptBank) -> None:
    text = golden_detector.encode_prompts(build_prompts("brick"))
    other = bank.with_text("brick", text)
    assert other.features is bank.features and other.text is text
    assert bank.object_name == "cat" and len(bank.text.prompts.normal) == 1


def test_bank_cannot_be_changed(bank: PromptBank) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        bank.object_name = "dog"


@pytest.mark.parametrize("count", [0, 17])
def test_limits(golden_detector: Detector, count: int) -> None:
    with pytest.raises(PromptError):
        golden_detector.build_bank([GOLDEN / "prompt_0.png"] * count, "cat")


def test_text_is_encoded_once(golden_detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    golden_detector.encode_prompts(build_prompts("some new thing"))

    def fail(_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(golden_detector.backbone, "encode_text", fail)
    golden_detector.build_bank([GOLDEN / "prompt_0.png"], "some_new thing")


@pytest.mark.parametrize(
    "prompts", [PromptSet((), ("a scratch",)), PromptSet(("a nut",), ()), PromptSet((), ())]
)
def test_both_groups_need_a_phrase(golden_detector: Detector, prompts: PromptSet) -> None:
    with pytest.raises(PromptError, match="at least one phrase"):
        golden_detector.encode_prompts(prompts)
    with pytest.raises(PromptError, match="at least one phrase"):
        golden_detector.build_bank([GOLDEN / "prompt_0.png"], "nut", prompts)


@pytest.mark.parametrize("kind", ["text", "path", "bytes", "file", "image"])
def test_an_image_alone_is_no_list(golden_detector: Detector, bank: PromptBank, kind: str) -> None:
    path = GOLDEN / "prompt_0.png"
    alone = {
        "text": str(path),
        "path": path,
        "bytes": path.read_bytes(),
        "file": io.BytesIO(path.read_bytes()),
        "image": Image.open(path),
    }[kind]
    with pytest.raises(ImageError, match="Give a list of images"):
        golden_detector.build_bank(alone, "cat")
    with pytest.raises(ImageError, match="Give a list of images"):
        golden_detector.score(alone, bank)
    with pytest.raises(ImageError, match="Give a list of images"):
        golden_detector.encode(alone)


def test_a_bank_of_another_model_is_refused(detector: Detector, bank: PromptBank) -> None:
    with pytest.raises(PromptError, match="made by another model"):
        detector.score([Image.new("RGB", (40, 40))], bank)
