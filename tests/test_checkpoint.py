"""Checkpoints that are damaged, unsafe or of another architecture are refused, with exit code 4."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cifar_lightning.errors import CheckpointError
from cifar_lightning.runs import checkpoint
from cifar_lightning.runs.checkpoint import KEY, Checkpoint, SafeCheckpointIO


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    torch.save(content_with(), path)
    return path


def content_with(**section: object) -> dict[str, Any]:
    """What a checkpoint of ours holds at least, with some of our section replaced."""
    identity = {"recipe": "final", "source": "CIFAR-10"}
    return {
        "state_dict": {"weight": torch.arange(1000.0)},
        "callbacks": {"LearningCurves": {"rows": []}},
        KEY: {"config": "seed_everything: 1\n", "identity": identity, **section},
    }


def test_a_good_one(saved: Path) -> None:
    loaded = checkpoint.load(saved)
    assert torch.equal(loaded.content["state_dict"]["weight"], torch.arange(1000.0))
    assert (loaded.config, loaded.epochs, loaded.identity["recipe"]) == (
        {"seed_everything": 1, "data": {"source": "official", "dataset": "cifar10"}},
        0,
        "final",
    )
    assert loaded.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()


@pytest.mark.parametrize("kept", [0, 1, 100, 2000, -1])
def test_truncated(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is not a readable checkpoint"):
        checkpoint.load(saved)


def test_garbage(saved: Path) -> None:
    saved.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(CheckpointError, match="is not a readable checkpoint"):
        checkpoint.load(saved)


def test_one_flipped_byte_in_a_tensor(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[content.find(torch.tensor(500.0).numpy().tobytes())] ^= 1
    saved.write_bytes(content)
    torch.load(saved, weights_only=True)  # torch itself does not notice
    with pytest.raises(CheckpointError, match=r"damaged|not a readable"):
        checkpoint.load(saved)


class Bomb:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.touch, (self.target,)


def test_a_pickle_bomb_does_not_go_off(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"state_dict": {}, KEY: {}, "bomb": Bomb(tmp_path / "went off")}, saved)
    with pytest.raises(CheckpointError, match="is not a readable checkpoint"):
        checkpoint.load(saved)
    assert not (tmp_path / "went off").exists()


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {}},
        [1, 2],
        {KEY: {}},
        {"state_dict": {}, KEY: [1]},
        {**content_with(), "callbacks": {}},
        content_with(config=[1]),
        content_with(config="[1"),
        content_with(config="a string"),
        content_with(identity={}),
    ],
    ids=range(9),
)
def test_somebody_else_s_checkpoint(saved: Path, content: object) -> None:
    torch.save(content, saved)
    with pytest.raises(CheckpointError, match="is not a checkpoint of this project"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"model": {"net": {"class_path": "cifar_lightning.nets.report_cnn.ReportCNN"}}}, {}),
        ({"model": {"optimizer": {"class_path": "torch.optim.Adam"}}}, {}),
        ({"model": {"net": {"class_path": "evil.Net"}}}, {"model.net": "evil.Net"}),
        ({"model": {"net": {"class_path": "torchevil.Net"}}}, {"model.net": "torchevil.Net"}),
        ({"trainer": {"callbacks": [{"class_path": "evil.C"}]}}, {"trainer.callbacks": "evil.C"}),
        ({"model": {"net": "evil.Net"}}, {"model.net": "evil.Net"}),
        ({"model": {"optimizer": "evil.deep.make"}}, {"model.optimizer": "evil.deep.make"}),
        (
            {"trainer": {"callbacks": ["evil.C"], "logger": "evil.L"}},
            {"trainer.callbacks": "evil.C", "trainer.logger": "evil.L"},
        ),
        ({"trainer": {"precision": "bf16-mixed", "limit_val_batches": 0.5, "default_root_dir": "my.logs"}}, {}),
        ({"data": {"root": "my.data"}, "model": {"scheduler": "torch.optim.lr_scheduler.StepLR"}}, {}),
    ],
)
def test_classes_from_elsewhere_are_found(config: object, found: dict[str, str]) -> None:
    assert checkpoint.foreign_classes(config) == found


@pytest.mark.parametrize(
    ("ours", "text"),
    [
        (nn.Linear(3, 5), r"weight is \(4, 3\) in the file and \(5, 3\) here \(and 1 more"),
        (nn.Linear(3, 4, bias=False), "bias is not part of this net"),
        (nn.Sequential(nn.Linear(3, 4)), r"0\.weight is missing in the file"),
    ],
)
def test_another_architecture_is_told_by_its_first_difference(ours: nn.Module, text: str) -> None:
    with pytest.raises(CheckpointError, match=f"x.ckpt holds another architecture: {text}"):
        of_net(nn.Linear(3, 4)).load_into(ours)


def test_weights_arrive() -> None:
    theirs, ours = nn.Linear(3, 4), nn.Linear(3, 4)
    of_net(theirs).load_into(ours)
    assert torch.equal(theirs.weight, ours.weight)


def of_net(net: nn.Module) -> Checkpoint:
    return Checkpoint(Path("x.ckpt"), {"state_dict": net.state_dict()}, "", {}, 0, None)


def test_a_file_that_was_replaced_is_told(saved: Path) -> None:
    loaded = checkpoint.load(saved)
    assert not loaded.changed_on_disk
    checkpoint.write(loaded.content, saved)
    assert loaded.changed_on_disk
    loaded = checkpoint.load(saved)
    saved.unlink()
    assert loaded.changed_on_disk


def test_lightning_gets_what_was_read_once_and_only_if_it_is_still_there(saved: Path, tmp_path: Path) -> None:
    loaded, weights = checkpoint.load(saved), content_with()["state_dict"]["weight"]
    reader = SafeCheckpointIO(loaded)
    given = reader.load_checkpoint(saved)
    assert given["state_dict"]["weight"] is loaded.content["state_dict"]["weight"]
    given["state_dict"]["weight"] += 1  # a training that goes on
    assert torch.equal(reader.load_checkpoint(saved)["state_dict"]["weight"], weights)
    reader = SafeCheckpointIO(checkpoint.load(saved))
    checkpoint.write({**content_with(), "epoch": 7}, saved)
    assert reader.load_checkpoint(saved)["epoch"] == 7
    reader = SafeCheckpointIO(checkpoint.load(saved))
    checkpoint.write({**content_with(), "epoch": 8}, tmp_path / "best.ckpt")
    assert reader.load_checkpoint(tmp_path / "best.ckpt")["epoch"] == 8


@pytest.mark.parametrize("command", [["fit", "--trainer.max_epochs=3"], ["test"]])
def test_a_command_reads_its_checkpoint_once(
    fit: Callable[..., Any], run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    fit()
    reads, read = [], checkpoint._read
    monkeypatch.setattr(checkpoint, "_read", lambda path: reads.append(path) or read(path))
    assert run(*command, "--ckpt", "last")[0] == 0
    assert len(reads) == 1
