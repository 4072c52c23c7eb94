"""Crops read at several sizes: what the features then are, and what a description may say."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from inctrl_core import load_detector
from inctrl_core.checkpoints.weights import load_model, save_model
from inctrl_core.config import config_from_dict, config_to_json
from inctrl_core.errors import ModelError
from inctrl_core.images.files import open_image
from inctrl_core.model.detector import Detector
from tests.support.pictures import FIRST

PHOTO = FIRST.bad


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def detector() -> Iterator[Detector]:
    # On one core, where its sizes pass in turn, to the bits that each has alone.
    with computing_with(1):
        yield load_detector("inctrl-lite", "cpu")


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    return torch.randn(2, 3, 288, 288, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)


def alone(detector: Detector, crops: torch.Tensor, size: int):
    """What the model makes of the crops at one size, in torch."""
    backbone = detector.backbone.without_engine().at_first_size()
    if size != crops.shape[-1]:
        crops = F.interpolate(crops, (size, size), mode="bicubic", antialias=True)
    return backbone.encode_images(crops)


def test_a_place_is_what_is_seen_of_it_at_all_sizes(detector, crops):
    sizes = detector.config.backbone.image_sizes
    assert sizes == (240, 288) and detector.config.preprocess.image_size == 288
    both = detector.backbone.without_engine().encode_images(crops)
    views = [alone(detector, crops, size) for size in sizes]
    for joined, *parts in zip(both.patches, *(view.patches for view in views), strict=True):
        assert torch.equal(joined, torch.cat(parts, dim=-1) / 2**0.5)
        assert torch.allclose(joined.norm(dim=-1), torch.ones(2, 225), atol=1e-5)
        # Between an image and the other: the mean of the cosines.
        cosine, first, second = (a[0] @ a[1].T for a in (joined, *parts))
        assert torch.allclose(cosine, (first + second) / 2, atol=1e-5)


def test_the_embedding_is_that_of_the_first_size(detector, crops):
    both = detector.backbone.without_engine().encode_images(crops)
    assert torch.equal(both.embeddings, alone(detector, crops, 240).embeddings)


def test_training_an_adapter_sees_the_first_size_alone(detector):
    single = detector.at_first_size()
    assert single.config.preprocess.image_size == 240
    assert single.config.backbone.image_sizes == ()
    features = single.encode([PHOTO]).features
    widths = detector.config.heads.patch_adapter
    assert tuple(depth.shape[-1] for depth in features.patches) == widths
    assert detector.config.backbone.image_sizes == (240, 288)  # As it was.


def test_a_model_of_one_size_is_its_own_first(golden_detector):
    assert golden_detector.at_first_size() is golden_detector


def test_small_and_large_images_are_read_alike(detector):
    """An image is brought to the crop's size first, so its crop alone scores like itself."""
    crop = open_image(PHOTO).resize((288, 288))
    bank = detector.build_bank([crop], "screw")
    assert detector.score([crop], bank)[0].patch_max == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([288, 240], "increasing"),
        ([240, 240, 288], "increasing"),
        ([240, 256], "end with image_size"),
        ([8, 288], "greater than or equal to 16"),
        ([100, 120, 140, 160, 288], "at most 4 items"),
        ([240.0, 288], "integer"),
        ("240", "array"),
        (None, "array"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(detector, sizes, message):
    document = json.loads(config_to_json(detector.config))
    document["backbone"]["image_sizes"] = sizes
    with pytest.raises(ModelError, match=message):
        config_from_dict(document)


def test_a_description_from_before_has_one_size(detector):
    document = json.loads(config_to_json(detector.config))
    del document["backbone"]["image_sizes"]
    assert config_from_dict(document).backbone.image_sizes == ()


def test_a_description_from_before_cuts_the_centre_out(detector, golden_detector):
    document = json.loads(config_to_json(detector.config))
    assert document["preprocess"].pop("resize_mode") == "squash"
    assert config_from_dict(document).preprocess.resize_mode == "shortest"
    assert golden_detector.config.preprocess.resize_mode == "shortest"


@pytest.mark.parametrize(
    "mode",
    ["longest", "", None, 1],
)
def test_a_resize_mode_that_is_none_is_refused(detector, mode):
    document = json.loads(config_to_json(detector.config))
    document["preprocess"]["resize_mode"] = mode
    with pytest.raises(ModelError, match="'shortest' or 'squash'"):
        config_from_dict(document)


def test_a_defect_at_the_end_of_a_wide_image_is_seen(detector):
    normal = Image.new("RGB", (600, 200), "grey")
    spoilt = normal.copy()
    spoilt.paste("white", (10, 80, 60, 120))
    bank = detector.build_bank([normal], "plate")
    plain, found = detector.score([normal, spoilt], bank)
    assert plain.patch_max == pytest.approx(0, abs=1e-6)
    assert found.crop_box == (0, 0, 600, 200)
    row, column = np.unravel_index(found.patch_map.argmax(), (15, 15))
    assert column <= 1 and found.patch_max > 0.1 and plain.fused < 0.001 < found.fused


def test_heads_for_images_squeezed_otherwise_are_refused(tiny_model, tmp_path):
    model = load_model(tiny_model)
    preprocess = dataclasses.replace(model.config.preprocess, resize_mode="squash")
    save_model(tmp_path / "whole", dataclasses.replace(model.config, preprocess=preprocess), {})
    with pytest.raises(ModelError, match="made for another backbone"):
        load_model(tiny_model, heads=Path(tmp_path / "whole"))


def test_heads_for_other_sizes_are_refused(tiny_model, tmp_path):
    model = load_model(tiny_model)
    backbone = dataclasses.replace(model.config.backbone, image_sizes=(16, 32))
    save_model(tmp_path / "two", dataclasses.replace(model.config, backbone=backbone), {})
    with pytest.raises(ModelError, match="made for another backbone"):
        load_model(tiny_model, heads=Path(tmp_path / "two"))
