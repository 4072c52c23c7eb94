"""Measures of a text tower that knows ImageNet's nouns: its strengths and limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from ...checkpoints.weights import load_model
from ...config import ModelConfig
from ...datasets.layouts import load_folders
from ...datasets.subsets import DataError, Subset, load_elpv, load_textile
from ...images.files import open_image
from ...model.backbone import Backbone
from ...model.prompts import build_prompts
from ...model.residuals import text_prototype
from .damage_direction import embed_unit
from .image_tower import read_image_tower
from .noun_targets import build_noun_targets
from .text_phrases import HELD_OUT_TEMPLATES

BATCH = 8
# Photographs that ship with scikit-image, and every name among NOUNS that would be right.
PHOTOS = {
    "chelsea": ("cat",),
    "coffee": ("espresso", "cup"),
    "rocket": ("rocket",),
    "camera": ("tripod",),
    "clock": ("clock",),
    "coins": ("coin",),
    "brick": ("brick wall",),
    "page": ("page of a book",),
    "astronaut": ("astronaut",),
    "grass": ("grass",),
}
NOUNS = (
    "cat", "espresso", "cup", "rocket", "tripod", "clock", "coin", "brick wall", "page of a book",
    "astronaut", "grass", "dog", "banana", "piano", "sports car", "goldfish", "umbrella",
    "keyboard", "castle", "toaster",
)  # fmt: skip


def measure(
    directory: Path, mtd: Path | None, brainmri: Path | None, elpv: bool
) -> dict[str, object]:
    """Measures the model in ``directory`` as it is stored.

    Args:
        directory: A model directory with its own backbone.
        mtd: MTD in the MVTec layout, or None to leave it out.
        brainmri: BrainMRI likewise.
        elpv: Whether to measure on ELPV.

    Raises:
        ModelError: The model cannot be read.
        DataError: A dataset is missing.
    """
    model = load_model(directory)
    config, clip = model.config, model.clip
    backbone = Backbone(clip, config.backbone)
    subsets: list[Subset] = list(load_textile())
    if mtd:
        subsets += load_folders(mtd, "magnetic tile")
    if brainmri:
        subsets += load_folders(brainmri, "brain")
    if elpv:
        subsets += load_elpv()
    return {
        "nouns_on_photographs": photographs(backbone, config),
        "class_from_text": class_from_text(backbone),
    } | {
        f"text_only_{subset.dataset}_{subset.name}": text_only(subset, backbone, config)
        for subset in subsets
    }


def photographs(backbone: Backbone, config: ModelConfig) -> dict[str, object]:
    """Which of 20 nouns is closest to each of scikit-image's photographs."""
    nouns = backbone.encode_text([f"a photo of a {noun}." for noun in NOUNS])
    chosen = {}
    for name in PHOTOS:
        image = open_image(Image.fromarray(np.asarray(getattr(skimage.data, name)())))
        (embedding,) = embed_unit([image], backbone, config.preprocess)
        chosen[name] = NOUNS[int((nouns @ embedding).argmax())]
    right = sum(noun in PHOTOS[name] for name, noun in chosen.items())
    return {"right": right, "of": len(PHOTOS), "chosen": chosen}


def class_from_text(backbone: Backbone) -> dict[str, float]:
    """Share of the 1000 classes found from their first name, under wordings never trained on."""
    nouns = build_noun_targets(read_image_tower()[1])
    names = [names[0] for names in nouns.classes]
    reference = backbone.encode_text([f"a photo of a {name}." for name in names])
    found = {}
    for template in HELD_OUT_TEMPLATES:
        text = backbone.encode_text([template.replace("{}", name) for name in names])
        nearest = (text @ reference.T).argmax(dim=1)
        found[template] = round(float((nearest == torch.arange(len(names))).float().mean()), 3)
    return found


def text_only(subset: Subset, backbone: Backbone, config: ModelConfig) -> dict[str, object]:
    """AUROC of the text signal alone on the test images, with its log-odds' place and spread.

    Raises:
        DataError: The test images are all normal or all anomalous.
    """
    labels = [query.anomalous for query in subset.queries]
    if len(set(labels)) < 2:
        raise DataError(f"'{subset.name}' needs normal and anomalous test images.")
    prompts = build_prompts(subset.object_name)
    normal = text_prototype(backbone.encode_text(prompts.normal))
    anomaly = text_prototype(backbone.encode_text(prompts.anomaly))
    paths = [query.path for query in subset.queries]
    parts = [
        embed_unit(
            [open_image(path) for path in paths[start : start + BATCH]], backbone, config.preprocess
        )
        for start in tqdm(range(0, len(paths), BATCH), f"{subset.dataset} {subset.name}")
    ]
    odds = (100.0 * torch.cat(parts) @ (anomaly - normal)).double().numpy()
    return {
        "object_name": subset.object_name,
        "normal": labels.count(False),
        "anomalous": labels.count(True),
        "auroc": round(float(roc_auc_score(labels, odds)), 3),
        "log_odds_mean": round(float(odds.mean()), 2),
        "log_odds_sd": round(float(odds.std()), 2),
    }
