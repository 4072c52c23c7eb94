"""Names of models -> detectors: embedded models, directories, repositories of the Hub."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from ..config import CONFIG_FILE, ModelConfig, read_config
from ..devices import pick_device, pick_precision
from ..errors import InctrlError, ModelError, cut
from ..model.backbone import Backbone
from ..model.detector import Detector
from ..model.engine import TowerEngine, engine_is_installed, graph_file
from .backbone_files import file_beside, find_owner, names_weights
from .hub import Progress, is_repo_id
from .weights import WEIGHTS_FILE, fetch_backbone, fetch_directory, load_model


def shipped_folder(name: str) -> Path:
    """A folder of files that ship with the code: inside an installed package, else beside it."""
    package = Path(__file__).resolve().parents[1]
    installed = package / name
    return installed if installed.is_dir() else package.parent / name


ASSETS = shipped_folder("assets")
DEFAULT_MODEL = "inctrl-lite"
HEADS_VARIABLE = "INCTRL_HEADS"


def load_detector(
    name: str | Path = DEFAULT_MODEL,
    device: str = "auto",
    *,
    precision: str | None = None,
    revision: str | None = None,
    heads: str | Path | None = None,
    use_environment: bool = True,
    on_progress: Progress | None = None,
) -> Detector:
    """Loads a model, fetching from the Hugging Face Hub what is not on this computer yet.

    Args:
        name: A model of ``assets/``, a model directory, a Hub repository USER/REPO, or a
            ``.safetensors`` file with the backbone of one of ``assets/``.
        device: "auto" (CUDA, then MPS, then CPU) or a torch device.
        precision: "float32", "bfloat16", "float16" or "auto", see
            :func:`inctrl_core.devices.pick_precision`; None for ``INCTRL_PRECISION`` or float32.
        revision: Branch, tag or commit of the repository; None for its main branch.
        heads: A model directory or Hub repository whose heads replace those of ``name``; None for
            the model's own, or those that ``INCTRL_HEADS`` names, for a model that has none and
            whose backbone comes from the Hub: the embedded model does not depend on a variable.
        use_environment: Whether the two variables count.
        on_progress: Told of a download: bytes that arrived, bytes in all where known.

    Raises:
        ModelError: The model cannot be found or fetched, or does not load.
        InctrlError: The device or precision cannot be used.
    """
    picked = pick_device(device)
    if precision is None and not use_environment:
        precision = "float32"
    dtype = pick_precision(precision, picked)
    directory = find_model(name, revision=revision, on_progress=on_progress)
    if heads is None and use_environment and _takes_heads(read_config(directory)):
        heads = os.environ.get(HEADS_VARIABLE) or None
    heads_directory = None if heads is None else find_model(heads, on_progress=on_progress)
    model = load_model(
        directory,
        heads=heads_directory,
        backbone_file=find_backbone_file(name, directory),
        on_progress=on_progress,
    )
    config = model.config
    try:
        engine = None
        if picked.type == "cpu" and dtype == torch.float32 and engine_is_installed():
            own = find_backbone_file(name, directory) is None
            engine = _start_engine(config, model.clip.visual, directory if own else None)
        backbone = Backbone(model.clip, config.backbone, picked, dtype, model.patch_adapter, engine)
        return Detector(config, backbone, model.heads)
    except torch.OutOfMemoryError:
        raise InctrlError(
            f"{config.name} does not fit into the memory of {picked}; close what else runs on it, "
            "or use the device cpu."
        ) from None


def _start_engine(
    config: ModelConfig, tower: nn.Module, directory: Path | None
) -> TowerEngine | None:
    """The engine for a model on a CPU, by its own graphs or those of an embedded model.

    What is trained on an embedded model has that one's image tower, and passes by its graphs.

    Args:
        config: The model's.
        tower: Its image tower.
        directory: Where its own graphs would be; None where its tower is from somewhere else.

    Returns:
        None where there are no graphs for its tower.

    Raises:
        ModelError: Its own graphs do not belong to its tower.
    """
    if directory is not None and (graphs := _find_graphs(directory, config)):
        return TowerEngine(graphs, tower, config.backbone.depths)
    for other in map(ASSETS.joinpath, embedded_models()):
        graphs = _find_graphs(other, config)
        if graphs and read_config(other).backbone.architecture == config.backbone.architecture:
            try:
                return TowerEngine(graphs, tower, config.backbone.depths)
            except ModelError:  # Of other weights, or for other depths.
                continue
    return None


def _find_graphs(directory: Path, config: ModelConfig) -> dict[int, Path]:
    """The graphs in a directory for the sizes that a model reads."""
    paths = {size: directory / graph_file(size) for size in config.image_sizes}
    return {size: path for size, path in paths.items() if path.is_file()}


def find_model(
    name: str | Path, *, revision: str | None = None, on_progress: Progress | None = None
) -> Path:
    """The directory of a model: embedded, by path, or fetched from the Hub.

    Args:
        name: Its directory under ``assets/``, a path, or USER/REPO. Of a file of weights: the
            directory that it is of, its own or, by names and shapes, one under ``assets/``.
        revision: Branch, tag or commit of the repository.
        on_progress: Told of a download.

    Raises:
        ModelError: It is none of these, cannot be fetched, or has no revisions.
    """
    embedded = ASSETS / str(name) if str(name) in embedded_models() else None
    # Path.is_dir raises on a name that is too long.
    directory = embedded or (Path(name) if os.path.isdir(name) else None)
    if directory is None and names_weights(name):
        directory = _owner(Path(name))
    if directory is not None:
        if revision is not None:
            raise ModelError(
                f"'{name}' lies on this computer, where there is no revision '{revision}'; leave "
                "it out, or name a Hub repository USER/REPO."
            )
        return directory
    if isinstance(name, str) and is_repo_id(name):
        return fetch_directory(name, revision, on_progress)
    raise ModelError(
        f"'{cut(str(name))}' is neither a model directory nor a Hub repository USER/REPO; "
        f"the embedded models are {', '.join(embedded_models())}."
    )


def is_backbone_file(name: str | Path) -> bool:
    """Whether a model is named by a file with a backbone, outside the directory that it is of."""
    path = Path(name)
    return names_weights(name) and not os.path.isdir(path) and not _is_own_weights(path)


def find_backbone_file(name: str | Path, directory: Path) -> Path | None:
    """The file that a model's backbone came in by hand; None where it comes as it is configured.

    Args:
        name: As for :func:`find_model`.
        directory: The directory that it gave for the name.
    """
    if is_backbone_file(name):
        return Path(name)
    return file_beside(directory, read_config(directory).backbone)


def _is_own_weights(path: Path) -> bool:
    return path.name == WEIGHTS_FILE and path.with_name(CONFIG_FILE).is_file()


def _owner(path: Path) -> Path:
    if _is_own_weights(path):
        return path.parent
    return find_owner(path, [ASSETS / name for name in embedded_models()])


def fetch_files(name: str | Path, on_progress: Progress | None = None) -> None:
    """Fetches from the Hub what a model needs and this computer lacks; puts nothing into memory.

    Args:
        name: As for :func:`find_model`.
        on_progress: Told of a download.

    Raises:
        ModelError: The model cannot be found or fetched.
    """
    directory = find_model(name, on_progress=on_progress)
    config = read_config(directory)
    here = find_backbone_file(name, directory) is not None
    if config.backbone.hub_repo is not None and not here:
        fetch_backbone(config, on_progress)


def _takes_heads(config: ModelConfig) -> bool:
    return not config.heads.trained and config.backbone.hub_repo is not None


def embedded_models() -> tuple[str, ...]:
    """Names of the models under ``assets/``, the default first."""
    names = (path.parent.name for path in ASSETS.glob(f"*/{CONFIG_FILE}"))
    return tuple(sorted(names, key=lambda name: (name != DEFAULT_MODEL, name)))
