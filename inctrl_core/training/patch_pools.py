"""The patches of whole classes, for training what comes before their comparison.

An episode of the heads is a minimum over a table that never changes; the patch adapter changes that
table, so it needs the patches themselves, in half precision. Those of classes that need no data are
kept on disk (about 4 MB a class of ``inctrl-lite``) and mapped, not read: what an epoch does not
draw takes no memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..datasets.subsets import Subset
from ..evaluation.features import FeatureStore
from ..model.backbone import ImageFeatures
from ..model.detector import Detector
from .pools import class_images, pool_file, read_cached, subset_images, write_cached


@dataclass(frozen=True, eq=False)
class PatchPool:
    """Patches of images of one class; every good image may be a prompt.

    Attributes:
        source: Dataset, or a name of :data:`inctrl_core.training.pools.SOURCES`.
        name: Class within the source; pools of one class are never split between training and
            validation.
        patches: D tensors, float16 [Q, P, C_d], rows of unit length.
        anomalous: bool [Q].
    """

    source: str
    name: str
    patches: tuple[Tensor, ...]
    anomalous: Tensor

    @property
    def references(self) -> int:
        """Number of good images."""
        return int((~self.anomalous).sum())

    def draw(
        self, shots: int, most: int, rng: np.random.Generator
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """One episode: K prompts, and up to ``most`` other good images and as many anomalous ones.

        Args:
            shots: K, below ``references``.
            most: Largest number of queries of either kind.
            rng: Decides which.

        Returns:
            Prompts, D of float32 [K, P, C_d]; queries, D of [B, P, C_d]; their labels, bool [B].
        """
        good = rng.permutation(np.flatnonzero(~self.anomalous.numpy()))
        bad = rng.permutation(np.flatnonzero(self.anomalous.numpy()))
        queries = torch.from_numpy(np.concatenate([good[shots : shots + most], bad[:most]]))
        prompts = torch.from_numpy(good[:shots])
        return (
            [depth[prompts].float() for depth in self.patches],
            [depth[queries].float() for depth in self.patches],
            self.anomalous[queries],
        )


def source_patches(
    detector: Detector, source: str, seed: int, index: int, folder: Path
) -> PatchPool:
    """The patches of one class that needs no data, from ``folder`` where an earlier run left them.

    Args:
        detector: Encodes the images; without a patch adapter.
        source: A name of :data:`inctrl_core.training.pools.SOURCES`.
        seed: Seed of the source.
        index: Index of the class.
        folder: Cache of this detector's image tower.
    """
    place = folder / pool_file(source, seed, index)
    tensors = read_cached(place)
    if tensors is None:
        images, labels = class_images(source, seed, index)
        write_cached(place, _tensors(detector.encode(images).features, labels))
        tensors = read_cached(place)
    depths = len(tensors) - 1
    patches = tuple(tensors[f"patches.{depth}"] for depth in range(depths))
    return PatchPool(source, str(index), patches, tensors["anomalous"])


def subset_patches(
    subset: Subset, store: FeatureStore, rng: np.random.Generator
) -> list[PatchPool]:
    """Pools of one subset of a dataset on disk, of the images of :func:`.episodes.subset_images`.

    Raises:
        DataError: There are fewer than two normals or no anomalous image.
    """
    pools = []
    for paths, labels, _ in subset_images(subset, rng):
        patches = tuple(depth.half().cpu() for depth in store.load(paths).features.patches)
        pools.append(PatchPool(subset.dataset, subset.name, patches, torch.tensor(labels)))
    return pools


def _tensors(features: ImageFeatures, labels: list[bool]) -> dict[str, Tensor]:
    return {"anomalous": torch.tensor(labels)} | {
        f"patches.{number}": depth.half().cpu() for number, depth in enumerate(features.patches)
    }
