"""Fixtures that several test modules share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from inctrl_core import Detector, load_detector
from inctrl_core.conversion import convert_checkpoint

GOLDEN = Path(__file__).parent / "golden"


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
