"""Trains the heads or the patch adapter of a model on frozen features; writes its directory."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor
from tqdm import tqdm

from ..checkpoints.loading import DEFAULT_MODEL, find_backbone_file, find_model, load_detector
from ..checkpoints.tensor_files import read_tensors
from ..checkpoints.weights import (
    ADAPTER,
    ADAPTER_PREFIX,
    BACKBONE_PREFIX,
    HEADS_PREFIX,
    WEIGHTS_FILE,
    add_prefix,
    save_model,
)
from ..config import ModelConfig
from ..errors import InctrlError
from ..evaluation.datasets import DataError, Subset, check_names, load_textile, usable
from ..evaluation.features import FeatureStore, default_cache, image_tower_digest
from ..evaluation.layouts import load_folders
from ..model.detector import Detector
from ..training.adapter import AdapterOptions, train_adapter
from ..training.curves import save_curves
from ..training.heads import AnyPool, TrainingOptions, check_pools, train_heads
from ..training.loop import CHECKPOINT_FILE
from ..training.patch_pools import source_patches, subset_patches
from ..training.pools import SOURCES, check_trainable, source_pool, subset_pools
from .evaluate import Notes, readable, split_paths

CURVES_FILE = "training.png"

Options = TypeVar("Options", TrainingOptions, AdapterOptions)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    defaults, adapter = TrainingOptions(), AdapterOptions()
    _add_data_options(parser.add_argument_group("data"))
    parser.add_argument(
        "--backbone",
        default=DEFAULT_MODEL,
        metavar="MODEL",
        help=f"whose backbone is used: name, directory, .safetensors file, or USER/REPO (default: "
        f"{DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the model is written"
    )
    parser.add_argument(
        "--form",
        choices=("calibrated", "reference", ADAPTER),
        default=defaults.form,
        help="heads of this form, or the patch adapter that comes before them",
    )
    parser.add_argument(
        "--shots",
        nargs="+",
        type=int,
        metavar="K",
        help=f"normal images in an episode (heads: {_spoken(defaults.shots)}; adapter: "
        f"{_spoken(adapter.shots)})",
    )
    parser.add_argument(
        "--epochs",
        type=int,
        help=f"of {defaults.steps} batches for heads (default: {defaults.epochs}), of "
        f"{adapter.steps} for the adapter (default: {adapter.epochs})",
    )
    parser.add_argument(
        "--seed", type=int, default=defaults.seed, help="of the training (default: 0)"
    )
    parser.add_argument("--resume", action="store_true", help="go on where a run into --out ended")
    parser.add_argument("--device", default="auto", help="where the backbone computes")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where features are kept (default: the user's cache)",
    )


def _add_data_options(data: argparse._ArgumentGroup) -> None:
    data.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="DIR[,DIR]",
        help="data sets in a layout that evaluate reads; the test images are trained on too",
    )
    data.add_argument(
        "--procedural", type=int, default=0, metavar="CLASSES", help="classes drawn from formulas"
    )
    data.add_argument(
        "--photographs",
        type=int,
        default=0,
        metavar="CLASSES",
        help="classes made of the photographs that scikit-image ships",
    )
    data.add_argument(
        "--source-seed", type=int, default=0, help="of the classes that need no data (default: 0)"
    )
    data.add_argument(
        "--textile", action="store_true", help="the textile images of conformal-clip-data"
    )
    data.add_argument(
        "--skip-unreadable", action="store_true", help="leave out images that cannot be read"
    )


def run(arguments: argparse.Namespace) -> None:
    """Trains, and writes the model directory with its record and curves."""
    notes = Notes()
    subsets = _find_subsets(arguments, notes.tell)
    # What the environment says is for those who run a model; here it would get into the result.
    detector = load_detector(arguments.backbone, arguments.device, use_environment=False)
    if arguments.skip_unreadable:
        store = FeatureStore(detector, None)
        subsets = [readable(subset, store, notes.tell) for subset in subsets]
        subsets = usable(subsets, check_trainable, notes.tell)
    train = _train_adapter if arguments.form == ADAPTER else _train_heads
    config, tensors, prefixes = train(detector, subsets, arguments)
    # By what it lies in, so that reports tell it from the model that it was made of.
    config = dataclasses.replace(config, name=arguments.out.resolve().name)
    write_model(arguments, config, tensors, prefixes)
    (arguments.out / CHECKPOINT_FILE).unlink()
    record = config.training[ADAPTER] if arguments.form == ADAPTER else config.training
    held_out = ", ".join(
        f"{source} {data['held_out_classes']} of {data['classes']}"
        for source, data in record["data"].items()
    )
    sys.stderr.write(f"classes held out, by which the best epoch was chosen: {held_out}\n")
    if not any(data["held_out_classes"] for data in record["data"].values()):
        sys.stderr.write(
            "note: there were too few classes to hold one out; the epoch was chosen on other "
            "images of the classes trained on, so its figures are not of unseen classes\n"
        )
    what = "a patch adapter" if arguments.form == ADAPTER else f"{arguments.form} heads"
    sys.stdout.write(f"wrote {config.name}, {detector.name} with {what}, to {arguments.out}\n")


def _train_heads(
    detector: Detector, subsets: list[Subset], arguments: argparse.Namespace
) -> tuple[ModelConfig, dict[str, Tensor], tuple[str, ...]]:
    """Configuration and tensors of the result, and the prefixes of the tensors that it replaces."""
    options = _options(TrainingOptions(form=arguments.form), arguments)
    of_subset = partial(subset_pools, detector)
    pools = build_pools(detector, subsets, arguments, (of_subset, source_pool), "pools")
    check_pools(pools, options.shots)
    _drop_checkpoint(arguments)
    result = train_heads(pools, detector.config.backbone, options, arguments.out, _print_epoch)
    heads = dataclasses.replace(
        detector.config.heads, form=result.config.form, options=dict(result.config.options)
    )
    # What the adapter below was trained with stays on record.
    record = result.record
    if heads.patch_adapter:
        record = record | {ADAPTER: detector.config.training.get(ADAPTER, {})}
    config = dataclasses.replace(detector.config, heads=heads, training=record)
    tensors = add_prefix(result.heads.state_dict(), HEADS_PREFIX)
    return config, tensors, (HEADS_PREFIX,)


def _train_adapter(
    detector: Detector, subsets: list[Subset], arguments: argparse.Namespace
) -> tuple[ModelConfig, dict[str, Tensor], tuple[str, ...]]:
    """As :func:`_train_heads`; heads that were trained on other patches are left out.

    One map serves all sizes that a model reads images at, and is trained at the first.
    """
    plain = detector.training_free()
    options = _options(AdapterOptions(), arguments)
    makers = subset_patches, source_patches
    pools = build_pools(plain.at_first_size(), subsets, arguments, makers, "patches")
    check_pools(pools, options.shots)
    _drop_checkpoint(arguments)
    result = train_adapter(pools, options, arguments.out, _print_epoch)
    heads = dataclasses.replace(plain.config.heads, patch_adapter=result.widths)
    made = {"weights": f"made by train --form {ADAPTER}", "data": sorted(result.record["data"])}
    config = dataclasses.replace(
        plain.config,
        heads=heads,
        provenance=dict(plain.config.provenance) | {ADAPTER: made},
        training={ADAPTER: result.record},
    )
    tensors = add_prefix(result.adapter.state_dict(), ADAPTER_PREFIX)
    return config, tensors, (HEADS_PREFIX, ADAPTER_PREFIX)


def _spoken(shots: tuple[int, ...]) -> str:
    return " ".join(map(str, shots))


def _options(defaults: Options, arguments: argparse.Namespace) -> Options:
    given = {"seed": arguments.seed}
    if arguments.shots:
        given["shots"] = tuple(sorted(set(arguments.shots)))
    if arguments.epochs is not None:
        given["epochs"] = arguments.epochs
    return dataclasses.replace(defaults, **given)


def build_pools(
    detector: Detector,
    subsets: list[Subset],
    arguments: argparse.Namespace,
    makers: tuple[Callable[..., list[AnyPool]], Callable[..., AnyPool]],
    kind: str,
) -> list[AnyPool]:
    """Encodes all training data, through the cache.

    Args:
        detector: Encodes the images.
        subsets: Subsets of the data sets on disk.
        arguments: The command's arguments.
        makers: What makes pools of a subset, its images' features and a generator, and what makes
            the pool of a class that needs no data.
        kind: Names the cache of the latter.
    """
    of_subset, of_class = makers
    cache = arguments.cache or default_cache()
    store = FeatureStore(detector, cache)
    folder = cache / f"{image_tower_digest(detector)}-{kind}"
    pools: list[AnyPool] = []
    folders = tqdm(subsets, desc="folders", unit="subset", disable=not subsets)
    for number, subset in enumerate(folders):
        pools += of_subset(subset, store, np.random.default_rng((arguments.seed, number)))
    for source in SOURCES:
        count = getattr(arguments, source)
        for index in tqdm(range(count), desc=source, unit="class", disable=not count):
            pools.append(of_class(detector, source, arguments.source_seed, index, folder))
    return pools


def _drop_checkpoint(arguments: argparse.Namespace) -> None:
    checkpoint = arguments.out / CHECKPOINT_FILE
    if not arguments.resume:
        checkpoint.unlink(missing_ok=True)
    elif not checkpoint.is_file():
        sys.stderr.write(
            f"note: {arguments.out} holds no run that was cut off; training begins anew\n"
        )


def write_model(
    arguments: argparse.Namespace,
    config: ModelConfig,
    tensors: dict[str, Tensor],
    prefixes: tuple[str, ...],
) -> None:
    """Writes what was trained beside the backbone that it was trained with, and its curves.

    Args:
        arguments: Name the model that the backbone is of, whose tensors are kept as they are
            stored there (those of a file are copied), and the directory to write, which may be
            the model's own.
        config: Description of the result.
        tensors: That were trained.
        prefixes: Prefixes of the stored tensors that they replace.
    """
    directory = find_model(arguments.backbone)
    source, file = directory / WEIGHTS_FILE, find_backbone_file(arguments.backbone, directory)
    stored = read_tensors(source) if source.is_file() else {}
    if file is not None:
        stored |= add_prefix(read_tensors(file), BACKBONE_PREFIX)
    kept = {key: value for key, value in stored.items() if not key.startswith(prefixes)}
    save_model(arguments.out, config, kept | tensors)
    record = config.training[ADAPTER] if arguments.form == ADAPTER else config.training
    save_curves(arguments.out / CURVES_FILE, record["curves"])


def _find_subsets(arguments: argparse.Namespace, tell: Callable[[str], None]) -> list[Subset]:
    folders = split_paths(arguments.data)
    subsets = [subset for folder in folders for subset in load_folders(folder, tell=tell)]
    if arguments.textile:
        subsets += load_textile()
    check_names(subsets)
    subsets = usable(subsets, check_trainable, tell)
    if min(arguments.seed, arguments.source_seed) < 0:
        raise InctrlError("--seed and --source-seed must not be negative.")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise InctrlError(f"{arguments.out} is a file; name a directory with --out.")
    made = [getattr(arguments, source) for source in SOURCES]
    if min(made) < 0 or (arguments.epochs is not None and arguments.epochs < 1):
        raise InctrlError("Numbers of classes must not be negative, and --epochs at least 1.")
    if not subsets and not any(made):
        raise DataError(
            "Name what to train on with --data DIR, --procedural CLASSES, --photographs CLASSES or "
            "--textile."
        )
    return subsets


def _print_epoch(figures: dict[str, Any]) -> None:
    sys.stderr.write(
        f"epoch {figures['epoch']}: training loss {figures['training_loss']:.4f}, held-out loss "
        f"{figures['loss']:.4f}, AUROC {figures['auroc']:.4f} "
        f"(patch maximum {figures['patch_max_auroc']:.4f})\n"
    )
