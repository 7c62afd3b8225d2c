"""Predictor: what goes in, what comes out, and what it refuses to load."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.official_format import CLASSES, TinyDataset
from inference.checkpoints import tiny_net, write_checkpoint
from PIL import Image
from plain_net import PlainNet

from cifar_lightning.data.transforms import Normalize
from cifar_lightning.errors import CheckpointError, ConfigError
from cifar_lightning.inference import Prediction, Predictor
from cifar_lightning.inference.loading import official_test
from cifar_lightning.nets.tta import TTA, averaged_logits

NOISE = np.random.default_rng(3).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def predictor(ckpt: Path) -> Predictor:
    return Predictor.load(ckpt, accelerator="cpu")


def test_it_gives_the_softmax_of_the_net(predictor: Predictor) -> None:
    net = tiny_net().eval()
    with torch.inference_mode():
        expected = net(Normalize()(torch.from_numpy(NOISE)).permute(0, 3, 1, 2)).softmax(1)
    predictions = predictor(NOISE)
    torch.testing.assert_close(torch.tensor([its.probabilities for its in predictions]), expected)
    assert [its.class_index for its in predictions] == expected.argmax(1).tolist()
    assert len({its.class_name for its in predictions}) > 1
    assert predictor.class_names == CLASSES


def kinds_of(picture: Any) -> dict[str, Any]:
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    return {
        "PIL": Image.fromarray(picture),
        "array": picture,
        "array of floats": picture / 255,
        "array of 16 bits": picture.astype(np.uint16) * 257,
        "tensor": tensor,
        "tensor of floats": tensor / 255,
        "array with alpha": np.concatenate([picture, np.full_like(picture[..., :1], 255)], axis=2),
    }


@pytest.mark.parametrize("side", [32, 57])
def test_every_kind_of_picture_gives_the_same(predictor: Predictor, side: int) -> None:
    picture = np.random.default_rng(side).integers(0, 256, (side, side + 5 * (side > 32), 3), dtype=np.uint8)
    kinds = kinds_of(picture)
    # How many are computed at once can move the last digits, so that like is compared with like.
    one, two, three = (predictor([kinds["PIL"]] * count) for count in (1, 2, 3))
    assert [len(one), len(two), len(three)] == [1, 2, 3]
    for name, kind in kinds.items():
        assert predictor(kind) == one, name
        assert predictor([kind, kind]) == two, name
    assert predictor(np.stack([picture] * 3)) == three
    assert predictor(torch.stack([kinds["tensor"]] * 3)) == three


def test_grey_is_three_equal_channels(predictor: Predictor) -> None:
    grey = NOISE[0, :, :, 0]
    expected = predictor(np.stack([grey] * 3, axis=2))
    for kind in (grey, grey[..., None], torch.from_numpy(grey), torch.from_numpy(grey)[None], Image.fromarray(grey)):
        assert predictor(kind) == expected


def test_files_and_none_at_all(predictor: Predictor, tmp_path: Path) -> None:
    Image.fromarray(NOISE[0]).save(tmp_path / "a.png")
    assert predictor([tmp_path / "a.png", str(tmp_path / "a.png")]) == predictor([NOISE[0], NOISE[0]])
    assert predictor([]) == []


@pytest.mark.parametrize(("picture", "error", "text"), [
    (np.zeros((32, 32, 2), np.uint8), ValueError, r"\(H, W, C\).*got \(32, 32, 2\)"),
    (torch.zeros(32, 32, 3, dtype=torch.uint8), ValueError, r"\(C, H, W\).*got \(32, 32, 3\)"),
    (np.zeros((0, 32, 3), np.uint8), ValueError, "an image is"),
    (np.full((32, 32, 3), 1.5), ValueError, "from 0 to 1, got 1.5 to 1.5"),
    (np.full((32, 32, 3), np.nan), ValueError, "from 0 to 1, got nan"),
    (np.zeros((32, 32, 3), np.int64), TypeError, "got int64"),
    ([3], TypeError, "got int"),
])  # fmt: skip
def test_what_is_no_picture(predictor: Predictor, picture: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        predictor(picture)


def test_the_most_likely_first() -> None:
    prediction = Prediction((0.2, 0.5, 0.3), ("a", "b", "c"))
    assert prediction.top(2) == [("b", 0.5), ("c", 0.3)]
    assert (prediction.class_index, prediction.class_name, prediction.probability) == (1, "b", 0.5)


def test_views_are_averaged(ckpt: Path) -> None:
    predictor = Predictor.load(ckpt, accelerator="cpu", views="flip")
    images = Normalize()(torch.from_numpy(NOISE)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = averaged_logits(tiny_net().eval(), images, TTA("flip"))
    torch.testing.assert_close(predictor.logits(torch.from_numpy(NOISE)), expected)


def test_loading_draws_no_random_numbers(ckpt: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Predictor.load(ckpt)
    assert torch.equal(torch.rand(3), expected)


def test_the_checkpoint_s_precision_is_kept(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.ckpt", precision="bf16-mixed")
    mixed, full = (Predictor.load(path, accelerator="cpu", precision=name) for name in (None, "32-true"))
    assert mixed.precision == "bf16-mixed"
    images = torch.from_numpy(NOISE)
    assert not torch.equal(mixed.logits(images), full.logits(images))
    torch.testing.assert_close(mixed.logits(images), full.logits(images), rtol=0.05, atol=2.0)
    with pytest.raises(ConfigError, match="precision transformer-engine is not known"):
        Predictor.load(path, precision="transformer-engine")


def test_a_class_from_elsewhere_is_not_imported_without_leave(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "a.ckpt", PlainNet(), class_path="plain_net.PlainNet", init_args={})
    with pytest.raises(CheckpointError, match=r"names the class plain_net\.PlainNet.*add --model\.net plain_net"):
        Predictor.load(path)
    assert len(Predictor.load(path, trusted=["plain_net.PlainNet"])(NOISE)) == 6


@pytest.mark.parametrize(("changes", "text"), [
    ({"class_path": "cifar_lightning.nets.no_such.Net"}, "cannot be built"),
    ({"init_args": {"channels": [4, 4, 9], "hidden_features": [8, 8]}}, "holds another architecture"),
])  # fmt: skip
def test_a_net_that_is_not_there(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=text) as raised:
        Predictor.load(write_checkpoint(tmp_path / "a.ckpt", **changes))
    assert "\n" not in str(raised.value)


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    net = tiny_net()
    net.layers.output.bias.data[3] = float("nan")
    with pytest.raises(CheckpointError, match="gives no numbers"):
        Predictor.load(write_checkpoint(tmp_path / "a.ckpt", net))


def test_another_number_of_classes(tmp_path: Path) -> None:
    from cifar_lightning.nets.report_cnn import ReportCNN

    settings = {"channels": [4, 4, 8], "hidden_features": [8, 8], "num_classes": 12}
    path = write_checkpoint(tmp_path / "a.ckpt", ReportCNN(**settings), init_args=settings)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="12"):
        Predictor.load(path)


def test_the_names_are_those_of_the_data(tiny_cifar10: TinyDataset, ckpt: Path, tmp_path: Path) -> None:
    from cifar_lightning.data import layouts

    assert layouts.CLASS_NAMES == CLASSES
    with pytest.raises(CheckpointError, match="synthetic images of an earlier version"):
        Predictor.load(write_checkpoint(tmp_path / "s.ckpt", synthetic=True))
    images, labels = official_test(Predictor.load(ckpt).trained)
    assert images.shape == (12, 32, 32, 3)
    assert labels.tolist() == [index % 10 for index in range(12)]


def test_the_real_class_names(real_root: str) -> None:
    from cifar_lightning.data import layouts
    from cifar_lightning.data.datamodule import CIFAR10DataModule

    data = CIFAR10DataModule(root=real_root)
    data.setup("test")
    assert data.class_names == layouts.CLASS_NAMES
