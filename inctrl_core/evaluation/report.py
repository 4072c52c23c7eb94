"""Results of an evaluation as JSON, CSV, Markdown and a record of the draws."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..model.detector import Detector
from ..model.evidence import DECIDE
from ..output import table_text
from .protocol import SIGNALS, SubsetScores
from .results import MAP_SIGNAL, Metrics, ShotResult, overall, within_factor_two

METRIC_TITLES = {
    "auroc": "AUROC",
    "ap": "average precision",
    "f1_max": "F1-max (at the best threshold)",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO (up to 30% false positives)",
}
IMAGE_METRICS = ("auroc", "ap", "f1_max")
CSV_COLUMNS = (
    "model",
    "fusion",
    "weights",
    "dataset",
    "subset",
    "shots",
    "normal",
    "anomalous",
    "signal",
    "metric",
    "mean",
    "sd",
    "seeds",
)
SCORE_COLUMNS = ("dataset", "subset", "shots", "seed", "image", "kind", "anomalous")


@dataclass(frozen=True)
class MeasuredModel:
    """Which model was measured, and how it computed.

    Attributes:
        model: Its name.
        fusion: See :attr:`inctrl_core.config.HeadsConfig.described`.
        weights: What its weights are, by the digest of their file or the repository and revision of
            the Hub that they are from; those of heads from elsewhere behind a plus sign.
        device: As torch calls it.
        precision: A name of :data:`inctrl_core.devices.PRECISIONS`.
        looks_for: One of :data:`inctrl_core.model.evidence.LOOKS_FOR`.
    """

    model: str
    fusion: str
    weights: str
    device: str
    precision: str
    looks_for: str = DECIDE

    @classmethod
    def of(cls, detector: Detector, looks_for: str = DECIDE) -> MeasuredModel:
        """The name and origin of ``detector``."""
        backbone, config = detector.backbone, detector.config
        return cls(
            config.name,
            config.heads.described,
            config.weights,
            str(backbone.device),
            str(backbone.dtype).removeprefix("torch."),
            looks_for,
        )


def mean_and_sd(values: Sequence[float]) -> dict[str, float]:
    """Mean, and standard deviation over draws (of a sample; 0 for a single one).

    >>> mean_and_sd([0.5, 0.7, 0.9])
    {'mean': 0.7, 'sd': 0.2}
    """
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": round(float(np.mean(values)), 6), "sd": round(spread, 6)}


def to_document(
    measured: MeasuredModel,
    seeds: int,
    results: Sequence[ShotResult],
    notes: Sequence[str] = (),
    rate: float | None = None,
) -> dict[str, Any]:
    """The JSON document of ``evaluate --json``.

    Args:
        measured: The model.
        seeds: Number of draws.
        results: Results of all subsets and shots.
        notes: Sentences about the data: what was left out, or looks wrong.
        rate: The rate of false alarms that thresholds were chosen for; None where none were.
    """
    return {
        **asdict(measured),
        "seeds": seeds,
        "results": [
            {
                "dataset": result.dataset,
                "subset": result.subset,
                "shots": result.shots,
                "normal": result.normal,
                "anomalous": result.anomalous,
                "metrics": _summary(result.metrics),
                **({} if rate is None else {"false_alarms": _alarms(result, rate)}),
            }
            for result in results
        ],
        "overall": [
            {"shots": shots, "metrics": _summary(metrics)}
            for shots, metrics in overall(results).items()
        ],
        "notes": list(notes),
    }


def to_csv(measured: MeasuredModel, results: Sequence[ShotResult]) -> str:
    """One line per subset, shots, signal and metric; "overall" stands for the mean over subsets."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    rows = [(r.dataset, r.subset, r.shots, r.normal, r.anomalous, r.metrics) for r in results]
    rows += [("overall", "overall", k, "", "", m) for k, m in overall(results).items()]
    for *head, metrics in rows:
        for signal, values in metrics.items():
            for metric, per_seed in values.items():
                summary = mean_and_sd(per_seed)
                tail = signal, metric, summary["mean"], summary["sd"], len(per_seed)
                about = measured.model, measured.fusion, measured.weights, *head
                writer.writerow([*_texts(about), *tail])
    return text.getvalue()


def to_score_csv(scored: Iterable[SubsetScores]) -> str:
    """One line per image, number of shots and draw, with every signal: which images fail, and how.

    Images are relative to the dataset.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scored = list(scored)
    names = list(scored[0].signals) if scored else SIGNALS
    writer.writerow((*SCORE_COLUMNS, *names))
    for scores in scored:
        subset = scores.subset
        for k, shots in enumerate(scores.shots):
            for s, seed in enumerate(scores.seeds):
                for i, query in enumerate(subset.queries):
                    image = query.path.relative_to(subset.root).as_posix()
                    head = subset.dataset, subset.name, shots, seed, image, query.kind
                    values = (f"{scores.signals[name][k, s, i]:.6f}" for name in names)
                    writer.writerow((*_texts(head), int(query.anomalous), *values))
    return text.getvalue()


def _texts(cells: Iterable[Any]) -> list[Any]:
    """The cells, of which no text may be taken for a formula: folders name data sets and images."""
    return [table_text(cell) if isinstance(cell, str) else cell for cell in cells]


def to_markdown(
    measured: MeasuredModel, results: Sequence[ShotResult], rate: float | None = None
) -> str:
    """One table per metric: subsets and shots down, signals across, mean ± sd in per cent.

    Args:
        measured: The model.
        results: Results of all subsets and shots.
        rate: As in :func:`to_document`; adds a table.
    """
    seeds = len(results[0].metrics["fused"]["auroc"])
    figures = "mean ± standard deviation over draws, per cent" if seeds > 1 else "per cent"
    draws = f"{seeds} draws" if seeds > 1 else "1 draw"
    parts = [
        f"Model `{measured.model}`, {measured.fusion}, {draws} of normals: {figures}.",
        f"Weights: {measured.weights}; {measured.precision} on {measured.device}."
        + ("" if measured.looks_for == DECIDE else f" Looks for: {measured.looks_for}."),
    ]
    names = [name for name in results[0].metrics if name != MAP_SIGNAL]
    for metric in IMAGE_METRICS:
        if all(metric in result.metrics[s] for result in results for s in names):
            parts.append(_table(METRIC_TITLES[metric], results, [(s, metric) for s in names]))
    with_map = [result for result in results if MAP_SIGNAL in result.metrics]
    if with_map:
        columns = [(MAP_SIGNAL, metric) for metric in ("pixel_auroc", "aupro")]
        parts.append(_table("Residual map against the masks", with_map, columns))
    alarmed = [result for result in results if result.false_alarms]
    if rate is not None and alarmed:
        parts.append(_alarm_table(alarmed, rate))
    return "\n\n".join(parts) + "\n"


def _alarm_table(results: Sequence[ShotResult], rate: float) -> str:
    lines = [
        f"**Good images above the threshold for {100 * rate:g}%**",
        "",
        f"| dataset | subset | shots | share | draws from {50 * rate:g} to {200 * rate:g}% |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for result in results:
        head = [result.dataset.replace("|", "\\|"), result.subset.replace("|", "\\|")]
        held = within_factor_two(result.false_alarms, rate)
        cells = [*head, str(result.shots), _cell(result.false_alarms), f"{100 * held:.0f}%"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _alarms(result: ShotResult, rate: float) -> dict[str, float] | None:
    if not result.false_alarms:
        return None
    held = within_factor_two(result.false_alarms, rate)
    return mean_and_sd(result.false_alarms) | {"rate": rate, "draws_within_factor_two": held}


def to_draws(scored: Iterable[SubsetScores]) -> dict[str, Any]:
    """Which normals were drawn: files relative to the dataset, of which K shots use the first K."""
    return {
        "rule": "numpy.random.default_rng(seed).permutation(number of normals), from its start",
        "draws": [
            {
                "dataset": scores.subset.dataset,
                "subset": scores.subset.name,
                "object_name": scores.subset.object_name,
                "available": len(scores.subset.train_normals),
                "seed": seed,
                "shots": list(scores.shots),
                "normals": [
                    scores.subset.train_normals[i].relative_to(scores.subset.root).as_posix()
                    for i in draw
                ],
            }
            for scores in scored
            for seed, draw in zip(scores.seeds, scores.draws, strict=True)
        ],
    }


def _summary(metrics: Metrics) -> dict[str, dict[str, dict[str, float]]]:
    return {
        signal: {metric: mean_and_sd(per_seed) for metric, per_seed in values.items()}
        for signal, values in metrics.items()
    }


def _table(title: str, results: Sequence[ShotResult], columns: Sequence[tuple[str, str]]) -> str:
    names = [METRIC_TITLES[m] if s == MAP_SIGNAL else s for s, m in columns]
    lines = [
        f"**{title}**",
        "",
        "| " + " | ".join(["dataset", "subset", "shots", *names]) + " |",
        "| --- | --- | ---: |" + " ---: |" * len(names),
    ]
    rows = [(r.dataset, r.subset, r.shots, r.metrics) for r in results]
    if len({row[:2] for row in rows}) > 1:
        rows += [("**overall**", "mean", k, m) for k, m in overall(results).items()]
    for dataset, subset, shots, metrics in rows:
        cells = [_cell(metrics[signal][metric]) for signal, metric in columns]
        head = [dataset.replace("|", "\\|"), subset.replace("|", "\\|"), str(shots)]
        lines.append("| " + " | ".join([*head, *cells]) + " |")
    return "\n".join(lines)


def _cell(per_seed: Sequence[float]) -> str:
    summary = mean_and_sd(per_seed)
    spread = f" ± {100 * summary['sd']:.1f}" if len(per_seed) > 1 else ""
    return f"{100 * summary['mean']:.1f}{spread}"
