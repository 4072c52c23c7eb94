"""From the signals to the score: the forms of fusion, over features only.

Each form is a module with the same ``forward(evidence) -> Fusion``, and :func:`build_heads` makes
the one that a model's configuration names.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..config import BackboneConfig, HeadsConfig
from ..errors import ModelError
from .evidence import Evidence, Fusion
from .gated import build_gated
from .residuals import global_distance


class TrainingFreeFusion(nn.Module):
    """A fixed combination of the three signals, for models without trained heads.

    ``image_residual`` is half the cosine distance to the closest normal's embedding, ``holistic``
    a weighted sum of the signals, and ``fused = (holistic + patch_max) / 2`` as in the paper. The
    default, the text signal alone, makes it WinCLIP's few-shot score.

    Args:
        weights: Weights of the signals ``patch_max`` (largest patch residual), ``patch_mean`` (mean
            patch residual), ``image`` and ``text`` in ``holistic``: none negative, together at
            most 1.

    Raises:
        ModelError: The weights are otherwise.
    """

    reads_normal_maps = False
    DEFAULT_WEIGHTS = {"text": 1.0}
    SIGNALS = ("patch_max", "patch_mean", "image", "text")

    def __init__(self, weights: Mapping[str, float] = DEFAULT_WEIGHTS) -> None:
        super().__init__()
        total = sum(weights.values())
        if set(weights) - set(self.SIGNALS) or not 0 < total <= 1 or min(weights.values()) < 0:
            raise ModelError(
                f"The training-free fusion needs weights of {', '.join(self.SIGNALS)}, none "
                "negative and together at most 1; correct config.json."
            )
        self.weights = dict(weights)

    def forward(self, evidence: Evidence) -> Fusion:
        """See the class."""
        patch_map = evidence.patch_map
        patch_max = patch_map.amax(dim=1)
        distances = global_distance(evidence.embeddings, evidence.normal_embeddings)
        closest = distances.amin(dim=1)
        signals = {
            "patch_max": patch_max,
            "patch_mean": patch_map.mean(dim=1),
            "image": closest,
            "text": evidence.text_anomaly,
        }
        holistic = sum(weight * signals[name] for name, weight in self.weights.items())
        return Fusion((holistic + patch_max) / 2, holistic, closest)


class Adapter(nn.Module):
    """Two-layer bottleneck over global embeddings, ReLU after both layers."""

    def __init__(self, width: int, reduction: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, width // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(width // reduction, width, bias=False),
            nn.ReLU(),
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """[..., E] -> [..., E]."""
        return self.layers(embeddings)


class ScoreHead(nn.Module):
    """Sigmoid MLP: [B, width] -> [B] in [0, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 128),
            nn.ReLU(),
            nn.BatchNorm1d(128),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.BatchNorm1d(64),
            nn.Linear(64, 1),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        return torch.sigmoid(self.layers(inputs)).squeeze(-1)


class ReferenceHeads(nn.Module):
    """The heads of the paper: image-level residual, holistic head over the map, their fusion.

    Args:
        embed_dim: E.
        patches: P.
    """

    reads_normal_maps = False

    def __init__(self, embed_dim: int, patches: int) -> None:
        super().__init__()
        self.adapter = Adapter(embed_dim)
        self.image_head = ScoreHead(embed_dim)
        self.map_head = ScoreHead(patches)

    def forward(self, evidence: Evidence) -> Fusion:
        """See the class."""
        normals = self.adapter(evidence.normal_embeddings).mean(dim=1)
        image_residual = self.image_head(normals - self.adapter(evidence.embeddings))
        patch_map = evidence.patch_map
        shift = (image_residual + evidence.text_anomaly).unsqueeze(1)
        holistic = self.map_head(patch_map + shift)
        return Fusion((holistic + patch_map.amax(dim=1)) / 2, holistic, image_residual)


def training_free_weights(config: HeadsConfig) -> Mapping[str, float]:
    """The weights of the training-free fusion: the model's own, or the default."""
    return config.training_free or TrainingFreeFusion.DEFAULT_WEIGHTS


def build_heads(config: HeadsConfig, backbone: BackboneConfig) -> nn.Module:
    """The fusion that ``config`` names, with random weights where it has any.

    Raises:
        ModelError: The form's options are wrong.
    """
    if config.form == "training-free":
        return TrainingFreeFusion(training_free_weights(config))
    if config.form == "reference":
        return ReferenceHeads(backbone.embed_dim, backbone.grid**2)
    if config.form == "gated":
        return build_gated(config.options, len(backbone.depths))
    raise ModelError(f"This program does not know the heads '{config.form}'; update it.")
