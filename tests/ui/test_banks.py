"""Banks that are built once: for whom they serve again, and for whom they do not."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pickle
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from inctrl_core import Detector
from inctrl_core.analysis.measured_bank import MeasuredBank, build_measured_bank
from inctrl_core.checkpoints.loading import DEFAULT_MODEL
from inctrl_core.errors import ImageError, InctrlError
from inctrl_core.model.heads import TrainingFreeFusion
from inctrl_core.ui.common import banks
from inctrl_core.ui.common.banks import BankCache, bank_key
from inctrl_core.ui.common.lending import pack
from inctrl_core.ui.common.models import ModelRegistry
from inctrl_core.ui.common.runner import ModelRunner
from inctrl_core.ui.service.api import ScoreApi
from inctrl_core.ui.service.api_analysis import AnalysisApi
from tests.support.pictures import FIRST

EXAMPLE = FIRST.example
NORMALS = [str(path) for path in EXAMPLE.normals[:3]]
QUERIES = [str(query.path) for query in EXAMPLE.queries[:2]]


@pytest.fixture(scope="module")
def loaded() -> ModelRegistry:
    return ModelRegistry({DEFAULT_MODEL: DEFAULT_MODEL}, device="cpu")


@pytest.fixture
def registry(loaded: ModelRegistry, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    """A registry that knows no bank yet."""
    monkeypatch.setattr(loaded, "banks", BankCache())
    return loaded


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of images that pass the backbone, one entry a pass."""
    passes, encode = [], Detector.encode_opened

    def count(self: Detector, images: Any, ignored: Any = None) -> Any:
        images = list(images)
        passes.append(len(images))
        return encode(self, images, ignored)

    monkeypatch.setattr(Detector, "encode_opened", count)
    return passes


@pytest.fixture(scope="module")
def measured(loaded: ModelRegistry) -> MeasuredBank:
    return build_measured_bank(loaded.get(DEFAULT_MODEL), NORMALS, "screw")


def files(paths: list[str]) -> list[dict]:
    return [{"path": path, "orig_name": Path(path).name} for path in paths]


def score(registry: ModelRegistry, normals: list[str], query: str, name: str = "screw") -> dict:
    return ScoreApi(registry).score(files(normals), files([query])[0], name, DEFAULT_MODEL)[0]


def test_known_normals_cost_one_query_and_the_answer_is_the_same(registry, encoded, monkeypatch):
    alone = []
    for query in QUERIES:
        monkeypatch.setattr(registry, "banks", BankCache())
        alone.append(score(registry, NORMALS, query))
    monkeypatch.setattr(registry, "banks", BankCache())
    encoded.clear()
    again = [score(registry, NORMALS, query) for query in (*QUERIES, QUERIES[0])]
    assert encoded == [3, 1, 1, 1]
    assert json.dumps(again) == json.dumps([*alone, alone[0]])


def test_every_call_knows_them(registry, encoded):
    score(registry, NORMALS, QUERIES[0])
    encoded.clear()
    api, given = AnalysisApi(registry), (files(NORMALS), files([QUERIES[1]])[0], "screw")
    api.explain(*given, DEFAULT_MODEL)
    api.score_batch(given[0], files(QUERIES), "screw", DEFAULT_MODEL)
    api.stress_test(*given, DEFAULT_MODEL)
    assert encoded[:3] == [1, 2, 1] and 3 not in encoded


def test_answers_name_normals_as_their_owner_does(registry):
    given = [file | {"orig_name": f"mine {i}.jpg"} for i, file in enumerate(files(NORMALS))]
    query = files([QUERIES[1]])[0]
    explained = AnalysisApi(registry).explain(given, query, "screw", DEFAULT_MODEL)
    assert [entry["name"] for entry in explained["normals"]] == [
        f"mine {i}.jpg" for i in range(len(given))
    ]


def test_inspect_knows_them_without_a_session(registry, encoded):
    run, about = ModelRunner(registry), (DEFAULT_MODEL, (NORMALS, QUERIES[0]), "screw")
    first = run.start_session(*about)
    encoded.clear()
    again = run.start_session(*about)
    assert encoded == [1] and again.bank is first.bank and len(again.normals) == 3
    assert again.score.fused == first.score.fused and again.ledger == first.ledger


def test_names_are_those_of_the_request(registry, encoded, tmp_path):
    mine = [shutil.copy(path, tmp_path / f"secret {i}.jpg") for i, path in enumerate(NORMALS)]
    told = score(registry, list(map(str, mine)), QUERIES[0])
    assert [normal["name"] for normal in told["normals"]] == [f"secret {i}.jpg" for i in range(3)]
    encoded.clear()
    again = score(registry, NORMALS, QUERIES[0])
    assert encoded == [1] and "secret" not in json.dumps(again)
    session = ModelRunner(registry).start_session(DEFAULT_MODEL, (NORMALS, QUERIES[0]), "screw")
    assert "secret" not in repr((session.normal_files, session.normal_names))
    bank = next(iter(registry.banks._kept.values()))[0]
    assert b"secret" not in pickle.dumps(bank)


def test_only_the_same_content_is_known(registry, encoded, tmp_path, golden_detector):
    changed = shutil.copy(NORMALS[0], tmp_path / Path(NORMALS[0]).name)
    with open(changed, "ab") as stream:
        stream.write(b"\0")
    about = registry.get(DEFAULT_MODEL), NORMALS, "screw"
    others = [
        (golden_detector, NORMALS, "screw"),
        (about[0], NORMALS[::-1], "screw"),
        (about[0], NORMALS[:2], "screw"),
        (about[0], [changed, *NORMALS[1:]], "screw"),
        (about[0], NORMALS, "nut"),
    ]
    keys = {bank_key(*each) for each in (about, *others)}
    assert len(keys) == 6 and None not in keys and bank_key(*about) in keys
    assert bank_key(about[0], [str(tmp_path / "gone.png")], "screw") is None
    score(registry, NORMALS, QUERIES[0])
    assert score(registry, NORMALS, QUERIES[0], "nut")["object_name"] == "nut"
    assert encoded == [3, 1, 3, 1]


def test_a_model_s_digest_is_that_of_its_weights(golden_detector, golden_model):
    from inctrl_core import load_detector

    assert load_detector(golden_model, device="cpu").digest == golden_detector.digest
    backbone, config = golden_detector.backbone, golden_detector.config
    heads = TrainingFreeFusion()
    assert Detector(config, backbone, heads).digest != golden_detector.digest
    renamed = dataclasses.replace(config, name="other")
    assert Detector(renamed, backbone, golden_detector.heads).digest != golden_detector.digest
    other = load_detector(golden_model, device="cpu")
    with torch.no_grad():
        next(iter(other.heads.parameters())).view(-1)[0] += 1
    assert other.digest != golden_detector.digest


def test_equal_work_is_done_once_for_all_who_ask(measured):
    cache, built, release = BankCache(), [], threading.Event()

    def build() -> MeasuredBank:
        built.append(1)
        release.wait(30)
        return measured

    with ThreadPoolExecutor(9) as pool:
        asking = [pool.submit(cache.find, "a", build) for _ in range(8)]
        other = pool.submit(cache.find, "b", lambda: measured)  # Waits for nobody.
        assert other.result(30) is measured
        release.set()
        assert {id(future.result(30)) for future in asking} == {id(measured)}
    assert built == [1]


@pytest.mark.parametrize(
    "failure",
    [ImageError("'secret.png' is damaged."), asyncio.CancelledError(), KeyboardInterrupt()],
)
def test_whoever_waits_is_not_told_of_another_s_failure(measured, failure):
    cache, begun, release = BankCache(), threading.Event(), threading.Event()

    def fail() -> MeasuredBank:
        begun.set()
        release.wait(30)
        raise failure

    with ThreadPoolExecutor(4) as pool:
        failing = pool.submit(cache.find, "a", fail)
        assert begun.wait(30)
        waiting = [pool.submit(cache.find, "a", lambda: measured) for _ in range(3)]
        release.set()
        assert [future.result(30) for future in waiting] == [measured] * 3
        with pytest.raises(type(failure)):
            failing.result(30)
    assert cache.find("a", lambda: pytest.fail("It is known.")) is measured


def test_nobody_waits_for_ever(measured, monkeypatch):
    monkeypatch.setattr(banks, "WAIT_SECONDS", 0.01)
    cache, begun, release = BankCache(), threading.Event(), threading.Event()

    def hang() -> MeasuredBank:
        begun.set()
        release.wait(30)
        return measured

    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(cache.find, "a", hang)
        assert begun.wait(30)
        assert cache.find("a", lambda: measured) is measured
        release.set()
        assert hanging.result(30) is measured


def test_the_oldest_go_where_there_are_too_many(measured):
    size, builds = measured.bank.nbytes, []

    def find(key: str) -> MeasuredBank:
        return cache.find(key, lambda: builds.append(key) or measured)

    cache = BankCache(most_bytes=2 * size)
    for key in ("a", "b", "a", "c"):
        find(key)
        assert cache.nbytes <= 2 * size
    assert builds == ["a", "b", "c"] and cache.nbytes == 2 * size
    find("a")
    find("b")  # The one used longest ago.
    assert builds == ["a", "b", "c", "b"]
    cache = BankCache(most_bytes=size - 1)
    assert find("large") is measured and cache.nbytes == 0


def test_a_bank_is_counted_with_all_its_tensors(measured):
    bank = measured.bank
    wordless = len(pickle.dumps(dataclasses.replace(bank, text=None)))
    words = bank.text.normal.nbytes + bank.text.anomaly.nbytes
    assert 0.98 * wordless < bank.nbytes - words <= wordless


def test_what_nobody_asks_for_is_forgotten(measured):
    cache = BankCache(seconds=-1.0)
    cache.find("a", lambda: measured)
    assert cache.nbytes == 0


class Elsewhere:
    """Computes as a lent process does: with all that crosses pickled."""

    def run(self, detector: Detector, function: Callable, *arguments: Any) -> Any:
        function, arguments = pickle.loads(pack((function, arguments)))
        return pickle.loads(pack(function(detector, *arguments)))


def test_where_gpus_are_lent_the_page_keeps_them(registry, encoded, monkeypatch):
    here = score(registry, NORMALS, QUERIES[0])
    monkeypatch.setattr(registry, "banks", BankCache())
    lent, calls = Elsewhere(), []
    monkeypatch.setattr(registry, "_lent", {DEFAULT_MODEL: lent})
    run = lent.run
    monkeypatch.setattr(lent, "run", lambda *given: calls.append(given[1]) or run(*given))
    encoded.clear()
    assert [score(registry, NORMALS, QUERIES[0]) for _ in range(2)] == [here] * 2
    # One GPU a score, whether its normals are known or not.
    assert encoded == [3, 1, 1] and len(calls) == 2
    AnalysisApi(registry).score_batch(files(NORMALS), files(QUERIES), "screw", DEFAULT_MODEL)
    assert len(calls) == 3  # The queries alone.


def test_a_query_that_cannot_be_used_spoils_nothing(registry, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(Exception, match="not an image"):
        score(registry, NORMALS, str(tmp_path / "broken.png"))
    assert score(registry, NORMALS, QUERIES[0])["shots"] == 3
    with pytest.raises(InctrlError, match="broken.png"):
        ModelRunner(registry).measure(DEFAULT_MODEL, [str(tmp_path / "broken.png")], "screw")
