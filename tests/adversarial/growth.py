"""Does opening damaged files over and over take memory or handles? In a process of its own.

``python -m tests.adversarial.growth`` prints both as JSON: in a process that serves pages
and runs models beside it, neither would tell anything.
"""

from __future__ import annotations

import gc
import json
import sys
import warnings
from contextlib import suppress

from inctrl_core import ImageError
from inctrl_core.images.files import open_image
from tests.adversarial import corpus
from tests.adversarial.conftest import open_files, resident_bytes

ROUNDS = 3


def sweep(files: list[bytes]) -> None:
    """Opens every file, or is told why not."""
    for data in files:
        with suppress(ImageError):
            open_image(data)
    gc.collect()


def main() -> None:
    """Measures after some rounds, so that libraries and caches are there."""
    warnings.simplefilter("ignore")
    files = [data for _, data in corpus.damaged_files(300, seed=2)]
    files += corpus.crafted_files().values()
    for _ in range(ROUNDS):
        sweep(files)
    memory, handles = resident_bytes(), open_files()
    for _ in range(ROUNDS):
        sweep(files)
    grown = {"bytes": resident_bytes() - memory, "handles": open_files() - handles}
    sys.stdout.write(json.dumps(grown) + "\n")


if __name__ == "__main__":
    main()
