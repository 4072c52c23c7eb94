"""The direction in which the image embeddings of damaged things differ from those of intact ones.

Fisher's linear discriminant on unit-length embeddings, each thing centred by its own views, with
the spread between things counted as noise: what is left is what damage has in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor
from tqdm import tqdm

from ...config import PreprocessConfig
from ...images.preprocessing import preprocess
from ...model.backbone import Backbone
from .damaged_pictures import VIEWS, damaged_pictures

BATCH = 8
RIDGE = 1.0  # In units of the mean variance; chosen on held-out things and on MTD and textile.
FOLDS = 5


@dataclass(frozen=True)
class Views:
    """Embedded pictures of intact and damaged things.

    Attributes:
        embeddings: Unit rows, float32 [N, E].
        bases: The thing each shows, int64 [N].
        groups: Never split in a cross-validation, int64 [N].
        damaged: bool [N].
    """

    embeddings: Tensor
    bases: Tensor
    groups: Tensor
    damaged: Tensor


def embed_unit(
    images: Sequence[Image.Image], backbone: Backbone, config: PreprocessConfig
) -> Tensor:
    """Unit image embeddings, float32 [len(images), E]."""
    crops = torch.stack([preprocess(image, config)[0] for image in images])
    return F.normalize(backbone.encode_images(crops).embeddings, dim=-1)


def embed_damaged_pictures(
    bases: int, backbone: Backbone, config: PreprocessConfig, seed: int
) -> Views:
    """Draws and embeds the views of ``bases`` things; see :mod:`.damaged_pictures`."""
    embeddings, records, batch = [], [], []
    pictures = tqdm(
        damaged_pictures(bases, np.random.default_rng(seed)),
        "damaged pictures",
        total=2 * VIEWS * bases,
        unit="image",
    )
    for picture in pictures:
        records.append((picture.base, picture.group, picture.damaged))
        batch.append(picture.image)
        if len(batch) == BATCH:
            embeddings.append(embed_unit(batch, backbone, config))
            batch = []
    if batch:
        embeddings.append(embed_unit(batch, backbone, config))
    things, groups, damaged = torch.tensor(records).T.contiguous()
    return Views(torch.cat(embeddings), things, groups, damaged.bool())


def fit_damage_direction(views: Views, ridge: float = RIDGE) -> Tensor:
    """Unit direction, float64 [E], that points from intact to damaged.

    Args:
        views: At least one intact and one damaged view of each thing.
        ridge: Added to the within-class covariance, in units of its mean eigenvalue.

    Raises:
        ValueError: A thing lacks intact or damaged views.
    """
    embeddings = views.embeddings.double()
    centred = embeddings.clone()
    for base in views.bases.unique():
        rows = views.bases == base
        intact, damaged = rows & ~views.damaged, rows & views.damaged
        if not intact.any() or not damaged.any():
            raise ValueError("Each thing needs intact and damaged views; draw both.")
        centred[rows] -= (embeddings[intact].mean(0) + embeddings[damaged].mean(0)) / 2
    means = torch.stack([centred[views.damaged == side].mean(0) for side in (False, True)])
    noise = centred - means[views.damaged.long()]
    scatter = noise.T @ noise / len(noise) + torch.cov(embeddings.T)
    scatter = scatter / scatter.trace() * len(scatter)
    scatter += ridge * torch.eye(len(scatter), dtype=scatter.dtype)
    return F.normalize(torch.linalg.solve(scatter, means[1] - means[0]), dim=0)


def held_out_auroc(views: Views) -> dict[str, float]:
    """AUROC on things the direction was not fitted on, five folds over groups.

    Returns:
        ``raw``: all views ranked together; ``relative``: after subtracting the mean of the
        intact views of the same thing.
    """
    groups = views.groups.unique()
    fold = torch.searchsorted(groups, views.groups) % FOLDS
    scores = torch.zeros(len(fold), dtype=torch.float64)
    for number in range(FOLDS):
        held = fold == number
        fitted = Views(
            views.embeddings[~held], views.bases[~held], views.groups[~held], views.damaged[~held]
        )
        scores[held] = views.embeddings[held].double() @ fit_damage_direction(fitted)
    relative = scores.clone()
    for base in views.bases.unique():
        rows = views.bases == base
        relative[rows] -= scores[rows & ~views.damaged].mean()
    labels = views.damaged.numpy()
    return {
        "raw": float(roc_auc_score(labels, scores.numpy())),
        "relative": float(roc_auc_score(labels, relative.numpy())),
    }
