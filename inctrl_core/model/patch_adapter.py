"""The patch adapter: a trained linear map of the patches of each depth, before they are compared.

A frozen backbone's features vary along many directions when nothing is wrong: with light, focus,
noise, a small turn. The cosine distance counts all directions alike. A linear map with one matrix
for each depth, trained so that anomalous queries lie further from the normals than good ones, makes
it count less what varies harmlessly. The paper adapts the image embedding only; this is this
project's own addition, and ``docs/lab-notebook.md`` has what it gains and loses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError


class PatchAdapter(nn.Module):
    """One affine map for each depth, from unit vectors to unit vectors of the same width.

    It starts as the identity, so that an untrained adapter changes nothing:

    >>> adapter = PatchAdapter([2])
    >>> adapter([torch.tensor([[[0.6, 0.8]]])])[0].tolist()
    [[[0.6000000238418579, 0.800000011920929]]]

    Args:
        widths: C_d, the width of the patches at each of the D depths.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, width) for width in widths)
        with torch.no_grad():
            for part in self.maps:
                part.weight.copy_(torch.eye(part.in_features))
                part.bias.zero_()

    def forward(self, patches: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """D tensors [..., C_d] with rows of unit length -> D tensors of the same shapes.

        Raises:
            ModelError: They are of other widths: the adapter is another backbone's.
        """
        own, given = [part.in_features for part in self.maps], [p.shape[-1] for p in patches]
        if own != given:
            raise ModelError(
                f"The patch adapter is made for patches of widths {own}, and this backbone's have "
                f"{given}; train one for this backbone."
            )
        return tuple(
            F.normalize(part(depth), dim=-1) for part, depth in zip(self.maps, patches, strict=True)
        )

    def departure(self) -> Tensor:
        """Squared distance of all matrices from the identity, a scalar; training is held by it."""
        return sum(
            (part.weight - torch.eye(part.in_features, device=part.weight.device)).square().sum()
            for part in self.maps
        )


def average_adapters(adapters: Sequence[PatchAdapter], strength: float = 1.0) -> PatchAdapter:
    """The mean of several trainings' weights, and of that a part of the way from the identity.

    All trainings start at the identity, and differ in what they happened to draw; their mean keeps
    what they agree on (Wortsman et al., "Model soups", ICML 2022). A part of the way changes less
    of what no training data spoke of (Wortsman et al., "Robust fine-tuning of zero-shot models",
    CVPR 2022).

    Args:
        adapters: At least one, all of the same widths.
        strength: In [0, 1]; 0 is the identity, 1 the mean.

    Raises:
        ModelError: There is none, their widths differ, or the strength lies outside its range.
    """
    if not 0 <= strength <= 1:
        raise ModelError("The strength must lie between 0 and 1.")
    widths = {tuple(part.in_features for part in adapter.maps) for adapter in adapters}
    if len(widths) != 1:
        raise ModelError("The mean takes patch adapters that are all of the same widths.")
    start = PatchAdapter(widths.pop())
    ends = [adapter.state_dict() for adapter in adapters]
    means = {key: torch.stack([end[key] for end in ends]).mean(dim=0) for key in ends[0]}
    start.load_state_dict(
        {key: torch.lerp(value, means[key], strength) for key, value in start.state_dict().items()}
    )
    return start.eval().requires_grad_(False)
