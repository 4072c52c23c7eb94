"""Fixtures that several test modules share."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from inctrl_core import Detector, load_detector
from inctrl_core.checkpoints.conversion import convert_checkpoint
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.checkpoints.weights import add_prefix, save_model
from inctrl_core.config import BackboneConfig, HeadsConfig, ModelConfig, PreprocessConfig
from inctrl_core.model.clip import build_clip
from inctrl_core.model.gated import GatedHeads
from inctrl_core.model.residuals import layer_residuals
from inctrl_core.model.signals import BankSignals, read_signals

if TYPE_CHECKING:
    from gradio_client import Client

GOLDEN = Path(__file__).parent / "golden"


def pytest_configure(config: pytest.Config) -> None:
    """Keeps several test processes out of each other's way: their threads and their uploads."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
    uploads = tempfile.TemporaryDirectory(prefix="inctrl-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(uploads.cleanup)
    os.environ["GRADIO_TEMP_DIR"] = uploads.name


@pytest.fixture(scope="session")
def detector() -> Detector:
    """The embedded model, loaded on the CPU."""
    return load_detector(DEFAULT_MODEL, device="cpu")


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where the application listens, with the embedded model."""
    from tests.support.app_server import running_app  # Most tests need no Gradio: 3 seconds.

    with running_app() as url:
        yield url


@pytest.fixture(scope="session")
def client(address: str) -> Client:
    """A client of its API."""
    from gradio_client import Client

    return Client(address, verbose=False)


@pytest.fixture(scope="session")
def golden() -> dict:
    """The recorded cases of the reference implementation."""
    return json.loads((GOLDEN / "expected.json").read_text())


@pytest.fixture(scope="session")
def golden_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict as the reference saves it, in float32."""
    arrays = np.load(GOLDEN / "checkpoint.npz")
    state = {}
    for key in arrays.files:
        value = arrays[key]
        state[key] = torch.from_numpy(
            value.astype(np.float32) if value.dtype == np.float16 else value
        )
    path = tmp_path_factory.mktemp("golden") / "checkpoint.pyth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def golden_model(
    golden: dict, golden_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The checkpoint in our format."""
    out = tmp_path_factory.mktemp("models") / "golden"
    convert_checkpoint(golden_checkpoint, golden["architecture"], out)
    return out


@pytest.fixture(scope="session")
def golden_detector(golden_model: Path) -> Detector:
    """The converted checkpoint, loaded on the CPU."""
    return load_detector(golden_model, device="cpu")


@pytest.fixture(scope="session")
def gated_detector(golden_detector: Detector) -> Detector:
    """The golden backbone under heads of the gated form, fitted to the golden images.

    The gates keep random weights, so that no two numbers agree by chance.
    """
    torch.manual_seed(0)
    heads = GatedHeads(len(golden_detector.config.backbone.depths)).eval()
    full = golden_detector.build_bank([GOLDEN / f"prompt_{i}.png" for i in range(4)], "brick")
    images = golden_detector.encode([GOLDEN / f"query_{i}.png" for i in range(3)]).features
    fitted = []
    for kept in ([0], [1], [2], [0, 1, 2], [1, 2, 3], [0, 2, 3]):
        bank = full.subset(kept)
        maps, _ = layer_residuals(images.patches, bank.features.patches)
        queries, among = read_signals(golden_detector.evidence(maps, images.embeddings, bank))
        fitted.append(BankSignals(queries, None if among is None else among[0]))
    heads.population.fit(fitted)
    for gate in heads.gates.values():
        torch.nn.init.normal_(gate.turn)
        torch.nn.init.normal_(gate.ends)
    heads.scale.fill_(4.0)
    config = dataclasses.replace(golden_detector.config, heads=HeadsConfig("gated"))
    return Detector(config, golden_detector.backbone, heads.requires_grad_(False))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with a very small backbone of random weights."""
    directory = tmp_path_factory.mktemp("model")
    vision = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
    architecture = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    backbone = BackboneConfig(architecture, (0, 1, 2), 4)
    torch.manual_seed(0)
    tensors = add_prefix(build_clip(backbone).state_dict(), "backbone.")
    save_model(directory, ModelConfig("tiny", backbone, PreprocessConfig(32)), tensors)
    return directory


@pytest.fixture(scope="session")
def tiny_detector(tiny_model: Path) -> Detector:
    """The very small backbone, loaded on the CPU: for all that no real feature is needed for."""
    return load_detector(tiny_model, device="cpu")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small subsets in the MVTec layout."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for subset in ("nut", "cap", "lid"):
        base = rng.integers(60, 200, (32, 32, 3))
        for folder, count in (("train/good", 6), ("test/good", 4), ("test/hole", 5)):
            (root / subset / folder).mkdir(parents=True)
            for i in range(count):
                pixels = base + rng.integers(-20, 20, base.shape)
                if folder.endswith("hole"):
                    pixels[8:20, 8:20] = 0
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(root / subset / folder / f"{i}.png")
    return root
