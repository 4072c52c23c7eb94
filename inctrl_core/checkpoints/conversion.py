"""A checkpoint of the reference implementation -> our format.

Such a checkpoint is one flat state dict: the CLIP backbone under open_clip's own names,
``adapter.*``, ``diff_head.*`` (over the map) and ``diff_head_ref.*`` (over the image residual).
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from open_clip import get_model_config
from torch import Tensor

from ..architecture import check_architecture
from ..config import (
    BackboneConfig,
    HeadsConfig,
    ModelConfig,
    PreprocessConfig,
    config_from_dict,
    config_to_json,
    read_regular,
)
from ..errors import ModelError
from ..model.clip import build_clip
from ..model.heads import ReferenceHeads
from .tensor_files import check_regular
from .weights import (
    BACKBONE_PREFIX,
    HEADS_PREFIX,
    UNUSED_BACKBONE_KEYS,
    add_prefix,
    check_finite,
    load_strict,
    save_model,
)

# The reference counts its depths 7, 9, 11 from 1; open_clip counts from 0.
REFERENCE_DEPTHS = (6, 8, 10)

_HEAD_LAYERS = {
    "projection1": "layers.0",
    "bn2": "layers.2",
    "projection2": "layers.3",
    "bn3": "layers.5",
    "projection3": "layers.6",
}
_HEADS = {"diff_head": "map_head", "diff_head_ref": "image_head"}
_ADAPTER = {"adapter.fc.0": "adapter.layers.0", "adapter.fc.2": "adapter.layers.2"}

# Built by the reference's heads and never applied.
_UNUSED = ("diff_head.bn1.", "diff_head_ref.bn1.")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Reads a ``.pyth`` or ``.pt`` state dict, tensors only.

    The state dict may stand alone or under ``model_state`` or ``state_dict``, and its keys may
    carry the ``module.`` of a parallel run.

    Raises:
        ModelError: The file cannot be read, would run code, or holds no state dict.
    """
    check_regular(path)
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; check the path.") from None
    except pickle.UnpicklingError:
        raise ModelError(
            f"{path} holds more than tensors and is refused, because loading it could run code; "
            "save its state dict alone."
        ) from None
    except Exception:  # On damaged data torch raises many kinds, even IndexError.
        raise ModelError(f"{path} is damaged or is not a checkpoint; fetch it again.") from None
    for wrapper in ("model_state", "state_dict"):
        if isinstance(data, Mapping) and isinstance(data.get(wrapper), Mapping):
            data = data[wrapper]
    if not isinstance(data, Mapping) or not all(isinstance(v, Tensor) for v in data.values()):
        raise ModelError(f"{path} holds no state dict; save the model's state dict alone.")
    return {str(key).removeprefix("module."): value for key, value in data.items()}


def split_checkpoint(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Separates backbone and heads, the heads renamed to this program's names.

    Only the documented unused tensors are dropped; what is in neither part ends up with the
    backbone, where strict loading names it.
    """
    backbone: dict[str, Tensor] = {}
    heads: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith(_UNUSED):
            continue
        renamed = _rename_head_key(key)
        if renamed is None:
            backbone[key] = value
        else:
            heads[renamed] = value
    return backbone, heads


def read_architecture(path: Path) -> dict:
    """Reads an open_clip model configuration (``embed_dim``, ``vision_cfg``, ``text_cfg``).

    Raises:
        ModelError: The file cannot be read or holds none.
    """
    try:
        data = json.loads(read_regular(path))
    except OSError:
        raise ModelError(f"{path} cannot be read; check the path.") from None
    except (ValueError, RecursionError):  # Bytes that are no text are a ValueError too.
        raise ModelError(f"{path} is not valid JSON; give an open_clip model file.") from None
    data = data.get("model_cfg", data) if isinstance(data, dict) else None
    if not isinstance(data, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(data):
        raise ModelError(f"{path} needs embed_dim, vision_cfg and text_cfg.")
    return data


def find_architecture(backbone: str) -> dict:
    """The open_clip configuration behind a model name of open_clip, or in a JSON file.

    Raises:
        ModelError: ``backbone`` is neither, or the file is wrong.
    """
    if backbone.endswith(".json"):
        return read_architecture(Path(backbone))
    architecture = get_model_config(backbone)
    if architecture is None:
        raise ModelError(
            f"open_clip knows no model '{backbone}'; give one of its names or a JSON file."
        )
    return architecture


@dataclass(frozen=True)
class HubBackbone:
    """Backbone weights that others can fetch from the Hub.

    Attributes:
        repo: USER/REPO.
        file: Name of the weights inside it.
        revision: The commit that they are of.
        tensors: The weights, under open_clip's names.
    """

    repo: str
    file: str
    revision: str | None
    tensors: Mapping[str, Tensor]


def convert_checkpoint(
    checkpoint: Path, architecture: Mapping, out: Path, *, hub: HubBackbone | None = None
) -> ModelConfig:
    """Writes the model directory ``out`` from a reference checkpoint.

    Args:
        checkpoint: State dict, floats of any width.
        architecture: open_clip model configuration of its backbone.
        out: Directory to write.
        hub: Weights to compare the checkpoint's backbone with. Where they are equal, value by
            value, only the heads are written, and the result's ``backbone.hub_repo`` and
            ``backbone.hub_revision`` name them.

    Raises:
        ModelError: The architecture is none that this program reads, or the checkpoint does not
            fit it, key by key.
    """
    backbone_config = _describe_backbone(architecture)
    config = ModelConfig(
        name=out.name or "converted",
        backbone=backbone_config,
        preprocess=PreprocessConfig(image_size=_image_size(architecture)),
        heads=HeadsConfig(form="reference"),
        provenance={"converted_from": checkpoint.name},
    )
    # What could not be read back is not worth writing.
    config_from_dict(json.loads(config_to_json(config)), "The converted model")
    backbone, heads = split_checkpoint(read_checkpoint(checkpoint))
    check_finite(backbone | heads, str(checkpoint))
    # Loading once proves that every key and shape fits before anything is written.
    load_strict(build_clip(backbone_config, random_weights=False), backbone, str(checkpoint))
    load_strict(
        ReferenceHeads(backbone_config.embed_dim, backbone_config.grid**2), heads, str(checkpoint)
    )
    tensors = add_prefix(heads, HEADS_PREFIX)
    if hub is not None and is_same_backbone(backbone, hub.tensors):
        elsewhere = replace(
            backbone_config, hub_repo=hub.repo, hub_file=hub.file, hub_revision=hub.revision
        )
        config = replace(config, backbone=elsewhere)
    else:
        tensors |= add_prefix(backbone, BACKBONE_PREFIX)
    save_model(out, config, tensors)
    return config


def is_same_backbone(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Whether two backbones agree in every value that is used."""
    keys = set(ours) - UNUSED_BACKBONE_KEYS
    if keys != set(theirs) - UNUSED_BACKBONE_KEYS:
        return False
    return all(torch.equal(ours[key].float(), theirs[key].float()) for key in sorted(keys))


def _describe_backbone(architecture: Mapping) -> BackboneConfig:
    try:
        check_architecture(architecture)
    except ValueError as error:
        raise ModelError(f"The backbone cannot be used: {error}; give another one.") from None
    vision = architecture["vision_cfg"]
    layers = vision.get("layers", 12)
    if not isinstance(layers, int) or layers <= max(REFERENCE_DEPTHS):
        raise ModelError(
            f"The reference reads depths 7, 9 and 11, and this backbone has {layers} layers; "
            "give the backbone that the checkpoint was trained with."
        )
    return BackboneConfig(
        architecture=dict(architecture),
        depths=REFERENCE_DEPTHS,
        grid=_image_size(architecture) // int(vision.get("patch_size", 16)),
    )


def _image_size(architecture: Mapping) -> int:
    return int(architecture["vision_cfg"].get("image_size", 224))


def _rename_head_key(key: str) -> str | None:
    for old, new in _ADAPTER.items():
        if key.startswith(old + "."):
            return new + key[len(old) :]
    head, _, rest = key.partition(".")
    layer, _, leaf = rest.partition(".")
    if head in _HEADS and layer in _HEAD_LAYERS:
        return f"{_HEADS[head]}.{_HEAD_LAYERS[layer]}.{leaf}"
    return None
