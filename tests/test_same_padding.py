"""Padding as part of the convolution: the same numbers as timm's padded copies."""

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from inctrl_core.checkpoints.loading import ASSETS
from inctrl_core.checkpoints.weights import load_model
from inctrl_core.model.backbone import Backbone
from inctrl_core.model.same_padding import pad_in_convolutions


@torch.no_grad()
def test_an_odd_pixel_of_padding_lies_on_the_lower_right_by_hand() -> None:
    convolution = Conv2dSame(1, 1, 3, stride=2, bias=False)
    nn.init.ones_(convolution.weight)
    padded = pad_in_convolutions(nn.Sequential(convolution))
    image = torch.arange(16.0).view(1, 1, 4, 4)
    # Sums of the 3 x 3 pixels from each place on; the last ones reach one pixel out of the image.
    assert padded(image)[0, 0].tolist() == [[45.0, 39.0], [66.0, 50.0]]


@pytest.mark.parametrize("shape", [(6, 6), (7, 7), (6, 9), (1, 1), (1, 5)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (4, 2), (2, 2), (3, 1), (5, 3)])
@torch.no_grad()
def test_every_size_equals_timms(shape: tuple[int, int], kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    tower = nn.Sequential(
        Conv2dSame(2, 4, kernel, stride=stride), Conv2dSame(4, 4, kernel, stride=stride, groups=4)
    )
    padded = pad_in_convolutions(tower)
    assert not any(isinstance(part, Conv2dSame) for part in padded.modules())
    image = torch.randn(2, 2, *shape)
    torch.testing.assert_close(padded(image), tower(image))


def test_the_tower_itself_stays_as_it_is() -> None:
    tower = nn.Sequential(Conv2dSame(3, 2, 3, stride=2))
    before = tower[0].weight.clone()
    assert pad_in_convolutions(tower) is not tower
    assert type(tower[0]) is Conv2dSame and torch.equal(tower[0].weight, before)


@pytest.mark.parametrize("part", [nn.Conv2d(3, 2, 3), Conv2dSame(3, 2, 3, dilation=2)])
def test_other_convolutions_are_left(part: nn.Module) -> None:
    tower = nn.Sequential(part)
    assert pad_in_convolutions(tower) is tower


def test_the_small_model_pads_no_copies() -> None:
    model = load_model(ASSETS / "inctrl-lite")
    kinds = [type(part) for part in model.clip.visual.modules()]
    assert kinds.count(Conv2dSame) == 5
    backbone = Backbone(model.clip, model.config.backbone)
    assert not any(isinstance(part, Conv2dSame) for part in backbone._tower.modules())
