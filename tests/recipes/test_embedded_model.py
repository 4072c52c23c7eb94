"""The embedded model as it is stored: size, image tower, nouns, unknown words, wordings."""

import dataclasses
import json

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from PIL import Image

from inctrl_core.checkpoints.loading import ASSETS
from inctrl_core.checkpoints.tensor_files import PrefixedTensors, read_tensors
from inctrl_core.checkpoints.weights import (
    BACKBONE_PREFIX,
    HEADS_PREFIX,
    WEIGHTS_FILE,
    add_prefix,
    load_model,
    save_model,
)
from inctrl_core.config import HeadsConfig
from inctrl_core.errors import ModelError
from inctrl_core.images.files import open_image
from inctrl_core.images.preprocessing import preprocess
from inctrl_core.model.backbone import Backbone
from inctrl_core.model.heads import build_heads
from inctrl_core.model.prompts import build_prompts
from inctrl_core.model.residuals import text_prototype
from inctrl_core.recipes.inctrl_lite import embedded_model
from inctrl_core.recipes.inctrl_lite.damage_direction import Views, fit_damage_direction
from inctrl_core.recipes.inctrl_lite.embedded_figures import NOUNS
from inctrl_core.recipes.inctrl_lite.image_tower import read_image_tower
from inctrl_core.recipes.inctrl_lite.noun_targets import build_noun_targets, centred_unit_rows

DIRECTORY = ASSETS / "inctrl-lite"


@pytest.fixture(scope="module")
def model():
    model = load_model(DIRECTORY)
    return model.config, model.clip, Backbone(model.clip, model.config.backbone)


def embed(model, name):
    config, _, backbone = model
    crop = preprocess(open_image(Image.fromarray(getattr(skimage.data, name)())), config.preprocess)
    return F.normalize(backbone.encode_images(crop[0][None]).embeddings, dim=-1)[0]


def test_size_leaves_room_for_heads():
    files = [path for path in DIRECTORY.iterdir() if path.is_file()]
    assert (DIRECTORY / WEIGHTS_FILE).stat().st_size < 22_500_000
    assert sum(path.stat().st_size for path in files) < 25_000_000


def test_image_tower_is_the_packaged_one_up_to_storage():
    package, _ = read_image_tower()
    stored = PrefixedTensors(
        read_tensors(DIRECTORY / WEIGHTS_FILE), BACKBONE_PREFIX + "visual.trunk."
    )
    assert set(stored) == set(package)
    for key, value in package.items():
        assert torch.equal(stored[key], value.to(stored[key].dtype)), key


def test_rounding_for_storage_does_not_move_features(model):
    config, clip, backbone = model
    exact = embedded_model.build_clip(config.backbone)
    exact.load_state_dict(clip.state_dict())
    exact.visual.trunk.load_state_dict(read_image_tower()[0])
    image = open_image(Image.fromarray(skimage.data.coffee()))
    crops = preprocess(image, config.preprocess)[0][None]
    stored, full = (b.encode_images(crops) for b in (backbone, Backbone(exact, config.backbone)))
    pairs = [(stored.embeddings, full.embeddings), *zip(stored.patches, full.patches, strict=True)]
    for a, b in pairs:
        assert F.cosine_similarity(a, b, dim=-1).min() > 1 - 1e-4


@pytest.mark.parametrize(("photo", "noun"), [("chelsea", "cat"), ("coffee", "espresso")])
def test_photograph_picks_its_noun_among_twenty(model, photo, noun):
    text = model[2].encode_text([f"a photo of a {n}." for n in NOUNS])
    assert NOUNS[int((text @ embed(model, photo)).argmax())] == noun


def test_unknown_words_are_nearly_generic(model):
    encode = model[2].encode_text
    generic, unknown, other, cat, dog = encode(
        [f"a photo of a {n}." for n in ("object", "žluťoučký", "ꙮꙮ", "tabby cat", "goldfish")]
    )
    for word in (unknown, other):
        assert torch.isfinite(word).all()
        assert word @ generic > 0.9
        assert word @ generic > max(word @ cat, word @ dog) + 0.1


def test_wordings_of_damage_agree_with_each_other(model):
    def direction(intact, damaged):
        states = (state.format("bottle") for state in (intact, damaged))
        text = model[2].encode_text([f"a photo of a {state}." for state in states])
        return F.normalize(text[1] - text[0], dim=0)

    reference = direction("flawless {}", "damaged {}")
    assert reference @ direction("intact {}", "cracked {}") > 0.6
    assert reference @ direction("{} without defect", "{} with defect") > 0.6
    assert reference @ direction("damaged {}", "perfect {}") < -0.6


@pytest.mark.parametrize("name", ["metal nut", "textile", "solar cell", "object", "ꙮꙮ"])
def test_prompts_tell_normal_from_anomalous_without_saturating(model, name):
    prompts = build_prompts(name)
    normal, anomaly = (
        text_prototype(model[2].encode_text(group)) for group in (prompts.normal, prompts.anomaly)
    )
    assert 0.2 < (normal - anomaly).norm() < 0.6
    odds = [100 * embed(model, photo) @ (anomaly - normal) for photo in ("brick", "coffee", "moon")]
    assert max(map(abs, odds)) < 10


def test_text_encoding_does_not_depend_on_the_batch(model):
    encode = model[2].encode_text
    prompts = build_prompts("zipper").anomaly
    together = encode(prompts)
    assert torch.equal(together, encode(prompts))
    assert torch.allclose(together[:1], encode(prompts[:1]), atol=1e-5)


def test_figures_are_those_of_the_card():
    figures = json.loads((DIRECTORY / embedded_model.FIGURES_FILE).read_text(encoding="utf-8"))
    card = (DIRECTORY / "README.md").read_text(encoding="utf-8")
    for key, value in figures.items():
        if key.startswith("text_only_"):
            assert f"{value['auroc']:.3f}" in card, key


def test_noun_targets_place_classes_and_kinds():
    weight = read_image_tower()[1]
    nouns = build_noun_targets(weight)
    assert torch.equal(nouns.class_rows, centred_unit_rows(weight))
    similarity = nouns.class_rows @ nouns.word_rows[nouns.words.index("cat")]
    assert "cat" in " ".join(nouns.classes[int(similarity.argmax())])
    assert nouns.word_rows.norm(dim=-1).max() <= 1 + 1e-5
    with pytest.raises(ValueError, match="1000"):
        build_noun_targets(weight[:10])


def test_damage_direction_is_found_and_needs_both_sides():
    generator = torch.Generator().manual_seed(0)
    bases = torch.arange(20).repeat_interleave(6)
    damaged = torch.arange(120) % 2 == 1
    things = torch.randn(20, 8, generator=generator)[bases]
    noise = 0.1 * torch.randn(120, 8, generator=generator)
    embeddings = things + noise
    embeddings[damaged, 3] += 0.5
    direction = fit_damage_direction(Views(embeddings, bases, bases, damaged))
    assert direction[3] > 0.9
    with pytest.raises(ValueError, match="both"):
        fit_damage_direction(Views(embeddings, bases, bases, torch.zeros(120, dtype=torch.bool)))


def test_making_again_keeps_trained_heads(tmp_path, model):
    _, clip, _ = model
    recipe = embedded_model.Recipe()
    embedded_model.write_model(tmp_path, clip, recipe)
    first = load_model(tmp_path).config
    assert first.heads.form == "training-free"

    heads = HeadsConfig("reference", training_free=embedded_model.TRAINING_FREE)
    trained = dataclasses.replace(first, heads=heads, training={"note": "trained"})
    torch.manual_seed(0)
    heads = add_prefix(build_heads(trained.heads, trained.backbone).state_dict(), HEADS_PREFIX)
    save_model(tmp_path, trained, embedded_model.stored_tensors(clip) | heads)
    embedded_model.write_model(tmp_path, clip, recipe)
    again = load_model(tmp_path).config
    stored = read_tensors(tmp_path / WEIGHTS_FILE)
    assert (again.heads, again.training) == (trained.heads, trained.training)
    assert all(torch.equal(stored[key], value) for key, value in heads.items())


def test_making_again_refuses_a_directory_it_cannot_read(tmp_path, model):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError):
        embedded_model.write_model(tmp_path, model[1], embedded_model.Recipe())
