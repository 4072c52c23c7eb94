"""The few-shot protocol of the paper: draws of normals, and scores of all queries against each.

Every query is loaded once. Its distances to each drawn normal alone are computed once; every draw
and every number of shots then follows by a minimum, which gives exactly the detector's own scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..analysis.decision import GoodScores, expect_good
from ..analysis.normal_range import NormalRange, normal_range
from ..config import PreprocessConfig
from ..datasets.masks import crop_mask, open_mask
from ..datasets.subsets import Query, Subset, check_subset
from ..errors import ImageError, InctrlError
from ..images.preprocessing import CropBox
from ..model.backbone import ImageFeatures
from ..model.bank import PromptBank, build_prompt_bank, check_shots
from ..model.detector import Detector, EncodedImages
from ..model.evidence import DECIDE, LOOKS_FOR
from ..model.prompts import build_prompts, clean_object_name
from ..model.residuals import nearest_per_normal
from .features import FeatureStore, UnreadableImages
from .methods import METHODS, Method, winclip_score
from .metrics import NO_DEFECT, DefectPixels, defect_pixels

SIGNALS = ("fused", "patch_max", "image_residual", "text_anomaly", "holistic")
QUERY_BATCH = 32
# Normals whose distances to a batch of queries are held at once.
NORMAL_BATCH = 8


@dataclass(frozen=True, eq=False)
class SubsetScores:
    """All scores of one subset.

    Attributes:
        subset: What was scored.
        shots: Numbers of normals, ascending.
        seeds: Seeds of the draws.
        draws: Per seed the indices into ``subset.train_normals``; K shots use the first K.
        anomalous: bool [N].
        signals: Name -> float64 [len(shots), len(seeds), N]: ``SIGNALS``, of a gated model its
            other readings, see :func:`other_readings`, and the other methods.
        patch_maps: float32 [len(shots), len(seeds), M, G, G] of the ``M`` queries whose defects'
            places are known; None where the subset has no masks.
        truth: M entries.
        normals: For each K and seed the scores of the normals against each other; None where fewer
            than two are distinct.
        good: For each K and seed the scores to expect of good images; None where the model cannot
            tell.
    """

    subset: Subset
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    draws: tuple[tuple[int, ...], ...]
    anomalous: np.ndarray
    signals: dict[str, np.ndarray]
    patch_maps: np.ndarray | None
    truth: tuple[DefectPixels, ...]
    normals: tuple[tuple[NormalRange | None, ...], ...] = ()
    good: tuple[tuple[GoodScores | None, ...], ...] = ()


def draw_normals(count: int, shots: int, seed: int) -> tuple[int, ...]:
    """Chooses normals for one evaluation: the start of a seeded permutation.

    Draws of one seed are prefixes of each other, so that 2, 4 and 8 shots are compared on nested
    sets. The permutation is that of numpy's ``default_rng(seed).permutation(count)``.

    >>> draw_normals(10, 4, seed=0)[:2] == draw_normals(10, 2, seed=0)
    True

    Args:
        count: How many there are to draw from.
        shots: How many to draw, at most ``count``.
        seed: Names the draw.

    Returns:
        ``shots`` different indices below ``count``, in the order drawn.

    Raises:
        ValueError: ``shots`` is not between 1 and ``count``.
    """
    if not 1 <= shots <= count:
        raise ValueError(f"{shots} of {count} normals cannot be drawn; ask for 1 to {count}.")
    return tuple(int(i) for i in np.random.default_rng(seed).permutation(count)[:shots])


def score_subset(
    detector: Detector,
    store: FeatureStore,
    subset: Subset,
    shots: Sequence[int],
    seeds: Sequence[int],
    on_progress: Callable[[int], None] = lambda done: None,
    looks_for: str = DECIDE,
    methods: Sequence[str] = (),
) -> SubsetScores:
    """Scores every query of a subset against every draw.

    Args:
        detector: The model.
        store: Its features.
        subset: What to score.
        shots: Numbers of normals, each 1 to 16.
        seeds: One draw for each.
        on_progress: Called with the number of queries done since the last call.
        looks_for: See :meth:`Detector.build_bank`.
        methods: Names of ``METHODS`` to score with beside the model.

    Raises:
        DataError: See :func:`inctrl_core.datasets.subsets.check_subset`.
        UnreadableImages: Names every image that cannot be used.
        InctrlError: No shots or seeds, or too many shots.
    """
    shots = _checked_shots(subset, shots, seeds)
    draws = tuple(draw_normals(len(subset.train_normals), shots[-1], seed) for seed in seeds)
    normals = _DrawnNormals(detector, store, subset, draws, shots, looks_for, methods)
    shape = (len(shots), len(seeds), len(subset.queries))
    names = (*SIGNALS, *other_readings(detector, looks_for), *methods)
    signals = {name: np.empty(shape) for name in names}
    grid = detector.config.backbone.grid
    maps = np.empty((*shape, grid, grid), np.float32) if subset.has_masks else None
    boxes: list[CropBox] = []
    for place, encoded in _load_queries(store, subset):
        boxes += encoded.crop_boxes
        for k, s, columns, patch_map in normals.scores(encoded.features):
            for name, values in columns.items():
                signals[name][k, s, place] = values
            if maps is not None:
                maps[k, s, place] = patch_map.reshape(-1, grid, grid)
        on_progress(len(encoded))
    truth, maps = _known_places(subset, maps, boxes, detector.config.preprocess)
    anomalous = np.array([query.anomalous for query in subset.queries])
    ranges, good = normals.judged()
    return SubsetScores(
        subset, shots, tuple(seeds), draws, anomalous, signals, maps, truth, ranges, good
    )


def other_readings(detector: Detector, looks_for: str) -> dict[str, str]:
    """The other fusions of a gated model by the names of their scores: "fused_flaw" and so on."""
    if detector.config.heads.form != "gated":
        return {}
    return {f"fused_{other}": other for other in LOOKS_FOR if other != looks_for}


class _DrawnNormals:
    """The normals of all draws of a subset, each held once, and a bank for every draw."""

    def __init__(
        self,
        detector: Detector,
        store: FeatureStore,
        subset: Subset,
        draws: Sequence[Sequence[int]],
        shots: Sequence[int],
        looks_for: str,
        methods: Sequence[str],
    ) -> None:
        self._detector = detector
        used = sorted({index for draw in draws for index in draw})
        position = {index: i for i, index in enumerate(used)}
        self._draws = [[position[index] for index in draw] for draw in draws]
        encoded = store.load([subset.train_normals[index] for index in used])
        self._features = encoded.features
        text = detector.encode_prompts(build_prompts(subset.object_name))
        name = clean_object_name(subset.object_name)
        self._banks: list[list[PromptBank]] = []
        for draw in self._draws:
            boxes = [encoded.crop_boxes[i] for i in draw]
            largest = build_prompt_bank(name, self._features[draw], text, boxes)
            # Its patches are read from the common table; a copy for each bank would add up.
            largest = largest.without_patches().with_looks_for(looks_for)
            self._banks.append([largest.subset(range(count)) for count in shots])
        nested = [draw[:count] for draw in self._draws for count in shots]
        self._others: dict[str, Method] = {
            name: method(self._features, nested)
            for name, method in METHODS.items()
            if method and name in methods
        }
        self._winclip = "winclip" in methods

    def judged(
        self,
    ) -> tuple[
        tuple[tuple[NormalRange | None, ...], ...], tuple[tuple[GoodScores | None, ...], ...]
    ]:
        """The range of each bank's normals, and what to expect of good images, by K and seed."""
        by_shots = list(zip(*self._banks, strict=True))
        ranges = tuple(tuple(normal_range(self._detector, b) for b in row) for row in by_shots)
        pairs, heads = zip(by_shots, ranges, strict=True), self._detector.config.heads
        good = tuple(
            tuple(
                expect_good(heads, bank, () if own is None else own.fused)
                for bank, own in zip(row, owns, strict=True)
            )
            for row, owns in pairs
        )
        return ranges, good

    @torch.inference_mode()
    def scores(
        self, queries: ImageFeatures
    ) -> Iterator[tuple[int, int, dict[str, np.ndarray], np.ndarray]]:
        """Yields index of shots, index of seed, signals ([B] each) and patch maps [B, P]."""
        table = torch.stack(
            [
                torch.cat([nearest_per_normal(q, part) for part in normals.split(NORMAL_BATCH)], 1)
                for q, normals in zip(queries.patches, self._features.patches, strict=True)
            ],
            dim=2,
        )  # [B, normals, D, P]
        others = {name: method.scores(queries) for name, method in self._others.items()}
        for s, (draw, banks) in enumerate(zip(self._draws, self._banks, strict=True)):
            for k, bank in enumerate(banks):
                layer_maps = table[:, draw[: bank.shots]].amin(dim=1)
                columns, patch_map = self._fuse(layer_maps, queries.embeddings, bank)
                for name, rows in others.items():
                    columns[name] = rows[s * len(banks) + k].cpu().numpy()
                yield k, s, columns, patch_map

    def _fuse(
        self, layer_maps: Tensor, embeddings: Tensor, bank: PromptBank
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        evidence = self._detector.evidence(layer_maps, embeddings, bank)
        fusion = self._detector.heads(evidence)
        patch_map = evidence.patch_map
        columns = (
            fusion.fused,
            patch_map.amax(dim=1),
            fusion.image_residual,
            evidence.text_anomaly if fusion.text_anomaly is None else fusion.text_anomaly,
            fusion.holistic,
        )
        named = dict(zip(SIGNALS, columns, strict=True))
        for name, looks_for in other_readings(self._detector, evidence.looks_for).items():
            other = dataclasses.replace(evidence, looks_for=looks_for)
            named[name] = self._detector.heads(other).fused
        if self._winclip:
            named["winclip"] = winclip_score(evidence.text_anomaly, patch_map)
        return {name: column.cpu().numpy() for name, column in named.items()}, (
            patch_map.cpu().numpy()
        )


def _checked_shots(subset: Subset, shots: Sequence[int], seeds: Sequence[int]) -> tuple[int, ...]:
    """The numbers of shots, each once and ascending, if the subset allows them."""
    ascending = tuple(sorted(set(shots)))
    if not ascending or not seeds:
        raise InctrlError("Give at least one number of shots and one seed.")
    check_shots(ascending[0])
    check_shots(ascending[-1])
    check_subset(subset, ascending[-1])
    return ascending


def _load_queries(store: FeatureStore, subset: Subset) -> Iterator[tuple[slice, EncodedImages]]:
    """Yields the queries batch by batch, and complains at the end of all that cannot be used."""
    unreadable: list[Path] = []
    for start in range(0, len(subset.queries), QUERY_BATCH):
        paths = [query.path for query in subset.queries[start : start + QUERY_BATCH]]
        try:
            encoded = store.load(paths)
        except UnreadableImages as error:
            unreadable += error.paths
            continue
        yield slice(start, start + len(paths)), encoded
    if unreadable:
        raise UnreadableImages(unreadable)


def _known_places(
    subset: Subset,
    maps: np.ndarray | None,
    boxes: Sequence[CropBox],
    config: PreprocessConfig,
) -> tuple[tuple[DefectPixels, ...], np.ndarray | None]:
    """Truth and maps of the normal queries and of those with a mask.

    None where no mask marks anything that the model sees: there is nothing to find.
    """
    if maps is None:
        return (), None
    kept = [i for i, query in enumerate(subset.queries) if query.mask or not query.anomalous]
    truth = tuple(_truth(subset.queries[i], boxes[i], config) for i in kept)
    if not any(len(pixels.index) for pixels in truth):
        return (), None
    return truth, maps[:, :, kept]


def _truth(query: Query, crop_box: CropBox, config: PreprocessConfig) -> DefectPixels:
    if query.mask is None or not query.anomalous:
        return NO_DEFECT
    try:
        return defect_pixels(crop_mask(open_mask(query.mask), config, crop_box))
    except ImageError as error:
        raise ImageError(f"{query.mask}: {error}") from error
