"""A handful of the matrix's rows by the command that a user types, from the shell's side: signals and exit codes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.comparison import epochs_of, run_differences
from faults.scenes import assert_no_remains
from run_folders import only_run, record_of, wait_for_the_next_second

pytestmark = pytest.mark.slow

# Three epochs of a second each on the stand-in; everything that has a state but EMA is on.
FLAGS = [
    "--data.source=sample", "--trainer.accelerator=cpu", "--trainer.max_epochs=3", "--trainer.limit_train_batches=100",
    "--data.val_size=1000", "--model.net.channels=[4,4,8]", "--model.net.hidden_features=[8,8]",
    "--model.scheduler=CosineLR", "--data.augment.flip=alternating", "--data.augment.cutout=6",
]  # fmt: skip


def start(*arguments: str, folder: Path | None = None) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CIFAR10")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "cifar_lightning", *arguments],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def command(*arguments: str, folder: Path | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = (process := start(*arguments, folder=folder)).communicate(timeout=240)
    return process.returncode, out, err


def in_the_second_epoch(process: "subprocess.Popen[str]") -> None:
    """Waits until the first epoch is saved."""
    deadline = time.monotonic() + 120
    while not list(Path().glob("lightning_logs/*/*/checkpoints/last.ckpt")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    exit_code, _, err = command("fit", *FLAGS, folder=folder)
    assert exit_code == 0, err
    return only_run(folder / "lightning_logs")


@pytest.mark.parametrize(
    ("sent", "exit_code", "status"),
    [(signal.SIGKILL, -9, "running"), (signal.SIGTERM, 143, "interrupted")],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_run_that_a_signal_ended_goes_on_bit_for_bit(
    sent: signal.Signals, exit_code: int, status: str, uninterrupted: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    process = start("fit", *FLAGS)
    in_the_second_epoch(process)
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == exit_code, err
    assert "Traceback" not in err
    assert record_of(only_run())["status"] == status
    wait_for_the_next_second()
    # By its path: `--ckpt last` leaves the stand-in's runs aside.
    code, _, err = command("fit", "--ckpt", str(only_run() / "checkpoints" / "last.ckpt"))
    assert code == 0, err
    assert not err
    assert epochs_of(only_run()) == [1, 2, 3]
    assert run_differences(uninterrupted, only_run()) == []
    assert_no_remains(only_run())


def test_a_checkpoint_that_was_cut_short_is_refused(uninterrupted: Path, tmp_path: Path) -> None:
    whole = (uninterrupted / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[:-1000])
    exit_code, out, err = command("test", "--ckpt", str(tmp_path / "cut.ckpt"), folder=tmp_path)
    assert exit_code == 4
    assert "accuracy" not in out
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "cut.ckpt" in err


def test_a_mistyped_flag_is_told_the_right_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exit_code, _, err = command("fit", *FLAGS, "--trainer.max_epoch=3")
    assert exit_code == 2
    assert err.count("\n") == 1
    assert "trainer.max_epochs" in err
    assert not Path("lightning_logs").exists()
