"""The package as pip installs it: built from this checkout, used far from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from inctrl_core import __version__, load_detector
from tests.support.pictures import FIRST

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment in which the wheel is installed.

    What the package needs is lent by the environment of the tests: to fetch it anew would take
    gigabytes.
    """
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("inctrl_core-*.whl")
    assert __version__ in wheel.name
    assert wheel.stat().st_size < 30e6
    home = folder / "venv"
    venv.create(home)
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    python = programs / Path(sys.executable).name
    paths = {"base": str(home), "platbase": str(home)}
    libraries = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (libraries / "lent.pth").write_text("\n".join(sorted(lent)) + "\n")
    install = ["--python", str(python), "install", "--no-deps", "--force-reinstall", str(wheel)]
    subprocess.run([*pip, *install], check=True)
    return programs


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1"}
    options = {"cwd": folder, "capture_output": True, "text": True, "timeout": 300}
    return subprocess.run(command, env=environment, check=False, **options)


def test_the_command_scores_offline_from_anywhere(bin_folder: Path, tmp_path: Path) -> None:
    normals = FIRST.normals
    query = FIRST.bad
    command = [str(bin_folder / "inctrl"), "score", "--json", "--normal", *map(str, normals)]
    done = run([*command, "--query", str(query), "--object", "screw"], tmp_path)
    assert done.returncode == 0, done.stderr
    detector = load_detector("inctrl-lite", device="cpu")
    expected = detector.score([query], detector.build_bank(normals, "screw"))[0]
    (found,) = json.loads(done.stdout)["scores"]
    assert found["fused"] == pytest.approx(expected.fused, abs=1e-6)


def test_the_library_comes_from_the_wheel(bin_folder: Path, tmp_path: Path) -> None:
    code = (
        "import inctrl_core; from inctrl_core.ui.common.examples import load_examples; "
        "print(inctrl_core.__file__, inctrl_core.__version__, len(load_examples()))"
    )
    done = run([str(bin_folder / "python"), "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    place, version, examples = done.stdout.split()
    assert str(bin_folder.parent) in place
    assert version == __version__
    assert int(examples) == len([path for path in (ROOT / "examples").glob("*/set.json")]) > 0
