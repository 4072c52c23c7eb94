"""Write every example set of the demo, and its gallery of failures, again.

    python examples/make_examples.py [--only NAME ...] [--out FOLDER]

The result depends on nothing but this code, its fixed seed and the installed versions of NumPy,
SciPy, Pillow, scikit-image, scikit-learn and conformal-clip-data.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from generate.cases import NAME as CASES
from generate.cases import write_cases
from generate.catalogue import MAKERS
from generate.records import write_set


def main(arguments: list[str] | None = None) -> int:
    """Make the chosen sets and name each folder on standard output."""
    parser = argparse.ArgumentParser(description="Write the example sets of the demo again.")
    parser.add_argument("--only", nargs="+", choices=sorted([*MAKERS, CASES]), help="sets to make")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    options = parser.parse_args(arguments)
    for name in options.only or [*MAKERS, CASES]:
        made = write_cases(options.out) if name == CASES else write_set(MAKERS[name](), options.out)
        print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
