"""The cost of a model on this computer, against one bare pass of its backbone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..checkpoints.hub import is_cached
from ..checkpoints.loading import find_backbone_file, find_model, load_detector
from ..config import ModelConfig, read_config
from ..devices import pick_device, pick_precision
from ..images.files import open_image
from ..images.overlay import OverlayStyle, overlay
from ..images.preprocessing import preprocess
from ..model.backbone import Backbone
from ..model.clip import build_clip
from ..model.detector import Detector
from ..model.heads import build_heads
from ..model.patch_adapter import PatchAdapter
from ..model.prompts import build_prompts
from .figure_files import save_figure
from .timing import Row, Task, peak_memory, time_tasks

MANY = 32
PHOTO_SIZE = (1152, 896)  # About a megapixel, as a photograph has it.
CROP_SIZE = (320, 240)  # Hardly any work before the backbone.
# Ratios to the bare pass that this project holds itself to, for the paper's backbone. A small one
# is so fast that what lies around it weighs more; its own measure is pictures a second.
TARGETS = {"inctrl-vit-b-16-plus-240": {"bank": 1.10, "text": 8.0, "query": 1.10}}
CURVE_SHOTS = (1, 2, 4, 8, 16)
CURVE_BATCHES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class BenchmarkReport:
    """Everything a benchmark says.

    Attributes:
        model: Name.
        weights: "real" or "random".
        device: Where it ran.
        precision: Precision of the forward pass.
        threads: Number of torch's threads on the CPU.
        shots: K.
        rounds: How often each row was timed.
        rows: The times; the first is the bare pass.
        photos_per_second: Megapixel JPEG files decoded, scored and drawn in a second.
        peak_bytes: Most memory that the process held so far; None where the system does not tell.
    """

    model: str
    weights: str
    device: str
    precision: str
    threads: int
    shots: int
    rounds: int
    rows: tuple[Row, ...]
    photos_per_second: float
    peak_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        """Ready for ``json.dumps``."""
        return asdict(self)


def load_for_benchmark(
    name: str, device: str = "auto", precision: str | None = None
) -> tuple[Detector, bool]:
    """A detector with its weights where they are on this computer, else with random ones.

    No weights of a Hub backbone are downloaded: what a pass costs does not depend on them.

    Returns:
        The detector, and whether its weights are the real ones.

    Raises:
        ModelError: The model does not exist or does not load.
    """
    directory = find_model(name)
    config = read_config(directory)
    backbone = config.backbone
    repo, revision = backbone.hub_repo, backbone.hub_revision
    here = repo is None or find_backbone_file(name, directory) is not None
    if here or is_cached(repo, backbone.hub_file, revision):
        return load_detector(name, device, precision=precision), True
    return random_detector(config, device, precision), False


def random_detector(
    config: ModelConfig, device: str = "auto", precision: str | None = None
) -> Detector:
    """A detector of the given shape, its weights drawn with a fixed seed."""
    picked = pick_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = build_clip(config.backbone)
        heads = build_heads(config.heads, config.backbone).eval().requires_grad_(False)
    widths = config.heads.patch_adapter
    adapter = PatchAdapter(widths) if widths else None
    dtype = pick_precision(precision, picked)
    return Detector(config, Backbone(clip, config.backbone, picked, dtype, adapter), heads)


def make_photo(seed: int, size: tuple[int, int] = PHOTO_SIZE) -> Image.Image:
    """A picture with the coarse and fine structure of a photograph, so that JPEG has work to do."""
    generator = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize(
                size, Image.Resampling.BICUBIC
            ),
            dtype=np.float32,
        )
        for cells in (4, 32, 256)
    ]
    mixed = 0.6 * layers[0] + 0.3 * layers[1] + 0.1 * layers[2]
    return Image.fromarray(mixed.round().astype(np.uint8))


def run_benchmark(
    detector: Detector, shots: int = 4, *, real_weights: bool = True, rounds: int = 7
) -> BenchmarkReport:
    """Times a model.

    Args:
        detector: The model.
        shots: K, normals in the bank.
        real_weights: Said in the report.
        rounds: How often each row is timed, after one round of warming up.
    """
    normals = [make_photo(seed) for seed in range(shots)]
    # None of them a normal: of such more is computed.
    queries = [make_photo(seed) for seed in range(shots, shots + 4)]
    tasks = _tasks(detector, normals, queries)
    rows = time_tasks(tasks, detector.backbone.device, rounds)
    return BenchmarkReport(
        model=detector.name,
        weights="real" if real_weights else "random",
        device=str(detector.backbone.device),
        precision=str(detector.backbone.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        shots=shots,
        rounds=rounds,
        rows=rows,
        photos_per_second=1.0 / rows[-1].seconds,
        peak_bytes=peak_memory(),
    )


def compare_precision(
    detector: Detector, other: Detector, shots: int = 4, *, rounds: int = 7
) -> dict[str, float | str]:
    """Speed and scores of one precision against another, of the same model.

    Returns:
        ``precision``, ``ratio`` of its bare pass to that of ``detector``, and ``fused_difference``,
        the largest over 16 pictures.
    """
    photos = [make_photo(seed, CROP_SIZE) for seed in range(16)]
    tasks = [
        Task("bare", _bare_pass(detector, photos[0])),
        Task("it", _bare_pass(other, photos[0])),
    ]
    rows = time_tasks(tasks, detector.backbone.device, rounds)
    ours, theirs = (
        one.score(photos, one.build_bank(photos[:shots], "metal nut")) for one in (detector, other)
    )
    differences = [abs(a.fused - b.fused) for a, b in zip(ours, theirs, strict=True)]
    return {
        "precision": str(other.backbone.dtype).removeprefix("torch."),
        "ratio": rows[1].ratio,
        "fused_difference": max(differences),
    }


def measure_curve(detector: Detector, rounds: int = 5) -> dict[str, dict[int, float]]:
    """Seconds for one query against the number of normals, and against the batch.

    Returns:
        ``shots``: K -> seconds of one query; ``batch``: B -> seconds of each query of a batch.
    """
    photos = [make_photo(seed, CROP_SIZE) for seed in range(max(CURVE_SHOTS))]
    whole = detector.build_bank(photos, "metal nut")
    banks = [whole.subset(range(shots)) for shots in CURVE_SHOTS]
    batches = [(photos * 2)[:size] for size in CURVE_BATCHES]
    tasks = [Task("", lambda bank=bank: detector.score(photos[:1], bank), None) for bank in banks]
    tasks += [
        Task("", lambda batch=batch: detector.score(batch, banks[2]), None) for batch in batches
    ]
    # What comes first in a round comes after the largest batch, with that in the caches: left out.
    rows = time_tasks([tasks[0], *tasks], detector.backbone.device, rounds)[1:]
    seconds = [row.seconds for row in rows]
    per_query = zip(CURVE_BATCHES, seconds[len(CURVE_SHOTS) :], strict=True)
    return {
        "shots": dict(zip(CURVE_SHOTS, seconds, strict=False)),
        "batch": {size: total / size for size, total in per_query},
    }


def save_curve(curve: dict[str, dict[int, float]], title: str, path: Path) -> None:
    """Draws the result of :func:`measure_curve` as a PNG file.

    Raises:
        InctrlError: It cannot be written.
    """
    from matplotlib.figure import Figure  # Slow to import, and only this needs it.

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    labels = {"shots": "normal images K, batch 1", "batch": "queries in a batch, K = 4"}
    for axes, (key, label) in zip(figure.subplots(1, 2, sharey=True), labels.items(), strict=True):
        axes.plot(list(curve[key]), [1000 * s for s in curve[key].values()], marker="o")
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(curve[key]), [str(value) for value in curve[key]])
        axes.set_xlabel(label)
        axes.set_ylim(0, 1100 * max(max(times.values()) for times in curve.values()))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("ms per query")
    figure.suptitle(title)
    save_figure(figure, path)


def _tasks(
    detector: Detector, normals: Sequence[Image.Image], queries: Sequence[Image.Image]
) -> list[Task]:
    style = OverlayStyle(low=0.0, high=0.5)
    shots, query = len(normals), queries[0]
    bank = detector.build_bank(normals, "metal nut")
    score = detector.score([query], bank)[0]
    many = [queries[i % len(queries)] for i in range(MANY)]
    file = io.BytesIO()
    query.save(file, "JPEG", quality=90)
    names = _new_names()
    targets = TARGETS.get(detector.name, {})

    def scored_and_drawn() -> Image.Image:
        image = open_image(file.getvalue())
        one = detector.score([image], bank)[0]
        return overlay(image, one.patch_map, one.crop_box, style)

    backbone, tasks = detector.backbone, []
    if backbone.engine is not None:
        in_torch = _bare_pass(detector, query, backbone.without_engine())
        tasks = [Task("the same in torch", in_torch)]
    return [
        Task("bare backbone forward", _bare_pass(detector, query)),
        *tasks,
        Task(
            f"bank of {shots}",
            lambda: detector.build_bank(normals, "metal nut"),
            shots,
            targets.get("bank"),
        ),
        Task(
            "text of a new object name",
            lambda: detector.encode_prompts(build_prompts(next(names))),
            1,
            targets.get("text"),
        ),
        Task("one query", lambda: detector.score([query], bank), 1, targets.get("query")),
        Task(f"{MANY} queries", lambda: detector.score(many, bank), MANY),
        Task(
            "overlay of one megapixel",
            lambda: overlay(query, score.patch_map, score.crop_box, style),
            None,
        ),
        Task("JPEG of one megapixel: decode, score, overlay", scored_and_drawn, 1),
    ]


def _bare_pass(
    detector: Detector, photo: Image.Image, backbone: Backbone | None = None
) -> Callable[[], object]:
    """The backbone's own forward pass with its intermediates, and nothing else."""
    pixels, _ = preprocess(photo, detector.config.preprocess)
    backbone = backbone or detector.backbone
    # Moved once they are resized, which a device cannot always do at its precision.
    views = [view.to(backbone.device, backbone.dtype) for view in backbone.views(pixels[None])]
    return lambda: backbone.forward_views(views)


def _new_names() -> Iterator[str]:
    """Object names that no cache has seen, each of as many tokens as the others."""
    return (f"metal nut {10_000 + number}" for number in count())
