"""Devices, precisions, and memory that runs out."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inctrl_core import Detector, InctrlError, devices, load_detector
from inctrl_core.devices import pick_device, pick_precision, run_in_batches
from inctrl_core.model.backbone import Backbone
from inctrl_core.model.clip import build_clip

GOLDEN = Path(__file__).parent / "golden"
QUERIES = [GOLDEN / f"query_{i}.png" for i in range(3)]
NORMALS = [GOLDEN / f"prompt_{i}.png" for i in range(4)]


def test_auto_takes_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"


@pytest.mark.parametrize("name", ["toaster", "cuda:7", "mps"])
def test_device_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InctrlError, match=name):
        pick_device(name)


@pytest.mark.parametrize("name", ["meta", "vulkan", "xla"])
def test_device_that_torch_knows_and_this_program_does_not(name: str) -> None:
    with pytest.raises(InctrlError, match=f"There is no device '{name}'"):
        pick_device(name)


def test_precision_is_float32_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.delenv("INCTRL_PRECISION", raising=False)
    assert pick_precision(None, cpu) == torch.float32
    monkeypatch.setenv("INCTRL_PRECISION", "bfloat16")
    assert pick_precision(None, cpu) == torch.bfloat16
    assert pick_precision("float32", cpu) == torch.float32
    with pytest.raises(InctrlError, match="no precision 'int3'"):
        pick_precision("int3", cpu)
    with pytest.raises(InctrlError, match="float16 is for GPUs"):
        pick_precision("float16", cpu)


@pytest.mark.parametrize(
    ("capability", "device", "expected"),
    [
        ("amx_bf16", "cpu", torch.bfloat16),
        ("avx512_bf16", "cpu", torch.bfloat16),
        ("avx512_f", "cpu", torch.float32),
        ("amx_bf16", "cuda", torch.float32),
    ],
)
def test_auto_precision_follows_the_hardware(
    capability: str, device: str, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True})
    assert pick_precision("auto", torch.device(device)) == expected


def test_results_follow_the_device_of_the_backbone(golden_detector: Detector) -> None:
    config = golden_detector.config.backbone
    backbone = Backbone(build_clip(config), config, device="meta")
    features = backbone.encode_images(torch.zeros(2, 3, 240, 240))
    assert features.embeddings.device.type == "meta"
    assert [depth.device.type for depth in features.patches] == ["meta"] * len(config.depths)
    assert backbone.encode_text(["a photo of a nut", "a nut"]).device.type == "meta"


def test_bank_follows_the_detector_and_may_leave_the_process(golden_detector: Detector) -> None:
    bank = golden_detector.build_bank(NORMALS[:2], "candle")
    assert bank.to("cpu") is bank
    far = bank.to("meta")
    tensors = [far.pairwise, *far.features.patches, far.features.embeddings, far.text.normal]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    again = pickle.loads(pickle.dumps(bank.to("cpu")))
    first = golden_detector.score(QUERIES[:1], bank)[0]
    assert golden_detector.score(QUERIES[:1], again)[0].fused == first.fused


def test_detector_fetches_a_bank_from_another_device(
    golden_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = golden_detector.build_bank(NORMALS[:2], "candle")
    asked = []
    moved = type(bank).to
    monkeypatch.setattr(
        type(bank), "to", lambda self, device: asked.append(device) or moved(self, device)
    )
    golden_detector.score(QUERIES[:1], bank)
    golden_detector.score_normal(0, bank)
    assert asked == [torch.device("cpu")] * 2


class SmallMemory:
    """Computes at most ``limit`` inputs at a time, as a GPU does whose memory is short."""

    def __init__(self, limit: int) -> None:
        self.limit, self.sizes = limit, []

    def __call__(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        if len(inputs) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inputs * 2


@pytest.mark.parametrize("limit", [1, 3, 4, 16])
def test_batches_shrink_until_they_fit(limit: int) -> None:
    inputs, function = torch.arange(37), SmallMemory(limit)
    assert torch.equal(torch.cat(run_in_batches(function, inputs, 16)), inputs * 2)
    assert sum(size > limit for size in function.sizes) <= 4  # It does not grow back.


def test_memory_for_not_even_one() -> None:
    with pytest.raises(InctrlError, match="too little memory for one image"):
        run_in_batches(SmallMemory(0), torch.arange(3), 16)


def test_memory_for_not_even_the_model(golden_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", refuse)
    with pytest.raises(InctrlError, match="does not fit into the memory of cpu"):
        load_detector(golden_model, "cpu")


def test_a_model_moves_as_a_whole(golden_model: Path) -> None:
    detector = load_detector(golden_model, "cpu")
    bank = detector.build_bank(NORMALS[:2], "candle")
    first = detector.score(QUERIES[:1], bank)[0]
    again = detector.to("cpu")
    assert again.score(QUERIES[:1], bank)[0].fused == first.fused
    narrow = again.to("cpu", torch.bfloat16)
    close = narrow.score(QUERIES[:1], narrow.build_bank(NORMALS[:2], "candle"))[0]
    assert close.fused != first.fused == pytest.approx(close.fused, abs=0.05)
    far = again.to("meta")
    features = far.backbone.encode_images(torch.zeros(2, 3, 240, 240))
    tensors = [features.embeddings, *features.patches, far.backbone.encode_text(["a nut"])]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert {weight.device.type for weight in far.heads.parameters()} <= {"meta"}


def test_scores_do_not_depend_on_the_batch(golden_detector: Detector) -> None:
    bank = golden_detector.build_bank(NORMALS, "candle")
    images = (QUERIES + NORMALS) * 3  # 21: more than a batch.
    together = golden_detector.score(images, bank)
    for image, score in zip(images[:7], together[:7], strict=True):
        alone = golden_detector.score([image], bank)[0]
        assert alone.fused == pytest.approx(score.fused, abs=1e-6)
        assert (alone.layer_maps == score.layer_maps).all()  # On the CPU, bit for bit.
        assert (alone.nearest == score.nearest).all()
    for first, later in zip(together[:7], together[14:], strict=True):
        assert later.fused == pytest.approx(first.fused, abs=1e-6)


@pytest.mark.skipif(not devices.cpu_multiplies_bfloat16(), reason="no bfloat16 in this CPU")
def test_bfloat16_stays_close(golden_model: Path, golden_detector: Detector) -> None:
    narrow = load_detector(golden_model, "cpu", precision="bfloat16")
    exact = golden_detector.score(QUERIES, golden_detector.build_bank(NORMALS, "candle"))
    close = narrow.score(QUERIES, narrow.build_bank(NORMALS, "candle"))
    for one, other in zip(exact, close, strict=True):
        assert other.fused == pytest.approx(one.fused, abs=0.01)
    assert any(one.fused != other.fused for one, other in zip(exact, close, strict=True))


def test_weights_left_out_are_all_filled(golden_detector: Detector, golden_model: Path) -> None:
    for name, value in golden_detector.backbone.clip.state_dict().items():
        assert torch.isfinite(value).all(), name
    again = load_detector(golden_model, "cpu").backbone.clip.state_dict()
    for name, value in golden_detector.backbone.clip.state_dict().items():
        assert torch.equal(value, again[name]), name
