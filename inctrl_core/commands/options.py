"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

import argparse

from ..detector import Detector
from ..devices import PRECISION_VARIABLE, PRECISIONS
from ..loading import DEFAULT_MODEL, HEADS_VARIABLE, load_detector


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declares which model is used, and where and how exactly it computes."""
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help=f"name, directory, or USER/REPO of the Hub (default: {DEFAULT_MODEL})",
    )
    parser.add_argument("--revision", help="branch, tag or commit of USER/REPO")
    parser.add_argument(
        "--heads",
        metavar="DIR_OR_REPO",
        help=f"use the heads of another model; {HEADS_VARIABLE} does so for a model from the Hub",
    )
    add_device_options(parser)


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Declares where and how exactly a model computes."""
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--precision",
        help=f"auto, {', '.join(PRECISIONS)}; float32 unless {PRECISION_VARIABLE} is set",
    )


def load_model_option(arguments: argparse.Namespace) -> Detector:
    """The model that the options of :func:`add_model_options` name.

    Raises:
        InctrlError: See :func:`inctrl_core.loading.load_detector`.
    """
    return load_detector(
        arguments.model,
        arguments.device,
        precision=arguments.precision,
        revision=arguments.revision,
        heads=arguments.heads,
    )
