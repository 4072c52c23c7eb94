"""Options that several commands share and mean the same everywhere, and files to write."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..checkpoints.loading import DEFAULT_MODEL, HEADS_VARIABLE, load_detector
from ..devices import PRECISION_VARIABLE, PRECISIONS
from ..errors import InctrlError
from ..model.detector import Detector
from ..model.evidence import DECIDE, LOOKS_FOR
from ..output import write_whole


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declares which model is used, and where and how exactly it computes."""
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME_OR_PATH",
        help="name, directory, .safetensors file of a backbone, or USER/REPO of the Hub (default: "
        f"{DEFAULT_MODEL})",
    )
    parser.add_argument("--revision", help="branch, tag or commit of USER/REPO")
    parser.add_argument(
        "--heads",
        metavar="DIR_OR_REPO",
        help=f"use the heads of another model; {HEADS_VARIABLE} does so for a model from the Hub",
    )
    add_device_options(parser)


def add_looks_for_option(parser: argparse.ArgumentParser, default: str | None = DECIDE) -> None:
    """Declares what an anomaly is taken to be; without a default, as saved normals say."""
    parser.add_argument(
        "--looks-for",
        choices=LOOKS_FOR,
        default=default,
        help="an anomaly: a flaw in the thing, another kind of thing, or as the normals suggest "
        f"(default: {DECIDE})",
    )


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
        InctrlError: See :func:`inctrl_core.checkpoints.loading.load_detector`.
    """
    return load_detector(
        arguments.model,
        arguments.device,
        precision=arguments.precision,
        revision=arguments.revision,
        heads=arguments.heads,
    )


def print_result(text: str) -> None:
    """Writes to standard output; a reader who has had enough, such as head, ends nothing.

    Raises:
        InctrlError: It cannot be written, as where it goes to a file on a full disk.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail once more when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            raise InctrlError(
                f"Standard output cannot be written ({error.strerror}); send it elsewhere."
            ) from error


def write_text(path: Path, text: str) -> None:
    """Writes a file, making its folder.

    Raises:
        InctrlError: It cannot be written.
    """
    # File names that are no valid text, as old archives hold them, are written as their bytes.
    data = text.encode("utf-8", errors="backslashreplace")
    if path.is_file() or not path.exists():
        write_whole(path, lambda partial: partial.write_bytes(data))
        return
    try:
        path.write_bytes(data)  # A pipe or a terminal, whose place no file may take.
    except OSError as error:
        raise InctrlError(f"{path} cannot be written ({error.strerror}); name another.") from error
