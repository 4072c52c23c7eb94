"""What goes wrong around the program: kills, full disks, vanished folders, memory that runs out."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from inctrl_core import Detector, InctrlError, ModelError, load_detector
from inctrl_core.__main__ import main
from inctrl_core.checkpoints import loading
from inctrl_core.checkpoints.weights import WEIGHTS_FILE
from inctrl_core.config import config_to_json, read_config
from inctrl_core.evaluation.features import FeatureStore
from inctrl_core.model.backbone import Backbone
from inctrl_core.training.loop import CHECKPOINT_FILE
from inctrl_core.ui.common import models
from inctrl_core.ui.common.models import ModelRegistry, find_sources
from inctrl_core.ui.common.runner import ModelRunner
from tests.adversarial.conftest import FileWatch
from tests.checkpoints.test_hub import hub as network_hub  # noqa: F401, a fixture.
from tests.support.app_server import free_port, running_app
from tests.support.hub_server import Repo

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parents[1] / "golden"
NORMALS = [GOLDEN / f"prompt_{i}.png" for i in range(3)]
QUERY = GOLDEN / "query_0.png"
PATIENCE = 20  # Seconds after which something hangs.


class SlowHub:
    """Stands for the Hub and the loader: files of "slow" arrive when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.arrived = threading.Event(), threading.Event()
        self.loads: list[str] = []
        self.in_memory = self.most_at_once = 0
        self.lock = threading.Lock()
        monkeypatch.setattr(models, "fetch_files", self.fetch)
        monkeypatch.setattr(models, "load_detector", self.load)

    def fetch(self, source: str, on_progress: Callable | None) -> None:
        if source == "slow":
            self.asked.set()
            assert self.arrived.wait(PATIENCE)
        if source == "broken":
            raise ModelError("It broke off; try again.")

    def load(self, source: str, device: str, on_progress: Callable | None = None) -> object:
        with self.lock:
            self.in_memory += 1
            self.most_at_once = max(self.most_at_once, self.in_memory)
            self.loads.append(source)
        threading.Event().wait(0.02)
        with self.lock:
            self.in_memory -= 1
        return object()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> SlowHub:
    return SlowHub(monkeypatch)


def in_thread(task: Callable, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=task, args=arguments, daemon=True)
    thread.start()
    return thread


class TestModelsThatAreSlowToCome:
    def test_a_download_keeps_nobody_waiting_who_asks_for_another_model(self, hub):
        registry = ModelRegistry({name: name for name in ("ready", "slow", "new")}, capacity=3)
        ready = registry.get("ready")
        waiting = in_thread(registry.get, "slow")
        assert hub.asked.wait(PATIENCE)
        others = [in_thread(registry.get, name) for name in ("ready", "new")]
        for thread in others:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert registry.get("ready") is ready and waiting.is_alive()
        hub.arrived.set()
        waiting.join(PATIENCE)
        assert sorted(hub.loads) == ["new", "ready", "slow"]

    def test_many_who_ask_for_one_model_load_it_once(self, hub):
        registry = ModelRegistry({"slow": "slow"})
        found: list[object] = []
        threads = [in_thread(lambda: found.append(registry.get("slow"))) for _ in range(8)]
        hub.arrived.set()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(found) == 8 and len(set(map(id, found))) == 1
        assert hub.loads == ["slow"]

    def test_models_take_memory_one_at_a_time_and_the_list_stays_short(self, hub):
        names = [f"m{i}" for i in range(6)]
        registry = ModelRegistry({name: name for name in names}, capacity=2)
        for thread in [in_thread(registry.get, name) for name in names]:
            thread.join(PATIENCE)
        assert hub.most_at_once == 1 and len(hub.loads) == 6
        for name in names:
            registry.get(name)
        assert len(hub.loads) >= 10  # Two at most were still there.

    def test_a_download_that_fails_leaves_the_others_and_the_next_try(self, hub):
        registry = ModelRegistry({"ready": "ready", "broken": "broken"}, capacity=1)
        ready = registry.get("ready")
        for _ in range(2):
            with pytest.raises(ModelError, match="try again"):
                registry.get("broken")
        assert registry.get("ready") is ready


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@contextmanager
def started(*command: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen]:
    """A command in a process of its own, killed at the end where it still runs."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def make_parts(root: Path, count: int) -> Path:
    """A dataset of one subset in the MVTec layout."""
    rng = np.random.default_rng(0)
    for folder, images in (("train/good", 4), ("test/good", count), ("test/hole", count)):
        (root / "nut" / folder).mkdir(parents=True)
        for i in range(images):
            pixels = rng.integers(60, 200, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "nut" / folder / f"{i}.png")
    return root


@pytest.mark.slow
class TestKills:
    def test_in_a_download(self, network_hub, golden_model, golden_detector, tmp_path):  # noqa: F811
        files = {path.name: path.read_bytes() for path in golden_model.iterdir()}
        repo = network_hub.repos.setdefault("someone/golden", Repo(files, hold=True))
        command = ["-m", "inctrl_core", "score", "--model", "someone/golden", "--device", "cpu"]
        command += ["--normal", str(NORMALS[0]), "--query", str(QUERY)]
        cache = {"HF_ENDPOINT": network_hub.url, "HF_HUB_CACHE": constants.HF_HUB_CACHE}
        with started(*command, env=cache | {"HF_HUB_DISABLE_XET": "1"}) as process:
            wait_until(repo.held.is_set)
            kill(process)
        repo.hold = False
        detector = load_detector("someone/golden", "cpu")
        bank = golden_detector.build_bank(NORMALS, "candle")
        expected = golden_detector.score([QUERY], bank)[0].fused
        bank = detector.build_bank(NORMALS, "candle")
        assert detector.score([QUERY], bank)[0].fused == expected

    def test_in_a_training_run(self, tiny_model, folders, tmp_path, capsys):
        out = tmp_path / "out"
        command = ["train", "--form", "reference", "--data", str(folders)]
        command += ["--backbone", str(tiny_model)]
        command += ["--out", str(out), "--shots", "1", "2", "--device", "cpu"]
        command += ["--cache", str(tmp_path / "cache"), "--epochs"]
        with started("-m", "inctrl_core", *command, "500") as process:
            wait_until((out / CHECKPOINT_FILE).is_file)
            kill(process)
        state = torch.load(out / CHECKPOINT_FILE, weights_only=True)
        done = len(state["history"])
        assert 1 <= done < 500
        assert main([*command, str(done + 1), "--resume"]) == 0
        printed = capsys.readouterr().err
        assert f"epoch {done + 1}:" in printed and f"epoch {done}:" not in printed
        assert load_detector(out, "cpu").fusion == "trained"

    def test_in_an_evaluation(self, tiny_model, tmp_path, capsys):
        data, cache = make_parts(tmp_path / "parts", 400), tmp_path / "cache"
        command = ["evaluate", "--data", str(data), "--model", str(tiny_model), "--json"]
        command += ["--shots", "2", "--seeds", "2", "--device", "cpu"]
        with started("-m", "inctrl_core", *command, "--cache", str(cache)) as process:
            wait_until(lambda: len(list(cache.rglob("*.safetensors"))) > 20)
            kill(process)
        kept = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
        assert 20 < len(kept) < 800
        assert main([*command, "--cache", str(cache)]) == 0
        resumed = json.loads(capsys.readouterr().out)
        assert main([*command, "--no-cache"]) == 0
        assert resumed == json.loads(capsys.readouterr().out)
        assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())
        assert len(list(cache.rglob("*.safetensors"))) >= 800 + 2


@pytest.mark.slow
def test_an_instance_that_ends_takes_only_its_own_uploads(tmp_path: Path) -> None:
    # Gradio names an upload by its content, and deletes its own where an application ends: in a
    # folder of all, those are the other's as well.
    host = {"TMPDIR": str(tmp_path), "GRADIO_TEMP_DIR": ""}
    ports = free_port(), free_port()
    with started("app.py", "--port", str(ports[0]), env=host) as process:
        with started("app.py", "--port", str(ports[1]), env=host) as other:
            wait_until(lambda: all(map(answers, ports)))
            kept, lost = (upload(port, QUERY) for port in ports)
            other.send_signal(signal.SIGTERM)
            other.communicate(timeout=PATIENCE)
        assert kept.read_bytes() == QUERY.read_bytes() and not lost.exists()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert not list(tmp_path.iterdir())


def upload(port: int, image: Path) -> Path:
    with image.open("rb") as stream:
        answer = httpx.post(f"http://127.0.0.1:{port}/gradio_api/upload", files={"files": stream})
    return Path(answer.json()[0])


def answers(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).status == 200
    except OSError:
        return False


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestFullDisk:
    @pytest.mark.slow
    def test_while_a_model_is_written(self, tiny_model, folders, tmp_path, capfd):
        out, cache = tmp_path / "out", str(tmp_path / "cache")
        command = ["train", "--form", "reference", "--data", str(folders)]
        command += ["--backbone", str(tiny_model), "--out", str(out), "--shots", "2"]
        command += ["--epochs", "1", "--cache", cache, "--device", "cpu"]
        with files_up_to(2_000_000):
            assert main(command) == 1
        said = capfd.readouterr().err.splitlines()[-1]
        assert said.startswith("error: ") and "cannot be written" in said and "free some" in said
        assert not list(out.rglob("*.partial")) and not (out / WEIGHTS_FILE).exists()
        assert main([*command, "--resume"]) == 0  # The epoch was kept.
        assert load_detector(out, "cpu").fusion == "trained"

    @pytest.mark.slow
    def test_while_a_checkpoint_is_written(self, tiny_model, folders, tmp_path, capfd):
        out = tmp_path / "out"
        command = ["train", "--form", "reference", "--data", str(folders)]
        command += ["--backbone", str(tiny_model), "--out", str(out), "--shots", "2"]
        command += ["--epochs", "1", "--device", "cpu", "--cache", str(tmp_path / "cache")]
        with files_up_to(50_000):
            assert main(command) == 1
        assert f"error: {out / CHECKPOINT_FILE} cannot be written" in capfd.readouterr().err
        assert list(out.iterdir()) == []

    def test_while_features_are_kept(self, tiny_model, tmp_path, capfd):
        data, cache = make_parts(tmp_path / "parts", 3), tmp_path / "cache"
        command = ["evaluate", "--data", str(data), "--model", str(tiny_model), "--json"]
        command += ["--shots", "2", "--seeds", "1", "--device", "cpu", "--cache", str(cache)]
        with files_up_to(1_000):
            assert main(command) == 1
        output = capfd.readouterr()
        assert output.out == "" and "cannot be written" in output.err.splitlines()[-1]
        assert [path for path in cache.rglob("*") if path.is_file()] == []
        assert main(command) == 0

    def test_while_visitors_use_the_page(self, tiny_model, tmp_path, monkeypatch):
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).save(stream, "JPEG", quality=5)  # Its heatmap is a larger file.
        with running_app(sources={"tiny": tiny_model}) as url:
            visit = httpx.Client(base_url=url, timeout=60)

            def upload(data: bytes) -> httpx.Response:
                return visit.post("/gradio_api/upload", files=[("files", ("a.jpg", data))])

            def score() -> str:
                body = {"data": [[file], file, "nut", "tiny"]}
                event = visit.post("/gradio_api/call/score", json=body).json()["event_id"]
                return visit.get(f"/gradio_api/call/score/{event}").text

            path = upload(stream.getvalue()).json()[0]
            file = {"path": path, "meta": {"_type": "gradio.FileData"}}
            with files_up_to(8_000):
                answer = upload(bytes(3_000_000))
                assert answer.status_code == 507 and "cannot keep files" in answer.text
                assert "cannot keep files" in score()
            assert "event: complete" in score()


class TestAssets:
    def test_nothing_is_written_where_the_program_lies(self):
        watch = FileWatch()
        detector = load_detector("inctrl-lite", "cpu")
        with watch.allowing():
            detector = load_detector("inctrl-lite", "cpu")
            detector.score([QUERY], detector.build_bank(NORMALS, "candle"))

    @pytest.mark.parametrize("place", [100, 5_000, -1])
    def test_a_flipped_bit_is_noticed(self, golden_model, tmp_path, monkeypatch, caplog, place):
        broken = Path(shutil.copytree(golden_model, tmp_path / "broken"))
        data = bytearray((broken / WEIGHTS_FILE).read_bytes())
        data[place] ^= 4
        (broken / WEIGHTS_FILE).write_bytes(data)
        monkeypatch.setattr(loading, "ASSETS", tmp_path)
        registry = ModelRegistry(find_sources(assets=tmp_path), "cpu")
        for _ in range(2):
            with pytest.raises(ModelError) as caught:
                registry.get("broken")
            assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
        registry.warm_up().join(PATIENCE)
        assert str(caught.value) in caplog.text

    def test_a_model_of_an_older_program_has_no_digest(self, golden_model, tmp_path):
        old = Path(shutil.copytree(golden_model, tmp_path / "old"))
        config = dataclasses.replace(read_config(old), weights_sha256=None)
        (old / "config.json").write_text(config_to_json(config))
        assert load_detector(old, "cpu").fusion == "trained"


class TestCacheThatVanishes:
    def test_features(self, tiny_model, tmp_path):
        store = FeatureStore(load_detector(tiny_model, "cpu"), tmp_path / "cache")
        first = store.load(NORMALS)
        shutil.rmtree(tmp_path / "cache")
        again = store.load(NORMALS)
        assert torch.equal(first.features.embeddings, again.features.embeddings)
        assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 3


class ShortMemory:
    """The backbone of a device on which so many images fit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, detector: Detector, limit: int) -> None:
        self.sizes: list[int] = []
        encode = detector.backbone._encode_batch

        def encode_or_fail(crops: torch.Tensor) -> object:
            self.sizes.append(len(crops))
            if len(crops) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return encode(crops)

        monkeypatch.setattr(detector.backbone, "_encode_batch", encode_or_fail)
        # Batches as on a GPU.
        monkeypatch.setattr("inctrl_core.model.backbone.CPU_IMAGE_BATCH", 16)


class TestMemoryOfTheDevice:
    def test_batches_shrink_and_the_scores_stay(self, golden_detector, monkeypatch):
        bank = golden_detector.build_bank(NORMALS, "candle")
        expected = [s.fused for s in golden_detector.score([*NORMALS, QUERY] * 2, bank)]
        device = ShortMemory(monkeypatch, golden_detector, 3)
        scores = golden_detector.score([*NORMALS, QUERY] * 2, bank)
        assert [s.fused for s in scores] == pytest.approx(expected, abs=1e-6)
        assert device.sizes[0] == 8 and max(device.sizes[2:]) <= 3

    def test_where_nothing_fits_the_visitor_is_told(self, golden_detector, monkeypatch):
        ShortMemory(monkeypatch, golden_detector, 0)
        monkeypatch.setattr(models, "fetch_files", lambda *_: None)
        monkeypatch.setattr(models, "load_detector", lambda *_, **__: golden_detector)
        run = ModelRunner(ModelRegistry({"golden": "golden"}))
        with pytest.raises(InctrlError, match="too little memory for one image; close"):
            run.measure("golden", [str(path) for path in NORMALS], "candle")

    @pytest.mark.parametrize("step", ["layer_residuals", "build_prompt_bank"])
    def test_also_after_the_backbone(self, golden_detector, monkeypatch, step):
        def refuse(*_: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory.")

        monkeypatch.setattr(f"inctrl_core.model.detector.{step}", refuse)
        with pytest.raises(InctrlError, match="too little memory for this; use fewer") as caught:
            golden_detector.score([QUERY], golden_detector.build_bank(NORMALS, "candle"))
        assert "CUDA" not in str(caught.value)

    def test_text_too(self, golden_detector, monkeypatch):
        def refuse(*_: object, **__: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory.")

        backbone = Backbone(golden_detector.backbone.clip, golden_detector.config.backbone)
        monkeypatch.setattr(backbone.clip.transformer, "forward", refuse)
        with pytest.raises(InctrlError, match="too little memory"):
            backbone.encode_text(["a nut"])
