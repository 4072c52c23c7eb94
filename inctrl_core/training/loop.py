"""A training run: its epochs, the best weights, the history, a checkpoint on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import InctrlError
from ..output import write_whole
from .objectives import Objective

CHECKPOINT_FILE = "checkpoint.pt"

Figures = dict[str, Any]


class TrainingRun:
    """Epochs of one training run, of which that with the best held-out AUROC is kept.

    Args:
        module: To be trained.
        objective: Draws a batch and gives its loss.
        validate: Figures of the module as it is on held-out classes, ``auroc`` among them.
        optimizer: Optimizer of the module's parameters.
        seed: Decides every draw.
        steps: Batches in an epoch.
        rate: Learning rate from the number of steps done before; None leaves the optimizer's.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Objective,
        validate: Callable[[], Figures],
        optimizer: torch.optim.Optimizer,
        *,
        seed: int,
        steps: int,
        rate: Callable[[int], float] | None = None,
    ) -> None:
        self.module = module
        self.history: list[Figures] = []
        self.best = _copy(module)
        self._objective, self._validate = objective, validate
        self._optimizer, self._rate = optimizer, rate
        self._seed, self._steps = seed, steps

    def run(
        self,
        epochs: int,
        mark: str,
        folder: Path | None = None,
        report: Callable[[Figures], None] | None = None,
    ) -> Figures:
        """Trains up to ``epochs`` in all and leaves the module with the best epoch's weights.

        Args:
            epochs: In all, with those that a checkpoint has done.
            mark: Names the data and options, so that no checkpoint of another run is taken up.
            folder: Where a checkpoint is kept after every epoch, and taken up again; None for none.
            report: Called with each epoch's figures.

        Returns:
            The best epoch's figures.

        Raises:
            InctrlError: The checkpoint in ``folder`` is damaged or of another run.
        """
        place = None if folder is None else folder / CHECKPOINT_FILE
        if place is not None and place.is_file():
            self._restore(place, mark)
        while len(self.history) < epochs:
            figures = self._advance()
            if place is not None:
                self._store(place, mark)
            if report is not None:
                report(figures)
        self.module.load_state_dict(self.best)
        self.module.eval().requires_grad_(False)
        return max(self.history, key=_merit)

    def _advance(self) -> Figures:
        # A generator of its own for every epoch, so that a resumed run draws what another would.
        epoch = len(self.history)
        rng = np.random.default_rng((self._seed, 3, epoch))
        self.module.train()
        losses = []
        steps = tqdm(range(self._steps), f"epoch {epoch + 1}", unit="batch", leave=False)
        for step in steps:
            if self._rate is not None:
                for group in self._optimizer.param_groups:
                    group["lr"] = self._rate(epoch * self._steps + step)
            loss = self._objective(rng)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            losses.append(float(loss.detach()))
        self.module.eval()
        figures = self._validate()
        figures |= {"epoch": epoch + 1, "training_loss": float(np.mean(losses))}
        if not self.history or _merit(figures) > max(map(_merit, self.history)):
            self.best = _copy(self.module)
        self.history.append(figures)
        return figures

    def _store(self, place: Path, mark: str) -> None:
        # The old checkpoint stays until the new one is whole.
        state = {
            "mark": mark,
            "module": self.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": self.best,
            "history": self.history,
        }
        write_whole(place, lambda partial: torch.save(state, partial))

    def _restore(self, place: Path, mark: str) -> None:
        try:
            state = torch.load(place, weights_only=True)
            known = state["mark"]
        except Exception as error:  # On damaged data torch raises many kinds, even IndexError.
            raise InctrlError(f"{place} is damaged; start again without --resume.") from error
        if known != mark:
            raise InctrlError(
                f"{place} is of a run with other data or options; name another --out, or start "
                "again without --resume."
            )
        self.module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.best, self.history = state["best"], state["history"]


def _merit(figures: Figures) -> float:
    return figures["auroc"]


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in module.state_dict().items()}
