"""The command line: ``python -m inctrl_core COMMAND``; one module of ``commands`` per command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from .devices import keep_freed_memory
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


def build_parser(commands: Sequence[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The parser of the given commands; each command's module adds its own arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m inctrl_core",
        description="Few-shot anomaly detection from a handful of normal images.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in commands:
        module = importlib.import_module(f".commands.{name}", __package__)
        subparser = subparsers.add_parser(name, help=COMMANDS[name], description=module.__doc__)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        Exit status: 0, or 1 after an error whose message is on standard error.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    # Only the command asked for is imported, so that none waits for another's libraries.
    known = [argv[0]] if argv and argv[0] in COMMANDS else list(COMMANDS)
    arguments = build_parser(known).parse_args(argv)
    keep_freed_memory()
    try:
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
