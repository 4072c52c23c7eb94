"""PromptBank: the immutable features of K normal images and of the text prompts.

Everything about the normals and the text that does not depend on a query is computed once, when the
bank is made. A bank belongs to one user and is never changed: the methods return new banks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..config import MAX_SHOTS
from ..errors import PromptError
from ..images.ignored import ignored_patches
from ..images.levels import Levels, describe_levels
from ..images.preprocessing import CropBox
from .backbone import ImageFeatures
from .copies import same_images
from .defects import MOST_MARGIN, WEIGHT, Defects, build_defects
from .evidence import DECIDE, check_looks_for
from .prompts import PromptSet
from .residuals import leave_one_out, pairwise_residuals, text_prototype


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """The prompts and their embeddings.

    Attributes:
        prompts: The strings.
        normal: [N_normal, E], rows of unit length.
        anomaly: [N_anomaly, E], rows of unit length.
        normal_prototype: [E], unit length.
        anomaly_prototype: [E], unit length.
    """

    prompts: PromptSet
    normal: Tensor
    anomaly: Tensor
    normal_prototype: Tensor
    anomaly_prototype: Tensor

    def to(self, device: torch.device | str) -> TextFeatures:
        """The same embeddings on another device."""
        return TextFeatures(
            self.prompts,
            self.normal.to(device),
            self.anomaly.to(device),
            self.normal_prototype.to(device),
            self.anomaly_prototype.to(device),
        )


def build_text_features(prompts: PromptSet, normal: Tensor, anomaly: Tensor) -> TextFeatures:
    """Adds the prototypes of both groups to their embeddings ([N, E] each)."""
    return TextFeatures(prompts, normal, anomaly, text_prototype(normal), text_prototype(anomaly))


@dataclass(frozen=True, eq=False)
class PromptBank:
    """Features of the normals, of the text, and of the normals among themselves.

    Attributes:
        object_name: What the images show, as it went into the prompts.
        features: Features of the K normals.
        text: Features of the prompts.
        pairwise: [K, K, D, P], each normal's residual maps against each single other; see
            :func:`inctrl_core.model.residuals.pairwise_residuals`.
        same: Bool [K, K] on the CPU, symmetric, which normals are one image: see
            :func:`same_images`.
        crop_boxes: K boxes, in pixels of each normal's original.
        levels: The levels by which the normals were read, and queries are to be; None where all
            normals have 8 bits.
        looks_for: One of :data:`inctrl_core.model.evidence.LOOKS_FOR`.
        defects: Patches that count as defects; None where nobody has named any.
        ignored: Part of the picture that does not count, bool, see
            :mod:`inctrl_core.images.ignored`; None where all of it does.
    """

    object_name: str
    features: ImageFeatures
    text: TextFeatures
    pairwise: Tensor
    same: Tensor
    crop_boxes: tuple[CropBox, ...]
    levels: Levels | None = None
    looks_for: str = DECIDE
    defects: Defects | None = None
    ignored: np.ndarray | None = None

    @property
    def shots(self) -> int:
        """K, the number of normals."""
        return len(self.features)

    @property
    def data(self) -> str:
        """The kind of data of the normals, for people: such as "12-bit data"."""
        return describe_levels(self.levels)

    def to(self, device: torch.device | str) -> PromptBank:
        """The same bank on another device; on "cpu" it may be pickled and leave the process."""
        if torch.device(device) == self.pairwise.device:
            return self
        return dataclasses.replace(
            self,
            features=self.features.to(device),
            text=self.text.to(device),
            pairwise=self.pairwise.to(device),
            defects=None if self.defects is None else self.defects.to(device),
        )

    @property
    def nbytes(self) -> int:
        """Memory of the tensors, in bytes; embeddings of prompts may be another bank's as well."""
        text = self.text.normal, self.text.anomaly
        tensors = (*self.features.patches, self.features.embeddings, self.pairwise, *text)
        defects = 0 if self.defects is None else self.defects.nbytes
        return defects + sum(tensor.nbytes for tensor in tensors)

    @cached_property
    def copy_of(self) -> tuple[int | None, ...]:
        """For each normal the index of the first one that it is a copy of; None where it is none.

        Copies serve as normals like all others. But a copy finds its like at no distance, so it
        tells nothing of how far apart normals lie, and what says that does without copies.
        """
        same = self.same.tolist()
        originals: list[int] = []
        copy_of: list[int | None] = []
        for index in range(self.shots):
            original = next((i for i in originals if same[index][i]), None)
            copy_of.append(original)
            if original is None:
                originals.append(index)
        return tuple(copy_of)

    @property
    def distinct(self) -> tuple[int, ...]:
        """Indices of the normals that are no copies of an earlier one; the first is always one."""
        return tuple(i for i, original in enumerate(self.copy_of) if original is None)

    @cached_property
    def left_out(self) -> Tensor:
        """Bool [K, K] on the CPU, true where normal j is left out when i is held to the others.

        That is i itself and its copies; for a copy, itself and those of its original.
        """
        originals = [i if original is None else original for i, original in enumerate(self.copy_of)]
        return self.same[originals] | torch.eye(self.shots, dtype=torch.bool)

    def others(self, index: int) -> tuple[int, ...]:
        """Indices of the normals that one of them is compared with: without itself and its copies.

        Empty where all normals are one image.
        """
        return tuple(torch.nonzero(~self.left_out[index]).flatten().tolist())

    @cached_property
    def normal_layer_maps(self) -> Tensor | None:
        """[K, D, P], each normal's maps against its :meth:`others`.

        None where it has none: K is 1, or all normals are one image.
        """
        if len(self.distinct) < 2:
            return None
        return leave_one_out(self.pairwise, self.left_out)

    @cached_property
    def defect_margins(self) -> Tensor | None:
        """[K], the largest margin of each normal between its :meth:`others` and the defects.

        See :mod:`inctrl_core.model.defects`. 0 where it has no others; None without defects.
        """
        if self.defects is None:
            return None
        maps = self.normal_layer_maps
        if maps is None:
            return self.pairwise.new_zeros(self.shots)
        return (maps.mean(dim=1) - self.defects.among).amax(dim=1)

    def defect_shift(self, margins: Tensor) -> Tensor:
        """[B], the log-odds that defects add to images of largest margins [B].

        None where the margin is that of the normal that is most like a defect.
        """
        usual = self.defect_margins[list(self.distinct)].amax()
        return WEIGHT * (margins.clamp(max=MOST_MARGIN) - usual)

    def without_patches(self, tables: bool = True) -> PromptBank:
        """The same bank, but for the patches that queries are compared with.

        Enough to judge maps that are there already, at a hundredth of the memory.

        Args:
            tables: Whether it keeps the normals' maps against each other, which few fusions read.
        """
        features = ImageFeatures(self.features.embeddings, ())
        pairwise = self.pairwise if tables else self.pairwise[..., :0]
        return dataclasses.replace(self, features=features, pairwise=pairwise)

    def subset(self, indices: Sequence[int]) -> PromptBank:
        """A bank of some of the normals, in the order asked for; nothing is encoded again.

        Raises:
            PromptError: ``indices`` is empty.
        """
        index = list(indices)
        check_shots(len(index))
        place = torch.tensor(index)
        return dataclasses.replace(
            self,
            features=self.features[index],
            pairwise=self.pairwise[place[:, None], place],
            same=self.same[index][:, index],
            crop_boxes=tuple(self.crop_boxes[i] for i in index),
            defects=None if self.defects is None else self.defects.subset(index),
        )

    def without(self, index: int) -> PromptBank:
        """A bank of all normals but one.

        Raises:
            PromptError: It is the only one.
        """
        return self.subset([i for i in range(self.shots) if i != index])

    def with_normals(self, features: ImageFeatures, crop_boxes: Sequence[CropBox]) -> PromptBank:
        """A bank of these normals and of others, encoded already, after them.

        Args:
            features: Features of the others, from the same backbone.
            crop_boxes: One for each of them.

        Raises:
            PromptError: There is no room for so many.
        """
        joined = ImageFeatures(
            torch.cat([self.features.embeddings, features.embeddings]),
            tuple(
                torch.cat(pair)
                for pair in zip(self.features.patches, features.patches, strict=True)
            ),
        )
        boxes = (*self.crop_boxes, *crop_boxes)
        about = self.object_name, joined, self.text, boxes, self.levels, self.ignored
        bank = build_prompt_bank(*about)
        bank = bank.with_looks_for(self.looks_for)
        return bank.with_defects(() if self.defects is None else self.defects.images)

    def with_text(self, object_name: str, text: TextFeatures) -> PromptBank:
        """A bank of the same normals with other prompts."""
        return dataclasses.replace(self, object_name=object_name, text=text)

    def with_defects(self, images: Sequence[Sequence[Tensor]]) -> PromptBank:
        """A bank of the same normals beside these defects, in place of those it has.

        Args:
            images: For each image D tensors [R, C_d], its patches that count as defects; rows of
                unit length. None: no defects.
        """
        return dataclasses.replace(self, defects=build_defects(images, self.features.patches))

    def with_looks_for(self, looks_for: str) -> PromptBank:
        """A bank of the same normals that looks for another kind of anomaly.

        Args:
            looks_for: One of :data:`inctrl_core.model.evidence.LOOKS_FOR`.

        Raises:
            PromptError: It is none of them.
        """
        return dataclasses.replace(self, looks_for=check_looks_for(looks_for))


def build_prompt_bank(
    object_name: str,
    features: ImageFeatures,
    text: TextFeatures,
    crop_boxes: Sequence[CropBox],
    levels: Levels | None = None,
    ignored: np.ndarray | None = None,
) -> PromptBank:
    """Makes a bank from encoded normals and prompts; the arguments are those of the bank.

    Raises:
        PromptError: There is no normal, or more than ``MAX_SHOTS``.
    """
    check_shots(len(features))
    with torch.inference_mode():
        pairwise = count_patches(pairwise_residuals(features.patches), ignored)
    same = same_images(features, features)
    same = same | same.T | torch.eye(len(features), dtype=torch.bool)
    boxes = tuple(crop_boxes)
    return PromptBank(object_name, features, text, pairwise, same, boxes, levels, ignored=ignored)


def count_patches(maps: Tensor, ignored: np.ndarray | None) -> Tensor:
    """Residuals [..., P], 0 for the patches in an ignored part; themselves where there is none."""
    if ignored is None:
        return maps
    patches = ignored_patches(ignored, round(maps.shape[-1] ** 0.5))
    return maps.masked_fill(torch.from_numpy(patches).to(maps.device), 0.0)


def numbered_names(shots: int) -> tuple[str, ...]:
    """Names of normals that have none of their own: "normal 1" and so on."""
    return tuple(f"normal {index + 1}" for index in range(shots))


def check_shots(shots: int) -> None:
    """Raises PromptError unless 1 <= ``shots`` <= ``MAX_SHOTS``."""
    if shots < 1:
        raise PromptError("Add at least one normal image.")
    if shots > MAX_SHOTS:
        raise PromptError(f"There are {shots} normal images; use at most {MAX_SHOTS}.")
