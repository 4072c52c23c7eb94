"""A model directory: strict reading and writing of ``config.json`` + ``model.safetensors``.

Keys are ``backbone.*`` (where the directory carries the backbone), ``heads.*`` and
``patch_adapter.*`` (where it has them trained). Anything missing, unexpected or of another shape is
an error that names it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from open_clip.model import CLIP, CLIPVisionCfg
from safetensors.torch import save_file
from torch import Tensor, aminmax, isfinite, nn

from ..config import CONFIG_FILE, ModelConfig, config_to_json, read_config
from ..errors import ModelError, name_some
from ..model.clip import MOST_VALUES, build_clip
from ..model.heads import build_heads
from ..model.patch_adapter import PatchAdapter
from ..output import write_whole
from .backbone_files import UNUSED_BACKBONE_KEYS, as_given, file_beside
from .hub import Progress, cached_commit, discard, fetch_file, fetch_model
from .tensor_files import PrefixedTensors, TensorFile

WEIGHTS_FILE = "model.safetensors"
BACKBONE_PREFIX = "backbone."
HEADS_PREFIX = "heads."
# As a form of training, as the key of its record, and before its tensors' keys.
ADAPTER = "patch_adapter"
ADAPTER_PREFIX = f"{ADAPTER}."
HALF_FROM = 4096  # Values of a tensor.


@dataclass(frozen=True)
class LoadedModel:
    """A model with its weights in place: float32, on the CPU, in evaluation mode.

    Attributes:
        config: Its description.
        clip: The open_clip model.
        heads: The fusion.
        patch_adapter: None where none is trained.
    """

    config: ModelConfig
    clip: CLIP
    heads: nn.Module
    patch_adapter: PatchAdapter | None


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Copies ``tensors`` into ``module``, key by key, converting floats to the module's width.

    Nothing is copied unless all keys and shapes fit.

    Args:
        module: Receives the values.
        tensors: State dict without prefix.
        what: Names the source in messages.

    Raises:
        ModelError: A key is missing or unexpected, a shape differs, or a value is not finite; in
            the last case the module is filled all the same.
    """
    own = module.state_dict()
    given = set(tensors)  # To ask a file for a name would read its tensor.
    missing = sorted(set(own) - given - UNUSED_BACKBONE_KEYS)
    unexpected = sorted(given - set(own) - UNUSED_BACKBONE_KEYS)
    if missing:
        raise ModelError(f"{what} lacks {name_some(missing)}; it is not the model it claims to be.")
    if unexpected:
        raise ModelError(f"{what} has unexpected {name_some(unexpected)}; it is another model.")
    shared = [key for key in own if key in given]
    for key in shared:
        if tensors[key].shape != own[key].shape:
            raise ModelError(
                f"{what}: {key} has shape {list(tensors[key].shape)} and should have "
                f"{list(own[key].shape)}; it is another model."
            )
    for key in shared:
        own[key].detach().copy_(tensors[key])
    check_finite({key: own[key] for key in shared}, what)


def add_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors with ``prefix`` before each key."""
    return {prefix + key: value for key, value in tensors.items()}


def halve_large(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as a small model's file holds them: large ones as float16.

    Rounding the small ones, which hold norms and biases, would save next to nothing and cost a
    hundred times the accuracy of all others together.
    """
    return {
        key: value.half() if value.is_floating_point() and value.numel() >= HALF_FROM else value
        for key, value in tensors.items()
    }


def save_model(directory: Path, config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Writes a model directory; each file appears whole or not at all.

    Args:
        directory: Made where it does not exist.
        config: Becomes ``config.json``, with the digest of the tensors' file.
        tensors: With the prefixes of this module; floats keep their width.

    Raises:
        InctrlError: The directory cannot be written.
    """
    weights = directory / WEIGHTS_FILE
    contiguous = {key: value.contiguous() for key, value in tensors.items()}
    write_whole(weights, lambda partial: save_file(contiguous, partial))
    text = config_to_json(dataclasses.replace(config, weights_sha256=_digest(weights)))
    write_whole(directory / CONFIG_FILE, lambda partial: partial.write_text(text, encoding="utf-8"))


def load_model(
    directory: Path,
    *,
    heads: Path | None = None,
    backbone_file: Path | None = None,
    on_progress: Progress | None = None,
) -> LoadedModel:
    """Reads a model directory, and fetches its backbone where the Hub has it.

    Args:
        directory: The model's directory.
        backbone_file: Weights to use in place of the Hub's, under open_clip's names; None for the
            file of the Hub's name in the directory, where there is one.
        heads: Another model directory, whose heads and patch adapter are to be used with this
            model's backbone.
        on_progress: Told of a download.

    Raises:
        ModelError: See :func:`inctrl_core.config.read_config`,
            :class:`inctrl_core.checkpoints.tensor_files.TensorFile`, :func:`load_strict` and
            :func:`inctrl_core.checkpoints.hub.fetch_file`; or ``heads`` were made for another
            backbone; or the weights are not those that ``config.json`` was written with.
    """
    config = read_config(directory)
    path = directory / WEIGHTS_FILE
    tensors = TensorFile(path) if _carries_weights(config) else {}
    _refuse_strays(config, tensors, path)
    heads_source, heads_tensors = path, tensors
    if heads is not None:
        config, heads_source = _with_heads(config, heads), heads / WEIGHTS_FILE
        heads_tensors = TensorFile(heads_source) if config.heads.trained else {}
    head_module = load_heads(config, heads_tensors, str(heads_source))
    adapter = load_adapter(config, heads_tensors, str(heads_source))
    backbone_file = backbone_file or file_beside(directory, config.backbone)
    given = None if backbone_file is None else TensorFile(backbone_file)
    values = MOST_VALUES  # Of the Hub's file, which is fetched for what can be built alone.
    if given is not None:
        values = _count_values(given)
    elif config.backbone.hub_repo is None:
        values = _count_values(tensors, BACKBONE_PREFIX)
    clip = build_clip(config.backbone, random_weights=False, values=values)
    if given is not None:
        load_strict(clip, given, str(backbone_file))
        config = as_given(config, backbone_file)
    else:
        fill_backbone(clip, config, tensors, path, on_progress)
        config = _with_commit(config)
    # Last of all, so that a file that does not fit is told by what is wrong with it.
    for source in (directory,) if heads is None else (directory, heads):
        check_digest(source)
    return LoadedModel(config, clip, head_module, adapter)


def _count_values(file: TensorFile, prefix: str = "") -> int:
    shapes = file.shapes()
    return sum(math.prod(shape) for key, shape in shapes.items() if key.startswith(prefix))


def fill_backbone(
    clip: CLIP,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    path: Path,
    on_progress: Progress | None = None,
) -> None:
    """Puts the backbone's weights in place, from the directory's own file or from the Hub.

    Args:
        clip: Receives them.
        config: Says where they are.
        tensors: Content of the directory's own file; empty where it has none.
        path: Path of that file, for messages.
        on_progress: Told of a download.

    Raises:
        ModelError: See :func:`load_model`.
    """
    if config.backbone.hub_repo is None:
        load_strict(clip, PrefixedTensors(tensors, BACKBONE_PREFIX), str(path))
        return
    load_strict(clip, fetch_backbone(config, on_progress), config.backbone.hub_repo)


def fetch_backbone(config: ModelConfig, on_progress: Progress | None = None) -> TensorFile:
    """The backbone's tensors on the Hub, under open_clip's names.

    Raises:
        ModelError: They cannot be had, or the file is damaged; then the next try fetches it anew.
    """
    backbone = config.backbone
    path = fetch_file(backbone.hub_repo, backbone.hub_file, backbone.hub_revision, on_progress)
    try:
        return TensorFile(path)
    except ModelError:
        discard(path)
        raise


def fetch_directory(
    repo: str, revision: str | None = None, on_progress: Progress | None = None
) -> Path:
    """The local copy of a model directory on the Hub, without the backbone of another repository.

    Raises:
        ModelError: It cannot be had; see :func:`inctrl_core.checkpoints.hub.fetch_file`.
    """

    def needed(directory: Path) -> tuple[str, ...]:
        return (WEIGHTS_FILE,) if _carries_weights(read_config(directory)) else ()

    directory = fetch_model(repo, needed, revision, on_progress)
    path = directory / WEIGHTS_FILE
    if path.exists():
        try:
            TensorFile(path)
        except ModelError:
            discard(path)
            raise
    return directory


def load_heads(config: ModelConfig, tensors: Mapping[str, Tensor], what: str) -> nn.Module:
    """Builds the heads that ``config`` names and fills them from the ``heads.*`` tensors."""
    heads = build_heads(config.heads, config.backbone)
    load_strict(heads, PrefixedTensors(tensors, HEADS_PREFIX), what)
    return heads.float().eval().requires_grad_(False)


def load_adapter(
    config: ModelConfig, tensors: Mapping[str, Tensor], what: str
) -> PatchAdapter | None:
    """The patch adapter that ``config`` names, from the ``patch_adapter.*`` tensors."""
    adapter = PatchAdapter(config.heads.patch_adapter)
    load_strict(adapter, PrefixedTensors(tensors, ADAPTER_PREFIX), what)
    return adapter.eval().requires_grad_(False) if config.heads.patch_adapter else None


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raises ModelError where a tensor holds a value that is not a number."""
    for key, value in tensors.items():
        # Both ends are not a number where any value is none, and are found far sooner than each
        # value is asked.
        ends = aminmax(value) if value.is_floating_point() and value.numel() else ()
        if not all(map(isfinite, ends)):
            raise ModelError(f"{what}: {key} holds values that are not finite; it is damaged.")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_digest(directory: Path) -> None:
    """Raises ModelError where the weights are not those that ``config.json`` was written with."""
    config, path = read_config(directory), directory / WEIGHTS_FILE
    noted = config.weights_sha256 if _carries_weights(config) else None
    if noted is not None and _digest(path) != noted:
        raise ModelError(
            f"{path} is damaged: it is not what its {CONFIG_FILE} was written with; "
            "fetch or convert the model again."
        )


def _with_heads(config: ModelConfig, directory: Path) -> ModelConfig:
    """``config`` with the heads that another model directory describes."""
    other = read_config(directory)
    if _signature(other) != _signature(config):
        raise ModelError(
            f"The heads of {other.name} were made for another backbone than that of {config.name}; "
            "choose heads made for it."
        )
    source = {"name": other.name, "weights_sha256": other.weights_sha256}
    return dataclasses.replace(
        config,
        name=f"{config.name} with the heads of {other.name}",
        heads=other.heads,
        training=other.training,
        provenance=dict(config.provenance) | {"heads": dict(other.provenance) | source},
    )


def _with_commit(config: ModelConfig) -> ModelConfig:
    """``config`` with the commit that its backbone was just read from, in place of a branch."""
    backbone = config.backbone
    if backbone.hub_repo is None:
        return config
    commit = cached_commit(backbone.hub_repo, backbone.hub_file, backbone.hub_revision)
    revised = dataclasses.replace(backbone, hub_revision=commit or backbone.hub_revision)
    return dataclasses.replace(config, backbone=revised)


def _signature(config: ModelConfig) -> tuple[object, ...]:
    """The parts of a backbone that heads depend on, however its description spells defaults."""
    backbone = config.backbone
    try:
        tower = CLIPVisionCfg(**backbone.architecture["vision_cfg"])
    except TypeError as error:
        raise ModelError(f"{config.name} has no backbone that open_clip knows: {error}.") from None
    seen = config.image_sizes, config.preprocess.resize_mode
    return backbone.embed_dim, backbone.depths, backbone.grid, seen, tower


def _carries_weights(config: ModelConfig) -> bool:
    return config.backbone.hub_repo is None or config.heads.trained


def _refuse_strays(config: ModelConfig, tensors: Mapping[str, Tensor], path: Path) -> None:
    known = (HEADS_PREFIX, ADAPTER_PREFIX)
    if config.backbone.hub_repo is None:
        known += (BACKBONE_PREFIX,)
    stray = [key for key in sorted(tensors) if not key.startswith(known)]
    if stray:
        raise ModelError(f"{path} has unexpected {name_some(stray)}; it is another model.")
