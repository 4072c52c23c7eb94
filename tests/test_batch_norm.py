"""Batch norms folded into convolutions: the same numbers, and none where it would change them."""

import pytest
import torch
from torch import Tensor, nn

from inctrl_core.checkpoints.loading import ASSETS
from inctrl_core.checkpoints.weights import LoadedModel, load_model
from inctrl_core.model.acceleration import fold_batch_norms
from inctrl_core.model.backbone import Backbone


@pytest.fixture(scope="module")
def lite() -> LoadedModel:
    return load_model(ASSETS / "inctrl-lite")


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def run(tower: nn.Module, crops: Tensor) -> list[Tensor]:
    return [tower(crops)]


def fold(tower: nn.Module) -> nn.Module:
    return fold_batch_norms(tower, run, (4, 4))


def known_norm() -> nn.BatchNorm2d:
    """Takes 2 away, divides by 4, multiplies by 8, adds 1."""
    norm = nn.BatchNorm2d(1, eps=0.0)
    for tensor, value in (
        (norm.running_mean, 2.0),
        (norm.running_var, 16.0),
        (norm.weight, 8.0),
        (norm.bias, 1.0),
    ):
        nn.init.constant_(tensor, value)
    return norm


def known_tower() -> nn.Sequential:
    convolution = nn.Conv2d(3, 1, 1, bias=False)
    nn.init.constant_(convolution.weight, 5.0)
    return nn.Sequential(convolution, known_norm()).eval()


@torch.no_grad()
def test_one_pair_by_hand() -> None:
    folded = fold(known_tower())
    assert norms(folded) == 0
    # 5 x 8 / 4 for each of three channels; (0 - 2) x 8 / 4 + 1.
    assert folded[0].weight.flatten().tolist() == [10.0, 10.0, 10.0]
    assert folded[0].bias.tolist() == [-3.0]


@torch.no_grad()
def test_the_tower_itself_stays_as_it_is() -> None:
    tower = known_tower()
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    fold(tower)
    assert norms(tower) == 1
    assert before.keys() == tower.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())


class _ReadTwice(nn.Module):
    """The convolution's own result matters as well: folding would change it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = known_tower()

    def forward(self, x: Tensor) -> Tensor:
        plain = self.convolution(x)
        return plain + self.norm(plain)


class _NormFirst(nn.Module):
    """Declared as a pair, but used the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        nn.init.constant_(self.norm.running_mean, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(self.norm(x))


class _SharedNorm(nn.Module):
    """Two convolutions under one batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = known_tower()
        self.second = nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.first(x)) + self.norm(self.second(x))


class _RunTwice(nn.Module):
    """One pair, passed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = known_tower()

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(x) + self.pair(2 * x)


class _OwnStatistics(nn.Module):
    """A batch norm that measures what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.Sequential(nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1, track_running_stats=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(x)


class _OtherSize(nn.Module):
    """Takes images of one size, and not the one that it is tried with."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = known_tower()

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(x).view(1, 64, 64)


@pytest.mark.parametrize(
    "kind", [_ReadTwice, _NormFirst, _SharedNorm, _RunTwice, _OwnStatistics, _OtherSize]
)
def test_what_cannot_be_folded_is_left(kind: type[nn.Module]) -> None:
    tower = kind().eval()
    assert fold(tower) is tower
    assert norms(tower) == 1


def test_without_batch_norms_nothing_is_copied() -> None:
    tower = nn.Sequential(nn.Conv2d(3, 2, 1)).eval()
    assert fold(tower) is tower


@torch.inference_mode()
def test_the_small_model_computes_the_same_without_its_batch_norms(lite: LoadedModel) -> None:
    backbone = Backbone(lite.clip, lite.config.backbone)
    crops = torch.randn(2, 3, 240, 240, generator=torch.Generator().manual_seed(1))
    result = backbone.forward(crops)
    depths = list(lite.config.backbone.depths)
    expected = lite.clip.visual.forward_intermediates(crops, indices=depths)
    assert norms(lite.clip.visual) == 49
    assert norms(backbone._tower) == 0
    assert torch.allclose(result["image_features"], expected["image_features"], rtol=0, atol=1e-4)
    pairs = zip(result["image_intermediates"], expected["image_intermediates"], strict=True)
    for folded, plain in pairs:
        # Of values up to 30; the distances in which they end are then right to 1e-6.
        assert torch.allclose(folded, plain, rtol=0, atol=5e-4)
