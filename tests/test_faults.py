"""What goes wrong around the program: kills, full disks, vanished folders, memory that runs out."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from inctrl_core import ModelError
from inctrl_core.ui import models
from inctrl_core.ui.models import ModelRegistry

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
