"""The inputs and the outputs of every form of fusion."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import PromptError

# An anomaly: whatever the normals suggest, a flaw in the thing, or another kind of thing.
LOOKS_FOR = DECIDE, FLAW, KIND = "decide", "flaw", "kind"


def check_looks_for(looks_for: str) -> str:
    """The value itself, if it is one of ``LOOKS_FOR``.

    Raises:
        PromptError: It is not.
    """
    if looks_for not in LOOKS_FOR:
        raise PromptError(f"There is no '{looks_for}' to look for; use {', '.join(LOOKS_FOR)}.")
    return looks_for


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
        normal_text: [B or 1, K], ``text_anomaly`` of the normals.
        distinct: Indices of the normals that are no copies of others; None for all.
        looks_for: One of ``LOOKS_FOR``; forms without such a choice ignore it.
        shift: [B], log-odds that known defects add to the score, whatever the form; None without.
    """

    layer_maps: Tensor
    embeddings: Tensor
    text_anomaly: Tensor
    normal_embeddings: Tensor
    normal_layer_maps: Tensor | None
    normal_text: Tensor | None = None
    distinct: tuple[int, ...] | None = None
    looks_for: str = DECIDE
    shift: Tensor | None = None

    @property
    def patch_map(self) -> Tensor:
        """[B, P], mean over depths."""
        return self.layer_maps.mean(dim=1)


@dataclass(frozen=True, eq=False)
class Fusion:
    """The outputs of a fusion for B queries; every tensor is [B], in [0, 1].

    ``text_anomaly`` is None where it is the share of the text prompts itself.
    """

    fused: Tensor
    holistic: Tensor
    image_residual: Tensor
    text_anomaly: Tensor | None = None

    def at(self, index: int) -> Fusion:
        """That of one query alone."""
        rows = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Fusion(
            **{name: None if row is None else row[index : index + 1] for name, row in rows.items()}
        )
