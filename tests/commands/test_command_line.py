"""The command line as a whole: what it offers, and what each command needs to be there."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from inctrl_core.__main__ import COMMANDS, main

NEEDS_MORE = {"evaluate", "train"}
FIRST_ARGUMENTS = ["--help", "scores", *COMMANDS]
# As if only what requirements.txt names were installed. One process makes all calls: a blocked
# module stays blocked, and most of the time of a process is the import of torch.
BLOCKED = """
import contextlib, io, json, sys
for name in ("sklearn", "scipy", "skimage", "elpv_dataset", "conformal_clip_data"):
    sys.modules[name] = None
from inctrl_core.__main__ import main
told = []
for first in sys.argv[1:]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([first, "--help"])
        except SystemExit as ended:
            code = ended.code
    told.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def without_extras() -> dict[str, tuple[int, str, str]]:
    """First argument of a call -> exit status, output and errors where the extras are missing."""
    command = [sys.executable, "-c", BLOCKED, *FIRST_ARGUMENTS]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(zip(FIRST_ARGUMENTS, json.loads(run.stdout), strict=True))


def test_every_command_is_listed_and_a_wrong_one_is_told(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in COMMANDS)
    for wrong in (["scores"], []):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
        assert "usage: python -m inctrl_core" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0 and "options:" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST_ARGUMENTS)
def test_without_the_extras_a_command_works_or_says_what_it_needs(without_extras, first) -> None:
    code, out, err = without_extras[first]
    if first in NEEDS_MORE:
        assert code == 1 and err.count("\n") == 1
        assert "is not installed; run pip install -r requirements-dev.txt" in err
    else:
        assert code == (2 if first == "scores" else 0)
        assert "usage: python -m inctrl_core" in out + err
