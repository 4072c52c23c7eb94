"""Imports only go down: each module's floor, and the rule that gradio stays upstairs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A module's floor; a folder's floor counts for all inside. Equal floors may import each other's
# modules only as listed in the documentation: the walk below refuses cycles.
FLOORS = {
    "inctrl_core.errors": 0,
    "inctrl_core.architecture": 0,
    "inctrl_core.config": 0,
    "inctrl_core.devices": 0,
    "inctrl_core.checkpoints.proxies": 0,
    "inctrl_core.model.score": 0,
    "inctrl_core.output": 0,
    "inctrl_core.model.prompts": 0,
    "inctrl_core.model.prompt_tree": 0,
    "inctrl_core.model.text_tower": 0,
    "inctrl_core.images.perturbations": 0,
    "inctrl_core.model.residuals": 0,
    "inctrl_core.images.levels": 0,
    "inctrl_core.images.formats.deep": 0,
    "inctrl_core.images.formats.tiff_values": 0,
    "inctrl_core.images.limits": 0,
    "inctrl_core.images.formats.decoders": 0,
    "inctrl_core.images.files": 0,
    "inctrl_core.images.formats.structure": 0,
    "inctrl_core.images.formats.media_boxes": 0,
    "inctrl_core.images.formats.tiff_directory": 0,
    "inctrl_core.images.folders": 0,
    "inctrl_core.images.preprocessing": 0,
    "inctrl_core.model.patch_adapter": 0,
    "inctrl_core.model.acceleration": 0,
    "inctrl_core.model.same_padding": 0,
    "inctrl_core.model.backbone": 1,
    "inctrl_core.model.bank": 1,
    "inctrl_core.model.evidence": 0,
    "inctrl_core.model.calibrated": 1,
    "inctrl_core.model.heads": 1,
    "inctrl_core.checkpoints.tensor_files": 2,
    "inctrl_core.checkpoints.weights": 2,
    "inctrl_core.checkpoints.backbone_files": 2,
    "inctrl_core.checkpoints.conversion": 2,
    "inctrl_core.checkpoints.hub": 2,
    "inctrl_core.checkpoints.model_card": 2,
    "inctrl_core.images.overlay": 2,
    "inctrl_core.images.seen": 2,
    "inctrl_core.images.workers": 2,
    "inctrl_core.model.detector": 3,
    "inctrl_core.checkpoints.loading": 3,
    "inctrl_core": 3,
    "inctrl_core.analysis.normal_range": 4,
    "inctrl_core.analysis.batch": 4,
    "inctrl_core.analysis.export": 4,
    "inctrl_core.analysis.heatmap_files": 4,
    "inctrl_core.analysis.explanations": 4,
    "inctrl_core.analysis.stress": 4,
    "inctrl_core.analysis.walkthrough": 4,
    "inctrl_core.recipes": 4,
    "inctrl_core.commands": 5,
    "inctrl_core.__main__": 5,
    "inctrl_core.ui": 5,
    "app": 6,
}
FILES = sorted([ROOT / "app.py", *(ROOT / "inctrl_core").rglob("*.py")])


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor(module: str) -> int:
    parts = module.split(".")
    while parts:
        name = ".".join(parts)
        # The package itself is only the floor of its public names, not of whatever is new in it.
        if name in FLOORS and (name != "inctrl_core" or module == name):
            return FLOORS[name]
        parts.pop()
    raise AssertionError(f"{module} has no floor; add it to the picture and to this table")


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in it."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            found |= {resolve(module, alias.name) for alias in node.names}
    return found


def resolve(module: str, name: str) -> str:
    """The submodule, where ``from module import name`` names one."""
    path = ROOT.joinpath(*module.split("."), name)
    return f"{module}.{name}" if path.with_suffix(".py").exists() or path.is_dir() else module


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_only_go_down(path: Path) -> None:
    own = floor(module_name(path))
    for target in imports(path):
        if target.split(".")[0] in ("inctrl_core", "app"):
            assert floor(target) <= own, f"{module_name(path)} imports {target} from above"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_gradio_stays_in_the_interface(path: Path) -> None:
    allowed = path.name == "app.py" or "ui" in path.relative_to(ROOT).parts
    assert allowed or not any(name.split(".")[0] == "gradio" for name in imports(path))


def test_no_cycles() -> None:
    graph = {module_name(path): imports(path) for path in FILES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail, module])
        if module in done:
            return
        for target in graph.get(module, ()):
            if target != module:
                visit(target, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def test_the_walk_sees_what_it_should() -> None:
    detector = imports(ROOT / "inctrl_core" / "detector.py")
    assert {"inctrl_core.model.backbone", "inctrl_core.model.residuals", "torch"} <= detector
    assert "inctrl_core.commands" not in detector
