"""The curves of a training run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..evaluation.figure_files import save_figure


def save_curves(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Draws losses and held-out AUROC over the epochs.

    Args:
        path: PNG to write.
        history: One entry per epoch, of :class:`.training_run.TrainingRun`.

    Raises:
        InctrlError: The file cannot be written.
    """
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [entry["epoch"] for entry in history]
    lines = (
        (left, "training_loss", "training", "-"),
        (left, "loss", "held-out classes", "--"),
        (right, "auroc", "with what is trained", "-"),
        (right, "patch_max_auroc", "largest patch residual without it", "--"),
    )
    for axes, key, label, style in lines:
        axes.plot(epochs, [entry[key] for entry in history], style, label=label)
    left.set(xlabel="epoch", ylabel="loss")
    right.set(xlabel="epoch", ylabel="AUROC on held-out classes")
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    save_figure(figure, path)
