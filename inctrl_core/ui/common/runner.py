"""Runs what needs a model where models compute, which may be in another process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
import numpy as np
import torch

from ...analysis.changes import compute_closer_look, encode_without, open_again
from ...analysis.defects import check_defects, show_defects
from ...analysis.inspection import (
    NORMAL_PIXELS,
    adjust_bank,
    has_bank_of,
    inspect_query,
    open_files,
    start_session,
)
from ...analysis.measured_bank import MeasuredBank, build_measured_bank
from ...analysis.session import Session
from ...analysis.steps import Progress as Steps
from ...analysis.steps import Step, untold
from ...analysis.unsorted import Unsorted, compute_normals
from ...checkpoints.hub import Progress
from ...config import PreprocessConfig
from ...devices import NO_MEMORY
from ...errors import InctrlError
from ...images.ignored import part_from_text, text_of_image
from ...images.levels import Levels
from ...images.seen import SeenImage, SeenSet, see_image, see_set
from ...model.bank import check_shots
from ...model.detector import Detector
from ...model.evidence import DECIDE
from ...model.prompts import clean_object_name
from .banks import bank_key
from .models import ModelRegistry


class ModelRunner:
    """Calls steps with a detector: in turns, or on a GPU lent for the call (ZeroGPU).

    Downloads wait for nobody's turn. What goes in and comes out lies on the CPU and can be pickled;
    sessions are moved both ways.

    Args:
        registry: The models.
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self.images = registry.images

    def __call__(
        self,
        step: Callable[..., Any],
        model: str,
        *arguments: Any,
        on_progress: Progress | None = None,
    ) -> Any:
        """The result of ``step(detector, *arguments)``.

        Args:
            step: A function of a module, with the detector as its first argument.
            model: Name of the model in the list.
            *arguments: The others.
            on_progress: Told of a download.

        Raises:
            ModelError: The model is not on the list or does not load.
            InctrlError: Whatever the step refuses; or no GPU was lent.
        """
        # Loaded before its turn, and on this side: what a borrowed process loads ends with it.
        self._registry.get(model, on_progress)
        return self._registry.compute(model, run_step, step, arguments)

    def start_session(
        self,
        model: str,
        files: tuple[Sequence[str], str],
        object_name: str,
        previous: Session | None = None,
        on_progress: Progress | None = None,
        looks_for: str | None = None,
    ) -> Session:
        """:func:`.inspection.start_session`, with images that are opened before the model's turn.

        Args:
            model: Name of the model in the list.
            files: Paths of the normals, and of the query.
            object_name: What the images show.
            previous: The visitor's last session.
            on_progress: Told of a download.
            looks_for: See :func:`.inspection.start_session`.

        Raises:
            InctrlError: Anything in the input cannot be used.
        """
        config = self.sees(model, on_progress)
        opened = open_files(config, model, files, previous, self.images)
        if opened.normals is None:  # The visitor's last bank serves again.
            given = model, files, object_name, previous, opened, looks_for
            return self(start_session, model, *given)
        about = model, files, opened
        sought = looks_for or DECIDE
        return self.against(
            model, files[0], object_name, inspect_query, lambda _: about, opened.normals, sought
        )[1]

    def look_closer(self, session: Session, parts: int, on_step: Steps = untold) -> Session:
        """:func:`.changes.with_closer_look`; others have their turns between its steps.

        Args:
            session: A visitor's.
            parts: Parts a side.
            on_step: Told of each step before it begins.

        Raises:
            InctrlError: There cannot be so many parts, or an image is no longer there.
        """
        step = self.steps_of(session.model)
        return compute_closer_look(step, session, parts, self.images, on_step)

    def ignore(self, session: Session, part: np.ndarray | None) -> Session:
        """:func:`.changes.with_ignored`, with images that are opened before the model's turn.

        Args:
            session: A visitor's.
            part: The part to ignore.

        Raises:
            InctrlError: It cannot be used, or an image is no longer there.
        """
        opened = open_again(session, self.images)
        return self(encode_without, session.model, session, *opened, part)

    def part(self, model: str, file: str) -> np.ndarray | None:
        """The part to ignore that an image marks; None where there is no image.

        Raises:
            InctrlError: The image cannot be used, or marks nothing or nearly everything.
        """
        if not file:
            return None
        return part_from_text(self.images.run(text_of_image, file, self.sees(model)))

    def find_normals(
        self,
        model: str,
        files: Sequence[str],
        on_step: Steps = untold,
        on_progress: Progress | None = None,
    ) -> Unsorted:
        """:func:`.unsorted.find_normals`; others have their turns between its steps.

        Args:
            model: Name of the model in the list.
            files: Paths of the images.
            on_step: Told of each step before it begins.
            on_progress: Told of a download.

        Raises:
            InctrlError: There are too few images that can be read.
        """
        config = self.sees(model, on_progress)
        return compute_normals(self.steps_of(model), config, files, self.images, on_step)

    def measure(
        self,
        model: str,
        files: Sequence[str],
        object_name: str,
        previous: Session | None = None,
        on_progress: Progress | None = None,
        looks_for: str | None = None,
        ignored: np.ndarray | None = None,
    ) -> MeasuredBank:
        """The bank of normals with their range: the visitor's last one, a known one, or a new one.

        Args:
            model: Name of the model in the list.
            files: Paths of the normals.
            object_name: What they show.
            previous: The visitor's last session.
            on_progress: Told of a download.
            looks_for: See :func:`.inspection.start_session`.
            ignored: The part to ignore, where the last session's bank does not serve again.

        Raises:
            InctrlError: The normals or the name cannot be used.
        """
        detector = self._registry.get(model, on_progress)
        check_shots(len(files))
        if has_bank_of(previous, model, files):
            same = clean_object_name(object_name) == previous.bank.object_name
            if same and looks_for in (None, previous.bank.looks_for):
                return previous.measured
            return self(adjust_bank, model, previous.measured, object_name, looks_for)
        sought = looks_for or DECIDE

        def build() -> MeasuredBank:
            seen = self._open(model, files)
            return self(build_measured_bank, model, seen, object_name, sought, ignored)

        if ignored is not None:
            return build()
        return self._registry.banks.find(bank_key(detector, files, object_name, sought), build)

    def see_defects(
        self, model: str, measured: MeasuredBank, files: Sequence[str]
    ) -> list[SeenImage]:
        """Opens images of defects as the bank's images were opened.

        Raises:
            InctrlError: There are too many, or one cannot be used.
        """
        check_defects(len(files))
        config, levels = self.sees(model), measured.bank.levels
        return [self.images(see_image, file, config, 1, levels=levels) for file in files]

    def show_defects(
        self, model: str, measured: MeasuredBank, files: Sequence[str]
    ) -> MeasuredBank:
        """:func:`.defects.show_defects`, with images that are opened before the model's turn.

        Args:
            model: Name of the model in the list.
            measured: The normals.
            files: Paths of the images.

        Raises:
            InctrlError: An image cannot be used.
        """
        if not files:
            return measured
        seen = self.see_defects(model, measured, files)
        return self(show_defects, model, measured, seen)

    def against(
        self,
        model: str,
        files: Sequence[str],
        object_name: str,
        step: Callable[..., Any],
        arguments: Callable[[Levels | None], tuple[Any, ...]],
        normals: SeenSet | None = None,
        looks_for: str = DECIDE,
    ) -> tuple[MeasuredBank, Any]:
        """The bank of normals, and the result of ``step(detector, bank, *arguments(levels))``.

        One turn at the model for both, whether the bank is known or not.

        Args:
            model: Name of the model in the list.
            files: Paths of the normals.
            object_name: What they show.
            step: A function of a module.
            arguments: Opens the query by the levels of the normals.
            normals: The opened normals; None: they are opened here, if need be.
            looks_for: See :meth:`.Detector.build_bank`.

        Raises:
            InctrlError: Anything in the input cannot be used.
        """
        check_shots(len(files))
        outcomes = []

        def build() -> MeasuredBank:
            seen = normals or self._open(model, files)
            given = arguments(seen.levels)
            about = object_name, looks_for
            bank, outcome = self(_build_and_run, model, seen, about, step, given)
            outcomes.append(outcome)
            return bank

        key = bank_key(self._registry.get(model), files, object_name, looks_for)
        bank = self._registry.banks.find(key, build)
        if not outcomes:
            outcomes.append(self(step, model, bank, *arguments(bank.bank.levels)))
        return bank, outcomes[0]

    def steps_of(self, model: str) -> Step:
        """Steps that a model of the list computes; others have their turns between them."""
        return lambda function, *arguments: self(function, model, *arguments)

    def _open(self, model: str, files: Sequence[str]) -> SeenSet:
        return see_set(files, self.sees(model), NORMAL_PIXELS, self.images)

    def digest(self, model: str) -> str:
        """Names a model of the list by its content; it is loaded if need be."""
        return self._registry.get(model).digest

    def sees(self, model: str, on_progress: Progress | None = None) -> PreprocessConfig:
        """How a model of the list sees images; it is loaded if need be."""
        return self._registry.get(model, on_progress).config.preprocess


def run_step(detector: Detector, step: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The result of ``step(detector, *arguments)``, with sessions on the model's device.

    Raises:
        InctrlError: Whatever the step refuses; or there is too little memory.
    """
    device = detector.backbone.device
    try:
        outcome = step(detector, *(_move(argument, device) for argument in arguments))
    except torch.OutOfMemoryError:
        raise InctrlError(NO_MEMORY) from None
    return _move(outcome, "cpu")


def _build_and_run(
    detector: Detector,
    normals: SeenSet,
    about: tuple[str, str],
    step: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> tuple[MeasuredBank, Any]:
    bank = build_measured_bank(detector, normals, *about)
    return _move(bank, "cpu"), _move(step(detector, bank, *arguments), "cpu")


def _move(value: Any, device: torch.device | str) -> Any:
    return value.to(device) if isinstance(value, Session | MeasuredBank) else value


def download_progress(progress: gr.Progress) -> Progress:
    """Shows a download in the page's progress bar."""

    def show(arrived: int, expected: int | None) -> None:
        megabytes = f"{arrived / 1e6:.0f}" + (f" of {expected / 1e6:.0f}" if expected else "")
        share = arrived / expected if expected else None
        progress(share, desc=f"Downloading the model, {megabytes} MB, once")

    return show
