"""The patch adapter: what it is, what training makes of it, how it is stored and loaded."""

import dataclasses
import doctest
import json
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from inctrl_core.__main__ import main
from inctrl_core.checkpoints.loading import ASSETS, load_detector
from inctrl_core.checkpoints.tensor_files import read_tensors
from inctrl_core.checkpoints.weights import save_model
from inctrl_core.commands.train import build_pools
from inctrl_core.config import config_from_dict, config_to_json, read_config
from inctrl_core.errors import InctrlError, ModelError
from inctrl_core.model import patch_adapter
from inctrl_core.model.patch_adapter import PatchAdapter, average_adapters
from inctrl_core.training import adapter as adapter_training
from inctrl_core.training.adapter import (
    AdapterOptions,
    adapted_maps,
    batch_loss,
    pair_loss,
    train_adapter,
    validate,
)
from inctrl_core.training.heads import split_classes
from inctrl_core.training.patch_pools import PatchPool, source_patches

WIDTHS, PATCHES = (8, 12), 9
QUICK = AdapterOptions(shots=(1, 2), epochs=2, steps=6, episodes=2)
ADAPTER_KEYS = {f"patch_adapter.maps.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")}


def make_pool(index: int) -> PatchPool:
    """Good images differ widely in half of the channels, bad ones also in the others."""
    g = torch.Generator().manual_seed(index)
    bad = torch.arange(14) >= 8
    patches = []
    for width in WIDTHS:
        depth = torch.randn(1, PATCHES, width, generator=g).repeat(14, 1, 1)
        depth[..., : width // 2] += 0.8 * torch.randn(14, PATCHES, width // 2, generator=g)
        defect = 0.8 * torch.randn(6, 2, width - width // 2, generator=g)
        depth[bad, :2, width // 2 :] += defect
        patches.append(normalize(depth, dim=-1).half())
    return PatchPool("made", str(index), tuple(patches), bad)


@pytest.fixture(scope="module")
def pools():
    return [make_pool(index) for index in range(24)]


def test_docstring_example():
    assert doctest.testmod(patch_adapter).failed == 0


def test_by_hand_a_map_that_drops_a_channel_forgets_it():
    adapter = PatchAdapter([2])
    with torch.no_grad():
        assert float(adapter.departure()) == 0.0
        adapter.maps[0].weight[1, 1] = 0.0
        (rows,) = adapter([torch.tensor([[[0.6, 0.8], [0.6, -0.8]]])])
    assert rows.tolist() == [[[1.0, 0.0], [1.0, 0.0]]]
    assert float(adapter.departure().detach()) == 1.0


def test_an_adapter_of_another_backbone_is_refused_in_one_sentence():
    with pytest.raises(
        ModelError, match=r"widths \[8\], and this backbone's have \[2\]; train one"
    ):
        PatchAdapter([8])([torch.ones(1, 1, 2)])


def test_an_episode_never_holds_an_image_twice(pools):
    rng = np.random.default_rng(0)
    for shots in (1, 3, 7):
        prompts, queries, anomalous = pools[0].draw(shots, 20, rng)
        assert len(prompts[0]) == shots
        assert int(anomalous.sum()) == 6 and int((~anomalous).sum()) == 8 - shots
        cosines = (queries[0].flatten(1) @ prompts[0].flatten(1).T) / PATCHES
        assert float(cosines.max()) < 0.999


def test_every_class_has_the_same_share_of_a_batch(pools, monkeypatch):
    # One class with many pools must not crowd out one with a single pool.
    drawn = []
    draw = PatchPool.draw
    monkeypatch.setattr(
        PatchPool, "draw", lambda self, *rest: drawn.append(self.name) or draw(self, *rest)
    )
    classes = [[[pools[0]] * 20, [pools[1]]]]
    options = dataclasses.replace(QUICK, episodes=100)
    batch_loss(PatchAdapter(WIDTHS), classes, options, np.random.default_rng(0))
    assert 35 < drawn.count(pools[1].name) < 65


def test_the_loss_of_an_untrained_adapter_is_that_of_the_plain_residuals(pools):
    options = dataclasses.replace(QUICK, largest=1)
    prompts, queries, anomalous = pools[1].draw(2, 4, np.random.default_rng(1))
    score = []
    for query in range(len(anomalous)):
        maps = [
            0.5 * (1 - (q[query] @ p.flatten(0, 1).T).amax(dim=1))
            for q, p in zip(queries, prompts, strict=True)
        ]
        score.append(float(torch.stack(maps).mean(dim=0).max()))
    score = np.log(score) / options.temperature
    pairs = [np.log1p(np.exp(g - b)) for g in score[~anomalous] for b in score[anomalous]]
    with torch.no_grad():
        patch_map, _ = adapted_maps(PatchAdapter(WIDTHS), prompts, queries, anomalous)
        loss = pair_loss(patch_map, anomalous, options)
    assert float(loss) == pytest.approx(np.mean(pairs), rel=2e-3)  # Half precision.


def test_training_learns_what_varies_harmlessly(pools, monkeypatch):
    monkeypatch.setattr(adapter_training, "LEARNING_RATE", 1e-2)  # So few steps must be long ones.
    options = dataclasses.replace(QUICK, epochs=4, steps=100, restraint=0.0)
    result = train_adapter(pools, options)
    _, held = split_classes(pools, options.seed)
    before = validate(PatchAdapter(WIDTHS), held, options)["auroc"]
    after = validate(result.adapter, held, options)["auroc"]
    assert after > before + 0.05
    assert result.record["curves"][0]["patch_max_auroc"] == before
    for part, width in zip(result.adapter.maps, WIDTHS, strict=True):
        gains = part.weight.square().sum(dim=0)
        assert gains[: width // 2].mean() < gains[width // 2 :].mean()
    json.dumps(result.record)


def test_a_run_cut_off_and_resumed_ends_where_one_in_a_piece_does(pools, tmp_path):
    whole = train_adapter(pools, QUICK)

    def cut(figures):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_adapter(pools, QUICK, tmp_path, cut)
    resumed = train_adapter(pools, QUICK, tmp_path)
    assert resumed.record == whole.record
    for key, value in whole.adapter.state_dict().items():
        assert torch.equal(value, resumed.adapter.state_dict()[key]), key
    with pytest.raises(InctrlError, match="other data or options"):
        train_adapter(pools, dataclasses.replace(QUICK, restraint=0.0), tmp_path)


def test_by_hand_a_mean_of_two_and_half_of_the_way_to_it():
    adapters = [PatchAdapter([2]) for _ in range(2)]
    with torch.no_grad():
        adapters[0].maps[0].weight[0, 1] = 0.8
        adapters[1].maps[0].weight[0, 0] = 3.0
        adapters[1].maps[0].bias[1] = 0.4
    mean = average_adapters(adapters).maps[0]
    assert mean.weight.tolist() == pytest.approx(np.array([[2.0, 0.4], [0.0, 1.0]]))
    assert mean.bias.tolist() == pytest.approx([0.0, 0.2])
    half = average_adapters(adapters, 0.5).maps[0]
    assert half.weight.tolist() == pytest.approx(np.array([[1.5, 0.2], [0.0, 1.0]]))
    assert half.bias.tolist() == pytest.approx([0.0, 0.1])
    assert average_adapters(adapters, 0.0).departure() == 0.0


@pytest.mark.parametrize(
    ("adapters", "strength", "message"),
    [
        ([], 1.0, "all of the same widths"),
        ([PatchAdapter([2]), PatchAdapter([3])], 1.0, "all of the same widths"),
        ([PatchAdapter([2])], 1.5, "between 0 and 1"),
        ([PatchAdapter([2])], float("nan"), "between 0 and 1"),
    ],
)
def test_what_cannot_be_averaged_is_refused(adapters, strength, message):
    with pytest.raises(ModelError, match=message):
        average_adapters(adapters, strength)


@pytest.fixture(scope="module")
def adapted(tiny_model, folders, tmp_path_factory):
    """A model directory with a trained adapter, and the cache it was trained from."""
    root = tmp_path_factory.mktemp("adapted")
    arguments = ["train", "--form", "patch_adapter", "--data", str(folders), "--shots", "1", "2"]
    arguments += ["--backbone", str(tiny_model), "--out", str(root / "out"), "--epochs", "1"]
    assert main([*arguments, "--cache", str(root / "cache"), "--device", "cpu"]) == 0
    return root / "out"


def test_command_writes_an_adapter_that_the_model_scores_with(adapted, tiny_model, folders):
    stored = read_tensors(adapted / "model.safetensors")
    assert ADAPTER_KEYS <= set(stored)
    detector, plain = load_detector(adapted, "cpu"), load_detector(tiny_model, "cpu")
    assert (detector.fusion, plain.fusion) == ("trained", "training-free")
    images = sorted((folders / "nut" / "train" / "good").iterdir())
    query = folders / "nut" / "test" / "hole" / "0.png"

    def score(model):
        return model.score([query], model.build_bank(images[:2], "nut"))[0]

    assert score(detector).patch_max != score(plain).patch_max
    without = detector.training_free()
    assert without.fusion == "training-free"
    assert score(without).patch_max == score(plain).patch_max
    record = detector.config.training["patch_adapter"]
    assert record["data"][folders.name]["classes"] == 3


def test_heads_trained_on_an_adapter_keep_it_and_a_new_adapter_drops_them(
    adapted,
    folders,
    tmp_path,
):
    out = tmp_path / "out"
    common = ["--data", str(folders), "--shots", "2", "--epochs", "1", "--device", "cpu"]
    common += ["--cache", str(tmp_path / "cache"), "--out", str(out)]
    assert main(["train", "--backbone", str(adapted), *common]) == 0
    before, after = (read_tensors(d / "model.safetensors") for d in (adapted, out))
    assert all(torch.equal(after[key], before[key]) for key in ADAPTER_KEYS)
    config = read_config(out)
    assert config.heads.form == "gated" and len(config.heads.patch_adapter) == 3
    assert "curves" in config.training["patch_adapter"]
    assert main(["train", "--form", "patch_adapter", "--backbone", str(out), *common]) == 0
    assert read_config(out).heads.form == "training-free"
    assert not any(k.startswith("heads.") for k in read_tensors(out / "model.safetensors"))


def test_command_averages_trainings(adapted, tiny_model, folders, tmp_path, capsys):
    other, out = tmp_path / "other", tmp_path / "out"
    arguments = ["train", "--form", "patch_adapter", "--data", str(folders), "--shots", "1"]
    arguments += ["--backbone", str(tiny_model), "--out", str(other), "--epochs", "1"]
    arguments += ["--seed", "1", "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    assert main(arguments) == 0
    average = ["average", str(adapted), str(other), "--out", str(out)]
    assert main([*average, "--strength", "0.5"]) == 0
    first, second, mean = (read_tensors(d / "model.safetensors") for d in (adapted, other, out))
    assert set(mean) == set(first)
    for key in first:
        expected = first[key]
        if key in ADAPTER_KEYS:
            start = torch.eye(len(expected)) if key.endswith("weight") else torch.zeros(1)
            expected = 0.5 * start + 0.25 * (first[key] + second[key])
        torch.testing.assert_close(mean[key], expected, atol=1e-6, rtol=0)
    config = load_detector(out, "cpu").config
    record = config.training["patch_adapter"]
    assert record["strength"] == 0.5 and config.heads.trained
    assert [part["options"]["seed"] for part in record["mean_of"]] == [0, 1]
    assert "curves" not in record["mean_of"][0]
    capsys.readouterr()
    assert main(["average", str(adapted), str(tiny_model), "--out", str(out)]) == 1
    assert "has no patch adapter" in capsys.readouterr().err
    changed = first | {"backbone.visual.proj": first["backbone.visual.proj"] + 1}
    save_model(other, read_config(other), changed)
    assert main(average) == 1
    assert "has another backbone" in capsys.readouterr().err


def test_only_sound_trainings_of_one_model_are_averaged(adapted, tmp_path, capsys):
    config, tensors = read_config(adapted), read_tensors(adapted / "model.safetensors")
    brighter = dataclasses.replace(config.preprocess, mean=(0.1, 0.1, 0.1))
    save_model(tmp_path / "a", dataclasses.replace(config, preprocess=brighter), tensors)
    key = sorted(ADAPTER_KEYS)[0]
    save_model(tmp_path / "b", config, tensors | {key: tensors[key] * float("nan")})
    save_model(tmp_path / "c", config, tensors)
    shutil.copy(tmp_path / "b" / "model.safetensors", tmp_path / "c")
    for name, message in (("a", "another way"), ("b", "not finite"), ("c", "is damaged")):
        arguments = [str(adapted), str(tmp_path / name), "--out", str(tmp_path / "out")]
        assert main(["average", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    hub = str(ASSETS / "inctrl-vit-b-16-plus-240")
    assert main(["average", hub, "--out", str(tmp_path / "out")]) == 1
    assert "has no patch adapter" in capsys.readouterr().err


def test_validation_keeps_a_pool_with_enough_normals(monkeypatch):
    """However few of the held-out classes are judged, none of the numbers of normals is lost."""
    rng = torch.Generator().manual_seed(0)

    def pool(number, normals):
        patches = normalize(torch.randn(normals + 2, 4, 3, generator=rng), dim=2)
        anomalous = torch.arange(normals + 2) >= normals
        return PatchPool("source", str(number), (patches.half(),), anomalous)

    pools = [pool(number, 6 if number % 3 == 2 else 3) for number in range(90)]
    monkeypatch.setattr(adapter_training, "VALIDATION_POOLS", 2)
    options = AdapterOptions(shots=(1, 5), epochs=1, steps=1, episodes=1)
    for seed in range(5):
        result = train_adapter(pools, dataclasses.replace(options, seed=seed))
        assert set(result.record["validation"]["auroc_by_shots"]) == {"1", "5"}


def test_a_description_that_does_not_fit_is_refused(adapted):
    document = json.loads(config_to_json(read_config(adapted)))
    for widths in ([16], [16, 16, 0], "wide", [16, 16, 1.5]):
        document["heads"]["patch_adapter"] = widths
        with pytest.raises(ModelError, match="patch_adapter"):
            config_from_dict(document)


def test_patches_come_from_the_cache_and_damage_is_mended(tiny_model, tmp_path):
    detector = load_detector(tiny_model, device="cpu")
    first = source_patches(detector, "photographs", 0, 5, tmp_path)
    copies = [depth.clone() for depth in first.patches]
    (file,) = tmp_path.iterdir()
    stamp = file.stat().st_mtime_ns
    source_patches(detector, "photographs", 0, 5, tmp_path)
    assert file.stat().st_mtime_ns == stamp
    content = file.read_bytes()
    del first
    file.unlink()
    file.write_bytes(content[:1000])
    again = source_patches(detector, "photographs", 0, 5, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(copies, again.patches, strict=True))


def test_trainings_differ_in_their_draws_and_share_the_classes_that_need_no_data(
    tiny_model, tmp_path
):
    made = []

    def of_class(detector, source, seed, index, folder):
        made.append((source, seed, index))

    options = Namespace(cache=tmp_path, seed=7, source_seed=3, procedural=2, photographs=1)
    build_pools(load_detector(tiny_model, "cpu"), [], options, (None, of_class), "patches")
    assert made == [("procedural", 3, 0), ("procedural", 3, 1), ("photographs", 3, 0)]
