"""The image tower in ONNX Runtime: torch's numbers, the same bits always, and torch without it."""

from __future__ import annotations

import dataclasses
import gc
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from inctrl_core import Detector, ModelError, load_detector
from inctrl_core.checkpoints.loading import ASSETS
from inctrl_core.checkpoints.weights import (
    BACKBONE_PREFIX,
    add_prefix,
    load_model,
    save_model,
)
from inctrl_core.model.bank import PromptBank
from inctrl_core.model.engine import TowerEngine, graph_file
from inctrl_core.model.score import Score
from inctrl_core.recipes.inctrl_lite.tower_graphs import make_graphs, write_graphs
from tests.support.pictures import ALIKE, CLEAR, OTHER

LITE = ASSETS / "inctrl-lite"
EXAMPLES = ASSETS.parent / "examples"
GOLDEN = Path(__file__).parents[1] / "golden"
SETS = sorted(path.parent for path in EXAMPLES.glob("*/set.json"))
QUERIES = OTHER.queries
# Mostly of one value, black or white: torch's own rounding takes all of the bound there.
FLAT = CLEAR.name, ALIKE.name
SIZES = (240, 288)


def passes(detector: Detector) -> bool:
    """Whether the engine passes the tower of a detector."""
    return detector.backbone.engine is not None


@pytest.fixture(scope="module")
def detector() -> Detector:
    loaded = load_detector("inctrl-lite", "cpu")
    assert passes(loaded)
    return loaded


@pytest.fixture(scope="module")
def in_torch(detector: Detector) -> Detector:
    return Detector(detector.config, detector.backbone.without_engine(), detector.heads)


@pytest.fixture(scope="module")
def in_double(detector: Detector) -> Detector:
    """Torch's own passes, without its rounding."""
    return load_detector("inctrl-lite", "cpu").to("cpu", torch.float64)


@pytest.fixture(scope="module")
def bank(detector: Detector) -> PromptBank:
    return detector.build_bank(OTHER.normals[:4], "cookie")


def tensors(detector: Detector, images: list[Path]) -> list[torch.Tensor]:
    features = detector.encode(images).features
    return [features.embeddings, *features.patches]


def images_of(folder: Path) -> list[Path]:
    return [*sorted((folder / "normals").iterdir()), *sorted((folder / "queries").iterdir())]


@pytest.mark.parametrize("folder", [*SETS, GOLDEN], ids=lambda folder: folder.name)
def test_features_equal_torchs(
    detector: Detector, in_torch: Detector, in_double: Detector, folder: Path
) -> None:
    images = sorted(GOLDEN.glob("*.png")) if folder == GOLDEN else images_of(folder)
    assert len(images) > 6
    reference = in_double if folder.name in FLAT else in_torch
    for ours, torchs in zip(tensors(detector, images), tensors(reference, images), strict=True):
        assert float((ours - torchs).abs().max()) <= 1e-5 * float(torchs.abs().max())


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
def test_scores_equal_torchs(detector: Detector, in_torch: Detector, folder: Path) -> None:
    normals = sorted((folder / "normals").iterdir())[:4]
    queries = sorted((folder / "queries").iterdir())
    scores = (one.score(queries, one.build_bank(normals, "thing")) for one in (detector, in_torch))
    for ours, torchs in zip(*scores, strict=True):
        for name in ("fused", "holistic", "patch_max", "image_residual", "text_anomaly"):
            assert getattr(ours, name) == pytest.approx(getattr(torchs, name), abs=1e-4), name


def same_bits(one: Score, other: Score) -> bool:
    numbers = ("fused", "holistic", "patch_max", "image_residual", "text_anomaly")
    arrays = ("patch_map", "layer_maps", "nearest")
    return all(getattr(one, name) == getattr(other, name) for name in numbers) and all(
        (getattr(one, name) == getattr(other, name)).all() for name in arrays
    )


def test_the_same_bits_alone_in_a_batch_and_on_each_run(
    detector: Detector, bank: PromptBank
) -> None:
    images = (QUERIES * 4)[:20]  # More than a batch.
    together = detector.score(images, bank)
    backwards = detector.score(images[::-1], bank)[::-1]
    for image, score, again in zip(images, together, backwards, strict=True):
        assert same_bits(score, again)
        assert same_bits(score, detector.score([image], bank)[0])
    assert not same_bits(together[0], together[1])


def test_the_same_bits_with_eight_threads(detector: Detector, bank: PromptBank) -> None:
    expected = [detector.score([image], bank)[0] for image in QUERIES]

    def ask(number: int) -> bool:
        order = [(number + step) % len(QUERIES) for step in range(len(QUERIES))]
        return all(same_bits(detector.score([QUERIES[i]], bank)[0], expected[i]) for i in order)

    with ThreadPoolExecutor(8) as visitors:
        assert all(visitors.map(ask, range(16)))


def graphs_in(directory: Path) -> dict[int, Path]:
    return {size: directory / graph_file(size) for size in SIZES}


def test_the_same_bits_on_any_number_of_cores(detector: Detector) -> None:
    tower, depths = load_model(LITE).clip.visual, detector.config.backbone.depths
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(1, 3, size, size, generator=generator).clamp(-1, 1) for size in SIZES]
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            engine = TowerEngine(graphs_in(LITE), tower, depths)
            found.append(list(engine.map(engine.forward, views)))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=0)


def test_its_threads_leave_others_as_they_were_and_end_with_the_model() -> None:
    threads, before = torch.get_num_threads(), set(threading.enumerate())
    loaded = load_detector("inctrl-lite", "cpu")
    passing = set(threading.enumerate()) - before
    assert len(passing) == min(threads, len(SIZES))
    assert torch.get_num_threads() == threads
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == threads
    assert set(loaded.backbone.engine.map(lambda _: torch.get_num_threads(), range(8))) == {1}
    del loaded
    gc.collect()
    for thread in passing:
        thread.join(timeout=10)
        assert not thread.is_alive()


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_moved_detector_passes_by_torch(device: str, bank: PromptBank) -> None:
    moved = load_detector("inctrl-lite", "cpu").to(device)
    assert not passes(moved)
    if device == "cpu":
        assert len(moved.score(QUERIES[:1], bank)) == 1


def test_others_pass_by_torch(golden_detector: Detector) -> None:
    assert not passes(golden_detector)
    assert not passes(load_detector("inctrl-lite", "cpu", precision="bfloat16"))


def test_a_forked_process_moves_its_copy(detector: Detector, bank: PromptBank) -> None:
    """As where GPUs are lent: threads of the parent's do not exist there."""
    expected = detector.score(QUERIES[:1], bank)[0].fused
    if not hasattr(os, "fork"):
        pytest.skip("this system forks no processes")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        moved = detector.to("cpu")
        os.write(writer, str(moved.score(QUERIES[:1], bank)[0].fused).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    assert float(found) == pytest.approx(expected, abs=1e-4)


HIDDEN = """
import sys
sys.modules["onnxruntime"] = None
from inctrl_core import load_detector
detector = load_detector("inctrl-lite", "cpu")
assert detector.backbone.engine is None
normals, query = sys.argv[1:-1], sys.argv[-1]
print(detector.score([query], detector.build_bank(normals, "cookie"))[0].fused)
"""


def test_everything_works_without_onnx_runtime(detector: Detector, bank: PromptBank) -> None:
    normals = OTHER.normals[:4]
    command = [sys.executable, "-c", HIDDEN, *map(str, normals), str(QUERIES[0])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ASSETS.parent, check=False)
    assert done.returncode == 0, done.stderr
    expected = detector.score(QUERIES[:1], bank)[0].fused
    assert float(done.stdout) == pytest.approx(expected, abs=1e-4)


class TestGraphs:
    """The files beside the weights: made again they are the same, others are refused."""

    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(LITE, tmp_path / "copy"))

    def test_they_can_be_made_again(self, copy: Path) -> None:
        for path in graphs_in(copy).values():
            path.unlink()
        assert write_graphs(copy) <= 1e-5
        for size, path in graphs_in(copy).items():
            assert path.read_bytes() == (LITE / graph_file(size)).read_bytes()
            assert path.stat().st_size < 50_000  # No weights in it.

    def refused(self, directory: Path, words: str) -> None:
        with pytest.raises(ModelError, match=words) as caught:
            load_detector(directory, "cpu")
        assert "tower_graphs" in str(caught.value) and "\n" not in str(caught.value)

    def test_those_of_another_model_are_refused(self, copy: Path) -> None:
        model = load_model(LITE)
        with torch.no_grad():
            next(model.clip.visual.parameters()).add_(1e-3)
        for size, graph in make_graphs(model.clip.visual, model.config).items():
            (copy / graph_file(size)).write_bytes(graph)
        self.refused(copy, "other weights")

    def test_those_of_other_depths_are_refused(self, copy: Path) -> None:
        config = load_model(LITE).config
        backbone = dataclasses.replace(config.backbone, depths=(1, 3, 4))
        other = dataclasses.replace(config, backbone=backbone)
        graphs = make_graphs(load_model(LITE).clip.visual, other)
        (copy / graph_file(240)).write_bytes(graphs[240])
        self.refused(copy, "other depths")

    def test_those_of_another_size_are_refused(self, copy: Path) -> None:
        shutil.copy(LITE / graph_file(240), copy / graph_file(288))
        self.refused(copy, "another size")

    @pytest.mark.parametrize("damage", ["cut", "empty", "text", "flipped"])
    def test_damaged_ones_are_refused(self, copy: Path, damage: str) -> None:
        path = copy / graph_file(288)
        whole = path.read_bytes()
        ruined = {
            "cut": whole[: len(whole) // 2],
            "empty": b"",
            "text": b"not a graph",
            "flipped": whole.replace(b"Conv", b"Vnoc"),
        }
        path.write_bytes(ruined[damage])
        self.refused(copy, "damaged, or belongs to another model")

    def test_a_graph_with_weights_for_a_larger_tower_is_refused(self, copy: Path) -> None:
        """It names places beyond the weights that there are."""
        path = copy / graph_file(240)
        whole = path.read_bytes()
        length = str(13652096 - 1280 * 4).encode()
        assert length in whole
        path.write_bytes(whole.replace(length, b"9" * len(length)))
        self.refused(copy, "damaged, or belongs to another model")

    def test_models_with_the_embedded_tower_pass_by_its_graphs(self, tmp_path: Path) -> None:
        """Such as those that are trained on it; other towers and other depths pass by torch."""
        model = load_model(LITE)
        tensors = add_prefix(model.clip.state_dict(), BACKBONE_PREFIX)
        heads = dataclasses.replace(
            model.config.heads, form="training-free", options={}, patch_adapter=(), good_scores={}
        )
        config = dataclasses.replace(model.config, heads=heads)
        save_model(tmp_path / "own", config, tensors)
        assert passes(load_detector(tmp_path / "own", "cpu"))
        first = f"{BACKBONE_PREFIX}visual.trunk.conv_stem.weight"
        save_model(tmp_path / "tower", config, {**tensors, first: tensors[first] + 1e-3})
        assert not passes(load_detector(tmp_path / "tower", "cpu"))
        backbone = dataclasses.replace(config.backbone, depths=(1, 3, 4))
        save_model(tmp_path / "depths", dataclasses.replace(config, backbone=backbone), tensors)
        assert not passes(load_detector(tmp_path / "depths", "cpu"))


def test_nothing_is_reported_to_its_makers(tmp_path):
    # Where it reports, it keeps the name of its session in the temporary folder.
    code = "from inctrl_core.model.engine import engine_is_installed; print(engine_is_installed())"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == "True" and not list(tmp_path.glob(".ses*"))
