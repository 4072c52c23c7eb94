"""The command line: ``python -m inctrl_core COMMAND``; one module of ``commands`` per command."""

from __future__ import annotations

import argparse
import importlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from .errors import InctrlError

COMMANDS = {
    "score": "score images against a few normal ones",
    "train": "train the heads or the patch adapter of a model, on folders and drawn classes",
    "average": "average the patch adapters of several trainings",
    "evaluate": "measure a model on a dataset, over draws of normal images",
    "convert": "turn a checkpoint of the reference implementation into a model directory",
    "benchmark": "measure what a model costs on this computer",
    "push": "upload a model directory to the Hugging Face Hub",
}


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of all commands, and of the arguments of one: only that one's module is imported.

    Args:
        command: Perhaps the name of a command; its module adds its own arguments.

    Raises:
        InctrlError: The command needs a library that is not installed.
    """
    parser = argparse.ArgumentParser(
        # "inctrl" is the same command where the package is installed.
        prog="inctrl" if Path(sys.argv[0]).stem == "inctrl" else "python -m inctrl_core",
        description="Few-shot anomaly detection from a handful of normal images.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        if name == command:
            module = _import_command(name)
            subparser = subparsers.add_parser(name, help=summary, description=module.__doc__)
            subparser.register("type", Path, _named_path)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


def _named_path(text: str) -> Path:
    """A path; an empty text is none, which Python would take for the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name; name a file or a folder")
    return Path(text)


def _import_command(name: str) -> ModuleType:
    try:
        return importlib.import_module(f".commands.{name}", __package__)
    except ModuleNotFoundError as error:
        raise InctrlError(
            f"'{name}' needs {error.name}, which is not installed; "
            "run pip install -r requirements-dev.txt first, or pip install 'inctrl-core[train]'."
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        Exit status: 0, or 1 after an error whose message is on standard error.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        # Names of files need be no text, nor text that a terminal can show.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        arguments = build_parser(argv[0] if argv else None).parse_args(argv)
        arguments.run(arguments)
    except InctrlError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
