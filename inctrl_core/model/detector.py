"""Detector: a backbone and a fusion, ready to build banks and score queries."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..config import ModelConfig, config_to_json
from ..devices import explain_memory
from ..errors import InctrlError, PromptError
from ..images.files import ImageSource, check_listed, levels_used, open_image, set_levels
from ..images.ignored import check_part, paint_over
from ..images.levels import Levels, describe_levels
from ..images.preprocessing import CropBox, crop_image, to_tensor
from ..images.seen import SeenImage, SeenSet
from .backbone import Backbone, ImageFeatures
from .bank import (
    PromptBank,
    TextFeatures,
    build_prompt_bank,
    build_text_features,
    check_shots,
    count_patches,
)
from .copies import same_images
from .defects import shifted
from .evidence import DECIDE, Evidence, Fusion
from .gated import GatedHeads
from .heads import build_heads
from .prompts import PromptSet, build_prompts, clean_object_name
from .residuals import layer_residuals, text_anomaly
from .score import Score

TEXT_CACHE_SIZE = 64
SCORE_BATCH = 16


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Images after the one pass through the backbone that they ever need.

    Attributes:
        features: Features of the B images.
        crop_boxes: B boxes, in pixels of each original.
        data: The kind of data of each, for people; none where it is not known.
    """

    features: ImageFeatures
    crop_boxes: tuple[CropBox, ...]
    data: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.crop_boxes)

    def to(self, device: torch.device | str) -> EncodedImages:
        """The same features on another device."""
        return dataclasses.replace(self, features=self.features.to(device))


class Detector:
    """Few-shot anomaly detection with one model.

    Holds no per-user state, so one detector serves any number of users and threads: what belongs
    to a user is in the bank that :meth:`build_bank` returns.

    Args:
        config: Description of the model.
        backbone: The frozen model.
        heads: A fusion of :mod:`inctrl_core.model.heads`.
    """

    def __init__(self, config: ModelConfig, backbone: Backbone, heads: nn.Module) -> None:
        self.config = config
        self.backbone = backbone
        self.heads = heads.to(backbone.device)
        self._text_features = lru_cache(maxsize=TEXT_CACHE_SIZE)(
            # Not a method: with itself in its own cache a detector would stay in memory, model and
            # all, until Python happens to look for cycles.
            partial(_encode_prompts, backbone)
        )

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.name

    @property
    def fusion(self) -> str:
        """The word of :class:`Score` for how scores come about: "trained" or "training-free"."""
        return "trained" if self.config.heads.trained else "training-free"

    @cached_property
    def digest(self) -> str:
        """Names the model by its content, its description and all of its weights, on any device."""
        backbone = self.backbone
        digest = hashlib.blake2b(config_to_json(self.config).encode(), digest_size=16)
        for module in (backbone.clip, backbone.patch_adapter, self.heads):
            for key, value in () if module is None else sorted(module.state_dict().items()):
                digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(value.flatten().cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Detector:
        """The same model on another device; the weights are moved, so this one is of no use.

        Args:
            device: Where it computes from now on.
            dtype: Precision of the backbone's forward pass.
        """
        return Detector(self.config, self.backbone.to(device, dtype), self.heads)

    def training_free(self) -> Detector:
        """This model without all that is trained: the bare backbone under the fixed fusion."""
        heads = dataclasses.replace(
            self.config.heads, form="training-free", options={}, patch_adapter=(), good_scores={}
        )
        config = dataclasses.replace(self.config, heads=heads)
        fusion = build_heads(heads, config.backbone)
        return Detector(config, self.backbone.with_adapter(None), fusion)

    def at_first_size(self) -> Detector:
        """This model reading images at the first of its sizes alone, for training an adapter."""
        sizes = self.config.backbone.image_sizes
        if not sizes:
            return self
        backbone = self.backbone.at_first_size()
        preprocess = dataclasses.replace(self.config.preprocess, image_size=sizes[0])
        config = dataclasses.replace(self.config, backbone=backbone.config, preprocess=preprocess)
        return Detector(config, backbone, self.heads)

    @explain_memory
    def build_bank(
        self,
        normal_images: Sequence[ImageSource] | SeenSet,
        object_name: str = "object",
        prompts: PromptSet | None = None,
        looks_for: str = DECIDE,
        ignored: np.ndarray | None = None,
    ) -> PromptBank:
        """Encodes the normals and the prompts, once for all queries to come.

        Args:
            normal_images: 1 to 16 images, each a path, bytes, PIL image or numpy array; see
                :func:`.image_files.open_image`. Those of more than 8 bits a value are read twice:
                first for the levels of the set.
            object_name: What they show, for the text prompts.
            prompts: Replaces the prompts made from ``object_name``.
            looks_for: An anomaly, to a model with a gated fusion: "flaw" (in the thing), "kind"
                (another kind of thing) or "decide" (as the normals suggest).
            ignored: Part of the picture that does not count, of these and of all queries; see
                :mod:`inctrl_core.images.ignored`.

        Raises:
            PromptError: No normal or too many, an unusable object name, an empty group of
                prompts, another value of ``looks_for``, or an unusable part to ignore.
            ImageError: An image cannot be used, or is given alone.
            InctrlError: The device has too little memory.
        """
        check_listed(normal_images)
        check_shots(len(normal_images))
        text = self.encode_prompts(prompts or build_prompts(object_name))
        opened = isinstance(normal_images, SeenSet)
        levels = normal_images.levels if opened else set_levels(normal_images)
        if ignored is not None:
            check_part(ignored)
        encoded = self.encode(normal_images, levels, ignored)
        about = encoded.features, text, encoded.crop_boxes, levels, ignored
        bank = build_prompt_bank(clean_object_name(object_name), *about)
        return bank.with_looks_for(looks_for)

    @explain_memory
    def score(self, queries: Sequence[ImageSource | SeenImage], bank: PromptBank) -> list[Score]:
        """Scores queries against a bank; each result is independent of the others.

        Args:
            queries: Images, each a path, bytes, PIL image or numpy array; see
                :func:`.image_files.open_image`.
            bank: What :meth:`build_bank` of this detector has made.

        Returns:
            One score per query, in order.

        Raises:
            ImageError: An image cannot be used, or is given alone.
            PromptError: The bank is another model's.
            InctrlError: The device has too little memory.
        """
        check_listed(queries)
        scores: list[Score] = []
        for start in range(0, len(queries), SCORE_BATCH):
            encoded = self.encode_for(bank, queries[start : start + SCORE_BATCH])
            scores += self.score_encoded(encoded, bank)
        return scores

    def encode_for(
        self, bank: PromptBank, images: Iterable[ImageSource | SeenImage]
    ) -> EncodedImages:
        """Encodes queries as the normals of a bank were: by its levels, without its ignored part.

        Raises:
            ImageError: An image cannot be used, or is given alone.
        """
        return self.encode(images, bank.levels, bank.ignored)

    def encode(
        self,
        images: Iterable[ImageSource | SeenImage],
        levels: Levels | None = None,
        ignored: np.ndarray | None = None,
    ) -> EncodedImages:
        """Opens, crops and embeds images; of each only the crop is held.

        Args:
            images: Images, as :func:`.image_files.open_image` takes them, or what was left of one
                that was opened for this model.
            levels: The levels of their set, as a bank has them; None: each image has its own.
            ignored: Likewise the part of the picture that does not count.

        Raises:
            ImageError: An image cannot be used, or is given alone.
        """
        check_listed(images)
        opened = (
            image if isinstance(image, SeenImage) else open_image(image, levels) for image in images
        )
        return self.encode_opened(opened, ignored)

    def encode_opened(
        self, images: Iterable[Image.Image | SeenImage], ignored: np.ndarray | None = None
    ) -> EncodedImages:
        """Crops and embeds what :func:`.image_files.open_image` has opened, see :meth:`encode`.

        Raises:
            InctrlError: There is no image.
        """
        inputs = [self._input(image, ignored) for image in images]
        if not inputs:
            raise InctrlError("Add at least one image.")
        pixels, boxes, data = zip(*inputs, strict=True)
        return EncodedImages(self.backbone.encode_images(torch.stack(pixels)), boxes, data)

    def _input(
        self, image: Image.Image | SeenImage, ignored: np.ndarray | None
    ) -> tuple[Tensor, CropBox, str]:
        config = self.config.preprocess
        if isinstance(image, SeenImage):
            crop, box, levels = image.crop, image.crop_box, image.levels
        else:
            crop, box = crop_image(image, config.image_size, config.resize_mode)
            levels = levels_used(image)
        if crop.size != (config.image_size, config.image_size):
            raise InctrlError("The image was opened for another model; open it again.")
        seen = crop if ignored is None else paint_over(crop, ignored)
        return to_tensor(seen, config), box, describe_levels(levels)

    def encode_prompts(self, prompts: PromptSet) -> TextFeatures:
        """Embeds both groups of prompts; the last ``TEXT_CACHE_SIZE`` sets are remembered.

        Raises:
            PromptError: A group is empty.
        """
        if not (prompts.normal and prompts.anomaly):
            raise PromptError("Add at least one phrase to each of the two groups of prompts.")
        return self._text_features(prompts)

    @torch.inference_mode()
    def score_encoded(self, encoded: EncodedImages, bank: PromptBank) -> list[Score]:
        """Scores images that are encoded already, without a pass through the backbone.

        A bank that lies on another device, as after a call that crossed processes, is brought over.

        Raises:
            PromptError: The bank is another model's, as far as the widths of its features tell.
        """
        bank = bank.to(self.backbone.device)
        widths = [
            [patches.shape[-1] for patches in (features.embeddings, *features.patches)]
            for features in (encoded.features, bank.features)
        ]
        if widths[0] != widths[1]:
            raise PromptError("The bank was made by another model; build one with this detector.")
        own, normals = encoded.features, bank.features
        same = self.backbone.map(same_images, [own], [normals])
        layer_maps, nearest = layer_residuals(own.patches, normals.patches, self.backbone.map)
        layer_maps = count_patches(layer_maps, bank.ignored)
        near = None if bank.defects is None else bank.defects.distances(own.patches)
        evidence = self.evidence(layer_maps, encoded.features.embeddings, bank, near)
        scores = self.fuse(evidence, nearest, encoded.crop_boxes)
        if near is not None:
            scores = _with_defects(scores, near, evidence.shift, self.config.backbone.grid)
        data = encoded.data or [score.data for score in scores]
        return [
            dataclasses.replace(score, data=kind, copy_of=row.index(True) if any(row) else None)
            for score, kind, row in zip(scores, data, next(same).tolist(), strict=True)
        ]

    @torch.inference_mode()
    def score_normal(self, index: int, bank: PromptBank) -> Score:
        """Scores one of the bank's normals against its others, from what the bank holds.

        Copies of it are left out with it, see :attr:`PromptBank.copy_of`.

        Its ``nearest`` is -1 throughout: the bank keeps distances, not positions.

        Raises:
            PromptError: It is the only normal, or all are copies of it.
        """
        evidence = self._evidence_of_normal(index, bank)
        nowhere = torch.full_like(evidence.layer_maps, -1, dtype=torch.long)
        fusion = self._fusion_of_normal(index, bank, evidence)
        return self.fuse(evidence, nowhere, bank.crop_boxes[index : index + 1], fusion)[0]

    @torch.inference_mode()
    def judge_normals(self, bank: PromptBank) -> tuple[tuple[float, float], ...]:
        """``fused`` and ``patch_max`` of :meth:`score_normal` for each distinct normal, in order.

        Raises:
            PromptError: Fewer than two are distinct.
        """
        if isinstance(self.heads, GatedHeads) and len(bank.distinct) > 1:
            fused = self._judge_together(bank).fused
            peaks = bank.normal_layer_maps[list(bank.distinct)].mean(dim=1).amax(dim=-1)
            return tuple(zip(fused.tolist(), peaks.tolist(), strict=True))
        judged = []
        for index in bank.distinct:
            evidence = self._evidence_of_normal(index, bank)
            judged.append((float(self.heads(evidence).fused), float(evidence.patch_map.max())))
        return tuple(judged)

    def _fusion_of_normal(self, index: int, bank: PromptBank, evidence: Evidence) -> Fusion:
        """Of one normal against the others; a form may have a way of its own to judge normals."""
        if not isinstance(self.heads, GatedHeads):
            return self.heads(evidence)
        original = bank.copy_of[index]
        place = bank.distinct.index(index if original is None else original)
        return self._judge_together(bank).at(place)

    def _judge_together(self, bank: PromptBank) -> Fusion:
        """All distinct normals of a bank in the gated form's own way."""
        bank = bank.to(self.backbone.device)
        embeddings = bank.features.embeddings[:1]  # Of any query: it has no say in it.
        return self.heads.judge(self.evidence(bank.normal_layer_maps[:1], embeddings, bank))

    def _evidence_of_normal(self, index: int, bank: PromptBank) -> Evidence:
        bank = bank.to(self.backbone.device)
        kept = list(bank.others(index))
        reads = getattr(self.heads, "reads_normal_maps", True)
        others = bank.without_patches(tables=reads).subset(kept)
        layer_maps = bank.pairwise[index, kept].amin(dim=0, keepdim=True)
        return self.evidence(layer_maps, bank.features.embeddings[index : index + 1], others)

    def evidence(
        self,
        layer_maps: Tensor,
        embeddings: Tensor,
        bank: PromptBank,
        near: Tensor | None = None,
    ) -> Evidence:
        """Collects the fusion's inputs for B queries against a bank.

        Args:
            layer_maps: [B, D, P].
            embeddings: [B, E].
            bank: Shared by all B.
            near: [B, P], see :meth:`.Defects.distances`; None: defects do not count.
        """
        margins = None if near is None else (layer_maps.mean(dim=1) - near).amax(dim=1)
        normal_maps = bank.normal_layer_maps
        prototypes = bank.text.normal_prototype, bank.text.anomaly_prototype
        normals = bank.features.embeddings
        return Evidence(
            layer_maps=layer_maps,
            embeddings=embeddings,
            text_anomaly=text_anomaly(embeddings, *prototypes),
            normal_embeddings=normals[None],
            normal_layer_maps=None if normal_maps is None else normal_maps[None],
            normal_text=text_anomaly(normals, *prototypes)[None],
            distinct=bank.distinct,
            looks_for=bank.looks_for,
            shift=None if margins is None else bank.defect_shift(margins),
        )

    def fusion_of(self, evidence: Evidence) -> Fusion:
        """The outputs of the heads for B queries, with what known defects add."""
        fusion = self.heads(evidence)
        return fusion if evidence.shift is None else shifted(fusion, evidence.shift)

    @torch.inference_mode()
    def fuse(
        self,
        evidence: Evidence,
        nearest: Tensor,
        crop_boxes: Sequence[CropBox],
        fusion: Fusion | None = None,
    ) -> list[Score]:
        """Runs the heads and detaches the result from the device.

        Args:
            evidence: The evidence about B queries.
            nearest: int64 [B, D, P], index among K * P, or -1.
            crop_boxes: B boxes.
            fusion: Of these queries, where it is known already.
        """
        fusion = self.fusion_of(evidence) if fusion is None else fusion
        grid = self.config.backbone.grid
        maps = evidence.layer_maps.unflatten(-1, (grid, grid)).cpu().numpy()
        means = evidence.patch_map.unflatten(-1, (grid, grid)).cpu().numpy()
        places = _places(nearest, grid).cpu().numpy()
        text = evidence.text_anomaly if fusion.text_anomaly is None else fusion.text_anomaly
        columns = zip(
            fusion.fused.tolist(),
            fusion.holistic.tolist(),
            fusion.image_residual.tolist(),
            text.tolist(),
            strict=True,
        )
        return [
            Score(
                fused=fused,
                holistic=holistic,
                patch_max=float(means[i].max()),
                image_residual=image_residual,
                text_anomaly=text,
                patch_map=means[i],
                layer_maps=maps[i],
                nearest=places[i],
                crop_box=crop_boxes[i],
                fusion=self.fusion,
            )
            for i, (fused, holistic, image_residual, text) in enumerate(columns)
        ]


def _with_defects(scores: Sequence[Score], near: Tensor, shift: Tensor, grid: int) -> list[Score]:
    maps = near.unflatten(-1, (grid, grid)).cpu().numpy()
    return [
        dataclasses.replace(score, defect_shift=by, defect_map=defect_map)
        for score, by, defect_map in zip(scores, shift.tolist(), maps, strict=True)
    ]


def _encode_prompts(backbone: Backbone, prompts: PromptSet) -> TextFeatures:
    embeddings = backbone.encode_text(prompts.normal + prompts.anomaly)
    count = len(prompts.normal)
    return build_text_features(prompts, embeddings[:count], embeddings[count:])


def _places(nearest: Tensor, grid: int) -> Tensor:
    """Index among K * P -> (normal, row, column), last axis; -1 stays -1 in all three."""
    patches = grid * grid
    places = torch.stack(
        [nearest // patches, nearest % patches // grid, nearest % grid], dim=-1
    ).masked_fill((nearest < 0)[..., None], -1)
    return places.unflatten(2, (grid, grid))
