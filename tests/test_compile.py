"""`--model.compile`: the same training through torch.compile, and one line where it cannot be had."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from plain_net import PlainNet
from tiny import TINY_FLAGS

from cifar_lightning.classifier import Classifier

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]


# Those of the tiny net are for another class.
FLAGS = [
    *(flag for flag in TINY_FLAGS if "model.net" not in flag), "--model.net=plain_net.PlainNet",
    "--model.compile=true", "--trainer.max_epochs=1", "--trainer.precision=32-true",
]  # fmt: skip


def trained(run: Run, *flags: str) -> dict[str, torch.Tensor]:
    """Trains into a folder of its own; the weights of its checkpoint by name."""
    logs = Path(f"logs{len(list(Path().glob('logs*')))}")
    exit_code, _, err = run("fit", *FLAGS, *flags, f"--trainer.default_root_dir={logs}")
    assert exit_code == 0, err
    (checkpoint,) = logs.glob("*/*/checkpoints/last.ckpt")
    return torch.load(checkpoint, weights_only=True)["state_dict"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler")
def test_a_compiled_net_trains_the_same_and_its_checkpoint_is_a_plain_one(run: Run) -> None:
    eager, compiled = trained(run, "--model.compile=false"), trained(run)
    assert list(compiled) == list(eager)
    torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-5)


def test_the_net_is_compiled_once_and_in_place() -> None:
    net = PlainNet()
    classifier = Classifier(net, compile=True)
    assert net._compiled_call_impl is None  # not before the Trainer starts: tables of the layers see the plain net
    classifier.configure_model()
    compiled = net._compiled_call_impl
    assert compiled is not None
    classifier.configure_model()  # the Trainer calls it again for the test after the training
    assert net._compiled_call_impl is compiled


def test_a_net_that_cannot_be_compiled_here(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(config, "force_disable_caches", True)
    torch._dynamo.reset()
    exit_code, _, err = run("fit", *FLAGS)
    assert exit_code == 2
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))  # beside what torch itself logs
    assert line.startswith("error: model.compile: torch.compile failed here, go on without it: ")
    assert not list(Path("lightning_logs").glob("*/*"))
