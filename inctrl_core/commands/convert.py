"""Turns a checkpoint of the reference implementation into a model directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..conversion import convert_checkpoint, find_architecture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("checkpoint", type=Path, metavar="REFERENCE.pyth")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument(
        "--backbone",
        default="ViT-B-16-plus-240",
        metavar="NAME_OR_JSON",
        help="open_clip model name, or a JSON file with embed_dim, vision_cfg and text_cfg",
    )


def run(arguments: argparse.Namespace) -> None:
    """Converts and says what was written."""
    architecture = find_architecture(arguments.backbone)
    config = convert_checkpoint(arguments.checkpoint, architecture, arguments.out)
    sys.stdout.write(f"wrote {config.name} to {arguments.out}\n")
