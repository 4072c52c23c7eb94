"""Episodes: queries with normals of their own class, from features that are computed once.

A *pool* holds what training needs of one class: the residual maps of each of its images against
each of its reference normals alone. The maps against any K of them are a minimum over that table,
so an episode costs no pass through the backbone and no product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..datasets.subsets import DataError, Subset
from ..evaluation.features import FeatureStore
from ..model.backbone import ImageFeatures
from ..model.detector import Detector
from ..model.evidence import Evidence
from ..model.prompts import build_prompts
from ..model.residuals import leave_one_out, text_anomaly
from ..output import write_whole
from .synthetic import photographed_class, procedural_class

# Sources that need no data, by name.
SOURCES = {"procedural": procedural_class, "photographs": photographed_class}
SOURCE_VERSION = 1  # Of the procedural classes; raise it when their images change.
# Few images of many classes: the variety of classes is what decides.
REFERENCES = 9  # Normals of a pool that prompts are drawn from.
NORMAL_QUERIES = 3  # Further normals of a pool; its references are queries as well.
ANOMALIES = 8  # Anomalous queries of a pool.
MAX_POOLS = 48  # Pools made of one subset of a dataset.
WHOLE = 12, 18, 26  # References, further normals and anomalies of the one pool of a subset.


@dataclass(frozen=True, eq=False)
class Pool:
    """Images of one class, the first N of them normals that may be prompts.

    Attributes:
        source: Dataset, or a name of ``SOURCES``.
        name: Class within the source; pools of one class are never split between training and
            validation.
        table: float16 [Q, N, D, P], residual maps of image q against reference n alone.
        embeddings: float32 [Q, E].
        text_anomaly: float32 [Q].
        anomalous: bool [Q], False for the first N.
    """

    source: str
    name: str
    table: Tensor
    embeddings: Tensor
    text_anomaly: Tensor
    anomalous: Tensor

    @property
    def references(self) -> int:
        """N."""
        return self.table.shape[1]

    def evidence(self, queries: Sequence[int], prompts: Sequence[int]) -> Evidence:
        """The evidence about some images, given some of the references as prompts.

        Args:
            queries: B indices of images.
            prompts: K indices of references, none of them among ``queries``.

        Returns:
            With a leading axis of 1 in the normals' tensors.

        Raises:
            ValueError: A query is among its own prompts.
        """
        query, prompt = list(queries), list(prompts)
        if set(query) & set(prompt):
            raise ValueError("an image must not be its own prompt")
        maps = self.table[query][:, prompt].float().amin(dim=1)
        among = self.table[prompt][:, prompt].float()
        return Evidence(
            layer_maps=maps,
            embeddings=self.embeddings[query],
            text_anomaly=self.text_anomaly[query],
            normal_embeddings=self.embeddings[prompt][None],
            normal_layer_maps=leave_one_out(among)[None] if len(prompt) > 1 else None,
            normal_text=self.text_anomaly[prompt][None],
        )


def stack_evidence(parts: Sequence[Evidence]) -> Evidence:
    """One batch of episodes that all have the same K; every query keeps normals of its own."""

    def own(part: Evidence, tensor: Tensor) -> Tensor:
        return tensor.expand(len(part.embeddings), *tensor.shape[1:])

    maps = [part.normal_layer_maps for part in parts]
    text = [part.normal_text for part in parts]
    return Evidence(
        layer_maps=torch.cat([part.layer_maps for part in parts]),
        embeddings=torch.cat([part.embeddings for part in parts]),
        text_anomaly=torch.cat([part.text_anomaly for part in parts]),
        normal_embeddings=torch.cat([own(part, part.normal_embeddings) for part in parts]),
        normal_layer_maps=(
            None
            if maps[0] is None
            else torch.cat([own(p, m) for p, m in zip(parts, maps, strict=True)])
        ),
        normal_text=torch.cat([own(p, t) for p, t in zip(parts, text, strict=True)]),
    )


def draw_batch(
    pools: Sequence[Pool], size: int, shots: int, rng: np.random.Generator
) -> tuple[Evidence, Tensor]:
    """A balanced batch of single-query episodes.

    Every class has the same share, since with many images of few classes a head learns the classes;
    every second query is anomalous.

    Args:
        pools: To draw from, each with more than ``shots`` references.
        size: B, even.
        shots: K.
        rng: Decides everything.

    Returns:
        Evidence of B queries, and their labels, float32 [B].
    """
    classes: dict[tuple[str, str], list[Pool]] = {}
    for pool in pools:
        classes.setdefault((pool.source, pool.name), []).append(pool)
    groups = [group for _, group in sorted(classes.items())]
    parts, labels = [], []
    for position in range(size):
        group = groups[int(rng.integers(len(groups)))]
        pool = group[int(rng.integers(len(group)))]
        anomalous = position % 2 == 1
        candidates = np.flatnonzero(pool.anomalous.numpy() == anomalous)
        query = int(rng.choice(candidates))
        allowed = [i for i in range(pool.references) if i != query]
        prompts = rng.choice(allowed, shots, replace=False)
        parts.append(pool.evidence([query], prompts.tolist()))
        labels.append(float(anomalous))
    return stack_evidence(parts), torch.tensor(labels)


def bank_episode(pool: Pool, shots: int, rng: np.random.Generator) -> tuple[Evidence, Tensor]:
    """One draw of K prompts from a pool, with all its other images as queries.

    Returns:
        Evidence, with the normals shared, and labels, float32 [B].
    """
    prompts = rng.choice(pool.references, shots, replace=False).tolist()
    queries = [i for i in range(len(pool.anomalous)) if i not in prompts]
    return pool.evidence(queries, prompts), pool.anomalous[queries].float()


def build_pool(
    labels: tuple[str, str],
    features: ImageFeatures,
    anomalous: Sequence[bool],
    references: int,
    text: Tensor,
) -> Pool:
    """Computes a pool's table.

    Args:
        labels: Source and name.
        features: Features of Q images, the references first.
        anomalous: Q labels.
        references: N.
        text: [Q], the text signal of each image.
    """
    tables = []
    for depth in features.patches:
        rows = depth.flatten(0, 1)
        cosines = [(rows @ depth[n].T).amax(dim=1) for n in range(references)]
        nearest = torch.stack(cosines, dim=1).view(*depth.shape[:2], references)
        tables.append((0.5 * (1.0 - nearest)).clamp_min(0.0).transpose(1, 2))
    return Pool(
        *labels,
        table=torch.stack(tables, dim=2).half().cpu(),
        embeddings=features.embeddings.float().cpu(),
        text_anomaly=text.float().cpu(),
        anomalous=torch.tensor(list(anomalous)),
    )


def class_images(source: str, seed: int, index: int) -> tuple[list[Image.Image], list[bool]]:
    """The images of one class of ``SOURCES`` that a pool is made of, and their labels."""
    made = SOURCES[source](seed, index)
    normals = [made.normal(i) for i in range(REFERENCES + NORMAL_QUERIES)]
    bad = [made.anomalous(i)[0] for i in range(ANOMALIES)]
    return normals + bad, [False] * len(normals) + [True] * len(bad)


def source_pool(
    detector: Detector, source: str, seed: int, index: int, folder: Path | None
) -> Pool:
    """The pool of one class of ``SOURCES``, from ``folder`` where an earlier run has left it.

    Args:
        detector: Encodes the images.
        source: A name of ``SOURCES``.
        seed: Seed of the source.
        index: Index of the class.
        folder: Cache of this detector's image tower; None keeps nothing.
    """
    place = None if folder is None else folder / pool_file(source, seed, index)
    tensors = None if place is None else read_cached(place)
    if tensors is not None:
        text = _text_signal(detector, tensors["embeddings"], "object")
        return Pool(source, str(index), text_anomaly=text, **tensors)
    images, labels = class_images(source, seed, index)
    features = detector.encode(images).features
    text = _text_signal(detector, features.embeddings, "object")
    pool = build_pool((source, str(index)), features, labels, REFERENCES, text)
    if place is not None:
        # Not the text signal: the cache is the image tower's, and models share it.
        names = ("table", "embeddings", "anomalous")
        write_cached(place, {name: getattr(pool, name) for name in names})
    return pool


def pool_file(source: str, seed: int, index: int) -> str:
    """Name of the cached pool of one class of ``SOURCES``."""
    size = f"{REFERENCES}-{NORMAL_QUERIES}-{ANOMALIES}"
    return f"{source}-{SOURCE_VERSION}-{size}-{seed}-{index}.safetensors"


def subset_pools(
    detector: Detector, subset: Subset, store: FeatureStore, rng: np.random.Generator
) -> list[Pool]:
    """Pools of one subset of a dataset on disk; none of them shares an anomalous image.

    Of more than ``MAX_POOLS * ANOMALIES`` anomalous images a random part is used.

    Raises:
        DataError: There are fewer than two normals or no anomalous image.
    """
    pools = []
    for paths, labels, references in subset_images(subset, rng):
        features = store.load(paths).features
        text = _text_signal(detector, features.embeddings, subset.object_name)
        name = (subset.dataset, subset.name)
        pools.append(build_pool(name, features, labels, references, text))
    return pools


def whole_pool(
    detector: Detector, subset: Subset, store: FeatureStore, rng: object = None
) -> list[Pool]:
    """One large pool of a subset, for the gated form: at most as many images as ``WHOLE`` says.

    They are always the same ones, so that a run with another seed finds them in the cache; ``rng``
    is not used.

    Raises:
        DataError: There are fewer than two normals or no anomalous image.
    """
    check_trainable(subset)
    references, good, bad = WHOLE
    drawn = np.random.default_rng(7).permutation(len(subset.train_normals))
    normals, draw = drawn[:references], np.random.default_rng(0)
    paths = [subset.train_normals[index] for index in normals]
    labels = [False] * len(paths)
    for anomalous, most in ((False, good), (True, bad)):
        found = [query.path for query in subset.queries if query.anomalous == anomalous]
        paths += [found[index] for index in draw.permutation(len(found))[:most]]
        labels += [anomalous] * (len(paths) - len(labels))
    features = store.load(paths).features
    text = _text_signal(detector, features.embeddings, subset.object_name)
    name = (subset.dataset, subset.name)
    return [build_pool(name, features, labels, len(normals), text)]


def check_trainable(subset: Subset) -> None:
    """Makes sure that there is something to learn from.

    Raises:
        DataError: There are fewer than two normals or no anomalous image.
    """
    if len(subset.train_normals) < 2 or not any(query.anomalous for query in subset.queries):
        raise DataError(
            f"'{subset.name}' needs at least two normal training images and one anomalous test "
            "image to train on; add some or leave it out."
        )


def subset_images(
    subset: Subset, rng: np.random.Generator
) -> Iterator[tuple[list[Path], list[bool], int]]:
    """The content of each pool of a subset: images, labels, and how many may be prompts.

    Raises:
        DataError: There are fewer than two normals or no anomalous image.
    """
    bad = [query.path for query in subset.queries if query.anomalous]
    good = [query.path for query in subset.queries if not query.anomalous]
    check_trainable(subset)
    references = min(REFERENCES, len(subset.train_normals))
    order = rng.permutation(len(bad))
    for start in range(0, min(len(bad), MAX_POOLS * ANOMALIES), ANOMALIES):
        chosen = [bad[i] for i in order[start : start + ANOMALIES]]
        drawn = rng.choice(len(subset.train_normals), references, replace=False)
        normals = [subset.train_normals[i] for i in drawn]
        normals += [good[i] for i in rng.permutation(len(good))[:NORMAL_QUERIES]]
        yield normals + chosen, [False] * len(normals) + [True] * len(chosen), references


def _text_signal(detector: Detector, embeddings: Tensor, object_name: str) -> Tensor:
    text = detector.encode_prompts(build_prompts(object_name))
    prototypes = text.normal_prototype, text.anomaly_prototype
    return text_anomaly(embeddings.to(detector.backbone.device), *prototypes).float().cpu()


def read_cached(place: Path) -> dict[str, Tensor] | None:
    """The tensors of a cached file, mapped into memory; None where there is none or half of one."""
    if not place.is_file():
        return None
    try:
        with safe_open(place, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError):
        return None


def write_cached(place: Path, tensors: dict[str, Tensor]) -> None:
    """Writes what :func:`read_cached` reads."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_whole(place, lambda partial: save_file(contiguous, partial))
