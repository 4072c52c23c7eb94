"""Figures of an evaluation: ROC curves and score histograms, one file per subset and kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from .figure_files import save_figure
from .protocol import SIGNALS, SubsetScores

# Colours told apart by colour-blind readers (Okabe and Ito's palette).
COLOURS = dict(zip(SIGNALS, ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#7F7F7F"), strict=True))
NORMAL_COLOUR, ANOMALOUS_COLOUR = "#0072B2", "#D55E00"
HISTOGRAM_SIGNALS = ("fused", "patch_max")
FALSE_POSITIVES = np.linspace(0.0, 1.0, 201)
PANEL = 3.6  # Inches.


def save_plots(scored: Sequence[SubsetScores], model: str, folder: Path) -> list[Path]:
    """Writes ``DATASET-SUBSET-roc.png`` and ``-scores.png`` for every subset.

    Args:
        scored: The subsets.
        model: Its name, for the titles.
        folder: Made where it does not exist.

    Returns:
        The files.

    Raises:
        InctrlError: A file cannot be written.
    """
    written: list[Path] = []
    for scores in scored:
        names = dict.fromkeys((scores.subset.dataset, scores.subset.name))  # Not twice the same.
        stem = re.sub(r"[^\w.-]+", "-", "-".join(names)).strip("-.") or "subset"
        draws = "1 draw" if len(scores.seeds) == 1 else f"{len(scores.seeds)} draws"
        title = f"{' / '.join(names)} · {model} · {draws} of normals"
        for kind, draw in (("roc", roc_figure), ("scores", histogram_figure)):
            path = folder / f"{stem}-{kind}.png"
            number = 2
            while path in written:  # Names that differ only in what a file's name cannot hold.
                path = folder / f"{stem}-{number}-{kind}.png"
                number += 1
            save_figure(draw(scores, title), path)
            written.append(path)
    return written


def roc_figure(scores: SubsetScores, title: str) -> Figure:
    """ROC curve of every signal, a panel per number of shots: mean and range over draws."""
    figure, panels = _panels(1, len(scores.shots), title)
    for k, (axes, shots) in enumerate(zip(panels[0], scores.shots, strict=True)):
        axes.plot([0, 1], [0, 1], color="0.75", linewidth=1, linestyle=":")
        for position, name in enumerate(SIGNALS):
            _draw_roc(axes, name, scores.anomalous, scores.signals[name][k])
            # The fused score lies on top, the dashed holistic one next.
            axes.lines[-1].set_zorder(3 if name in ("fused", "holistic") else 2 - position / 10)
        axes.set(
            title=_shots(shots),
            xlabel="false-positive rate",
            xlim=(0, 1),
            ylim=(0, 1.005),
            aspect="equal",
        )
        axes.legend(
            loc="lower right",
            fontsize=7.5,
            frameon=True,
            framealpha=0.85,
            edgecolor="none",
            title="AUROC",
            title_fontsize=7.5,
        )
    panels[0][0].set_ylabel("true-positive rate")
    return figure


def histogram_figure(scores: SubsetScores, title: str) -> Figure:
    """Distribution of the fused score and of patch_max over both labels, all draws pooled."""
    figure, panels = _panels(len(HISTOGRAM_SIGNALS), len(scores.shots), title)
    for row, name in zip(panels, HISTOGRAM_SIGNALS, strict=True):
        values = scores.signals[name]
        bins = np.linspace(values.min(), max(values.max(), values.min() + 1e-6), 41)
        for k, (axes, shots) in enumerate(zip(row, scores.shots, strict=True)):
            for anomalous, colour, label in (
                (False, NORMAL_COLOUR, "normal"),
                (True, ANOMALOUS_COLOUR, "anomalous"),
            ):
                pooled = values[k][:, scores.anomalous == anomalous].ravel()
                # Shares, not counts: the labels are rarely balanced.
                weights = np.full(pooled.shape, 100.0 / len(pooled))
                axes.hist(pooled, bins, weights=weights, color=colour, alpha=0.3)
                axes.hist(
                    pooled,
                    bins,
                    weights=weights,
                    color=colour,
                    histtype="step",
                    linewidth=1.4,
                    label=label,
                )
            axes.set(title=_shots(shots) if name == HISTOGRAM_SIGNALS[0] else "", xlabel=name)
            axes.set_xlim(bins[0], bins[-1])
        row[0].set_ylabel("per cent of its label")
    panels[0][0].legend(frameon=False, fontsize=8.5)
    return figure


def _draw_roc(axes: Axes, name: str, anomalous: np.ndarray, rows: np.ndarray) -> None:
    curves = []
    for row in rows:
        x, y, _ = roc_curve(anomalous, row)
        curves.append(np.interp(FALSE_POSITIVES, x, y))
    mean = np.mean(curves, axis=0)
    area = np.mean([roc_auc_score(anomalous, row) for row in rows])
    first = name == SIGNALS[0]
    # The curve starts at the origin, although draws may step up there.
    x, y = np.append(0.0, FALSE_POSITIVES), np.append(0.0, mean)
    axes.plot(
        x,
        y,
        color=COLOURS[name],
        linewidth=2.2 if first else 1.4,
        # Where a model's holistic score is one of the other signals, both show.
        linestyle="--" if name == "holistic" else "-",
        label=f"{name} {area:.3f}",
    )
    if len(rows) > 1:
        low, high = np.min(curves, axis=0), np.max(curves, axis=0)
        axes.fill_between(FALSE_POSITIVES, low, high, color=COLOURS[name], alpha=0.1, linewidth=0)


def _panels(rows: int, columns: int, title: str) -> tuple[Figure, Sequence[Sequence[Axes]]]:
    figure = Figure(
        figsize=(max(PANEL * columns, 4.2), PANEL * 0.85 * rows + 0.9), layout="constrained"
    )
    panels = figure.subplots(rows, columns, squeeze=False)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    figure.suptitle(title, fontsize=11, parse_math=False)  # A $ in a name is one.
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.locator_params(nbins=5)
        axes.title.set_size(10)
    return figure, panels


def _shots(count: int) -> str:
    return "1 normal" if count == 1 else f"{count} normals"
