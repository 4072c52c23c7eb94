"""Opens files in a process of its own, and says what each took.

``python -m tests.adversarial.measure`` reads paths, one a line, and prints for each a line of
JSON: the seconds of processor time, the bytes of memory at most beyond before, and the size or the
sentence.
"""

from __future__ import annotations

import json
import re
import sys
import time
import warnings
from pathlib import Path

from inctrl_core import ImageError
from inctrl_core.images.files import open_image

MEGABYTE = 2**20


def memory(what: str, process: int | str = "self") -> int:
    """A figure of a process's status in /proc, in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(re.search(rf"{what}:\s+(\d+)", status)[1])


def main() -> None:
    """Answers until there are no more paths."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")  # From now on, a new peak is counted.
        before, start = memory("VmRSS"), time.process_time()
        try:
            says = str(open_image(line.rstrip("\n")).size)
        except ImageError as error:
            says = str(error)
        took = {"seconds": time.process_time() - start, "bytes": memory("VmHWM") - before}
        sys.stdout.write(json.dumps(took | {"says": says}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
