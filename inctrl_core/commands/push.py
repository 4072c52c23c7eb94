"""Uploads a model directory to the Hugging Face Hub, with a generated model card."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..checkpoints.hub import is_repo_id, upload_model
from ..checkpoints.loading import ASSETS, embedded_models
from ..checkpoints.model_card import render_model_card
from ..checkpoints.weights import WEIGHTS_FILE, load_model
from ..config import CONFIG_FILE, read_config
from ..errors import ModelError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="a model's")
    parser.add_argument("repo", metavar="USER/REPO", help="made where it does not exist yet")
    parser.add_argument("--private", action="store_true", help="make the repository private")


def run(arguments: argparse.Namespace) -> None:
    """Checks that the model loads, uploads it, and says where it is."""
    directory, repo = arguments.directory, arguments.repo
    if str(directory) in embedded_models():
        directory = ASSETS / directory
    if not is_repo_id(repo):
        raise ModelError(f"'{repo}' is not a repository id; it has the form USER/REPO.")
    config = read_config(directory)
    weights = directory / WEIGHTS_FILE
    if config.backbone.hub_repo is None or weights.exists():
        load_model(directory)  # What does not load here would not load there.
    files: dict[str, Path | bytes] = {
        CONFIG_FILE: directory / CONFIG_FILE,
        "README.md": render_model_card(config, repo).encode(),
    }
    if weights.exists():
        files[WEIGHTS_FILE] = weights
    address = upload_model(repo, files, private=arguments.private)
    sys.stdout.write(f"uploaded {config.name}: {address}\n")
