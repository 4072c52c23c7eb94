"""The inputs and the outputs of every form of fusion."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a fusion may read about B queries and the normals they are compared with.

    The normals' tensors have a leading axis of B where every query has normals of its own (training
    episodes), and of 1 where all share one bank.

    Attributes:
        layer_maps: [B, D, P], patch residuals of the queries, in [0, 1].
        embeddings: [B, E], global embeddings of the queries.
        text_anomaly: [B], in [0, 1].
        normal_embeddings: [B or 1, K, E], global embeddings of the normals.
        normal_layer_maps: [B or 1, K, D, P], each normal's residuals against the other K - 1; None
            where K is 1.
    """

    layer_maps: Tensor
    embeddings: Tensor
    text_anomaly: Tensor
    normal_embeddings: Tensor
    normal_layer_maps: Tensor | None

    @property
    def patch_map(self) -> Tensor:
        """[B, P], mean over depths."""
        return self.layer_maps.mean(dim=1)


@dataclass(frozen=True, eq=False)
class Fusion:
    """The outputs of a fusion for B queries; every tensor is [B], in [0, 1]."""

    fused: Tensor
    holistic: Tensor
    image_residual: Tensor
