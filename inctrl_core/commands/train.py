"""Trains the heads or the patch adapter of a model on frozen features; writes its directory."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
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
from ..datasets.layouts import ONE_VS_ALL, load_classes, load_folders
from ..datasets.subsets import DataError, Subset, check_names, load_textile, usable
from ..errors import InctrlError
from ..evaluation.features import FeatureStore, default_cache, image_tower_digest
from ..model.detector import Detector
from ..model.evidence import FLAW, KIND
from ..training.adapter import AdapterOptions, train_adapter
from ..training.curves import save_curves
from ..training.gated import (
    GatedOptions,
    count_prototypes,
    draw_banks,
    good_scores,
    train_gated,
)
from ..training.heads import AnyPool, TrainingOptions, check_pools, train_heads
from ..training.loop import CHECKPOINT_FILE
from ..training.patch_pools import source_patches, subset_patches
from ..training.pools import (
    SOURCES,
    Pool,
    check_trainable,
    source_pool,
    subset_pools,
    whole_pool,
)
from .evaluate import Notes, readable, split_paths

CURVES_FILE = "training.png"
GATED = "gated"
MOST_CLASSES = 5  # Of a folder of classes, for the gated form.

Options = TypeVar("Options", TrainingOptions, AdapterOptions, GatedOptions)


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
        choices=FORMS,
        default=GATED,
        help=f"heads of this form, or the patch adapter that comes before them (default: {GATED})",
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
        help=f"of {defaults.steps} batches for the reference form (default: {defaults.epochs}), of "
        f"{adapter.steps} for the adapter (default: {adapter.epochs}); the gated form has none",
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
        "--classes",
        nargs="+",
        default=[],
        metavar="DIR[,DIR]",
        help="folders with a folder of images per class, each normal in turn and the others "
        f"anomalous; for the form {GATED}, which learns there what another kind of thing is",
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
    config, tensors, prefixes = FORMS[arguments.form](detector, subsets, arguments)
    # By what it lies in, so that reports tell it from the model that it was made of.
    config = dataclasses.replace(config, name=arguments.out.resolve().name)
    write_model(arguments, config, tensors, prefixes)
    (arguments.out / CHECKPOINT_FILE).unlink(missing_ok=True)
    what = "a patch adapter" if arguments.form == ADAPTER else f"{arguments.form} heads"
    sys.stdout.write(f"wrote {config.name}, {detector.name} with {what}, to {arguments.out}\n")
    if arguments.form != GATED:
        _tell_held_out(config.training[ADAPTER] if arguments.form == ADAPTER else config.training)


def _tell_held_out(record: Mapping[str, Any]) -> None:
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


def _train_heads(
    detector: Detector, subsets: list[Subset], arguments: argparse.Namespace
) -> tuple[ModelConfig, dict[str, Tensor], tuple[str, ...]]:
    """Configuration and tensors of the result, and the prefixes of the tensors that it replaces."""
    options = _options(TrainingOptions(), arguments)
    of_subset = partial(subset_pools, detector)
    pools = build_pools(detector, subsets, arguments, (of_subset, source_pool), "pools")
    check_pools(pools, options.shots)
    _drop_checkpoint(arguments)
    result = train_heads(pools, detector.config.backbone, options, arguments.out, _print_epoch)
    heads = dataclasses.replace(
        detector.config.heads, form=result.config.form, options={}, good_scores={}
    )
    # What the adapter below was trained with stays on record.
    record = result.record
    if heads.patch_adapter:
        record = record | {ADAPTER: detector.config.training.get(ADAPTER, {})}
    config = dataclasses.replace(detector.config, heads=heads, training=record)
    tensors = add_prefix(result.heads.state_dict(), HEADS_PREFIX)
    return config, tensors, (HEADS_PREFIX,)


def _train_gated(
    detector: Detector, subsets: list[Subset], arguments: argparse.Namespace
) -> tuple[ModelConfig, dict[str, Tensor], tuple[str, ...]]:
    """As :func:`_train_heads`, from all classes: none is held out, and there are no epochs."""
    options = _options(GatedOptions(), arguments)
    of_kinds = _find_classes(arguments)
    kinds = {(subset.dataset, subset.name) for subset in of_kinds}
    makers = partial(whole_pool, detector), source_pool
    pools = build_pools(detector, [*subsets, *of_kinds], arguments, makers, "pools")
    check_pools(pools, (min(options.shots),))
    drawn = [KIND if (pool.source, pool.name) in kinds else FLAW for pool in pools]
    layers = len(detector.config.backbone.depths)
    banks = draw_banks(pools, drawn, options)
    heads, record = train_gated(banks, layers, options, _print_gate)
    described = dataclasses.replace(
        detector.config.heads,
        form=GATED,
        options={"members": options.members, "prototypes": count_prototypes(banks)},
        good_scores=good_scores(heads, pools, options),
    )
    record |= {"data": _count_classes(pools), "curves": []}
    if described.patch_adapter:
        record |= {ADAPTER: detector.config.training.get(ADAPTER, {})}
    made = {"weights": f"made by train --form {GATED}", "data": sorted(record["data"])}
    provenance = dict(detector.config.provenance) | {"heads": made}
    config = dataclasses.replace(
        detector.config, heads=described, training=record, provenance=provenance
    )
    return config, add_prefix(heads.state_dict(), HEADS_PREFIX), (HEADS_PREFIX,)


def _find_classes(arguments: argparse.Namespace) -> list[Subset]:
    """One-vs-all subsets, of each folder at most ``MOST_CLASSES`` among themselves."""
    subsets: list[Subset] = []
    for folder in split_paths(arguments.classes):
        found = load_classes(folder, ONE_VS_ALL)
        count = min(len(found), MOST_CLASSES)
        kept = [found[index * len(found) // count] for index in range(count)]
        names = {subset.name for subset in kept}
        for subset in kept:
            queries = tuple(query for query in subset.queries if query.kind in names)
            subsets.append(dataclasses.replace(subset, queries=queries))
    check_names(subsets)
    return subsets


def _count_classes(pools: Sequence[Pool]) -> dict[str, dict[str, int]]:
    """The record of the data: classes and images of each source."""
    return {
        source: {
            "classes": len({pool.name for pool in pools if pool.source == source}),
            "pools": sum(pool.source == source for pool in pools),
        }
        for source in sorted({pool.source for pool in pools})
    }


def _print_gate(figures: dict[str, Any]) -> None:
    sys.stderr.write(
        f"gate '{figures['looks_for']}': {figures['classes']} classes, loss {figures['loss']:.4f}\n"
    )


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
    heads = dataclasses.replace(plain.config.heads, patch_adapter=result.widths, good_scores={})
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
    if arguments.epochs is not None and hasattr(defaults, "epochs"):
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
    if record["curves"]:
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
    if not subsets and not any(made) and not arguments.classes:
        raise DataError(
            "Name what to train on with --data DIR, --procedural CLASSES, --photographs CLASSES or "
            "--textile."
        )
    return subsets


FORMS = {GATED: _train_gated, "reference": _train_heads, ADAPTER: _train_adapter}


def _print_epoch(figures: dict[str, Any]) -> None:
    sys.stderr.write(
        f"epoch {figures['epoch']}: training loss {figures['training_loss']:.4f}, held-out loss "
        f"{figures['loss']:.4f}, AUROC {figures['auroc']:.4f} "
        f"(patch maximum {figures['patch_max_auroc']:.4f})\n"
    )
