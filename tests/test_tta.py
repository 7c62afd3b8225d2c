"""Test-time augmentation: which views are averaged, and for which images."""

import pytest
import torch
from torch import Tensor

from cifar_lightning.nets.tta import TTA, averaged_logits

WEIGHTS = torch.randn(3 * 32 * 32, 10, generator=torch.Generator().manual_seed(1)) / 50


class CountingNet:
    """A linear net that counts the images it has seen."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return images.flatten(1) @ WEIGHTS


@pytest.fixture
def images() -> Tensor:
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def test_without_views_it_is_the_net(images: Tensor) -> None:
    net = CountingNet()
    assert torch.equal(averaged_logits(net, images, TTA()), net(images))


def test_flip_is_the_mean_with_the_mirror_image(images: Tensor) -> None:
    net = CountingNet()
    expected = (net(images) + net(images.flip(3))) / 2
    torch.testing.assert_close(averaged_logits(net, images, TTA("flip")), expected)


def test_translated_views_have_half_of_the_weight(images: Tensor) -> None:
    net = CountingNet()

    def mirrored(view: Tensor) -> Tensor:
        return (net(view) + net(view.flip(3))) / 2

    up_left = torch.cat([images[:, :, 1:], images[:, :, 30:31]], 2)
    up_left = torch.cat([up_left[..., 1:], up_left[..., 30:31]], 3)
    down_right = torch.cat([images[:, :, 1:2], images[:, :, :31]], 2)
    down_right = torch.cat([down_right[..., 1:2], down_right[..., :31]], 3)
    expected = mirrored(images) / 2 + mirrored(up_left) / 4 + mirrored(down_right) / 4
    torch.testing.assert_close(averaged_logits(net, images, TTA("flip_translate")), expected)


def test_only_unsure_images_are_looked_at_again(images: Tensor) -> None:
    net = CountingNet()
    plain = net(images)
    sure = plain.softmax(1).amax(1)
    below = float(sure.sort().values[2])  # three images are at most as sure
    net.images = 0
    result = averaged_logits(net, images, TTA("flip", below))
    assert net.images == 6 + 3
    again = sure <= below
    torch.testing.assert_close(result[again], (plain + net(images.flip(3)))[again] / 2)
    assert torch.equal(result[~again], plain[~again])


def test_where_all_are_sure_nothing_is_looked_at_again(images: Tensor) -> None:
    net = CountingNet()
    averaged_logits(net, images, TTA("flip_translate", below=1e-6))
    assert net.images == 6


@pytest.mark.parametrize(
    ("settings", "flag"), [({"views": "mirror"}, "views"), ({"below": 0.0}, "below"), ({"below": 1.5}, "below")]
)
def test_values_out_of_range_are_refused(settings: dict[str, object], flag: str) -> None:
    with pytest.raises(ValueError, match=f"model.tta.{flag}"):
        TTA(**settings)  # type: ignore[arg-type]


def test_its_name() -> None:
    assert str(TTA("flip")) == "flip"
    assert str(TTA("flip_translate", 0.9)) == "flip_translate below 0.9"
