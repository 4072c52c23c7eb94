"""Averages the patch adapters of several trainings, and takes a part of the way to them."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.loading import find_model
from ..checkpoints.tensor_files import read_tensors
from ..checkpoints.weights import (
    ADAPTER,
    ADAPTER_PREFIX,
    HEADS_PREFIX,
    WEIGHTS_FILE,
    add_prefix,
    check_digest,
    check_finite,
    halve_large,
    load_adapter,
    save_model,
)
from ..config import ModelConfig, read_config
from ..errors import ModelError
from ..model.patch_adapter import PatchAdapter, average_adapters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "models", nargs="+", type=Path, metavar="DIR", help="what train --form patch_adapter wrote"
    )
    parser.add_argument(
        "--strength",
        type=float,
        default=0.7,
        metavar="S",
        help="part of the way from no adapter to the mean, 0 to 1 (default: 0.7)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the model is written"
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the first model with the mean adapter; heads trained on other patches are left out."""
    config, tensors, adapters, records = None, {}, [], []
    for directory in map(find_model, arguments.models):
        other, weights = read_config(directory), directory / WEIGHTS_FILE
        if not other.heads.patch_adapter:
            raise ModelError(
                f"{directory} has no patch adapter; train one with train --form {ADAPTER}."
            )
        check_digest(directory)
        stored = read_tensors(weights)
        check_finite(stored, str(weights))
        adapter = load_adapter(other, stored, str(weights))
        backbone = _without_trained(stored)
        if config is None:
            config, tensors = other, backbone
        elif _seen(other) != _seen(config) or not _equal(backbone, tensors):
            raise ModelError(
                f"{directory} has another backbone, or prepares images in another way, than "
                f"{arguments.models[0]}; average trainings of one model."
            )
        adapters.append(adapter)
        records.append(_record(other))
    mean = average_adapters(adapters, arguments.strength)
    write_average(arguments.out, config, tensors, mean, (arguments.strength, records))
    count = "1 patch adapter" if len(adapters) == 1 else f"{len(adapters)} patch adapters"
    sys.stdout.write(f"wrote the mean of {count} to {arguments.out}\n")


def write_average(
    out: Path,
    config: ModelConfig,
    backbone: Mapping[str, Tensor],
    adapter: PatchAdapter,
    how: tuple[float, list[dict[str, Any]]],
) -> None:
    """Writes the model directory.

    Args:
        out: Where.
        config: Description of one of the models.
        backbone: Its stored tensors without those that were trained.
        adapter: The mean.
        how: Strength, and the record of each training.
    """
    heads = dataclasses.replace(config.heads, form="training-free", options={}, good_scores={})
    strength, trainings = how
    training = {ADAPTER: {"strength": strength, "mean_of": trainings}}
    tensors = dict(backbone) | halve_large(add_prefix(adapter.state_dict(), ADAPTER_PREFIX))
    config = dataclasses.replace(config, name=out.resolve().name, heads=heads, training=training)
    save_model(out, config, tensors)


def _without_trained(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    trained = ADAPTER_PREFIX, HEADS_PREFIX
    return {key: value for key, value in stored.items() if not key.startswith(trained)}


def _seen(config: ModelConfig) -> tuple[object, ...]:
    """The settings that decide which patches an adapter is given, but for the weights."""
    return config.backbone, config.preprocess


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key]) for key, value in first.items()
    )


def _record(config: ModelConfig) -> dict[str, Any]:
    """The configuration's record of one training, without its curves, which are long."""
    record = config.training.get(ADAPTER, {})
    return {key: value for key, value in record.items() if key != "curves"}
