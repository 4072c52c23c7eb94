"""The command line as a whole: what it offers, and what each command needs to be there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from inctrl_core.__main__ import COMMANDS, main

NEEDS_MORE = {"evaluate", "train"}
# As if only what requirements.txt names were installed.
BLOCKED = """
import sys
for name in ("sklearn", "scipy", "skimage", "elpv_dataset", "conformal_clip_data"):
    sys.modules[name] = None
from inctrl_core.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def without_extras(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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
@pytest.mark.parametrize("arguments", [["--help"], ["scores"], *([name] for name in COMMANDS)])
def test_without_the_extras_a_command_works_or_says_what_it_needs(arguments: list[str]) -> None:
    run = without_extras(*arguments, "--help")
    if arguments[0] in NEEDS_MORE:
        assert run.returncode == 1 and run.stderr.count("\n") == 1
        assert "is not installed; run pip install -r requirements-dev.txt" in run.stderr
    else:
        assert run.returncode == (2 if arguments == ["scores"] else 0)
        assert "usage: python -m inctrl_core" in run.stdout + run.stderr
