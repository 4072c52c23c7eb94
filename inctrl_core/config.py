"""The description of a model, as frozen data: the content of a model directory's ``config.json``.

Every field is checked when it is read, so that the rest of the program may trust it.
"""

from __future__ import annotations

import dataclasses
import json
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .architecture import BOUNDS, check_architecture
from .errors import ModelError, cut

FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
MOST_BYTES = 16 * 2**20  # Of a file of JSON; records of trainings have thousands of lines.

# The per-channel statistics that OpenAI's CLIP, and with it the paper's backbone, was trained with.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

MAX_IMAGE_SIZES = 4
MAX_DEFECTS = 16  # Images that are shown as defects beside the normals.
MAX_SHOTS = 16  # Normals of a bank; gated heads hold constants for every number of them.
SHORTEST, SQUASH = "shortest", "squash"
RESIZE_MODES = (SHORTEST, SQUASH)
HEAD_FORMS = ("training-free", "reference", "gated")


@dataclass(frozen=True)
class PreprocessConfig:
    """How an image becomes a square tensor.

    Attributes:
        image_size: Side of the square, pixels.
        mean: Per-channel mean of pixel values in [0, 1].
        std: Per-channel standard deviation of pixel values in [0, 1].
        resize_mode: One of ``RESIZE_MODES``, in open_clip's terms: "shortest" brings the shorter
            side to ``image_size`` and cuts the centre out, as the paper's model does; "squash"
            brings both sides to it, so that the whole image is seen, if out of proportion.
    """

    image_size: int = 240
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    resize_mode: str = SHORTEST


@dataclass(frozen=True)
class BackboneConfig:
    """The frozen CLIP-style model.

    Attributes:
        architecture: open_clip model configuration (``embed_dim``, ``vision_cfg``, ``text_cfg``).
        depths: Indices for open_clip's ``forward_intermediates``, counted from 0, shallow first.
        grid: Side of the square patch grid that every depth is resampled to.
        image_sizes: Sides at which a crop is read, pixels, ascending, the last one the crop's own;
            empty for that alone. See :class:`inctrl_core.model.backbone.Backbone`.
        hub_repo: Hub repository with the weights in open_clip format, or None where the model
            directory's own ``model.safetensors`` carries them.
        hub_file: File name inside ``hub_repo``.
        hub_revision: Branch, tag or commit of ``hub_repo``; None for its main branch. Heads that
            were compared with certain weights name their commit.
    """

    architecture: Mapping[str, Any]
    depths: tuple[int, ...]
    grid: int = 15
    image_sizes: tuple[int, ...] = ()
    hub_repo: str | None = None
    hub_file: str = "open_clip_model.safetensors"
    hub_revision: str | None = None

    @property
    def embed_dim(self) -> int:
        """Width of the global embedding."""
        return int(self.architecture["embed_dim"])


@dataclass(frozen=True)
class HeadsConfig:
    """The trained parts of a model, and the fusion that turns the signals into a score.

    Attributes:
        form: "training-free" (a fixed formula, without weights of its own), "reference" (the
            paper's heads) or "gated" (weights that the normals decide).
        options: Numbers of the form; each form documents its own.
        training_free: Weights of the training-free fusion, also for a model that has trained
            heads and is asked to do without; empty for the default ones.
        patch_adapter: Widths of the patches at each depth, where a trained adapter stands between
            them and their comparison; empty for none.
        good_scores: Figures of good images of the auxiliary classes, by the kind of anomaly that is
            looked for and by the number of normals, see :mod:`inctrl_core.analysis.decision`; empty
            where there are none.
    """

    form: str = "training-free"
    options: Mapping[str, Any] = field(default_factory=dict)
    training_free: Mapping[str, float] = field(default_factory=dict)
    patch_adapter: tuple[int, ...] = ()
    good_scores: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether anything was learnt from auxiliary data; see :attr:`Score.fusion`."""
        return self.form != "training-free" or bool(self.patch_adapter)

    @property
    def described(self) -> str:
        """How a score comes about, in words.

        >>> HeadsConfig().described
        'training-free fusion'
        >>> HeadsConfig(patch_adapter=(24,)).described
        'fixed fusion of trained patches'
        """
        patches = " of trained patches" if self.patch_adapter else ""
        if self.form != "training-free":
            return f"trained {self.form} fusion{patches}"
        return f"{'fixed' if patches else 'training-free'} fusion{patches}"


@dataclass(frozen=True)
class ModelConfig:
    """All that ``config.json`` says.

    Attributes:
        name: Name shown to people.
        backbone: The frozen model.
        preprocess: Image to tensor.
        heads: The fusion.
        provenance: Where the weights come from, with licences; free form.
        training: Record of the training of heads and adapter; free form, empty where none was.
        weights_sha256: Digest of ``model.safetensors``, 64 hexadecimal digits; None where unknown.
        format_version: Version of this format.
    """

    name: str
    backbone: BackboneConfig
    preprocess: PreprocessConfig = PreprocessConfig()
    heads: HeadsConfig = HeadsConfig()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str | None = None
    format_version: int = FORMAT_VERSION

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Sides at which a crop is read, pixels, ascending; one at least."""
        return self.backbone.image_sizes or (self.preprocess.image_size,)

    @property
    def weights(self) -> str:
        """Which weights these are: digests of files, and what is from the Hub."""
        backbone, heads = self.backbone, self.provenance.get("heads")
        parts = []
        if backbone.hub_repo is not None:
            parts.append(f"{backbone.hub_repo}@{backbone.hub_revision or 'main'}")
        if self.weights_sha256 is not None:
            parts.append(f"sha256 {self.weights_sha256}")
        if isinstance(self.provenance.get("backbone_sha256"), str):
            parts.append(f"backbone sha256 {self.provenance['backbone_sha256']}")
        if isinstance(heads, Mapping) and isinstance(heads.get("weights_sha256"), str):
            parts.append(f"heads sha256 {heads['weights_sha256']}")
        return " + ".join(parts) or "not recorded"

    @property
    def title(self) -> str:
        """The name, and with it the Hub repository of the backbone, which says which weights."""
        repo = self.backbone.hub_repo
        return self.name if repo is None else f"{self.name} ({repo})"


def config_to_json(config: ModelConfig) -> str:
    """Serialises ``config`` as indented JSON text."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def read_config(directory: Path) -> ModelConfig:
    """Reads and checks ``directory/config.json``.

    Raises:
        ModelError: The file is missing, is no regular file of at most ``MOST_BYTES``, is not JSON,
            is of another format version, or a field is missing, unknown or of the wrong kind.
    """
    path = directory / CONFIG_FILE
    try:
        data = json.loads(read_regular(path))
    except OSError:
        raise ModelError(f"{path} cannot be read; name a directory that holds a model.") from None
    except (ValueError, RecursionError):  # The latter from lists in lists without end.
        raise ModelError(f"{path} is not valid JSON; fetch or convert the model again.") from None
    return config_from_dict(data, str(path))


def read_regular(path: Path) -> bytes:
    """A small file's content.

    Raises:
        OSError: It is missing, may not be read, is larger than ``MOST_BYTES``, or is a pipe, a
            device or a folder, of which reading may never end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
        raise OSError(f"{path} is no file of at most {MOST_BYTES} bytes")
    return path.read_bytes()


def config_from_dict(data: Any, where: str = CONFIG_FILE) -> ModelConfig:
    """Builds a :class:`ModelConfig` from parsed JSON.

    Args:
        data: What ``json.loads`` returned.
        where: Name of the source, for messages.

    Raises:
        ModelError: As :func:`read_config`.
    """
    if not isinstance(data, dict):
        raise ModelError(f"{where} must hold one JSON object; fetch or convert the model again.")
    version = data.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{where} has format version {cut(repr(version))}, and this program reads "
            f"{FORMAT_VERSION}; update the program or convert the model again."
        )
    try:
        _check_types(data)
        backbone = _checked(BackboneConfig, data["backbone"])
        heads = _checked(HeadsConfig, data.get("heads", {}))
        preprocess = _checked(PreprocessConfig, data.get("preprocess", {}))
        config = _checked(
            ModelConfig,
            data
            | {
                "backbone": dataclasses.replace(
                    backbone,
                    depths=tuple(backbone.depths),
                    image_sizes=tuple(backbone.image_sizes),
                ),
                "preprocess": dataclasses.replace(
                    preprocess,
                    mean=tuple(map(float, preprocess.mean)),
                    std=tuple(map(float, preprocess.std)),
                ),
                "heads": dataclasses.replace(heads, patch_adapter=tuple(heads.patch_adapter)),
            },
        )
        _check_values(config)
    except (KeyError, ValueError) as error:
        detail = f"missing field {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{where} does not describe a model: {cut(detail)}.") from None
    return config


def _checked(kind: type, data: Mapping[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}")
    return kind(**data)


def _check_types(data: Mapping[str, Any]) -> None:
    """Raises ValueError where a field is of another kind, KeyError where one is missing."""
    parts = {"backbone": data["backbone"]} | {k: data.get(k, {}) for k in ("preprocess", "heads")}
    free = {key: data.get(key, {}) for key in ("provenance", "training")}
    for name, value in (parts | free).items():
        _require(isinstance(value, dict), f"{name} must be an object")
    backbone, preprocess, heads = parts.values()
    architecture = backbone["architecture"]
    _require(isinstance(architecture, dict), "architecture must be an object")
    for name in ("options", "training_free", "good_scores"):
        _require(isinstance(heads.get(name, {}), dict), f"heads.{name} must be an object")
    texts = {"name": data["name"], "heads.form": heads.get("form", "")}
    texts["preprocess.resize_mode"] = preprocess.get("resize_mode", SHORTEST)
    optional = {key: backbone.get(key) for key in ("hub_repo", "hub_revision")}
    optional["weights_sha256"] = data.get("weights_sha256")
    # Without a repository there is no file in it either.
    named = texts if backbone.get("hub_repo") is not None else optional
    named["hub_file"] = backbone.get("hub_file", "")
    texts |= {key: value for key, value in optional.items() if value is not None}
    for name, value in texts.items():
        _require(isinstance(value, str), f"{name} must be text")
    whole = [*_listed(backbone["depths"]), backbone.get("grid", 1), preprocess.get("image_size", 1)]
    whole += _listed(heads.get("patch_adapter", [])) + _listed(backbone.get("image_sizes", []))
    _require(
        all(type(n) is int for n in whole),
        "depths, grid, image_size, image_sizes and patch_adapter must be whole numbers",
    )
    numbers = [n for key in ("mean", "std") for n in _listed(preprocess.get(key, []))]
    _require(all(map(_is_number, numbers)), "mean and std must be lists of numbers")
    weights = heads.get("training_free", {}).values()
    _require(all(map(_is_number, weights)), "the values of heads.training_free must be numbers")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _is_number(value: Any) -> bool:
    # Not math.isfinite, which raises on whole numbers that no float can hold.
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _listed(value: Any) -> list[Any]:
    # None is no number of any kind.
    return list(value) if isinstance(value, list | tuple) else [None]


def _check_values(config: ModelConfig) -> None:
    backbone, preprocess = config.backbone, config.preprocess
    check_architecture(backbone.architecture)
    if not backbone.depths or list(backbone.depths) != sorted(set(backbone.depths)):
        raise ValueError("depths must be increasing and not empty")
    if backbone.depths[0] < 0:
        raise ValueError("depths must be 0 or more")
    if not 1 <= backbone.grid <= 64:
        raise ValueError("grid must lie between 1 and 64")
    if not 16 <= preprocess.image_size <= 1024:
        raise ValueError("image_size must lie between 16 and 1024")
    sizes = backbone.image_sizes
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != preprocess.image_size):
        raise ValueError("image_sizes must be increasing and end with image_size")
    if sizes and (sizes[0] < 16 or len(sizes) > MAX_IMAGE_SIZES):
        raise ValueError(f"image_sizes must be {MAX_IMAGE_SIZES} sizes at most, each at least 16")
    if preprocess.resize_mode not in RESIZE_MODES:
        raise ValueError(f"resize_mode must be one of {', '.join(RESIZE_MODES)}")
    if len(preprocess.mean) != 3 or len(preprocess.std) != 3 or min(preprocess.std) <= 0:
        raise ValueError("mean and std must have three values, and std must be positive")
    widths = config.heads.patch_adapter
    if widths and len(widths) != len(backbone.depths):
        raise ValueError("patch_adapter must have a width for each depth")
    if not all(1 <= width <= BOUNDS["width"] for width in widths):
        raise ValueError(f"widths of patch_adapter must lie between 1 and {BOUNDS['width']}")
    if config.heads.form not in HEAD_FORMS:
        raise ValueError(f"heads.form must be one of {', '.join(HEAD_FORMS)}")
