"""The frozen CLIP-style model under its patch adapter: crops -> ImageFeatures, prompts -> text.

One code path for ViT and timm towers, on top of open_clip's own ``forward_intermediates``.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from ..config import BackboneConfig
from ..devices import keep_float32_exact, run_in_batches
from ..errors import ModelError
from .clip import first_line
from .engine import TowerEngine
from .patch_adapter import PatchAdapter
from .residuals import resample_to_grid
from .text_tower import TextTower

Result = TypeVar("Result")

IMAGE_BATCH = 16  # Crops in one forward pass; more is no faster and only takes memory.
# On a CPU a batch gains less than a tenth, and alone an image's result is the same bit for bit
# whatever it is scored with.
CPU_IMAGE_BATCH = 1

# Of crops at one size: the embeddings, where they were asked for, and the patches of each depth.
_Reading = tuple[Tensor | None, tuple[Tensor, ...]]


@dataclass(frozen=True)
class ImageFeatures:
    """The backbone's features of B crops, in float32.

    Attributes:
        embeddings: [B, E], the projected image token, not normalised.
        patches: One [B, G * G, C_d] per depth, shallow first, rows of unit length. Where a crop is
            read at V sizes, C_d counts all of them: V unit vectors side by side, each divided by
            the root of V, so that a cosine of rows is the mean over the sizes.
    """

    embeddings: Tensor
    patches: tuple[Tensor, ...]

    def __len__(self) -> int:
        """Number of crops."""
        return self.embeddings.shape[0]

    def __getitem__(self, items: slice | Sequence[int]) -> ImageFeatures:
        """The features of some of the crops, in the order asked for."""
        index = items if isinstance(items, slice) else list(items)
        return ImageFeatures(self.embeddings[index], tuple(depth[index] for depth in self.patches))

    def to(self, device: torch.device | str) -> ImageFeatures:
        """The same features on another device."""
        return ImageFeatures(
            self.embeddings.to(device), tuple(depth.to(device) for depth in self.patches)
        )


class Backbone:
    """A frozen CLIP model on one device, at one precision.

    Holds nothing of any user, so one instance serves all. A crop may be read at several sizes
    (``config.image_sizes``): a place of the grid is then described at all of them at once, by its
    patches side by side, since what is too small to leave a trace in one does so in another. The
    patch adapter is the same for all; the embeddings are those of the first size.

    Args:
        clip: open_clip model with its weights in place.
        config: Its description.
        device: Where it computes and where its results lie.
        dtype: Precision of the forward pass; results are float32 whatever it is.
        patch_adapter: Trained map of the patches; None for the backbone's own.
        engine: Passes images through the tower in torch's place, on this device at this precision;
            None for torch.

    Raises:
        ModelError: ``config`` names a depth that the tower lacks.
    """

    def __init__(
        self,
        clip: CLIP,
        config: BackboneConfig,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        patch_adapter: PatchAdapter | None = None,
        engine: TowerEngine | None = None,
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.dtype = dtype
        _check_depths(clip, config)
        keep_float32_exact(self.device)
        self._clip = clip.to(device=self.device, dtype=dtype)
        if _is_convolutional(config):
            # Convolutions are faster with the channels of a pixel side by side.
            self._clip.visual.to(memory_format=torch.channels_last)
        heads = int(config.architecture["text_cfg"].get("heads", 8))
        self._text = TextTower(self._clip, heads)
        self.patch_adapter = _frozen(patch_adapter, self.device)
        self.engine = engine

    @property
    def clip(self) -> CLIP:
        """The open_clip model as it is stored."""
        return self._clip

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Backbone:
        """The same model on another device, at another precision.

        The weights are moved, not copied: this object is of no use any more.

        Args:
            device: Where it computes from now on.
            dtype: Precision of the forward pass.
        """
        moved = copy.copy(self)
        moved.device, moved.dtype = torch.device(device), dtype
        keep_float32_exact(moved.device)
        moved._clip = self._clip.to(device=moved.device, dtype=dtype)
        moved.patch_adapter = _frozen(self.patch_adapter, moved.device)
        # It computes here alone; and a process that was forked would wait for its parent's threads.
        moved.engine = None
        return moved

    def with_adapter(self, patch_adapter: PatchAdapter | None) -> Backbone:
        """The same model under another patch adapter, sharing the weights."""
        other = copy.copy(self)
        other.patch_adapter = _frozen(patch_adapter, self.device)
        return other

    def without_engine(self) -> Backbone:
        """The same model, passed by torch."""
        other = copy.copy(self)
        other.engine = None
        return other

    def at_first_size(self) -> Backbone:
        """The same model that reads a crop, which is then of that size, at the first size alone."""
        other = copy.copy(self)
        other.config = dataclasses.replace(self.config, image_sizes=())
        return other

    @torch.inference_mode()
    def encode_images(self, crops: Tensor) -> ImageFeatures:
        """Embeds B normalised crops, a batch at a time, smaller ones where memory runs out.

        Args:
            crops: float32 [B, 3, S, S] of :func:`inctrl_core.images.preprocessing.preprocess`.
        """
        sizes = self.config.image_sizes or crops.shape[-1:]
        if self.engine is not None and self.engine.takes(sizes):
            tasks = [(crop, size) for crop in crops.split(1) for size in sizes]
            readings = self.engine.map(self._read, *zip(*tasks, strict=True))
            parts = list(map(_join, *[readings] * len(sizes)))
        else:
            batch = CPU_IMAGE_BATCH if self.device.type == "cpu" else IMAGE_BATCH
            parts = run_in_batches(self._encode_batch, crops, batch)
        if len(parts) == 1:
            return parts[0]
        depths = zip(*(part.patches for part in parts), strict=True)
        return ImageFeatures(
            torch.cat([part.embeddings for part in parts]),
            tuple(torch.cat(depth) for depth in depths),
        )

    def map(self, function: Callable[..., Result], *arguments: Iterable[Any]) -> Iterator[Result]:
        """As Python's ``map``; where there is an engine, as :meth:`.engine.TowerEngine.map`."""
        each = map if self.engine is None else self.engine.map
        return each(function, *arguments)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Embeds N prompts: float32 [N, E], rows of unit length."""
        return self._text.encode(prompts)

    def views(self, crops: Tensor) -> list[Tensor]:
        """The crops [B, 3, S, S] at each of ``config.image_sizes``, or just as they are."""
        # Where they lie, for not every device can resize as well.
        sizes = self.config.image_sizes or (crops.shape[-1],)
        return [_view(crops, size) for size in sizes]

    @torch.inference_mode()
    def forward(self, crops: Tensor, *, patches_only: bool = False) -> dict[str, Any]:
        """The bare pass: ``image_features`` [B, E] and ``image_intermediates``, D of [B, C, H, W].

        At the size of the crops; see :meth:`views` for the others.

        Args:
            crops: [B, 3, S, S], on any device, of any width.
            patches_only: Leaves out ``image_features``, and what only they need.
        """
        crops = crops.to(self.device, self.dtype)
        if _is_convolutional(self.config):
            crops = crops.contiguous(memory_format=torch.channels_last)
        try:
            return self._clip.visual.forward_intermediates(
                crops,
                indices=list(self.config.depths),
                intermediates_only=patches_only,
                stop_early=patches_only,
                output_fmt="NCHW",
            )
        except AssertionError as error:  # So timm says that a depth or a size does not fit.
            raise ModelError(
                "The backbone cannot read an image at these depths and sizes "
                f"({first_line(error)}); correct them in config.json."
            ) from error

    def forward_views(self, views: Sequence[Tensor]) -> list[dict[str, Any]]:
        """:meth:`forward` of crops at every size of :meth:`views`; the embedding of the first only.

        Args:
            views: V of [B, 3, S_v, S_v].
        """
        alone, sizes = len(views[0]) == 1, [view.shape[-1] for view in views]
        if self.engine is not None and alone and self.engine.takes(sizes):
            return list(self.engine.map(self.engine.forward, views))
        return [self.forward(view, patches_only=i > 0) for i, view in enumerate(views)]

    def _encode_batch(self, crops: Tensor) -> ImageFeatures:
        return _join(*map(self._reading, self.forward_views(self.views(crops))))

    def _read(self, crop: Tensor, size: int) -> _Reading:
        return self._reading(self.engine.forward(_view(crop, size)))

    def _reading(self, output: Mapping[str, Any]) -> _Reading:
        patches = tuple(
            F.normalize(resample_to_grid(depth.float(), self.config.grid), dim=-1)
            for depth in output["image_intermediates"]
        )
        if self.patch_adapter is not None:
            patches = self.patch_adapter(patches)
        return output.get("image_features"), patches


def _view(crops: Tensor, size: int) -> Tensor:
    if size == crops.shape[-1]:
        return crops
    return F.interpolate(crops, (size, size), mode="bicubic", antialias=True)


def _join(*readings: _Reading) -> ImageFeatures:
    """The features of crops of which there is a reading at each of their sizes."""
    depths = zip(*(patches for _, patches in readings), strict=True)
    joined = tuple(torch.cat(depth, dim=-1) / len(readings) ** 0.5 for depth in depths)
    return ImageFeatures(readings[0][0].float(), joined)


def _check_depths(clip: CLIP, config: BackboneConfig) -> None:
    """Raises ModelError where the tower lacks a depth, as far as it says how many it has."""
    blocks = getattr(getattr(clip.visual, "transformer", None), "resblocks", None)
    stages = getattr(getattr(clip.visual, "trunk", None), "feature_info", None)
    known = blocks if blocks is not None else stages
    if known is not None and config.depths[-1] >= len(known):
        raise ModelError(
            f"The backbone has the depths 0 to {len(known) - 1} and not {config.depths[-1]}; "
            "correct config.json."
        )


def _frozen(adapter: PatchAdapter | None, device: torch.device) -> PatchAdapter | None:
    return None if adapter is None else adapter.to(device).eval().requires_grad_(False)


def _is_convolutional(config: BackboneConfig) -> bool:
    return bool(config.architecture["vision_cfg"].get("timm_model_name"))
