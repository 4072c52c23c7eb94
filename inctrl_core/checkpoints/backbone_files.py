"""Weights of a backbone that were fetched by hand: which model they are of, and where they belong.

Where the Hub cannot be reached, its file may come by other means: beside the ``config.json`` of the
model that names it, or anywhere, named as the model itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from ..config import BackboneConfig, ModelConfig, read_config
from ..errors import ModelError
from ..model.clip import build_clip
from .hub import PICKLE_SUFFIXES
from .tensor_files import TensorFile

SUFFIX = ".safetensors"
# Trained with the backbone but used by nothing here: the text signal has its own fixed scale.
UNUSED_BACKBONE_KEYS = frozenset({"logit_scale", "logit_bias"})

_OWN_PREFIXES = ("backbone.", "heads.", "patch_adapter.")
_TRANSFORMERS_PREFIXES = ("vision_model.", "text_model.")


def names_weights(name: str | Path) -> bool:
    """Whether a model is named by a file of weights rather than a directory or repository."""
    return str(name).endswith((SUFFIX, *PICKLE_SUFFIXES))


def file_beside(directory: Path, config: BackboneConfig) -> Path | None:
    """The backbone's file in a model directory that names one of the Hub's; None without one."""
    if config.hub_repo is None:
        return None
    path = directory / Path(config.hub_file).name
    return path if path.is_file() else None


def find_owner(path: Path, directories: Iterable[Path]) -> Path:
    """The model directory whose backbone a file holds, as names and shapes of its tensors tell.

    Args:
        path: A file of weights under open_clip's names.
        directories: Directories of the models at hand.

    Raises:
        ModelError: The file does not exist, is a pickle, is damaged, or fits none of them.
    """
    if not path.is_file():
        raise ModelError(f"{path} does not exist; check the path.")
    known = {directory: read_config(directory) for directory in directories}
    known = {place: config for place, config in known.items() if config.backbone.hub_repo}
    files = ", ".join(f"{c.backbone.hub_file} of {c.backbone.hub_repo}" for c in known.values())
    if path.name.endswith(PICKLE_SUFFIXES):
        raise ModelError(
            f"{path} is a pickle, which could run code, and is refused; fetch the {SUFFIX} file of "
            f"the same repository ({files}), or turn a checkpoint of InCTRL's authors into a model "
            "directory first, with the command convert."
        )
    shapes = TensorFile(path).shapes()
    for directory, config in known.items():
        if _used(shapes) == _used(_expected_shapes(config.backbone)):
            return directory
    raise ModelError(f"{path} {_why_unknown(shapes)}; known is {files}.")


def as_given(config: ModelConfig, path: Path) -> ModelConfig:
    """``config`` for a backbone that comes from a file and no longer from the Hub.

    Shapes do not tell which training the values are of, so the Hub is not named as their source,
    but the file with its digest.
    """
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    given = {"backbone": f"{path.name}, given as a file", "backbone_sha256": digest}
    return dataclasses.replace(
        config,
        backbone=dataclasses.replace(config.backbone, hub_repo=None, hub_revision=None),
        provenance=dict(config.provenance) | given,
    )


def _used(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in shapes.items() if key not in UNUSED_BACKBONE_KEYS}


def _expected_shapes(config: BackboneConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):  # Shapes alone: no memory, and a fraction of the time.
        state = build_clip(config, random_weights=False).state_dict()
    return {key: tuple(value.shape) for key, value in state.items()}


def _why_unknown(shapes: Mapping[str, tuple[int, ...]]) -> str:
    if any(key.startswith(_OWN_PREFIXES) for key in shapes):
        return "is part of a model directory; name the directory, with its config.json in it"
    if any(key.startswith(_TRANSFORMERS_PREFIXES) for key in shapes):
        return "names its tensors as transformers does, not as open_clip does"
    return "holds no backbone that this program knows"
