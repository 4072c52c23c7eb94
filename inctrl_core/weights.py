"""A model directory: strict reading and writing of ``config.json`` + ``model.safetensors``.

Keys are ``backbone.*`` (where the directory carries the backbone), and ``heads.*`` (where it has
trained heads). Anything missing, unexpected or of another shape is an error that names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from open_clip.model import CLIP
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .backbone import build_clip
from .config import CONFIG_FILE, ModelConfig, config_to_json, read_config
from .errors import ModelError
from .heads import build_heads

WEIGHTS_FILE = "model.safetensors"
BACKBONE_PREFIX = "backbone."
HEADS_PREFIX = "heads."

# Trained with the backbone but used by nothing here: the text signal has its own fixed scale.
UNUSED_BACKBONE_KEYS = frozenset({"logit_scale", "logit_bias"})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file.

    Raises:
        ModelError: The file is missing, truncated, or not safetensors.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; fetch or convert the model again.") from None
    except (SafetensorError, OSError):
        raise ModelError(
            f"{path} is damaged or is not a safetensors file; fetch or convert the model again."
        ) from None


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Copies ``tensors`` into ``module``, key by key, converting floats to the module's width.

    Args:
        module: Receives the values.
        tensors: State dict without prefix.
        what: Names the source in messages.

    Raises:
        ModelError: A key is missing or unexpected, or a shape differs.
    """
    own = module.state_dict()
    missing = sorted(set(own) - set(tensors) - UNUSED_BACKBONE_KEYS)
    unexpected = sorted(set(tensors) - set(own) - UNUSED_BACKBONE_KEYS)
    if missing:
        raise ModelError(f"{what} lacks {_list(missing)}; it is not the model it claims to be.")
    if unexpected:
        raise ModelError(f"{what} has unexpected {_list(unexpected)}; it is another model.")
    for key, value in own.items():
        if key in tensors and tensors[key].shape != value.shape:
            raise ModelError(
                f"{what}: {key} has shape {list(tensors[key].shape)} and should have "
                f"{list(value.shape)}; it is another model."
            )
    module.load_state_dict(tensors, strict=False)


def split_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under ``prefix``, without it."""
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def add_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors with ``prefix`` before each key."""
    return {prefix + key: value for key, value in tensors.items()}


def save_model(directory: Path, config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Writes a model directory; each file appears whole or not at all.

    Args:
        directory: Made where it does not exist.
        config: Becomes ``config.json``.
        tensors: With the prefixes of this module; floats keep their width.
    """
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / (WEIGHTS_FILE + ".partial")
    save_file({key: value.contiguous() for key, value in tensors.items()}, partial)
    os.replace(partial, directory / WEIGHTS_FILE)
    partial = directory / (CONFIG_FILE + ".partial")
    partial.write_text(config_to_json(config), encoding="utf-8")
    os.replace(partial, directory / CONFIG_FILE)


def load_model(directory: Path) -> tuple[ModelConfig, CLIP, nn.Module]:
    """Reads a model directory that carries its own backbone.

    Returns:
        The configuration, the open_clip model and the heads, both with their weights in place,
        float32, on the CPU, in evaluation mode.

    Raises:
        ModelError: See :func:`inctrl_core.config.read_config`, :func:`read_tensors` and
            :func:`load_strict`.
    """
    config = read_config(directory)
    path = directory / WEIGHTS_FILE
    tensors = read_tensors(path)
    stray = [k for k in sorted(tensors) if not k.startswith((BACKBONE_PREFIX, HEADS_PREFIX))]
    if stray:
        raise ModelError(f"{path} has unexpected {_list(stray)}; it is another model.")
    clip = build_clip(config.backbone)
    load_strict(clip, split_prefix(tensors, BACKBONE_PREFIX), str(path))
    return config, clip, load_heads(config, tensors, str(path))


def load_heads(config: ModelConfig, tensors: Mapping[str, Tensor], what: str) -> nn.Module:
    """Builds the heads that ``config`` names and fills them from the ``heads.*`` tensors."""
    heads = build_heads(config.heads, config.backbone)
    load_strict(heads, split_prefix(tensors, HEADS_PREFIX), what)
    return heads.float().eval().requires_grad_(False)


def _list(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raises ModelError where a tensor holds a value that is not a number."""
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(f"{what}: {key} holds values that are not finite; it is damaged.")
