"""The description of a model, as frozen data: the content of a model directory's ``config.json``.

Every field is checked when it is read, by its type and by what stands in ``_check_values``, so that
the rest of the program may trust it.
"""

from __future__ import annotations

import dataclasses
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

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

# Numbers are no texts and no truth values, and nothing is there that is not known.
CHECKED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Positive = Annotated[float, Field(gt=0)]
Side = Annotated[int, Field(ge=16, le=1024)]
Width = Annotated[int, Field(ge=1, le=BOUNDS["width"])]


@dataclass(frozen=True)
class PreprocessConfig:
    """How an image becomes a square tensor.

    Attributes:
        image_size: Side of the square, pixels.
        mean: Per-channel mean of pixel values in [0, 1].
        std: Per-channel standard deviation of pixel values in [0, 1].
        resize_mode: In open_clip's terms: "shortest" brings the shorter
            side to ``image_size`` and cuts the centre out, as the paper's model does; "squash"
            brings both sides to it, so that the whole image is seen, if out of proportion.
    """

    __pydantic_config__ = CHECKED

    image_size: Side = 240
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[Positive, Positive, Positive] = CLIP_STD
    resize_mode: Literal["shortest", "squash"] = SHORTEST


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
        hub_file: File name inside ``hub_repo``; only without that it may be None.
        hub_revision: Branch, tag or commit of ``hub_repo``; None for its main branch. Heads that
            were compared with certain weights name their commit.
    """

    __pydantic_config__ = CHECKED

    architecture: Mapping[str, Any]
    depths: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    grid: Annotated[int, Field(ge=1, le=64)] = 15
    image_sizes: Annotated[tuple[Side, ...], Field(max_length=MAX_IMAGE_SIZES)] = ()
    hub_repo: str | None = None
    hub_file: str | None = "open_clip_model.safetensors"
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

    __pydantic_config__ = CHECKED

    form: Literal["training-free", "reference", "gated"] = "training-free"
    options: Mapping[str, Any] = field(default_factory=dict)
    training_free: Mapping[str, float] = field(default_factory=dict)
    patch_adapter: tuple[Width, ...] = ()
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

    __pydantic_config__ = CHECKED

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
        # As JSON again, in which alone a list may stand for a tuple and an object for a dataclass.
        config = TypeAdapter(ModelConfig).validate_json(json.dumps(data))
        _check_values(config)
    except ValidationError as error:
        raise ModelError(f"{where} does not describe a model: {_first_of(error)}.") from None
    except ValueError as error:
        raise ModelError(f"{where} does not describe a model: {cut(str(error))}.") from None
    return config


def _first_of(error: ValidationError) -> str:
    """The first field that is wrong, and how."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = cut(".".join(map(str, first["loc"])))
    if first["type"] == "missing":
        return f"missing field {place!r}"
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown field {place!r}"
    return f"{place!r}: {cut(first['msg'][0].lower() + first['msg'][1:])}"


def _check_values(config: ModelConfig) -> None:
    backbone, preprocess = config.backbone, config.preprocess
    check_architecture(backbone.architecture)
    if list(backbone.depths) != sorted(set(backbone.depths)):
        raise ValueError("depths must be increasing")
    if backbone.hub_repo is not None and backbone.hub_file is None:
        raise ValueError("hub_file must name a file of hub_repo")
    sizes = backbone.image_sizes
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[-1] != preprocess.image_size):
        raise ValueError("image_sizes must be increasing and end with image_size")
    widths = config.heads.patch_adapter
    if widths and len(widths) != len(backbone.depths):
        raise ValueError("patch_adapter must have a width for each depth")
