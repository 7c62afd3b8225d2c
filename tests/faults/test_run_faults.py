"""Rows 22, 24, 26 and 28 to 32: the logs' folder, batches, epochs, paths, ports, locks, processes and memory."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.comparison import content_of, run_differences
from faults.forked import Fault, ForkServer
from faults.scenes import EVERYTHING, assert_no_remains, at
from run_folders import only_run, record_of, wait_for_the_next_second
from tiny import TINY_FLAGS

pytestmark = pytest.mark.slow

SHORT = [*TINY_FLAGS, "--trainer.max_epochs=1"]


def test_logs_that_cannot_be_written(cli: ForkServer) -> None:
    Path("file").write_text("")
    mark = at("on_train_batch_start", 0, "mark", mark="trained")
    exit_code, _, err = cli.run("fit", *SHORT, "--trainer.default_root_dir=file/logs", faults=[mark])
    assert exit_code == 6
    assert "cannot make the run's folder file/logs/default" in err
    assert err.count("\n") == 1
    assert not Path("trained").exists()


def test_a_batch_above_the_data(cli: ForkServer) -> None:
    exit_code, _, err = cli.run("fit", *SHORT, "--data.batch_size=1000000")
    assert exit_code == 2
    assert err.startswith("error: data.batch_size 1000000 is above the 40 training images")
    assert err.count("\n") == 1
    assert not Path("lightning_logs").exists()


def test_no_epochs_claim_no_checkpoint(cli: ForkServer) -> None:
    exit_code, out, err = cli.run("fit", *TINY_FLAGS, "--trainer.max_epochs=0")
    assert exit_code == 0, err
    assert "nothing was trained" in out
    assert "best" not in out
    assert "accuracy" not in out
    assert not list(Path().rglob("*.ckpt"))


def test_every_path_may_have_spaces_and_any_letters(cli: ForkServer) -> None:
    """The working folder's name has them already."""
    Path("data").rename("dätä 数据")
    Path("größe 1.yaml").write_text("trainer: {max_epochs: 1}\n")
    flags = ["--config", "größe 1.yaml", "--data.root", "dätä 数据", "--trainer.default_root_dir", "meine lögs"]
    exit_code, _, err = cli.run("fit", *TINY_FLAGS[:-2], "--trainer.accelerator=cpu", *flags)
    assert exit_code == 0, err
    (folder,) = Path("meine lögs").glob("größe 1*/*")
    checkpoint = str(folder / "checkpoints" / "last.ckpt")
    assert cli.run("test", "--ckpt", checkpoint)[0] == 0
    exit_code, _, err = cli.run("fit", "--ckpt", checkpoint, "--trainer.max_epochs=2")
    assert exit_code == 0, err
    assert record_of(folder)["metrics"]["epochs"] == 2


def test_a_busy_port_of_tensorboard_is_no_concern(cli: ForkServer) -> None:
    with socket.socket() as port:
        try:
            port.bind(("127.0.0.1", 6006))
        except OSError:
            pass  # busy already, which is as good
        else:
            port.listen()
        exit_code, _, err = cli.run("fit", *SHORT)
    assert exit_code == 0, err
    assert not err


def test_two_runs_in_one_folder_are_one_too_many(cli: ForkServer, whole: Path) -> None:
    wait: Fault = at("on_train_batch_start", 7, "wait", mark="waiting")
    first = cli.start("fit", *EVERYTHING, faults=[wait])
    first.wait_for(Path("waiting"))
    folder = only_run()
    exit_code, _, err = cli.run("fit", "--ckpt", "last")
    assert exit_code == 6
    assert err.startswith(f"error: {folder} is in use by another fit (process {first.pid})")
    assert err.count("\n") == 1
    assert cli.run("test", "--ckpt", "last")[0] == 0  # to look at it is no harm
    Path("waiting").unlink()
    assert first.wait() == 0, first.err
    assert run_differences(whole, folder) == []
    assert_no_remains(folder)


def test_the_lock_of_a_dead_process_blocks_nobody(cli: ForkServer, whole: Path) -> None:
    exit_code, _, err = cli.run("fit", *EVERYTHING, faults=[at("on_train_batch_start", 7, "kill")])
    assert exit_code == -9, err
    assert (only_run() / ".lock").exists()  # the file, which nobody holds
    wait_for_the_next_second()
    exit_code, _, err = cli.run("fit", "--ckpt", "last")
    assert exit_code == 0, err
    assert run_differences(whole, only_run()) == []


def test_a_run_that_went_on_between_reading_and_locking_is_not_overwritten(cli: ForkServer) -> None:
    """The second has read the checkpoint before the first, which it waits for, writes another."""
    first = cli.start("fit", *TINY_FLAGS, faults=[at("on_train_batch_start", 7, "wait", mark="first")])
    first.wait_for(Path("first"))
    second = cli.start("fit", "--ckpt", "last", faults=[("in_reading_data", {"deed": "wait", "mark": "second"})])
    second.wait_for(Path("second"))
    Path("first").unlink()
    assert first.wait() == 0, first.err
    before = {path: path.read_bytes() for path in only_run().rglob("*") if path.is_file()}
    Path("second").unlink()
    assert second.wait() == 6, second.err
    assert "has gone on meanwhile" in second.err
    assert {path: path.read_bytes() for path in only_run().rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("deed", ["out of memory", "memory error"])
@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_validation_batch_start"])
def test_out_of_memory_is_advice_and_keeps_the_checkpoint(cli: ForkServer, deed: str, hook: str) -> None:
    step = 7 if hook == "on_train_batch_start" else 10
    exit_code, _, err = cli.fit(faults=[at(hook, step, deed)])
    assert exit_code == 1
    assert err.startswith("error: out of memory")
    assert "--data.batch_size" in err
    assert err.count("\n") == 1
    assert content_of(only_run())["global_step"] == 5
    assert record_of(only_run())["status"] == "failed"
    assert cli.run("fit", "--ckpt", "last")[0] == 0


def test_a_dead_process_of_several_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The true command on two devices, whose second process vanishes in the third step."""
    monkeypatch.chdir(tmp_path)
    tests = Path(__file__).parents[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CIFAR10")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [
            sys.executable, str(tests / "faults" / "vanishing_cli.py"), "fit", "--data.source=sample",
            "--data.val_size=1000", "--trainer.max_epochs=1", "--trainer.devices=2", "--trainer.accelerator=cpu",
            "--model.net.channels=[4,4,8]", "--model.net.hidden_features=[8,8]",
        ],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        _, err = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0, err
    assert "Traceback" not in err
    deadline = time.monotonic() + 20
    while _is_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_alive(process.pid), "a process of the run lives on"


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
