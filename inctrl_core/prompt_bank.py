"""PromptBank: the immutable features of K normal images and of the text prompts.

Everything about the normals and the text that does not depend on a query is computed once, when the
bank is made. A bank belongs to one user and is never changed: the methods return new banks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .backbone import ImageFeatures
from .config import MAX_SHOTS
from .errors import PromptError
from .levels import Levels, describe_levels
from .preprocessing import CropBox
from .residuals import leave_one_out, pairwise_residuals, text_prototype
from .text_prompts import PromptSet


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
        features: Of the K normals.
        text: Of the prompts.
        pairwise: [K, K, D, P], each normal's residual maps against each single other; see
            :func:`inctrl_core.residuals.pairwise_residuals`.
        crop_boxes: K boxes, in pixels of each normal's original.
        levels: The levels by which the normals were read, and queries are to be; None where all
            normals have 8 bits.
    """

    object_name: str
    features: ImageFeatures
    text: TextFeatures
    pairwise: Tensor
    crop_boxes: tuple[CropBox, ...]
    levels: Levels | None = None

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
        )

    @property
    def normal_layer_maps(self) -> Tensor | None:
        """[K, D, P], each normal's maps against the other K - 1; None where K is 1."""
        return leave_one_out(self.pairwise) if self.shots > 1 else None

    def subset(self, indices: Sequence[int]) -> PromptBank:
        """A bank of some of the normals, in the order asked for; nothing is encoded again.

        Raises:
            PromptError: ``indices`` is empty.
        """
        index = list(indices)
        check_shots(len(index))
        return dataclasses.replace(
            self,
            features=self.features[index],
            pairwise=self.pairwise[index][:, index],
            crop_boxes=tuple(self.crop_boxes[i] for i in index),
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
            features: Of the others, from the same backbone.
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
        return build_prompt_bank(self.object_name, joined, self.text, boxes, self.levels)

    def with_text(self, object_name: str, text: TextFeatures) -> PromptBank:
        """A bank of the same normals with other prompts."""
        return dataclasses.replace(self, object_name=object_name, text=text)


def build_prompt_bank(
    object_name: str,
    features: ImageFeatures,
    text: TextFeatures,
    crop_boxes: Sequence[CropBox],
    levels: Levels | None = None,
) -> PromptBank:
    """Makes a bank from encoded normals and prompts.

    Raises:
        PromptError: There is no normal, or more than ``MAX_SHOTS``.
    """
    check_shots(len(features))
    with torch.inference_mode():
        pairwise = pairwise_residuals(features.patches)
    return PromptBank(object_name, features, text, pairwise, tuple(crop_boxes), levels)


def check_shots(shots: int) -> None:
    """Raises PromptError unless 1 <= ``shots`` <= ``MAX_SHOTS``."""
    if shots < 1:
        raise PromptError("Add at least one normal image.")
    if shots > MAX_SHOTS:
        raise PromptError(f"There are {shots} normal images; use at most {MAX_SHOTS}.")
