"""Turns a checkpoint of the reference implementation into a model directory.

Where the checkpoint's backbone is the one that the Hub has, only the heads are kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from ..checkpoints.conversion import HubBackbone, convert_checkpoint, find_architecture
from ..checkpoints.loading import embedded_models, find_model
from ..checkpoints.weights import fetch_backbone
from ..config import ModelConfig, read_config
from ..errors import ModelError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "checkpoint", type=Path, metavar="REFERENCE.pyth", help="one of the authors' checkpoints"
    )
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="where the model is written")
    parser.add_argument(
        "--backbone",
        default="ViT-B-16-plus-240",
        metavar="NAME_OR_JSON",
        help="embedded model, open_clip model name, or a JSON file with embed_dim, vision_cfg and "
        "text_cfg (default: ViT-B-16-plus-240)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Converts and says what was written."""
    named = arguments.backbone in embedded_models()
    architecture = (
        read_config(find_model(arguments.backbone)).backbone.architecture
        if named
        else find_architecture(arguments.backbone)
    )
    hub, reason = None, "it came from a file"
    if not arguments.backbone.endswith(".json"):
        hub, reason = _fetch_named_backbone(architecture)
    config = convert_checkpoint(arguments.checkpoint, architecture, arguments.out, hub=hub)
    sys.stdout.write(f"wrote {config.name} to {arguments.out}\n")
    if config.backbone.hub_repo is not None:
        sys.stdout.write(f"heads only: its backbone equals that of {config.backbone.hub_repo}\n")
    elif hub is not None:
        sys.stdout.write(f"heads and backbone: its backbone differs from that of {hub.repo}\n")
    else:
        sys.stdout.write(f"heads and backbone, not compared: {reason}\n")


def _fetch_named_backbone(architecture: Mapping) -> tuple[HubBackbone | None, str]:
    """The Hub's weights of an architecture, or None and why there are none to compare with."""
    for config in _hub_models():
        if config.backbone.architecture == architecture:
            backbone = config.backbone
            try:
                tensors = fetch_backbone(config)
            except ModelError as error:
                return None, str(error)
            # The cache names a snapshot's folder by its commit.
            commit = tensors.path.parent.name
            return HubBackbone(backbone.hub_repo, backbone.hub_file, commit, tensors), ""
    return None, "no embedded model names weights of this architecture"


def _hub_models() -> list[ModelConfig]:
    configs = [read_config(find_model(name)) for name in embedded_models()]
    return [config for config in configs if config.backbone.hub_repo is not None]
