"""Draws, feature cache, scores of an evaluation, and the command from end to end."""

from __future__ import annotations

import csv
import dataclasses
import doctest
import io
import itertools
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inctrl_core import Detector, ImageError, PromptError
from inctrl_core.__main__ import main
from inctrl_core.checkpoints.weights import load_model
from inctrl_core.commands.evaluate import write_text
from inctrl_core.datasets.layouts import load_folders
from inctrl_core.datasets.subsets import DataError, Subset
from inctrl_core.errors import InctrlError
from inctrl_core.evaluation import methods, report
from inctrl_core.evaluation import protocol as evaluation
from inctrl_core.evaluation.features import FeatureStore, UnreadableImages, image_tower_digest
from inctrl_core.evaluation.methods import (
    METHODS,
    Method,
    PatchCore,
    Subspace,
    principal_components,
    weighted_distance,
)
from inctrl_core.evaluation.plots import save_plots
from inctrl_core.evaluation.protocol import SIGNALS, draw_normals, score_subset
from inctrl_core.evaluation.report import (
    MeasuredModel,
    mean_and_sd,
    to_csv,
    to_document,
    to_markdown,
    to_score_csv,
)
from inctrl_core.evaluation.results import ShotResult, measure, overall
from inctrl_core.model.backbone import Backbone, ImageFeatures
from inctrl_core.model.patch_adapter import PatchAdapter


def picture(seed: int, defect: bool = False) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 130, (48, 56, 3), dtype=np.uint8)
    if defect:
        pixels[20:32, 24:36] = (250, 20, 20)
    return Image.fromarray(pixels)


def make_dataset(root: Path, subsets: tuple[str, ...], masks: bool = True) -> Path:
    seeds = itertools.count()
    for name in subsets:
        for part, count in (("train/good", 6), ("test/good", 4), ("test/hole", 5)):
            folder = root / name / part
            folder.mkdir(parents=True)
            for i in range(count):
                picture(next(seeds), part == "test/hole").save(folder / f"{i}.png")
        mask = Image.new("L", (56, 48))
        mask.paste(255, (24, 20, 36, 32))
        (root / name / "ground_truth" / "hole").mkdir(parents=True)
        for i in range(5 if masks else 0):
            mask.save(root / name / "ground_truth" / "hole" / f"{i}_mask.png")
    return root


@pytest.fixture
def subset(tmp_path: Path) -> Subset:
    return load_folders(make_dataset(tmp_path / "parts", ("nut",)))[0]


def all_paths(subset: Subset) -> list[Path]:
    return [*subset.train_normals, *(query.path for query in subset.queries)]


def same(first, second) -> bool:
    tensors = zip(
        (first.features.embeddings, *first.features.patches),
        (second.features.embeddings, *second.features.patches),
        strict=True,
    )
    return first.crop_boxes == second.crop_boxes and all(torch.equal(a, b) for a, b in tensors)


@pytest.mark.parametrize("module", [evaluation, methods, report])
def test_examples_in_the_documentation(module) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


# Draws


@pytest.mark.parametrize("seed", range(5))
def test_draws_are_nested_and_different(seed: int) -> None:
    eight = draw_normals(50, 8, seed)
    assert draw_normals(50, 8, seed) == eight
    assert draw_normals(50, 2, seed) == eight[:2] and draw_normals(50, 4, seed) == eight[:4]
    assert len(set(eight)) == 8 and all(0 <= i < 50 for i in eight)
    assert draw_normals(50, 8, seed + 1) != eight


def test_draws_are_those_of_the_documented_rule() -> None:
    assert draw_normals(1131, 4, 0) == tuple(np.random.default_rng(0).permutation(1131)[:4])


@pytest.mark.parametrize("shots", [0, 4])
def test_draws_of_the_impossible(shots: int) -> None:
    with pytest.raises(ValueError, match="ask for 1 to 3"):
        draw_normals(3, shots, 0)


# Cache


def test_hit_equals_miss_equals_no_cache(
    golden_detector: Detector, subset: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = all_paths(subset)
    store = FeatureStore(golden_detector, tmp_path / "cache")
    miss = store.load(paths)
    assert same(miss, FeatureStore(golden_detector, None).load(paths))
    again = FeatureStore(golden_detector, tmp_path / "cache")
    monkeypatch.setattr(golden_detector, "encode", lambda images: pytest.fail("encoded again"))
    assert same(again.load(paths), miss)
    assert same(again.load(paths[::-1][:1]), store.load(paths[-1:]))


def test_features_do_not_depend_on_the_company(golden_detector: Detector, subset: Subset) -> None:
    store = FeatureStore(golden_detector, None)
    together, alone = store.load(all_paths(subset)), store.load(subset.train_normals[3:4])
    assert torch.equal(together.features.embeddings[3:4], alone.features.embeddings)


@pytest.mark.parametrize("batch", [1, 4])
def test_any_batch_finds_the_same_unreadable_images(
    golden_detector: Detector, subset: Subset, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    store = FeatureStore(golden_detector, None)
    monkeypatch.setattr(store, "_batch", batch)
    broken = subset.train_normals[1]
    broken.write_bytes(b"x")
    with pytest.raises(UnreadableImages) as caught:
        store.load(subset.train_normals)
    assert caught.value.paths == (broken,)
    rest = [path for path in subset.train_normals if path != broken]
    assert store.load(rest).crop_boxes == golden_detector.encode(rest).crop_boxes


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def damage_one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [damage_truncate, damage_empty, damage_zeros, damage_one_bit])
def test_damaged_files_are_computed_again(
    golden_detector: Detector, subset: Subset, tmp_path: Path, damage
) -> None:
    path = subset.train_normals[:1]
    store = FeatureStore(golden_detector, tmp_path / "cache")
    fresh = store.load(path)
    (file,) = (tmp_path / "cache").rglob("*.safetensors")
    whole = file.read_bytes()
    damage(file)
    assert file.read_bytes() != whole
    assert same(store.load(path), fresh)
    assert file.read_bytes() == whole


def test_a_killed_write_leaves_no_entry(
    golden_detector: Detector, subset: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(golden_detector, tmp_path / "cache")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            store.load(subset.train_normals[:1])
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    store.load(subset.train_normals[:1])
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1


def test_a_changed_image_is_encoded_again(
    golden_detector: Detector, subset: Subset, tmp_path: Path
) -> None:
    path = subset.train_normals[0]
    store = FeatureStore(golden_detector, tmp_path / "cache")
    before = store.load([path])
    picture(99, True).save(path)
    after = store.load([path])
    assert not same(before, after)
    assert same(after, FeatureStore(golden_detector, None).load([path]))


def test_another_image_tower_has_features_of_its_own(
    golden_detector: Detector, golden_model: Path
) -> None:
    model = load_model(golden_model)
    own = image_tower_digest(golden_detector)
    backbone = Backbone(model.clip, model.config.backbone)
    detector = Detector(model.config, backbone, model.heads)
    assert image_tower_digest(detector) == own
    widths = [depth.shape[-1] for depth in detector.encode([picture(0)]).features.patches]
    adapted = Detector(model.config, backbone.with_adapter(PatchAdapter(widths)), model.heads)
    assert image_tower_digest(adapted) != own
    detector.backbone.clip.token_embedding.weight.add_(1.0)
    assert image_tower_digest(detector) == own
    next(iter(detector.backbone.clip.visual.parameters())).add_(1e-3)
    assert image_tower_digest(detector) != own


def test_a_cache_that_cannot_be_made(golden_detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InctrlError, match="name another with --cache"):
        FeatureStore(golden_detector, tmp_path / "file")


# Scores


def test_equals_the_detector(golden_detector: Detector, subset: Subset, tmp_path: Path) -> None:
    store = FeatureStore(golden_detector, tmp_path / "cache")
    scores = score_subset(golden_detector, store, subset, (4, 1, 2), (0, 3))
    assert scores.shots == (1, 2, 4)
    paths = [query.path for query in subset.queries]
    for k, s in itertools.product(range(3), range(2)):
        drawn = [subset.train_normals[i] for i in scores.draws[s][: scores.shots[k]]]
        bank = golden_detector.build_bank(drawn, subset.object_name)
        # One by one: in a batch the backbone rounds otherwise, and the text signal magnifies that.
        expected = [golden_detector.score([path], bank)[0] for path in paths]
        for name in SIGNALS:
            ours = scores.signals[name][k, s]
            theirs = [getattr(score, name) for score in expected]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6, err_msg=name)
        maps = [score.patch_map for score in expected]
        np.testing.assert_allclose(scores.patch_maps[k, s], maps, rtol=0, atol=1e-6)


def test_batches_do_not_matter(
    golden_detector: Detector, subset: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(golden_detector, tmp_path / "cache")
    steps: list[int] = []
    whole = score_subset(golden_detector, store, subset, (2,), (0,), steps.append)
    monkeypatch.setattr(evaluation, "QUERY_BATCH", 2)
    monkeypatch.setattr(evaluation, "NORMAL_BATCH", 1)
    parts = score_subset(golden_detector, store, subset, (2,), (0,), steps.append)
    for name in SIGNALS:
        np.testing.assert_allclose(
            whole.signals[name], parts.signals[name], rtol=0, atol=1e-6, err_msg=name
        )
    assert steps == [9, 2, 2, 2, 2, 1]


def test_queries_without_a_mask_are_left_out_of_the_pixels(
    golden_detector: Detector, subset: Subset
) -> None:
    masks = [query.mask for query in subset.queries if query.mask]
    masks[0].unlink()
    masks[3].unlink()
    subset = load_folders(subset.root)[0]
    store = FeatureStore(golden_detector, None)
    scores = score_subset(golden_detector, store, subset, (1,), (0,))
    assert len(scores.truth) == scores.patch_maps.shape[2] == 4 + 3
    assert sum(pixels.regions for pixels in scores.truth) == 3
    assert len(scores.anomalous) == 9


def test_masks_that_mark_nothing_have_no_pixel_metrics(
    golden_detector: Detector, subset: Subset
) -> None:
    for query in subset.queries:
        if query.mask:
            Image.new("L", (56, 48)).save(query.mask)
    scores = score_subset(golden_detector, FeatureStore(golden_detector, None), subset, (1,), (0,))
    assert scores.patch_maps is None and scores.truth == ()
    metrics = measure(scores, golden_detector.config.preprocess.image_size)[0].metrics
    assert set(metrics) == set(SIGNALS)


def test_a_mask_of_another_size_is_named(golden_detector: Detector, subset: Subset) -> None:
    Image.new("L", (9, 9)).save(subset.queries[6].mask)
    with pytest.raises(ImageError, match="hole/2_mask.png: A mask of 9 x 9 pixels"):
        score_subset(golden_detector, FeatureStore(golden_detector, None), subset, (1,), (0,))


def test_too_many_or_no_shots(golden_detector: Detector, subset: Subset) -> None:
    store = FeatureStore(golden_detector, None)
    with pytest.raises(DataError, match="6 normal training images and 8 shots"):
        score_subset(golden_detector, store, subset, (8,), (0,))
    with pytest.raises(PromptError):
        score_subset(golden_detector, store, subset, (0,), (0,))
    with pytest.raises(InctrlError, match="at least one number of shots"):
        score_subset(golden_detector, store, subset, (), (0,))


def test_every_unreadable_image_is_named(
    golden_detector: Detector, subset: Subset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "QUERY_BATCH", 3)
    broken = [subset.queries[1].path, subset.queries[8].path]
    for path in broken:
        path.write_bytes(b"not an image")
    store = FeatureStore(golden_detector, tmp_path / "cache")
    with pytest.raises(UnreadableImages, match="2 images cannot be read.*--skip-unread") as caught:
        score_subset(golden_detector, store, subset, (2,), (0,))
    assert list(caught.value.paths) == broken
    assert store.unreadable(all_paths(subset)) == broken


def test_a_setting_needs_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--dataset", "textile", "--setting", "one-vs-all"]) != 0
    assert "--setting tells how to read --data DIR, which is missing" in capsys.readouterr().err


# Results

MEASURED = MeasuredModel("m", "training-free fusion", "sha256 12", "cpu", "float32")


def result(subset: str, shots: int, aurocs: tuple[float, ...], pixel: bool = False) -> ShotResult:
    metrics = {name: {"auroc": aurocs, "ap": aurocs} for name in SIGNALS}
    if pixel:
        metrics["patch_map"] = {"pixel_auroc": aurocs, "aupro": aurocs}
    return ShotResult("made|up", subset, shots, 4, 5, metrics)


def test_overall_is_mean_of_subsets_and_sd_of_seeds() -> None:
    results = [result("a", 2, (0.5, 0.7), pixel=True), result("b", 2, (0.9, 0.9))]
    document = to_document(MEASURED, 2, results)
    (entry,) = document["overall"]
    assert entry["shots"] == 2
    assert (document["model"], document["device"]) == ("m", "cpu")
    # Seed by seed 0.7 and 0.8.
    expected = {"mean": 0.75, "sd": round(0.1 / 2**0.5, 6)}
    assert entry["metrics"]["fused"] == {"auroc": expected, "ap": expected}
    assert entry["metrics"]["patch_map"]["aupro"]["mean"] == 0.6
    assert overall(results)[2]["holistic"]["ap"] == pytest.approx((0.7, 0.8))


def test_one_seed_has_no_spread() -> None:
    assert mean_and_sd([0.25]) == {"mean": 0.25, "sd": 0.0}


def test_csv_and_markdown() -> None:
    results = [result("a", 2, (0.5, 0.7), pixel=True), result("b", 2, (0.9, 0.9))]
    rows = list(csv.DictReader(to_csv(MEASURED, results).splitlines()))
    assert len(rows) == 12 + 10 + 12
    first = rows[0]
    assert (first["model"], first["fusion"]) == ("m", "training-free fusion")
    assert first["weights"] == "sha256 12"
    assert (first["subset"], first["signal"], first["metric"]) == ("a", "fused", "auroc")
    assert (first["mean"], first["sd"], first["seeds"]) == ("0.6", "0.141421", "2")
    table = to_markdown(MEASURED, results)
    assert "| made\\|up | a | 2 | 60.0 ± 14.1 |" in table
    assert "| **overall** | mean | 2 | 75.0 ± 7.1 |" in table
    assert table.count("AUPRO") == 1


def test_every_image_s_scores_are_listed(golden_detector: Detector, subset: Subset) -> None:
    scores = score_subset(
        golden_detector, FeatureStore(golden_detector, None), subset, (1, 2), (4,)
    )
    rows = list(csv.DictReader(io.StringIO(to_score_csv([scores]))))
    assert len(rows) == 2 * len(subset.queries)
    row = rows[-1]
    assert (row["shots"], row["seed"], row["anomalous"]) == ("2", "4", "1")
    assert subset.root / row["image"] == subset.queries[-1].path
    assert float(row["fused"]) == pytest.approx(scores.signals["fused"][1, 0, -1], abs=1e-6)


def test_plots_are_pictures(golden_detector: Detector, subset: Subset, tmp_path: Path) -> None:
    store = FeatureStore(golden_detector, None)
    scores = score_subset(golden_detector, store, subset, (1, 2), (0, 1))
    odd = [
        dataclasses.replace(scores, subset=dataclasses.replace(subset, name=name))
        for name in ("$a b$", "$a-b$")
    ]
    files = save_plots([scores, *odd], "a/model", tmp_path / "plots")
    assert [file.name for file in files] == [
        "parts-nut-roc.png",
        "parts-nut-scores.png",
        "parts--a-b-roc.png",
        "parts--a-b-scores.png",
        "parts--a-b-2-roc.png",
        "parts--a-b-2-scores.png",
    ]
    for file in files:
        image = Image.open(file).convert("L")
        assert image.width > 400 and np.asarray(image).std() > 5


def test_perfect_scores_measure_as_such(golden_detector: Detector, subset: Subset) -> None:
    scores = score_subset(golden_detector, FeatureStore(golden_detector, None), subset, (2,), (0,))
    scores.signals["fused"][:] = scores.anomalous
    (found,) = measure(scores, golden_detector.config.preprocess.image_size)
    assert found.metrics["fused"] == {"auroc": (1.0,), "ap": (1.0,), "f1_max": (1.0,)}
    assert (found.normal, found.anomalous, found.shots) == (4, 5, 2)
    assert set(found.metrics["patch_map"]) == {"pixel_auroc", "aupro"}


# Command


def evaluate(*arguments: object) -> int:
    return main(["evaluate", "--device", "cpu", *(str(argument) for argument in arguments)])


def test_command_end_to_end(
    golden_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset(tmp_path / "first", ("nut",), masks=False)
    make_dataset(tmp_path / "second", ("plate",))
    data = f"{tmp_path / 'first'},{tmp_path / 'second' / 'plate'}"
    command = (
        "--data",
        data,
        "--model",
        golden_model,
        "--shots",
        1,
        3,
        "--seeds",
        2,
        "--cache",
        tmp_path / "cache",
    )
    files = {kind: tmp_path / "out" / f"r.{kind}" for kind in ("csv", "markdown", "draws")}
    options = [part for kind, file in files.items() for part in (f"--{kind}", file)]
    assert evaluate(*command, *options, "--plot", tmp_path / "plots", "--json") == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    described = document["model"], document["fusion"], document["seeds"]
    assert described == ("golden", "trained reference fusion", 2)
    assert [(r["dataset"], r["subset"], r["shots"]) for r in document["results"]] == [
        ("first", "nut", 1),
        ("first", "nut", 3),
        ("plate", "plate", 1),
        ("plate", "plate", 3),
    ]
    for entry in document["results"]:
        assert (entry["normal"], entry["anomalous"]) == (4, 5)
        assert set(entry["metrics"]) - {"patch_map"} == set(SIGNALS)
        assert ("patch_map" in entry["metrics"]) == (entry["subset"] == "plate")
        for signal, values in entry["metrics"].items():
            if signal != "patch_map":
                assert set(values) == {"auroc", "ap", "f1_max"}
            for summary in values.values():
                assert set(summary) == {"mean", "sd"} and 0 <= summary["mean"] <= 1
    assert [entry["shots"] for entry in document["overall"]] == [1, 3]
    assert len(list((tmp_path / "plots").glob("*.png"))) == 4
    draws = json.loads(files["draws"].read_text())["draws"]
    assert len(draws) == 4 and len(draws[0]["normals"]) == 3
    assert (tmp_path / "first" / draws[0]["normals"][0]).is_file()
    assert document["notes"] == []
    assert {row["metric"] for row in csv.DictReader(files["csv"].open())} == {
        *("auroc", "ap", "f1_max", "pixel_auroc", "aupro")
    }
    assert evaluate(*command) == 0
    table = capsys.readouterr().out
    assert table == files["markdown"].read_text()
    assert table.count("**F1-max (at the best threshold)**") == 1


def test_a_subset_of_one_label_is_left_out_where_there_are_others(
    golden_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset(tmp_path / "parts", ("nut", "plain", "spoilt", "few"), masks=False)
    shutil.rmtree(root / "plain" / "test" / "hole")
    shutil.rmtree(root / "spoilt" / "test" / "good")
    for path in sorted((root / "few" / "train" / "good").iterdir())[1:]:
        path.unlink()
    command = ("--model", golden_model, "--shots", 2, "--seeds", 1, "--no-cache", "--json")
    assert evaluate("--data", root, *command) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)  # One document, and nothing beside it.
    assert [entry["subset"] for entry in document["results"]] == ["nut"]
    assert len(document["notes"]) == 3
    for name, why in (
        ("plain", "no anomalous test images"),
        ("spoilt", "no normal test images"),
        ("few", "1 normal training images and 2 shots"),
    ):
        (note,) = (note for note in document["notes"] if f"'{name}'" in note)
        assert note.startswith("left out: ") and why in note and f"note: {note}\n" in output.err
    assert evaluate("--data", root / "plain", *command) == 1
    output = capsys.readouterr()
    assert output.out == "" and "error: 'plain' has no anomalous test images" in output.err


def test_good_and_bad_folders_with_masks_are_evaluated(
    golden_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nut = make_dataset(tmp_path / "parts", ("nut",)) / "nut"
    own = tmp_path / "own"
    for before, after in (("train/good", "OK"), ("test/hole", "NG"), ("ground_truth/hole", "MASK")):
        shutil.copytree(nut / before, own / after)
    Image.new("L", (9, 9)).save(own / "MASK" / "77.png")
    command = ("--model", golden_model, "--shots", 2, "--seeds", 1, "--no-cache", "--json")
    assert evaluate("--data", own, *command) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    (entry,) = document["results"]
    assert (entry["subset"], entry["normal"], entry["anomalous"]) == ("own", 2, 5)
    assert "patch_map" in entry["metrics"]
    assert any("seed 42" in note for note in document["notes"])
    assert any("1 mask belongs to no image" in note for note in document["notes"])
    assert evaluate("--data", own, "--setting", "one-vs-all", *command) == 1
    assert "leave out --setting" in capsys.readouterr().err


def test_command_skips_unreadable_only_when_told(
    golden_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset(tmp_path / "parts", ("nut",), masks=False)
    (root / "nut" / "train" / "good" / "0.png").write_bytes(b"x")
    (root / "nut" / "test" / "good" / "0.png").write_bytes(b"x")
    command = ("--data", root, "--model", golden_model, "--shots", 5, "--seeds", 1, "--no-cache")
    assert evaluate(*command, "--json") == 1
    output = capsys.readouterr()
    assert output.out == "" and "cannot be read" in output.err
    assert evaluate(*command, "--json", "--skip-unreadable") == 0
    output = capsys.readouterr()
    assert "nut: skipped 2 unreadable images: 0.png, 0.png" in output.err
    assert "nut: skipped 2 unreadable images: 0.png, 0.png" in json.loads(output.out)["notes"]
    assert json.loads(output.out)["results"][0]["normal"] == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_text)
        write_text(pipe, "a, b\n")
        assert read.result(10) == "a, b\n"
    assert pipe.is_fifo()


def test_a_file_that_cannot_be_written_takes_no_table_along(
    golden_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_dataset(tmp_path / "parts", ("nut",), masks=False)
    command = ("--data", root, "--model", golden_model, "--shots", 2, "--seeds", 1, "--no-cache")
    assert evaluate(*command, "--csv", root / "nut" / "test" / "good" / "0.png" / "r.csv") == 1
    output = capsys.readouterr()
    assert "| parts | nut | 2 |" in output.out
    assert "cannot be written" in output.err and output.err.rstrip().endswith(
        "name another folder."
    )


def test_two_folders_of_one_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = [make_dataset(tmp_path / place / "parts", ("nut",)) for place in "ab"]
    assert evaluate("--data", *roots, "--shots", 2) == 1
    assert "2 of the folders are called 'nut' in 'parts'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Name what to evaluate on"),
        (("--dataset", "elpv", "--precision", "half"), "There is no precision 'half'"),
        (("--data", "nowhere-at-all"), "not a folder"),
        (("--dataset", "elpv", "--seeds", 0), "--seeds must be at least 1"),
    ],
)
def test_command_says_what_is_wrong(
    arguments: tuple, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(*arguments) == 1
    assert message in capsys.readouterr().err


# Other methods


def features(rows: list[list[list[float]]]) -> ImageFeatures:
    """Of images with patches of one depth, [B][P][C]."""
    patches = torch.tensor(rows)
    return ImageFeatures(torch.zeros(len(rows), 1), (patches,))


def scores_alone(method: type[Method], normals: ImageFeatures, queries: ImageFeatures) -> list:
    """Of a bank with all the normals."""
    return method(normals, [range(len(normals))]).scores(queries)[0].tolist()


def test_patchcore_weighs_the_largest_distance_by_equation_7() -> None:
    # One patch an image: averaging its neighbours leaves it alone.
    normals = features([[[0.0, 0.0]], [[3.0, 0.0]], [[0.0, 4.0]]])
    query = [4.0, 3.0]
    distances = np.array([np.hypot(4, 3), np.hypot(1, 3), np.hypot(4, 1)])
    weight = 1 - np.exp(distances[1]) / np.exp(distances).sum()
    scores = scores_alone(PatchCore, normals, features([[query], [[3.0, 0.0]]]))
    assert scores == pytest.approx([weight * distances[1], 0.0], abs=1e-6)


def test_patchcore_reads_only_the_patches_around_the_nearest() -> None:
    bank = torch.cat([torch.zeros(9, 1), torch.full((1, 1), 100.0)])
    score = weighted_distance(torch.cdist(torch.tensor([[2.0]]), bank)[0], bank)
    assert score.item() == pytest.approx(2 * (1 - 1 / 9))


def test_a_subspace_leaves_what_its_normals_do_not_show() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(4, 100, 2, generator=generator)
    normals = torch.cat([plane, torch.zeros(4, 100, 3)], dim=2)
    query = torch.zeros(2, 100, 5)
    query[0, :, 0] = 7.0  # Further than any normal, and within the plane.
    query[1, 3, 4] = 2.0  # The largest 1% of 100 patches: this one.
    known = ImageFeatures(torch.zeros(4, 1), (normals,))
    scores = scores_alone(Subspace, known, ImageFeatures(torch.zeros(2, 1), (query,)))
    assert scores == pytest.approx([0.0, 4.0], abs=1e-4)


def test_a_component_below_the_share_of_the_variance_is_left_out() -> None:
    spread = torch.tensor([[10.0, 0.0, 0.0], [-10, 0, 0], [0, 1.1, 0], [0, -1.1, 0], [0, 0, 0.1]])
    assert principal_components(spread).shape == (3, 2)
    assert principal_components(spread * torch.tensor([1.0, 0.5, 1.0])).shape == (3, 1)
    # All alike: nothing varies, and nothing is explained.
    assert principal_components(torch.ones(3, 4)).shape == (4, 1)


def test_methods_are_measured_on_the_same_features_and_draws(
    golden_detector: Detector, subset: Subset
) -> None:
    store = FeatureStore(golden_detector, None)
    plain = score_subset(golden_detector, store, subset, [1, 3], [0, 1])
    scores = score_subset(golden_detector, store, subset, [1, 3], [0, 1], methods=[*METHODS])
    assert list(scores.signals) == [*plain.signals, *METHODS]
    for name, values in plain.signals.items():
        np.testing.assert_array_equal(scores.signals[name], values)
    half = 0.5 * (scores.signals["patch_max"] + scores.signals["text_anomaly"])
    np.testing.assert_allclose(scores.signals["winclip"], half, atol=1e-6)
    queries = store.load([query.path for query in subset.queries]).features
    for k, shots in enumerate((1, 3)):
        for s, draw in enumerate(scores.draws):
            normals = store.load([subset.train_normals[i] for i in draw[:shots]]).features
            for name in ("patchcore", "subspace"):
                alone = scores_alone(METHODS[name], normals, queries)
                np.testing.assert_allclose(scores.signals[name][k, s], alone, rtol=1e-5)


def test_the_command_measures_methods_beside_the_model(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_dataset(tmp_path / "parts", ("nut",), masks=False)
    command = ["evaluate", "--data", str(data), "--model", str(tiny_model), "--device", "cpu"]
    command += ["--shots", "2", "--seeds", "2", "--no-cache", "--method", "winclip", "patchcore"]
    assert main(command) == 0
    head = next(line for line in capsys.readouterr().out.splitlines() if "patch_max" in line)
    assert head.endswith("| winclip | patchcore |")
