"""The benchmark: what it times, what it says of it, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from inctrl_core import Detector, load_detector
from inctrl_core.__main__ import main
from inctrl_core.evaluation import benchmark, timing
from inctrl_core.evaluation.benchmark import (
    compare_precision,
    load_for_benchmark,
    make_photo,
    random_detector,
    run_benchmark,
    save_curve,
)
from inctrl_core.evaluation.timing import Task


class Clock:
    """A clock that tasks set, so that times are known."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, *seconds: float):
        """A task that takes these times, one after the other."""
        rest = iter(seconds)

        def run() -> None:
            self.now += next(rest)

        return run


def test_ratio_is_the_median_of_the_rounds_and_the_first_round_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock)
    tasks = [
        Task("bare", clock.spend(100, 1, 2, 4)),
        Task("bank", clock.spend(500, 4, 12, 16), passes=4),
        Task("alone", clock.spend(0, 3, 1, 2), passes=None),
    ]
    bare, bank, alone = timing.time_tasks(tasks, torch.device("cpu"), 3)
    assert (bare.seconds, bare.fastest, bare.ratio) == (2, 1, 1)
    assert (bank.seconds, bank.ratio) == (12, 1.0)  # 4/4, 12/8 and 16/16.
    assert (alone.seconds, alone.ratio) == (2, None)


def test_bare_pass_is_what_the_features_come_from(golden_detector: Detector) -> None:
    photo = make_photo(0, (300, 260))
    encoded = golden_detector.encode([photo])
    (output,) = benchmark._bare_pass(golden_detector, photo)()
    assert torch.equal(output["image_features"], encoded.features.embeddings)
    assert len(output["image_intermediates"]) == len(golden_detector.config.backbone.depths)


def test_bare_pass_of_several_sizes_at_another_precision() -> None:
    detector = load_detector("inctrl-lite", "cpu", precision="bfloat16")
    outputs = benchmark._bare_pass(detector, make_photo(0, (300, 260)))()
    assert [output["image_intermediates"][0].shape[-1] for output in outputs] == [30, 36]
    assert outputs[0]["image_features"].dtype == torch.bfloat16


def test_every_text_measurement_encodes_anew(
    golden_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = load_detector(golden_model, "cpu")
    names = []
    encode = detector.backbone.encode_text
    monkeypatch.setattr(
        detector.backbone,
        "encode_text",
        lambda prompts: names.append(prompts[0]) or encode(prompts),
    )
    monkeypatch.setattr(benchmark, "MANY", 2)
    report = run_benchmark(detector, 2, rounds=2)
    assert len(names) == 1 + 3  # The bank once, then a new name in each round.
    assert len(set(names)) == 4
    assert [row.name for row in report.rows][:3] == [
        "bare backbone forward",
        "bank of 2",
        "text of a new object name",
    ]
    assert report.rows[0].ratio == 1 and all(row.seconds > 0 for row in report.rows)
    assert report.photos_per_second == pytest.approx(1 / report.rows[-1].seconds)


def test_a_pass_by_the_engine_is_compared_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = load_detector("inctrl-lite", "cpu")
    monkeypatch.setattr(benchmark, "MANY", 2)
    rows = run_benchmark(detector, 1, rounds=1).rows
    assert [row.name for row in rows][:2] == ["bare backbone forward", "the same in torch"]
    ours, torchs = (
        benchmark._bare_pass(detector, make_photo(0, (300, 260)), backbone)()
        for backbone in (detector.backbone, detector.backbone.without_engine())
    )
    torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-4)
    assert not torch.equal(ours[0]["image_features"], torchs[0]["image_features"])


def test_weights_that_are_not_at_hand_are_random_and_nothing_is_fetched(
    golden_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/nothing")
    assert load_for_benchmark(str(golden_model), "cpu")[1]
    config = json.loads((golden_model / "config.json").read_text())
    config["backbone"]["hub_repo"] = "maker/backbone"
    (tmp_path / "config.json").write_text(json.dumps(config))
    detector, real = load_for_benchmark(str(tmp_path), "cpu")
    assert not real and detector.fusion == "trained"
    again = random_detector(detector.config, "cpu")
    photos = [make_photo(seed, (260, 240)) for seed in range(2)]
    assert torch.equal(
        detector.encode(photos).features.embeddings, again.encode(photos).features.embeddings
    )


def test_precision_is_compared_on_the_same_pictures(golden_detector: Detector) -> None:
    same = compare_precision(golden_detector, golden_detector, 2, rounds=1)
    assert same["fused_difference"] == 0 and same["precision"] == "float32"


def test_command_prints_one_json_document_and_draws_the_curve(
    golden_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(benchmark, "MANY", 2)
    monkeypatch.setattr(benchmark, "CURVE_SHOTS", (1, 2, 4))
    monkeypatch.setattr(benchmark, "CURVE_BATCHES", (1, 2))
    curve = tmp_path / "curve.png"
    command = ["benchmark", "--model", str(golden_model), "--device", "cpu", "--shots", "2"]
    assert main([*command, "--rounds", "1", "--json", "--curve", str(curve)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["weights"] == "real" and document["shots"] == 2
    assert list(document["curve"]["shots"]) == ["1", "2", "4"]
    assert list(document["curve"]["batch"]) == ["1", "2"]
    assert Image.open(curve).size[0] > 800
    assert main([*command, "--rounds", "1"]) == 0
    table = capsys.readouterr().out
    assert "(real weights)" in table and "bank of 2" in table


@pytest.mark.parametrize(
    ("name", "words"), [("c.foo", "end its name in .png"), ("c.png", "be written")]
)
def test_a_curve_that_cannot_be_drawn_takes_no_figures_along(
    golden_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
    name: str,
    words: str,
) -> None:
    monkeypatch.setattr(benchmark, "MANY", 2)
    monkeypatch.setattr(benchmark, "CURVE_SHOTS", (1, 2, 4))
    monkeypatch.setattr(benchmark, "CURVE_BATCHES", (1, 2))
    (tmp_path / "file").write_bytes(b"")
    folder = tmp_path if name == "c.foo" else tmp_path / "file"
    command = ["benchmark", "--model", str(golden_model), "--device", "cpu", "--rounds", "1"]
    assert main([*command, "--curve", str(folder / name)]) == 1
    output = capsys.readouterr()
    assert "bank of 4" in output.out and words in output.err


def test_command_knows_a_wrong_comparison_before_it_measures(golden_model: Path, capsys) -> None:
    command = ["benchmark", "--model", str(golden_model), "--device", "cpu"]
    assert main([*command, "--compare", "float8"]) == 1
    output = capsys.readouterr()
    assert output.out == "" and "There is no precision 'float8'" in output.err


def test_command_refuses_an_impossible_bank(golden_model: Path, capsys) -> None:
    assert main(["benchmark", "--model", str(golden_model), "--shots", "17"]) == 1
    assert "use at most 16" in capsys.readouterr().err


def test_curve_shows_what_was_measured(tmp_path: Path) -> None:
    flat = {"shots": {1: 0.1, 16: 0.1}, "batch": {1: 0.1, 32: 0.1}}
    steep = {"shots": {1: 0.1, 16: 0.9}, "batch": {1: 0.1, 32: 0.1}}
    for name, curve in (("flat", flat), ("again", flat), ("steep", steep)):
        save_curve(curve, "title", tmp_path / f"{name}.png")
    flat_pixels, again, steep_pixels = (
        Image.open(tmp_path / f"{name}.png").tobytes() for name in ("flat", "again", "steep")
    )
    assert flat_pixels == again != steep_pixels
