"""Fixtures that several test modules share."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from inctrl_core import Detector, load_detector
from inctrl_core.calibrated import BankStatistics, CalibratedHeads, query_statistics
from inctrl_core.config import HeadsConfig
from inctrl_core.conversion import convert_checkpoint
from inctrl_core.residuals import layer_residuals

GOLDEN = Path(__file__).parent / "golden"


def pytest_configure() -> None:
    """Gives each of several test processes one thread: more would stand in each other's way."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


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
def calibrated_detector(golden_detector: Detector) -> Detector:
    """The golden backbone under heads of the calibrated form, fitted to the golden images.

    The networks keep their random weights, so that no two numbers agree by chance.
    """
    torch.manual_seed(0)
    heads = CalibratedHeads(len(golden_detector.config.backbone.depths)).eval()
    full = golden_detector.build_bank([GOLDEN / f"prompt_{i}.png" for i in range(4)], "brick")
    images = golden_detector.encode([GOLDEN / f"query_{i}.png" for i in range(3)]).features
    fitted = []
    for kept in ([0], [1], [2], [0, 1, 2], [1, 2, 3], [0, 2, 3]):
        bank = full.subset(kept)
        maps, _ = layer_residuals(images.patches, bank.features.patches)
        queries, among = query_statistics(golden_detector.evidence(maps, images.embeddings, bank))
        fitted.append(BankStatistics(queries, None if among is None else among[0]))
    heads.population.fit(fitted)
    config = dataclasses.replace(golden_detector.config, heads=HeadsConfig("calibrated"))
    return Detector(config, golden_detector.backbone, heads.requires_grad_(False))
