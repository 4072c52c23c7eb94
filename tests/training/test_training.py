"""Training: the loss of a batch, episodes without their own query, splits, resumption, files."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from inctrl_core.__main__ import main
from inctrl_core.analysis.decision import decide
from inctrl_core.analysis.measured_bank import build_measured_bank
from inctrl_core.checkpoints.loading import load_detector
from inctrl_core.checkpoints.tensor_files import read_tensors
from inctrl_core.config import BackboneConfig, HeadsConfig
from inctrl_core.datasets.subsets import DataError
from inctrl_core.errors import InctrlError
from inctrl_core.evaluation.features import image_tower_digest
from inctrl_core.model.heads import build_heads
from inctrl_core.model.residuals import layer_residuals
from inctrl_core.training.gated import DrawnBank, GatedOptions, draw_banks, train_gated
from inctrl_core.training.heads import (
    TrainingOptions,
    describe_run,
    split_classes,
    train_heads,
    validate,
)
from inctrl_core.training.objectives import focal_loss, fusion_loss, ranking_loss
from inctrl_core.training.pools import (
    Pool,
    bank_episode,
    build_pool,
    draw_batch,
    source_pool,
    stack_evidence,
)

WIDTH, GRID = 16, 4
BACKBONE = BackboneConfig({"embed_dim": WIDTH, "vision_cfg": {}, "text_cfg": {}}, (0, 1), GRID)
QUICK = TrainingOptions(shots=(1, 2, 4), epochs=3, steps=8, batch=8)


def make_pool(index, source="made", references=6, anomalies=6):
    """Bad images differ from good ones in some patches and in the embedding."""
    g = torch.Generator().manual_seed(index)
    count = references + 2 + anomalies
    bad = torch.arange(count) >= references + 2
    patches, base = [], torch.randn(GRID**2, 8, generator=g)
    for _ in range(2):
        depth = base + 0.3 * torch.randn(count, GRID**2, 8, generator=g)
        depth[bad, :3] = torch.randn(anomalies, 3, 8, generator=g)
        patches.append(torch.nn.functional.normalize(depth, dim=-1))
    embeddings = torch.ones(count, WIDTH) + 0.3 * torch.randn(count, WIDTH, generator=g)
    embeddings[bad] += 0.5 * torch.randn(anomalies, WIDTH, generator=g)
    features = type("F", (), {"patches": tuple(patches), "embeddings": embeddings})
    text = torch.rand(count, generator=g)
    return build_pool((source, str(index)), features, bad.tolist(), references, text), features


@pytest.fixture(scope="module")
def pools():
    return [make_pool(index)[0] for index in range(12)]


def test_focal_loss_by_hand():
    loss = focal_loss(torch.tensor([0.9, 0.9]), torch.tensor([1.0, 0.0]))
    assert np.allclose(loss, [-(0.1**2) * np.log(0.9), -(0.9**2) * np.log(0.1)], rtol=1e-5)


def test_loss_of_a_batch_is_the_mean_of_its_items(pools):
    torch.manual_seed(0)
    heads = build_heads(HeadsConfig("reference"), BACKBONE).eval()
    rng = np.random.default_rng(0)
    batch, labels = draw_batch(pools, 8, 2, rng)
    whole = fusion_loss(heads(batch), labels)
    singles = []
    tensors = [f.name for f in dataclasses.fields(batch) if torch.is_tensor(getattr(batch, f.name))]
    for i in range(8):
        one = dataclasses.replace(
            batch,
            **{name: getattr(batch, name)[i : i + 1] for name in tensors},
        )
        singles.append(fusion_loss(heads(one), labels[i : i + 1]))
    assert torch.allclose(whole, torch.cat(singles), atol=1e-5)
    assert torch.allclose(whole.mean(), torch.stack(singles).mean(), atol=1e-5)
    assert whole.std() > 0


def test_ranking_loss_by_hand():
    loss = ranking_loss(torch.tensor([0.0, 3.0]), torch.tensor([0.0, 1.0]))
    assert np.allclose(loss, [np.log(2), np.log(1 + np.exp(2))], rtol=1e-5)


def test_every_class_has_the_same_share_of_a_batch(pools):
    # One class with many pools must not crowd out one with a single pool.
    crowd = [dataclasses.replace(pools[0]) for _ in range(20)]
    rare = dataclasses.replace(pools[1], text_anomaly=torch.full_like(pools[1].text_anomaly, -1.0))
    evidence, _ = draw_batch([*crowd, rare], 200, 2, np.random.default_rng(0))
    assert 0.4 < (evidence.text_anomaly == -1.0).float().mean() < 0.6


def test_evidence_of_an_episode_is_what_the_detector_computes():
    pool, features = make_pool(3)
    prompts, queries = [4, 1, 2], [0, 7, 9]
    evidence = pool.evidence(queries, prompts)
    query = [depth[queries] for depth in features.patches]
    normals = [depth[prompts] for depth in features.patches]
    assert torch.allclose(evidence.layer_maps, layer_residuals(query, normals)[0], atol=5e-4)
    for i in range(3):
        others = [j for j in range(3) if j != i]
        alone = layer_residuals([n[i : i + 1] for n in normals], [n[others] for n in normals])[0]
        assert torch.allclose(evidence.normal_layer_maps[0, i], alone[0], atol=5e-4)


def test_no_image_is_its_own_prompt(pools):
    with pytest.raises(ValueError, match="its own prompt"):
        pools[0].evidence([3], [1, 3])
    rng = np.random.default_rng(1)
    for shots in (1, 2, 5):
        evidence, labels = draw_batch(pools, 40, shots, rng)
        assert labels.sum() == 20
        assert evidence.normal_embeddings.shape[1] == shots
        # A residual of exactly 0 would be an image against itself.
        assert (evidence.layer_maps.amax(dim=(1, 2)) > 1e-3).all()
        evidence, labels = bank_episode(pools[0], shots, rng)
        assert len(labels) == len(pools[0].anomalous) - shots
        assert (evidence.layer_maps.amax(dim=(1, 2)) > 1e-3).all()


def test_stacked_episodes_keep_their_own_normals(pools):
    heads = build_heads(HeadsConfig("gated"), BACKBONE).eval().requires_grad_(False)
    parts = [pool.evidence([7, 9], [0, 1, 2]) for pool in pools[:3]]
    each = torch.cat([heads(part).fused for part in parts])
    assert torch.allclose(heads(stack_evidence(parts)).fused, each, atol=1e-6)


def test_classes_are_never_on_both_sides(pools):
    twice = pools + [dataclasses.replace(pool) for pool in pools]
    training, validation = split_classes(twice, 0)
    names = {p.name for p in training}, {p.name for p in validation}
    assert not names[0] & names[1]
    assert len(training) + len(validation) == len(twice) and len(names[1]) == 2
    assert [p.name for p in split_classes(twice, 0)[1]] == [p.name for p in validation]


def test_small_sources_are_split_as_far_as_they_can_be(pools):
    few = [dataclasses.replace(pool, source=f"s{i}") for i, pool in enumerate(pools[:3])]
    training, validation = split_classes(few, 0)
    assert len(training) == 2 and len(validation) == 1
    one_class = [dataclasses.replace(pool, name="only") for pool in pools[:3]]
    training, validation = split_classes(one_class, 0)
    assert len(training) == 2 and len(validation) == 1
    with pytest.raises(DataError, match="too few anomalous"):
        split_classes(pools[:1], 0)


def test_training_learns_what_held_out_classes_share(pools):
    options = dataclasses.replace(QUICK, epochs=8, steps=30)
    result = train_heads(pools, BACKBONE, options)
    untrained = build_heads(HeadsConfig("reference"), BACKBONE).eval()
    _, held = split_classes(pools, options.seed)
    before = validate(untrained, held, options.shots, options.seed)
    after = validate(result.heads, held, options.shots, options.seed)
    assert after["auroc"] > 0.9
    assert after["loss"] < before["loss"]
    assert after["auroc"] == max(e["auroc"] for e in result.record["curves"])
    json.dumps(result.record)


def test_a_run_cut_off_and_resumed_ends_where_one_in_a_piece_does(pools, tmp_path):
    options = QUICK
    whole = train_heads(pools, BACKBONE, options)

    class CutError(Exception):
        pass

    def cut(figures):
        if figures["epoch"] == 2:
            raise CutError

    with pytest.raises(CutError):
        train_heads(pools, BACKBONE, options, tmp_path, cut)
    # What a kill in the middle of writing leaves behind must not matter.
    (tmp_path / "checkpoint.partial").write_bytes(b"half")
    seen = []
    resumed = train_heads(pools, BACKBONE, options, tmp_path, lambda f: seen.append(f["epoch"]))
    assert seen == [3]
    assert resumed.record == whole.record
    for key, value in whole.heads.state_dict().items():
        assert torch.equal(value, resumed.heads.state_dict()[key]), key
    with pytest.raises(InctrlError, match="other data or options"):
        other = dataclasses.replace(options, seed=1)
        train_heads(pools, BACKBONE, other, tmp_path)
    for change in ({"table": pools[0].table / 2}, {"anomalous": ~pools[0].anomalous}):
        with pytest.raises(InctrlError, match="other data or options"):
            changed = dataclasses.replace(pools[0], **change)
            train_heads([changed, *pools[1:]], BACKBONE, options, tmp_path)


def test_a_class_that_is_trained_on_is_not_held_out(pools):
    alone = [dataclasses.replace(pool, name="bottle") for pool in pools]
    made = {"best": {"epoch": 1}, "history": [], "options": {}}
    of_class = describe_run(alone, alone[:3], **made)["data"]["made"]
    assert (of_class["classes"], of_class["held_out_classes"]) == (1, 0)
    of_classes = describe_run(pools, pools[:3], **made)["data"]["made"]
    assert (of_classes["classes"], of_classes["held_out_classes"]) == (12, 3)


def test_more_shots_than_normals_is_an_error(pools):
    with pytest.raises(DataError, match="between 1 and 5"):
        train_heads(pools, BACKBONE, dataclasses.replace(QUICK, shots=(6,)))


def test_one_in_twenty_good_queries_lies_above_the_threshold(pools):
    heads = build_heads(HeadsConfig("reference"), BACKBONE).eval()
    figures = validate(heads, pools, (2,), 0)
    good = []
    with torch.no_grad():
        for number, pool in enumerate(pools):
            evidence, labels = bank_episode(pool, 2, np.random.default_rng((0, number, 2)))
            good += heads(evidence).fused[labels < 0.5].tolist()
    above = np.mean(np.array(good) > figures["threshold"])
    assert 0.03 <= above <= 0.06


def test_command_trains_on_folders_and_its_model_scores(tiny_model, folders, tmp_path):
    out = tmp_path / "out"
    arguments = ["train", "--data", str(folders), "--backbone", str(tiny_model)]
    arguments += ["--out", str(out), "--form", "reference", "--shots", "1", "2", "--epochs", "2"]
    arguments += ["--cache", str(tmp_path / "cache"), "--device", "cpu"]
    assert main(arguments) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "model.safetensors",
        "training.png",
    ]
    before, after = (read_tensors(d / "model.safetensors") for d in (tiny_model, out))
    for key, value in before.items():
        assert torch.equal(value, after[key]), key
    detector = load_detector(out, device="cpu")
    assert detector.fusion == "trained"
    record = detector.config.training
    assert record["data"][folders.name]["classes"] == 3
    assert 0 < record["threshold"] < 1
    images = sorted((folders / "nut" / "train" / "good").iterdir())
    for shots in (1, 2, 3):
        bank = detector.build_bank(images[:shots], "nut")
        score = detector.score([folders / "nut" / "test" / "hole" / "0.png"], bank)[0]
        assert 0 <= score.fused <= 1


def test_a_gate_learns_which_signals_tell_anomalies_of_its_kind():
    """Flaws raise the largest patch alone, other kinds of thing the distances alone."""
    rng = torch.Generator().manual_seed(0)
    banks = []
    for number in range(40):
        kind = ("flaw", "kind")[number % 2]
        good, bad, among = (torch.randn(n, 7, generator=rng) for n in (12, 12, 4))
        bad[:, 4:6] += 3.0 * (kind == "kind")
        bad[:, 0] += 3.0 * (kind == "flaw")
        among[:, 2] += 2.0 * (kind == "kind")  # What the normals show of it.
        good[:, 2] += 2.0 * (kind == "kind")
        bad[:, 2] += 2.0 * (kind == "kind")
        banks.append(DrawnBank(kind, str(number), kind, good, bad, among))
    options = GatedOptions(steps=200, members=2, strengths=(1.0, 1.0, 1.0))
    heads, record = train_gated(banks, 3, options)
    json.dumps(record)
    share = {}
    for looks_for, gate in heads.gates.items():
        for index, kind in enumerate(("flaw", "kind")):
            weights = gate(heads.describe_normals(banks[index].among[None]))[0]
            share[looks_for, kind] = float(weights[4:6].sum() / weights.sum())
    assert share["flaw", "flaw"] < 0.2 and share["kind", "kind"] > 0.5
    assert share["decide", "flaw"] < share["decide", "kind"] - 0.1


def test_gated_training_ends_the_same_every_time(pools):
    options = GatedOptions(shots=(1, 2), steps=10, members=2)
    banks = draw_banks(pools, ["flaw"] * len(pools), options)
    first, again = (train_gated(banks, 2, options)[0].state_dict() for _ in range(2))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    other = train_gated(banks, 2, dataclasses.replace(options, seed=1))[0].state_dict()
    assert not torch.equal(first["gates.decide.turn"], other["gates.decide.turn"])


def test_one_good_image_in_twenty_of_the_classes_scores_above_a_half(pools):
    options = GatedOptions(shots=(1, 2, 4), steps=20, members=2)
    heads, _ = train_gated(draw_banks(pools, ["flaw"] * len(pools), options), 2, options)
    good = []
    for number, pool in enumerate(pools):
        for shots in options.shots:
            for draw in range(options.draws):
                rng = np.random.default_rng((0, number, shots, draw))
                evidence, labels = bank_episode(pool, shots, rng)
                good += heads(evidence).fused[labels < 0.5].tolist()
    assert 0.03 < np.mean(np.array(good) > 0.5) < 0.07


def test_command_trains_the_gated_form_on_folders_and_classes(tiny_model, folders, tmp_path):
    classes = tmp_path / "classes"
    for name in ("nut", "cap", "lid"):
        shutil.copytree(folders / name / "train" / "good", classes / name)
    out = tmp_path / "out"
    arguments = ["train", "--data", str(folders), "--classes", str(classes), "--device", "cpu"]
    arguments += ["--backbone", str(tiny_model), "--out", str(out), "--shots", "1", "2"]
    assert main([*arguments, "--cache", str(tmp_path / "cache")]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors"]
    detector = load_detector(out, device="cpu")
    record = detector.config.training
    assert {source: data["classes"] for source, data in record["data"].items()} == {
        folders.name: 3,
        "classes one-vs-all": 3,
    }
    assert [gate["classes"] for gate in record["gates"].values()] == [6, 3, 3]
    images = sorted((folders / "nut" / "train" / "good").iterdir())
    # A good one: of these drawings a hole lies as far off as deviations count, for any normals.
    query = images[3]
    scores = []
    for looks_for in ("decide", "flaw", "kind"):
        for shots in (1, 2, 3):
            measured = build_measured_bank(detector, images[:shots], "nut", looks_for)
            assert 0 < decide(measured.good, 0.05).threshold < 1
            scores.append(detector.score([query], measured.bank)[0].fused)
    assert len(set(scores)) == 9 and all(0 <= score <= 1 for score in scores)


def test_training_into_the_models_own_directory_replaces_only_the_heads(
    tiny_model, folders, tmp_path
):
    arguments = ["train", "--data", str(folders), "--shots", "2", "--epochs", "1"]
    arguments += ["--cache", str(tmp_path / "cache"), "--device", "cpu"]
    out = tmp_path / "own"
    assert main([*arguments, "--backbone", str(tiny_model), "--out", str(out)]) == 0
    first = read_tensors(out / "model.safetensors")
    again = [*arguments, "--backbone", str(out), "--out", str(out), "--form", "reference"]
    assert main(again) == 0
    second = read_tensors(out / "model.safetensors")
    backbone = {key for key in first if key.startswith("backbone.")}
    assert backbone == {key for key in second if key.startswith("backbone.")}
    assert all(torch.equal(first[key], second[key]) for key in backbone)
    assert load_detector(out, device="cpu").config.heads.form == "reference"


def test_command_says_what_is_missing(tiny_model, capsys, tmp_path):
    arguments = ["train", "--backbone", str(tiny_model), "--out", str(tmp_path / "o")]
    assert main(arguments) == 1
    assert "--procedural" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", "-1"], "must not be negative"),
        (["--source-seed", "-1"], "must not be negative"),
        (["--out", "FILE"], "is a file; name a directory"),
    ],
)
def test_command_refuses_what_would_fail_after_the_encoding(
    tiny_model, capsys, tmp_path, options, words
):
    file = tmp_path / "file"
    file.write_bytes(b"")
    options = [str(file) if part == "FILE" else part for part in options]
    arguments = ["train", "--backbone", str(tiny_model), "--out", str(tmp_path / "o")]
    assert main([*arguments, "--procedural", "9", *options]) == 1
    assert words in capsys.readouterr().err


def test_command_skips_unreadable_images_only_when_told(tiny_model, folders, capsys, tmp_path):
    own = Path(shutil.copytree(folders, tmp_path / "data"))
    (own / "nut" / "train" / "good" / "0.png").write_bytes(b"x")
    arguments = ["train", "--backbone", str(tiny_model), "--data", str(own), "--shots", "1"]
    arguments += ["--epochs", "1", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "o")]
    assert main(arguments) == 1
    assert "--skip-unreadable" in capsys.readouterr().err
    assert main([*arguments, "--skip-unreadable"]) == 0
    assert "nut: skipped 1 unreadable images: 0.png" in capsys.readouterr().err


def test_a_cached_pool_has_the_text_signal_of_the_model_that_asks(tiny_model, tmp_path):
    detector = load_detector(tiny_model, device="cpu")
    first = source_pool(detector, "procedural", 0, 5, tmp_path)
    assert torch.equal(
        first.text_anomaly, source_pool(detector, "procedural", 0, 5, None).text_anomaly
    )
    other = load_detector(tiny_model, device="cpu")
    with torch.no_grad():
        other.backbone.clip.token_embedding.weight.mul_(-1)
    assert image_tower_digest(other) == image_tower_digest(detector)
    again = source_pool(other, "procedural", 0, 5, tmp_path)
    assert torch.equal(
        again.text_anomaly, source_pool(other, "procedural", 0, 5, None).text_anomaly
    )
    assert not torch.allclose(again.text_anomaly, first.text_anomaly)


def test_procedural_pools_come_from_the_cache_and_damage_is_mended(tiny_model, tmp_path):
    detector = load_detector(tiny_model, device="cpu")
    first = source_pool(detector, "procedural", 0, 5, tmp_path)
    (file,) = tmp_path.iterdir()
    stamp = file.stat().st_mtime_ns
    again = source_pool(detector, "procedural", 0, 5, tmp_path)
    assert file.stat().st_mtime_ns == stamp
    assert isinstance(again, Pool) and torch.equal(first.table, again.table)
    file.write_bytes(file.read_bytes()[:1000])
    assert torch.equal(source_pool(detector, "procedural", 0, 5, tmp_path).table, first.table)
