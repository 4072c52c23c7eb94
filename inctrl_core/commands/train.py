"""Trains the heads of a model: frozen features, episodes, focal loss; writes a model directory."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..config import ModelConfig
from ..detector import Detector
from ..errors import InctrlError
from ..experiments.curves import save_curves
from ..experiments.datasets import DataError, Subset, load_folders, load_textile
from ..experiments.episodes import Pool, procedural_pool, subset_pools
from ..experiments.features import FeatureStore, default_cache, image_tower_digest
from ..experiments.training import (
    CHECKPOINT_FILE,
    TrainingOptions,
    TrainingResult,
    check_pools,
    train_heads,
)
from ..loading import DEFAULT_MODEL, find_model, load_detector
from ..tensor_files import read_tensors
from ..weights import HEADS_PREFIX, WEIGHTS_FILE, add_prefix, save_model
from .evaluate import split_paths

CURVES_FILE = "training.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    defaults = TrainingOptions()
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="DIR[,DIR]",
        help="folders in the MVTec layout; the test images are trained on too",
    )
    data.add_argument(
        "--procedural", type=int, default=0, metavar="CLASSES", help="classes drawn from formulas"
    )
    data.add_argument(
        "--textile", action="store_true", help="the textile images of conformal-clip-data"
    )
    parser.add_argument("--backbone", default=DEFAULT_MODEL, help="model whose backbone is used")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--form", choices=("calibrated", "reference"), default=defaults.form)
    parser.add_argument("--shots", nargs="+", type=int, default=list(defaults.shots), metavar="K")
    parser.add_argument("--epochs", type=int, default=defaults.epochs)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--resume", action="store_true", help="go on where a run into --out ended")
    parser.add_argument("--device", default="auto", help="where the backbone computes")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where features are kept")


def run(arguments: argparse.Namespace) -> None:
    """Trains, and writes the model directory with its record and curves."""
    options = TrainingOptions(
        form=arguments.form,
        shots=tuple(sorted(set(arguments.shots))),
        epochs=arguments.epochs,
        seed=arguments.seed,
    )
    subsets = _find_subsets(arguments)
    detector = load_detector(arguments.backbone, device=arguments.device)
    pools = build_pools(detector, subsets, arguments)
    check_pools(pools, options.shots)
    checkpoint = arguments.out / CHECKPOINT_FILE
    if not arguments.resume:
        checkpoint.unlink(missing_ok=True)
    result = train_heads(pools, detector.config.backbone, options, arguments.out, _print_epoch)
    write_model(arguments.backbone, detector.config, result, arguments.out)
    checkpoint.unlink()
    sys.stdout.write(f"wrote {detector.name} with {options.form} heads to {arguments.out}\n")


def build_pools(
    detector: Detector, subsets: list[Subset], arguments: argparse.Namespace
) -> list[Pool]:
    """Encodes all training data, through the cache."""
    cache = arguments.cache or default_cache()
    store = FeatureStore(detector, cache)
    pools: list[Pool] = []
    for number, subset in enumerate(tqdm(subsets, desc="folders", unit="subset")):
        rng = np.random.default_rng((arguments.seed, number))
        pools += subset_pools(detector, subset, store, rng)
    folder = cache / f"{image_tower_digest(detector)}-pools"
    for index in tqdm(range(arguments.procedural), desc="procedural", unit="class"):
        pools.append(procedural_pool(detector, arguments.seed, index, folder))
    return pools


def write_model(backbone: str, config: ModelConfig, result: TrainingResult, out: Path) -> None:
    """Writes the trained heads beside the backbone that they were trained with.

    Args:
        backbone: Name or directory of the model that the backbone is of; its tensors are kept as
            they are stored there.
        config: Of that model.
        result: Of the training.
        out: Written to; may be the model's own directory.
    """
    source = find_model(backbone) / WEIGHTS_FILE
    stored = read_tensors(source) if source.is_file() else {}
    kept = {key: value for key, value in stored.items() if not key.startswith(HEADS_PREFIX)}
    heads = add_prefix(result.heads.state_dict(), HEADS_PREFIX)
    threshold: dict[str, Any] = {"threshold": result.record["threshold"]}
    trained = dataclasses.replace(
        config,
        heads=dataclasses.replace(
            config.heads, form=result.config.form, options=dict(result.config.options)
        ),
        training={**result.record, **threshold},
    )
    save_model(out, trained, kept | heads)
    save_curves(out / CURVES_FILE, result.record["curves"])


def _find_subsets(arguments: argparse.Namespace) -> list[Subset]:
    subsets = [s for folder in split_paths(arguments.data) for s in load_folders(folder)]
    if arguments.textile:
        subsets += load_textile()
    if arguments.procedural < 0 or arguments.epochs < 1:
        raise InctrlError("--procedural must not be negative, and --epochs must be at least 1.")
    if not subsets and not arguments.procedural:
        raise DataError("Name what to train on with --data DIR, --procedural CLASSES or --textile.")
    return subsets


def _print_epoch(figures: dict[str, Any]) -> None:
    sys.stderr.write(
        f"epoch {figures['epoch']}: training loss {figures['training_loss']:.4f}, held-out loss "
        f"{figures['loss']:.4f}, AUROC {figures['auroc']:.4f} "
        f"(patch maximum {figures['patch_max_auroc']:.4f})\n"
    )
