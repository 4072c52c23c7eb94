"""The directions of imports: the contracts of pyproject.toml hold, and would say so if not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path) -> subprocess.CompletedProcess:
    """Runs lint-imports on the checkout in ``folder``."""
    options = {"cwd": folder, "capture_output": True, "text": True, "timeout": 300}
    environment = {**os.environ, "PYTHONPATH": os.fspath(folder)}
    command = [sys.executable, "-c", LINT, "--no-cache"]
    return subprocess.run(command, env=environment, check=False, **options)


def test_the_contracts_hold() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("importer", "line"),
    [
        ("images/overlay.py", "from ..model.score import Score"),
        ("model/score.py", "from ..checkpoints.hub import Progress"),
        ("analysis/batch.py", "from ..checkpoints.loading import load_detector"),
        ("model/residuals.py", "import gradio"),
        ("ui/live/tab.py", "from ..inspect.tab import InspectTab"),
        ("ui/common/form.py", "from ..stress.tab import StressTab"),
        ("ui/learn/tab.py", "from ...evaluation.metrics import auroc"),
    ],
)
def test_a_forbidden_import_is_refused(tmp_path: Path, importer: str, line: str) -> None:
    shutil.copytree(ROOT / "inctrl_core", tmp_path / "inctrl_core")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "inctrl_core" / importer
    path.write_text(path.read_text() + f"\n{line}  # noqa\n")
    done = lint(tmp_path)
    assert done.returncode != 0, done.stdout
    assert "BROKEN" in done.stdout
